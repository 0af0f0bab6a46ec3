//! RFC 3263: which server of another domain a request goes to, and where to next when that one fails.

use std::time::Duration;

use transaction::ClientEvent;
use transport::selection::{Query, Records, SrvRecord};

use super::cancel::cancel_of;
use super::scene::*;
use crate::call::Output;

/// 8·T1 for INVITE.
const PATIENCE: Duration = Duration::from_secs(4);
const FIRST: &str = "198.51.100.1:5061";
const SECOND: &str = "198.51.100.2:5062";

/// RFC 3263 §4: NAPTR, then SRV, then the addresses of the server.
#[test]
fn the_dns_is_asked_for_transport_server_and_address_in_turn() {
    let mut scene = Scene::new();
    let out = scene.send_as_account(ALICE, &call_abroad());

    let (token, query) = asked(&out);
    assert_eq!(query, Query::Naptr("elsewhere.example".into()));
    let (token, query) = asked(&scene.resolved(token, Records::None));
    assert_eq!(query, Query::Srv("_sip._udp.elsewhere.example".into()));
    let (token, query) = asked(&scene.resolved(token, two_servers()));
    assert_eq!(query, Query::Addresses("first.example".into()));
    let left = only_left(&scene.resolved(token, Records::Addresses(vec![[198, 51, 100, 1].into()])));

    assert_eq!(left.to.remote().to_string(), FIRST);
}

/// RFC 2782: which of equal servers is taken is decided by the call, so that its requests stay together.
#[test]
fn calls_are_spread_over_equal_servers_and_each_call_keeps_to_its_own() {
    let mut taken = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..60 {
        let call_id = format!("call-{number}");
        let first = first_server_of(&call_id);
        assert_eq!(first, first_server_of(&call_id), "one call, one server");
        *taken.entry(first).or_default() += 1;
    }

    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken.values().all(|count| *count > 10), "{taken:?}");
}

/// A caller does not wait 64·T1 for each server that is dead.
#[test]
fn a_silent_server_is_passed_over_while_there_is_another() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());

    let out = scene.pass(PATIENCE);
    let second = only_left(&answered_with_second(&mut scene, &out));

    assert_eq!([first.to, second.to].map(|to| to.remote().to_string()), [FIRST, SECOND]);
    assert_eq!(
        scene.counts().iter().find(|(name, _)| *name == "server_passed_over"),
        Some(("server_passed_over", 1))
    );
    let out = scene.pass(PATIENCE);
    assert_eq!(follow(&mut scene, out, Records::None), [], "after the last one nobody comes");
    assert_eq!(scene.pass(Duration::from_secs(40)), [], "so it gets its whole time");
}

#[test]
fn a_server_that_has_answered_is_not_passed_over() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());
    scene.reply(&first, 100, "");

    assert_eq!(scene.pass(Duration::from_secs(60)), []);
}

/// RFC 4320 §4.1: a request that is no INVITE is answered late, and can not be called back.
#[test]
fn a_request_that_is_no_invite_is_waited_for_longer() {
    let mut scene = Scene::new();
    sent_to_first(&mut scene, &request("MESSAGE", "sip:x@elsewhere.example"));

    assert_eq!(scene.pass(PATIENCE * 2 - Duration::from_millis(1)), []);
    let out = scene.pass(Duration::from_millis(1));

    let second = only_left(&answered_with_second(&mut scene, &out));
    assert_eq!(second.to.remote().to_string(), SECOND);
}

/// RFC 3261 §16.7 item 10: a second phone must not go on ringing.
#[test]
fn a_server_that_rings_after_it_was_passed_over_is_cancelled() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());
    let out = scene.pass(PATIENCE);
    answered_with_second(&mut scene, &out);

    let out = scene.reply(&first, 180, "");

    let cancel = only_left(&out);
    assert_eq!(method(&cancel.request), "CANCEL");
    assert_eq!(cancel.to, first.to);
    assert_eq!(statuses(&out), [], "its ringing is not told");
    assert_eq!(scene.reply(&first, 180, ""), [], "it is cancelled once");
    assert_eq!(scene.reply(&first, 487, ""), []);
}

/// RFC 3261 §16.7 item 5: every 2xx to INVITE is passed on.
#[test]
fn a_server_that_accepts_after_it_was_passed_over_has_the_call() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());
    let out = scene.pass(PATIENCE);
    let second = only_left(&answered_with_second(&mut scene, &out));
    scene.reply(&second, 180, "");

    let out = scene.reply(&first, 200, "");

    assert_eq!(statuses(&out), [200]);
    let cancel = only_left(&out);
    assert_eq!((&*method(&cancel.request), cancel.to), ("CANCEL", second.to));
    assert_eq!(statuses(&scene.reply(&first, 200, "")), [200], "and again, until it is acknowledged");
    assert_eq!(scene.user.answered_calls().len(), 1, "it is a call like any other");
}

#[test]
fn a_server_that_was_passed_over_is_waited_for_again_when_all_others_failed() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());
    let out = scene.pass(PATIENCE);
    let second = only_left(&answered_with_second(&mut scene, &out));

    let out = scene.client_event(second.key, ClientEvent::Unreachable);
    assert_eq!(statuses(&follow(&mut scene, out, Records::None)), []);
    let out = scene.reply(&first, 486, "");

    assert_eq!(statuses(&out), [486]);
}

#[test]
fn a_cancel_reaches_the_server_that_was_passed_over_as_soon_as_it_speaks() {
    let mut scene = Scene::new();
    let request = call_abroad();
    let first = sent_to_first(&mut scene, &request);
    let out = scene.pass(PATIENCE);
    let second = only_left(&answered_with_second(&mut scene, &out));
    scene.reply(&second, 180, "");

    let out = scene.receive(ALICE, &cancel_of(&request.again()).text());
    assert_eq!(only_left(&out).to, second.to);
    let late = only_left(&scene.reply(&first, 180, ""));

    assert_eq!((&*method(&late.request), late.to), ("CANCEL", first.to));
}

/// RFC 3263 §4.3: the next call does not pay again for a server that is known to be dead.
#[test]
fn the_next_call_goes_to_the_server_that_lives() {
    let mut scene = Scene::new();
    sent_to_first(&mut scene, &call_abroad());
    let out = scene.pass(PATIENCE);
    answered_with_second(&mut scene, &out);

    assert_eq!(next_call(&mut scene, "later").to.remote().to_string(), SECOND);
    scene.pass(Duration::from_secs(60));
    assert_eq!(next_call(&mut scene, "much-later").to.remote().to_string(), FIRST, "it is tried again");
}

#[test]
fn a_server_that_could_not_be_reached_comes_last_until_it_answers() {
    let mut scene = Scene::new();
    let first = sent_to_first(&mut scene, &call_abroad());
    let out = scene.client_event(first.key, ClientEvent::Unreachable);
    let second = only_left(&answered_with_second(&mut scene, &out));
    // The second one fails, too: of two that failed the order of the DNS decides.
    let out = scene.client_event(second.key, ClientEvent::Unreachable);
    assert_eq!(statuses(&follow(&mut scene, out, Records::None)), [500]);

    let again = next_call(&mut scene, "later");
    assert_eq!(again.to.remote().to_string(), FIRST);
    scene.reply(&again, 100, "");

    assert_eq!(next_call(&mut scene, "after-that").to.remote().to_string(), FIRST);
}

/// RFC 3263 §4.3: a 503 leads on at once; with Retry-After the server is spared for so long.
#[test]
fn a_server_that_is_overloaded_is_left_alone_for_as_long_as_it_says() {
    for (extra, next) in [("Retry-After: 7 (soon)\n", SECOND), ("", FIRST)] {
        let mut scene = Scene::new();
        let first = sent_to_first(&mut scene, &call_abroad());
        let out = scene.reply(&first, 503, extra);
        answered_with_second(&mut scene, &out);

        assert_eq!(next_call(&mut scene, "later").to.remote().to_string(), next, "{extra}");
        scene.pass(Duration::from_secs(7));
        assert_eq!(next_call(&mut scene, "much-later").to.remote().to_string(), FIRST);
    }
}

#[test]
fn a_dns_that_is_silent_costs_a_bounded_time() {
    let mut scene = Scene::new();
    scene.send_as_account(ALICE, &call_abroad());

    assert_eq!(statuses(&scene.pass(Duration::from_secs(8))), [500]);
}

/// The ACK to a 2xx has no transaction, and finds the server of its call all the same.
#[test]
fn an_ack_goes_by_the_dns_too() {
    let mut scene = Scene::new();
    let dialog = call_abroad().to("<sip:x@elsewhere.example>;tag=there");
    let ack = Request { method: "ACK", ..dialog };
    let out = scene.receive(CARRIER, &ack.text());
    let (token, query) = asked(&out);
    assert_eq!(query, Query::Naptr("elsewhere.example".into()));

    let (token, _) = asked(&scene.resolved(token, Records::None));
    let (token, _) = asked(&scene.resolved(token, two_servers()));
    let out = scene.resolved(token, Records::Addresses(vec![[198, 51, 100, 1].into()]));

    let [Output::SendStateless { to, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(to.remote().to_string(), FIRST);
}

fn call_abroad() -> Request {
    invite("sip:x@elsewhere.example")
}

fn asked(out: &[Output]) -> (crate::Token, Query) {
    match out.last() {
        Some(Output::Resolve { token, query }) => (*token, query.clone()),
        _ => panic!("{out:?}"),
    }
}

fn two_servers() -> Records {
    servers(10, 20)
}

fn servers(first: u16, second: u16) -> Records {
    let record =
        |priority, port, target: &str| SrvRecord { priority, weight: 0, port, target: target.into() };
    Records::Srv(vec![record(first, 5061, "first.example"), record(second, 5062, "second.example")])
}

/// Sends a request of Alice's to the first of two servers.
fn sent_to_first(scene: &mut Scene, request: &Request) -> Left {
    let out = scene.send_as_account(ALICE, request);
    only_left(&follow(scene, out, two_servers()))
}

/// The DNS answers until something else is wanted of the edge.
fn follow(scene: &mut Scene, mut out: Vec<Output>, services: Records) -> Vec<Output> {
    while let Some(Output::Resolve { token, query }) = out.last() {
        let records = match query {
            Query::Naptr(_) => Records::None,
            Query::Srv(name) if name.starts_with("_sip._udp.") => services.clone(),
            Query::Srv(_) => Records::None,
            Query::Addresses(name) if &**name == "first.example" => {
                Records::Addresses(vec![[198, 51, 100, 1].into()])
            }
            Query::Addresses(_) => Records::Addresses(vec![[198, 51, 100, 2].into()]),
        };
        out = scene.resolved(*token, records);
    }
    out
}

/// The DNS answers the question for the second server's addresses.
fn answered_with_second(scene: &mut Scene, out: &[Output]) -> Vec<Output> {
    let (token, query) = asked(out);
    assert_eq!(query, Query::Addresses("second.example".into()));
    scene.resolved(token, Records::Addresses(vec![[198, 51, 100, 2].into()]))
}

/// Another call of Alice's, whose server is found.
fn next_call(scene: &mut Scene, name: &str) -> Left {
    let request = Request { call_id: name.to_owned(), ..call_abroad() };
    let request = request.via(&format!("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-{name};rport"));
    sent_to_first(scene, &request)
}

fn first_server_of(call_id: &str) -> String {
    let mut scene = Scene::new();
    let request = Request { call_id: call_id.to_owned(), ..call_abroad() };
    let out = scene.send_as_account(ALICE, &request);
    only_left(&follow(&mut scene, out, servers(10, 10))).to.remote().to_string()
}
