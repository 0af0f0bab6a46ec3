//! rtpengine of Debian as the media relay, in user space.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Host, Lab};
use crate::process::{self, Running};

/// How long a start may take.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Where it takes commands.
const PORT: u16 = 2223;
/// What it says of its calls when it has none.
const NO_CALLS: &str = "5:callsle";

/// A running rtpengine.
#[derive(Debug)]
pub struct Rtpengine {
    running: Option<Running>,
    host: Host,
    socket: UdpSocket,
    starts: usize,
}

impl Rtpengine {
    /// Starts it on a host, and waits until it answers.
    pub fn start(lab: &Lab, host: &Host) -> Result<Rtpengine> {
        let socket = host.enter(|| UdpSocket::bind((host.v4, 0)))??;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut rtpengine = Rtpengine { running: None, host: host.clone(), socket, starts: 0 };
        rtpengine.start_again(lab)?;
        Ok(rtpengine)
    }

    /// The same after a kill.
    pub fn start_again(&mut self, lab: &Lab) -> Result<()> {
        self.starts += 1;
        let mut command = self.host.command("rtpengine");
        // Table -1: no module of the kernel. No file of the host's administrator is read.
        command.args(["--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=6"]);
        command.arg(format!("--interface={}", self.host.v4));
        command.arg(format!("--listen-ng={}", self.address()));
        let log = lab.dir.join(format!("rtpengine-{}-{}.log", self.host.name, self.starts));
        self.running = Some(Running::start(&mut command, &log)?);
        process::wait_until("answer from rtpengine", START_TIME_MAX, || {
            let running = self.running.as_mut().context("it was started")?;
            ensure!(running.is_running()?, "rtpengine has ended:\n{}", running.log());
            Ok(self.ask("ping").filter(|answer| answer.contains("4:pong")))
        })?;
        Ok(())
    }

    /// Where it takes commands.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.host.v4, PORT))
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().context("it does not run")?.kill()
    }

    /// Waits until it has no call.
    pub fn wait_until_empty(&self, limit: Duration) -> Result<()> {
        let mut last = None;
        process::wait_until("rtpengine without calls", limit, || {
            last = self.ask("list");
            Ok(last.as_ref().is_some_and(|answer| answer.contains(NO_CALLS)).then_some(()))
        })
        .with_context(|| format!("{}: {last:?}", self.address()))
    }

    /// How often it was given a command, as its log has it.
    pub fn commands(&self, command: &str) -> Result<usize> {
        let running = self.running.as_ref().context("it does not run")?;
        Ok(running.log().matches(&format!("Received command '{command}'")).count())
    }

    /// Its answer to a command without arguments.
    fn ask(&self, command: &str) -> Option<String> {
        // It answers a cookie that it knows with what it said before.
        let cookie = crate::lab::observer::now().as_nanos();
        let text = format!("{cookie} d7:command{}:{command}e", command.len());
        self.socket.send_to(text.as_bytes(), self.address()).ok()?;
        let mut buffer = [0; 65_535];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}
