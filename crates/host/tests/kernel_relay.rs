//! The relay's fast path in a real kernel: what an engine has given is sent on by the program behind the gate, and nothing else.
//!
//! It needs root; without it each test says so and passes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use cable::Lab;
use host::{Ends, Gate, Heard, KernelRelay, RATES_MAX, Way, boot_time, interface_towards, reason_pipe};
use waiting::wait_for;

#[path = "testbed/cable.rs"]
mod cable;
#[path = "testbed/waiting.rs"]
mod waiting;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const PHONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x43];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x44];
const LONG: Duration = Duration::from_secs(60);
const TOS: u8 = 46 << 2;
const COMMANDS: &[&str] = &[
    "ip addr add 2001:db8::7/64 dev host0 nodad",
    "ip neigh add 192.0.2.201 lladdr 02:00:00:00:00:44 dev host0",
    "ip neigh add 2001:db8::201 lladdr 02:00:00:00:00:44 dev host0",
];

#[test]
fn rtp_of_a_given_stream_goes_on_by_the_hand_of_one_who_has_no_rights() {
    let Some((lab, mut gate)) = begin() else { return };
    gate.open(3, boot_time() + LONG).expect("opened");
    drop_rights();
    let Some(relay) = opened(&gate) else { return };
    for (came, way) in [v4(), v6()] {
        relay.set(came, &way, Heard::default()).expect("the engine may");

        lab.send(PHONE_MAC, lab.host.mac, &datagram(came, &rtp(1, 160)));
        let frame = relayed(&lab).expect("it is sent on");

        assert_eq!(frame[..12], [OTHER_MAC, lab.host.mac].concat(), "from here to the neighbour");
        let mut expected = datagram(way.leaves, &rtp(1, 160));
        mark(&mut expected, TOS);
        assert_eq!(frame[14..], expected, "with other ends, its checksums right");
        let heard = relay.heard(came).expect("the engine may look").expect("it is there");
        assert_eq!((heard.packets, heard.octets, heard.ssrc, heard.highest), (1, 172, 7, 1));
        assert!(heard.at > 0 && heard.at <= boot_time().as_nanos() as u64);
    }
    assert!(relay.take_back(v4().0).expect("the engine may").is_some());
    lab.send(PHONE_MAC, lab.host.mac, &datagram(v4().0, &rtp(2, 320)));
    assert!(relayed(&lab).is_none(), "what was taken back is user space's");
    relay.clear().expect("cleared");
    assert_eq!(relay.heard(v6().0).expect("the engine may look"), None);
}

#[test]
fn strangers_and_all_but_plain_rtp_are_left_to_user_space() {
    let Some((lab, mut gate)) = begin() else { return };
    let Some(relay) = opened(&gate) else { return };
    gate.open(3, boot_time() + LONG).expect("opened");
    let ((came, way), (came_v6, way_v6)) = (v4(), v6());
    relay.set(came, &way, Heard::default()).expect("set");
    relay.set(came_v6, &way_v6, Heard::default()).expect("set");
    let good = datagram(came, &rtp(1, 160));
    let from = |text: &str| Ends { from: at(text), ..came };
    let mut fragment = good.clone();
    fragment[6] = 0x20;
    let mut options = good.clone();
    options[0] = 0x46;
    let mut shorter = good.clone();
    shorter[3] -= 4;
    let left = [
        ("another port", datagram(from("192.0.2.200:4001"), &rtp(1, 160))),
        ("another address", datagram(from("192.0.2.202:4000"), &rtp(1, 160))),
        ("another port of ours", datagram(Ends { to: at("192.0.2.9:30002"), ..came }, &rtp(1, 160))),
        ("RTCP", datagram(came, &[&[0x80, 201, 0, 1], &[0; 12][..]].concat())),
        ("STUN", datagram(came, &[0; 20])),
        ("DTLS", datagram(came, &[22; 40])),
        ("a list of sources that is cut off", datagram(came, &[&[0x8f, 0], &[0; 20][..]].concat())),
        ("a fragment", fragment),
        ("options", options),
        ("another length", shorter),
        ("too little", datagram(came, &[0x80; 8])),
        ("a stranger of IPv6", datagram(Ends { from: at("[2001:db8::202]:4000"), ..came_v6 }, &rtp(1, 160))),
        ("RTCP of IPv6", datagram(came_v6, &[&[0x80, 201, 0, 1], &[0; 12][..]].concat())),
    ];
    for (what, packet) in left {
        lab.send(PHONE_MAC, lab.host.mac, &packet);
        assert!(relayed(&lab).is_none(), "{what}");
    }
    assert_eq!(relay.heard(came).expect("look"), Some(Heard::default()));
    lab.send(PHONE_MAC, lab.host.mac, &good);
    assert!(relayed(&lab).is_some());
}

#[test]
fn nothing_goes_on_without_the_lease_or_its_guardian() {
    let Some((lab, mut gate)) = begin() else { return };
    let Some(relay) = opened(&gate) else { return };
    let (came, way) = v4();
    relay.set(came, &way, Heard::default()).expect("set");
    let is_relayed = || {
        lab.send(PHONE_MAC, lab.host.mac, &datagram(came, &rtp(1, 160)));
        relayed(&lab).is_some()
    };
    assert!(!is_relayed(), "the gate begins closed");
    gate.admit(boot_time() + LONG).expect("admitted");
    assert!(!is_relayed(), "what is let in waits for the lease");
    gate.open(3, boot_time().saturating_sub(Duration::from_millis(1))).expect("opened");
    assert!(!is_relayed(), "its time is over");
    gate.open(3, boot_time() + LONG).expect("opened");
    assert!(is_relayed());
    gate.close(3).expect("closed");
    assert!(!is_relayed());
    gate.open(4, boot_time() + LONG).expect("opened");
    assert!(is_relayed());
    drop(gate);
    // The kernel takes its time to close what a process had.
    let is_over = wait_for(|| (!is_relayed()).then_some(()));
    assert!(is_over.is_some(), "with the guardian's end user space has what the lease still lets in");
}

#[test]
fn an_engine_can_send_by_a_virtual_address_alone_and_take_no_known_port() {
    let Some((lab, mut gate)) = begin() else { return };
    let Some(relay) = opened(&gate) else { return };
    gate.open(3, boot_time() + LONG).expect("opened");
    let (came, way) = v4();
    let to = |text: &str| Ends { to: at(text), ..came };
    for (what, came, way) in [
        ("in another's name", came, leaving("192.0.2.8:30002")),
        ("from a port of the privileged", came, leaving("192.0.2.9:53")),
        ("to a port of the privileged", to("192.0.2.9:53"), way),
        ("what is for the host itself", to("192.0.2.7:30000"), way),
        ("by the other family", came, v6().1),
    ] {
        relay.set(came, &way, Heard::default()).expect("set");
        lab.send(PHONE_MAC, lab.host.mac, &datagram(came, &rtp(1, 160)));
        assert!(relayed(&lab).is_none(), "{what}");
        relay.clear().expect("cleared");
    }
}

#[test]
fn what_is_missing_is_lost_and_what_is_late_or_anew_is_not() {
    let Some((lab, mut gate)) = begin() else { return };
    let Some(relay) = opened(&gate) else { return };
    gate.open(3, boot_time() + LONG).expect("opened");
    let (came, way) = v4();
    let heard = |numbers: &[u16], begin: Heard| {
        relay.set(came, &way, begin).expect("set");
        for number in numbers {
            lab.send(PHONE_MAC, lab.host.mac, &datagram(came, &rtp(*number, 160 * u32::from(*number))));
            relayed(&lab).expect("it is sent on");
        }
        relay.take_back(came).expect("look").expect("it is there")
    };
    let lost = |it: Heard| {
        it.lost_before + it.cycles * 65_536 + u64::from(it.highest) + 1 - u64::from(it.base) - it.received
    };

    let gap = heard(&[10, 11, 13, 12, 15, 16], Heard::default());
    assert_eq!((gap.packets, lost(gap)), (6, 1));
    assert_eq!(lost(heard(&[65_533, 65_534, 0, 1], Heard::default())), 1);
    let anew = heard(&[1, 3, 40_000, 40_001, 40_002], Heard::default());
    assert_eq!((anew.packets, anew.base, lost(anew)), (5, 40_001, 1));
    let on = heard(&[18], gap);
    assert_eq!((on.packets, on.base, lost(on)), (7, 10, 2), "it goes on with what was heard before");
    assert_eq!((on.rate, on.has_transit, on.transit_payload), (16_000, 1, 8), "the rate that was given");
}

#[test]
fn the_way_of_a_packet_is_asked_of_the_kernel() {
    let Some((lab, gate)) = begin() else { return };
    let towards = |to: &str| interface_towards(VIP.into(), to.parse().expect("an address")).ok().flatten();

    assert_eq!(towards("192.0.2.201"), None, "the address is not here yet");
    host::Addresses::new(lab.host.clone(), vec![VIP.into()]).expect("netlink").hold().expect("added");
    assert_eq!(towards("192.0.2.201"), Some(lab.host.index));
    assert_eq!(towards("192.0.2.7"), None, "it stays on this host");
    assert_eq!(towards("198.51.100.1"), None, "there is no route");
    gate.remove();
}

#[test]
fn why_there_is_no_fast_path_comes_by_the_same_descriptor() {
    let pipe = reason_pipe("the gate is made of nftables").expect("a pipe");

    assert_eq!(KernelRelay::open(pipe).expect_err("no map"), "the gate is made of nftables");
}

fn begin() -> Option<(Lab, Gate)> {
    Lab::begin(&[VIP.into(), VIP_V6.into()], COMMANDS)
}

fn opened(gate: &Gate) -> Option<KernelRelay> {
    let map = gate.relay_map().expect("the program hangs behind the gate");
    KernelRelay::open(map).inspect_err(|reason| println!("not run: {reason}")).ok()
}

fn v4() -> (Ends, Way) {
    let came = Ends { from: at("192.0.2.200:4000"), to: at("192.0.2.9:30000") };
    (came, way(Ends { from: at("192.0.2.9:30002"), to: at("192.0.2.201:6000") }))
}

fn v6() -> (Ends, Way) {
    let came = Ends { from: at("[2001:db8::200]:4000"), to: at("[2001:db8::9]:30000") };
    (came, way(Ends { from: at("[2001:db8::9]:30002"), to: at("[2001:db8::201]:6000") }))
}

fn way(leaves: Ends) -> Way {
    let mut rates = [(0, 0); RATES_MAX];
    rates[1] = (8, 16_000);
    Way { leaves, tos: TOS, rates }
}

/// The way of IPv4, with another end at which it leaves.
fn leaving(from: &str) -> Way {
    way(Ends { from: at(from), to: v4().1.leaves.to })
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The next datagram that comes back by the cable.
fn relayed(lab: &Lab) -> Option<Vec<u8>> {
    let until = Instant::now() + Duration::from_millis(60);
    while Instant::now() < until {
        let Some(frame) = lab.receive() else { continue };
        if frame.len() > 14 && frame[6..12] == lab.host.mac && frame[..6] == OTHER_MAC {
            return Some(frame);
        }
    }
    None
}

fn rtp(sequence: u16, timestamp: u32) -> Vec<u8> {
    let head = [&[0x80, 8], &sequence.to_be_bytes()[..], &timestamp.to_be_bytes(), &[0, 0, 0, 7]].concat();
    [head, vec![0xd5; 160]].concat()
}

fn datagram(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let head = [ends.from.port().to_be_bytes(), ends.to.port().to_be_bytes(), length.to_be_bytes()].concat();
    let mut udp = [&head[..], &[0, 0], payload].concat();
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = [octets(ends.from.ip()), octets(ends.to.ip())].concat();
    let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes(), &udp].concat();
    let sum = sum(&pseudo);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let ip = if ends.to.is_ipv4() {
        let whole = (20 + length).to_be_bytes();
        let mut ip = [&[0x45, 0], &whole[..], &[0, 0, 0x40, 0, 64, 17, 0, 0], &addresses].concat();
        mend(&mut ip);
        ip
    } else {
        [&[0x60, 0, 0, 0], &length.to_be_bytes()[..], &[17, 64], &addresses].concat()
    };
    [ip, udp].concat()
}

/// Gives a packet this type of service.
fn mark(packet: &mut [u8], tos: u8) {
    if packet[0] >> 4 == 6 {
        packet[..2].copy_from_slice(&[0x60 | tos >> 4, tos << 4]);
    } else {
        packet[1] = tos;
        mend(packet);
    }
}

fn mend(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = sum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !sum as u16
}

/// From here on this thread may do what any user may.
fn drop_rights() {
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: the bare system call concerns this thread alone, and takes numbers.
    let dropped = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    assert_eq!(dropped, 0);
}
