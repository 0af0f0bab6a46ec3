//! An event loop in small: requests that come, cost time, and stand in a queue.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use keys::RootKey;
use transport::{ListenerId, RemoteAddr};

use super::*;
use crate::bans::Deed;
use crate::{Report, Settings, TrustedPeer};

#[test]
fn a_load_that_can_be_handled_is_handled_whole_also_in_bursts() {
    let mut world = World::new();

    // 60 % of what can be done, for ten seconds; and once a second 50 at once.
    for second in 1..=10 {
        world.burst(50, |number| register(number, NEW, second));
        world.run(Duration::from_secs(1), &[(1_000, &|number| register(number, NEW, second))]);
    }

    assert_eq!(world.refused(), [0; 4]);
    assert_eq!(world.changes, []);
}

#[test]
fn under_overload_the_least_important_are_refused_and_all_others_served() {
    let mut world = World::new();
    let load: [Load<'_>; 4] = [
        (2_500, &|number| options(number)),
        (500, &|number| register(number, PHONE, 1)),
        (50, &|number| invite(number, "sip:bob@example.org")),
        (50, &|number| bye(number)),
    ];

    world.run(Duration::from_secs(4), &load);

    let [other, new, known, call] = world.refused();
    assert!(other > 4_000, "of 10,000 OPTIONS {other} were refused");
    assert_eq!((new, known, call), (0, 0, 0));
    assert_eq!(world.changes, [Change::Begun]);
}

#[test]
fn what_is_refused_goes_from_class_to_class_until_it_is_enough() {
    let mut world = World::new();
    let load: [Load<'_>; 4] = [
        (250, &|number| options(number)),
        (1_500, &|number| register(number, NEW, 1)),
        (1_500, &|number| register(number, PHONE, 1)),
        (250, &|number| invite(number, "sip:bob@example.org")),
    ];

    world.run(Duration::from_secs(2), &load);
    world.turned_away.clear();
    world.run(Duration::from_secs(2), &load);

    let [other, new, known, call] = world.refused();
    assert!(other > 400 && new > 2_500, "{:?}", world.refused());
    assert!((100..2_800).contains(&known), "some are let in: {known}");
    assert_eq!(call, 0, "calls need not be refused");
}

#[test]
fn calls_are_refused_only_when_they_alone_are_too_many_and_never_the_rest_of_a_call_or_an_emergency() {
    let mut world = World::new();
    let load: [Load<'_>; 4] = [
        (5_000, &|number| invite(number, "sip:bob@example.org")),
        (100, &|number| invite(number, "sip:112@example.org")),
        (100, &|number| {
            invite(number, "sip:bob@example.org").replace("To: <sip:bob>", "To: <sip:bob>;tag=1")
        }),
        (100, &|number| bye(number)),
    ];

    world.run(Duration::from_secs(2), &load);

    let [.., call] = world.refused();
    assert!((3_000..10_000).contains(&call), "{call}");
}

#[test]
fn it_ends_some_seconds_after_the_load_and_the_next_one_is_another() {
    let mut world = World::new();
    let load: [Load<'_>; 1] = [(4_000, &|number| options(number))];
    world.run(Duration::from_secs(1), &load);
    assert_eq!(world.changes, [Change::Begun]);

    world.run(Duration::from_secs(4), &[]);
    assert!(world.overload.is_quiet());
    assert_eq!(world.changes, [Change::Begun], "it could begin again");
    world.run(Duration::from_secs(6), &[]);
    assert_eq!(world.changes, [Change::Begun, Change::Ended]);

    world.run(Duration::from_secs(1), &load);
    assert_eq!(world.changes, [Change::Begun, Change::Ended, Change::Begun]);
}

#[test]
fn a_process_that_was_not_scheduled_is_not_overloaded() {
    let mut world = World::new();
    for _ in 0..20 {
        world.run(Duration::from_millis(100), &[(500, &|number| options(number))]);
        // What came meanwhile stands there when it goes on.
        world.now += Duration::from_millis(200);
        world.burst(100, options);
    }

    assert_eq!(world.changes, []);
}

#[test]
fn after_a_takeover_it_is_seen_sooner() {
    let begins_after = |is_takeover: bool| {
        let mut world = World::new();
        if is_takeover {
            world.overload.handle_takeover(world.now);
        }
        let start = world.now;
        world.run(Duration::from_secs(1), &[(5_000, &|number| options(number))]);
        world.begun_at.expect("it is too much").since(start)
    };

    let (usual, after) = (begins_after(false), begins_after(true));

    assert!(usual >= PATIENCE && after < PATIENCE, "{usual:?} {after:?}");
}

/// RFC 3261 §20.33: those who are refused together come back one by one, and a copy is told the same.
#[test]
fn the_time_to_come_back_is_spread_and_the_same_for_each_copy_of_a_request() {
    let world = World::overloaded();
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();

    for number in 0..10_000 {
        let request = register(number, NEW, 1);
        let verdict = world.judge(NEW, &request);
        let Verdict::Refuse(Rejection { class: Class::NewRegistration, retry_after: Some(seconds) }) =
            verdict
        else {
            panic!("{verdict:?}");
        };
        assert_eq!(world.judge(NEW, &request), verdict);
        *times.entry(seconds).or_default() += 1;
    }

    assert_eq!(times.keys().copied().collect::<Vec<_>>(), (5..31).collect::<Vec<_>>());
    assert!(times.values().all(|&count| (250..550).contains(&count)), "{times:?}");
}

#[test]
fn a_phone_that_is_refused_is_not_the_one_that_is_refused_the_next_time() {
    let mut world = World::new();
    world.overload.share = WHOLE + WHOLE / 2;
    let refused = |cseq| -> Vec<u32> {
        (0..1_000).filter(|&number| world.is_refused(NEW, &register(number, NEW, cseq))).collect()
    };
    let (first, second) = (refused(1), refused(2));

    let both = first.iter().filter(|number| second.contains(number)).count();

    assert!((400..600).contains(&first.len()) && (400..600).contains(&second.len()));
    assert!((150..350).contains(&both), "{both}");
}

/// RFC 3261 §21.5.4.
#[test]
fn a_peer_is_refused_last_and_not_told_to_stay_away() {
    let mut world = World::overloaded();
    let call = invite(1, "sip:bob@example.org");

    let refusal = Verdict::Refuse(Rejection { class: Class::Call, retry_after: None });
    assert_eq!(world.judge(CARRIER, &call), refusal);
    assert_eq!(world.judge(CARRIER, &options(1)), refusal);
    assert!(matches!(
        world.judge(NEW, &call),
        Verdict::Refuse(Rejection { class: Class::Call, retry_after: Some(_) })
    ));
    world.overload.share = 3 * WHOLE;
    assert_eq!(world.judge(CARRIER, &options(1)), Verdict::Admit);
    assert_eq!(world.judge(MONITOR, &options(1)), Verdict::Admit);
    assert!(world.is_refused(NEW, &options(1)));
}

#[test]
fn whoever_was_let_in_to_be_challenged_is_let_in_with_the_answer_before_others() {
    let mut world = World::new();
    world.overload.share = 2 * WHOLE;
    let request = register(1, NEW, 2);

    assert!(world.is_refused(NEW, &request));
    let proven =
        request.replace("Content-Length", "Authorization: Digest username=\"bob\"\r\nContent-Length");
    assert!(!world.is_refused(NEW, &proven));
    assert!(!world.is_refused(PHONE, &request));
}

/// RFC 5031 §4.2 for the URN.
#[test]
fn calls_for_help_are_known_however_they_are_written() {
    let world = World::overloaded();
    for uri in [
        "sip:112@example.org",
        "sip:1-1-2@example.org;user=phone",
        "sip:911;phone-context=+1@example.org",
        "tel:112",
        "tel:911;phone-context=+1",
        "urn:service:sos",
        "URN:Service:SOS.police",
    ] {
        assert!(!world.is_refused(NEW, &invite(1, uri)), "{uri}");
    }
    for uri in [
        "sip:1123@example.org",
        "sip:0@112.example.org",
        "tel:+112",
        "urn:service:sosa",
        "urn:service:counseling",
    ] {
        assert!(world.is_refused(NEW, &invite(1, uri)), "{uri}");
    }
}

#[test]
fn what_belongs_to_something_under_way_is_never_refused() {
    let world = World::overloaded();
    for method in ["ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO"] {
        assert!(!world.is_refused(NEW, &request(method, "sip:bob@example.org", 1, NEW, 1)), "{method}");
    }
    for method in ["INVITE", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "OPTIONS"] {
        let first = request(method, "sip:bob@example.org", 1, NEW, 1);
        assert!(world.is_refused(NEW, &first), "{method}");
        let within = first.replace("To: <sip:bob>", "To: <sip:bob>;tag=1");
        assert!(!world.is_refused(NEW, &within), "{method}");
    }
    assert!(!world.is_refused(NEW, "SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"));
    assert!(!world.is_refused(NEW, "what is this?\r\n\r\n"));
}

#[test]
fn switched_off_nothing_is_refused() {
    let mut world = World::with(|settings| settings.admission.overload = Enforcement::Off);
    world.overload.share = SHARE_MAX;

    assert!(!world.is_refused(NEW, &options(1)));
}

/// What can be handled in a second: about 1,600, and 12,500 refusals. A tenth of a server, so that no test takes long.
const COST: Duration = Duration::from_micros(600);
const COST_OF_REFUSAL: Duration = Duration::from_micros(80);
const BATCH: usize = 6;
/// What the socket has room for; more is lost.
const QUEUE_MAX: usize = 200;

const PHONE: &str = "198.51.100.7:5060";
const NEW: &str = "203.0.113.9:5060";
const CARRIER: &str = "192.0.2.44:5060";
const MONITOR: &str = "192.0.2.55:5060";

/// Requests in a second, and what they are.
type Load<'a> = (u32, &'a dyn Fn(u32) -> String);

struct World {
    overload: Overload,
    bans: Bans,
    now: Instant,
    queue: VecDeque<String>,
    sent: u32,
    turned_away: Vec<Class>,
    changes: Vec<Change>,
    begun_at: Option<Instant>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let keyring = Keyring::derive(&RootKey::new([7; 32]));
        let mut settings = settings();
        change(&mut settings);
        let now = Instant::START + Duration::from_secs(100);
        let mut bans = Bans::new(Arc::new(settings), &keyring);
        bans.handle_report(now, &Report::shown(datagram(PHONE), Deed::Authenticated), &mut Vec::new());
        let overload = Overload::new(now, &keyring);
        Self {
            overload,
            bans,
            now,
            queue: VecDeque::new(),
            sent: 0,
            turned_away: vec![],
            changes: vec![],
            begun_at: None,
        }
    }

    fn overloaded() -> Self {
        let mut world = Self::new();
        world.overload.share = SHARE_MAX;
        world
    }

    fn burst(&mut self, count: u32, request: impl Fn(u32) -> String) {
        for _ in 0..count {
            self.sent += 1;
            if self.queue.len() < QUEUE_MAX {
                self.queue.push_back(request(self.sent));
            }
        }
    }

    fn run(&mut self, time: Duration, load: &[Load<'_>]) {
        let (start, end) = (self.now, self.now + time);
        let mut came = vec![0; load.len()];
        while self.now < end {
            for ((rate, request), came) in load.iter().zip(&mut came) {
                let due = (self.now.since(start).as_micros() * u128::from(*rate) / 1_000_000) as u32;
                self.burst(due - *came, request);
                *came = due;
            }
            self.round();
        }
    }

    fn round(&mut self) {
        let count = self.queue.len().min(BATCH);
        let batch: Vec<String> = self.queue.drain(..count).collect();
        for request in batch {
            let from = if request.contains(PHONE) { PHONE } else { NEW };
            self.now += match self.judge(from, &request) {
                Verdict::Admit => COST,
                Verdict::Refuse(refusal) => {
                    self.turned_away.push(refusal.class);
                    COST_OF_REFUSAL
                }
            };
        }
        if count == 0 {
            self.now += Duration::from_micros(500);
        }
        let queue = if count == BATCH { Queue::Standing } else { Queue::Drained };
        self.overload.handle_queue(self.now, queue, &mut self.changes);
        if self.begun_at.is_none() && !self.changes.is_empty() {
            self.begun_at = Some(self.now);
        }
    }

    fn judge(&self, from: &str, request: &str) -> Verdict {
        self.overload.judge(self.now, &self.bans, &datagram(from), request.as_bytes())
    }

    fn is_refused(&self, from: &str, request: &str) -> bool {
        self.judge(from, request) != Verdict::Admit
    }

    fn refused(&self) -> [usize; 4] {
        let of = |class: Class| self.turned_away.iter().filter(|it| **it == class).count();
        [Class::Other, Class::NewRegistration, Class::KnownRegistration, Class::Call].map(of)
    }
}

fn options(number: u32) -> String {
    request("OPTIONS", "sip:example.org", number, NEW, 1)
}

fn register(number: u32, from: &str, cseq: u32) -> String {
    request("REGISTER", "sip:example.org", number, from, cseq)
}

fn invite(number: u32, uri: &str) -> String {
    request("INVITE", uri, number, NEW, 1)
}

fn bye(number: u32) -> String {
    request("BYE", "sip:bob@example.org", number, NEW, 2)
}

fn request(method: &str, uri: &str, number: u32, from: &str, cseq: u32) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice>;tag=1\r\nTo: <sip:bob>\r\nCall-ID: {number}\r\nCSeq: {cseq} {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn datagram(remote: &str) -> Flow {
    let remote = RemoteAddr(remote.parse::<SocketAddr>().expect("an address"));
    Flow::Datagram { listener: ListenerId(0), remote }
}

fn settings() -> Settings {
    let mut admission = crate::Admission::default();
    admission.never.push("192.0.2.55".parse::<std::net::IpAddr>().expect("an address").into());
    Settings {
        trusted: vec![TrustedPeer {
            network: "192.0.2.44/32".parse().expect("a network"),
            name: "carrier".into(),
        }],
        admission,
        ..Settings::default()
    }
}
