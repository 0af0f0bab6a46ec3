//! Sources of every kind, and what becomes of them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use transport::ConnectionId;

use super::*;
use crate::TrustedPeer;

#[test]
fn a_guesser_is_banned_and_a_longer_time_each_time() {
    let mut world = World::new();

    assert_eq!(guess(&mut world, GUESSER, 19), []);
    let ban = guess(&mut world, GUESSER, 1)[0];

    assert_eq!((ban.measure, ban.cause, ban.number), (Measure::Banned, Cause::WrongCredentials, 1));
    assert_eq!(ban.left, minutes(10));
    assert_eq!(world.judge(GUESSER), Judgement::Banned);
    assert_eq!(world.judge("203.0.113.9:1"), Judgement::Banned, "whatever its port");
    assert_eq!(world.judge(FRIEND), Judgement::Pass);
    world.pass(minutes(10));
    assert_eq!(world.judge(GUESSER), Judgement::Pass);
    assert_eq!(guess(&mut world, GUESSER, 20)[0].left, minutes(20));
    world.pass(minutes(20));
    assert_eq!(guess(&mut world, GUESSER, 20)[0].left, minutes(40));
}

#[test]
fn a_ban_lasts_no_longer_than_the_longest_and_is_forgotten_in_the_end() {
    let mut world = World::new();
    let mut lasts = Vec::new();
    for _ in 0..10 {
        let ban = guess(&mut world, GUESSER, 20)[0];
        lasts.push(ban.left);
        world.pass(ban.left);
    }
    assert_eq!(lasts[9], minutes(24 * 60));

    world.pass(minutes(24 * 60));
    world.bans.handle_timeout(world.now);

    assert_eq!(world.bans.poll_timeout(), None);
    assert_eq!(guess(&mut world, GUESSER, 20)[0].left, minutes(10));
}

#[test]
fn an_office_with_a_phone_is_never_banned_and_its_phone_is_heard_while_a_guesser_is_not() {
    let mut world = World::new();
    world.report(Report::shown(datagram(PHONE), Deed::Authenticated));

    let held = guess(&mut world, ATTIC, 20)[0];

    assert_eq!((held.measure, held.cause), (Measure::Restrained, Cause::WrongCredentials));
    for _ in 0..10 {
        guess(&mut world, ATTIC, 1);
    }
    assert_eq!(world.judge(ATTIC), Judgement::Slow);
    // The phone's own rate is the usual one: it may ask without proof as before.
    for _ in 0..20 {
        assert_eq!(world.judge(PHONE), Judgement::Pass);
        world.report(Report::of(datagram(PHONE), Deed::Unproven));
    }
    // A new phone gets a word in when the guesser is silent for a second.
    world.pass(Duration::from_secs(1));
    assert_eq!(world.judge("203.0.113.9:3"), Judgement::Pass);
}

#[test]
fn a_restrained_office_answers_one_guess_a_second_whoever_is_tried() {
    let mut world = World::new();
    world.report(Report::shown(datagram(PHONE), Deed::Authenticated));
    guess(&mut world, ATTIC, 20);
    world.pass(minutes(1));

    let mut heard = 0;
    for _ in 0..6_000 {
        world.pass(Duration::from_millis(10));
        if world.judge(ATTIC) == Judgement::Pass {
            heard += 1;
            guess(&mut world, ATTIC, 1);
        }
    }

    assert!(heard <= 66, "{heard} in a minute");
}

#[test]
fn every_kind_of_proof_spares_a_source() {
    for proof in [Deed::Authenticated, Deed::Answered, Deed::InCall] {
        let mut world = World::new();
        world.report(Report::shown(datagram(PHONE), proof));

        assert_eq!(guess(&mut world, ATTIC, 20)[0].measure, Measure::Restrained, "{proof:?}");
    }
    let mut world = World::new();
    world.bans.handle_binding(world.now, Transport::Udp, RemoteAddr(PHONE.parse().unwrap()));
    assert_eq!(guess(&mut world, ATTIC, 20)[0].measure, Measure::Restrained);
}

#[test]
fn a_proof_is_over_when_a_binding_would_be() {
    let mut world = World::new();
    world.report(Report::shown(datagram(PHONE), Deed::Authenticated));

    world.pass(minutes(59));
    assert_eq!(guess(&mut world, ATTIC, 20)[0].measure, Measure::Restrained);
    world.pass(minutes(121));
    assert_eq!(guess(&mut world, ATTIC, 20)[0].measure, Measure::Banned);
}

#[test]
fn a_password_with_a_nonce_that_was_sent_to_another_proves_nothing() {
    let mut world = World::new();

    world.report(Report::of(datagram(PHONE), Deed::Authenticated));

    assert_eq!(guess(&mut world, ATTIC, 20)[0].measure, Measure::Banned);
}

#[test]
fn nothing_that_can_be_forged_bans_anybody() {
    let mut world = World::new();
    let deeds = [Deed::WrongCredentials, Deed::Persisted, Deed::Scanner, Deed::Malformed, Deed::Unproven];

    for deed in deeds {
        for _ in 0..1_000 {
            assert_eq!(world.report(Report::of(datagram(GUESSER), deed)), []);
        }
    }

    assert_eq!(world.judge(GUESSER), Judgement::Slow);
    assert_eq!(world.bans.counts().banned(), 0);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.judge(GUESSER), Judgement::Pass);
}

#[test]
fn a_scanner_that_is_there_is_banned_at_once() {
    let mut world = World::new();

    let ban = world.report(Report::of(connection(GUESSER), Deed::Scanner))[0];

    assert_eq!((ban.measure, ban.cause), (Measure::Banned, Cause::Scanner));
    assert_eq!(world.judge(GUESSER), Judgement::Banned);
}

#[test]
fn what_is_no_sip_bans_only_over_a_connection() {
    let mut world = World::new();
    for _ in 0..19 {
        assert_eq!(world.report(Report::of(connection(GUESSER), Deed::Malformed)), []);
    }
    assert_eq!(world.report(Report::of(connection(GUESSER), Deed::Malformed))[0].cause, Cause::Malformed);
}

#[test]
fn a_flood_over_a_connection_is_banned_and_one_of_datagrams_slowed() {
    let mut world = World::new();
    let bans: Vec<_> =
        (0..100).flat_map(|_| world.report(Report::of(connection(GUESSER), Deed::Flood))).collect();

    assert_eq!((bans.len(), bans[0].cause), (1, Cause::Flood));
}

#[test]
fn what_proves_nothing_has_a_rate_and_a_right_password_gives_it_back() {
    let mut world = World::new();
    let heard = |world: &mut World, from: &str| {
        let mut heard = 0;
        while world.judge(from) == Judgement::Pass && heard < 5_000 {
            world.report(Report::of(datagram(from), Deed::Unproven));
            heard += 1;
        }
        heard
    };
    assert_eq!(heard(&mut world, GUESSER), 1_000);
    assert_eq!(heard(&mut world, "203.0.113.9:77"), 0, "all ports are one source");
    world.pass(Duration::from_secs(1));
    assert_eq!(heard(&mut world, GUESSER), 50);

    // Phones that answer their challenge: as many as like.
    for number in 0..10_000 {
        let phone = format!("198.51.100.9:{}", 1_024 + number);
        assert_eq!(world.judge(&phone), Judgement::Pass);
        world.report(Report::of(datagram(&phone), Deed::Unproven));
        world.report(Report::shown(datagram(&phone), Deed::Authenticated));
    }
}

#[test]
fn a_flow_that_has_proved_itself_is_heard_while_its_source_floods() {
    let mut world = World::new();
    world.report(Report::shown(datagram(PHONE), Deed::Answered));

    for _ in 0..5_000 {
        world.report(Report::of(datagram(ATTIC), Deed::Unproven));
    }

    assert_eq!(world.judge(ATTIC), Judgement::Slow);
    assert_eq!(world.judge(PHONE), Judgement::Pass);
    // A flow that was opened as a connection is another one than the datagrams of the same address.
    assert_eq!(world.bans.judge(world.now, &connection(PHONE)), Judgement::Slow);
}

#[test]
fn nobody_who_is_never_held_is_held() {
    for never in [LOOPBACK, CARRIER, NEVER] {
        let mut world = World::new();

        assert_eq!(guess(&mut world, never, 100), []);
        world.report(Report::of(connection(never), Deed::Scanner));
        for _ in 0..5_000 {
            world.report(Report::of(datagram(never), Deed::Unproven));
        }

        assert_eq!(world.judge(never), Judgement::Pass, "{never}");
        let address = never.parse::<SocketAddr>().unwrap().ip();
        assert_eq!(world.bans.ban(world.now, address, minutes(1)), Err(NeverBanned));
    }
}

#[test]
fn a_reload_frees_who_is_never_held_from_now_on_and_off_frees_all() {
    let mut world = World::new();
    guess(&mut world, GUESSER, 20);

    world.reload(|admission| admission.never = vec!["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(world.judge(GUESSER), Judgement::Pass);
    world.reload(|admission| admission.never.clear());
    assert_eq!(world.judge(GUESSER), Judgement::Banned);
    world.reload(|admission| admission.enforcement = Enforcement::Off);
    assert_eq!(world.judge(GUESSER), Judgement::Pass);
    assert_eq!(guess(&mut world, "203.0.113.77:5060", 100), []);
}

#[test]
fn offences_that_are_spread_out_ban_nobody() {
    let mut world = World::new();
    for _ in 0..50 {
        assert_eq!(guess(&mut world, GUESSER, 15), []);
        world.pass(minutes(5));
    }
}

#[test]
fn one_network_of_ipv6_is_one_source() {
    let mut world = World::new();
    for number in 0..20 {
        guess(&mut world, &format!("[2001:db8:1:2::{number:x}]:5060"), 1);
    }

    assert_eq!(world.judge("[2001:db8:1:2:ffff::1]:9"), Judgement::Banned);
    assert_eq!(world.judge("[2001:db8:1:3::1]:9"), Judgement::Pass);
}

#[test]
fn the_operator_bans_whom_he_likes_and_lifts_what_he_likes() {
    let mut world = World::new();
    world.report(Report::shown(datagram(PHONE), Deed::Authenticated));
    let phone = PHONE.parse::<SocketAddr>().unwrap().ip();
    guess(&mut world, FRIEND, 20);

    let ban = world.bans.ban(world.now, phone, minutes(60)).unwrap();

    assert_eq!((ban.cause, ban.left), (Cause::Operator, minutes(60)));
    assert_eq!(world.judge(PHONE), Judgement::Banned);
    assert_eq!(world.bans.list(world.now).len(), 2);
    assert!(world.bans.remove(world.now, SourceNetwork::of(phone)));
    assert!(!world.bans.remove(world.now, SourceNetwork::of(phone)));
    assert_eq!(world.judge(PHONE), Judgement::Pass);
    assert_eq!(world.bans.remove_all(world.now), 1);
    assert_eq!((world.judge(FRIEND), world.bans.list(world.now)), (Judgement::Pass, Vec::new()));
    assert_eq!(world.bans.poll_timeout(), None);
    assert_eq!(guess(&mut world, FRIEND, 19), [], "what it did before is forgotten");
}

#[test]
fn the_list_names_each_source_once_with_the_hardest_measure() {
    let mut world = World::new();
    guess(&mut world, GUESSER, 20);
    for _ in 0..2_000 {
        world.report(Report::of(datagram(GUESSER), Deed::Unproven));
        world.report(Report::of(datagram(FRIEND), Deed::Unproven));
    }

    let list = world.bans.list(world.now);

    let shown: Vec<_> = list.iter().map(|ban| (ban.source.to_string(), ban.measure)).collect();
    let expected =
        [("198.51.100.9".to_owned(), Measure::Slowed), ("203.0.113.9".to_owned(), Measure::Banned)];
    assert_eq!(shown, expected);
    assert_eq!(world.bans.held(world.now), 1);
}

#[test]
fn what_is_said_to_be_quiet_is_quiet() {
    let mut world = World::new();
    assert!(world.bans.busy_until() <= world.now);

    guess(&mut world, GUESSER, 20);
    assert!(world.bans.busy_until() >= world.now + minutes(10));
    world.bans.remove_all(world.now);
    world.pass(minutes(11));

    for _ in 0..1_500 {
        world.report(Report::of(datagram(FRIEND), Deed::Unproven));
    }
    assert_eq!(world.judge(FRIEND), Judgement::Slow);
    assert!(world.bans.busy_until() > world.now);
}

#[test]
fn a_report_that_says_nothing_new_is_known_as_such() {
    let mut world = World::new();
    for proof in [Deed::Authenticated, Deed::Answered, Deed::InCall] {
        let report = Report::shown(datagram(PHONE), proof);
        let is_first = proof == Deed::Authenticated;
        assert_eq!(world.bans.is_news(world.now, &report), is_first, "{proof:?}");
        world.report(report);
        assert!(!world.bans.is_news(world.now, &report));
    }
    assert!(!world.bans.is_news(world.now, &Report::of(datagram(CARRIER), Deed::Unproven)));
    world.report(Report::of(datagram(PHONE), Deed::Unproven));
    assert!(world.bans.is_news(world.now, &Report::shown(datagram(PHONE), Deed::Authenticated)));
    world.pass(minutes(61));
    assert!(world.bans.is_news(world.now, &Report::shown(datagram(PHONE), Deed::InCall)));
}

#[test]
fn memory_is_bounded_and_a_ban_outlives_a_flood_of_forged_addresses() {
    let mut world = World::new();
    guess(&mut world, GUESSER, 20);

    for number in 0..300_000u32 {
        let from = Ipv4Addr::from(0x0a00_0000 + number);
        let flow = Flow::Datagram { listener: ListenerId(0), remote: RemoteAddr((from, 5060).into()) };
        world.report(Report::of(flow, Deed::Unproven));
    }
    for number in 0..100_000u64 {
        let from = Ipv6Addr::from_bits(u128::from(number) << 64 | 1);
        world.report(Report::of(connection(&SocketAddr::from((from, 5060)).to_string()), Deed::Scanner));
    }

    assert!(world.bans.budgets.len() <= BUDGETS_MAX);
    assert!(world.bans.offenders.len() <= OFFENDERS_MAX);
    assert!(world.bans.penalties.len() <= PENALTIES_MAX);
    assert_eq!(world.bans.penalties.len(), world.bans.forgotten.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is reported: who is never held is heard, who has proved itself is not banned, quiet is quiet.
    #[test]
    fn the_promises_hold_whatever_is_reported(
        steps in proptest::collection::vec((0usize..8, 0usize..5, 0usize..9, 1u64..40_000), 1..400)
    ) {
        let mut world = World::new();
        let mut proved: BTreeSet<usize> = BTreeSet::new();
        let start = world.now;
        for (way, source, deed, pause) in steps {
            world.pass(Duration::from_millis(pause));
            let from = [GUESSER, PHONE, FRIEND, CARRIER, LOOPBACK][source];
            let flow = if way % 2 == 0 { datagram(from) } else { connection(from) };
            let deed = DEEDS[deed];
            let report = if way < 4 { Report::of(flow, deed) } else { Report::shown(flow, deed) };
            let is_banned = world.bans.judge(world.now, &flow) == Judgement::Banned;
            if is_banned && way < 6 {
                continue;
            }
            world.report(report);
            let is_proof = matches!(deed, Deed::Answered | Deed::InCall)
                || (deed == Deed::Authenticated && report.evidence == Evidence::Shown);
            if is_proof && !is_banned {
                proved.insert(if source == 1 { 0 } else { source });
            }
            for (number, from) in [GUESSER, PHONE, FRIEND, CARRIER, LOOPBACK].into_iter().enumerate() {
                let judgement = world.judge(from);
                if number >= 3 {
                    prop_assert_eq!(judgement, Judgement::Pass);
                }
                let number = if number == 1 { 0 } else { number };
                if proved.contains(&number) && world.now < start + minutes(60) {
                    prop_assert_ne!(judgement, Judgement::Banned);
                }
                if judgement != Judgement::Pass {
                    prop_assert!(world.bans.busy_until() > world.now);
                }
            }
            prop_assert_eq!(world.bans.penalties.len(), world.bans.forgotten.len());
        }
    }
}

const DEEDS: [Deed; 9] = [
    Deed::Answered,
    Deed::InCall,
    Deed::Authenticated,
    Deed::Unproven,
    Deed::WrongCredentials,
    Deed::Persisted,
    Deed::Scanner,
    Deed::Malformed,
    Deed::Flood,
];

const GUESSER: &str = "203.0.113.9:5060";
/// Two flows behind the NAT of one office.
const PHONE: &str = "203.0.113.9:1024";
const ATTIC: &str = "203.0.113.9:1025";
const FRIEND: &str = "198.51.100.9:5060";
const CARRIER: &str = "192.0.2.200:5060";
const NEVER: &str = "[2001:db8:9::1]:5060";
const LOOPBACK: &str = "127.0.0.1:5060";

struct World {
    bans: Bans,
    settings: Settings,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let settings = settings();
        let keyring = Keyring::derive(&keys::RootKey::new([3; 32]));
        let bans = Bans::new(Arc::new(settings.clone()), &keyring);
        Self { bans, settings, now: Instant::START + Duration::from_secs(1) }
    }

    fn report(&mut self, report: Report) -> Vec<Ban> {
        let mut out = Vec::new();
        self.bans.handle_report(self.now, &report, &mut out);
        out
    }

    fn judge(&self, from: &str) -> Judgement {
        self.bans.judge(self.now, &datagram(from))
    }

    fn reload(&mut self, change: impl FnOnce(&mut Admission)) {
        change(&mut self.settings.admission);
        self.bans.reload(self.now, Arc::new(self.settings.clone()));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn settings() -> Settings {
    Settings {
        trusted: vec![TrustedPeer { network: "192.0.2.200/32".parse().unwrap(), name: "carrier".to_owned() }],
        admission: Admission {
            never: vec!["2001:db8:9::/48".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
            ..Admission::default()
        },
        ..Settings::default()
    }
}

fn guess(world: &mut World, from: &str, times: u32) -> Vec<Ban> {
    (0..times).flat_map(|_| world.report(Report::shown(datagram(from), Deed::WrongCredentials))).collect()
}

fn datagram(remote: &str) -> Flow {
    Flow::Datagram { listener: ListenerId(0), remote: RemoteAddr(remote.parse().unwrap()) }
}

fn connection(remote: &str) -> Flow {
    let id = ConnectionId { node: 0, boot: 1, listener: ListenerId(1), number: 1 };
    Flow::Connection { id, remote: RemoteAddr(remote.parse().unwrap()) }
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}
