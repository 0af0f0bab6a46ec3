//! Keepalives: to whom, when, over which way, and what silence means.

use sip::{Message, Method};

use super::*;
use crate::{Count, Keepalive, KeepaliveMark};

const INTERVAL: Duration = Duration::from_secs(25);

#[test]
/// RFC 3261 §8.1.1: what every request has; RFC 3581 §3: rport.
fn an_options_to_a_phone_behind_nat_is_a_correct_request_from_the_binding_s_listener() {
    let mut world = World::new();
    world.register(behind_nat("bob", "sip:bob@10.9.9.9:5062;ob?Subject=x")).unwrap();

    world.pass(INTERVAL);

    let sent = keepalives(&mut world);
    assert_eq!(sent.len(), 1);
    let (to, bytes) = &sent[0];
    assert_eq!(*to, udp_from("192.0.2.7:5060").flow);
    let message = Message::parse(bytes).unwrap();
    message.validate().unwrap();
    assert_eq!(message.method(), Some(Method::Options));
    assert_eq!(message.request_uri(), Some(b"sip:bob@10.9.9.9:5062;ob".as_slice()));
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.cseq().unwrap().number, 1);
    assert!(message.from_tag().is_some());
    assert_eq!(message.to().unwrap().uri, b"sip:bob@example.org");
    let via = message.top_via().unwrap();
    assert_eq!(via.transport, b"UDP");
    assert_eq!(via.host, sip::Host::V4("203.0.113.1".parse().unwrap()));
    assert_eq!(via.port, Some(5060));
    assert_eq!(via.rport(), Some(None));
    assert!(bytes.ends_with(b"Content-Length: 0\r\n\r\n"));
    assert_eq!(mark(bytes, *to).partition, PARTITION);
}

#[test]
fn each_phone_gets_one_in_every_interval_and_they_are_spread() {
    let mut world = World::new();
    for number in 0..1_000 {
        world.register(behind_nat(&format!("user{number}"), "sip:x@10.9.9.9")).unwrap();
    }
    world.take();

    let mut per_second = Vec::new();
    for _ in 0..25 {
        world.pass(Duration::from_secs(1));
        per_second.push(keepalives(&mut world).len());
    }

    assert_eq!(per_second.iter().sum::<usize>(), 1_000);
    assert!(per_second.iter().all(|&sent| (15..=70).contains(&sent)), "{per_second:?}");
    world.pass(INTERVAL);
    assert_eq!(keepalives(&mut world).len(), 1_000);
}

#[test]
fn who_is_not_behind_nat_gets_none_and_is_never_dropped() {
    let mut world = World::new();
    for (user, uri) in [("a", "sip:a@192.0.2.7"), ("b", "sip:b@192.0.2.8"), ("c", "sip:c@phone.example.org")]
    {
        world.register(a_register(user, 1, &[contact(uri)])).unwrap();
    }
    let path = vec![Bytes::from_static(b"<sip:edge;lr>")];
    world.register(Register { path, ..behind_nat("d", "sip:d@10.9.9.9") }).unwrap();
    world.take();

    world.pass(INTERVAL * 5);

    assert_eq!(world.take(), []);
    assert_eq!(world.partition.binding_count(), 4);
}

#[test]
fn a_connection_through_nat_gets_them_too() {
    let mut world = World::new();
    let source = tcp_from("192.0.2.7:40000", 1);
    world.register(Register { source, ..behind_nat("bob", "sip:bob@10.9.9.9;transport=tcp") }).unwrap();
    world.pass(INTERVAL);

    let sent = keepalives(&mut world);

    assert_eq!(sent[0].0, source.flow);
    assert!(text(&sent[0].1).contains("\r\nVia: SIP/2.0/TCP 10.0.0.1:5060;rport;branch="));
}

#[test]
fn a_phone_that_answers_stays_and_one_that_does_not_is_dropped_after_three() {
    let mut world = World::new();
    world.register(behind_nat("alive", "sip:x@10.9.9.9")).unwrap();
    world.register(behind_nat("dead", "sip:x@10.9.9.9")).unwrap();
    world.take();

    let mut sent = Vec::new();
    for _ in 0..10 {
        world.pass(INTERVAL);
        let round = keepalives_and_changes(&mut world);
        for (to, bytes) in &round.0 {
            if Message::parse(bytes).unwrap().to().unwrap().uri.starts_with(b"sip:alive") {
                answer(&mut world, mark(bytes, *to));
            }
        }
        sent.push((round.0.len(), round.1.len()));
    }

    let expected = [(2, 0), (2, 0), (2, 0), (1, 1), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 0)];
    assert_eq!(sent, expected);
    assert_eq!(world.partition.counts().of(Count::BindingDead), 1);
    assert_eq!(world.partition.counts().of(Count::KeepaliveAnswered), 10);
    assert_eq!(world.query("dead"), []);
    assert_eq!(world.query("alive").len(), 1);
}

#[test]
fn two_lost_in_a_row_do_not_add_up_with_two_lost_later() {
    let mut world = World::new();
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    world.take();

    for round in 0..12 {
        world.pass(INTERVAL);
        let sent = keepalives(&mut world);
        if round % 3 == 2 {
            answer(&mut world, mark(&sent[0].1, sent[0].0));
        }
    }

    assert_eq!(world.query("bob").len(), 1);
}

#[test]
fn a_refresh_shows_that_the_phone_is_alive() {
    let mut world = World::new();
    for cseq in 1..10 {
        world.register(Register { cseq, ..behind_nat("bob", "sip:x@10.9.9.9") }).unwrap();
        world.pass(INTERVAL * 2);
    }

    assert_eq!(world.query("bob").len(), 1);
    assert_eq!(world.partition.counts().of(Count::BindingDead), 0);
}

#[test]
fn an_answer_over_the_way_of_before_says_nothing_about_the_present_one() {
    let mut world = World::new();
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    world.pass(INTERVAL);
    let old = keepalives(&mut world);
    let moved =
        Register { source: udp_from("192.0.2.7:9999"), cseq: 2, ..behind_nat("bob", "sip:x@10.9.9.9") };
    world.register(moved).unwrap();

    for _ in 0..4 {
        world.pass(INTERVAL);
        answer(&mut world, mark(&old[0].1, old[0].0));
    }

    assert_eq!(world.query("bob"), []);
    assert_eq!(world.partition.counts().of(Count::KeepaliveAnswered), 0);
}

#[test]
fn an_answer_counts_once_and_never_for_what_was_not_sent() {
    let mut world = World::new();
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    world.pass(INTERVAL);
    let sent = keepalives(&mut world);
    let good = mark(&sent[0].1, sent[0].0);

    answer(&mut world, KeepaliveMark { partition: PARTITION + 1, ..good });
    answer(&mut world, KeepaliveMark { number: 2, ..good });
    answer(&mut world, KeepaliveMark { number: 0, ..good });
    answer(&mut world, KeepaliveMark { binding: crate::BindingId(u64::MAX), ..good });
    assert_eq!(world.partition.counts().of(Count::KeepaliveAnswered), 0);
    answer(&mut world, good);
    answer(&mut world, good);
    assert_eq!(world.partition.counts().of(Count::KeepaliveAnswered), 1);
}

#[test]
fn with_no_limit_of_failures_nobody_is_dropped() {
    let mut settings = settings();
    settings.nat.failures = 0;
    let mut world = World::with(settings);
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();

    world.pass(INTERVAL * 20);

    assert_eq!(world.query("bob").len(), 1);
}

#[test]
/// RFC 3261 §7.5: an empty line before a message is ignored.
fn empty_lines_keep_the_way_open_and_drop_nobody() {
    let mut settings = settings();
    settings.nat.keepalive = Keepalive::Crlf;
    let mut world = World::with(settings);
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    let over_tcp =
        Register { source: tcp_from("192.0.2.7:40000", 1), ..behind_nat("carol", "sip:x@10.9.9.9") };
    world.register(over_tcp).unwrap();

    world.pass(INTERVAL);
    let mut lines: Vec<_> = keepalives(&mut world).into_iter().map(|(_, bytes)| text(&bytes)).collect();
    lines.sort();
    assert_eq!(lines, ["\r\n", "\r\n\r\n"]);

    world.pass(INTERVAL * 10);
    assert_eq!(world.query("bob").len() + world.query("carol").len(), 2);

    world.partition.reload(Arc::new(super::settings()));
    world.pass(INTERVAL * 2);
    assert_eq!(world.query("bob").len(), 1);
}

#[test]
fn switched_off_nothing_is_sent_and_switched_on_it_begins() {
    let mut off = settings();
    off.nat.keepalive = Keepalive::Off;
    let mut world = World::with(off);
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    world.pass(INTERVAL * 4);
    assert_eq!(keepalives(&mut world), []);

    world.partition.reload(Arc::new(settings()));
    world.pass(INTERVAL);
    assert_eq!(keepalives(&mut world).len(), 1);
}

#[test]
fn without_its_listener_a_binding_gets_none_until_it_is_back() {
    let mut world = World::new();
    world.register(behind_nat("bob", "sip:x@10.9.9.9")).unwrap();
    world.take();
    let mut without = settings();
    without.listeners = Arc::new(Listeners::new(vec![tcp_listener()]));
    world.partition.reload(Arc::new(without));
    world.pass(INTERVAL * 5);
    assert_eq!(world.take(), []);
    assert_eq!((world.targets("bob")[0].flow, world.targets("bob")[0].listener), (None, None));

    let mut back = settings();
    let listener = Listener { id: ListenerId(9), ..udp_listener() };
    back.listeners = Arc::new(Listeners::new(vec![listener]));
    world.partition.reload(Arc::new(back));
    world.pass(INTERVAL);

    let sent = keepalives(&mut world);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0.listener(), ListenerId(9));
}

#[test]
fn after_a_standstill_nothing_is_sent_at_once_and_nobody_is_dropped() {
    let mut world = World::new();
    for number in 0..100 {
        world.register(behind_nat(&format!("user{number}"), "sip:x@10.9.9.9")).unwrap();
    }
    world.pass(INTERVAL);
    world.take();

    world.stand_still(INTERVAL * 10);
    world.timeout();
    assert_eq!(world.take(), []);

    world.pass(INTERVAL);
    assert_eq!(keepalives(&mut world).len(), 100);
}

#[test]
fn one_call_looks_after_a_bounded_number_of_bindings_and_asks_for_the_next() {
    let mut world = World::new();
    for number in 0..3_000 {
        world.register(a_register(&format!("user{number}"), 1, &[contact("sip:x@192.0.2.7")])).unwrap();
    }
    world.take();
    world.stand_still(Duration::from_secs(600));

    let ended: Vec<_> = (0..3)
        .map(|_| {
            assert!(world.partition.poll_timeout().is_some_and(|at| at <= world.now.instant));
            world.timeout();
            world.take_saved().len()
        })
        .collect();

    assert_eq!(ended, [1_024, 1_024, 952]);
    assert_eq!(world.partition.poll_timeout(), None);
}

fn behind_nat(user: &str, uri: &str) -> Register {
    Register { nat: true, ..a_register(user, 1, &[contact(uri)]) }
}

fn keepalives(world: &mut World) -> Vec<(Flow, Bytes)> {
    keepalives_and_changes(world).0
}

fn keepalives_and_changes(world: &mut World) -> (Vec<(Flow, Bytes)>, Vec<Change>) {
    let (mut sent, mut changes) = (Vec::new(), Vec::new());
    for output in world.take() {
        match output {
            Output::Send { to: transport::Destination::Flow(flow), message } => sent.push((flow, message)),
            Output::Save(change) => changes.push(change),
            other => panic!("{other:?}"),
        }
    }
    (sent, changes)
}

fn mark(bytes: &[u8], flow: Flow) -> KeepaliveMark {
    let message = Message::parse(bytes).unwrap();
    let branch = message.top_via().unwrap().branch().unwrap();
    KeepaliveMark::read_branch(&keyring().keepalive, branch, &flow).unwrap()
}

fn answer(world: &mut World, mark: KeepaliveMark) {
    world.partition.handle_keepalive_answered(world.now, mark, &mut world.out);
}
