//! What somebody sees who starts it for the first time: without root, with an empty home.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::{Host, Lab};
use crate::phone::{Phone, call};
use crate::process::{self, Running};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the_first_run_needs_no_root_and_prints_the_next_commands", run: first_run },
    Scenario { name: "a_second_server_says_which_process_has_the_port", run: second_run },
    Scenario { name: "two_phones_on_the_servers_own_host_call_each_other", run: same_host },
];

/// How long a start may take.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// The user `nobody` of Debian.
const NOBODY: &str = "65534";

fn first_run(lab: &Lab) -> Result<()> {
    let host = lab.host("server", 10)?;
    let home = Path::new("/run/home");
    let mut running = start(lab, &host, home, "first")?;
    running.wait_for("subscriber add", START_TIME_MAX)?;
    running.wait_for(": ready", START_TIME_MAX)?;
    let said = running.log();
    let state = home.join(".local/state/tandem");
    for word in
        [state.to_string_lossy().as_ref(), "udp:203.0.113.10:5060", "tcp:203.0.113.10:5060", "@203.0.113.10"]
    {
        let is_there = said.contains(word) || said.contains(&word.replacen(':', "://", 1));
        ensure!(is_there, "{word:?} is not in:\n{said}");
    }
    ensure!(state.join("tandem.sqlite").exists(), "no database in {}", state.display());
    let key = std::fs::metadata(state.join("node.key"))?;
    ensure!(key.permissions().mode() & 0o077 == 0, "others can read the key");
    let status = running.terminate()?;
    ensure!(status.success(), "SIGTERM ended it with {status}");
    Ok(())
}

fn second_run(lab: &Lab) -> Result<()> {
    let host = lab.host("server", 10)?;
    let mut first = start(lab, &host, Path::new("/run/one"), "first")?;
    first.wait_for(": ready", START_TIME_MAX)?;

    let mut second = start(lab, &host, Path::new("/run/two"), "second")?;
    let status = second.wait(START_TIME_MAX)?;

    let said = second.log();
    ensure!(!status.success(), "the second server ended with success");
    let owner = first.id().to_string();
    ensure!(said.contains(&owner), "process {owner} is not named in:\n{said}");
    ensure!(said.contains("tandem") && said.contains("5060"), "what is missing here:\n{said}");
    ensure!(first.is_running()?, "the first server has ended");
    Ok(())
}

/// As somebody does who has one machine only: the phones have the server's address and other ports.
fn same_host(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(server.host(), "alice", &server)?;
    let mut bob = Phone::tcp(server.host(), "bob", &server)?;
    for phone in [&mut alice, &mut bob] {
        phone.register()?;
    }
    let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)?;
    let (mut dialog, _) = call::establish(&mut bob, &mut alice)?;
    call::hang_up(&mut bob, &mut dialog, &mut alice)
}

/// `tandem run` as nobody.
fn start(lab: &Lab, host: &Host, home: &Path, name: &str) -> Result<Running> {
    start_as_nobody(lab, host, home, name, &["run"])
}

/// `tandem WORDS` as nobody, with a home of its own that is empty and no other variable.
pub fn start_as_nobody(lab: &Lab, host: &Host, home: &Path, name: &str, words: &[&str]) -> Result<Running> {
    // The build's folder may be closed to nobody.
    let binary = Path::new("/run/bin/tandem");
    if !binary.exists() {
        std::fs::create_dir_all("/run/bin")?;
        std::fs::copy(&lab.binary, binary)?;
    }
    std::fs::create_dir_all(home)?;
    let mut command = host.command("setpriv");
    if can_change_user() {
        process::quietly(Command::new("chown").arg(NOBODY).arg(home))?;
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    }
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]);
    command.arg(binary).args(words).env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin");
    Running::start(&mut command, &lab.dir.join(format!("{name}.log")))
}

/// In namespaces made without root there is one user only, who has no right outside of them.
pub fn can_change_user() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().last().is_some_and(|count| count != "1")
}
