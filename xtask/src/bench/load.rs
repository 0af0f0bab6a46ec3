//! The load: SIPp on the second core.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{self, Running};
use crate::server::PASSWORD;
use crate::sipp;

/// How many accounts share the load.
pub const ACCOUNTS: usize = 100;
/// The address that calls.
pub const CALLER: &str = "10.0.0.2";
/// The address that registers and is called; it is not the one that is trusted.
const CALLEE: &str = "10.0.0.1";
/// The table of the accounts, for SIPp.
const USERS: &str = "users.csv";
/// Where the load runs.
const CORE: &str = "1";
/// A run that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(120);
/// One in so many messages may be sent again, and one in so many calls may fail: SIPp itself gives
/// up a call when the letters of a header's name are in a tag. More than that is measured wrongly.
const FAULTS_ONE_IN: u64 = 1000;

/// The name of an account.
pub fn account(number: usize) -> String {
    format!("user{number}")
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// REGISTER, 401, REGISTER, 200.
    Register,
    /// INVITE to the 200 of BYE, through Record-Route.
    Call,
}

impl Work {
    /// In the order of the table.
    pub const ALL: [Work; 2] = [Work::Register, Work::Call];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Work::Register => "REGISTER, digest with 401",
            Work::Call => "call, INVITE to BYE",
        }
    }

    /// How many a run has, and how many a second.
    pub fn size(self) -> (u64, u64) {
        match self {
            Work::Register => (30_000, 3000),
            Work::Call => (10_000, 1000),
        }
    }

    /// What has to be there before, outside of the measurement: every account is registered, so
    /// that caches are warm and calls find somebody.
    pub fn prepare(self, dir: &Path) -> Result<()> {
        std::fs::write(dir.join(USERS), user_table())?;
        let count = 2 * ACCOUNTS as u64;
        Sipp::start(dir, "load_register", CALLEE, 5071, count, 200)?.finish(count)
    }

    /// Does it, and says how often.
    pub fn run(self, dir: &Path) -> Result<u64> {
        let (count, rate) = self.size();
        match self {
            Work::Register => {
                Sipp::start(dir, "load_register", CALLEE, 5071, count, rate)?.finish(count)?;
            }
            Work::Call => {
                let callee = Sipp::start(dir, "load_callee", CALLEE, 5071, count, rate)?;
                let caller = Sipp::start(dir, "load_caller", CALLER, 5070, count, rate)?;
                caller.finish(count)?;
                callee.finish(count)?;
            }
        }
        Ok(count)
    }
}

struct Sipp {
    running: Running,
    flow: &'static str,
    statistics: std::path::PathBuf,
    errors: std::path::PathBuf,
}

impl Sipp {
    fn start(
        dir: &Path,
        flow: &'static str,
        address: &str,
        port: u16,
        count: u64,
        rate: u64,
    ) -> Result<Sipp> {
        let users = dir.join(USERS);
        let statistics = dir.join(format!("{flow}.csv"));
        let errors = dir.join(format!("{flow}.errors"));
        for old in [&statistics, &errors] {
            if old.exists() {
                std::fs::remove_file(old)?;
            }
        }
        let mut command = Command::new("taskset");
        command.args(["-c", CORE, "sipp", "-nostdin", "-sf"]);
        command.arg(sipp::flows().join(format!("{flow}.xml"))).arg("-inf").arg(users);
        command.args(["-m", &count.to_string(), "-r", &rate.to_string(), "-l", "4000"]);
        command.args(["-i", address, "-p", &port.to_string(), "-buff_size", "4194304"]);
        command.args(["-timeout", &TIME_MAX.as_secs().to_string(), "-timeout_error"]);
        // Without a BYE after a fault: it would be work that the other server did not have.
        command.args(["-default_behaviors", "all,-bye"]);
        command.args(["-trace_err", "-error_file"]).arg(&errors);
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics);
        command.arg("10.0.0.1:5060");
        let running = Running::start(&mut command, &dir.join(format!("{flow}.log")))?;
        Ok(Sipp { running, flow, statistics, errors })
    }

    /// Waits for its end: hardly anything failed and hardly anything was sent twice.
    fn finish(mut self, count: u64) -> Result<()> {
        let status = self.running.wait(TIME_MAX + Duration::from_secs(5))?;
        let text = process::read_lossy(&self.statistics);
        let errors = process::read_lossy(&self.errors);
        let errors: String = errors.chars().take(1000).collect();
        for name in ["Retransmissions(C)", "FailedCall(C)"] {
            let faults = column(&text, name)
                .with_context(|| format!("{} ended with {status} without figures: {errors}", self.flow))?;
            let may_be = (count / FAULTS_ONE_IN).max(1);
            ensure!(faults <= may_be, "{}: {name} is {faults} of {count}: {errors}", self.flow);
        }
        Ok(())
    }
}

/// What the flows know as `[field0]` and `[field1]`: SIPp finds no field inside of
/// `[authentication]`, so the field has all of it.
fn user_table() -> String {
    let mut table = "SEQUENTIAL\n".to_owned();
    for user in (0..ACCOUNTS).map(account) {
        table += &format!("{user};[authentication username={user} password={PASSWORD}]\n");
    }
    table
}

/// The last value of a column of SIPp's statistics.
fn column(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let place = lines.next()?.split(';').position(|column| column == name)?;
    lines.next_back()?.split(';').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_column_counts() {
        let text = "A(C);Retransmissions(C);\n1;2;\n3;4;\n";

        assert_eq!(column(text, "Retransmissions(C)"), Some(4));
        assert_eq!(column(text, "B(C)"), None);
    }
}
