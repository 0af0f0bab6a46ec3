//! Our server as the edge in front of Kamailio, which is the registrar and asks for digest.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::baresip::{Account, Baresip};
use crate::kamailio::{Kamailio, Role};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::phone::call::{self, acknowledge};
use crate::phone::message::{Message, bracketed};
use crate::phone::wire::Transport;
use crate::process;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "phones_behind_nat_call_each_other_through_an_edge", run: calls },
    Scenario { name: "phones_of_a_registrar_without_path_call_through_an_edge", run: calls_without_path },
    Scenario { name: "a_phone_of_an_edge_moves_in_mid_call_and_is_hung_up", run: moves },
    Scenario { name: "a_stranger_with_a_copied_path_gets_to_no_phone_of_an_edge", run: stranger },
    Scenario { name: "a_tcp_phone_of_an_edge_that_is_gone_gets_430", run: gone },
    Scenario { name: "a_phone_behind_an_edge_follows_its_service_route", run: service_route },
    Scenario { name: "baresip_behind_nat_calls_through_an_edge", run: baresip },
];

const DOMAIN: &str = "pbx.example";
/// The instance id of alice's phone.
const ALICE: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e121";

struct Office {
    server: Server,
    registrar: Kamailio,
    router: Router,
    alice: Phone,
    bob: Phone,
}

/// alice and bob are behind one NAT router and register through our server at Kamailio.
fn office(lab: &Lab, role: Role<'_>, contact: &str) -> Result<Office> {
    let host = lab.host("registrar", 30)?;
    let registrar = Kamailio::start(lab, &host, role)?;
    let toml = format!(
        "[nat]\nkeepalive_interval = \"1s\"\nkeepalive_failures = 0\n\
         [[edge]]\ndomain = \"{DOMAIN}\"\nto = \"sip:{}:5060\"\ncontact = \"{contact}\"\n",
        host.v4
    );
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &[])?;
    let router = Router::new(lab, "router", 50)?;
    let alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?.with_instance(ALICE);
    let bob = Phone::udp(&router.host("bob", 22)?, "bob", &server)?;
    Ok(Office { server, registrar, router, alice: of_domain(alice), bob: of_domain(bob) })
}

fn of_domain(mut phone: Phone) -> Phone {
    phone.domain = DOMAIN.to_owned();
    phone
}

const KEEPS_PATH: Role<'_> = Role::Registrar { service_route: None };

fn calls(lab: &Lab) -> Result<()> {
    calls_both_ways(office(lab, KEEPS_PATH, "keep")?)
}

fn calls_without_path(lab: &Lab) -> Result<()> {
    calls_both_ways(office(lab, Role::RegistrarWithoutPath, "rewrite")?)
}

fn calls_both_ways(office: Office) -> Result<()> {
    let Office { server, registrar: _registrar, router, mut alice, mut bob } = office;
    let accepted = alice.register()?;
    let contact = accepted.header("Contact").unwrap_or_default();
    ensure!(bracketed(contact) == Some(&alice.contact()), "alice was shown {contact}");
    bob.register()?;
    server.wait_for_bindings(2)?;
    for noted in server.json(&["contacts"])?.as_array().context("a list")? {
        let received = noted["received"].as_str().unwrap_or_default().to_owned();
        ensure!(received.contains(&router.address().to_string()), "not behind NAT: {noted}");
    }

    // The server keeps the port open, from where the phone has registered.
    alice.expect_request("OPTIONS").context("no keepalive")?;

    let (mut of_alice, _) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut alice, &mut of_alice, &mut bob)?;
    let (_, mut of_bob) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut bob, &mut of_bob, &mut alice)?;

    let end = alice.register_request(0);
    let end = alice.with_credentials(end);
    alice.send(&end)?;
    let answer = alice.final_response(&end)?;
    if answer.status() == Some(401) {
        alice.remember(&answer)?;
        let end = alice.register_request(0);
        let end = alice.with_credentials(end);
        alice.send(&end)?;
        alice.expect_status(&end, 200)?;
    }
    server.wait_for_bindings(1)
}

fn moves(lab: &Lab) -> Result<()> {
    let Office { server, registrar: _registrar, router, mut alice, mut bob } =
        office(lab, KEEPS_PATH, "keep")?;
    alice.register()?;
    bob.register()?;
    server.wait_for_bindings(2)?;
    let (_, mut of_bob) = call::establish(&mut alice, &mut bob)?;
    let before = received(&server, "alice")?;

    router.change_ports()?;
    alice.register()?;
    bob.register()?;
    process::wait_until("alice at another port", Duration::from_secs(10), || {
        Ok((received(&server, "alice")? != before).then_some(()))
    })?;

    call::hang_up(&mut bob, &mut of_bob, &mut alice)
}

fn received(server: &Server, user: &str) -> Result<String> {
    let contacts = server.json(&["contacts"])?;
    let mut list = contacts.as_array().context("a list")?.iter();
    let found = list.find(|it| it["aor"].as_str().is_some_and(|aor| aor.starts_with(user)));
    Ok(found.context("no binding")?["received"].to_string())
}

fn stranger(lab: &Lab) -> Result<()> {
    let Office { server, registrar: _registrar, router: _router, mut alice, .. } =
        office(lab, KEEPS_PATH, "keep")?;
    let accepted = alice.register()?;
    let path = accepted.header("Path").context("the registrar shows no Path")?.to_owned();
    ensure!(path.contains("@203.0.113.10:5060;lr;ob"), "the Path is {path}");
    let mut mallory = Phone::udp(&lab.host("mallory", 66)?, "mallory", &server)?;

    let copied = mallory.request("INVITE", &alice.contact()).with("Route", path.clone());
    mallory.send(&copied)?;
    let refused = mallory.expect_status(&copied, 403)?;
    mallory.send(&acknowledge(&copied, &refused))?;
    let user = path.find('@').context("a user")? - 1;
    let letter = if path.as_bytes()[user] == b'a' { "b" } else { "a" };
    let forged = [&path[..user], letter, &path[user + 1..]].concat();
    let forged = mallory.request("INVITE", &alice.contact()).with("Route", forged);
    mallory.send(&forged)?;
    mallory.expect_status(&forged, 407)?;

    alice.expect_none("an INVITE", Duration::from_millis(500), |it| it.method() == Some("INVITE"))?;
    let refused = &server.json(&["status"])?["counters"]["flow_refused"];
    ensure!(refused.as_u64() == Some(1), "counted: {refused}");
    Ok(())
}

fn gone(lab: &Lab) -> Result<()> {
    let Office { server, registrar: _registrar, router, mut bob, .. } = office(lab, KEEPS_PATH, "keep")?;
    bob.register()?;
    let carol = router.host("carol", 23)?;
    let mut carol = of_domain(Phone::tcp(&carol, "carol", &server)?);
    carol.register()?;
    server.wait_for_bindings(2)?;
    let (mut of_bob, _) = call::establish(&mut bob, &mut carol)?;
    call::hang_up(&mut bob, &mut of_bob, &mut carol)?;

    drop(carol);
    server.wait_for_bindings(1).context("the connection's end was not noted")?;
    let call = call::invite(&mut bob, &format!("sip:carol@{DOMAIN}"))?;
    bob.expect_status(&call, 430).map(drop)
}

fn service_route(lab: &Lab) -> Result<()> {
    let role = Role::Registrar { service_route: Some("sip:orig@203.0.113.30:5060;lr") };
    let Office { server, registrar, router: _router, mut alice, mut bob } = office(lab, role, "keep")?;
    let accepted = alice.register()?;
    bob.register()?;
    let route = accepted.header("Service-Route").context("no Service-Route came through")?.to_owned();

    let outbound = format!("<sip:{};lr>", server.domain(Family::V4)?);
    let invite = alice
        .request("INVITE", &bob.aor())
        .with("Route", format!("{outbound}, {route}"))
        .with_body("application/sdp", call::SDP);
    let invite = call::invite_with(&mut alice, invite)?;
    let arrived = bob.expect_request("INVITE")?;
    bob.reply(&arrived, 486, "Busy Here")?;
    let busy: Message = alice.expect_status(&invite, 486)?;
    alice.send(&acknowledge(&invite, &busy))?;
    ensure!(registrar.log().contains("a preloaded Route"), "the Route did not lead to Kamailio");
    Ok(())
}

/// The domain is our own address, as where phones are given nothing else.
fn baresip(lab: &Lab) -> Result<()> {
    let host = lab.host("registrar", 30)?;
    let _registrar = Kamailio::start(lab, &host, KEEPS_PATH)?;
    let toml = format!("[[edge]]\ndomain = \"203.0.113.10\"\nto = \"sip:{}\"\n", host.v4);
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &[])?;
    let router = Router::new(lab, "router", 50)?;
    let account = |user, transport| Account { user, transport, family: Family::V4, hertz: 440 };
    let mut alice =
        Baresip::start(lab, &router.host("alice", 21)?, &server, account("alice", Transport::Udp))?;
    let mut bob = Baresip::start(lab, &router.host("bob", 22)?, &server, account("bob", Transport::Tcp))?;
    alice.wait_until_registered()?;
    bob.wait_until_registered()?;
    server.wait_for_bindings(2)?;
    alice.dial("sip:bob@203.0.113.10")?;
    alice.wait_until_established()?;
    bob.wait_until_established()?;
    bob.hang_up()?;
    alice.wait_until_closed()
}
