//! Calls to other domains: their DNS says which server, and the next one is tried when that fails (RFC 3263).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::dns::Dns;
use crate::lab::{Host, Lab};
use crate::phone::message::Message;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_call_finds_its_server_by_naptr_srv_and_address", run: by_naptr },
    Scenario { name: "weights_spread_calls_over_servers", run: weights },
    Scenario { name: "a_server_that_is_silent_is_passed_over_once", run: silent_server },
    Scenario { name: "a_server_whose_host_refuses_is_left_at_once", run: refusing_server },
    Scenario { name: "a_phone_whose_program_has_ended_is_480_at_once", run: ended_phone },
    Scenario { name: "a_domain_that_does_not_exist_is_404", run: no_such_domain },
    Scenario { name: "a_silent_dns_ends_a_call_and_holds_up_no_other", run: silent_dns },
];

/// The domain that is elsewhere.
const DOMAIN: &str = "elsewhere.example";
/// Half of 64·T1: what takes so long was not passed over.
const LONG: Duration = Duration::from_secs(16);

/// What is there before the DNS is: it must know the ports of the domain's servers.
struct Elsewhere {
    first: (Host, Phone),
    second: (Host, Phone),
}

impl Elsewhere {
    /// Two servers, which speak UDP and answer what the scenario says.
    fn new(lab: &Lab, server: &Server) -> Result<Elsewhere> {
        let phone = |name, number| {
            let host = lab.host(name, number)?;
            let phone = Phone::udp(&host, "zoe", server)?;
            anyhow::Ok((host, phone))
        };
        Ok(Elsewhere { first: phone("first", 71)?, second: phone("second", 72)? })
    }

    /// The records of both servers below this name of a service, with their priorities and weights.
    fn records(&self, service: &str, first: (u16, u16), second: (u16, u16)) -> Vec<String> {
        let of = |name: &str, (host, phone): &(Host, Phone), (priority, weight): (u16, u16)| {
            let (target, port) = (format!("{name}.{DOMAIN}"), phone.local().port());
            vec![
                format!("srv-host={service},{target},{port},{priority},{weight}"),
                format!("host-record={target},{}", host.v4),
            ]
        };
        [of("first", &self.first, first), of("second", &self.second, second)].concat()
    }
}

fn by_naptr(lab: &Lab) -> Result<()> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    server.add_account("alice")?;
    let elsewhere = Elsewhere::new(lab, &server)?;
    // No other way than by NAPTR leads to this service.
    let service = format!("_sip._udp.pool.{DOMAIN}");
    let mut records = elsewhere.records(&service, (20, 0), (10, 0));
    records.push(format!("naptr-record={DOMAIN},10,10,s,SIPS+D2T,,_sips._tcp.{DOMAIN}"));
    records.push(format!("naptr-record={DOMAIN},20,10,s,SIP+D2U,,{service}"));
    let dns = Dns::start(lab, &records)?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let (_, mut zoe) = elsewhere.second;

    let invite = call::invite(&mut alice, &format!("sip:zoe@{DOMAIN}"))?;
    let arrived = zoe.expect_request("INVITE").context("at the server of the lower priority number")?;
    let answer = zoe.reply(&arrived, 200, "OK")?;
    let answered = alice.expect_status(&invite, 200)?;
    let mut from_alice = call::Dialog::of_caller(&invite, &answered)?;
    let mut from_zoe = call::Dialog::of_callee(&arrived, &answer)?;
    let ack = from_alice.ack(&mut alice);
    alice.send(&ack)?;
    zoe.expect_request("ACK")?;
    let info = from_alice.request(&mut alice, "INFO");
    alice.send(&info)?;
    let arrived = zoe.expect_request("INFO")?;
    zoe.reply(&arrived, 200, "OK")?;
    alice.expect_status(&info, 200)?;

    ensure!(arrived.uri().is_some_and(|uri| uri.contains("zoe@")), "the target is not the Contact");
    ensure!(dns.log().contains("NAPTR"), "nobody asked for NAPTR: {}", dns.log());
    call::hang_up(&mut zoe, &mut from_zoe, &mut alice)
}

fn weights(lab: &Lab) -> Result<()> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    server.add_account("alice")?;
    let elsewhere = Elsewhere::new(lab, &server)?;
    let _dns = Dns::start(lab, &elsewhere.records(&format!("_sip._udp.{DOMAIN}"), (1, 50), (1, 50)))?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    answer_always(elsewhere.first.1, "first");
    answer_always(elsewhere.second.1, "second");

    let mut taken = BTreeMap::<String, usize>::new();
    for _ in 0..24 {
        let answer = message_abroad(&mut alice)?;
        let by = answer.header("X-Server").context("an answer of nobody")?.to_owned();
        *taken.entry(by).or_default() += 1;
    }
    ensure!(taken.len() == 2, "one server got all: {taken:?}");
    Ok(())
}

fn silent_server(lab: &Lab) -> Result<()> {
    // One thread: what it learns of a server counts for the next call too.
    let settings = Settings { toml: "threads = 1\n".to_owned(), ..Settings::defaults() };
    let mut server = Server::prepare(lab, &settings)?;
    server.add_account("alice")?;
    let elsewhere = Elsewhere::new(lab, &server)?;
    let _dns = Dns::start(lab, &elsewhere.records(&format!("_sip._udp.{DOMAIN}"), (10, 0), (20, 0)))?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let ((_, mut silent), (_, mut lives)) = (elsewhere.first, elsewhere.second);

    let start = Instant::now();
    let first = call::invite(&mut alice, &format!("sip:zoe@{DOMAIN}"))?;
    let arrived = silent.expect_request("INVITE").context("at the server of the lower priority number")?;
    ensure!(arrived.call_id() == first.call_id(), "another call arrived");
    answer_busy(&mut alice, &mut lives, &first).context("the call that passes over the silent server")?;
    ensure!(start.elapsed() < LONG, "the caller waited for the whole time of a transaction");

    let second = call::invite(&mut alice, &format!("sip:zoe@{DOMAIN}"))?;
    answer_busy(&mut alice, &mut lives, &second).context("the call that goes to the other at once")?;
    silent.expect_none("the second call", Duration::from_millis(300), |message| {
        message.call_id() == second.call_id()
    })
}

/// The host of the first server answers by ICMP that nobody has the port.
fn refusing_server(lab: &Lab) -> Result<()> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    server.add_account("alice")?;
    let elsewhere = Elsewhere::new(lab, &server)?;
    let _dns = Dns::start(lab, &elsewhere.records(&format!("_sip._udp.{DOMAIN}"), (10, 0), (20, 0)))?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let ((_, ended), (_, mut lives)) = (elsewhere.first, elsewhere.second);
    drop(ended);

    let invite = call::invite(&mut alice, &format!("sip:zoe@{DOMAIN}"))?;
    answer_busy(&mut alice, &mut lives, &invite)?;

    let counters = &server.json(&["status"])?["counters"];
    let passed_over = counters["server_passed_over"].as_u64();
    ensure!(passed_over == Some(0), "it was waited for: {counters}");
    Ok(())
}

fn ended_phone(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    bob.register()?;
    let aor = bob.aor();
    drop(bob);

    // A phone's patience is much shorter than 64·T1.
    let invite = call::invite(&mut alice, &aor)?;
    let answer = alice.expect_status(&invite, 480)?;
    alice.send(&call::acknowledge(&invite, &answer))
}

fn no_such_domain(lab: &Lab) -> Result<()> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    server.add_account("alice")?;
    let _dns = Dns::start(lab, &[])?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;

    let invite = call::invite(&mut alice, "sip:zoe@nowhere.example")?;
    let answer = alice.expect_status(&invite, 404)?;
    alice.send(&call::acknowledge(&invite, &answer))
}

fn silent_dns(lab: &Lab) -> Result<()> {
    let mut server = Server::prepare(lab, &Settings::defaults())?;
    for user in ["alice", "bob", "carol"] {
        server.add_account(user)?;
    }
    let elsewhere = Elsewhere::new(lab, &server)?;
    let dns = Dns::start(lab, &elsewhere.records(&format!("_sip._udp.{DOMAIN}"), (10, 0), (20, 0)))?;
    server.start_again()?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    let mut carol = Phone::udp(&lab.host("carol", 23)?, "carol", &server)?;
    bob.register()?;
    dns.fall_silent()?;

    let abroad = call::invite(&mut alice, &format!("sip:zoe@{DOMAIN}"))?;
    alice.expect_status(&abroad, 100)?;
    let (mut from_carol, _) = call::establish(&mut carol, &mut bob).context("while the DNS is silent")?;
    call::hang_up(&mut carol, &mut from_carol, &mut bob)?;

    let answer = wait_long(&mut alice, &abroad)?;
    ensure!(answer.status() == Some(500), "{} where the DNS was silent", answer.start);
    alice.send(&call::acknowledge(&abroad, &answer))?;
    dns.wake()
}

/// The server of another domain is busy, and the caller hears of it.
fn answer_busy(caller: &mut Phone, callee: &mut Phone, invite: &Message) -> Result<()> {
    let arrived = callee.wait("INVITE", |message| {
        message.method() == Some("INVITE") && message.call_id() == invite.call_id()
    })?;
    callee.reply(&arrived, 486, "Busy Here")?;
    let answer = caller.expect_status(invite, 486)?;
    caller.send(&call::acknowledge(invite, &answer))?;
    callee.expect_request("ACK").map(drop)
}

/// The final response to a request that may take longer than a phone waits otherwise.
fn wait_long(phone: &mut Phone, request: &Message) -> Result<Message> {
    phone.final_response(request).or_else(|_| phone.final_response(request))
}

/// Sends a MESSAGE, with credentials once they are asked for; gives its final response.
fn message_abroad(phone: &mut Phone) -> Result<Message> {
    let request = phone.request("MESSAGE", &format!("sip:zoe@{DOMAIN}"));
    let request = phone.with_credentials(request);
    phone.send(&request)?;
    let answer = phone.final_response(&request)?;
    if answer.status() != Some(407) {
        return Ok(answer);
    }
    phone.remember(&answer)?;
    let request = phone.again(&request);
    let request = phone.with_credentials(request);
    phone.send(&request)?;
    phone.final_response(&request)
}

/// A server that accepts every MESSAGE and says who it is, for as long as the scenario lasts.
fn answer_always(mut phone: Phone, name: &'static str) {
    std::thread::spawn(move || {
        loop {
            if let Ok(request) = phone.expect_request("MESSAGE") {
                let response =
                    Message::response(&request, 200, "OK").with_to_tag(name).with("X-Server", name);
                // A scenario that has failed meanwhile says so itself.
                let _ = phone.send(&response);
            }
        }
    });
}
