//! What a peer tells of a call under way: it is refused, or it is a call that ends like any other.
//!
//! What must hold: what was read is written as it was read, a node that goes on with it asks and sends a bounded number
//! of things, and nothing is left of the call when its time is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use lease::LeaseMirror;
use routing::call::Output;
use routing::{
    Answer, Keyring, Located, Question, Settings, StoredCall, Target, TransactionUser, TrustedPeer,
};
use sip::{Aor, Message};
use transaction::{ClientEvent, ClientKey, ServerEvent, ServerKey};
use transport::selection::Records;
use transport::{Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport};

/// What one call can bring about, more than its rounds, servers and forwards allow.
const STEPS_MAX: usize = 20_000;

/// When everything begins.
pub(crate) const NOW: Now =
    Now::new(Instant::from_nanos(5_000_000_000), WallTime::from_millis(1_700_000_000_000));

/// Goes on with the call that the bytes are.
pub fn run(data: &[u8]) {
    let Ok(call) = StoredCall::from_bytes(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(
        StoredCall::from_bytes(call.to_bytes()).as_ref(),
        Ok(&call),
        "it is not written as it was read"
    );
    let key = ServerKey::from_u128(1);
    let clients: Vec<ClientKey> = call.clients().collect();
    let mut user = user();
    let mut todo = Vec::new();
    user.restore_call(NOW, Duration::from_secs(1), key, call, &mut todo);
    let mirror = LeaseMirror::permanent();
    let (mut now, mut steps) = (NOW, 0);
    let mut failing = clients.into_iter();
    loop {
        steps += 1;
        assert!(steps < STEPS_MAX, "it does not end");
        let lease = mirror.active(now.instant).expect("it is permanent");
        let mut out = Vec::new();
        match todo.pop() {
            Some(Output::Ask { token, question, .. }) => {
                let answer = answer(question);
                user.handle_answer(now, &lease, token, answer, &mut out);
            }
            Some(Output::Resolve { token, .. }) => {
                let addresses = Records::Addresses(vec![[198, 51, 100, 99].into()]);
                user.handle_resolved(now, &lease, token, addresses, &mut out);
            }
            Some(_) => {}
            None => match (failing.next(), user.poll_timeout()) {
                (Some(client), _) => {
                    user.handle_client_event(now, &lease, client, ClientEvent::Unreachable, &mut out);
                }
                (None, Some(at)) if at < NOW.instant + Duration::from_secs(3_600) => {
                    now = Now::new(now.instant.max(at), now.wall);
                    user.handle_timeout(now, &lease, &mut out);
                }
                (None, _) => break,
            },
        }
        for key in user.calls_under_way() {
            let told = user.stored_call(now, key).expect("it is under way").to_bytes();
            assert!(StoredCall::from_bytes(told).is_ok(), "what was gone on with can not be told again");
        }
        todo.extend(out);
    }
    user.handle_server_event(now, key, ServerEvent::Terminated, &mut todo);
    assert_eq!(user.contexts(), 0, "something is left of it");
}

/// The capsules of true calls, for a start: one that is looked for, one that rings and one that was answered.
pub fn capsules() -> Vec<(&'static str, Vec<u8>)> {
    let mut user = user();
    let keyring = keyring();
    let mirror = LeaseMirror::permanent();
    let lease = mirror.active(NOW.instant).expect("it is permanent");
    let invite = invite();
    let message = Message::parse(&invite).expect("it is whole");
    let key = ServerKey::of(&keyring.transaction, &message).expect("it has all that is needed");
    let told = |user: &TransactionUser| match user.stored_call(NOW, key) {
        Some(call) => call.to_bytes().to_vec(),
        None => unreachable!("the call is under way"),
    };
    let mut out = Vec::new();
    user.handle_request(NOW, &lease, key, source("198.51.100.200:5060"), invite.clone(), &mut out);
    let sought = told(&user);
    let token = out.iter().find_map(|output| match output {
        Output::Ask { token, .. } => Some(*token),
        _ => None,
    });
    let Some(token) = token else { unreachable!("a user of ours is looked for") };
    out.clear();
    let targets = vec![target("sip:bob@10.9.9.9:5060"), target("sip:bob@elsewhere.example")];
    user.handle_answer(NOW, &lease, token, Answer::Located(Located::Targets(targets)), &mut out);
    let rings = told(&user);
    for output in out.clone() {
        let Output::Forward { key: client, request, .. } = output else { continue };
        let request = Message::parse(&request).expect("this server made it");
        for status in [180, 200] {
            let mut response = Vec::new();
            sip::ResponseBuilder::new(&request, sip::Status(status)).to_tag(b"callee").write(&mut response);
            let response = Message::parse(&response).expect("it was just made");
            user.handle_response(NOW, &lease, client, source("198.51.100.7:31000"), &response, &mut out);
        }
    }
    vec![("sought", sought), ("rings", rings), ("answered", told(&user))]
}

/// A carrier's call to a user of ours.
pub(crate) fn invite() -> Bytes {
    Bytes::from_static(
        b"INVITE sip:bob@example.org SIP/2.0\r\n\
          Via: SIP/2.0/UDP 198.51.100.200:5060;branch=z9hG4bKone\r\n\
          Max-Forwards: 70\r\n\
          From: <sip:+49301@carrier.example>;tag=caller\r\n\
          To: <sip:bob@example.org>\r\n\
          Call-ID: one@carrier.example\r\n\
          CSeq: 1 INVITE\r\n\
          Contact: <sip:carrier@198.51.100.200:5060>\r\n\
          Content-Length: 0\r\n\r\n",
    )
}

pub(crate) fn answer(question: Question) -> Answer {
    match question {
        Question::EnterGateway(gateway, call, _) => Answer::AtGateway(gateway, call),
        Question::Locate(_) | Question::Call(_) | Question::LocatePhone(..) | Question::AwaitReturn(..) => {
            Answer::Located(Located::Targets(vec![target("sip:bob@10.9.9.9:5060")]))
        }
        _ => Answer::Noted,
    }
}

pub(crate) fn user() -> TransactionUser {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr(([192, 0, 2, 5], 5060).into()),
        advertise: None,
        digest: true,
    };
    let mut proxy = Settings::default().proxy;
    // What is looked after in the meantime has no part in calls that are under way.
    proxy.long_call_check = Some(Duration::from_secs(3_600));
    let settings = Settings {
        proxy,
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        trusted: vec![TrustedPeer {
            network: "198.51.100.200/32".parse().expect("a network"),
            name: "carrier".to_owned(),
        }],
        ..Settings::default()
    };
    TransactionUser::new(Arc::new(settings), keyring(), 0, 1)
}

pub(crate) fn keyring() -> Keyring {
    Keyring::derive(&keys::RootKey::new([7; 32]))
}

pub(crate) fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().expect("an address"));
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

pub(crate) fn target(contact: &'static str) -> Target {
    Target {
        aor: Aor::parse("bob@example.org").expect("an address of record"),
        contact: Bytes::from_static(contact.as_bytes()),
        path: Vec::new(),
        flow: Some(source("198.51.100.7:31000").flow),
        listener: Some(ListenerId(0)),
        nat: contact.contains("10.9"),
        q: 1_000,
        instance: None,
        reg_id: None,
    }
}
