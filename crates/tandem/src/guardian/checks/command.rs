//! A check of the operator: a command that ends with status 0 while all is well.

use cluster::health::{Check, Patience};

use super::Told;
use crate::config::cluster::CheckCommand;
use crate::guardian::errand::{Ending, Errand};
use crate::guardian::standing::Standing;

/// Runs it again and again, never twice at a time.
pub(super) fn run(check: &CheckCommand, node: &str, standing: &Standing, told: &Told) {
    let patience = Patience { failures: check.failures, successes: check.failures };
    loop {
        let role = if standing.is_active() { "active" } else { "standby" };
        let environment = [
            ("TANDEM_CHECK", check.name.clone()),
            ("TANDEM_NODE", node.to_owned()),
            ("TANDEM_ROLE", role.to_owned()),
        ];
        let errand = Errand { command: &check.command, environment: &environment, limit: check.timeout };
        let outcome = errand.run(&told.halt);
        if outcome.ending == Ending::GivenUp {
            return;
        }
        let result = if outcome.is_success() { Ok(()) } else { Err(outcome.to_string()) };
        told.result(Check::Command(check.name.as_str().into()), patience, result);
        if told.halt.is_set_within(check.interval) {
            return;
        }
    }
}
