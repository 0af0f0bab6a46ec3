//! Accounts on the command line, on a server that runs and on one that does not.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::process;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "an_account_added_while_the_server_runs_can_register", run: added },
    Scenario { name: "a_removed_account_can_not_register", run: removed },
    Scenario { name: "a_changed_password_counts_at_once", run: password },
    Scenario { name: "a_password_is_nowhere_in_the_state_directory", run: never_kept },
];

fn added(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &[])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    // The server has been asked for an account that is not there, and must not remember that.
    let refused = status_of_register(&mut alice)?;
    ensure!(matches!(refused, 401 | 403), "an unknown user got {refused}");

    server.add_account("alice")?;

    alice.register()?;
    let list = process::output(&mut server.command(&["subscriber", "list"]))?;
    ensure!(list.contains("alice@203.0.113.10"), "the list is {list:?}");
    Ok(())
}

fn removed(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    alice.register()?;

    let aor = format!("alice@{}", server.domain(Family::V4)?);
    process::quietly(&mut server.command(&["subscriber", "remove", &aor]))?;

    let status = status_of_register(&mut alice)?;
    ensure!(matches!(status, 401 | 403), "a removed account got {status}");
    Ok(())
}

fn password(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    alice.register()?;

    let aor = format!("alice@{}", server.domain(Family::V4)?);
    let mut change = server.command(&["subscriber", "password", &aor, "--password-stdin"]);
    process::quietly_with_input(&mut change, "another\n")?;

    let status = status_of_register(&mut alice)?;
    ensure!(matches!(status, 401 | 403), "the old password got {status}");
    alice.password = "another".to_owned();
    alice.register().map(drop)
}

fn never_kept(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &[])?;
    let word = "a-word-that-is-nowhere-else";
    let aor = format!("alice@{}", server.domain(Family::V4)?);
    let mut add = server.command(&["subscriber", "add", &aor, "--password-stdin"]);
    process::quietly_with_input(&mut add, &format!("{word}\n"))?;
    let mut files = 0;
    for entry in std::fs::read_dir("/run/tandem")? {
        let path = entry?.path();
        if !path.is_file() {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path)?;
        let is_there = bytes.windows(word.len()).any(|window| window == word.as_bytes());
        ensure!(!is_there, "the password is in {}", path.display());
    }
    ensure!(files > 0, "the state directory has no file");
    ensure!(!server.log().contains(word), "the password is in the log");
    Ok(())
}

/// The status of a REGISTER with fresh credentials.
fn status_of_register(phone: &mut Phone) -> Result<u16> {
    let first = phone.register_request(600);
    phone.send(&first)?;
    let challenge = phone.expect_status(&first, 401)?;
    phone.remember(&challenge)?;
    let second = phone.register_request(600);
    let second = phone.with_credentials(second);
    phone.send(&second)?;
    Ok(phone.final_response(&second)?.status().unwrap_or_default())
}
