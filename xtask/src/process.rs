//! Other programs: run to the end, or started and ended with a guard.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

pub mod tree;

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a program that was asked to end may take.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs a command whose output goes to the terminal; an exit status other than 0 is an error.
pub fn loudly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

/// Runs a command and shows what it said only when it fails.
pub fn quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command and gives what it wrote to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    let done = command.output().with_context(|| format!("cannot start {}", words(command)))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        bail!("{} ended with {}: {text}{complaint}", words(command), done.status);
    }
    Ok(text)
}

/// Runs a command that reads `input`.
pub fn quietly_with_input(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", words(command)))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        bail!("{} ended with {}: {complaint}", words(command), done.status);
    }
    Ok(())
}

/// The command as somebody would type it.
pub fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// A program that runs beside us, with its output in a log. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts the command; what it says is appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Running> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", words(command)))?;
        Ok(Running { child, name: words(command), log: log.to_path_buf() })
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until the log contains `text`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_until(&format!("{text:?} in its log"), limit, |log| log.contains(text))
    }

    /// Waits until the log is as wanted; an end of the program before that is an error.
    pub fn wait_until(&mut self, what: &str, limit: Duration, is_there: impl Fn(&str) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait()?;
            if is_there(&self.log()) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("{} ended with {status} before {what}:\n{}", self.name, tail(&self.log(), 15));
            }
            if start.elapsed() > limit {
                bail!("no {what} within {limit:?} from {}:\n{}", self.name, tail(&self.log(), 15));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.end()
    }

    /// As [`Running::terminate`], for what is kept by somebody else.
    pub fn end(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(END_TIME_MAX)
    }

    /// Kills it (SIGKILL).
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)?;
        Ok(())
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} did not end within {limit:?}:\n{}", self.name, tail(&self.log(), 15));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls `look` until it gives something.
pub fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            bail!("no {what} within {limit:?}");
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The resident memory of a process, in KiB.
pub fn memory_kib(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    figure.with_context(|| format!("process {id} has no memory"))
}

/// The text of a file, or nothing when it can not be read.
pub fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
