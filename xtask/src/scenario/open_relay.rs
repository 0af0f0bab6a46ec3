//! A stranger's `Route` to us does not lead through us.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::{Family, Host, Lab};
use crate::phone::message::Message;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_strangers_route_does_not_lead_elsewhere", run: without_to_tag },
    Scenario { name: "a_strangers_route_with_a_to_tag_does_not_lead_elsewhere", run: with_to_tag },
    Scenario { name: "a_strangers_route_with_a_made_up_token_does_not_lead_elsewhere", run: forged },
    Scenario { name: "a_token_of_another_call_does_not_lead_to_a_phone", run: token_of_another_call },
    Scenario { name: "an_invite_to_a_foreign_domain_is_not_relayed_for_a_stranger", run: foreign },
];

/// How long the victim waits for what must not come.
const SILENCE: Duration = Duration::from_millis(800);
/// The methods that a stranger tries.
const METHODS: [&str; 5] = ["INVITE", "BYE", "MESSAGE", "OPTIONS", "ACK"];

/// A stranger without an account, and somebody whom the server knows nothing of.
struct Street {
    server: Server,
    stranger: Phone,
    victim: Phone,
}

fn street(lab: &Lab) -> Result<Street> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let stranger = Phone::udp(&lab.host("stranger", 66)?, "stranger", &server)?;
    let victim = Phone::udp(&lab.host("victim", 99)?, "victim", &server)?;
    Ok(Street { server, stranger, victim })
}

fn without_to_tag(lab: &Lab) -> Result<()> {
    nothing_arrives(street(lab)?, |message, route| message.with("Route", format!("<{route};lr>")))
}

fn with_to_tag(lab: &Lab) -> Result<()> {
    nothing_arrives(street(lab)?, |message, route| {
        message.with("Route", format!("<{route};lr>")).with_to_tag("made-up")
    })
}

fn forged(lab: &Lab) -> Result<()> {
    // The user part, and each parameter that a proxy could keep a token in.
    let token = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    nothing_arrives(street(lab)?, |message, route| {
        let host = route.trim_start_matches("sip:").to_owned();
        message
            .with("Route", format!("<sip:{token}@{host};lr;t={token};token={token}>"))
            .with_to_tag("made-up")
    })
}

fn foreign(lab: &Lab) -> Result<()> {
    nothing_arrives(street(lab)?, |message, _| message)
}

fn nothing_arrives(street: Street, edit: impl Fn(Message, &str) -> Message) -> Result<()> {
    let Street { server, mut stranger, mut victim } = street;
    let route = format!("sip:{}", server.domain(Family::V4)?);
    for method in METHODS {
        let request = stranger.request(method, &format!("sip:victim@{}", victim.local()));
        let request = edit(request, &route);
        stranger.send(&request)?;
        if method == "ACK" {
            continue;
        }
        let answer = stranger.final_response(&request)?;
        let status = answer.status().unwrap_or_default();
        ensure!(status >= 400, "{method} was answered by {}", answer.start);
        if method == "INVITE" {
            stranger.send(&call::acknowledge(&request, &answer))?;
        }
    }
    victim.expect_none("a stranger's request", SILENCE, |message| message.method().is_some())
}

/// Route headers are seen by the phones of a call; they are good for that call alone.
fn token_of_another_call(lab: &Lab) -> Result<()> {
    let Street { server, mut stranger, mut victim } = street(lab)?;
    let phone = |host: &Host, user| Phone::udp(host, user, &server);
    let mut alice = phone(&lab.host("alice", 21)?, "alice")?;
    let mut bob = phone(&lab.host("bob", 22)?, "bob")?;
    bob.register()?;
    let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;
    let route = dialog.routes().first().context("no Record-Route")?.clone();

    for uri in [bob.contact(), format!("sip:victim@{}", victim.local())] {
        let request = stranger.request("INFO", &uri).with("Route", route.clone());
        let request = request.with_to_tag("made-up");
        stranger.send(&request)?;
        let answer = stranger.final_response(&request)?;
        ensure!(answer.status() >= Some(400), "the stolen route got {}", answer.start);
    }

    let is_info = |message: &Message| message.method() == Some("INFO");
    bob.expect_none("the stranger's INFO", SILENCE, is_info)?;
    victim.expect_none("the stranger's INFO", SILENCE, is_info)?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)
}
