//! The drill's side of a hand: the process that is one, or that leads to one on another host.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fault::Fault;
use super::words::{Asked, Deed, Hello, LINE_BYTES_MAX, Said};
use crate::command::report::Report;
use crate::guardian::view::ClusterView;
use crate::small_thread::spawn;

/// How long a hand may take to be there: a connection to another host may ask its name first.
const HELLO_TIME_MAX: Duration = Duration::from_secs(20);

/// A hand answers from what its guardian knows.
const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a hand may take to do something.
const DONE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long it may take to undo everything: a node is started.
const HEALED_TIME_MAX: Duration = Duration::from_secs(40);

/// Answers that wait.
const SAID_MAX: usize = 256;

/// A hand on a node.
#[derive(Debug)]
pub struct Reach {
    /// Who it is.
    pub hello: Hello,
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<Said>,
    number: u64,
    late: Vec<Said>,
}

impl Reach {
    /// Starts the hand on this host.
    pub fn here(arguments: &[std::ffi::OsString]) -> Result<Self> {
        // This very program, also if its file was replaced.
        let mut command = Command::new("/proc/self/exe");
        command.arg("drill-hand").args(arguments);
        Self::start(command).context("the hand on this host")
    }

    /// Starts the command of an operator that leads to a hand.
    pub fn by(words: &str) -> Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", words]);
        Self::start(command).with_context(|| format!("--hand '{words}'"))
    }

    fn start(mut command: Command) -> Result<Self> {
        host::unblock_signals(&mut command);
        // A key at the terminal is for the drill, which tells its hands in its own time.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("it can not be started")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("it has no output")?;
        let (sender, said) = sync_channel(SAID_MAX);
        spawn("hand", move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                let read = output.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
                if read.is_err() || line.is_empty() {
                    return;
                }
                // What else a login may print is nothing for us.
                if let Ok(said) = serde_json::from_str::<Said>(&line)
                    && sender.send(said).is_err()
                {
                    return;
                }
            }
        })?;
        let first = said.recv_timeout(HELLO_TIME_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout => anyhow!("it has not said who it is within {HELLO_TIME_MAX:?}"),
            RecvTimeoutError::Disconnected => anyhow!("it has ended before it said who it is"),
        });
        let hello = first.and_then(|first| {
            let value = first.answer.map_err(|why| anyhow!(why))?;
            serde_json::from_value(value)
                .context("it is of another version: what it says of itself is not understood")
        });
        match hello {
            Ok(hello) => Ok(Self { hello, child, input, said, number: 0, late: Vec::new() }),
            Err(error) => {
                drop(input);
                // It may wait for a password that nobody will type.
                let _ = host::kill_group(child.id());
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// How the cluster looks from there; `None`: its guardian says nothing now.
    pub fn view(&mut self) -> Option<ClusterView> {
        let number = self.ask(Deed::Status).ok()?;
        self.wait(number, STATUS_TIME_MAX).ok()
    }

    /// The takeovers of its node after an epoch.
    pub fn reports(&mut self, after: u64) -> Result<Vec<Report>> {
        let number = self.ask(Deed::Reports { after })?;
        let reports: Vec<Value> = self.wait(number, STATUS_TIME_MAX)?;
        Ok(reports.into_iter().filter_map(|report| serde_json::from_value(report).ok()).collect())
    }

    /// Lets it do something; [`Reach::poll`] and [`Reach::done`] tell what came of it.
    pub fn hurt(&mut self, fault: Fault) -> Result<u64> {
        self.ask(Deed::Hurt(fault))
    }

    /// Waits until something is done. A cut link delays the answer until it is whole again.
    pub fn done(&mut self, number: u64, fault: Fault) -> Result<()> {
        self.wait::<Value>(number, DONE_TIME_MAX + fault.time()).map(drop)
    }

    /// What came of something by now, if that is known.
    pub fn poll(&mut self, number: u64) -> Option<Result<()>> {
        self.late.extend(self.said.try_iter());
        let place = self.late.iter().position(|said| said.number == number)?;
        Some(self.late.remove(place).answer.map(drop).map_err(|why| anyhow!(why)))
    }

    /// Lets it undo everything.
    pub fn heal(&mut self) -> Result<()> {
        let number = self.ask(Deed::Heal)?;
        self.wait::<Value>(number, HEALED_TIME_MAX).map(drop)
    }

    fn ask(&mut self, what: Deed) -> Result<u64> {
        self.number += 1;
        let mut line = serde_json::to_vec(&Asked { number: self.number, what })?;
        line.push(b'\n');
        let input = self.input.as_mut().context("the hand is let go")?;
        let written = input.write_all(&line).and_then(|()| input.flush());
        written.with_context(|| format!("the hand on {} is gone", self.hello.node))?;
        Ok(self.number)
    }

    fn wait<T: DeserializeOwned>(&mut self, number: u64, limit: Duration) -> Result<T> {
        let until = Instant::now() + limit;
        loop {
            if let Some(place) = self.late.iter().position(|said| said.number == number) {
                let said = self.late.remove(place);
                return Ok(serde_json::from_value(said.answer.map_err(|why| anyhow!(why))?)?);
            }
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(said) => self.late.push(said),
                Err(RecvTimeoutError::Timeout) => bail!("the hand on {} does not answer", self.hello.node),
                Err(RecvTimeoutError::Disconnected) => bail!("the hand on {} is gone", self.hello.node),
            }
            // Answers that nobody waited for any more.
            let surplus = self.late.len().saturating_sub(SAID_MAX);
            self.late.drain(..surplus);
        }
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        // The end of its input lets it undo everything and end; that is not to be hurried.
        drop(self.input.take());
        let until = Instant::now() + HEALED_TIME_MAX;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_that_to_the_question_and_what_else_is_printed_is_passed_over() {
        let mut hand = hand(
            "read a; read b; echo '{\"number\":2,\"answer\":{\"Err\":\"no engine\"}}'; \
             echo '{\"number\":1,\"answer\":{\"Ok\":null}}'; cat >/dev/null",
        )
        .expect("it says who it is");
        assert_eq!(hand.hello.node, "a");
        let first = hand.hurt(Fault::Switchover).expect("it reads");
        let second = hand.hurt(Fault::KillEngine).expect("it reads");
        assert!(hand.poll(7).is_none());

        hand.done(first, Fault::Switchover).expect("it was done");
        let refused = hand.done(second, Fault::KillEngine).expect_err("it was not");

        assert_eq!(refused.to_string(), "no engine");
    }

    #[test]
    fn a_hand_that_ends_or_says_that_there_is_no_node_is_an_error_with_the_reason() {
        let gone = Reach::by("exit 3").expect_err("it has said nothing");
        assert!(format!("{gone:#}").contains("exit 3") && format!("{gone:#}").contains("ended"), "{gone:#}");
        let mut hand = hand("true").expect("it says who it is");

        let lost = hand.hurt(Fault::KillEngine).and_then(|number| hand.done(number, Fault::KillEngine));

        assert!(lost.expect_err("it has ended").to_string().contains("gone"));
    }

    #[test]
    fn a_hand_that_is_let_go_reads_the_end_of_its_input() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let sign = place.path().join("healed");
        let hand = hand(&format!("cat >/dev/null; touch {}", sign.display())).expect("it says who it is");

        drop(hand);

        assert!(sign.exists(), "it was not waited for");
    }

    /// A hand that says who it is and goes on with a script.
    fn hand(script: &str) -> Result<Reach> {
        let hello = Hello {
            version: String::new(),
            node: "a".to_owned(),
            network: String::new(),
            servers: Vec::new(),
            virtual_addresses: Vec::new(),
            paths: Vec::new(),
            restart: Err("nobody".to_owned()),
        };
        let said = Said { number: 0, answer: Ok(serde_json::to_value(hello)?) };
        Reach::by(&format!("echo Welcome; echo '{}'; {script}", serde_json::to_string(&said)?))
    }
}
