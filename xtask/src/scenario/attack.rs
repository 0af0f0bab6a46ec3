//! Guessers, scanners and floods with the tools of their trade, and the phones beside them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Scenario, Skipped};
use crate::lab::router::Router;
use crate::lab::{Host, Lab};
use crate::phone::{Phone, call};
use crate::process::{self, Running};
use crate::server::{PASSWORD, Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "sipvicious_finds_no_server", run: finds_nothing },
    Scenario { name: "svwar_without_its_name_learns_no_user", run: learns_no_user },
    Scenario {
        name: "svcrack_behind_the_nat_of_a_phone_is_held_and_the_phone_goes_on",
        run: held_behind_nat,
    },
    Scenario { name: "svcrack_at_an_address_of_its_own_is_banned_until_the_operator_lifts_it", run: banned },
    Scenario { name: "sipsak_registers_and_its_flood_hurts_nobody", run: sipsak },
    Scenario { name: "a_flood_behind_the_nat_of_a_phone_hurts_nobody", run: flood_behind_nat },
    Scenario { name: "an_account_that_calls_too_often_is_refused", run: fraud },
];

/// The longest run of one tool.
const TOOL_TIME_MAX: Duration = Duration::from_secs(15);
/// A tool gives up so many seconds after the last answer.
const SILENCE: &str = "--maximumtime=2";

/// alice sits behind a router, and whoever attacks may sit there as well.
struct Office {
    server: Server,
    router: Router,
    alice: Phone,
    bob: Phone,
}

fn office(lab: &Lab, settings: &Settings) -> Result<Office> {
    let server = Server::start(lab, settings, &["alice", "bob", "101"])?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    Ok(Office { server, router, alice, bob })
}

impl Office {
    /// The phone behind the router registers, calls and is called, as if nothing were.
    fn works(&mut self) -> Result<()> {
        self.alice.register().context("alice can not register")?;
        let (mut dialog, _) =
            call::establish(&mut self.alice, &mut self.bob).context("alice can not call")?;
        call::hang_up(&mut self.alice, &mut dialog, &mut self.bob)?;
        let (mut dialog, _) =
            call::establish(&mut self.bob, &mut self.alice).context("alice is not called")?;
        call::hang_up(&mut self.bob, &mut dialog, &mut self.alice)
    }

    fn counter(&self, name: &str) -> Result<u64> {
        counter(&self.server, name)
    }
}

/// They say who they are, and hear nothing.
fn finds_nothing(lab: &Lab) -> Result<()> {
    let mut office = office(lab, &Settings::md5())?;
    let attic = office.router.host("attic", 66)?;
    let target = office.server.host().v4.to_string();

    let tools = [
        ("svmap", &[target.as_str()][..]),
        ("svwar", &["-e", "100-120", "-m", "OPTIONS", SILENCE, &target]),
        ("svcrack", &["-u", "101", "-r", "100-999", SILENCE, &target]),
    ];
    let running = tools.map(|(tool, words)| sipvicious(lab, &attic, tool, tool, words));
    for tool in running {
        let said = end(tool?)?;
        ensure!(!said.contains("Tandem") && !said.contains("| 1"), "something was found:\n{said}");
    }

    ensure!(office.counter("scanner")? >= 3, "they were not known for what they are");
    ensure!(bans(&office.server)?.is_empty(), "an address that can be forged is held");
    office.works()
}

/// In compact form svwar sends no User-Agent.
fn learns_no_user(lab: &Lab) -> Result<()> {
    let mut office = office(lab, &Settings::md5())?;
    let attic = office.router.host("attic", 66)?;
    let target = office.server.host().v4.to_string();

    let running = ["REGISTER", "INVITE", "OPTIONS"].map(|method| {
        let words = ["-c", "-e", "100-104", "-m", method, "--force", SILENCE, &target];
        (method, sipvicious(lab, &attic, "svwar", method, &words))
    });
    for (method, running) in running {
        let said = end(running?)?;
        // A user that is there would be told in a line of its own.
        let told = |user: &str| said.lines().any(|line| line.starts_with(&format!("| {user} ")));
        ensure!(told("101") == told("102"), "{method} tells 101, who is there, from 102:\n{said}");
    }

    // It asks for a user that can not be there and for the first one, finds them alike and gives up; the phones' own are
    // two.
    ensure!(office.counter("challenged")? >= 2 + 6, "it was not heard at all");
    office.works()
}

/// The right password is in the list, but not among the few that are looked at.
fn held_behind_nat(lab: &Lab) -> Result<()> {
    let mut office = office(lab, &Settings::md5())?;
    let attic = office.router.host("attic", 66)?;

    let guesser = crack(lab, &attic, &office.server)?;
    let held = process::wait_until("a name that is slowed down", TOOL_TIME_MAX, || {
        let held = bans(&office.server)?;
        Ok(held.iter().any(|ban| ban["account"] == "101@203.0.113.10").then_some(held))
    })?;
    process::wait_until("a password that is not looked at", TOOL_TIME_MAX, || {
        Ok((office.counter("slowed")? > 0).then_some(()))
    })?;

    ensure!(!held.iter().any(|ban| ban["measure"] == "banned"), "the office is banned: {held:?}");
    // It guesses on meanwhile.
    office.works()?;
    let wrong = office.counter("wrong_credentials")?;
    ensure!((1..=20).contains(&wrong), "{wrong} passwords were looked at");
    let said = guesser.log();
    ensure!(!said.contains(PASSWORD), "it has the password:\n{said}");
    Ok(())
}

fn banned(lab: &Lab) -> Result<()> {
    let settings = Settings {
        toml: format!("{}\n[admission]\nwrong_passwords_max = 4\n", Settings::md5().toml),
        ..Settings::md5()
    };
    let mut office = office(lab, &settings)?;
    let attacker = lab.host("attacker", 66)?;

    let said = end(crack(lab, &attacker, &office.server)?)?;

    ensure!(!said.contains(PASSWORD), "it has the password:\n{said}");
    let held = bans(&office.server)?;
    let ban = held.iter().find(|ban| ban["source"] == "203.0.113.66" && ban["measure"] == "banned");
    ensure!(ban.is_some_and(|ban| ban["cause"] == "wrong credentials"), "it is not banned: {held:?}");
    ensure!(office.counter("dropped_banned")? > 0, "it was heard");
    ensure!(office.server.log().contains("tandem bans remove 203.0.113.66"), "nobody was told");
    let mut probe = Phone::udp(&attacker, "101", &office.server)?;
    let request = probe.register_request(60);
    probe.send(&request)?;
    probe.expect_none("an answer", Duration::from_millis(500), |message| message.answers(&request))?;
    let mut connection = Phone::tcp(&attacker, "101", &office.server)?;
    ensure!(connection.register().is_err(), "it is heard over TCP");
    office.works()?;

    let said = process::output(&mut office.server.command(&["bans", "remove", "203.0.113.66"]))?;
    ensure!(said.contains("no longer banned"), "{said}");
    probe.register().map(drop)
}

/// An honest tool may register, and a small flood of it is nothing.
fn sipsak(lab: &Lab) -> Result<()> {
    let mut office = office(lab, &Settings::md5())?;
    let tester = lab.host("tester", 66)?;
    let uri = format!("sip:101@{}", office.server.host().v4);

    let contact = format!("sip:101@{}:5070", tester.v4);
    let words = ["-U", "-x", "60", "-C", &contact, "-a", PASSWORD, "-u", "101", "-s", &uri];
    process::quietly(tester.command("sipsak").args(words)).context("sipsak can not register")?;
    office.server.wait_for_bindings(3)?;

    let mut flood = tester.command("sipsak");
    flood.args(["-F", "-e", "3000", "-s", &uri]);
    let mut flood = Running::start(&mut flood, &lab.dir.join("sipsak.log"))?;
    process::wait_until("a slowed flood", TOOL_TIME_MAX, || {
        Ok((counter(&office.server, "dropped_slowed")? > 0 || !flood.is_running()?).then_some(()))
    })?;
    office.works()
}

/// More requests without proof than their rate, from another flow of the same address.
fn flood_behind_nat(lab: &Lab) -> Result<()> {
    let settings = Settings {
        toml: "[admission]\nunproven_burst = 20\nunproven_per_second = 1\n".to_owned(),
        ..Settings::defaults()
    };
    let mut office = office(lab, &settings)?;
    let attic = office.router.host("attic", 66)?;
    let mut flooder = Phone::udp(&attic, "mallory", &office.server)?;
    for _ in 0..500 {
        let uri = format!("sip:bob@{}", office.server.host().v4);
        let invite = flooder.request("INVITE", &uri);
        flooder.send(&invite)?;
    }

    process::wait_until("a slowed flood", TOOL_TIME_MAX, || {
        Ok((office.counter("dropped_slowed")? > 400).then_some(()))
    })?;
    let held = bans(&office.server)?;
    ensure!(held.iter().all(|ban| ban["measure"] == "slowed"), "somebody is banned: {held:?}");
    office.works()
}

fn fraud(lab: &Lab) -> Result<()> {
    let settings = Settings {
        toml: "[admission]\ncalls_per_minute_per_account = 3\n".to_owned(),
        ..Settings::defaults()
    };
    let Office { server, router: _router, mut alice, mut bob } = office(lab, &settings)?;
    for _ in 0..3 {
        let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;
        call::hang_up(&mut alice, &mut dialog, &mut bob)?;
    }

    let invite = call::invite(&mut alice, &bob.aor())?;
    let refused = alice.final_response(&invite)?;

    ensure!(refused.start.contains("403 Too Many Calls"), "it got {:?}", refused.start);
    ensure!(counter(&server, "calls_limited")? == 1, "it is not counted");
    ensure!(server.log().contains("its password may be stolen"), "nobody was told");
    // bob is another account.
    let (mut dialog, _) = call::establish(&mut bob, &mut alice)?;
    call::hang_up(&mut bob, &mut dialog, &mut alice)
}

/// Guesses the password of 101, which is the hundredth of the list, without saying who guesses.
fn crack(lab: &Lab, host: &Host, server: &Server) -> Result<Running> {
    let list = lab.dir.join("passwords");
    let wrong = (1..100).map(|number| format!("guess{number}\n"));
    std::fs::write(&list, wrong.chain([format!("{PASSWORD}\n")]).collect::<String>())?;
    let list = list.to_str().context("the lab's folder is text")?;
    sipvicious(
        lab,
        host,
        "svcrack",
        "svcrack",
        &["-c", "-u", "101", "-d", list, SILENCE, &server.host().v4.to_string()],
    )
}

/// Starts a tool of sipvicious, with a log of its own.
fn sipvicious(lab: &Lab, host: &Host, tool: &str, log: &str, words: &[&str]) -> Result<Running> {
    let folder =
        ["/usr/bin", "/usr/local/bin"].into_iter().find(|folder| Path::new(folder).join(tool).exists());
    let Some(folder) = folder else {
        return Err(Skipped(format!("{tool} is not there; `apt install sipvicious`")).into());
    };
    let mut command: Command = host.command(Path::new(folder).join(tool));
    command.args(["-b", &host.v4.to_string()]).args(words).env("HOME", &lab.dir).current_dir(&lab.dir);
    Running::start(&mut command, &lab.dir.join(format!("{log}.log")))
}

/// What a tool has said when it has come to its end. Whether it calls that a success is its own affair.
fn end(mut tool: Running) -> Result<String> {
    tool.wait(TOOL_TIME_MAX)?;
    Ok(tool.log())
}

fn counter(server: &Server, name: &str) -> Result<u64> {
    let status = server.json(&["status"])?;
    status["counters"][name].as_u64().with_context(|| format!("no counter {name}"))
}

fn bans(server: &Server) -> Result<Vec<Value>> {
    let listed = server.json(&["bans", "list"])?;
    listed.as_array().cloned().context("the bans are no list")
}
