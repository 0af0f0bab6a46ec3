//! One address, two phones, and URIs that mean one of them (RFC 5627).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::call::{self, acknowledge};
use crate::phone::message::Message;
use crate::phone::{Phone, call::Dialog};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_gruu_rings_the_one_phone_that_it_means", run: rings }];

const DESK: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";
const SOFT: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e129";

fn rings(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut desk = Phone::udp(&lab.host("desk", 22)?, "bob", &server)?.with_instance(DESK);
    let mut soft = Phone::tcp(&lab.host("soft", 23)?, "bob", &server)?.with_instance(SOFT);
    alice.register()?;
    register(&mut desk)?;
    let contacts = register(&mut soft)?;
    let of_soft = contacts.iter().find(|it| it.contains(SOFT)).context("no Contact of the phone")?;
    let public = quoted(of_soft, "pub-gruu").context("no pub-gruu")?;
    let temporary = quoted(of_soft, "temp-gruu").context("no temp-gruu")?;
    ensure!(public == format!("{};gr={SOFT}", soft.aor()), "the public one is {public}");
    ensure!(!temporary.contains("bob") && temporary.ends_with(";gr"), "the temporary one is {temporary}");

    for gruu in [&public, &temporary] {
        let mut dialog = answered(&mut alice, &mut soft, gruu)?;
        // The phone's Contact in the dialog is its GRUU.
        ensure!(dialog.target() == public, "the dialog's target is {}", dialog.target());
        call::hang_up(&mut alice, &mut dialog, &mut soft)?;
    }
    desk.expect_none("an INVITE", Duration::from_millis(300), |it| it.method() == Some("INVITE"))?;

    soft.register_again_as_another_series();
    register(&mut soft)?;
    refused(&mut alice, &temporary, 404)?;
    let mut forged = temporary.clone();
    forged.replace_range(4..5, if forged[4..5] == *"a" { "b" } else { "a" });
    refused(&mut alice, &forged, 404)?;
    refused(&mut alice, &format!("{};gr=urn:uuid:0", soft.aor()), 480)
}

/// Registers with GRUU; all values of Contact in the 200.
fn register(phone: &mut Phone) -> Result<Vec<String>> {
    let first = phone.register_request(600).with_only("Supported", "gruu, outbound");
    phone.send(&first)?;
    let challenge = phone.final_response(&first)?;
    phone.remember(&challenge)?;
    let second = phone.register_request(600).with_only("Supported", "gruu, outbound");
    let second = phone.with_credentials(second);
    phone.send(&second)?;
    let accepted = phone.expect_status(&second, 200)?;
    Ok(accepted.all("Contact").into_iter().map(str::to_owned).collect())
}

/// A quoted parameter, which may have semicolons.
fn quoted(contact: &str, name: &str) -> Option<String> {
    let (_, value) = contact.split_once(&format!(";{name}=\""))?;
    Some(value.split_once('"')?.0.to_owned())
}

fn answered(caller: &mut Phone, callee: &mut Phone, gruu: &str) -> Result<Dialog> {
    let invite = call::invite(caller, gruu)?;
    let arrived = callee.expect_request("INVITE")?;
    ensure!(arrived.uri() == Some(&callee.contact()), "the Request-URI is {:?}", arrived.uri());
    let public = format!("<{};gr={SOFT}>", callee.aor());
    let answer = Message::response(&arrived, 200, "OK").with_to_tag("soft").with("Contact", public);
    callee.send(&answer)?;
    let answer = caller.expect_status(&invite, 200)?;
    let mut dialog = Dialog::of_caller(&invite, &answer)?;
    let ack = dialog.ack(caller);
    caller.send(&ack)?;
    callee.expect_request("ACK").context("the ACK did not arrive")?;
    Ok(dialog)
}

fn refused(caller: &mut Phone, gruu: &str, status: u16) -> Result<()> {
    let invite = call::invite(caller, gruu)?;
    let answer = caller.expect_status(&invite, status)?;
    caller.send(&acknowledge(&invite, &answer))
}
