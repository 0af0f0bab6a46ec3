//! baresip, a real phone: it plays a tone to whom it speaks with and records what it hears.
//!
//! It is told what to do, and tells what happened, through its control port in JSON netstrings.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::{Family, Host, Lab};
use crate::phone::wire::Transport;
use crate::process::{self, Running};
use crate::server::{PASSWORD, Server};
use crate::sound;

/// Where Debian puts its modules.
const MODULES: &str = "/usr/lib/baresip/modules";
/// How long it may take to do what it was told.
const PATIENCE: Duration = Duration::from_secs(15);
/// No scenario talks longer.
const TONE_SECONDS: u32 = 60;

/// Which account a phone has and how it reaches the server.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// The user.
    pub user: &'a str,
    /// The transport to the server.
    pub transport: Transport,
    /// The family of the addresses of server, phone and media.
    pub family: Family,
    /// The frequency of its tone.
    pub hertz: u32,
}

/// A running baresip.
#[derive(Debug)]
pub struct Baresip {
    running: Running,
    control: TcpStream,
    received: Vec<u8>,
    dir: PathBuf,
    user: String,
}

impl Baresip {
    /// Starts it on a host; it registers at once and answers every call.
    pub fn start(lab: &Lab, host: &Host, server: &Server, account: Account<'_>) -> Result<Baresip> {
        Baresip::start_in_domain(lab, host, &server.domain(account.family)?, account)
    }

    /// The same with an account of a domain that is the address of its server.
    pub fn start_in_domain(lab: &Lab, host: &Host, domain: &str, account: Account<'_>) -> Result<Baresip> {
        Baresip::start_with_tone(lab, host, domain, account, TONE_SECONDS)
    }

    /// The same with a tone of so many seconds.
    pub fn start_with_tone(
        lab: &Lab,
        host: &Host,
        domain: &str,
        account: Account<'_>,
        seconds: u32,
    ) -> Result<Baresip> {
        let dir = lab.dir.join(account.user);
        std::fs::create_dir_all(&dir)?;
        sound::write_tone(&dir.join("tone.wav"), account.hertz, seconds)?;
        let address = host.address(account.family)?;
        let listen = std::net::SocketAddr::new(address, 5060);
        let place = dir.display();
        let config = format!(
            "poll_method epoll\n\
             sip_listen {listen}\n\
             module_path {MODULES}\n\
             module g711.so\n\
             module aufile.so\n\
             module sndfile.so\n\
             module_tmp account.so\n\
             module_app menu.so\n\
             module_app ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:4444\n\
             audio_source aufile,{place}/tone.wav\n\
             audio_player aufile,{place}/heard.wav\n\
             audio_alert aufile,/dev/null\n\
             snd_path {place}\n\
             ausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n"
        );
        let Account { user, transport, family, .. } = account;
        let transport = transport.in_uri();
        let line = format!(
            "<sip:{user}@{domain};transport={transport}>;auth_user={user};auth_pass={PASSWORD};\
             answermode=auto;regint=60;audio_codecs=PCMU/8000/1\n"
        );
        std::fs::write(dir.join("config"), config)?;
        std::fs::write(dir.join("accounts"), line)?;
        std::fs::write(dir.join("contacts"), "")?;
        let mut command = host.command("baresip");
        command.arg("-s").arg("-f").arg(&dir);
        command.arg(if family == Family::V6 { "-6" } else { "-4" });
        let log = lab.dir.join(format!("baresip-{user}.log"));
        let running = Running::start(&mut command, &log)?;
        let control = process::wait_until("control port of baresip", PATIENCE, || {
            Ok(host.enter(|| TcpStream::connect("127.0.0.1:4444"))?.ok())
        })?;
        control.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Baresip { running, control, received: Vec::new(), dir, user: user.to_owned() })
    }

    /// Waits until the server has let it register.
    pub fn wait_until_registered(&mut self) -> Result<()> {
        // The first registration may be over before the control port is connected.
        // It says, for instance: `alice@192.0.2.1: {0/UDP/v4} 200 OK (server) [1 binding]`.
        self.running.wait_until("200 to its REGISTER", PATIENCE, |log| {
            log.lines().any(|line| line.contains("} 200 OK (") && line.contains(" binding"))
        })
    }

    /// Calls a URI.
    pub fn dial(&mut self, uri: &str) -> Result<()> {
        self.command("dial", uri)
    }

    /// Waits until its call is established.
    pub fn wait_until_established(&mut self) -> Result<()> {
        self.wait_for_event("CALL_ESTABLISHED")
    }

    /// Ends its call.
    pub fn hang_up(&mut self) -> Result<()> {
        self.command("hangup", "")
    }

    /// Waits until its call has ended.
    pub fn wait_until_closed(&mut self) -> Result<()> {
        self.wait_for_event("CALL_CLOSED")
    }

    /// The seconds for which it heard a tone.
    pub fn seconds_heard(&self, hertz: u32) -> Result<f64> {
        let mut seconds = 0.0;
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            // The module names what it decoded `...-dec.wav`, what it encoded `...-enc.wav`.
            if path.to_string_lossy().ends_with("-dec.wav") {
                seconds += sound::seconds_of_tone(&path, hertz)?;
            }
        }
        Ok(seconds)
    }

    fn command(&mut self, command: &str, parameters: &str) -> Result<()> {
        let json = serde_json::json!({ "command": command, "params": parameters }).to_string();
        write!(self.control, "{}:{json},", json.len())?;
        Ok(())
    }

    fn wait_for_event(&mut self, kind: &str) -> Result<()> {
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < PATIENCE {
            while let Some(event) = take_netstring(&mut self.received)? {
                let event: serde_json::Value = serde_json::from_str(&event)?;
                let Some(found) = event["type"].as_str() else { continue };
                if found == kind {
                    return Ok(());
                }
                seen.push(format!("{found} {}", event["param"]));
            }
            let mut buffer = [0; 4096];
            match self.control.read(&mut buffer) {
                Ok(0) => bail!("{}: baresip has ended", self.user),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("{}: no {kind} within {PATIENCE:?}, but {seen:?}", self.user)
    }
}

/// Takes `length:text,` from the front of the bytes when it is whole.
fn take_netstring(received: &mut Vec<u8>) -> Result<Option<String>> {
    let Some(colon) = received.iter().position(|byte| *byte == b':') else { return Ok(None) };
    let length: usize = std::str::from_utf8(&received[..colon])?
        .parse()
        .context("the control port did not send a netstring")?;
    let end = colon + 1 + length;
    if received.len() <= end {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&received[colon + 1..end]).into_owned();
    received.drain(..=end);
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring_is_taken_only_when_its_end_is_there() {
        let mut received = b"2:{},5:hel".to_vec();

        assert_eq!(take_netstring(&mut received).expect("netstring"), Some("{}".to_owned()));
        assert_eq!(take_netstring(&mut received).expect("netstring"), None);
        received.extend(b"lo,");
        assert_eq!(take_netstring(&mut received).expect("netstring"), Some("hello".to_owned()));
    }
}
