//! Whether the rtpengines of a configuration answer from this host.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use media::ng::{BYTES_MAX, Command, Node, Reply};

use crate::config::relay::Relay;

/// How long one is waited for, each time.
const WAIT: Duration = Duration::from_millis(400);
/// How often it is asked.
const TRIES: usize = 3;

/// Each rtpengine that calls would go by, and what it answers; empty if none would.
pub fn text(relay: &Relay) -> String {
    if !relay.is_on() {
        return String::new();
    }
    let mut text = String::new();
    for node in &relay.rtpengines {
        let Node { address, weight } = node;
        match ping(*address) {
            Ok(()) => text.push_str(&format!("  rtpengine {address}, weight {weight}: it answers\n")),
            Err(error) => text.push_str(&format!(
                "  rtpengine {address}, weight {weight}\nnote: it does not answer: {error}; start it, or have it listen \
                 there (`listen-ng = {address}`) and let UDP pass from here\n"
            )),
        }
    }
    text
}

fn ping(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(WAIT))?;
    // A cookie that no server has: theirs begin with a number.
    let cookie = format!("check-{}", std::process::id());
    let ping = Command::Ping.datagram(&cookie);
    let mut buffer = vec![0; BYTES_MAX];
    for _ in 0..TRIES {
        socket.send(&ping)?;
        match socket.recv(&mut buffer) {
            Ok(length) if Reply::read(&buffer[..length]) == Ok((&cookie, Reply::Pong)) => return Ok(()),
            Ok(_) => return Err(io::Error::other("what answers there is no rtpengine")),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::relay::Anchoring;

    #[test]
    fn one_that_answers_is_told_from_a_stranger_and_from_nobody() {
        let rtpengine = serve("d6:result4:ponge");
        let stranger = serve("hello");
        let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let node = |address| Node { address, weight: 2 };
        let nodes = vec![node(rtpengine), node(stranger), node(closed)];

        let told = text(&Relay { anchoring: Anchoring::Always, rtpengines: nodes, ..Relay::default() });

        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], format!("  rtpengine {rtpengine}, weight 2: it answers"));
        assert!(lines[2].contains("no rtpengine"), "{told}");
        assert!(lines[4].starts_with("note: it does not answer: "), "{told}");
        assert_eq!(text(&Relay::default()), "");
    }

    /// Who answers each datagram with its cookie and this.
    fn serve(reply: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("it has one");
        std::thread::spawn(move || {
            let mut buffer = [0; 500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let cookie = buffer[..length].split(|byte| *byte == b' ').next().unwrap_or_default();
                if socket.send_to(&[cookie, b" ", reply.as_bytes()].concat(), from).is_err() {
                    return;
                }
            }
        });
        address
    }
}
