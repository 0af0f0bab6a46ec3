//! What a peer tells of a call that is up: it is refused, or it is a call that is looked after and ends like any other.
//!
//! What must hold: what was read is written as it was read, the node that goes on with it sends a bounded number of
//! requests, whatever comes of them, and nothing is left of the call when its time is over.

use std::time::Duration;

use bytes::Bytes;
use clock::Now;
use lease::LeaseMirror;
use routing::call::Output;
use routing::{Answer, Located, StoredDialog, TransactionUser};
use sip::Message;
use transaction::{ClientEvent, ServerEvent, ServerKey};
use transport::selection::Records;

use crate::call_capsule::{self, NOW};

/// What one call can bring about in [`WATCHED`]: each side of its dialogs is asked each hour, by a few tries.
const STEPS_MAX: usize = 50_000;
/// So long it is played as it comes. Then the clock jumps to where no call can be left.
const WATCHED: Duration = Duration::from_secs(24 * 3_600);
const END: Duration = Duration::from_secs(367 * 24 * 3_600);

/// Goes on with the call that the bytes are.
pub fn run(data: &[u8]) {
    let Ok(stored) = StoredDialog::from_bytes(Bytes::copy_from_slice(data)) else { return };
    assert_eq!(
        StoredDialog::from_bytes(stored.to_bytes()).as_ref(),
        Ok(&stored),
        "it is not written as it was read"
    );
    let Some(name) = stored.name(&call_capsule::keyring()) else { return };
    for answering in [Answering::Nobody, Answering::Unknown, Answering::Present] {
        let mut user = call_capsule::user();
        if !user.inherit_dialog(NOW, name, &stored) {
            return;
        }
        let told = user.stored_dialog(NOW, name).expect("it was just taken").to_bytes();
        assert!(StoredDialog::from_bytes(told).is_ok(), "what was taken can not be told again");
        play(&mut user, answering);
        assert_eq!((user.calls(), user.contexts()), (0, 0), "something is left of it");
    }
}

/// What the phones say when they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answering {
    Nobody,
    Unknown,
    Present,
}

fn play(user: &mut TransactionUser, answering: Answering) {
    let mirror = LeaseMirror::permanent();
    let (mut now, mut todo) = (NOW, Vec::new());
    for _ in 0..STEPS_MAX {
        let lease = mirror.active(now.instant).expect("it is permanent");
        let mut out = Vec::new();
        match todo.pop() {
            Some(Output::Ask { token, question, .. }) => {
                let answer = call_capsule::answer(question);
                user.handle_answer(now, &lease, token, answer, &mut out);
            }
            Some(Output::Resolve { token, .. }) => {
                let addresses = Records::Addresses(vec![[198, 51, 100, 99].into()]);
                user.handle_resolved(now, &lease, token, addresses, &mut out);
            }
            Some(Output::Forward { key, request, .. }) => match answering {
                Answering::Nobody => {
                    user.handle_client_event(now, &lease, key, ClientEvent::TimedOut, &mut out);
                }
                Answering::Unknown | Answering::Present => {
                    let status = if answering == Answering::Unknown { 481 } else { 200 };
                    let request = Message::parse(&request).expect("this server made it");
                    let mut bytes = Vec::new();
                    sip::ResponseBuilder::new(&request, sip::Status(status)).write(&mut bytes);
                    let response = Message::parse(&bytes).expect("it was just made");
                    let source = call_capsule::source("198.51.100.7:31000");
                    user.handle_response(now, &lease, key, source, &response, &mut out);
                }
            },
            Some(_) => {}
            None => match user.poll_timeout() {
                Some(at) => {
                    let is_watched = at < NOW.instant + WATCHED;
                    let to = if is_watched { at } else { at.max(NOW.instant + END) };
                    now = Now::new(now.instant.max(to), now.wall);
                    let lease = mirror.active(now.instant).expect("it is permanent");
                    user.handle_timeout(now, &lease, &mut out);
                }
                None => return,
            },
        }
        todo.extend(out);
    }
    unreachable!("it does not end");
}

/// The capsules of true calls, for a start: one without a session timer and one with it.
pub fn capsules() -> Vec<(&'static str, Vec<u8>)> {
    vec![("plain", up("")), ("timed", up("Session-Expires: 1800;refresher=uas\r\n"))]
}

fn up(extra: &str) -> Vec<u8> {
    let mut user = call_capsule::user();
    let mirror = LeaseMirror::permanent();
    let lease = mirror.active(NOW.instant).expect("it is permanent");
    let invite = call_capsule::invite();
    let message = Message::parse(&invite).expect("it is whole");
    let key =
        ServerKey::of(&call_capsule::keyring().transaction, &message).expect("it has all that is needed");
    let mut out = Vec::new();
    let source = call_capsule::source;
    user.handle_request(NOW, &lease, key, source("198.51.100.200:5060"), invite, &mut out);
    let token = out.iter().find_map(|output| match output {
        Output::Ask { token, .. } => Some(*token),
        _ => None,
    });
    let Some(token) = token else { unreachable!("a user of ours is looked for") };
    out.clear();
    let targets = vec![call_capsule::target("sip:bob@10.9.9.9:5060")];
    user.handle_answer(NOW, &lease, token, Answer::Located(Located::Targets(targets)), &mut out);
    for output in out.clone() {
        let Output::Forward { key: client, request, .. } = output else { continue };
        let answer = answer_to(&request, extra);
        let response = Message::parse(&answer).expect("it was just made");
        user.handle_response(NOW, &lease, client, source("198.51.100.7:31000"), &response, &mut out);
    }
    user.handle_server_event(NOW, key, ServerEvent::Terminated, &mut out);
    let names = user.answered_calls();
    let stored = names.first().and_then(|name| user.stored_dialog(NOW, *name));
    stored.expect("the call was answered").to_bytes().to_vec()
}

/// The callee's 200, with all that makes a dialog.
fn answer_to(request: &[u8], extra: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(request);
    let mut answer = String::from("SIP/2.0 200 OK\r\n");
    for line in text.split_inclusive("\r\n") {
        let is = |name: &str| line.starts_with(name);
        if is("To:") {
            answer += &format!("{};tag=callee\r\n", line.trim_end());
        } else if ["Via:", "From:", "Call-ID:", "CSeq:", "Record-Route:"].into_iter().any(is) {
            answer += line;
        }
    }
    answer += &format!("Contact: <sip:bob@10.9.9.9:5060>\r\n{extra}Content-Length: 0\r\n\r\n");
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_capsules_are_played_to_their_end() {
        for (name, bytes) in capsules() {
            let stored = StoredDialog::from_bytes(bytes.clone().into()).expect(name);
            let call = stored.name(&call_capsule::keyring()).expect(name);
            assert!(call_capsule::user().inherit_dialog(NOW, call, &stored), "{name} is not taken");
            run(&bytes);
        }
    }
}
