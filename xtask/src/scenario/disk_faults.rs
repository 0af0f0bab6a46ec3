//! The disk fails under the server: calls and registrations go on, the log and `tandem status` say what to do.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::{Phone, call};
use crate::process;
use crate::server::{STATE, Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_full_disk_hurts_no_call_and_nothing_is_lost_when_there_is_room", run: full },
    Scenario { name: "a_server_starts_on_a_full_disk", run: full_at_start },
    Scenario { name: "a_read_only_database_is_served_from_and_written_later", run: read_only },
    Scenario { name: "a_damaged_database_is_refused_at_the_start_and_left_alone", run: damaged_at_start },
    Scenario { name: "a_database_that_is_damaged_at_run_hurts_no_call", run: damaged_at_run },
    Scenario { name: "a_database_that_is_removed_at_run_is_missed_and_may_come_back", run: removed },
];

/// How soon a fault shows in the state, and its end.
const SEEN_WITHIN: Duration = Duration::from_secs(15);
/// A state directory of its own is so large.
const DISK: &str = "size=2m";

struct Office {
    server: Server,
    alice: Phone,
    bob: Phone,
}

/// A server whose state directory is a small disk, and two phones.
fn office(lab: &Lab) -> Result<Office> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    process::quietly(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs", STATE]))?;
    for user in ["alice", "bob"] {
        server.add_account(user)?;
    }
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    Ok(Office { server, alice, bob })
}

impl Office {
    /// Both phones register anew and talk.
    fn works(&mut self) -> Result<()> {
        let Office { alice, bob, .. } = self;
        alice.register()?;
        bob.register()?;
        let (mut dialog, _) = call::establish(alice, bob)?;
        call::hang_up(alice, &mut dialog, bob)
    }

    /// Works until the state names a fault, in these words, for the operator as well.
    fn fails(&mut self, words: &str) -> Result<()> {
        process::wait_until(&format!("state that says {words:?}"), SEEN_WITHIN, || {
            self.works()?;
            let status = self.server.json(&["status"])?;
            let error = status["store"]["error"].as_str().unwrap_or_default();
            Ok(error.contains(words).then_some(()))
        })?;
        let text = process::output(&mut self.server.command(&["status"]))?;
        ensure!(text.contains("FAILING") && text.contains(words), "status does not say it: {text}");
        ensure!(self.server.log().contains(words), "the log does not say {words:?}");
        self.works()
    }

    /// Works until the state is good and nothing waits.
    fn recovers(&mut self) -> Result<()> {
        process::wait_until("a good state", SEEN_WITHIN, || {
            let store = &self.server.json(&["status"])?["store"];
            let is_good = store["error"].is_null() && store["owed"].as_u64() == Some(0);
            ensure!(store["dropped"].as_u64() == Some(0), "changes are lost: {store}");
            Ok(is_good.then_some(()))
        })?;
        self.works()
    }

    /// What was registered while the disk failed is there after a kill.
    fn bindings_survive_a_kill(mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(500));
        self.server.kill()?;
        self.server.start_again()?;
        let (mut dialog, _) = call::establish(&mut self.alice, &mut self.bob)?;
        call::hang_up(&mut self.alice, &mut dialog, &mut self.bob)
    }
}

fn full(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    let filler = fill()?;
    office.fails("the disk is full; make room")?;
    fs::remove_file(filler)?;
    office.recovers()?;
    office.bindings_survive_a_kill()
}

fn full_at_start(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    office.server.terminate()?;
    let filler = fill()?;
    office.server.start_again()?;
    office.fails("the disk is full; make room")?;
    fs::remove_file(filler)?;
    office.recovers()?;
    office.server.terminate()
}

fn read_only(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    office.server.terminate()?;
    let file = database();
    process::quietly(Command::new("mount").args(["--bind", &file, &file]))?;
    process::quietly(Command::new("mount").args(["-o", "remount,ro,bind", &file]))?;
    office.server.start_again()?;
    office.fails("can not be written; give both to the user that runs the server")?;
    process::quietly(Command::new("umount").args(["--lazy", &file]))?;
    office.recovers()?;
    office.bindings_survive_a_kill()
}

fn damaged_at_start(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    office.server.terminate()?;
    let good = fs::read(database())?;
    let mut bad = good.clone();
    bad[..1000].fill(0xa5);
    fs::write(database(), &bad)?;
    let error = office.server.start_again().expect_err("it starts with a damaged database").to_string();
    ensure!(error.contains("the file is damaged") && error.contains("restore a backup"), "{error}");
    ensure!(fs::read(database())? == bad, "the damaged file was changed");
    fs::write(database(), &good)?;
    office.server.start_again()?;
    office.works()?;
    office.server.terminate()
}

fn damaged_at_run(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    office.works()?;
    for ending in ["", "-wal"] {
        let name = format!("{}{ending}", database());
        let length = fs::metadata(&name)?.len() as usize;
        let mut file = fs::File::options().write(true).open(&name)?;
        file.write_all(&vec![0xa5; length])?;
    }
    office.fails("the file is damaged; stop the server, restore a backup")?;
    office.server.kill()
}

fn removed(lab: &Lab) -> Result<()> {
    let mut office = office(lab)?;
    office.works()?;
    let aside = format!("{}.aside", database());
    fs::rename(database(), &aside)?;
    office.fails("the file was removed while the server runs; put it or a backup of it back")?;
    ensure!(!Path::new(&database()).exists(), "an empty file hides the loss");
    fs::rename(&aside, database())?;
    office.recovers()?;
    office.bindings_survive_a_kill()
}

fn database() -> String {
    format!("{STATE}/tandem.sqlite")
}

/// Fills the disk to the last byte; gives the file to remove.
fn fill() -> Result<String> {
    let name = format!("{STATE}/filler");
    let mut file = fs::File::create(&name).context("filler")?;
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(name)
}
