//! The gate, the addresses and the announcements in a real kernel: one thread with a network of its own, a pair of veth
//! whose one end is the host and whose other end is the neighbour that asks.
//!
//! It needs root; without it each test says so and passes.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use host::{Addresses, Announcer, Gate, GateKind, Interface, Seen, Watch, boot_time};
use waiting::wait_for;

#[path = "testbed/waiting.rs"]
mod waiting;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ASKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

#[test]
fn an_address_answers_only_while_the_gate_is_open() {
    let Some(lab) = Lab::new() else { return };
    let (mut gate, refusals) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
    assert_eq!(gate.kind(), GateKind::Program, "{refusals:?}");
    let mut addresses = Addresses::new(lab.host.clone(), vec![IpAddr::V4(VIP)]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    assert_eq!(addresses.held().expect("a list"), [IpAddr::V4(VIP)]);

    assert!(!lab.answers(VIP), "the gate begins closed");
    gate.open(1, boot_time() + Duration::from_secs(60)).expect("opened");
    assert!(lab.answers(VIP));
    gate.open(1, boot_time().saturating_sub(Duration::from_millis(1))).expect("moved");
    assert!(!lab.answers(VIP), "a deadline that has passed");
    gate.open(1, boot_time() + Duration::from_secs(60)).expect("moved");
    assert!(lab.answers(VIP));
    gate.close(1).expect("closed");
    assert!(!lab.answers(VIP));
    gate.open(1, boot_time() + Duration::from_secs(60)).expect("written");
    assert!(!lab.answers(VIP), "a closed epoch opens nothing, whatever deadline comes late");
    gate.open(2, boot_time() + Duration::from_secs(60)).expect("opened");
    assert!(lab.answers(VIP));
    assert!(lab.answers(OTHER), "the gate concerns nobody else");
    gate.close(2).expect("closed");
    assert!(lab.answers(OTHER), "the gate concerns nobody else");
    gate.remove();
    assert!(lab.answers(VIP), "without a gate the address answers as any other");
    addresses.drop_all().expect("removed");
    addresses.drop_all().expect("removing what is not there is no error");
    assert!(!lab.answers(VIP));
}

#[test]
fn a_new_guardian_replaces_the_gate_of_a_dead_one() {
    let Some(lab) = Lab::new() else { return };
    let mut addresses = Addresses::new(lab.host.clone(), vec![IpAddr::V4(VIP)]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    let (mut dead, _) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
    dead.open(9, boot_time() + Duration::from_secs(60)).expect("opened");
    drop(dead);
    assert!(lab.answers(VIP));

    let (gate, _) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);

    assert!(!lab.answers(VIP));
    gate.remove();
}

#[test]
fn a_gate_stays_closed_behind_its_deadline_when_its_guardian_ends_without_removing_it() {
    let Some(lab) = Lab::new() else { return };
    let mut addresses = Addresses::new(lab.host.clone(), vec![IpAddr::V4(VIP)]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    let (mut dead, _) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
    dead.open(9, boot_time() + Duration::from_secs(60)).expect("opened");
    assert!(lab.answers(VIP));
    dead.open(9, boot_time().saturating_sub(Duration::from_millis(1))).expect("moved");

    drop(dead);

    assert!(!lab.answers(VIP), "the deadline holds without the guardian");
    assert!(lab.answers(OTHER), "the gate concerns nobody else");
    let (gate, _) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
    assert!(!lab.answers(VIP), "the gate begins closed");
    gate.remove();
    assert!(lab.answers(VIP), "no gate of the dead is left");
}

/// One of the two directions is guarded at any moment, and an answer needs both.
#[test]
fn nothing_is_answered_while_a_gate_takes_the_place_of_a_dead_one() {
    let Some(lab) = Lab::new() else { return };
    let mut addresses = Addresses::new(lab.host.clone(), vec![IpAddr::V4(VIP)]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    let _closed = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
    assert!(!lab.answers(VIP));

    let is_done = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut answers = 0;
            while !is_done.load(Ordering::Relaxed) {
                lab.asker.ask(Some(ASKER.into()), VIP.into()).expect("sent");
                let seen = std::iter::from_fn(|| lab.ear.next());
                answers += seen.filter(|seen| *seen == Seen::Neighbour(VIP.into())).count();
            }
            answers
        });
        for _ in 0..4 {
            let (gate, refusals) = Gate::new(&lab.host, &[IpAddr::V4(VIP)]);
            assert_eq!(gate.kind(), GateKind::Program, "{refusals:?}");
        }
        is_done.store(true, Ordering::Relaxed);
        asker.join().expect("it does not panic")
    });

    assert_eq!(answers, 0);
}

#[test]
fn an_announcement_is_seen_by_the_neighbour_as_a_claim() {
    let Some(lab) = Lab::new() else { return };
    let watch = Watch::open(lab.neighbour.clone(), vec![IpAddr::V4(VIP)]).expect("a raw socket");
    let announcer = Announcer::open(lab.host.clone()).expect("a raw socket");

    announcer.announce(IpAddr::V4(VIP)).expect("sent");
    announcer.announce("2001:db8::9".parse().expect("an address")).expect("sent");

    let seen = wait_for(|| watch.next());
    assert_eq!(seen, Some(Seen::Claim(IpAddr::V4(VIP), lab.host.mac)));
}

struct Lab {
    host: Interface,
    neighbour: Interface,
    asker: Announcer,
    ear: Watch,
}

impl Lab {
    /// A network that only this thread sees.
    fn new() -> Option<Self> {
        // SAFETY: it moves this thread alone into an empty network.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
            println!("not run: a network of its own needs root");
            return None;
        }
        for command in [
            "ip link set lo up",
            "ip link add host0 type veth peer name peer0",
            "ip link set host0 up",
            "ip link set peer0 up",
            "ip addr add 192.0.2.7/24 dev host0",
            // The other end must not answer for the host's addresses.
            "sysctl -qw net.ipv4.conf.all.arp_ignore=1",
            "sysctl -qw net.ipv4.conf.peer0.arp_ignore=8",
        ] {
            let mut words = command.split(' ');
            let status = Command::new(words.next().expect("a word")).args(words).status().expect("it runs");
            assert!(status.success(), "{command}");
        }
        let find = |name| Interface::find(name).expect("an interface");
        wait_for(|| (find("host0").has_carrier && find("peer0").has_carrier).then_some(()));
        let neighbour = find("peer0");
        Some(Self {
            host: find("host0"),
            asker: Announcer::open(neighbour.clone()).expect("a raw socket"),
            ear: Watch::open(neighbour.clone(), Vec::new()).expect("a raw socket"),
            neighbour,
        })
    }

    /// Whether the host answers who has an address.
    fn answers(&self, address: Ipv4Addr) -> bool {
        while self.ear.next().is_some() {}
        for _ in 0..3 {
            self.asker.ask(Some(ASKER.into()), address.into()).expect("sent");
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {
                if self.ear.next() == Some(Seen::Neighbour(address.into())) {
                    return true;
                }
            }
        }
        false
    }
}
