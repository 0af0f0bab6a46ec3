//! The load: our generator on the second core (`crates/net/examples/load`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::contestant::{Contestant, Programs};

/// Where the server is.
pub const SERVER: &str = "10.0.0.1";
/// Where it asks for digest.
pub const DIGEST_PORT: u16 = 5060;
/// Where it asks nobody for digest.
pub const OPEN_PORT: u16 = 5062;
/// The first address that phones register from.
pub const PHONES: &str = "10.0.1.1";
/// The first address that calls.
pub const CALLERS: &str = "10.0.2.1";
/// Where the load runs.
const CORE: &str = "1";
/// One in so many messages may be sent again: more than that is measured wrongly. A machine that stands still for half a
/// second makes all that are under way be sent again once.
const FAULTS_ONE_IN: u64 = 200;
/// Exchanges that are under way at any moment.
pub const OUTSTANDING: u64 = 64;

/// What is done, how often, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Registrations or calls.
    pub what: What,
    /// Addresses of record.
    pub users: u64,
    /// Registrations or calls that are measured.
    pub count: u64,
    /// Exchanges of the same kind, over all users, before.
    pub warm_up: u64,
    /// Addresses that it comes from.
    pub sources: u64,
}

/// A kind of exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// REGISTER and 200, on a listener without digest.
    Refresh,
    /// REGISTER, 401, REGISTER and 200.
    Challenge,
    /// REGISTER and 200 with the nonce of an earlier 401.
    Reuse,
    /// INVITE to the 200 of BYE, through Record-Route: 13 datagrams.
    Call,
}

/// What a load cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The server's processor time for each, in microseconds.
    pub microseconds: f64,
    /// How many were done in a second, with the load on the other core.
    pub a_second: f64,
    /// How much the server's memory grew, for each.
    pub bytes: f64,
}

impl Load {
    /// Does it, and says what it cost the server.
    pub fn run(self, server: &Contestant, programs: &Programs, settles: Duration) -> Result<Cost> {
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(&programs.load).args(self.words());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        let ready = said.next().transpose()?;
        ensure!(ready.as_deref() == Some("ready"), "the load failed before it began");
        let (before, memory) = (server.rested()?, server.memory()?);
        child.stdin.take().context("its input is a pipe")?.write_all(b"\n")?;
        let line = said.next().transpose()?;
        ensure!(child.wait()?.success(), "the load failed");
        let after = server.rested()?;
        std::thread::sleep(settles);
        let memory_after = server.memory()?;
        let figures: serde_json::Value = serde_json::from_str(&line.context("the load said nothing")?)?;
        let (Some(seconds), Some(again)) = (figures["seconds"].as_f64(), figures["sent_again"].as_u64())
        else {
            bail!("figures are missing: {figures}");
        };
        let may_be = (self.count / FAULTS_ONE_IN).max(1);
        ensure!(again <= may_be, "{again} messages of {} exchanges were sent again", self.count);
        let used = after.checked_sub(before).context("the server was restarted")?;
        let count = self.count as f64;
        Ok(Cost {
            microseconds: used.as_secs_f64() * 1e6 / count,
            a_second: count / seconds,
            bytes: (memory_after as f64 - memory as f64) / count,
        })
    }

    fn words(self) -> Vec<String> {
        let (kind, port, digest) = match self.what {
            What::Refresh => ("register", OPEN_PORT, "none"),
            What::Challenge => ("register", DIGEST_PORT, "challenge"),
            What::Reuse => ("register", DIGEST_PORT, "reuse"),
            What::Call => ("call", OPEN_PORT, "none"),
        };
        let mut words = vec![kind.to_owned()];
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--server", format!("{SERVER}:{port}"));
        add("--phones", PHONES.to_owned());
        add("--callers", CALLERS.to_owned());
        add("--sources", self.sources.to_string());
        add("--users", self.users.to_string());
        add("--count", self.count.to_string());
        add("--warm-up", self.warm_up.to_string());
        add("--outstanding", OUTSTANDING.to_string());
        add("--digest", digest.to_owned());
        words
    }
}
