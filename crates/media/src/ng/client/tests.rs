//! The client with replies that are lost, late, doubled or forged.

use std::net::IpAddr;

use lease::LeaseMirror;
use proptest::prelude::*;

use super::*;
use crate::ng::Described;
use crate::sdp::Origin;

const SEED: u64 = 0xabc;
const SESSION: u64 = 6;

#[test]
fn a_question_is_said_again_with_the_same_cookie_until_it_is_answered() {
    let mut world = World::new(&[(1, 1)]);
    world.ask(offer(SESSION), None, true);
    let first = world.sent();
    assert_eq!(first.len(), 1);

    world.pass(Duration::from_millis(200));
    assert_eq!(world.sent(), first);
    world.pass(Duration::from_millis(400));
    assert_eq!(world.sent(), first);
    world.reply(node(1), &first[0].1, DONE);

    assert_eq!(world.answers(), [(7, Some(node(1)), done())]);
    world.pass(Duration::from_secs(4));
    assert!(world.sent().is_empty(), "nothing is said again");
}

#[test]
fn a_reply_that_comes_twice_is_told_once() {
    let mut world = World::new(&[(1, 1)]);
    world.ask(offer(SESSION), None, true);
    let sent = world.sent();

    world.reply(node(1), &sent[0].1, DONE);
    world.reply(node(1), &sent[0].1, DONE);

    assert_eq!(world.answers().len(), 1);
    assert_eq!(world.view(1).counts.late, 1);
}

#[test]
fn who_is_silent_is_gone_and_its_new_sessions_go_to_another_one() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    // Even sessions go to the first one.
    world.ask(offer(SESSION), None, true);
    assert_eq!(world.sent_to(), [node(1)]);
    world.pass(Duration::from_millis(200));
    world.pass(Duration::from_millis(400));
    world.sent();
    world.pass(Duration::from_millis(600));

    let moved = world.sent();
    assert_eq!(moved.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [node(2)]);
    assert_eq!(world.changes(), [(node(1), false)]);
    world.reply(node(2), &moved[0].1, DONE);
    assert_eq!(world.answers(), [(7, Some(node(2)), done())]);
    world.ask(offer(SESSION + 2), None, true);
    assert_eq!(world.sent_to(), [node(2)]);
}

#[test]
fn what_a_late_one_took_for_a_session_that_has_moved_is_deleted_there() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.ask(offer(SESSION), None, true);
    let first = world.sent();
    world.pass(Duration::from_millis(1_200));
    world.pass(Duration::from_millis(1_200));
    world.pass(Duration::from_millis(1_200));
    let moved = world.sent();
    let moved =
        moved.iter().find(|(to, datagram)| *to == node(2) && is(datagram, "offer")).expect("it has moved");
    world.reply(node(2), &moved.1, DONE);
    world.changes();

    world.reply(node(1), &first[0].1, DONE);

    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert!(sent[0].0 == node(1) && is(&sent[0].1, "delete"), "{sent:?}");
    assert_eq!(world.changes(), [(node(1), true)]);
    assert_eq!(world.answers(), [(7, Some(node(2)), done())]);
}

#[test]
fn a_late_offer_within_a_call_that_stays_deletes_nothing() {
    let mut world = World::new(&[(1, 1)]);
    let (session, mut command) = offer(SESSION);
    let Command::Offer(described) = &mut command else { unreachable!("it is one") };
    described.branch = None;
    world.ask((session, command), Some(node(1)), true);
    let first = world.sent();
    (0..3).for_each(|_| world.pass(Duration::from_millis(1_200)));
    assert_eq!(world.answers(), [(7, Some(node(1)), Err(Failure::Silent))]);
    world.sent();

    world.reply(node(1), &first[0].1, DONE);

    let sent = world.sent();
    assert!(!sent.iter().any(|(_, datagram)| is(datagram, "delete")), "{sent:?}");
}

#[test]
fn an_answer_goes_nowhere_but_to_the_one_that_has_the_session() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.unreachable(node(1));

    world.ask(offer(SESSION), Some(node(1)), false);
    assert_eq!(world.sent_to(), [node(1)]);
    world.unreachable(node(1));

    assert_eq!(world.answers(), [(7, Some(node(1)), Err(Failure::Silent))]);
    world.ask(offer(SESSION), Some(node(9)), false);
    assert_eq!(world.answers(), [(7, None, Err(Failure::NoNode))]);
    assert!(world.sent().is_empty());
}

#[test]
fn a_session_moves_at_once_where_nobody_listens_any_more() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.ask(offer(SESSION), Some(node(1)), true);
    world.sent();

    world.unreachable(node(1));

    assert_eq!(world.sent_to(), [node(2)]);
    world.unreachable(node(2));
    assert_eq!(world.answers(), [(7, Some(node(2)), Err(Failure::Silent))]);
}

#[test]
fn one_that_answers_others_is_not_gone_because_of_one_question() {
    let mut world = World::new(&[(1, 1)]);
    world.ask(offer(SESSION), None, true);
    world.sent();
    world.pass(Duration::from_millis(200));
    world.ask(offer(SESSION + 1), None, true);
    let other = world.sent().pop().expect("it was asked");
    world.reply(node(1), &other.1, DONE);
    world.pass(Duration::from_millis(400));
    world.pass(Duration::from_millis(600));

    assert_eq!(world.answers().last(), Some(&(7, Some(node(1)), Err(Failure::Silent))));
    assert!(world.view(1).is_up);
}

#[test]
fn one_that_was_gone_gets_calls_again_when_it_answers_a_ping() {
    let mut world = World::new(&[(1, 1)]);
    world.unreachable(node(1));
    world.ask(offer(SESSION), None, true);
    assert_eq!(world.answers(), [(7, None, Err(Failure::NoNode))]);

    world.pass(Duration::from_secs(1));
    let ping = world.pings();
    world.reply(node(1), &ping[0].1, b"d6:result4:ponge");

    assert_eq!(world.changes(), [(node(1), false), (node(1), true)]);
    world.ask(offer(SESSION), None, true);
    assert_eq!(world.sent_to(), [node(1)]);
}

#[test]
fn one_that_answers_no_ping_is_gone_before_a_call_finds_out() {
    let mut world = World::new(&[(1, 1)]);
    world.pass(Duration::ZERO);
    assert_eq!(world.pings().len(), 1);
    for _ in 0..3 {
        world.pass(Duration::from_secs(1));
    }

    assert_eq!(world.changes(), [(node(1), false)]);
}

#[test]
fn what_comes_behind_a_question_of_a_session_waits_for_its_answer() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.ask(offer(SESSION), None, true);
    world.ask(delete(SESSION), None, false);
    let sent = world.sent();
    assert_eq!(sent.len(), 1);

    world.reply(node(1), &sent[0].1, DONE);

    let sent = world.sent();
    assert!(sent.len() == 1 && sent[0].0 == node(1) && is(&sent[0].1, "delete"), "{sent:?}");
}

#[test]
fn one_without_room_has_a_new_session_go_to_another_one() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.ask(offer(SESSION), None, true);
    let sent = world.sent();
    world.reply(node(1), &sent[0].1, b"d6:result10:load limite");
    let sent = world.sent();
    assert_eq!(sent[0].0, node(2));

    world.reply(node(2), &sent[0].1, b"d6:result10:load limite");

    assert_eq!(world.answers(), [(7, Some(node(2)), Err(Failure::NoNode))]);
}

#[test]
fn sessions_are_shared_out_by_weight_and_none_begins_at_weight_0() {
    let mut world = World::new(&[(1, 3), (2, 1), (3, 0)]);
    for session in 0..400 {
        world.ask(offer(session), None, true);
    }

    let to = world.sent_to();
    let count = |number| to.iter().filter(|to| **to == node(number)).count();
    assert_eq!((count(1), count(2), count(3)), (300, 100, 0));
}

#[test]
fn one_that_a_reload_takes_away_keeps_its_sessions_and_gets_no_others() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.client.reload(world.now, &[Node { address: node(2), weight: 1 }]);

    world.ask(offer(SESSION), None, true);
    world.ask(offer(SESSION + 1), Some(node(1)), true);

    assert_eq!(world.sent_to(), [node(2), node(1)]);
    assert_eq!(world.client.view().len(), 1);
}

#[test]
fn a_stranger_and_a_forged_cookie_are_not_listened_to() {
    let mut world = World::new(&[(1, 1)]);
    world.ask(offer(SESSION), None, true);
    let sent = world.sent();

    world.reply(node(8), &sent[0].1, DONE);
    for forged in [&b"0000000000000abd_1 d6:result2:oke"[..], b"_ d6:result2:oke", b"rubbish", b""] {
        world.datagram(node(1), forged);
    }

    assert!(world.answers().is_empty());
    assert_eq!(world.view(1).counts.malformed, 4);
}

#[test]
fn a_flood_of_questions_finds_an_end() {
    let mut world = World::new(&[(1, 1)]);
    for session in 0..ASKS_MAX as u64 {
        world.ask(offer(session), None, true);
    }

    world.ask(offer(u64::MAX), None, true);

    assert_eq!(world.answers(), [(7, None, Err(Failure::Busy))]);
}

#[test]
fn the_end_of_a_call_finds_room_where_questions_find_none() {
    let mut world = World::new(&[(1, 1)]);
    for session in 0..ASKS_MAX as u64 {
        world.ask(offer(session), None, true);
    }
    world.sent();

    world.end(delete(u64::MAX), node(1));
    assert_eq!(world.sent_to(), [node(1)]);

    for session in 0..ENDS_MAX as u64 {
        world.end(delete(u64::MAX - 1 - session), node(1));
    }
    assert_eq!((world.sent().len(), world.view(1).counts.unsaid), (ENDS_MAX - 1, 1));
}

#[test]
fn the_end_of_a_call_is_said_again_when_its_rtpengine_is_back() {
    let mut world = World::new(&[(1, 1)]);
    world.end(delete(SESSION), node(1));
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.sent().len(), WAITS.len(), "nobody is there");

    let ping = world.pings().pop().expect("it is asked whether it is there").1;
    world.reply(node(1), &ping, b"d6:result4:ponge");
    let said = (0..6).find_map(|_| {
        world.pass(Duration::from_secs(1));
        world.sent().pop()
    });
    let (_, said) = said.expect("it is said again");
    assert!(is(&said, "delete"));
    world.reply(node(1), &said, DONE);

    world.pass(Duration::from_secs(60));
    assert!(world.sent().is_empty() && world.client.owed.is_empty());
    assert_eq!(world.view(1).counts.unsaid, 0);
}

#[test]
fn the_end_of_a_call_that_nobody_hears_is_counted_in_the_end() {
    let mut world = World::new(&[(1, 1)]);
    world.end(delete(SESSION), node(1));

    for _ in 0..70 {
        world.pass(Duration::from_secs(1));
    }

    assert_eq!(world.view(1).counts.unsaid, 1);
    assert!(world.client.owed.is_empty());
}

#[test]
fn a_call_that_begins_again_is_not_ended_by_what_is_owed() {
    let mut world = World::new(&[(1, 1)]);
    world.end(delete(SESSION), node(1));
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.client.owed.len(), 1);

    world.ask(offer(SESSION), Some(node(1)), true);

    assert!(world.client.owed.is_empty());
}

#[test]
fn a_call_that_begins_again_behind_its_end_is_not_ended_by_what_is_owed() {
    let mut world = World::new(&[(1, 1)]);
    world.end(delete(SESSION), node(1));
    world.ask(offer(SESSION), Some(node(1)), true);
    (0..3).for_each(|_| world.pass(Duration::from_millis(600)));
    let offered = world.sent().pop().expect("it is behind the end");
    assert!(is(&offered.1, "offer"));
    world.reply(node(1), &offered.1, DONE);

    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
    }

    let sent = world.sent();
    assert!(!sent.iter().any(|(_, datagram)| is(datagram, "delete")), "{sent:?}");
    assert!(world.client.owed.is_empty());
}

#[test]
fn a_call_that_begins_again_elsewhere_is_still_ended_where_it_was() {
    let mut world = World::new(&[(1, 1), (2, 1)]);
    world.end(delete(SESSION), node(1));
    (0..3).for_each(|_| world.pass(Duration::from_millis(600)));
    world.sent();
    world.ask(offer(SESSION), Some(node(2)), true);
    let offered = world.sent();
    assert_eq!((offered[0].0, world.client.owed.len()), (node(2), 1));
    // The first one is there again, while the other one says nothing yet.
    world.answer_pings();
    world.client.flights.values_mut().for_each(|flight| flight.next_at = Instant::FAR);
    world.pass(Duration::from_secs(5));
    assert!(world.sent().is_empty(), "it would go where the offer has gone");
    world.reply(node(2), &offered[0].1, DONE);

    world.pass(Duration::from_secs(5));

    let said = world.sent();
    assert!(said.len() == 1 && said[0].0 == node(1) && is(&said[0].1, "delete"), "{said:?}");
    world.answer_pings();
    world.ask(offer(SESSION), Some(node(2)), true);
    world.reply(node(1), &said[0].1, DONE);
    assert_eq!(world.sent_to(), [node(2)], "its end elsewhere does not move the call");
}

proptest! {
    /// Whatever is lost, late, doubled or refused: who waits hears once, and nothing is left behind.
    #[test]
    fn each_question_gets_one_answer(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new(&[(1, 2), (2, 1), (3, 1)]);
        let (mut asked, mut sent) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Ask { session, own, may_move } => {
                    asked += 1;
                    world.ask(offer(session), own.map(node), may_move);
                }
                Step::Pass(milliseconds) => world.pass(Duration::from_millis(milliseconds)),
                Step::Reply { which, is_ok } if !sent.is_empty() => {
                    let (to, datagram): &(SocketAddr, Bytes) = &sent[which % sent.len()];
                    world.reply(*to, datagram, if is_ok { DONE } else { b"d6:result10:load limite" });
                }
                Step::Reply { .. } => {}
                Step::Unreachable(number) => world.unreachable(node(number)),
            }
            sent.extend(world.sent());
        }
        for _ in 0..40 {
            world.pass(Duration::from_secs(1));
        }

        prop_assert_eq!(world.answers().len(), asked);
        prop_assert!(world.client.flights.is_empty() && world.client.by_number.is_empty());
        prop_assert_eq!(world.client.waiting, 0);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { session: u64, own: Option<u8>, may_move: bool },
    Pass(u64),
    Reply { which: usize, is_ok: bool },
    Unreachable(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4u64, proptest::option::of(1..5u8), any::<bool>())
            .prop_map(|(session, own, may_move)| Step::Ask { session, own, may_move }),
        (0..900u64).prop_map(Step::Pass),
        (any::<usize>(), any::<bool>()).prop_map(|(which, is_ok)| Step::Reply { which, is_ok }),
        (1..4u8).prop_map(Step::Unreachable),
    ]
}

const DONE: &[u8] = b"d6:result2:oke";

fn done() -> Result<Reply, Failure> {
    Ok(Reply::Done { sdp: None, packets: None })
}

struct World {
    client: Client<u32>,
    now: Instant,
    out: Vec<Output<u32>>,
}

impl World {
    fn new(nodes: &[(u8, u16)]) -> Self {
        let mut client = Client::new(SEED);
        let nodes: Vec<Node> =
            nodes.iter().map(|(number, weight)| Node { address: node(*number), weight: *weight }).collect();
        client.reload(Instant::START, &nodes);
        Self { client, now: Instant::START, out: Vec::new() }
    }

    fn ask(&mut self, (session, command): (u64, Command), node: Option<SocketAddr>, may_move: bool) {
        let ask = Ask { waiter: Some(7), session, node, may_move, command };
        self.client.handle_ask(self.now, &active(), ask, &mut self.out);
    }

    fn end(&mut self, (session, command): (u64, Command), node: SocketAddr) {
        let ask = Ask { waiter: None, session, node: Some(node), may_move: false, command };
        self.client.handle_ask(self.now, &active(), ask, &mut self.out);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now, &active(), &mut self.out);
    }

    /// The node answers what was sent to it.
    fn reply(&mut self, from: SocketAddr, to: &[u8], with: &[u8]) {
        let cookie = to.split(|byte| *byte == b' ').next().expect("a cookie");
        self.datagram(from, &[cookie, b" ", with].concat());
    }

    fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.client.handle_datagram(self.now, &active(), from, bytes, &mut self.out);
    }

    fn unreachable(&mut self, node: SocketAddr) {
        self.client.handle_unreachable(self.now, &active(), node, &mut self.out);
    }

    /// What was sent but for pings.
    fn sent(&mut self) -> Vec<(SocketAddr, Bytes)> {
        self.taken(|datagram| !is(datagram, "ping"))
    }

    fn pings(&mut self) -> Vec<(SocketAddr, Bytes)> {
        self.taken(|datagram| is(datagram, "ping"))
    }

    fn answer_pings(&mut self) {
        for (to, ping) in self.pings() {
            self.reply(to, &ping, b"d6:result4:ponge");
        }
    }

    fn taken(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Vec<(SocketAddr, Bytes)> {
        let is_send =
            |output: &mut Output<u32>| matches!(output, Output::Send { datagram, .. } if wanted(datagram));
        let sent = self.out.extract_if(.., is_send);
        sent.filter_map(|output| match output {
            Output::Send { to, datagram } => Some((to, datagram)),
            _ => None,
        })
        .collect()
    }

    fn sent_to(&mut self) -> Vec<SocketAddr> {
        self.sent().into_iter().map(|(to, _)| to).collect()
    }

    fn answers(&mut self) -> Vec<(u32, Option<SocketAddr>, Result<Reply, Failure>)> {
        let is_answer = |output: &mut Output<u32>| matches!(output, Output::Answer(_));
        let answers = self.out.extract_if(.., is_answer);
        answers
            .filter_map(|output| match output {
                Output::Answer(Answer { waiter, node, result }) => Some((waiter, node, result)),
                _ => None,
            })
            .collect()
    }

    fn changes(&mut self) -> Vec<(SocketAddr, bool)> {
        let is_change = |output: &mut Output<u32>| matches!(output, Output::Changed { .. });
        let changes = self.out.extract_if(.., is_change);
        changes
            .filter_map(|output| match output {
                Output::Changed { node, is_up } => Some((node, is_up)),
                _ => None,
            })
            .collect()
    }

    fn view(&self, number: u8) -> NodeView {
        let view = self.client.view();
        *view.iter().find(|view| view.node.address == node(number)).expect("it is configured")
    }
}

fn active() -> ActiveLease<'static> {
    static MIRROR: LeaseMirror = LeaseMirror::permanent();
    MIRROR.active(Instant::START).expect("a permanent lease")
}

fn node(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([192, 0, 2, number]), 2223)
}

fn is(datagram: &[u8], command: &str) -> bool {
    let text = String::from_utf8_lossy(datagram);
    text.contains(&format!("7:command{}:{command}", command.len()))
}

fn offer(session: u64) -> (u64, Command) {
    let described = Described {
        call_id: Bytes::from(format!("{session}@a")),
        from_tag: Bytes::from_static(b"f"),
        to_tag: None,
        branch: Some(Bytes::from_static(b"b")),
        sdp: Bytes::from_static(b"v=0\r\n"),
        source: IpAddr::from([192, 0, 2, 100]),
        is_behind_nat: false,
        towards: IpAddr::from([192, 0, 2, 101]),
        origin: Origin::Kept,
    };
    (session, Command::Offer(described))
}

fn delete(session: u64) -> (u64, Command) {
    let call_id = Bytes::from(format!("{session}@a"));
    (session, Command::Delete { call_id, from_tag: Bytes::from_static(b"f"), branch: None })
}
