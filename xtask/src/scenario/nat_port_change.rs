//! A phone behind a NAT router whose public port changes in mid-call.

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::lab::router::Router;
use crate::phone::message::{bracketed, parameter};
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_phone_whose_nat_port_changed_hangs_up", run: caller_hangs_up },
    Scenario { name: "a_phone_that_was_called_and_whose_nat_port_changed_hangs_up", run: callee_hangs_up },
    Scenario { name: "a_caller_whose_nat_port_changed_is_hung_up", run: caller_is_hung_up },
    Scenario { name: "a_called_phone_whose_nat_port_changed_is_hung_up", run: callee_is_hung_up },
];

/// The instance id of the phone behind the router.
const ALICE: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e121";

/// alice is behind the router, bob is not.
struct Home {
    // Dropping the server ends it.
    _server: Server,
    router: Router,
    alice: Phone,
    bob: Phone,
}

fn home(lab: &Lab) -> Result<Home> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let router = Router::new(lab, "router", 50)?;
    let alice = router.host("alice", 21)?;
    let mut alice = Phone::udp(&alice, "alice", &server)?.with_instance(ALICE);
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    Ok(Home { _server: server, router, alice, bob })
}

fn caller_hangs_up(lab: &Lab) -> Result<()> {
    let Home { _server, router, mut alice, mut bob } = home(lab)?;
    let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;
    router.change_ports()?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)
}

fn callee_hangs_up(lab: &Lab) -> Result<()> {
    let Home { _server, router, mut alice, mut bob } = home(lab)?;
    let (_, mut dialog) = call::establish(&mut bob, &mut alice)?;
    router.change_ports()?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)
}

/// The server learns the new port from the phone's next REGISTER.
fn caller_is_hung_up(lab: &Lab) -> Result<()> {
    let Home { _server, router, mut alice, mut bob } = home(lab)?;
    let (_, mut dialog) = call::establish(&mut alice, &mut bob)?;
    change_ports_and_register(&router, &mut alice)?;
    call::hang_up(&mut bob, &mut dialog, &mut alice)
}

fn callee_is_hung_up(lab: &Lab) -> Result<()> {
    let Home { _server, router, mut alice, mut bob } = home(lab)?;
    let (mut dialog, _) = call::establish(&mut bob, &mut alice)?;
    change_ports_and_register(&router, &mut alice)?;
    call::hang_up(&mut bob, &mut dialog, &mut alice)
}

fn change_ports_and_register(router: &Router, phone: &mut Phone) -> Result<()> {
    let before = public_port(phone)?;
    router.change_ports()?;
    let after = public_port(phone)?;
    ensure!(before != after, "the router did not change the port {before}");
    Ok(())
}

/// Registers; the `rport` of the answer says which port the router uses.
fn public_port(phone: &mut Phone) -> Result<String> {
    let answer = phone.register()?;
    let via = answer.header("Via").context("no Via")?;
    let received = parameter(via, "received").context("no received")?;
    ensure!(received == "203.0.113.50", "received={received} is not the router");
    let contact = answer.all("Contact").iter().find_map(|value| bracketed(value));
    ensure!(contact == Some(phone.contact().as_str()), "another Contact came back: {contact:?}");
    parameter(via, "rport").map(str::to_owned).context("no rport")
}
