//! Numbers that go to gateways: real carriers, dead ones, what they see of a call, and who may call there.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::kamailio::{Kamailio, Role};
use crate::lab::{Family, Lab};
use crate::phone::message::Message;
use crate::phone::wire::Transport;
use crate::phone::{Phone, call};
use crate::process;
use crate::server::{Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_call_goes_through_kamailio_as_the_carrier_and_both_sides_hang_up", run: by_kamailio },
    Scenario { name: "a_gateway_that_answers_503_is_replaced_by_the_next_one", run: by_sipp },
    Scenario { name: "a_gateway_that_is_silent_is_replaced_in_time", run: silent },
    Scenario { name: "an_answer_about_the_call_is_not_tried_at_another_gateway", run: final_answers },
    Scenario { name: "probes_find_a_gateway_dead_and_alive_again", run: probes },
    Scenario { name: "a_gateway_that_is_taken_out_gets_no_calls", run: taken_out },
    Scenario { name: "a_full_gateway_is_left_out_until_its_call_has_ended", run: full },
    Scenario { name: "a_carriers_call_reaches_the_extension_that_its_number_is", run: from_carrier },
    Scenario { name: "a_stranger_gets_through_no_route", run: stranger },
];

/// How long somebody waits for what must not come.
const SILENCE: Duration = Duration::from_millis(600);
/// How long probes may take to decide, on a busy machine.
const DECISION_TIME_MAX: Duration = Duration::from_secs(30);

/// A server with two gateways at 203.0.113.71 and .72, and a route of 110 to both.
const TWO: &str = r#"
[[gateway]]
name = "a"
uri = "sip:203.0.113.71:5060"
probe = "off"
answer_timeout = "1s"

[[gateway]]
name = "b"
uri = "sip:203.0.113.72:5060"
probe = "off"

[[route]]
number = ["110"]
to = ["a", "b"]
"#;

fn settings(toml: &str) -> Settings {
    Settings { toml: toml.to_owned(), ..Settings::defaults() }
}

/// A gateway that the scenario plays itself.
fn carrier(lab: &Lab, server: &Server, name: &str, number: u8) -> Result<Phone> {
    Phone::at_port(&lab.host(name, number)?, name, server, 5060)
}

fn number(server: &Server, number: &str) -> Result<String> {
    Ok(format!("sip:{number}@{}", server.domain(Family::V4)?))
}

fn by_kamailio(lab: &Lab) -> Result<()> {
    let server = Server::start(
        lab,
        &settings(
            r#"
[[gateway]]
name = "carrier"
uri = "sip:203.0.113.71:5060"
strip = 1
prefix = "9"
caller_in = "From"
caller_number = "+4930123"
set_headers = ["X-Trunk: 7"]

[[route]]
number = ["00."]
to = ["carrier"]
strip = 2
prefix = "+"
"#,
        ),
        &["alice"],
    )?;
    let host = lab.host("kamailio", 71)?;
    let proxy = SocketAddr::from((host.v4, 5060));
    let mut phone = Phone::by_proxy(&lab.host("callee", 73)?, "callee", &server, Transport::Udp, proxy)?;
    let kamailio = Kamailio::start(lab, &host, Role::CarrierTo(phone.local()))?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;

    for caller_hangs_up in [true, false] {
        let invite = call::invite(&mut alice, &number(&server, "0049301")?)?;
        let arrived = phone.expect_request("INVITE").context("behind Kamailio")?;
        ensure!(arrived.uri().is_some_and(|uri| uri.starts_with("sip:949301@")), "{}", arrived.start);
        ensure!(arrived.all("Via").len() == 3, "the call did not pass Kamailio: {arrived:#?}");
        ensure!(arrived.header("X-Trunk") == Some("7"), "{arrived:#?}");
        let from = arrived.header("From").unwrap_or_default();
        ensure!(from.contains("<sip:+4930123@"), "the carrier sees the caller as {from}");
        ensure!(arrived.header("To") == invite.header("To"), "To was changed");
        let answer = phone.reply(&arrived, 200, "OK")?;
        let answered = alice.expect_status(&invite, 200)?;
        ensure!(answered.header("From") == invite.header("From"), "the caller's From was changed");

        let mut from_alice = call::Dialog::of_caller(&invite, &answered)?;
        let mut from_phone = call::Dialog::of_callee(&arrived, &answer)?;
        let ack = from_alice.ack(&mut alice);
        alice.send(&ack)?;
        let ack = phone.expect_request("ACK")?;
        ensure!(ack.header("From") == arrived.header("From"), "the ACK has {:?}", ack.header("From"));
        if caller_hangs_up {
            call::hang_up(&mut alice, &mut from_alice, &mut phone)?;
        } else {
            let bye = from_phone.request(&mut phone, "BYE");
            phone.send(&bye)?;
            let bye = alice.expect_request("BYE")?;
            ensure!(bye.header("To") == invite.header("From"), "the BYE is for {:?}", bye.header("To"));
            alice.reply(&bye, 200, "OK")?;
            phone.wait("200 to BYE", |message| {
                message.status() == Some(200) && message.cseq().ends_with("BYE")
            })?;
        }
    }
    ensure!(!kamailio.log().contains("ERROR"), "{}", kamailio.log());
    let state = state(&server, "carrier")?;
    ensure!(state == "up", "it is {state}");
    Ok(())
}

fn by_sipp(lab: &Lab) -> Result<()> {
    let server =
        Server::start(lab, &settings(&format!("{TWO}\n[auth]\nalgorithms = [\"MD5\"]\n")), &["alice"])?;
    let (first, second) = (lab.host("first", 71)?, lab.host("second", 72)?);
    let refuses = Sipp::start(lab, &first, &server, Flow::udp("carrier_is_busy", "a", ""))?;
    let answers = Sipp::start(lab, &second, &server, Flow::udp("callee", "b", ""))?;
    Sipp::run(lab, &lab.host("alice", 21)?, &server, Flow::udp("caller", "alice", "110"))?;

    refuses.succeed()?;
    answers.succeed()?;
    let rows = server.json(&["gateways"])?;
    ensure!(rows[0]["state"] == "busy" && rows[0]["failed"] == 1, "{rows}");
    ensure!(rows[1]["state"] == "up" && rows[1]["tried"] == 1, "{rows}");
    Ok(())
}

fn silent(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &settings(TWO), &["alice"])?;
    let mut first = carrier(lab, &server, "first", 71)?;
    let mut second = carrier(lab, &server, "second", 72)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;

    let invite = call::invite(&mut alice, &number(&server, "110")?)?;
    let ignored = first.expect_request("INVITE")?;
    let arrived = second.expect_request("INVITE").context("at the second gateway")?;
    // The first one speaks too late.
    first.reply(&ignored, 180, "Ringing")?;
    let cancel = first.expect_request("CANCEL")?;
    first.reply(&cancel, 200, "OK")?;
    first.reply(&ignored, 487, "Request Terminated")?;
    second.reply(&arrived, 200, "OK")?;
    alice.expect_status(&invite, 200)?;
    ensure!(server.json(&["status"])?["counters"]["gateway_silent"] == 1);
    Ok(())
}

fn full(lab: &Lab) -> Result<()> {
    let toml = TWO.replacen("probe = \"off\"", "calls_max = 1\nprobe = \"off\"", 1);
    let server =
        Server::start(lab, &settings(&format!("{toml}\n[auth]\nalgorithms = [\"MD5\"]\n")), &["alice"])?;
    let (first, second) = (lab.host("first", 71)?, lab.host("second", 72)?);
    let alice = lab.host("alice", 21)?;
    let at_first = Sipp::start(lab, &first, &server, Flow::udp("callee_short", "a", ""))?;
    let at_second = Sipp::start(lab, &second, &server, Flow::udp("callee_short", "b", ""))?;

    let talks = Sipp::start(lab, &alice, &server, Flow::udp("caller_talks", "alice", "110"))?;
    wait_for_calls(&server, 1)?;
    let other = Flow { port: 5070, ..Flow::udp("caller_short", "alice", "110") };
    Sipp::run(lab, &alice, &server, other)?;
    at_second.succeed()?;
    talks.succeed()?;
    at_first.succeed()?;
    wait_for_calls(&server, 0)?;

    let again = Sipp::start(lab, &first, &server, Flow::udp("callee_short", "a", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "110"))?;
    again.succeed()?;
    let rows = server.json(&["gateways"])?;
    ensure!(rows[0]["tried"] == 2 && rows[0]["failed"] == 0 && rows[1]["tried"] == 1, "{rows}");
    Ok(())
}

/// Waits until the first gateway has so many calls.
fn wait_for_calls(server: &Server, count: u64) -> Result<()> {
    process::wait_until(&format!("{count} calls at the gateway"), Duration::from_secs(10), || {
        let row = &server.json(&["gateways"])?[0];
        Ok((row["calls"] == count && row["calls_max"] == 1).then_some(()))
    })
}

fn final_answers(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &settings(TWO), &["alice"])?;
    let mut first = carrier(lab, &server, "first", 71)?;
    let mut second = carrier(lab, &server, "second", 72)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    for status in [404, 486, 603] {
        let invite = call::invite(&mut alice, &number(&server, "110")?)?;
        let arrived = first.expect_request("INVITE")?;
        first.reply(&arrived, status, "No")?;
        let answer = alice.expect_status(&invite, status)?;
        alice.send(&call::acknowledge(&invite, &answer))?;
    }
    second.expect_none("an INVITE", SILENCE, |message| message.method() == Some("INVITE"))
}

fn probes(lab: &Lab) -> Result<()> {
    let toml = TWO.replacen("probe = \"off\"", "probe = \"1s\"\nprobe_failures = 2", 1);
    let server = Server::start(lab, &settings(&toml), &["alice"])?;
    let host = lab.host("kamailio", 71)?;
    let mut second = carrier(lab, &server, "second", 72)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    // Nobody is there yet.
    wait_for_state(&server, "a", "down")?;

    let invite = call::invite(&mut alice, &number(&server, "110")?)?;
    let arrived = second.expect_request("INVITE").context("the first gateway is down")?;
    second.reply(&arrived, 486, "Busy Here")?;
    let answer = alice.expect_status(&invite, 486)?;
    alice.send(&call::acknowledge(&invite, &answer))?;

    let kamailio = Kamailio::start(lab, &host, Role::CarrierTo(second.local()))?;
    wait_for_state(&server, "a", "up")?;
    kamailio.stop()?;
    wait_for_state(&server, "a", "down")?;
    let rows = server.json(&["gateways"])?;
    ensure!(rows[0]["reason"] == "no answer", "{rows}");
    Ok(())
}

fn taken_out(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &settings(TWO), &["alice"])?;
    let mut first = carrier(lab, &server, "first", 71)?;
    let mut second = carrier(lab, &server, "second", 72)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut refuse = |at: &mut Phone, status: u16| -> Result<()> {
        let invite = call::invite(&mut alice, &number(&server, "110")?)?;
        let arrived = at.expect_request("INVITE")?;
        at.reply(&arrived, status, "No")?;
        let answer = alice.expect_status(&invite, status)?;
        alice.send(&call::acknowledge(&invite, &answer))
    };

    process::quietly(&mut server.command(&["gateways", "down", "a"]))?;
    ensure!(state(&server, "a")? == "out");
    refuse(&mut second, 486)?;
    first.expect_none("an INVITE", SILENCE, |message| message.method() == Some("INVITE"))?;
    process::quietly(&mut server.command(&["gateways", "up", "a"]))?;
    refuse(&mut first, 486)?;
    let unknown = process::quietly(&mut server.command(&["gateways", "down", "c"]));
    ensure!(unknown.is_err_and(|error| error.to_string().contains("there are a, b")));
    Ok(())
}

fn from_carrier(lab: &Lab) -> Result<()> {
    let toml = r#"
[[gateway]]
name = "carrier"
uri = "sip:203.0.113.71:5060"
sources = ["203.0.113.71"]
probe = "off"

[[route]]
from = ["carrier"]
number = ["+4930123XX"]
strip = 8
prefix = ""
to_user = "{number}@203.0.113.10"

[[route]]
number = ["."]
to = ["carrier"]
"#;
    let server = Server::start(lab, &settings(toml), &["21"])?;
    let mut carrier = carrier(lab, &server, "carrier", 71)?;
    let mut victim = Phone::udp(&lab.host("victim", 99)?, "victim", &server)?;
    let mut phone = Phone::udp(&lab.host("phone", 21)?, "21", &server)?;
    phone.register()?;

    let uri = number(&server, "+49-30-123-21")?;
    let invite = carrier
        .request("INVITE", &uri)
        .with("P-Asserted-Identity", "<sip:+441@carrier.example>")
        .with_body("application/sdp", call::SDP);
    carrier.send(&invite)?;
    let arrived = phone.expect_request("INVITE")?;
    ensure!(arrived.uri() == Some(&*phone.contact()), "{}", arrived.start);
    ensure!(arrived.header("P-Asserted-Identity") == Some("<sip:+441@carrier.example>"), "{arrived:#?}");
    phone.reply(&arrived, 200, "OK")?;
    carrier.expect_status(&invite, 200)?;

    // To our own users, and to nobody else.
    for uri in [number(&server, "0900")?, format!("sip:victim@{}", victim.local())] {
        let invite = carrier.request("INVITE", &uri);
        carrier.send(&invite)?;
        let answer = carrier.expect_status(&invite, 404)?;
        carrier.send(&call::acknowledge(&invite, &answer))?;
    }
    victim.expect_none("the carrier's INVITE", SILENCE, |message| message.method().is_some())
}

fn stranger(lab: &Lab) -> Result<()> {
    let toml = format!(
        "{TWO}\n[[route]]\nnumber = [\"120\"]\ncallers = [\"*@203.0.113.10\"]\nto = [\"a\"]\n\
         [[route]]\nsource = [\"10.0.0.0/8\"]\nto = [\"b\"]\n\
         [admission]\nnever = [\"203.0.113.66\"]\n"
    );
    let server = Server::start(lab, &settings(&toml), &["alice"])?;
    let mut gateways = [carrier(lab, &server, "first", 71)?, carrier(lab, &server, "second", 72)?];
    let mut stranger = Phone::udp(&lab.host("stranger", 66)?, "alice", &server)?;
    stranger.password = "wrong".to_owned();
    let own = server.domain(Family::V4)?;
    for uri in [
        number(&server, "110")?,
        number(&server, "120")?,
        "tel:110".to_owned(),
        "sip:110@203.0.113.71".to_owned(),
        "sip:110@203.0.113.72:5060".to_owned(),
    ] {
        for route in [
            None,
            Some("<sip:203.0.113.71;lr>".to_owned()),
            Some(format!("<sip:{own};lr>, <sip:203.0.113.71;lr>")),
        ] {
            let mut request = stranger.request("INVITE", &uri);
            if let Some(route) = route {
                request = request.with("Route", route);
            }
            for request in [request.clone(), stranger.with_credentials(request)] {
                stranger.send(&request)?;
                let answer = stranger.final_response(&request)?;
                ensure!(answer.status() == Some(407), "{uri} was answered by {}", answer.start);
                stranger.send(&call::acknowledge(&request, &answer))?;
                stranger.remember(&answer)?;
            }
        }
    }
    for gateway in &mut gateways {
        gateway
            .expect_none("a stranger's request", SILENCE, |message: &Message| message.method().is_some())?;
    }
    Ok(())
}

fn state(server: &Server, name: &str) -> Result<String> {
    let rows = server.json(&["gateways"])?;
    let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == name);
    let state = row.and_then(|row| row["state"].as_str()).with_context(|| format!("no {name}: {rows}"))?;
    Ok(state.to_owned())
}

fn wait_for_state(server: &Server, name: &str, wanted: &str) -> Result<()> {
    process::wait_until(&format!("gateway {name} {wanted}"), DECISION_TIME_MAX, || {
        Ok((state(server, name)? == wanted).then_some(()))
    })
}
