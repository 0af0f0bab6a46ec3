//! Our own account at a carrier: Kamailio as a registrar that asks for digest, or a carrier that the scenario plays.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::kamailio::{Kamailio, Role};
use crate::lab::{Family, Host, Lab};
use crate::phone::Phone;
use crate::phone::call::{self, Dialog};
use crate::phone::digest::{Answer, Challenge};
use crate::phone::message::{Message, bracketed};
use crate::phone::wire::Transport;
use crate::process;
use crate::server::{PASSWORD, Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_carrier_registers_us_and_its_call_rings_a_phone", run: registered },
    Scenario { name: "a_carrier_that_restarts_has_us_registered_again", run: restarts },
    Scenario { name: "a_wrong_password_at_a_carrier_is_said_and_mended_by_a_reload", run: wrong_password },
    Scenario { name: "a_carrier_that_wants_sha_256_and_more_time_gets_both", run: particular },
    Scenario { name: "a_call_through_a_carrier_that_asks_for_the_password_is_answered", run: outbound },
    Scenario { name: "a_registration_that_is_not_to_stay_is_taken_back_at_a_stop", run: taken_back },
];

const DOMAIN: &str = "carrier.example";
const NUMBER: &str = "493012345";
const KAMAILIO: Role<'_> = Role::Registrar { service_route: None };
/// How long a registration may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// The configuration with an account at this registrar.
fn account(registrar: &str, password: &str, more: &str) -> Settings {
    let toml = format!(
        "[[registration]]\nname = \"carrier\"\nregistrar = \"sip:{registrar}\"\n\
         address = \"sip:{NUMBER}@{DOMAIN}\"\nusername = \"{NUMBER}\"\npassword = \"{password}\"\n\
         to = \"reception@203.0.113.10\"\n{more}"
    );
    Settings { toml, ..Settings::defaults() }
}

fn registered(lab: &Lab) -> Result<()> {
    let host = lab.host("carrier", 30)?;
    let carrier = Kamailio::start(lab, &host, KAMAILIO)?;
    let server = Server::start(lab, &account("203.0.113.30", PASSWORD, ""), &["reception"])?;
    wait_for_state(&server, "registered")?;
    ensure!(!server.log().contains(PASSWORD), "the password is in the log");
    let mut reception = Phone::udp(&lab.host("reception", 21)?, "reception", &server)?;
    reception.register()?;
    let mut mobile = customer(lab, &server, &carrier, "49170")?;

    let (mut of_mobile, _) = call_trunk(&mut mobile, &mut reception)?;
    call::hang_up(&mut mobile, &mut of_mobile, &mut reception)?;
    let (_, mut second) = call_trunk(&mut mobile, &mut reception)?;
    call::hang_up(&mut reception, &mut second, &mut mobile)?;

    // Who is not the carrier gets in by no registration.
    let mut stranger = Phone::udp(&lab.host("stranger", 66)?, "stranger", &server)?;
    let invite = stranger.request("INVITE", &format!("sip:{NUMBER}@203.0.113.10"));
    stranger.send(&invite)?;
    stranger.expect_status(&invite, 407).map(drop)
}

fn restarts(lab: &Lab) -> Result<()> {
    let host = lab.host("carrier", 30)?;
    let carrier = Kamailio::start(lab, &host, Role::BriefRegistrar)?;
    let server = Server::start(lab, &account("203.0.113.30", PASSWORD, ""), &["reception"])?;
    wait_for_state(&server, "registered")?;
    let mut reception = Phone::udp(&lab.host("reception", 21)?, "reception", &server)?;
    reception.register()?;

    carrier.terminate()?;
    let carrier = Kamailio::start(lab, &host, Role::BriefRegistrar)?;

    let mut mobile = customer(lab, &server, &carrier, "49170")?;
    process::wait_until("a call that arrives", PATIENCE, || {
        call::invite(&mut mobile, &format!("sip:{NUMBER}@{DOMAIN}"))?;
        let is_invite = |message: &Message| message.method() == Some("INVITE");
        let has_rung = reception.expect_none("INVITE", Duration::from_millis(400), is_invite).is_err();
        Ok(has_rung.then_some(()))
    })
}

fn wrong_password(lab: &Lab) -> Result<()> {
    let host = lab.host("carrier", 30)?;
    let _carrier = Kamailio::start(lab, &host, KAMAILIO)?;
    let server = Server::start(lab, &account("203.0.113.30", "not-the-secret", ""), &[])?;

    wait_for_state(&server, "refused")?;

    let said = &server.json(&["registrations"])?[0];
    ensure!(said["last_answer"] == "401 Unauthorized", "said was {said}");
    ensure!(said["next_s"].as_u64().is_some_and(|seconds| seconds > 100), "no back-off: {said}");
    let warned = |line: &str| line.contains("WARN") && line.contains("the carrier refuses our registration");
    ensure!(server.log().lines().any(warned), "nobody was warned");
    ensure!(!server.log().contains("not-the-secret"), "the password is in the log");
    let text = process::output(&mut server.command(&["registrations"]))?;
    ensure!(text.contains("refused") && !text.contains("secret"), "{text}");

    configure(&server, &account("203.0.113.30", PASSWORD, ""))?;
    wait_for_state(&server, "registered")
}

/// Kamailio challenges the INVITE, knows the callee by its own registration, and wants the CSeq to grow.
fn outbound(lab: &Lab) -> Result<()> {
    let host = lab.host("carrier", 30)?;
    let carrier = Kamailio::start(lab, &host, KAMAILIO)?;
    let routes = "[[gateway]]\nname = \"carrier-gateway\"\nuri = \"sip:203.0.113.30\"\nregistration = \"carrier\"\n\
                  caller_in = \"From\"\ncaller_number = \"493012345\"\ncaller_domain = \"carrier.example\"\nprobe = \"off\"\n\
                  [[route]]\nnumber = [\"0Z.\"]\nto = [\"carrier-gateway\"]\nstrip = 1\nprefix = \"49\"\n";
    let server = Server::start(lab, &account("203.0.113.30", PASSWORD, routes), &["alice"])?;
    wait_for_state(&server, "registered")?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    alice.register()?;
    let mut mobile = customer(lab, &server, &carrier, "49170")?;
    register_at(&mut mobile)?;

    for round in 0..2 {
        let request = call::invite(&mut alice, "sip:0170@203.0.113.10")?;
        let arrived = mobile.expect_request("INVITE")?;
        mobile.reply(&arrived, 180, "Ringing")?;
        alice.wait("180", |message| message.answers(&request) && message.status() == Some(180))?;
        let answer = mobile.reply(&arrived, 200, "OK")?;
        let arrived_answer = alice.expect_status(&request, 200)?;
        let mut dialog = Dialog::of_caller(&request, &arrived_answer)?;
        let ack = dialog.ack(&mut alice);
        alice.send(&ack)?;
        let arrived_ack = mobile.expect_request("ACK")?;
        let number = |message: &Message| message.cseq().split(' ').next().map(str::to_owned);
        ensure!(number(&arrived_ack) == number(&arrived), "the ACK has another number than its INVITE");
        ensure!(arrived.header("Proxy-Authorization").is_none(), "the carrier passed our credentials on");
        if round == 0 {
            call::hang_up(&mut alice, &mut dialog, &mut mobile)?;
        } else {
            let mut of_mobile = Dialog::of_callee(&arrived, &answer)?;
            call::hang_up(&mut mobile, &mut of_mobile, &mut alice)?;
        }
    }
    let counters = &server.json(&["status"])?["counters"];
    // One for the REGISTER, and one for a call in each shard that had a call.
    let challenged = counters["carrier_challenged"].as_u64().unwrap_or_default();
    ensure!((2..=3).contains(&challenged), "{challenged} challenges were answered");
    Ok(())
}

/// Registers a customer of the carrier there.
fn register_at(phone: &mut Phone) -> Result<()> {
    let first = phone.register_request(600);
    phone.send(&first)?;
    let challenge = phone.expect_status(&first, 401)?;
    phone.remember(&challenge)?;
    let second = phone.register_request(600);
    let second = phone.with_credentials(second);
    phone.send(&second)?;
    phone.expect_status(&second, 200).map(drop)
}

/// The scenario plays a carrier: Kamailio has neither a 423 nor SHA-256 in a module of Debian.
fn particular(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &[])?;
    let mut carrier = played(lab, &server)?;
    configure(&server, &account(&carrier.local().to_string(), PASSWORD, ""))?;

    let first = carrier.expect_request("REGISTER")?;
    ensure!(first.header("Expires") == Some("600"), "the first: {first:#?}");
    let brief =
        Message::response(&first, 423, "Interval Too Brief").with_to_tag("c").with("Min-Expires", "1800");
    carrier.send(&brief)?;
    let second = carrier.expect_request("REGISTER")?;
    ensure!(second.header("Expires") == Some("1800"), "the second: {second:#?}");
    let offer = |algorithm: &str| {
        format!(
            "Digest realm=\"{DOMAIN}\", nonce=\"n-{algorithm}\", opaque=\"o\", algorithm={algorithm}, qop=\"auth\""
        )
    };
    let challenge = Message::response(&second, 401, "Unauthorized")
        .with_to_tag("c")
        .with("WWW-Authenticate", offer("MD5"))
        .with("WWW-Authenticate", offer("SHA-256"))
        .with("WWW-Authenticate", "Basic realm=\"x\"");
    carrier.send(&challenge)?;
    let third = carrier.expect_request("REGISTER")?;

    let credentials = third.header("Authorization").context("no credentials")?;
    let asked = Challenge::parse(&offer("SHA-256")).context("a challenge")?;
    let value = |name: &str| {
        let (_, rest) = credentials.split_once(&format!(" {name}=\"")).context("a parameter")?;
        Ok::<_, anyhow::Error>(rest.split_once('"').context("its end")?.0)
    };
    let expected = asked.answer(Answer {
        user: NUMBER,
        password: PASSWORD,
        method: "REGISTER",
        uri: third.uri().unwrap_or_default(),
        count: 1,
        cnonce: value("cnonce")?,
    });
    let (_, response) = expected.split_once("response=\"").context("a response")?;
    ensure!(Some(value("response")?) == response.split_once('"').map(|it| it.0), "{credentials}");
    ensure!(credentials.contains("opaque=\"o\"") && credentials.contains("nc=00000001"), "{credentials}");
    let number = |message: &Message| message.cseq().split(' ').next().and_then(|it| it.parse::<u32>().ok());
    ensure!(number(&first) < number(&second) && number(&second) < number(&third), "CSeq does not grow");
    ensure!(first.call_id() == third.call_id(), "the Call-ID is another");
    accept(&mut carrier, &third, 900)?;
    wait_for_state(&server, "registered")?;
    let said = &server.json(&["registrations"])?[0];
    ensure!(said["granted_s"].as_u64().is_some_and(|left| (800..=900).contains(&left)), "{said}");
    Ok(())
}

fn taken_back(lab: &Lab) -> Result<()> {
    let mut server = Server::start(lab, &Settings::defaults(), &[])?;
    let mut carrier = played(lab, &server)?;
    configure(&server, &account(&carrier.local().to_string(), PASSWORD, "at_stop = \"remove\"\n"))?;
    let first = carrier.expect_request("REGISTER")?;
    accept(&mut carrier, &first, 600)?;
    wait_for_state(&server, "registered")?;

    let end = std::thread::scope(|scope| -> Result<Message> {
        let stop = scope.spawn(|| server.terminate());
        let end = carrier.wait("the REGISTER that ends it", |message| {
            message.method() == Some("REGISTER") && message.header("Expires") == Some("0")
        })?;
        accept(&mut carrier, &end, 0)?;
        stop.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(end)
    })?;

    ensure!(end.call_id() == first.call_id(), "another registration was ended");
    Ok(())
}

/// A phone that is no customer of ours, but of the carrier.
fn customer(lab: &Lab, server: &Server, carrier: &Kamailio, user: &str) -> Result<Phone> {
    let mut phone =
        Phone::by_proxy(&lab.host("mobile", 40)?, user, server, Transport::Udp, carrier.address())?;
    phone.domain = DOMAIN.to_owned();
    Ok(phone)
}

/// A call from the carrier's customer to the number that we registered.
fn call_trunk(mobile: &mut Phone, reception: &mut Phone) -> Result<(Dialog, Dialog)> {
    let request = call::invite(mobile, &format!("sip:{NUMBER}@{DOMAIN}"))?;
    let arrived = reception.expect_request("INVITE")?;
    reception.reply(&arrived, 180, "Ringing")?;
    mobile.wait("180", |message| message.answers(&request) && message.status() == Some(180))?;
    let answer = reception.reply(&arrived, 200, "OK")?;
    let arrived_answer = mobile.expect_status(&request, 200)?;
    let mut dialog = Dialog::of_caller(&request, &arrived_answer)?;
    let ack = dialog.ack(mobile);
    mobile.send(&ack)?;
    reception.expect_request("ACK")?;
    Ok((dialog, Dialog::of_callee(&arrived, &answer)?))
}

/// A carrier that says what the scenario wants.
fn played(lab: &Lab, server: &Server) -> Result<Phone> {
    let host: Host = lab.host("carrier", 30)?;
    Phone::new(&host, "carrier", server, Transport::Udp, Family::V4)
}

fn accept(carrier: &mut Phone, register: &Message, expires: u32) -> Result<()> {
    let contact = register.header("Contact").and_then(bracketed).context("no Contact")?;
    let mut response = Message::response(register, 200, "OK").with_to_tag("c");
    if expires > 0 {
        let mut value = format!("<{contact}>");
        write!(value, ";expires={expires}")?;
        response = response.with("Contact", value);
    }
    carrier.send(&response)
}

/// Writes another configuration and has it taken.
fn configure(server: &Server, settings: &Settings) -> Result<()> {
    let old = std::fs::read_to_string(server.config())?;
    let kept = old.split("[[registration]]").next().unwrap_or_default();
    std::fs::write(server.config(), format!("{kept}\n{}", settings.toml))?;
    process::quietly(&mut server.command(&["reload"]))
}

fn wait_for_state(server: &Server, state: &str) -> Result<()> {
    process::wait_until(&format!("a registration that is {state}"), PATIENCE, || {
        Ok((server.json(&["registrations"])?[0]["state"] == state).then_some(()))
    })
}
