//! Messages that nobody in his right mind would send: the machine answers or drops them, and stays whole.

use sip::Message;
use transaction::{ClientKey, ServerKey};

use super::scene::*;
use crate::{Answer, Authenticated, Located};

/// Each round changes a few bytes of one message that means something to this server.
const ROUNDS: u32 = 10_000;

#[test]
fn changed_messages_of_any_kind_are_survived() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![carol()]));
    let seeds = seeds(&there);
    let mut dice = Dice(42);
    for _ in 0..ROUNDS {
        let mut bytes = seeds[dice.below(seeds.len())].clone();
        for _ in 0..1 + dice.below(4) {
            dice.change(&mut bytes);
        }
        receive(&mut scene, &bytes, dice.below(4));
    }
    assert!(scene.user.suspended() <= crate::call::suspended::SUSPENDED_MAX);
    scene.pass(std::time::Duration::from_secs(3_600));
    assert_eq!(scene.user.suspended(), 0);
}

#[test]
fn a_thousand_routes_and_vias_of_ours_are_read_in_a_moment() {
    let mut scene = Scene::new();
    let mut request = invite("sip:bob@example.org");
    for _ in 0..100 {
        request = request
            .header("Route: <sip:192.0.2.5;lr>, <sip:192.0.2.5;lr>, <sip:192.0.2.5;lr>, <sip:192.0.2.5;lr>");
        request =
            request.header("Via: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bKaAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    }

    assert_eq!(statuses(&scene.receive(STRANGER, &request.text())), [407]);
}

fn seeds(there: &Left) -> Vec<Vec<u8>> {
    let route = values(&there.request, sip::Name::RecordRoute)[0].clone();
    let bye = request("BYE", "sip:carol@10.9.9.9")
        .to("<sip:carol@example.org>;tag=callee-tag")
        .header(&format!("Route: {route}"));
    let mut with_body = invite("sip:bob@example.org");
    with_body.body = "v=0\nc=IN IP4 10.0.0.1\n".to_owned();
    let outbound = register()
        .contact("<sip:a@10.0.0.1>;reg-id=1;+sip.instance=\"<urn:uuid:1>\";q=0.1;expires=9")
        .header("Supported: outbound, path")
        .header("Path: <sip:p;lr;ob>");
    let odd = invite("sip:x:y@192.0.2.5;maddr=192.0.2.5?a=b")
        .header("Max-Breadth: 3")
        .header("Proxy-Require: x")
        .header("Privacy: id;user")
        .header("Route: <sip:a@b;lr>, \"q\" <sip:c;lr>;x=y");
    let texts = [
        with_body.text(),
        bye.text(),
        Request { method: "ACK", ..bye.clone() }.text(),
        Request { method: "CANCEL", ..invite("sip:carol@example.org").again() }.text(),
        outbound.text(),
        odd.text(),
        request("OPTIONS", "sip:192.0.2.5").text(),
        invite("tel:+49-30;phone-context=x")
            .header("Proxy-Authorization: Digest username=\"a\", realm=\"example.org\", nonce=\"AAAA\"")
            .text(),
    ];
    let mut seeds: Vec<Vec<u8>> =
        texts.into_iter().map(|text| text.replace('\n', "\r\n").into_bytes()).collect();
    for status in [100, 180, 200, 401, 503, 603] {
        seeds.push(response(
            &there.request,
            status,
            "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\nP-Asserted-Identity: <sip:a@b>",
        ));
    }
    seeds
}

/// What the layers below do with bytes, and whatever answers come.
fn receive(scene: &mut Scene, bytes: &[u8], answer: usize) {
    let Ok((message, problem)) = Message::parse_lenient(bytes) else { return };
    let is_good = problem.is_none() && message.validate().is_ok();
    let out = match (message.is_request(), is_good) {
        (true, true) if ServerKey::of(&scene.keyring.transaction, &message).is_ok() => {
            scene.receive_bytes(udp([UDP, OPEN, INSIDE][answer % 3], STRANGER), bytes)
        }
        (true, _) => scene.refuse(&message),
        (false, true) => match ClientKey::of_response(&scene.keyring.transaction, &message) {
            Ok(key) => scene.response(key, &message),
            Err(_) => return,
        },
        (false, false) => return,
    };
    for output in &out {
        if let crate::call::Output::Ask { token, .. } = output {
            let answers = [
                Answer::Located(Located::Targets(vec![bob(), carol()])),
                Answer::Authenticated(Authenticated::Yes),
                Answer::Authenticated(Authenticated::No),
            ];
            if let Some(answer) = answers.get(answer) {
                scene.answer(*token, answer.clone());
            }
        }
    }
}

/// Numbers that look drawn, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let interesting = b"<>@:;,=\"\r\n \\%?&[]0\x00\xff";
        match self.below(4) {
            0 => bytes[at] = self.next() as u8,
            1 => bytes[at] = interesting[self.below(interesting.len())],
            2 => {
                bytes.remove(at);
            }
            _ => {
                let end = (at + self.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}
