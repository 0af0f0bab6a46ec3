//! RFC 5393 §3: requests that come back again and again, and what keeps them from becoming many.

use std::collections::VecDeque;

use sip::Name;

use super::scene::*;
use crate::call::Output;
use crate::{Answer, Located, Question, Target};

/// RFC 5393 §3: two users, each of whom is registered as both of them by way of another proxy: without a check for
/// loops one request becomes 2^70.
#[test]
fn two_users_that_lead_to_each_other_twice_are_a_handful_of_requests() {
    let mut scene = Scene::new();
    let mut coming = VecDeque::from([invite("sip:one@example.org").text()]);
    let (mut forwarded, mut refused) = (0, Vec::new());

    while let Some(request) = coming.pop_front() {
        let mut out = scene.receive(CARRIER, &request);
        if let Some(token) = located(&out) {
            out = scene.answer(token, Answer::Located(Located::Targets(both())));
        }
        refused.extend(statuses(&out).into_iter().filter(|status| *status > 100));
        for left in left(&out) {
            forwarded += 1;
            assert!(forwarded < 100, "it goes on for ever");
            coming.push_back(sent_back(&left.request));
        }
    }

    assert_eq!(forwarded, 4);
    assert_eq!(refused, [482, 482, 482]);
}

/// RFC 5393 §5.3.3: what comes back brings only what it was given, so that all its branches together have no more.
#[test]
fn a_request_that_comes_back_has_the_breadth_that_it_left_with() {
    let mut scene = Scene::new();
    let first = invite("sip:one@example.org").header("Max-Breadth: 3").text();
    let out = forked(&mut scene, &first);
    let breadth = |left: &Left| header(&left.request, Name::MaxBreadth).unwrap();
    let first: Vec<String> = left(&out).iter().map(breadth).collect();
    assert_eq!(first, ["2", "1"]);
    let narrow = sent_back(&left(&out)[1].request);

    let second: Vec<String> = left(&forked(&mut scene, &narrow)).iter().map(breadth).collect();

    assert_eq!(second, ["1"], "one after the other");
}

/// RFC 3261 §16.3 item 3: and whatever gets through all checks ends with its Max-Forwards.
#[test]
fn a_request_that_comes_back_has_a_hop_less_each_time() {
    let mut scene = Scene::new();
    let request = invite("sip:one@example.org").header("Max-Forwards: 1").text();
    let there = left(&forked(&mut scene, &request)).remove(1);
    assert_eq!(header(&there.request, Name::MaxForwards).unwrap(), "0");

    assert_eq!(statuses(&scene.receive(CARRIER, &sent_back(&there.request))), [483]);
}

fn forked(scene: &mut Scene, request: &str) -> Vec<Output> {
    let out = scene.receive(CARRIER, request);
    let token = located(&out).expect("a question");
    scene.answer(token, Answer::Located(Located::Targets(both())))
}

fn located(out: &[Output]) -> Option<crate::Token> {
    out.iter().find_map(|output| match output {
        Output::Ask { token, question: Question::Call(_), .. } => Some(*token),
        _ => None,
    })
}

/// Two bindings, as one and as two at the trusted proxy.
fn both() -> Vec<Target> {
    ["one", "two"].map(|user| target(&format!("sip:{user}@198.51.100.200"), UDP, CARRIER)).into()
}

/// As the proxy there sends it back: for the same user, in our domain.
fn sent_back(request: &[u8]) -> String {
    let text = String::from_utf8(request.to_vec()).unwrap().replace("\r\n", "\n");
    let (line, rest) = text.split_once('\n').unwrap();
    let line = line.replace("@198.51.100.200", "@example.org");
    let hops = values(request, Name::Via).len();
    format!("{line}\nVia: SIP/2.0/UDP {CARRIER};branch=z9hG4bK-{hops}-{}\n{rest}", line.len() + rest.len())
}
