//! Kamailio as the edge in front of our server, which is the registrar and keeps Path (RFC 3327).

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::kamailio::{Kamailio, Role};
use crate::lab::Lab;
use crate::lab::router::Router;
use crate::phone::wire::Transport;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "phones_behind_another_edge_register_with_path_and_call_each_other", run: calls }];

fn calls(lab: &Lab) -> Result<()> {
    let toml = "[registrar]\nservice_route = \"path\"\n".to_owned();
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &["alice", "bob"])?;
    let host = lab.host("edge", 40)?;
    let edge = Kamailio::start(lab, &host, Role::EdgeOf(server.host().v4))?;
    let router = Router::new(lab, "router", 50)?;
    let phone = |user, number| {
        Phone::by_proxy(&router.host(user, number)?, user, &server, Transport::Udp, edge.address())
    };
    let (mut alice, mut bob) = (phone("alice", 21)?, phone("bob", 22)?);

    let accepted = alice.register()?;
    bob.register()?;

    let path = accepted.header("Path").context("the Path that was kept is not shown")?;
    ensure!(path.contains("203.0.113.40"), "the Path is {path}");
    let route = accepted.header("Service-Route").context("no Service-Route")?.to_owned();
    let contacts = server.json(&["contacts"])?;
    let kept = contacts[0]["path"][0].as_str().unwrap_or_default();
    ensure!(kept.contains("203.0.113.40") && contacts[0]["nat"] == false, "the binding is {}", contacts[0]);
    let (mut of_alice, _) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut alice, &mut of_alice, &mut bob)?;
    let (_, mut of_bob) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut bob, &mut of_bob, &mut alice)?;

    // RFC 3608 §5: the phone preloads what it was told.
    let busy =
        alice.request("INVITE", &bob.aor()).with("Route", route).with_body("application/sdp", call::SDP);
    let busy = call::invite_with(&mut alice, busy)?;
    let arrived = bob.expect_request("INVITE")?;
    bob.reply(&arrived, 486, "Busy Here")?;
    alice.expect_status(&busy, 486).map(drop)
}
