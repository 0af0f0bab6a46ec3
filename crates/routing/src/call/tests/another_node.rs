//! What is particular about a call that goes on at another node: what has passed meanwhile, what is not there, and
//! bytes that are no call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sip::Aor;
use transaction::{ClientKey, ServerKey};
use transport::Listeners;
use transport::selection::Query;

use super::scene::*;
use crate::account::Unreadable;
use crate::call::{Output, StoredCall};
use crate::dial_plan::Goal;
use crate::dial_plan::samples::{gateway, route};
use crate::{
    Account, Answer, Authenticated, CallRules, Count, ForwardTarget, Forwards, Gateway, Located, Question,
    Settings, Target, Token,
};

const CARRIERS: [&str; 2] = ["198.51.100.71:5060", "198.51.100.72:5060"];

#[test]
fn a_phone_that_rang_on_the_other_node_rings_as_long_as_before() {
    let mut here = Scene::new();
    let phone = ringing(&mut here);
    here.pass(Duration::from_secs(50));
    let (key, capsule) = only_capsule(&here);
    let mut there = Scene::new();

    // It was told 20 seconds ago.
    assert_eq!(taken_over(&mut there, Duration::from_secs(20), key, capsule), []);

    assert_eq!(there.pass(Duration::from_millis(49_999)), []);
    let cancel = only_left(&there.pass(Duration::from_millis(1)));
    assert_eq!((method(&cancel.request), cancel.to), ("CANCEL".to_owned(), phone.to));
    assert_eq!(statuses(&there.reply(&phone, 487, "")), [408]);
}

#[test]
fn what_ran_out_meanwhile_is_done_at_once() {
    let mut here = Scene::new();
    ringing(&mut here);
    let (key, capsule) = only_capsule(&here);
    let mut there = Scene::new();

    assert_eq!(taken_over(&mut there, Duration::from_secs(500), key, capsule), []);

    assert_eq!(there.user.poll_timeout(), Some(there.now.instant));
    assert_eq!(method(&only_left(&there.pass(Duration::ZERO)).request), "CANCEL");
}

#[test]
fn a_call_with_a_relay_rule_that_only_the_other_node_knows_goes_on() {
    let mut here = Scene::new();
    ringing(&mut here);
    let (key, capsule) = only_capsule(&here);
    // The request once more: what stands in its field 10, the rule, counts.
    let capsule = [&capsule[..], &[0x0a, 2, 0x50, 77]].concat();
    let mut there = Scene::new();

    taken_over(&mut there, Duration::ZERO, key, capsule.into());

    assert_eq!(there.user.contexts(), 1);
}

/// The partitions of this node have counted nothing so far; the end of the call is told as if it had begun here.
#[test]
fn a_call_counts_for_its_account_here_until_somebody_hangs_up() {
    let mut here = Scene::new();
    let (phone, account, name) = counted(&mut here);
    here.reply(&phone, 200, "");
    let (key, capsule) = only_capsule(&here);
    let mut there = Scene::new();

    let out = taken_over(&mut there, Duration::ZERO, key, capsule);

    let (_, question) = only_ask(&out);
    assert_eq!(question, Question::CallGoesOn(account.clone(), name));
    assert_eq!(there.user.calls(), 1);
    let route = format!("Route: {}", values(&phone.request, sip::Name::RecordRoute).join(", "));
    let bye = request("BYE", "sip:bob@192.0.2.102:5060").to("<sip:bob@example.org>;tag=callee-tag");
    let out = there.receive(ALICE, &bye.header(&route).text());
    let told = out.iter().any(|output| {
        matches!(output, Output::Ask { question: Question::CallEnded(of, call), .. }
            if *of == account && *call == name)
    });
    assert!(told || ended_after_locate(&mut there, &out, &account), "{out:?}");
    assert_eq!(there.user.calls(), 0);
}

#[test]
fn a_call_has_its_place_at_a_gateway_here_too_however_many_others_there_are() {
    let (mut here, phone) = at_first_gateway();
    here.reply(&phone, 183, "");
    let (key, capsule) = only_capsule(&here);
    let mut there = Scene::with(with_gateways);

    let out = taken_over(&mut there, Duration::ZERO, key, capsule);

    let (token, question) = only_ask(&out);
    let Question::EnterGateway(gateway, call, u32::MAX) = question else { panic!("{question:?}") };
    assert_eq!(there.answer(token, Answer::AtGateway(gateway.clone(), call)), []);
    assert_eq!(there.counts().of(Count::UnknownToken), 0);
    let out = there.reply(&phone, 486, "");
    assert_eq!(statuses(&out), [486]);
    assert!(out.iter().any(|output| {
        matches!(output, Output::Ask { question: Question::LeaveGateway(of, _), .. } if *of == gateway)
    }));
}

/// A request that has left is waited for; only what would have come after it is not there.
#[test]
fn a_gateway_that_is_not_configured_here_may_still_answer() {
    for status in [200, 503] {
        let (here, phone) = at_first_gateway();
        let (key, capsule) = only_capsule(&here);
        let mut there = Scene::new();
        taken_over(&mut there, Duration::ZERO, key, capsule);

        let out = there.reply(&phone, status, "");

        let told = if status == 503 { 500 } else { status };
        assert_eq!((statuses(&out), left(&out).len()), (vec![told], 0));
    }
}

#[test]
fn a_branch_whose_listener_is_gone_has_failed() {
    let mut here = Scene::new();
    let targets = vec![target("sip:bob@192.0.2.102:5060", INSIDE, BOB), carol()];
    let out = here.call_as_account(ALICE, &invite("sip:bob@example.org"), targets);
    let [_, carol] = &left(&out)[..] else { panic!("{out:?}") };
    here.reply(carol, 180, "");
    let (key, capsule) = only_capsule(&here);
    let mut there = Scene::with(|settings| without_listener(settings, INSIDE));

    assert_eq!(taken_over(&mut there, Duration::ZERO, key, capsule), []);

    assert_eq!(statuses(&there.reply(carol, 486, "")), [486]);
}

#[test]
fn a_caller_whose_listener_is_gone_is_answered_by_another_one() {
    let mut here = Scene::new();
    let source = udp(OPEN, "10.1.0.77:5060");
    let out = here.receive_by(source, &invite("sip:bob@example.org").text());
    let (token, _) = only_ask(&out);
    let phone = only_left(&here.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    let (key, capsule) = only_capsule(&here);

    let mut there = Scene::with(|settings| without_listener(settings, OPEN));
    taken_over(&mut there, Duration::ZERO, key, capsule.clone());
    assert_eq!(statuses(&there.reply(&phone, 180, "")), [180]);

    let mut nowhere = Scene::with(|settings| settings.listeners = Arc::new(Listeners::new(Vec::new())));
    let out = taken_over(&mut nowhere, Duration::ZERO, key, capsule);
    assert!(matches!(&out[..], [Output::Record(..)]), "what is left of it: {out:?}");
    assert_eq!((nowhere.user.contexts(), nowhere.counts().of(Count::NotTakenOver)), (0, 1));
    let mut named = Vec::new();
    nowhere.user.take_changed_calls(&mut named);
    assert_eq!(named, [key], "its capsule is to go");
}

#[test]
fn a_call_that_is_under_way_here_stays_as_it_is() {
    let mut scene = Scene::new();
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    let (key, capsule) = only_capsule(&scene);
    scene.reply(&phone, 180, "");
    let (_, ringing) = only_capsule(&scene);

    assert_eq!(taken_over(&mut scene, Duration::ZERO, key, capsule), []);

    assert_eq!(only_capsule(&scene), (key, ringing));
}

#[test]
fn a_stranger_and_what_is_no_call_have_no_capsule() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refused = scene.receive(STRANGER, &request.text());
    let with = request.clone().header(&credentials(&request, &only_response(&refused)));
    let (token, _) = only_ask(&scene.receive(STRANGER, &with.again().text()));
    assert_eq!(scene.user.calls_under_way().count(), 0, "its password is being checked");
    scene.answer(token, Answer::Authenticated(Authenticated::No));
    scene.call_as_account(ALICE, &super::scene::request("MESSAGE", "sip:bob@example.org"), vec![bob()]);

    assert_eq!((scene.user.contexts(), scene.user.calls_under_way().count()), (1, 0));
}

#[test]
fn the_client_transactions_of_a_call_are_those_of_its_branches_and_of_their_cancels() {
    let mut scene = Scene::new();
    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), carol()]);
    let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
    scene.reply(carol, 180, "");
    let cancel = only_left(&scene.reply(bob, 200, ""));

    let clients: [ClientKey; 3] = only_call(&scene).clients().collect::<Vec<_>>().try_into().unwrap();

    let call = only_call(&scene);
    assert_eq!(clients, [bob.key, carol.key, cancel.key]);
    assert_eq!(call.call_id(), b"call-1@192.0.2.101");
    let requests = clients.map(|client| call.request_of(client));
    assert_eq!(requests, [None, Some(carol.request.clone()), None], "only one is under way");
}

/// Whoever keeps the client transactions is not to look for one that is gone.
#[test]
fn a_client_transaction_that_has_ended_is_a_change_of_its_call() {
    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.reply(&phone, 200, "");
    scene.user.take_changed_calls(&mut Vec::new());

    scene.client_event(phone.key, transaction::ClientEvent::Terminated);

    assert_eq!(only_call(&scene).clients().count(), 0);
}

/// The 100 has left, so that the other node was told of the call.
#[test]
fn a_call_whose_transaction_ends_while_somebody_is_looked_for_is_named() {
    let mut scene = Scene::new();
    admitted(&mut scene);
    let (key, _) = only_capsule(&scene);

    scene.server_ended(key);

    assert_eq!(scene.user.calls_under_way().count(), 0);
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    let mut scene = Scene::new();
    ringing(&mut scene);
    let mut bytes = only_capsule(&scene).1.to_vec();
    // Field 60, a text.
    bytes.extend_from_slice(&[0xe2, 0x03, 3, b'n', b'e', b'w']);

    assert!(StoredCall::from_bytes(bytes.into()).is_ok());
}

#[test]
fn bytes_that_are_no_call_are_refused() {
    assert_eq!(StoredCall::from_bytes(Bytes::new()), Err(Unreadable::Malformed));
    assert_eq!(StoredCall::from_bytes(vec![0x0a; 1 << 20].into()), Err(Unreadable::Malformed));
    for (_, capsule) in calls() {
        let is_read = |length| StoredCall::from_bytes(capsule.slice(..length)).is_ok();
        assert!(is_read(capsule.len()));
        // Where a field ends the rest may be absent.
        assert!((0..capsule.len()).filter(|length| is_read(*length)).count() < 8);
    }
}

/// The links between nodes keep a capsule far below their limit, and their memory with 10,000 calls.
#[test]
fn a_capsule_is_smaller_than_the_messages_in_it() {
    let body =
        format!("v=0\no=- 1 1 IN IP4 192.0.2.101\ns=-\nc=IN IP4 192.0.2.101\n{}", "a=x:1\n".repeat(50));
    let request = Request { body, ..invite("sip:bob@example.org") }
        .header("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY, REFER")
        .header("Supported: timer, replaces, 100rel")
        .header("User-Agent: Phone/1.0")
        .header("Content-Type: application/sdp");
    let sizes = |targets: Vec<Target>| {
        let mut scene = Scene::new();
        let messages: usize = left(&scene.call_as_account(ALICE, &request, targets))
            .iter()
            .map(|left| left.request.len())
            .sum();
        (messages + request.text().len(), only_capsule(&scene).1.len())
    };
    let dave = target("sip:dave@192.0.2.104:5060", UDP, "192.0.2.104:5060");

    for (messages, capsule) in [sizes(vec![bob()]), sizes(vec![bob(), carol(), dave])] {
        println!("{capsule} bytes with {messages} bytes of messages");
        assert!(capsule < messages, "{capsule} {messages}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = StoredCall::from_bytes(bytes.into());
    }

    /// What can be read behaves like a call, whatever it is.
    #[test]
    fn changed_bytes_are_refused_or_are_a_call(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (place, (key, capsule)) in calls().into_iter().enumerate() {
            let mut bytes = capsule.to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(call) = StoredCall::from_bytes(bytes.into()) {
                play(place, key, call);
            }
        }
    }
}

/// Every byte of every kind of call, with its lowest and its highest bit turned.
#[test]
fn turned_bits_are_refused_or_are_a_call() {
    let mut read = 0;
    for (place, (key, capsule)) in calls().into_iter().enumerate() {
        for at in 0..capsule.len() {
            let mut bytes = capsule.to_vec();
            bytes[at] ^= if at % 2 == 0 { 0x01 } else { 0x80 };
            if let Ok(call) = StoredCall::from_bytes(bytes.into()) {
                // Most of them differ in a text only.
                if at % 5 == 0 {
                    play(place, key, call);
                }
                read += 1;
            }
        }
    }
    assert!(read > 100, "{read}");
}

/// Lets happen to a call what can happen, on a fresh node.
fn play(place: usize, key: ServerKey, call: StoredCall) {
    let mut scene = if place.is_multiple_of(2) { Scene::with(with_gateways) } else { Scene::new() };
    let clients: Vec<ClientKey> = call.clients().collect();
    let mut out = Vec::new();
    scene.user.restore_call(scene.now, Duration::from_secs(1), key, call, &mut out);
    for output in out {
        match output {
            Output::Ask { token, question: Question::EnterGateway(gateway, call, _), .. } => {
                scene.answer(token, Answer::AtGateway(gateway, call));
            }
            Output::Ask { token, .. } => {
                scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));
            }
            Output::Resolve { token, .. } => {
                let address = [198, 51, 100, 99].into();
                scene.resolved(token, transport::selection::Records::Addresses(vec![address]));
            }
            _ => {}
        }
    }
    for client in &clients {
        scene.client_event(*client, transaction::ClientEvent::Unreachable);
    }
    for key in scene.user.calls_under_way().collect::<Vec<_>>() {
        let told = scene.user.stored_call(scene.now, key).map(|call| call.to_bytes());
        assert!(told.is_some_and(|bytes| StoredCall::from_bytes(bytes).is_ok()), "it can be told again");
    }
    scene.pass(Duration::from_secs(400));
    scene.server_ended(key);
    assert_eq!(scene.user.contexts(), 0);
}

/// Calls of all kinds, with their capsules. Every other one knows gateways.
fn calls() -> Vec<(ServerKey, Bytes)> {
    let forwards = Forwards {
        no_answer: ForwardTarget::parse("mail@example.org", "example.org"),
        busy: ForwardTarget::parse("sip:mail@203.0.113.5:5080", "example.org"),
        ..Forwards::default()
    };
    let at_gateway = at_first_gateway().0;

    let mut fork = Scene::new();
    let twin = |number: u32| Target { reg_id: Some(number), instance: Some("<urn:x>".into()), ..bob() };
    let targets = vec![twin(1), twin(2), carol(), Target { q: 500, ..bob() }];
    let (token, _, _) = admitted(&mut fork);
    let account = ruled(forwards.clone());
    let out = fork.answer(token, Answer::Located(Located::Ruled(targets, account)));
    let [first, carol] = &left(&out)[..] else { panic!("{out:?}") };
    fork.reply(first, 183, "");
    fork.reply(carol, 407, "Proxy-Authenticate: Digest realm=\"there\", nonce=\"n\"");

    let mut answered = Scene::new();
    let out =
        answered.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), super::scene::carol()]);
    let [one, other] = &left(&out)[..] else { panic!("{out:?}") };
    answered.reply(other, 180, "");
    answered.reply(one, 200, "");

    let mut abroad = Scene::new();
    let out = abroad.send_as_account(ALICE, &invite("sip:x@elsewhere.example"));
    let Some(Output::Resolve { token, query: Query::Naptr(_) }) = out.last() else { panic!("{out:?}") };
    abroad.resolved(*token, transport::selection::Records::None);

    let mut diverted = Scene::new();
    let (token, _, _) = admitted(&mut diverted);
    let located = Located::Ruled(vec![bob()], ruled(forwards));
    let phone = only_left(&diverted.answer(token, Answer::Located(located)));
    diverted.reply(&phone, 180, "");
    only_ask(&diverted.pass(Duration::from_secs(30)));

    let mut sought = Scene::new();
    admitted(&mut sought);

    [at_gateway, fork, answered, abroad, diverted, sought].iter().map(only_capsule).collect()
}

fn taken_over(there: &mut Scene, since: Duration, key: ServerKey, capsule: Bytes) -> Vec<Output> {
    let call = StoredCall::from_bytes(capsule).unwrap();
    let mut out = Vec::new();
    there.user.restore_call(there.now, since, key, call, &mut out);
    out
}

fn only_call(scene: &Scene) -> StoredCall {
    let keys: Vec<ServerKey> = scene.user.calls_under_way().collect();
    let [key] = keys[..] else { panic!("{keys:?}") };
    scene.user.stored_call(scene.now, key).unwrap()
}

fn only_capsule(scene: &Scene) -> (ServerKey, Bytes) {
    let bytes = only_call(scene).to_bytes();
    (scene.user.calls_under_way().next().unwrap(), bytes)
}

/// A phone of Bob's that rings.
fn ringing(scene: &mut Scene) -> Left {
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&phone, 180, "");
    phone
}

/// A call that counts for Alice's account while Bob is looked for.
fn admitted(scene: &mut Scene) -> (Token, Aor, crate::CallName) {
    let request = invite("sip:bob@example.org");
    let refused = scene.receive(ALICE, &request.text());
    let with = request.clone().header(&credentials(&request, &only_response(&refused)));
    let (token, question) = only_ask(&scene.receive(ALICE, &with.again().text()));
    let Question::Authenticate(question) = question else { panic!("{question:?}") };
    let (account, call) = (question.account.clone(), question.call.unwrap());
    let verdict = Box::new(Authenticated::Yes);
    let counted = Authenticated::Counted { verdict, account: account.clone(), call };
    let (token, _) = only_ask(&scene.answer(token, Answer::Authenticated(counted)));
    (token, account, call)
}

fn counted(scene: &mut Scene) -> (Left, Aor, crate::CallName) {
    let (token, account, name) = admitted(scene);
    let phone = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    (phone, account, name)
}

/// A call to a gateway with a limit, with another one behind it.
fn at_first_gateway() -> (Scene, Left) {
    let mut scene = Scene::with(with_gateways);
    let out = scene.send_as_account(ALICE, &invite("sip:110@example.org"));
    let (token, _) = only_ask(&out);
    let (token, question) = only_ask(&scene.answer(token, Answer::Located(Located::UnknownAor)));
    let Question::EnterGateway(gateway, call, _) = question else { panic!("{question:?}") };
    let phone = only_left(&scene.answer(token, Answer::AtGateway(gateway, call)));
    (scene, phone)
}

fn with_gateways(settings: &mut Settings) {
    let at = |name: &str, address: &str| {
        Arc::new(Gateway { uri: format!("sip:{address}").into(), calls_max: Some(1), ..gateway(name) })
    };
    let gateways = vec![at("a", CARRIERS[0]), at("b", CARRIERS[1])];
    let lists = gateways.iter().map(|gateway| vec![Arc::clone(gateway)]).collect();
    settings.dial_plan.routes = vec![Arc::new(route("out", &["110"], Goal::Gateways(lists)))];
    settings.dial_plan.gateways = gateways;
}

fn without_listener(settings: &mut Settings, gone: transport::ListenerId) {
    let others = settings.listeners.iter().filter(|listener| listener.id != gone).cloned();
    settings.listeners = Arc::new(Listeners::new(others.collect()));
}

fn ruled(forwards: Forwards) -> Arc<Account> {
    Arc::new(Account {
        aor: Aor::parse("bob@example.org").unwrap(),
        ha1: Vec::new(),
        aliases: Vec::new(),
        may_use: Vec::new(),
        calls: CallRules { forwards, ..CallRules::default() },
    })
}

/// A BYE whose other side is looked for passes when that is found.
fn ended_after_locate(scene: &mut Scene, out: &[Output], account: &Aor) -> bool {
    let Some(token) = out.iter().find_map(|output| match output {
        Output::Ask { token, question: Question::Locate(_), .. } => Some(*token),
        _ => None,
    }) else {
        return false;
    };
    let out = scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));
    out.iter().any(
        |output| matches!(output, Output::Ask { question: Question::CallEnded(of, _), .. } if of == account),
    )
}
