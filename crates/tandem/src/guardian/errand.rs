//! A command of the operator, run once: with an end to its time, an environment of its own, and nothing of this process.
//!
//! It leads a process group, which is killed when the time is over and also after it has ended: what it has left running
//! there would pile up. What is to go on running needs a session of its own (`setsid`, `systemd-run`).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::halt::Halt;

/// Where programs are looked for that are named without a path: the places of the system's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of what a command prints only the end is kept: whoever prints without an end fills no memory.
const KEPT_MAX: usize = 4 * 1024;

/// Letters of a reason: a line on a screen.
const LINE_MAX: usize = 200;

/// How often it is looked whether the run is to be given up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Errand<'a> {
    /// The program and its words.
    pub command: &'a [String],
    /// Variables beside `PATH`.
    pub environment: &'a [(&'static str, String)],
    /// After so long it is killed.
    pub limit: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// It was not done in time and was killed.
    Late(Duration),
    /// It could not be started.
    NotStarted(io::ErrorKind),
    /// The guardian wants it no more.
    GivenUp,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The last line that it printed.
    pub said: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Whether all went well.
    pub fn is_success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ending {
            Ending::Exited(status) => write!(formatter, "status {status}")?,
            Ending::Signalled(signal) => write!(formatter, "ended by signal {signal}")?,
            Ending::Late(limit) => write!(formatter, "not done within {limit:?}, and killed")?,
            Ending::NotStarted(error) => write!(formatter, "it can not be started: {error}")?,
            Ending::GivenUp => formatter.write_str("given up")?,
        }
        if self.said.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.said) }
    }
}

impl Errand<'_> {
    /// Runs it, until it has ended or `halt` says that it is not wanted any more.
    pub fn run(&self, halt: &Halt) -> Outcome {
        let started = Instant::now();
        let mut said = Said::default();
        let ending = match self.start() {
            Ok((child, output)) => wait(child, output, started, self.limit, halt, &mut said),
            Err(error) => Ending::NotStarted(error.kind()),
        };
        Outcome { ending, said: said.last_line(), took: started.elapsed() }
    }

    fn start(&self) -> io::Result<(Child, PipeReader)> {
        let [program, words @ ..] = self.command else { return Err(io::ErrorKind::InvalidInput.into()) };
        // What this process was started with is not for a command. Whatever it opens itself never is.
        ::host::keep_descriptors()?;
        let (output, input) = io::pipe()?;
        fcntl_setfl(&output, OFlags::NONBLOCK)?;
        let mut command = Command::new(found(program)?);
        command
            .arg0(program)
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(input.try_clone()?)
            .stderr(input);
        ::host::unblock_signals(&mut command);
        Ok((command.spawn()?, output))
    }
}

/// Where a program is, by the path that a command has here and not by that of this process.
fn found(program: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    std::env::split_paths(PATH)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn wait(
    mut child: Child,
    mut output: PipeReader,
    started: Instant,
    limit: Duration,
    halt: &Halt,
    said: &mut Said,
) -> Ending {
    let end = Pid::from_child(&child);
    let Ok(end) = pidfd_open(end, PidfdFlags::empty()) else {
        // Without a descriptor it can not be waited for with a limit.
        kill(&mut child);
        return Ending::NotStarted(io::ErrorKind::Other);
    };
    let mut is_open = true;
    loop {
        let left = limit.saturating_sub(started.elapsed());
        if halt.is_set() || left.is_zero() {
            kill(&mut child);
            return if halt.is_set() { Ending::GivenUp } else { Ending::Late(limit) };
        }
        let tick = left.min(LOOK_EVERY);
        let tick = Timespec { tv_sec: tick.as_secs() as i64, tv_nsec: i64::from(tick.subsec_nanos()) };
        let mut polled = [PollFd::new(&end, PollFlags::IN), PollFd::new(&output, PollFlags::IN)];
        // When all writers are gone the pipe is readable for ever.
        let count = if is_open { 2 } else { 1 };
        // An interrupted wait is a short one.
        let _ = poll(&mut polled[..count], Some(&tick));
        let has_ended = !polled[0].revents().is_empty();
        is_open = is_open && said.take(&mut output);
        if has_ended {
            // As long as it is not waited for, no other process can have its number.
            let status = kill(&mut child);
            return status.map_or(Ending::GivenUp, ending_of);
        }
    }
}

/// Kills what is left of the group, and takes the status of its leader.
fn kill(child: &mut Child) -> Option<ExitStatus> {
    // Nobody left is what is wanted.
    let _ = ::host::kill_group(child.id());
    child.wait().ok()
}

fn ending_of(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Signalled(signal.unwrap_or_default()),
    }
}

/// The end of what a command prints.
#[derive(Debug, Default)]
struct Said(VecDeque<u8>);

impl Said {
    /// Reads what is there; whether more may come.
    fn take(&mut self, output: &mut PipeReader) -> bool {
        let mut buffer = [0; 4 * 1024];
        // One that prints faster than it is read has its turns too.
        for _ in 0..16 {
            match output.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.0.extend(&buffer[..count]);
                    let surplus = self.0.len().saturating_sub(KEPT_MAX);
                    self.0.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// The last line that is not empty, without what would disturb a terminal.
    fn last_line(mut self) -> String {
        let text = String::from_utf8_lossy(self.0.make_contiguous()).into_owned();
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|letter| !letter.is_control()).take(LINE_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_status_and_the_last_line_are_told() {
        let outcome = shell("echo first; echo; echo 'the last  ' >&2; echo; exit 3", LONG);

        assert_eq!((outcome.ending, &*outcome.said), (Ending::Exited(3), "the last"));
        assert_eq!(outcome.to_string(), "status 3: the last");
        assert!(shell("true", LONG).is_success());
    }

    #[test]
    fn one_that_is_late_is_killed_with_all_that_it_has_started() {
        // The child of the child holds the pipe: only when it is dead as well does the pipe end.
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mark = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&writer));
        let outcome = shell(&format!("exec 3>{mark}; sleep 600 & sleep 600"), Duration::from_millis(100));
        drop(writer);

        assert_eq!(outcome.ending, Ending::Late(Duration::from_millis(100)));
        let mut rest = Vec::new();
        assert_eq!(reader.read_to_end(&mut rest).expect("it ends"), 0);
    }

    #[test]
    fn what_a_command_leaves_running_is_killed_when_it_ends() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mark = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&writer));
        let outcome = shell(&format!("exec 3>{mark}; sleep 600 & echo done"), LONG);
        drop(writer);

        assert!(outcome.is_success(), "{outcome}");
        assert_eq!(reader.read_to_end(&mut Vec::new()).expect("it ends"), 0);
    }

    #[test]
    fn it_has_the_environment_that_it_is_given_and_no_other() {
        let outcome = shell("env | sort | tr '\\n' ' '", LONG);

        assert_eq!(outcome.said, format!("PATH={PATH} PWD=/ TANDEM_NODE=a"));
    }

    #[test]
    fn no_signal_is_kept_from_it_that_this_process_reads() {
        // The mask is that of the thread, as it is of every thread of the guardian. A shell would clear its own.
        let outcome = std::thread::spawn(|| {
            let _signals = ::host::Signals::take().expect("a descriptor is left");
            errand(&["grep", "SigBlk", "/proc/self/status"], LONG).run(&Halt::default())
        });

        let outcome = outcome.join().expect("it does not panic");
        assert_eq!(outcome.said, "SigBlk:0000000000000000");
    }

    #[test]
    fn it_has_no_descriptor_but_the_first_three() {
        let _open = std::fs::File::open("/dev/null").expect("it is there");

        // The folder itself is open while it is read, and so is the end of a pipe while another command starts.
        let left = r"set -- /proc/$$/fd/*; for one; do [ ! -e $one ] || printf '%s ' ${one##*/}; done";
        let outcome = shell(left, LONG);

        assert_eq!(outcome.said, "0 1 2");
    }

    #[test]
    fn one_that_prints_without_end_is_late_and_fills_no_memory() {
        // A busy host needs a while until it has begun.
        let limit = Duration::from_secs(2);
        let outcome = shell("yes", limit);

        assert_eq!((outcome.ending, &*outcome.said), (Ending::Late(limit), "y"));
    }

    #[test]
    fn one_that_is_not_wanted_any_more_is_killed() {
        let halt = Arc::new(Halt::default());
        let other = Arc::clone(&halt);
        let running = std::thread::spawn(move || errand(&["sleep", "600"], LONG).run(&other));

        halt.set();

        assert_eq!(running.join().expect("it does not panic").ending, Ending::GivenUp);
    }

    #[test]
    fn what_can_not_be_started_says_why() {
        let outcome = errand(&["no-such-program"], LONG).run(&Halt::default());
        assert_eq!(outcome.ending, Ending::NotStarted(io::ErrorKind::NotFound));
        let outcome = errand(&["/"], LONG).run(&Halt::default());
        assert_eq!(outcome.ending, Ending::NotStarted(io::ErrorKind::PermissionDenied));
        assert_eq!(shell("kill -TERM $$", LONG).ending, Ending::Signalled(15));
    }

    fn shell(script: &str, limit: Duration) -> Outcome {
        errand(&["/bin/sh", "-c", script], limit).run(&Halt::default())
    }

    fn errand(command: &[&str], limit: Duration) -> Errand<'static> {
        let command = command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().leak();
        Errand { command, environment: vec![("TANDEM_NODE", "a".to_owned())].leak(), limit }
    }
}
