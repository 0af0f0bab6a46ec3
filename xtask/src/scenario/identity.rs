//! Nobody acts for another's address of record.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::Phone;
use crate::phone::call::SDP;
use crate::phone::message::Message;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_register_for_another_aor_gets_403", run: register },
    Scenario { name: "an_invite_from_another_aor_gets_403", run: invite },
    Scenario { name: "a_wrong_password_registers_nothing", run: wrong_password },
    Scenario { name: "an_unknown_user_is_challenged_like_a_known_one", run: unknown_user },
];

fn register(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let bob = format!("<sip:bob@{}>", alice.domain);
    let first = alice.register_request(600).with_only("To", bob.clone());
    alice.send(&first)?;
    let challenge = alice.expect_status(&first, 401)?;
    alice.remember(&challenge)?;

    let second = alice.register_request(600).with_only("To", bob);
    let second = alice.with_credentials(second);
    alice.send(&second)?;

    alice.expect_status(&second, 403)?;
    ensure!(server.json(&["contacts"])? == serde_json::json!([]), "a binding was made");
    Ok(())
}

fn invite(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    bob.register()?;
    let request = alice.request("INVITE", &bob.aor()).with_body("application/sdp", SDP);
    let request = request.with_only("From", format!("<{}>;tag=liar", bob.aor()));

    let sent = crate::phone::call::invite_with(&mut alice, request)?;

    alice.expect_status(&sent, 403)?;
    let is_invite = |message: &Message| message.method() == Some("INVITE");
    bob.expect_none("the INVITE", std::time::Duration::from_millis(300), is_invite)
}

fn wrong_password(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    alice.password = "wrong".to_owned();
    let first = alice.register_request(600);
    alice.send(&first)?;
    let challenge = alice.expect_status(&first, 401)?;
    alice.remember(&challenge)?;

    let second = alice.register_request(600);
    let second = alice.with_credentials(second);
    alice.send(&second)?;

    let answer = alice.final_response(&second)?;
    ensure!(matches!(answer.status(), Some(401 | 403)), "the answer was {}", answer.start);
    ensure!(server.json(&["contacts"])? == serde_json::json!([]), "a binding was made");
    Ok(())
}

fn unknown_user(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let host = lab.host("phone", 21)?;
    let mut shapes = Vec::new();
    for user in ["alice", "nobody"] {
        let mut phone = Phone::udp(&host, user, &server)?;
        phone.password = "wrong".to_owned();
        let first = phone.register_request(600);
        phone.send(&first)?;
        let challenge = phone.expect_status(&first, 401)?;
        phone.remember(&challenge)?;
        let second = phone.register_request(600);
        let second = phone.with_credentials(second);
        phone.send(&second)?;
        let refusal = phone.final_response(&second)?;
        let names = |m: &Message| m.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        shapes.push((challenge.start.clone(), names(&challenge), refusal.start.clone(), names(&refusal)));
    }
    ensure!(shapes[0] == shapes[1], "known and unknown differ: {shapes:#?}");
    Ok(())
}
