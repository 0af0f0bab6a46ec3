//! One rule, one story: scripted worlds whose every step is known.

mod bans;
mod calls;
mod dialogs;
mod elsewhere;
mod forks;
mod hostile;
mod registration;
mod waiting;

use std::net::SocketAddr;
use std::time::Duration;

use routing::{Count, Settings};
use sip::{Aor, Message, Name};

use crate::cast::{self, DOMAIN, cast, who};
use crate::ledger::Expected;
use crate::network::Conditions;
use crate::phone::{Algorithm, Answering, Behaviour, CallOrder, Fact, Role};
use crate::rng::Rng;
use crate::world::{Action, Tap, World};

/// A world without chance: a perfect network, phones with plain habits.
fn scene() -> World {
    scene_with(cast::defaults(), |_| {})
}

/// The same, with other settings and other phones.
fn scene_with(settings: Settings, change: impl FnOnce(&mut cast::Cast)) -> World {
    let mut cast = cast(&mut Rng::new(0), &settings);
    for member in &mut cast.members {
        member.setup.liked = vec![Algorithm::Sha256, Algorithm::Md5];
        member.setup.instance = false;
        member.setup.q = None;
        member.setup.strict = false;
        member.setup.preloads = false;
        member.setup.expires = secs(300);
    }
    cast.neighbour.records = true;
    change(&mut cast);
    let mut world = World::new(Rng::new(0), cast, settings, Conditions::PERFECT, false);
    world.tap = Some(Tap::default());
    world
}

/// A world in which these phones are registered.
fn registered(phones: &[usize]) -> World {
    with_registered(scene(), phones)
}

fn with_registered(mut world: World, phones: &[usize]) -> World {
    for &phone in phones {
        world.act(Action::Register(phone));
    }
    world.run_for(secs(2));
    for &phone in phones {
        assert!(world.bindings.is_bound(phone, world.now()), "phone {phone} is not registered");
    }
    world
}

/// Who calls whom, and what the callees do; ends after this time.
fn call(world: &mut World, caller: usize, order: CallOrder, answers: &[(usize, Answering)], lasts: Duration) {
    world.act(Action::Call { caller, order, expected: Expected::Answers(answers.to_vec()) });
    world.run_for(lasts);
}

fn to(user: &str) -> CallOrder {
    CallOrder::new(1, format!("sip:{user}@{DOMAIN}"))
}

/// A call that nobody hangs up by himself.
fn long_call(user: &str) -> CallOrder {
    CallOrder { hang_up_after: None, ..to(user) }
}

fn answer(after: u64) -> Answering {
    Answering::of(Behaviour::Answer { status: 180, after: secs(after) })
}

/// Nothing was broken, and every call went as its script says.
fn assert_good(mut world: World) {
    world.close_books();
    assert_eq!(world.watch.broken(), []);
}

/// The status with which the caller's call ended, 200 if it was set up.
fn outcome(world: &World) -> Option<u16> {
    world.calls.of(1).and_then(|record| record.outcome())
}

fn said(world: &World, phone: usize, is_it: impl Fn(&Fact) -> bool) -> usize {
    let tap = world.tap.as_ref().unwrap();
    tap.facts.iter().filter(|(_, who, fact)| *who == phone && is_it(fact)).count()
}

fn is_up(world: &World, phone: usize) -> bool {
    said(world, phone, |fact| matches!(fact, Fact::Established { .. })) == 1
}

fn heard_hang_up(world: &World, phone: usize) -> bool {
    said(world, phone, |fact| matches!(fact, Fact::HeardHangUp { .. })) == 1
}

fn hung_up_with(world: &World, phone: usize) -> Option<u16> {
    let tap = world.tap.as_ref().unwrap();
    tap.facts.iter().find_map(|(_, who, fact)| match fact {
        Fact::HungUp { status, .. } if *who == phone => Some(*status),
        _ => None,
    })
}

fn count(world: &World, count: Count) -> u64 {
    world.node().counts().of(count)
}

fn contacts(world: &World, user: &str) -> usize {
    let aor = Aor::parse(&format!("{user}@{DOMAIN}")).unwrap();
    world.node().contacts(world.clocks(), &aor).len()
}

/// All datagrams that went to this address and begin so.
fn sent_to(world: &World, to: SocketAddr, start: &str) -> Vec<Vec<u8>> {
    let tap = world.tap.as_ref().unwrap();
    let fits = |(_, address, bytes): &&(_, _, Vec<u8>)| *address == to && bytes.starts_with(start.as_bytes());
    tap.datagrams.iter().filter(fits).map(|(_, _, bytes)| bytes.clone()).collect()
}

/// The statuses of the responses that went to this address.
fn statuses_to(world: &World, to: SocketAddr) -> Vec<u16> {
    let bytes = sent_to(world, to, "SIP/2.0 ");
    bytes.iter().map(|bytes| Message::parse(bytes).unwrap().status().unwrap().0).collect()
}

/// Forgets what was seen so far.
fn look_away(world: &mut World) {
    world.tap = Some(Tap::default());
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
