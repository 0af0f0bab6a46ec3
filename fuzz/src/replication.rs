//! What a peer says over the link between two nodes: pieces change nothing, and both ends stay whole whatever it says.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use replica::{
    Capsule, ConnectionNumber, Deframer, DigestKey, Epoch, Fetched, FramingError, Holdings, Kind, Known,
    Origin, Place, Receiver, ReceiverOutput, Sender, SenderOutput, Ticket, Wanted,
};

use crate::number_of;
use crate::rng::Rng;

const KEY: DigestKey = DigestKey::new([5; 16]);
const ACTIVE: Origin = Origin { node: 0, incarnation: 1 };
const STANDBY: Origin = Origin { node: 1, incarnation: 2 };
const KIND: Kind = Kind(1);

/// Bytes that a sender may have on their way: the window, and the little that stands outside of it.
const ON_THE_WAY_MAX: usize = 5 << 20;

/// Tries the bytes as what comes from the peer: to a receiver, to a sender, and in pieces of several sizes.
pub fn run(data: &[u8]) {
    let mut rng = Rng::new(number_of(data));
    let largest = rng.pick(&[1, 3, 64, 5_000]);
    let whole = frames(data, data.len().max(1));
    assert_eq!(frames(data, largest), whole, "pieces change what comes out");
    to_receiver(data, false);
    to_receiver(data, true);
    to_sender(data, &mut rng);
}

/// What both ends say when a standby that has nothing becomes equal: what they say to each other, whole.
pub fn conversations() -> [(&'static str, Vec<u8>); 2] {
    let known = [Known { kind: KIND, format_max: 1 }];
    let mut receiver = Receiver::new(STANDBY, KEY, &known, Epoch(0), Holdings::new());
    let mut sender = Sender::new(ACTIVE, Epoch(7), KEY, Holdings::new());
    let (connection, mut now) = (ConnectionNumber(1), Instant::START);
    let (mut to_receiver, mut to_sender) = (Deframer::new(), Deframer::new());
    let (mut of_sender, mut of_receiver, mut given) = (Vec::new(), Vec::new(), 0);
    let (mut out, mut answers) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let _ = sender.put(now, capsule(number), place(number), &mut out);
    }
    sender.connected(now, &mut out);
    for _ in 0..200 {
        let mut wanted = Vec::new();
        for output in out.drain(..) {
            match output {
                SenderOutput::Send(bytes) => {
                    of_sender.extend_from_slice(&bytes);
                    to_receiver.push(&bytes);
                }
                SenderOutput::Fetch(more) => wanted.extend(more),
                _ => {}
            }
        }
        let answer = |wanted: Wanted| Fetched { wanted, capsule: Some(capsule(wanted.place.number)) };
        sender.fetched(now, wanted.into_iter().map(answer).collect(), &mut out);
        while let Ok(Some(frame)) = to_receiver.next_frame() {
            receiver.handle_frame(now, connection, frame, &mut answers);
            receiver.acknowledge(&mut answers);
        }
        for output in answers.drain(..) {
            match output {
                ReceiverOutput::Send(_, bytes) => {
                    of_receiver.extend_from_slice(&bytes);
                    to_sender.push(&bytes);
                }
                ReceiverOutput::Apply(apply) => {
                    given += 1;
                    receiver.placed(apply.name, place(given));
                }
                _ => {}
            }
        }
        while let Ok(Some(frame)) = to_sender.next_frame() {
            sender.handle_frame(now, frame, &mut out);
        }
        // That they are equal is known when they have been compared.
        now += Duration::from_millis(50);
        sender.handle_timeout(now, &mut out);
    }
    assert_eq!(sender.ready(), 100, "the conversation ends with two that are equal");
    [("of the active node", of_sender), ("of the standby", of_receiver)]
}

fn frames(data: &[u8], length: usize) -> (Vec<String>, Option<FramingError>) {
    let (mut deframer, mut found) = (Deframer::new(), Vec::new());
    for piece in data.chunks(length) {
        deframer.push(piece);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => found.push(format!("{frame:?}")),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// A receiver that a true active node has greeted before, or to which the bytes must do it themselves.
fn to_receiver(data: &[u8], is_greeted: bool) {
    let known = [Known { kind: KIND, format_max: 1 }];
    let mut receiver = Receiver::new(STANDBY, KEY, &known, Epoch(0), Holdings::new());
    let connection = ConnectionNumber(1);
    let mut now = Instant::START;
    let (mut deframer, mut out) = (Deframer::new(), Vec::new());
    if is_greeted {
        let mut sender = Sender::new(ACTIVE, Epoch(1), KEY, Holdings::new());
        let mut greeting = Vec::new();
        sender.connected(now, &mut greeting);
        for output in &greeting {
            let SenderOutput::Send(bytes) = output else { continue };
            deframer.push(bytes);
        }
    }
    deframer.push(data);
    let (mut epoch, mut given) = (receiver.view(now).epoch, 0);
    while let Ok(Some(frame)) = deframer.next_frame() {
        now += Duration::from_millis(1);
        receiver.handle_frame(now, connection, frame, &mut out);
        for output in out.drain(..) {
            match output {
                ReceiverOutput::Apply(apply) if apply.capsule.key.len() % 3 == 2 => {
                    receiver.refused(apply.name);
                }
                ReceiverOutput::Apply(apply) => {
                    given += 1;
                    receiver.placed(apply.name, Place { owner: 0, number: given });
                }
                ReceiverOutput::Send(..) | ReceiverOutput::Remove(..) | ReceiverOutput::Close(..) => {}
            }
        }
        receiver.acknowledge(&mut out);
        out.clear();
        let view = receiver.view(now);
        assert!(view.epoch >= epoch, "an epoch goes back");
        assert!(view.ready <= 100);
        epoch = view.epoch;
    }
    receiver.handle_timeout(now + Duration::from_secs(60), &mut out);
    assert!(receiver.holdings().is_consistent(), "sums are not those of the entries");
}

/// A sender that has something, and to which the bytes are the peer's words.
fn to_sender(data: &[u8], rng: &mut Rng) {
    let mut sender = Sender::new(ACTIVE, Epoch(7), KEY, Holdings::new());
    let mut now = Instant::START;
    let (mut deframer, mut out) = (Deframer::new(), Vec::new());
    let (mut waiting, mut sent, mut ended) = (0u64, 0, BTreeSet::new());
    for number in 0..20 {
        let _ = sender.put(now, capsule(number), place(number), &mut out);
    }
    sender.connected(now, &mut out);
    deframer.push(data);
    while let Ok(Some(frame)) = deframer.next_frame() {
        now += Duration::from_micros(300);
        sender.handle_frame(now, frame, &mut out);
        let number = rng.below(40) as u64;
        let posted = sender.put(now, capsule(number), place(number), &mut out);
        waiting += 1;
        sender.wait(now, Ticket(waiting), posted, &mut out);
        sender.handle_timeout(now, &mut out);
        let mut answers = Vec::new();
        for output in out.drain(..) {
            match output {
                SenderOutput::Send(bytes) => sent += bytes.len(),
                SenderOutput::Fetch(wanted) => answers.extend(wanted),
                SenderOutput::Held(ticket) | SenderOutput::Degraded(ticket, _) => {
                    assert!(ticket.0 <= waiting && ended.insert(ticket), "a wait ends twice, or nobody's");
                }
                SenderOutput::Close(_) | SenderOutput::Superseded(_) => {}
            }
        }
        let answer = |wanted: Wanted| {
            let number = wanted.place.number;
            Fetched { wanted, capsule: (!number.is_multiple_of(5)).then(|| capsule(number)) }
        };
        sender.fetched(now, answers.into_iter().map(answer).collect(), &mut out);
        assert!(sender.view(now).lag.bytes <= ON_THE_WAY_MAX);
        assert!(sent <= ON_THE_WAY_MAX + data.len() * 1_000, "{sent} bytes for {}", data.len());
    }
    sender.disconnected(&mut out);
    for output in out {
        if let SenderOutput::Held(ticket) | SenderOutput::Degraded(ticket, _) = output {
            assert!(ended.insert(ticket), "a wait ends twice");
        }
    }
    assert_eq!(ended.len() as u64, waiting, "a wait never ends");
    let counts = *sender.counts();
    assert_eq!(counts.held + counts.degraded, waiting, "what is counted is not what was said");
    assert!(sender.holdings().is_consistent(), "sums are not those of the entries");
}

fn capsule(number: u64) -> Capsule {
    Capsule {
        kind: KIND,
        format: 1,
        key: Bytes::from(format!("key {number}")),
        bytes: Bytes::from_static(b"content"),
        left: Duration::from_secs(60),
    }
}

fn place(number: u64) -> Place {
    Place { owner: 0, number }
}
