//! What the server has no part in goes through it whole: 100rel, UPDATE, session timers, REFER, Replaces,
//! subscriptions, PUBLISH, MESSAGE, INFO. Every header field that a proxy has no business with must arrive byte for byte,
//! and requests inside a dialog must find their way in both directions.

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::call::{Dialog, SDP};
use crate::phone::message::Message;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "reliable_provisional_responses_and_updates_pass_whole", run: reliable },
    Scenario { name: "session_timers_pass_whole", run: session_timers },
    Scenario { name: "a_transfer_passes_whole", run: transfer },
    Scenario { name: "a_forked_subscription_brings_the_notify_of_each_phone", run: subscription },
    Scenario { name: "publish_message_and_info_pass_whole", run: others },
];

/// What a proxy adds, removes or changes on the way; everything else has to stay as it was.
const PROXYS_OWN: [&str; 7] =
    ["via", "max-forwards", "max-breadth", "route", "record-route", "proxy-authorization", "content-length"];

struct Street {
    server: Server,
    alice: Phone,
    bob: Phone,
}

/// Two phones that are registered.
fn street(lab: &Lab, users: &[&str]) -> Result<Street> {
    let server = Server::start(lab, &Settings::defaults(), users)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    Ok(Street { server, alice, bob })
}

/// RFC 3262 and RFC 3311.
fn reliable(lab: &Lab) -> Result<()> {
    let Street { server: _server, mut alice, mut bob } = street(lab, &["alice", "bob"])?;
    let request = alice.request("INVITE", &bob.aor()).with_body("application/sdp", SDP);
    let request = request.with("Supported", "100rel,  timer").with("Allow", "INVITE,ACK , PRACK, UPDATE");
    let invite = call::invite_with(&mut alice, request)?;
    let arrived = bob.expect_request("INVITE")?;
    whole(&invite, &arrived)?;
    let progress = answer(&bob, &arrived, 183, "Session  Progress").with("Require", "100rel");
    let progress = progress.with("RSeq", "0988789").with_body("application/sdp", SDP);
    bob.send(&progress)?;
    let progressed = alice.expect_status(&invite, 183)?;
    whole(&progress, &progressed)?;
    let mut early = Dialog::of_caller(&invite, &progressed)?;
    let mut early_of_bob = Dialog::of_callee(&arrived, &progress)?;

    let prack = early.request(&mut alice, "PRACK").with("RAck", format!("0988789 {}", invite.cseq()));
    exchange(&mut alice, &mut bob, &prack)?;
    let update = early_of_bob.request(&mut bob, "UPDATE").with_body("application/sdp", SDP);
    exchange(&mut bob, &mut alice, &update).context("from the phone that is called")?;
    let update = early.request(&mut alice, "UPDATE").with_body("application/sdp", SDP);
    exchange(&mut alice, &mut bob, &update).context("from the caller")?;

    bob.reply(&arrived, 200, "OK")?;
    let accepted = alice.expect_status(&invite, 200)?;
    let ack = Dialog::of_caller(&invite, &accepted)?.ack(&mut alice);
    alice.send(&ack)?;
    bob.expect_request("ACK")?;
    call::hang_up(&mut bob, &mut early_of_bob, &mut alice)
}

/// RFC 4028.
fn session_timers(lab: &Lab) -> Result<()> {
    let Street { server: _server, mut alice, mut bob } = street(lab, &["alice", "bob"])?;
    let request = |alice: &mut Phone, expires: &str, least: &str| {
        let request = alice.request("INVITE", &bob.aor()).with_body("application/sdp", SDP);
        request.with("Supported", "timer").with("Session-Expires", expires).with("Min-SE", least)
    };
    let first = request(&mut alice, "90;refresher=uac", "90");
    let second = request(&mut alice, "1800 ; refresher=uac", "1800");
    let brief = call::invite_with(&mut alice, first)?;
    let arrived = bob.expect_request("INVITE")?;
    whole(&brief, &arrived)?;
    let refusal = answer(&bob, &arrived, 422, "Session Interval Too Small").with("Min-SE", "1800;x=\"y z\"");
    bob.send(&refusal)?;
    let refused = alice.expect_status(&brief, 422)?;
    whole(&refusal, &refused)?;
    alice.send(&call::acknowledge(&brief, &refused))?;
    bob.expect_request("ACK")?;

    let invite = call::invite_with(&mut alice, second)?;
    let arrived = bob.expect_request("INVITE")?;
    whole(&invite, &arrived)?;
    let accept = answer(&bob, &arrived, 200, "OK").with("Require", "timer");
    let accept = accept.with("Session-Expires", "1800;refresher=uac").with_body("application/sdp", SDP);
    bob.send(&accept)?;
    let accepted = alice.expect_status(&invite, 200)?;
    whole(&accept, &accepted)?;
    let mut dialog = Dialog::of_caller(&invite, &accepted)?;
    let ack = dialog.ack(&mut alice);
    alice.send(&ack)?;
    bob.expect_request("ACK")?;
    let refresh = dialog.request(&mut alice, "UPDATE").with("Session-Expires", "1800;refresher=uac");
    exchange(&mut alice, &mut bob, &refresh)?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)
}

/// RFC 3515, RFC 3891 and RFC 3892.
fn transfer(lab: &Lab) -> Result<()> {
    let Street { server, mut alice, mut bob } = street(lab, &["alice", "bob", "carol"])?;
    let mut carol = Phone::udp(&lab.host("carol", 23)?, "carol", &server)?;
    carol.register()?;
    let (mut from_alice, mut from_bob) = call::establish(&mut alice, &mut bob)?;

    let replaces = "call-9%40203.0.113.23%3Bto-tag%3D7743%3Bfrom-tag%3D6472";
    let refer = from_alice.request(&mut alice, "REFER");
    let refer = refer.with("Refer-To", format!("<{}?Replaces={replaces}&X-a=%22b%22>", carol.aor()));
    let refer = refer.with("Referred-By", format!("\"A  l\" <{}>;cid=\"20398823@x\"", alice.aor()));
    exchange_with(&mut alice, &mut bob, &refer, 202)?;
    let trying = from_bob.request(&mut bob, "NOTIFY").with("Event", "refer;id=2");
    let trying = trying.with("Subscription-State", "active;expires=60");
    let trying = trying.with_body("message/sipfrag;version=2.0", "SIP/2.0 100 Trying\r\n");
    exchange(&mut bob, &mut alice, &trying)?;

    let request = bob.request("INVITE", &carol.aor()).with_body("application/sdp", SDP);
    let request = request.with("Replaces", "call-9@203.0.113.23;to-tag=7743;from-tag=6472;early-only");
    let request = request.with("Referred-By", format!("<{}>", alice.aor())).with("Require", "replaces");
    let invite = call::invite_with(&mut bob, request)?;
    let arrived = carol.expect_request("INVITE")?;
    whole(&invite, &arrived)?;
    let accept = carol.reply(&arrived, 200, "OK")?;
    let accepted = bob.expect_status(&invite, 200)?;
    let ack = Dialog::of_caller(&invite, &accepted)?.ack(&mut bob);
    bob.send(&ack)?;
    carol.expect_request("ACK")?;
    let mut from_carol = Dialog::of_callee(&arrived, &accept)?;
    call::hang_up(&mut carol, &mut from_carol, &mut bob)?;
    call::hang_up(&mut bob, &mut from_bob, &mut alice)
}

/// RFC 6665 §4.4.1: each phone that a SUBSCRIBE reaches makes a dialog of its own with its NOTIFY.
fn subscription(lab: &Lab) -> Result<()> {
    let Street { server, mut alice, mut bob } = street(lab, &["alice", "bob"])?;
    let mut second = Phone::udp(&lab.host("bobs-other", 24)?, "bob", &server)?;
    second.register()?;
    let request = alice.request("SUBSCRIBE", &bob.aor()).with("Event", "presence;id=4");
    let request = request.with("Accept", "application/pidf+xml ,  text/plain").with("Expires", "600");
    let subscribe = admitted(&mut alice, &request)?;

    let mut dialogs = Vec::new();
    for phone in [&mut bob, &mut second] {
        let arrived = phone.expect_request("SUBSCRIBE")?;
        whole(&subscribe, &arrived)?;
        let accept = answer(phone, &arrived, 200, "OK").with("Expires", "600");
        phone.send(&accept)?;
        let mut dialog = Dialog::of_callee(&arrived, &accept)?;
        let notify = dialog.request(phone, "NOTIFY").with("Event", "presence;id=4");
        let notify = notify.with("Subscription-State", "active;expires=599");
        let notify = notify.with_body("application/pidf+xml", "<presence> <x/></presence>");
        exchange(phone, &mut alice, &notify).context("a NOTIFY")?;
        dialogs.push(dialog);
    }
    let accepted = alice.expect_status(&subscribe, 200)?;

    let mut dialog = Dialog::of_caller(&subscribe, &accepted)?;
    let refresh = dialog.request(&mut alice, "SUBSCRIBE").with("Event", "presence;id=4").with("Expires", "0");
    exchange(&mut alice, &mut bob, &refresh).context("to the phone whose 200 came first")?;
    for (dialog, phone) in dialogs.iter_mut().zip([&mut bob, &mut second]) {
        let last = dialog.request(phone, "NOTIFY").with("Event", "presence;id=4");
        let last = last.with("Subscription-State", "terminated;reason=timeout");
        exchange(phone, &mut alice, &last).context("the last NOTIFY")?;
    }
    Ok(())
}

/// RFC 3903, RFC 3428 and RFC 6086.
fn others(lab: &Lab) -> Result<()> {
    let Street { server: _server, mut alice, mut bob } = street(lab, &["alice", "bob"])?;
    let publish = alice.request("PUBLISH", &bob.aor()).with("Event", "presence").with("Expires", "3600");
    let publish = publish.with("SIP-If-Match", "dx200xyz").with_body("application/pidf+xml", "<presence/>");
    let publish = admitted(&mut alice, &publish)?;
    let arrived = bob.expect_request("PUBLISH")?;
    whole(&publish, &arrived)?;
    let accept = answer(&bob, &arrived, 200, "OK").with("SIP-ETag", "qwi982ks").with("Expires", "3600");
    bob.send(&accept)?;
    whole(&accept, &alice.expect_status(&publish, 200)?)?;

    let message = alice.request("MESSAGE", &bob.aor()).with("In-Reply-To", "a@b ,c@d");
    let message = alice.with_credentials(message.with("X-Long", "y  ".repeat(200).trim()));
    let message = message.with_body("text/plain;charset=UTF-8", "Grüße, 你好\r\n\r\n  end ");
    exchange(&mut alice, &mut bob, &message)?;

    let (mut from_alice, mut from_bob) = call::establish(&mut alice, &mut bob)?;
    let info = from_bob.request(&mut bob, "INFO").with("Info-Package", "foo;x=1").with("Recv-Info", "");
    exchange(
        &mut bob,
        &mut alice,
        &info.with_body("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"),
    )?;
    call::hang_up(&mut alice, &mut from_alice, &mut bob)
}

/// A request arrives whole, and so does its 200.
fn exchange(sender: &mut Phone, receiver: &mut Phone, request: &Message) -> Result<()> {
    exchange_with(sender, receiver, request, 200)
}

fn exchange_with(sender: &mut Phone, receiver: &mut Phone, request: &Message, status: u16) -> Result<()> {
    sender.send(request)?;
    let method = request.method().unwrap_or_default();
    let arrived = receiver.expect_request(method)?;
    whole(request, &arrived)?;
    let response = answer(receiver, &arrived, status, "As  You  Like").with("X-Also", "a ,b");
    receiver.send(&response)?;
    whole(&response, &sender.expect_status(request, status)?)
}

/// A response with a tag and a Contact, to which the scenario adds what it likes.
fn answer(phone: &Phone, request: &Message, status: u16, reason: &str) -> Message {
    let tag = format!("{}x{}", phone.user, phone.local().port());
    let contact = format!("<{}>", phone.contact());
    Message::response(request, status, reason).with_to_tag(&tag).with("Contact", contact)
}

/// Sends a request and answers the challenge that it gets; gives the one that was let through.
fn admitted(phone: &mut Phone, request: &Message) -> Result<Message> {
    phone.send(request)?;
    let challenge = phone.expect_status(request, 407)?;
    phone.remember(&challenge)?;
    let request = phone.again(request);
    let request = phone.with_credentials(request);
    phone.send(&request)?;
    Ok(request)
}

/// Fails if anything was lost, added, turned around or changed that is no business of a proxy.
fn whole(sent: &Message, arrived: &Message) -> Result<()> {
    let kept = |message: &Message| -> Vec<(String, String)> {
        let is_kept = |(name, _): &&(String, String)| !PROXYS_OWN.contains(&&*name.to_ascii_lowercase());
        message.headers.iter().filter(is_kept).cloned().collect()
    };
    let (before, after) = (kept(sent), kept(arrived));
    ensure!(before == after, "{} changed on the way:\n{before:#?}\n{after:#?}", sent.start);
    ensure!(sent.body == arrived.body, "the body of {} changed: {:?}", sent.start, arrived.body);
    if sent.status().is_some() {
        ensure!(sent.start == arrived.start, "{:?} became {:?}", sent.start, arrived.start);
    }
    Ok(())
}
