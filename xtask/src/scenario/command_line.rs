//! `check`, `reference`, `reload`, `status`, and systemd's notices.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::Scenario;
use crate::lab::Lab;
use crate::phone::Phone;
use crate::process;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "check_reports_all_mistakes_of_a_file_at_once", run: check },
    Scenario { name: "the_printed_reference_is_a_valid_configuration", run: reference },
    Scenario { name: "a_bad_file_changes_nothing_on_reload", run: bad_reload },
    Scenario { name: "a_reload_takes_effect", run: reload },
    Scenario { name: "systemd_is_told_when_the_server_is_ready", run: notified },
];

fn check(lab: &Lab) -> Result<()> {
    let file = lab.dir.join("bad.toml");
    let bad = "[node]\nname = 5\n[sip]\nlissten = []\ntimer_t1 = \"soon\"\n[nat]\nkeepalive = \"x\"\n";
    std::fs::write(&file, bad)?;
    let done = Command::new(&lab.binary).arg("check").arg(&file).output()?;
    let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
    ensure!(done.status.code() == Some(2), "the exit status was {}", done.status);
    for (line, word) in [(2, "name"), (4, "lissten"), (5, "soon"), (7, "keepalive")] {
        let place = format!("bad.toml:{line}");
        ensure!(said.contains(&place), "nothing about line {line} in:\n{said}");
        ensure!(said.contains(word), "nothing about {word} in:\n{said}");
    }
    Ok(())
}

fn reference(lab: &Lab) -> Result<()> {
    let text = process::output(Command::new(&lab.binary).arg("reference"))?;
    let file = lab.dir.join("reference.toml");
    std::fs::write(&file, &text)?;
    process::quietly(Command::new(&lab.binary).arg("check").arg(&file))?;
    for key in ["listen", "algorithms", "min_expires", "keepalive_interval", "state_directory"] {
        ensure!(text.contains(key), "{key} is not in the reference");
    }
    Ok(())
}

/// One key of the file is right and would be seen in the next answer; another one is wrong.
fn bad_reload(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let before = alice.register()?;
    let good = std::fs::read_to_string(server.config())?;
    let bad = "[sip]\nserver = \"Other/1\"\ntimer_t1 = \"soon\"\n[log]";
    std::fs::write(server.config(), good.replace("[log]", bad))?;

    server.signal(Signal::HUP)?;

    process::wait_until("word about the bad file", Duration::from_secs(5), || {
        Ok(server.log().contains("timer_t1").then_some(()))
    })?;
    let after = alice.register()?;
    ensure!(before.header("Server").is_some(), "no Server header");
    ensure!(before.header("Server") == after.header("Server"), "half of the file was taken");
    Ok(())
}

fn reload(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let good = std::fs::read_to_string(server.config())?;
    std::fs::write(server.config(), good.replace("[log]", "[sip]\nserver = \"Other/1\"\n[log]"))?;

    process::quietly(&mut server.command(&["reload"]))?;

    process::wait_until("Server header from the new file", Duration::from_secs(5), || {
        let request = alice.register_request(600);
        alice.send(&request)?;
        let answer = alice.final_response(&request)?;
        Ok((answer.header("Server") == Some("Other/1")).then_some(()))
    })
}

fn notified(lab: &Lab) -> Result<()> {
    let path = "/run/notify";
    let socket = UnixDatagram::bind(path)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let environment = vec![("NOTIFY_SOCKET", path.to_owned()), ("WATCHDOG_USEC", "2000000".to_owned())];
    let settings = Settings { environment, ..Settings::defaults() };
    let mut server = Server::start(lab, &settings, &[])?;
    for wanted in ["READY=1", "WATCHDOG=1"] {
        wait_for_notice(&socket, wanted)?;
    }
    server.terminate()?;
    wait_for_notice(&socket, "STOPPING=1")
}

fn wait_for_notice(socket: &UnixDatagram, wanted: &str) -> Result<()> {
    let mut buffer = [0; 4096];
    for _ in 0..20 {
        let length = socket.recv(&mut buffer).with_context(|| format!("{wanted} did not come"))?;
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == wanted) {
            return Ok(());
        }
    }
    anyhow::bail!("{wanted} did not come")
}
