use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::script::{at, client_key, method_of, request, response, secret, server_key};

#[test]
fn a_request_is_told_once_for_each_step_that_it_takes() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let arrival = Arrival { at: at(0), method: MethodName::Invite };
    begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();

    let steps = [Progress::Forwarded, Progress::Forwarded, Progress::Answered, Progress::Answered]
        .map(|progress| transactions.advance_server(server_key(), progress));
    assert_eq!(steps, [Some((arrival, Progress::Arrived)), None, Some((arrival, Progress::Forwarded)), None]);

    transactions.end_server(server_key());
    assert_eq!(transactions.advance_server(server_key(), Progress::Answered), None);
}

/// Each change is told to another node, and whoever repeats an ACK pays nothing for it.
#[test]
fn an_ack_is_a_change_once() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    transactions.note_changes();
    let (key, mut out) = (server_key(), Vec::new());
    begin_server(&mut transactions, key, Kind::Invite).unwrap();
    transactions.respond(at(0), key, Status(486), response(486, Kind::Invite), &mut out).unwrap();
    transactions.take_changes(&mut Vec::new(), &mut Vec::new());

    let changed = [1, 2].map(|ms| {
        let (mut servers, mut clients) = (Vec::new(), Vec::new());
        let disposition = transactions.handle_request(at(ms), key, Method::Ack, &mut out);
        transactions.take_changes(&mut servers, &mut clients);
        (disposition, servers, clients)
    });

    let absorbed = Disposition::Absorbed;
    assert_eq!(changed, [(absorbed, vec![key], vec![]), (absorbed, vec![], vec![])]);
}

#[test]
fn a_full_table_refuses_and_sends_nothing() {
    let mut transactions = Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
    let mut out = Vec::new();
    begin_server(&mut transactions, number(0), Kind::Invite).unwrap();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    out.clear();

    assert_eq!(begin_server(&mut transactions, number(1), Kind::Invite), Err(Full));
    assert_eq!(begin_client(&mut transactions, 1, &mut out), Err(Full));

    assert_eq!((out.len(), transactions.counts(), transactions.counters().refused), (0, (1, 1), 2));
}

#[test]
fn what_is_forgotten_neither_fires_nor_answers_and_its_key_is_free() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();
    begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    out.clear();

    transactions.forget_all();
    transactions.handle_timeout(at(60_000), &mut out);

    assert_eq!((out.len(), transactions.counts(), transactions.poll_timeout()), (0, (0, 0), None));
    begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
    assert_eq!(transactions.counts(), (1, 0));
}

#[test]
fn a_transaction_that_is_there_is_not_begun_again() {
    let mut transactions = Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
    let mut out = Vec::new();
    begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    transactions.respond(at(0), server_key(), Status(180), response(180, Kind::Invite), &mut out).unwrap();
    out.clear();

    assert_eq!(begin_server(&mut transactions, server_key(), Kind::Invite), Ok(()));
    assert_eq!(begin_client(&mut transactions, 0, &mut out), Ok(()));
    transactions.handle_request(at(1), server_key(), Method::Invite, &mut out);

    let expected = Output::Send { to: 7, message: response(180, Kind::Invite), of: None };
    assert_eq!((out, transactions.counts()), (vec![expected], (1, 1)));
}

#[test]
fn each_message_goes_where_its_transaction_says() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let (key, mut out) = (client_key(Kind::Invite), Vec::new());
    let invite = request(Kind::Invite);
    transactions.begin_client(at(0), key, Kind::Invite, invite.clone(), 3, false, &mut out).unwrap();
    assert_eq!(out, [Output::Send { to: 3, message: invite.clone(), of: Some(key) }]);

    out.clear();
    transactions.handle_timeout(at(500), &mut out);
    assert_eq!(out, [Output::Send { to: 3, message: invite, of: Some(key) }], "each failure is told");

    out.clear();
    let busy = response(486, Kind::Invite);
    transactions.handle_response(at(600), key, &Message::parse(&busy).unwrap(), &mut out);
    assert!(matches!(&out[..], [Output::Send { to: 3, of: None, .. }]), "the ACK follows the INVITE");
    assert_eq!(transactions.server_destination(server_key()), None);
}

#[test]
fn a_server_transaction_that_is_ended_says_where_its_responses_went() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    begin_server(&mut transactions, server_key(), Kind::NonInvite).unwrap();
    assert_eq!(transactions.server_destination(server_key()), Some(&7));
    assert_eq!(transactions.server_method(server_key()), Some(MethodName::Options));

    assert_eq!(transactions.end_server(server_key()), Some(7));

    assert_eq!(transactions.end_server(server_key()), None);
    assert!(!transactions.server_known(server_key()));
    assert_eq!(transactions.poll_timeout(), None, "no alarm is left");
    let disposition = transactions.handle_request(at(0), server_key(), Method::Options, &mut Vec::new());
    assert_eq!(disposition, Disposition::New);
}

#[test]
fn an_abandoned_client_transaction_says_nothing_more() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    out.clear();

    transactions.abandon_client(ClientKey::of(&secret(), &[0], Method::Options));
    transactions.handle_timeout(at(60_000), &mut out);

    assert_eq!((out, transactions.counts(), transactions.poll_timeout()), (vec![], (0, 0), None));
}

#[test]
fn an_ack_without_a_transaction_is_the_transaction_users() {
    let mut transactions: Transactions<u8> = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();

    let ack = transactions.handle_request(at(0), server_key(), Method::Ack, &mut out);
    let invite = transactions.handle_request(at(0), server_key(), Method::Invite, &mut out);

    assert_eq!((ack, invite), (Disposition::AckFor2xx, Disposition::New));
}

#[test]
fn what_is_due_comes_in_the_order_of_time_over_both_tables() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    begin_server(&mut transactions, number(0), Kind::NonInvite).unwrap();
    out.clear();

    transactions.handle_timeout(at(90_000), &mut out);

    let client = ClientKey::of(&secret(), &[0], Method::Options);
    assert_eq!(
        out[..],
        [
            Output::Client(client, ClientEvent::TimedOut),
            Output::Client(client, ClientEvent::Terminated),
            Output::Server(number(0), ServerEvent::Terminated),
        ]
    );
}

#[test]
fn other_timers_are_for_what_begins_after_them() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();
    begin_client(&mut transactions, 0, &mut out).unwrap();
    assert_eq!(transactions.poll_timeout(), Some(at(500)));

    transactions.reload(Timers { t1: Duration::from_millis(100), ..Timers::default() });
    assert_eq!(transactions.poll_timeout(), Some(at(500)));

    begin_client(&mut transactions, 1, &mut out).unwrap();
    assert_eq!(transactions.poll_timeout(), Some(at(100)));
}

/// Where reminders are only forgotten when they are due, 32 seconds of them pile up here.
#[test]
fn alarms_do_not_pile_up_under_load() {
    let mut transactions = Transactions::new(Timers::default(), Limits::default());
    let mut out = Vec::new();
    for round in 0..10_000_u64 {
        let key = number(round);
        transactions.begin_server(at(round), key, Method::Options, 7, true).unwrap();
        transactions.respond(at(round), key, Status(200), response(200, Kind::NonInvite), &mut out).unwrap();
    }

    assert_eq!((transactions.counts(), transactions.servers.alarms()), ((0, 0), 0));
}

#[test]
fn a_restored_transaction_counts_the_time_that_it_was_on_its_way() {
    let (mut original, mut out) = (Transactions::new(Timers::default(), Limits::default()), Vec::new());
    let key = client_key(Kind::Invite);
    original.begin_client(at(0), key, Kind::Invite, request(Kind::Invite), 3, false, &mut out).unwrap();
    let stored = original.stored_client(at(300), key).unwrap();
    let mut restored = Transactions::new(Timers::default(), Limits::default());

    restored.restore_client(at(90_000), key, stored.aged(Duration::from_millis(150)), 3).unwrap();

    assert_eq!(restored.poll_timeout(), Some(at(90_050)));
    out.clear();
    restored.handle_timeout(at(90_050), &mut out);
    assert_eq!(out, [Output::Send { to: 3, message: request(Kind::Invite), of: Some(key) }]);
    assert_eq!(restored.poll_timeout(), Some(at(91_050)), "the second interval is twice the first");
}

#[test]
fn restoring_sends_nothing_and_leaves_what_is_there() {
    let mut transactions = Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
    begin_server(&mut transactions, number(0), Kind::Invite).unwrap();
    let mut out = Vec::new();
    transactions.respond(at(0), number(0), Status(486), response(486, Kind::Invite), &mut out).unwrap();
    let stored = transactions.stored_server(at(0), number(0)).unwrap();
    let mut other = Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
    begin_server(&mut other, number(1), Kind::Invite).unwrap();

    assert_eq!(other.restore_server(at(0), number(0), stored.clone(), 7), Err(Full));
    assert_eq!(other.restore_server(at(0), number(1), stored.clone(), 8), Ok(()));

    assert_eq!(other.server_destination(number(1)), Some(&7), "it was there");
    assert_eq!(transactions.stored_server(at(0), number(1)), None);
    other.end_server(number(1));
    assert_eq!(other.restore_server(at(0), number(0), stored, 7), Ok(()));
    assert_eq!(other.poll_timeout(), Some(at(500)));
}

#[derive(Clone, Debug)]
enum Step {
    BeginServer(u8, Kind, bool),
    BeginClient(u8, Kind, bool),
    Request(u8, bool),
    Respond(u8, u16),
    Response(u8, u16),
    SendFailed(u8),
    EndServer(u8),
    Abandon(u8),
    Advance(u8, Progress),
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Invite), Just(Kind::NonInvite)];
    let status = prop_oneof![Just(100u16), Just(180), Just(200), Just(302), Just(408), Just(486), Just(603)];
    prop_oneof![
        (0u8..6, kind.clone(), any::<bool>())
            .prop_map(|(n, kind, reliable)| Step::BeginServer(n, kind, reliable)),
        (0u8..6, kind, any::<bool>()).prop_map(|(n, kind, reliable)| Step::BeginClient(n, kind, reliable)),
        (0u8..6, any::<bool>()).prop_map(|(n, is_ack)| Step::Request(n, is_ack)),
        (0u8..6, status.clone()).prop_map(|(n, status)| Step::Respond(n, status)),
        (0u8..6, status).prop_map(|(n, status)| Step::Response(n, status)),
        (0u8..6).prop_map(Step::SendFailed),
        (0u8..6).prop_map(Step::EndServer),
        (0u8..6).prop_map(Step::Abandon),
        (0u8..6, prop_oneof![Just(Progress::Forwarded), Just(Progress::Answered)])
            .prop_map(|(n, progress)| Step::Advance(n, progress)),
        (0u32..40_000).prop_map(Step::Pass),
    ]
}

/// Runs the steps; all outputs, and which transactions the transaction user has to end itself.
fn run(steps: &[Step]) -> (Vec<Output<u8>>, Transactions<u8>, u64) {
    let mut world = World::new();
    for step in steps {
        world.take(step);
    }
    (world.out, world.transactions, world.now)
}

/// Few transactions, for random steps.
struct World {
    transactions: Transactions<u8>,
    out: Vec<Output<u8>>,
    /// Milliseconds.
    now: u64,
}

/// Where the messages of a client transaction go, beside those of the server transaction with the same number.
const CLIENTS: u8 = 100;
const KEYS: std::ops::Range<u8> = 0..6;

impl World {
    fn new() -> Self {
        Self { transactions: Self::transactions(), out: Vec::new(), now: 0 }
    }

    fn transactions() -> Transactions<u8> {
        let mut transactions =
            Transactions::new(Timers::default(), Limits { servers_max: 4, clients_max: 4 });
        transactions.note_changes();
        transactions
    }

    fn take(&mut self, step: &Step) {
        let Self { transactions, out, now } = self;
        let client = client_number;
        let server = |n: &u8| number(u64::from(*n));
        match step {
            Step::BeginServer(n, kind, reliable) => {
                let _ = transactions.begin_server(at(*now), server(n), method_of(*kind), *n, *reliable);
            }
            Step::BeginClient(n, kind, reliable) => {
                let (request, to) = (request(*kind), CLIENTS + n);
                let _ = transactions.begin_client(at(*now), client(*n), *kind, request, to, *reliable, out);
            }
            Step::Request(n, is_ack) => {
                let method = if *is_ack { Method::Ack } else { Method::Invite };
                transactions.handle_request(at(*now), server(n), method, out);
            }
            Step::Respond(n, status) => {
                let message = response(*status, Kind::Invite);
                let _ = transactions.respond(at(*now), server(n), Status(*status), message, out);
            }
            Step::Response(n, status) => {
                let bytes = response(*status, Kind::Invite);
                let message = Message::parse(&bytes).unwrap();
                transactions.handle_response(at(*now), client(*n), &message, out);
            }
            Step::SendFailed(n) => transactions.handle_send_failed(at(*now), client(*n), out),
            Step::EndServer(n) => drop(transactions.end_server(server(n))),
            Step::Abandon(n) => transactions.abandon_client(client(*n)),
            Step::Advance(n, progress) => drop(transactions.advance_server(server(n), *progress)),
            Step::Pass(ms) => {
                *now += u64::from(*ms);
                transactions.handle_timeout(at(*now), out);
            }
        }
        let (servers, clients) = transactions.counts();
        assert!(servers <= 4 && clients <= 4);
        assert!(transactions.servers.alarms() <= servers && transactions.clients.alarms() <= clients);
    }

    /// All transactions move to another node, whose clock says `later` then.
    fn move_away(&mut self, later: u64) {
        let (before, after) = (self.now, self.now + later);
        let mut transactions = Self::transactions();
        for n in KEYS {
            let (server, client) = (number(u64::from(n)), client_number(n));
            if let Some(stored) = self.transactions.stored_server(at(before), server) {
                transactions.restore_server(at(after), server, stored, n).unwrap();
            }
            if let Some(stored) = self.transactions.stored_client(at(before), client) {
                transactions.restore_client(at(after), client, stored, CLIENTS + n).unwrap();
            }
        }
        assert_eq!(transactions.counts(), self.transactions.counts());
        (self.transactions, self.now) = (transactions, after);
    }

    /// What each transaction said, apart from each other: which of two comes first at one moment is by chance.
    fn said(&self) -> BTreeMap<String, Vec<&Output<u8>>> {
        let mut said: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for output in &self.out {
            let who = match output {
                Output::Send { to, .. } => format!("{to}"),
                Output::Client(key, _) => format!("{key:?}"),
                Output::Server(key, _) => format!("{key:?}"),
            };
            said.entry(who).or_default().push(output);
        }
        said
    }

    fn stored(&self) -> (Vec<Option<StoredServer>>, Vec<Option<StoredClient>>) {
        let now = at(self.now);
        let server = |n| self.transactions.stored_server(now, number(u64::from(n)));
        let client = |n| self.transactions.stored_client(now, client_number(n));
        (KEYS.map(server).collect(), KEYS.map(client).collect())
    }
}

fn client_number(n: u8) -> ClientKey {
    ClientKey::of(&secret(), &[n], Method::Invite)
}

proptest! {
    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in prop::collection::vec(step(), 0..80)) {
        prop_assert_eq!(run(&steps).0, run(&steps).0);
    }

    /// Wherever it is moved to another node, with another clock.
    #[test]
    fn what_was_stored_and_restored_goes_on_as_the_original(
        steps in prop::collection::vec((step(), any::<bool>(), 0u64..1 << 30), 0..60)
    ) {
        let (mut original, mut moved) = (World::new(), World::new());
        for (step, moves, later) in &steps {
            original.take(step);
            moved.take(step);
            if *moves {
                moved.move_away(*later);
            }
        }
        let rest = Step::Pass(40_000);
        for world in [&mut original, &mut moved] {
            world.take(&rest);
            world.take(&rest);
        }
        prop_assert_eq!(original.said(), moved.said());
        prop_assert_eq!(original.stored(), moved.stored());
    }

    #[test]
    fn whatever_changes_is_noted(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in &steps {
            let ((servers_before, clients_before), before) = (world.stored(), world.now);
            world.take(step);
            let ((servers, clients), passed) = (world.stored(), Duration::from_millis(world.now - before));
            let (mut changed_servers, mut changed_clients) = (Vec::new(), Vec::new());
            world.transactions.take_changes(&mut changed_servers, &mut changed_clients);
            for (n, (was, is)) in (0..).zip(servers_before.into_iter().zip(servers)) {
                let is_noted = changed_servers.contains(&number(n));
                prop_assert!(is_noted || was.map(|was| was.aged(passed)) == is, "{n} {step:?}");
            }
            for (n, (was, is)) in (0..).zip(clients_before.into_iter().zip(clients)) {
                let is_noted = changed_clients.contains(&client_number(n));
                prop_assert!(is_noted || was.map(|was| was.aged(passed)) == is, "{n} {step:?}");
            }
        }
    }

    #[test]
    fn whatever_happens_each_transaction_ends_once(steps in prop::collection::vec(step(), 0..80)) {
        let (mut out, mut transactions, now) = run(&steps);
        transactions.handle_timeout(at(now + 64_000), &mut out);
        transactions.handle_timeout(at(now + 128_000), &mut out);

        // All that is left waits for the transaction user, and for no timer.
        prop_assert_eq!(transactions.poll_timeout(), None);
        let mut ended: BTreeMap<String, u64> = BTreeMap::new();
        for output in &out {
            match output {
                Output::Server(key, ServerEvent::Terminated) => *ended.entry(format!("{key:?}")).or_default() += 1,
                Output::Client(key, ClientEvent::Terminated) => *ended.entry(format!("{key:?}")).or_default() += 1,
                _ => {}
            }
        }
        let (counters, (servers, clients)) = (transactions.counters(), transactions.counts());
        let abandoned = steps.iter().filter(|it| matches!(it, Step::EndServer(_) | Step::Abandon(_))).count();
        let begun = counters.servers_begun + counters.clients_begun;
        let left = (servers + clients) as u64;
        let ends: u64 = ended.values().sum();
        prop_assert!(ends + left <= begun && begun <= ends + left + abandoned as u64);
    }
}

fn begin_server(transactions: &mut Transactions<u8>, key: ServerKey, kind: Kind) -> Result<(), Full> {
    transactions.begin_server(at(0), key, method_of(kind), 7, false)
}

fn begin_client(
    transactions: &mut Transactions<u8>,
    branch: u8,
    out: &mut Vec<Output<u8>>,
) -> Result<(), Full> {
    let key = ClientKey::of(&secret(), &[branch], Method::Options);
    transactions.begin_client(at(0), key, Kind::NonInvite, request(Kind::NonInvite), 7, false, out)
}

fn number(number: u64) -> ServerKey {
    let request = format!(
        "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{number}\r\nCall-ID: c\r\n\r\n"
    );
    ServerKey::of(&secret(), &Message::parse(request.as_bytes()).unwrap()).unwrap()
}
