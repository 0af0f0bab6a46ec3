//! Two hosts on a switch, as the demo makes them. It needs root; without it the test says so and passes.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use host::lab::{Cables, HostNetwork};

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

#[test]
fn two_hosts_hear_each_other_while_their_cables_are_in() {
    let Ok(room) = HostNetwork::new() else {
        eprintln!("skipped: it needs the right to make a network");
        return;
    };
    let hosts = [ONE, OTHER].map(|address| (HostNetwork::new().expect("as the first"), address));
    room.enter(|| {
        let mut cables = Cables::open().expect("a netlink socket");
        cables.add_switch("switch").expect("a switch");
        for (number, (host, _)) in hosts.iter().enumerate() {
            let name = format!("c{number}");
            cables.add_cable(&name, host, "eth0").expect("a cable");
            cables.connect(&name, "switch").expect("a free port");
            cables.plug(&name).expect("it is there");
        }
    })
    .expect("it can be entered");
    let sockets = hosts.each_ref().map(|(host, address)| {
        let socket = host.enter(|| {
            let mut cables = Cables::open().expect("a netlink socket");
            cables.plug("lo").expect("it is there");
            cables.plug("eth0").expect("it is there");
            cables.add_address("eth0", *address, 24).expect("it has none");
            cables.add_gateway(Ipv4Addr::new(192, 0, 2, 254)).expect("it has none");
            UdpSocket::bind((*address, 5060)).expect("the address is there")
        });
        socket.expect("it can be entered")
    });
    sockets[1].set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
    let hears = || {
        (0..200).any(|_| {
            // The cable may not be in yet.
            let _ = sockets[0].send_to(b"x", (OTHER, 5060));
            sockets[1].recv(&mut [0; 8]).is_ok()
        })
    };

    assert!(hears());
    room.enter(|| Cables::open().and_then(|mut cables| cables.unplug("c0"))).expect("in").expect("unplugged");
    while sockets[1].recv(&mut [0; 8]).is_ok() {}
    let _ = sockets[0].send_to(b"x", (OTHER, 5060));
    assert!(sockets[1].recv(&mut [0; 8]).is_err());
    room.enter(|| Cables::open().and_then(|mut cables| cables.plug("c0"))).expect("in").expect("plugged");
    assert!(hears());
}

#[test]
fn a_program_of_a_host_sees_its_network_and_ends_with_the_thread_that_started_it() {
    let Ok(host) = HostNetwork::new() else {
        eprintln!("skipped: it needs the right to make a network");
        return;
    };
    let mut child = std::thread::spawn(move || {
        let listed = host.command("/bin/cat").arg("/proc/net/dev").output().expect("there is cat");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(text.contains("lo:") && !text.contains("eth"), "{text}");
        host.command("/bin/sleep").arg("600").stdin(Stdio::null()).spawn().expect("there is sleep")
    })
    .join()
    .expect("it does not panic");

    let status = child.wait().expect("it is a child");

    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}
