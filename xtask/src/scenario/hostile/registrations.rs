//! Registrations that can not be kept, and what the server says in one that is.

use anyhow::{Context, Result, ensure};

use super::Siege;
use crate::lab::Lab;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_contact_that_can_not_be_called_is_not_registered", run: unusable }];

fn unusable(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "")?;
    let before = siege.server.json(&["status"])?["bindings"].as_u64();
    for contact in [
        "<mailto:alice@203.0.113.10>",
        "<sip:alice@0.0.0.0:5060>",
        "<sip:alice@203.0.113.10:5060>",
        "<sip:alice@203.0.113.10>",
    ] {
        let request = siege.alice.register_request(600).with_only("Contact", contact);
        let request = siege.alice.with_credentials(request);
        siege.alice.send(&request)?;
        siege.alice.expect_status(&request, 400).context(contact)?;
    }
    let request = siege.alice.register_request(600).with("Proxy-Require", "teleportation");
    let request = siege.alice.with_credentials(request);
    siege.alice.send(&request)?;
    let refused = siege.alice.expect_status(&request, 420)?;
    ensure!(refused.header("Unsupported") == Some("teleportation"), "{refused:?}");
    ensure!(siege.server.json(&["status"])?["bindings"].as_u64() == before, "one was registered");

    let accepted = siege.alice.register()?;
    let date = accepted.header("Date").context("the 200 has no Date")?;
    ensure!(date.ends_with(" GMT"), "{date} is no date");
    siege.end()
}
