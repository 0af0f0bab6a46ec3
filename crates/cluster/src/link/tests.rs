use super::*;

const A: MemberId = MemberId(0);
const B: MemberId = MemberId(1);

#[test]
fn two_members_with_one_key_hear_each_other() {
    let mut pair = Pair::new();
    pair.open();

    assert_eq!(pair.say(A, b"heartbeat"), [Received::Message(A, b"heartbeat".to_vec())]);
    assert_eq!(pair.say(B, b"vote"), [Received::Message(B, b"vote".to_vec())]);
}

#[test]
fn a_member_with_another_key_is_not_heard_and_is_counted() {
    let mut pair = Pair::new();
    pair.b = Link::new(pair.now, B, [A, B], [9; 32], 2, [8; 32]);
    pair.open();

    assert!(pair.say(A, b"heartbeat").is_empty());
    assert!(pair.a.counts().wrong_keys > 0 && pair.b.counts().wrong_keys > 0);
    assert_eq!((pair.a.counts().messages, pair.b.counts().messages), (0, 0));
}

#[test]
fn members_far_from_each_other_hear_each_other() {
    let mut pair = Pair::new();
    let one_way = Duration::from_millis(170);
    let mut under_way: Vec<(Instant, Datagram)> = Vec::new();
    let end = pair.now + Duration::from_secs(5);

    while pair.now < end && !(pair.a.has_session(B) && pair.b.has_session(A)) {
        let mut sent = Vec::new();
        pair.a.handle_timeout(pair.now, &mut sent);
        pair.b.handle_timeout(pair.now, &mut sent);
        let (arrived, rest) = under_way.into_iter().partition(|(at, _)| *at <= pair.now);
        under_way = rest;
        for (_, Datagram { to, bytes }) in Vec::<(Instant, Datagram)>::from_iter(arrived) {
            let link = if to == A { &mut pair.a } else { &mut pair.b };
            link.handle_datagram(pair.now, &bytes, &mut sent);
        }
        under_way.extend(sent.into_iter().map(|datagram| (pair.now + one_way, datagram)));
        pair.now += Duration::from_millis(10);
    }

    assert_eq!(pair.say(A, b"far"), [Received::Message(A, b"far".to_vec())]);
}

#[test]
fn a_copy_by_another_path_is_not_given_on_again() {
    let mut pair = Pair::new();
    pair.open();
    let sent = pair.seal(A, b"once");

    assert!(matches!(pair.b.handle_datagram(pair.now, &sent, &mut Vec::new()), Received::Message(..)));
    assert_eq!(pair.b.handle_datagram(pair.now, &sent, &mut Vec::new()), Received::Copy(A));
}

#[test]
fn a_datagram_of_before_is_refused() {
    let mut pair = Pair::new();
    pair.open();
    let old = pair.seal(A, b"old");
    for _ in 0..200 {
        pair.say(A, b"newer");
    }

    assert_eq!(
        pair.b.handle_datagram(pair.now, &old, &mut Vec::new()),
        Received::Discarded(Discard::Replayed)
    );
}

#[test]
fn what_was_sealed_before_a_restart_is_worth_nothing_after_it() {
    let mut pair = Pair::new();
    pair.open();
    let old = pair.seal(A, b"old");

    pair.b = Link::new(pair.now, B, [A, B], [7; 32], 3, [33; 32]);
    pair.open();

    let received = pair.b.handle_datagram(pair.now, &old, &mut Vec::new());
    assert_eq!(received, Received::Discarded(Discard::UnknownSession));
    assert_eq!(pair.say(A, b"new"), [Received::Message(A, b"new".to_vec())]);
}

#[test]
fn a_replayed_handshake_does_not_cost_the_session_in_force() {
    let mut pair = Pair::new();
    let mut recorded = Vec::new();
    pair.a.handle_timeout(pair.now, &mut recorded);
    pair.carry(recorded.clone());
    pair.open();
    pair.say(A, b"in force");
    pair.now += Duration::from_secs(5);
    pair.open();
    pair.say(A, b"in force");

    for datagram in &recorded {
        pair.b.handle_datagram(pair.now, &datagram.bytes, &mut Vec::new());
    }

    assert_eq!(pair.say(A, b"still"), [Received::Message(A, b"still".to_vec())]);
}

#[test]
fn a_replayed_opening_of_an_earlier_start_does_not_cost_the_session_in_force() {
    let mut pair = Pair::new();
    let mut recorded = Vec::new();
    pair.a.handle_timeout(pair.now, &mut recorded);
    pair.carry(recorded.clone());
    pair.open();
    pair.a = Link::new(pair.now, A, [A, B], [7; 32], 3, [33; 32]);
    pair.open();
    for from in [A, B] {
        assert_eq!(pair.say(from, b"in force").len(), 1);
    }

    for datagram in &recorded {
        pair.b.handle_datagram(pair.now, &datagram.bytes, &mut Vec::new());
    }

    for from in [A, B] {
        assert_eq!(pair.say(from, b"still"), [Received::Message(from, b"still".to_vec())]);
    }
}

#[test]
fn a_member_that_has_started_anew_is_heard_and_hears_at_once() {
    let mut pair = Pair::new();
    pair.open();
    for from in [A, B] {
        assert_eq!(pair.say(from, b"before").len(), 1);
    }
    pair.now += OPEN_EVERY;
    pair.a = Link::new(pair.now, A, [A, B], [7; 32], 3, [33; 32]);

    let mut sent = Vec::new();
    pair.a.handle_timeout(pair.now, &mut sent);
    pair.carry(sent);

    for from in [A, B] {
        assert_eq!(pair.say(from, b"after"), [Received::Message(from, b"after".to_vec())]);
    }
}

#[test]
fn what_a_member_sealed_in_a_start_that_is_new_ends_the_session_to_the_one_before() {
    let mut pair = Pair::new();
    pair.open();
    pair.now += OPEN_EVERY;
    pair.a = Link::new(pair.now, A, [A, B], [7; 32], 3, [33; 32]);
    let (mut opening, mut answer) = (Vec::new(), Vec::new());
    pair.a.handle_timeout(pair.now, &mut opening);
    pair.b.handle_datagram(pair.now, &opening[0].bytes, &mut answer);
    // What B opens in its turn is lost.
    answer.retain(|datagram| datagram.bytes[5] == KIND_ACCEPT);
    pair.carry(answer);
    pair.now += OPEN_EVERY;

    assert_eq!(pair.say(A, b"after"), [Received::Message(A, b"after".to_vec())]);

    assert_eq!(pair.say(B, b"after"), [Received::Message(B, b"after".to_vec())]);
}

#[test]
fn nothing_with_a_changed_bit_is_given_on() {
    let mut pair = Pair::new();
    pair.open();
    let good = pair.seal(A, b"heartbeat");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let received = pair.b.handle_datagram(pair.now, &bad, &mut Vec::new());
        assert!(
            matches!(received, Received::Discarded(_) | Received::Handshake(_)),
            "bit {bit}: {received:?}"
        );
    }
    assert!(matches!(pair.b.handle_datagram(pair.now, &good, &mut Vec::new()), Received::Message(..)));
}

#[test]
fn a_peer_of_another_version_is_named() {
    let mut pair = Pair::new();
    pair.open();
    let mut datagram = pair.seal(A, b"heartbeat");
    datagram[4] = VERSION + 1;

    let received = pair.b.handle_datagram(pair.now, &datagram, &mut Vec::new());

    assert_eq!(received, Received::Discarded(Discard::Version(VERSION + 1)));
    assert_eq!(pair.b.counts().last_version, VERSION + 1);
}

#[test]
fn a_flood_of_handshakes_is_answered_a_few_times_only() {
    let mut pair = Pair::new();
    let mut answers = Vec::new();
    for boot in 0..200 {
        let mut stranger = Link::new(pair.now, A, [B], [7; 32], boot, [boot as u8; 32]);
        let mut sent = Vec::new();
        stranger.handle_timeout(pair.now, &mut sent);
        for datagram in sent {
            pair.b.handle_datagram(pair.now, &datagram.bytes, &mut answers);
        }
    }

    assert!(pair.b.counts().too_many >= 170);
}

#[test]
fn a_session_is_opened_again_after_silence() {
    let mut pair = Pair::new();
    pair.open();
    pair.now += SILENCE_MAX;

    let mut sent = Vec::new();
    pair.a.handle_timeout(pair.now, &mut sent);

    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].bytes[5], KIND_OPEN);
}

struct Pair {
    now: Instant,
    a: Link,
    b: Link,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::START + Duration::from_secs(1);
        let a = Link::new(now, A, [A, B], [7; 32], 1, [1; 32]);
        let b = Link::new(now, B, [A, B], [7; 32], 2, [2; 32]);
        Self { now, a, b }
    }

    /// Both open their sessions, as far as they can.
    fn open(&mut self) {
        for _ in 0..4 {
            self.now += OPEN_EVERY_MAX;
            let mut sent = Vec::new();
            self.a.handle_timeout(self.now, &mut sent);
            self.b.handle_timeout(self.now, &mut sent);
            self.carry(sent);
        }
    }

    fn carry(&mut self, mut datagrams: Vec<Datagram>) -> Vec<Received> {
        let mut received = Vec::new();
        while !datagrams.is_empty() {
            for Datagram { to, bytes } in std::mem::take(&mut datagrams) {
                let link = if to == A { &mut self.a } else { &mut self.b };
                let what = link.handle_datagram(self.now, &bytes, &mut datagrams);
                if matches!(what, Received::Message(..)) {
                    received.push(what);
                }
            }
        }
        received
    }

    fn seal(&mut self, from: MemberId, message: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        match from {
            A => self.a.seal(self.now, B, message, &mut sent),
            _ => self.b.seal(self.now, A, message, &mut sent),
        }
        sent.into_iter()
            .map(|datagram| datagram.bytes)
            .find(|bytes| bytes[5] == KIND_SEALED)
            .expect("a session")
    }

    fn say(&mut self, from: MemberId, message: &[u8]) -> Vec<Received> {
        let mut sent = Vec::new();
        match from {
            A => self.a.seal(self.now, B, message, &mut sent),
            _ => self.b.seal(self.now, A, message, &mut sent),
        }
        self.carry(sent)
    }
}
