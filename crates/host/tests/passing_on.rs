//! The gate in a planned hand-over, in a real kernel: what comes to the old node goes on to the new one, which lets it in
//! before it may answer. One thread with a network of its own; the neighbour's end of the cable plays all others.
//!
//! It needs root; without it each test says so and passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use cable::Lab;
use host::{Addresses, Gate, boot_time};
use waiting::wait_for;

#[path = "testbed/cable.rs"]
mod cable;
#[path = "testbed/waiting.rs"]
mod waiting;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const PHONE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200);
const HEIR: [u8; 6] = [2, 0, 0, 0, 0, 0x42];
const PHONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x43];
const BROADCAST: [u8; 6] = [0xff; 6];
const UDP: u8 = 17;
const TCP: u8 = 6;
/// As long as anybody needs.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_comes_for_the_address_goes_on_with_its_own_source() {
    let Some((lab, mut gate)) = Lab::begin(&[VIP.into(), VIP_V6.into()], &[]) else { return };
    gate.open(3, boot_time() + LONG).expect("opened");
    for packet in [v4(PHONE, VIP, UDP), v6(PHONE_V6, VIP_V6, UDP)] {
        assert!(!is_passed_on(&lab, PHONE_MAC, lab.host.mac, &packet), "nothing is handed over yet");
    }

    gate.pass_on(HEIR, boot_time() + LONG).expect("passed on");
    gate.open(3, boot_time() + LONG).expect("the lease is renewed meanwhile");

    for packet in [v4(PHONE, VIP, UDP), v6(PHONE_V6, VIP_V6, UDP)] {
        assert!(is_passed_on(&lab, PHONE_MAC, lab.host.mac, &packet), "a datagram goes on at once");
    }
    let segments = [v4(PHONE, VIP, TCP), v6(PHONE_V6, VIP_V6, TCP)];
    for packet in &segments {
        assert!(!is_passed_on(&lab, PHONE_MAC, lab.host.mac, packet), "a connection has its end here");
    }
    gate.close(3).expect("closed");
    for packet in &segments {
        assert!(is_passed_on(&lab, PHONE_MAC, lab.host.mac, packet), "now it is the other one's");
    }
    let packet = v4(PHONE, VIP, UDP);
    assert!(!is_passed_on(&lab, HEIR, lab.host.mac, &packet), "what the heir sends does not go back to it");
    assert!(!is_passed_on(&lab, PHONE_MAC, BROADCAST, &packet), "what is for all has come to all");
    assert!(!is_passed_on(&lab, PHONE_MAC, lab.host.mac, &v4(PHONE, PHONE, UDP)), "it concerns nobody else");
    assert!(gate.counts().expect("it counts").passed_on >= 4);
}

#[test]
fn passing_on_ends_with_its_time_and_when_the_service_is_back() {
    let Some((lab, mut gate)) = Lab::begin(&[VIP.into(), VIP_V6.into()], &[]) else { return };
    let packet = v4(PHONE, VIP, UDP);
    let is_passed_on = || is_passed_on(&lab, PHONE_MAC, lab.host.mac, &packet);
    gate.open(3, boot_time() + LONG).expect("opened");
    gate.pass_on(HEIR, boot_time().saturating_sub(Duration::from_millis(1))).expect("passed on");
    assert!(!is_passed_on(), "its time is over");

    gate.pass_on(HEIR, boot_time() + LONG).expect("passed on");
    gate.close(3).expect("closed");
    assert!(is_passed_on());
    gate.admit(boot_time() + LONG).expect("admitted");
    assert!(!is_passed_on(), "who takes over keeps what comes");
    gate.turn_away().expect("turned away");
    assert!(is_passed_on(), "who has not taken over has nothing to keep");

    gate.admit(boot_time() + LONG).expect("admitted");
    gate.pass_on(HEIR, boot_time() + LONG).expect("passed on");
    gate.open(5, boot_time() + LONG).expect("opened");
    assert!(!is_passed_on(), "who is active keeps what comes");
    gate.admit(boot_time() + LONG).expect("admitted");
    gate.turn_away().expect("turned away");
    assert!(!is_passed_on(), "what is over does not come back");
}

#[test]
fn a_node_that_ends_passes_on_until_the_time_is_over() {
    let Some((lab, mut gate)) = Lab::begin(&[VIP.into(), VIP_V6.into()], &[]) else { return };
    let packet = v4(PHONE, VIP, UDP);
    gate.open(3, boot_time() + LONG).expect("opened");
    gate.pass_on(HEIR, boot_time() + LONG).expect("passed on");
    gate.close(3).expect("closed");

    gate.remove();

    assert!(is_passed_on(&lab, PHONE_MAC, lab.host.mac, &packet));
    let (next, _) = Gate::new(&lab.host, &[VIP.into(), VIP_V6.into()]);
    assert!(!is_passed_on(&lab, PHONE_MAC, lab.host.mac, &packet), "another guardian begins anew");
    next.remove();
}

#[test]
fn what_is_let_in_before_the_lease_is_received_and_not_answered() {
    let Some((lab, mut gate)) = Lab::begin(&[VIP.into(), VIP_V6.into()], &[]) else { return };
    let mut addresses = Addresses::new(lab.host.clone(), vec![VIP.into()]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    let socket = UdpSocket::bind((VIP, 5060)).expect("it has the address");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a time");
    let receives = || {
        lab.send(PHONE_MAC, lab.host.mac, &v4(PHONE, VIP, UDP));
        socket.recv_from(&mut [0; 64]).ok().map(|(_, from)| from.ip())
    };
    assert_eq!(receives(), None, "the gate begins closed");

    gate.admit(boot_time() + LONG).expect("admitted");

    assert_eq!(receives(), Some(IpAddr::V4(PHONE)), "as from who has sent it");
    let before = gate.counts().expect("it counts").dropped;
    // Who has no neighbour asks for one first, in the name of this address.
    let _ = socket.send_to(b"x", (PHONE, 5060));
    let dropped = || (gate.counts()?.dropped > before).then_some(());
    assert!(wait_for(dropped).is_some(), "nothing leaves");
    gate.turn_away().expect("turned away");
    assert_eq!(receives(), None, "it is closed as before");
}

/// Whether a packet comes back by the cable, for the heir and from the host.
fn is_passed_on(lab: &Lab, from: [u8; 6], to: [u8; 6], packet: &[u8]) -> bool {
    while lab.receive().is_some() {}
    lab.send(from, to, packet);
    let until = Instant::now() + Duration::from_millis(100);
    while Instant::now() < until {
        let Some(frame) = lab.receive() else { continue };
        if frame.len() > 14 && frame[14..] == *packet && frame[..6] == HEIR {
            assert_eq!(frame[6..12], lab.host.mac, "the switch must not learn another port for the phone");
            return true;
        }
    }
    false
}

fn v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Vec<u8> {
    let payload = transport(protocol);
    let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    [packet, payload].concat()
}

fn v6(from: Ipv6Addr, to: Ipv6Addr, protocol: u8) -> Vec<u8> {
    let payload = transport(protocol);
    let head = [0x60, 0, 0, 0, 0, payload.len() as u8, protocol, 64];
    [&head[..], &from.octets(), &to.octets(), &payload].concat()
}

/// From port 4000 to port 5060, without a checksum.
fn transport(protocol: u8) -> Vec<u8> {
    let ports = [0x0f, 0xa0, 0x13, 0xc4];
    match protocol {
        UDP => [&ports[..], &[0, 12, 0, 0], b"ping"].concat(),
        _ => [&ports[..], &[0; 16]].concat(),
    }
}
