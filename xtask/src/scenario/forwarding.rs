//! SIPp: phones that ring one after the other, and calls that an account forwards.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::{Family, Host, Lab};
use crate::process;
use crate::server::{Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "sipp_rings_the_phone_of_a_lower_q_after_the_preferred_one", run: in_turn },
    Scenario { name: "sipp_reaches_the_voicemail_of_a_busy_user", run: busy },
    Scenario { name: "sipp_reaches_the_voicemail_of_a_user_without_a_phone", run: not_registered },
    Scenario { name: "sipp_reaches_a_user_by_a_name_in_another_domain", run: alias },
    Scenario { name: "sipp_reaches_another_phone_when_nobody_answers", run: no_answer },
];

fn in_turn(lab: &Lab) -> Result<()> {
    let settings = Settings::md5();
    let toml = format!("{}\n[sip]\nserial_ring_timeout = \"1s\"\n", settings.toml);
    let server = Server::start(lab, &Settings { toml, ..settings }, &["alice", "bob"])?;
    let alice = lab.host("alice", 21)?;
    let (desk, kitchen) = (lab.host("desk", 22)?, lab.host("kitchen", 23)?);
    Sipp::run(lab, &desk, &server, Flow::udp("register", "bob", ""))?;
    Sipp::run(lab, &kitchen, &server, Flow::udp("register_q", "bob", ""))?;

    let rings = Sipp::start(lab, &desk, &server, Flow::udp("callee_is_cancelled", "bob", ""))?;
    let answers = Sipp::start(lab, &kitchen, &server, Flow::udp("callee_short", "bob", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    answers.succeed()?;
    rings.succeed()
}

fn busy(lab: &Lab) -> Result<()> {
    let (server, alice, bob, mail) = voicemail(lab, true)?;
    forward(&server, &["--busy", "mail"])?;

    let busy = Sipp::start(lab, &bob, &server, Flow::udp("callee_busy", "bob", ""))?;
    let answers = Sipp::start(lab, &mail, &server, Flow::udp("voicemail_busy", "mail", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    busy.succeed()?;
    answers.succeed()
}

fn not_registered(lab: &Lab) -> Result<()> {
    let (server, alice, _, mail) = voicemail(lab, false)?;
    // The account is in the server's memory, without a forward.
    let refused = Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"));
    ensure!(refused.is_err(), "bob has no phone, and the call was answered");
    forward(&server, &["--not-registered", "mail"])?;

    let answers = Sipp::start(lab, &mail, &server, Flow::udp("voicemail_unavailable", "mail", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    answers.succeed()?;
    let shown = process::output(&mut server.command(&["subscriber", "list"]))?;
    ensure!(shown.contains("not registered: sip:mail@203.0.113.10"), "the list is {shown:?}");
    Ok(())
}

/// Another name in another domain of this server, which was not there when the server began.
fn alias(lab: &Lab) -> Result<()> {
    let settings = Settings::md5();
    let toml = format!("{}\n[sip]\ndomains = [\"office.example\"]\n", settings.toml);
    let server = Server::start(lab, &Settings { toml, ..settings }, &["alice", "bob", "mail"])?;
    let (alice, mail) = (lab.host("alice", 21)?, lab.host("mail", 23)?);
    Sipp::run(lab, &mail, &server, Flow::udp("register", "mail", ""))?;
    forward(&server, &["--always", "sip:5000@office.example"])?;
    let refused = Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"));
    ensure!(refused.is_err(), "5000@office.example is nobody, and the call was answered");

    let owner = format!("mail@{}", server.domain(Family::V4)?);
    let words = ["subscriber", "alias", "add", &owner, "5000@office.example"];
    process::quietly(&mut server.command(&words))?;
    let answers = Sipp::start(lab, &mail, &server, Flow::udp("callee_short", "mail", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    answers.succeed()?;

    process::quietly(&mut server.command(&["subscriber", "alias", "remove", "5000@office.example"]))?;
    let refused = Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"));
    ensure!(refused.is_err(), "the name was taken away, and the call was answered");
    Ok(())
}

fn no_answer(lab: &Lab) -> Result<()> {
    let (server, alice, bob, mail) = voicemail(lab, true)?;
    forward(&server, &["--no-answer", "mail", "--after", "1s"])?;

    let rings = Sipp::start(lab, &bob, &server, Flow::udp("callee_is_cancelled", "bob", ""))?;
    let answers = Sipp::start(lab, &mail, &server, Flow::udp("callee_diverted", "mail", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    rings.succeed()?;
    answers.succeed()
}

/// The server, the hosts of Alice and Bob, and that of a voicemail server, which is a registered user.
fn voicemail(lab: &Lab, bob_registers: bool) -> Result<(Server, Host, Host, Host)> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob", "mail"])?;
    let (alice, bob, mail) = (lab.host("alice", 21)?, lab.host("bob", 22)?, lab.host("mail", 23)?);
    Sipp::run(lab, &mail, &server, Flow::udp("register", "mail", ""))?;
    if bob_registers {
        Sipp::run(lab, &bob, &server, Flow::udp("register", "bob", ""))?;
    }
    Ok((server, alice, bob, mail))
}

/// Says where the calls of Bob go.
fn forward(server: &Server, options: &[&str]) -> Result<()> {
    let aor = format!("bob@{}", server.domain(Family::V4)?);
    process::quietly(&mut server.command(&[&["subscriber", "forward", &aor], options].concat()))
}
