//! All sessions talk for a while (`bench/floor/media_load.c`), and what that costs and how it arrives.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cable::{self, Cable, MEDIA, PHONES_CORE, PHONES_MAC, RELAY_MAC};
use super::contestant::Contestant;
use crate::bench::cpu_time;
use crate::process;

/// Talk that counts.
const MEASURE_MS: &str = "3000";
/// A relay bears what it delivers with less than this.
const MEDIAN_US_MAX: f64 = 10_000.0;
const LOST_PER_MILLE_MAX: f64 = 1.0;

/// A relay at rest does next to nothing for so long.
const REST: Duration = Duration::from_millis(300);
/// It must come to rest within this time.
const REST_MAX: Duration = Duration::from_secs(30);

/// What was built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The phones.
    pub talk: PathBuf,
    /// The bare forwarder.
    pub floor: PathBuf,
    /// Ours.
    pub tandem: PathBuf,
    /// Where logs go.
    pub dir: PathBuf,
}

/// What arrived, and what it cost.
#[derive(Clone, Debug)]
pub struct Heard {
    sent: f64,
    received: f64,
    /// What arrived and the phones' core had no time for: then this is their limit, and not the relay's.
    overrun: f64,
    /// The delay of the middle packet.
    pub median_us: f64,
    /// Of a hundred one is later.
    pub p99_us: f64,
    relay: Duration,
    receive: Duration,
}

impl Heard {
    /// Processor time for each packet that arrived, the kernel's part included.
    pub fn microseconds(&self) -> f64 {
        (self.relay + self.receive).as_secs_f64() * 1e6 / self.received.max(1.0)
    }

    /// The part of it before a socket has the packet.
    pub fn receive_microseconds(&self) -> f64 {
        self.receive.as_secs_f64() * 1e6 / self.received.max(1.0)
    }

    /// How much did not arrive.
    pub fn lost_per_mille(&self) -> f64 {
        1000.0 * (self.sent - self.received) / self.sent.max(1.0)
    }

    /// Whether people can talk so.
    pub fn is_good(&self) -> bool {
        self.overrun == 0.0
            && self.lost_per_mille() < LOST_PER_MILLE_MAX
            && (0.0..MEDIAN_US_MAX).contains(&self.median_us)
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:.2} µs a packet, {:.2} of them before the socket; {:.2} ‰ lost, delay {:.1} ms (99 %: {:.1} ms), {} not read",
            self.microseconds(),
            self.receive_microseconds(),
            self.lost_per_mille(),
            self.median_us / 1e3,
            self.p99_us / 1e3,
            self.overrun
        )
    }
}

/// Lets the sessions of this table talk by the relay that is this process.
pub fn talk(cable: &Cable, contestant: &Contestant, programs: &Programs, table: &str) -> Result<Heard> {
    let relay = contestant.id();
    rest(relay)?;
    let mut command = cable::command(&cable.phones, PHONES_CORE, &programs.talk);
    command.args([&cable.phones_card, PHONES_MAC, RELAY_MAC, &MEDIA.to_string()]);
    let warm_up = contestant.warm_up().as_millis().to_string();
    command.args([&contestant.address().to_string(), &warm_up, MEASURE_MS]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    child.stdin.take().context("its input is a pipe")?.write_all(table.as_bytes())?;
    let mut said = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
    let mut times = Vec::new();
    for word in ["measuring", "measured"] {
        let line = said.next().transpose()?;
        ensure!(line.as_deref() == Some(word), "the phones say {line:?} and not {word:?}");
        times.push((cpu_time::of_tree(relay)?, cable.receive_time()?));
    }
    let line = said.next().transpose()?.context("the phones said nothing")?;
    ensure!(child.wait()?.success(), "the phones failed");
    let said: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    let number = |name: &str| said[name].as_f64().with_context(|| format!("no {name}: {line}"));
    ensure!(number("foreign")? == 0.0, "packets arrived where they do not belong: {line}");
    let used = |of: fn(&(Duration, Duration)) -> Duration| of(&times[1]).saturating_sub(of(&times[0]));
    Ok(Heard {
        sent: number("sent")?,
        received: number("received")?,
        overrun: number("overrun")?,
        median_us: number("median_us")?,
        p99_us: number("p99_us")?,
        relay: used(|it| it.0),
        receive: used(|it| it.1),
    })
}

/// Waits until the relay has done what an earlier talk has left in its sockets.
fn rest(relay: u32) -> Result<()> {
    let mut before = cpu_time::of_tree(relay)?;
    process::wait_until("rest of the relay", REST_MAX, || {
        std::thread::sleep(REST);
        let after = cpu_time::of_tree(relay)?;
        // A timer costs a tick now and then.
        let is_at_rest = after.saturating_sub(before) <= Duration::from_millis(20);
        before = after;
        Ok(is_at_rest.then_some(()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_or_lost_is_not_borne() {
        let heard = |received, median_us| Heard {
            sent: 10_000.0,
            received,
            overrun: 0.0,
            median_us,
            p99_us: median_us,
            relay: Duration::from_millis(90),
            receive: Duration::from_millis(10),
        };

        assert!(heard(9_991.0, 9_999.0).is_good());
        assert!(!heard(9_990.0, 100.0).is_good());
        assert!(!heard(10_000.0, 10_000.0).is_good());
        assert!(!heard(0.0, -1.0).is_good());
        assert_eq!(heard(10_000.0, 1.0).microseconds(), 10.0);
    }
}
