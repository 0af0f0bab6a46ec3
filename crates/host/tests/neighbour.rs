//! Two hosts in a real kernel, each with a network of its own, and a cable between them: what a host does when it asks its
//! gateway, when its cable is drawn, when its routes are managed, and when its connections are destroyed.
//!
//! It needs root; without it each test says so and passes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use host::{
    Addresses, Announcer, Changes, Gate, Interface, Routes, Seen, Watch, boot_time, default_gateways,
    destroy_streams, remarks, wait_readable,
};
use waiting::wait_for;

#[path = "testbed/waiting.rs"]
mod waiting;

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn a_gateway_answers_each_kind_of_question_and_learns_only_what_it_is_told() {
    let Some(lab) = Lab::new() else { return };
    let router6: IpAddr = "2001:db8::1".parse().expect("an address");
    let vip6: IpAddr = "2001:db8::9".parse().expect("an address");
    let watch = Watch::open(lab.host.clone(), vec![VIP.into(), vip6]).expect("a raw socket");
    let announcer = Announcer::open(lab.host.clone()).expect("a raw socket");
    let ask = |sender: Option<IpAddr>, target: IpAddr| {
        while watch.next().is_some() {}
        // The neighbour's network may not be up yet, and hears nothing until it is.
        wait_for(|| {
            announcer.ask(sender, target).expect("sent");
            wait_readable(&[watch.as_fd()], Duration::from_millis(50)).expect("it waits");
            watch.next()
        })
    };

    assert_eq!(ask(None, ROUTER.into()), Some(Seen::Neighbour(ROUTER.into())));
    assert!(!lab.neighbour_knows(VIP.into()));
    assert_eq!(ask(None, router6), Some(Seen::Neighbour(router6)));
    assert!(!lab.neighbour_knows(vip6));
    assert_eq!(ask(Some(VIP.into()), ROUTER.into()), Some(Seen::Neighbour(ROUTER.into())));
    assert_eq!(wait_for(|| lab.neighbour_knows(VIP.into()).then_some(())), Some(()));
    assert_eq!(ask(Some(vip6), router6), Some(Seen::Neighbour(router6)));
    assert_eq!(wait_for(|| lab.neighbour_knows(vip6).then_some(())), Some(()));
    assert!(announcer.ask(Some(vip6), ROUTER.into()).is_err(), "two families");
}

#[test]
fn a_stranger_who_claims_an_ipv6_address_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let vip6: IpAddr = "2001:db8::9".parse().expect("an address");
    let watch = Watch::open(lab.host.clone(), vec![vip6]).expect("a raw socket");

    let mac = lab.neighbour.call(move || {
        let interface = Interface::find("peer0").expect("an interface");
        Announcer::open(interface.clone()).expect("a raw socket").announce(vip6).expect("sent");
        interface.mac
    });

    assert_eq!(wait_for(|| watch.next()), Some(Seen::Claim(vip6, mac)));
}

#[test]
fn a_cable_that_is_drawn_is_heard_of() {
    let Some(lab) = Lab::new() else { return };
    let mut changes = Changes::open().expect("a netlink socket");
    assert!(lab.host.has_carrier);

    lab.neighbour.call(|| run("ip link set peer0 down"));

    assert_eq!(wait_for(|| changes.take().expect("it is read").links.then_some(())), Some(()));
    assert_eq!(wait_for(|| (!find("host0").has_carrier).then_some(())), Some(()));
}

#[test]
fn a_default_route_that_comes_is_heard_of_and_found() {
    let Some(lab) = Lab::new() else { return };
    let mut changes = Changes::open().expect("a netlink socket");
    assert_eq!(default_gateways(&lab.host).expect("a list"), Vec::<IpAddr>::new());

    run("ip route add default via 192.0.2.1 dev host0");
    run("ip route add default via 192.0.2.2 dev other0 metric 5 onlink");
    run("ip -6 route add default via 2001:db8::1 dev host0");

    assert_eq!(wait_for(|| changes.take().expect("it is read").routes.then_some(())), Some(()));
    let gateways: [IpAddr; 2] = [ROUTER.into(), "2001:db8::1".parse().expect("an address")];
    assert_eq!(default_gateways(&lab.host).expect("a list"), gateways);
}

#[test]
fn what_is_sent_from_a_virtual_address_leaves_by_its_interface_until_the_clean_stop() {
    let Some(lab) = Lab::new() else { return };
    let vips: Vec<IpAddr> = vec![VIP.into(), "2001:db8::9".parse().expect("an address")];
    let mut addresses = Addresses::new(lab.host.clone(), vips.clone()).expect("a netlink socket");
    addresses.hold().expect("the addresses are added");
    lab.lead_elsewhere();
    let kept = lab.kept();
    let is_by = |interface: &str| {
        let way = output("ip route get 198.51.100.1 from 192.0.2.9");
        let way6 = output("ip -6 route get 2001:db8:ffff::1 from 2001:db8::9");
        way.contains(interface) && way6.contains(interface)
    };
    assert!(is_by("other0"));
    let before = state();

    let mut routes = Routes::set(lab.host.clone(), vips.clone(), Vec::new(), &kept).expect("they are set");

    assert!(is_by("host0"));
    assert_eq!(remarks(&lab.host, &vips, &[]).expect("a look"), []);
    run("ip route add 203.0.113.0/24 via 192.0.2.3 dev host0");
    run("ip route del default via 192.0.2.1 dev host0");
    routes.refresh().expect("taken up");
    let table = output("ip route show table 7950");
    assert!(table.contains("203.0.113.0/24 via 192.0.2.3") && !table.contains("default"), "{table}");
    run("ip route del 203.0.113.0/24");
    run("ip route add default via 192.0.2.1 dev host0 metric 200");

    routes.restore().expect("restored");

    assert_eq!(state(), before);
    assert!(!kept.exists());
}

#[test]
fn what_a_dead_guardian_has_set_is_found_and_restored() {
    let Some(lab) = Lab::new() else { return };
    lab.lead_elsewhere();
    let (vips, kept) = (vec![IpAddr::V4(VIP)], lab.kept());
    let before = state();
    let other = vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))];
    std::mem::forget(Routes::set(lab.host.clone(), other, Vec::new(), &kept).expect("they are set"));
    assert_ne!(state(), before);

    let routes = Routes::set(lab.host.clone(), vips.clone(), Vec::new(), &kept).expect("they are set");
    assert!(!output("ip rule").contains("192.0.2.10"), "the rule of before");
    routes.restore().expect("restored");

    assert_eq!(state(), before);
    // What the operator has set meanwhile stays.
    std::mem::forget(Routes::set(lab.host.clone(), vips, Vec::new(), &kept).expect("they are set"));
    run("sysctl -qw net.ipv4.conf.all.arp_ignore=2");
    Routes::clean(&kept).expect("cleaned");
    assert_eq!(output("sysctl -n net.ipv4.conf.all.arp_ignore").trim(), "2");
    assert_eq!(output("sysctl -n net.ipv4.conf.all.arp_announce").trim(), "0");
}

#[test]
fn each_remark_names_the_command_that_ends_it() {
    let Some(lab) = Lab::new() else { return };
    let vips: Vec<IpAddr> = vec![VIP.into(), "2001:db8::9".parse().expect("an address")];
    assert_eq!(remarks(&lab.host, &vips, &[]).expect("a look"), [], "nothing is wrong");
    lab.lead_elsewhere();
    run("sysctl -qw net.ipv4.conf.host0.rp_filter=1");

    let found = remarks(&lab.host, &vips, &[]).expect("a look");

    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found.iter().any(|remark| remark.what.contains("rp_filter = 1")), "{found:#?}");
    for remark in &found {
        let done = Command::new("sh").args(["-c", &remark.mend]).status().expect("it runs");
        assert!(done.success(), "{}", remark.mend);
    }
    assert_eq!(remarks(&lab.host, &vips, &[]).expect("a look"), []);
}

#[test]
fn without_a_default_route_by_the_interface_the_gateway_of_the_configuration_serves() {
    let Some(lab) = Lab::new() else { return };
    let mut addresses = Addresses::new(lab.host.clone(), vec![VIP.into()]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    run("ip addr add 10.9.0.1/24 dev other0");
    run("ip route add default via 10.9.0.2 dev other0");
    let found = remarks(&lab.host, &[VIP.into()], &[]).expect("a look");
    assert!(found.iter().any(|remark| remark.mend.contains("cluster.gateways")), "{found:#?}");

    // Some of them are in no network of the interface.
    let vips: Vec<IpAddr> = vec![VIP.into(), "2001:db8::9".parse().expect("an address")];
    for (gateway, ip) in
        [("192.0.2.1", "ip"), ("203.0.113.1", "ip"), ("2001:db8::1", "ip -6"), ("2001:db8:7::1", "ip -6")]
    {
        let gateways = vec![gateway.parse().expect("an address")];
        let routes = Routes::set(lab.host.clone(), vips.clone(), gateways, &lab.kept());
        let mut routes = routes.expect("they are set");
        for _ in 0..2 {
            let table = output(&format!("{ip} route show table 7950"));
            assert!(table.contains(&format!("default via {gateway} dev host0")), "{table}");
            routes.refresh().expect("taken up");
        }
        routes.restore().expect("restored");
    }
}

#[test]
fn a_table_that_was_emptied_behind_its_back_is_filled_again() {
    let Some(lab) = Lab::new() else { return };
    run("ip route add default via 192.0.2.1 dev host0");
    let routes = Routes::set(lab.host.clone(), vec![VIP.into()], Vec::new(), &lab.kept());
    let mut routes = routes.expect("they are set");
    let full = output("ip route show table 7950");

    run("ip link set host0 down");
    run("ip link set host0 up");
    run("ip route add default via 192.0.2.1 dev host0");
    assert_eq!(output("ip route show table 7950"), "");
    routes.refresh().expect("taken up");

    assert_eq!(output("ip route show table 7950"), full);
    routes.restore().expect("restored");
}

#[test]
fn connections_of_a_virtual_address_are_destroyed_without_a_frame_on_the_wire() {
    let Some(lab) = Lab::new() else { return };
    let (mut gate, refusals) = Gate::new(&lab.host, &[VIP.into()]);
    assert!(refusals.is_empty(), "{refusals:?}");
    let mut addresses = Addresses::new(lab.host.clone(), vec![VIP.into()]).expect("a netlink socket");
    addresses.hold().expect("the address is added");
    gate.open(1, boot_time() + Duration::from_secs(60)).expect("opened");
    // A listener of both families, as a server may have, and one of the address alone.
    let listeners = [(VIP, 5060), (HOST, 5061)].map(|at| TcpListener::bind(at).expect("bound"));
    let both = TcpListener::bind("[::]:5062").expect("bound");
    let clients = lab.neighbour.call(|| {
        [(VIP, 5060), (HOST, 5061), (VIP, 5062)].map(|at| TcpStream::connect(at).expect("connected"))
    });
    let mut served: Vec<TcpStream> =
        listeners.iter().chain([&both]).map(|listener| listener.accept().expect("one").0).collect();

    gate.close(1).expect("closed");
    let ear = lab.neighbour.call(|| Ear::new("peer0"));
    assert_eq!(destroy_streams(&[VIP.into()], || true).expect("destroyed"), 2);
    lab.mark();

    assert!(ear.is_silent_of(VIP), "a frame of the virtual address was seen");
    for at in [0, 2] {
        let error = served[at].write(b"x").expect_err("it is gone");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED), "{error}");
    }
    served[1].write_all(b"y").expect("another address is not touched");
    let mut byte = [0];
    (&clients[1]).read_exact(&mut byte).expect("it arrives");
    gate.open(2, boot_time() + Duration::from_secs(60)).expect("opened");
    lab.neighbour.call(|| TcpStream::connect((VIP, 5060)).expect("the listener stands"));
    assert_eq!(destroy_streams(&[VIP.into()], || false).expect("asked"), 0, "it is not wanted any more");
    gate.remove();
}

struct Lab {
    host: Interface,
    neighbour: Elsewhere,
    kept: tempfile::TempDir,
}

impl Lab {
    /// A network that only this thread sees, and one for its neighbour.
    fn new() -> Option<Self> {
        if !unshare() {
            println!("not run: a network of its own needs root");
            return None;
        }
        let neighbour = Elsewhere::new();
        run("ip link set lo up");
        run("sysctl -qw net.ipv6.conf.default.accept_dad=0");
        run(&format!("ip link add host0 type veth peer name peer0 netns {}", neighbour.id));
        run("ip link add other0 type veth peer name far0");
        for command in ["host0 up", "other0 up", "far0 up"] {
            run(&format!("ip link set {command}"));
        }
        run("ip addr add 192.0.2.7/24 dev host0");
        run("ip addr add 2001:db8::7/64 dev host0 nodad");
        neighbour.call(|| {
            run("ip link set lo up");
            run("sysctl -qw net.ipv6.conf.all.forwarding=1");
            run("ip addr add 192.0.2.1/24 dev peer0");
            run("ip addr add 2001:db8::1/64 dev peer0 nodad");
            run("ip link set peer0 up");
        });
        wait_for(|| find("host0").has_carrier.then_some(()));
        Some(Self { host: find("host0"), neighbour, kept: tempfile::tempdir().expect("a place") })
    }

    fn kept(&self) -> PathBuf {
        self.kept.path().join("routes")
    }

    /// Another interface is in the same network, and the best default route goes by it.
    fn lead_elsewhere(&self) {
        run("ip addr add 192.0.2.8/25 dev other0");
        run("ip addr add 2001:db8:1::8/64 dev other0 nodad");
        run("ip route add default via 192.0.2.2 dev other0 metric 100");
        run("ip route add default via 192.0.2.1 dev host0 metric 200");
        run("ip -6 route add default via 2001:db8:1::1 dev other0 metric 100");
        run("ip -6 route add default via 2001:db8::1 dev host0 metric 200");
    }

    fn neighbour_knows(&self, address: IpAddr) -> bool {
        self.neighbour.call(move || {
            let known = output(&format!("ip neigh show {address}"));
            known.contains("lladdr")
        })
    }

    /// Sends a frame of another address, behind which nothing of before can come.
    fn mark(&self) {
        let announcer = Announcer::open(self.host.clone()).expect("a raw socket");
        announcer.ask(Some(HOST.into()), Ear::MARK.into()).expect("sent");
    }
}

/// A thread in a network of its own, which does what it is told.
struct Elsewhere {
    id: i32,
    calls: Sender<Box<dyn FnOnce() + Send>>,
}

impl Elsewhere {
    fn new() -> Self {
        let (calls, called) = channel::<Box<dyn FnOnce() + Send>>();
        let (id, told) = channel();
        std::thread::spawn(move || {
            assert!(unshare(), "the first one could");
            // SAFETY: a plain call.
            id.send(unsafe { libc::gettid() }).expect("it waits");
            for call in called {
                call();
            }
        });
        Self { id: told.recv().expect("it lives"), calls }
    }

    fn call<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.calls.send(Box::new(move || drop(done.send(what())))).expect("it lives");
        result.recv().expect("it does not panic")
    }
}

/// Hears every frame of an interface.
struct Ear(OwnedFd);

impl Ear {
    /// Who is asked for by the frame that ends the hearing.
    const MARK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

    fn new(interface: &str) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a plain call, whose descriptor nobody else owns.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
        assert!(socket >= 0);
        // SAFETY: an address of zeroes is one; the rest is set below.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = find(interface).index as i32;
        // SAFETY: the address lives during the call, and its length is its own.
        let bound =
            unsafe { libc::bind(socket, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
        assert_eq!(bound, 0);
        // SAFETY: the descriptor was just made.
        Self(unsafe { OwnedFd::from_raw_fd(socket) })
    }

    /// Whether no frame up to the mark has this source.
    fn is_silent_of(&self, source: Ipv4Addr) -> bool {
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let mut frame = [0_u8; 256];
            // SAFETY: the buffer lives during the call, and its length is its own.
            let received = unsafe {
                libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
            };
            if received < 0 {
                continue;
            }
            let is_arp = frame[12..14] == [8, 6];
            if is_arp && frame[38..42] == Self::MARK.octets() {
                return true;
            }
            if frame[if is_arp { 28..32 } else { 26..30 }] == source.octets() {
                return false;
            }
        }
        unreachable!("the mark was sent, and nothing loses it");
    }
}

fn unshare() -> bool {
    // SAFETY: it moves this thread alone into an empty network.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

fn find(name: &str) -> Interface {
    Interface::find(name).expect("an interface")
}

/// Rules, routes and settings, as an operator sees them.
fn state() -> String {
    [
        "ip rule",
        "ip -6 rule",
        "ip route",
        "ip route show table 7950",
        "ip -6 route show table 7950",
        "sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_announce",
    ]
    .map(output)
    .join("\n")
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().expect("a word")).args(words).status().expect("it runs");
    assert!(status.success(), "{command}");
}

fn output(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a word")).args(words).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
