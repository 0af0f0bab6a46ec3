//! The sockets of the link: what is sealed for a member leaves by every path that leads to it.
//!
//! For each pair of an own address and an address of a member there is a socket that is connected to it, so that the kernel
//! itself keeps strangers out of it, and what they send does not push out what members send. A stranger's datagrams reach
//! one more socket for each own address, where a few are read in each turn, to be counted.
//!
//! Nothing here waits. A datagram that can not be sent is lost: whatever matters is said again. An address that is not
//! there yet, or an interface that is down, is tried again each second, and shown.

mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clock::{Instant, Now};
use cluster::link::{DATAGRAM_BYTES_MAX, Datagram, Link, LinkCounts, Received};
use cluster::peer::{PATHS_MAX, PathId};
use cluster::wire::{self, MESSAGE_BYTES_MAX};
use cluster::{MemberId, Message};

use super::poll::{Poll, Source, now};
use socket::Socket;

/// The cause of what comes from addresses that no member has.
pub const STRANGERS: &str = "from strangers' addresses";

/// How often a socket that could not be made is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Sockets of this process: to seven members, each with a few addresses that are reached from a few.
const SOCKETS_MAX: usize = 256;

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which member.
    pub member: MemberId,
    /// Its addresses.
    pub addresses: Vec<SocketAddr>,
    /// From which own addresses it is reached there.
    pub reached: Reached,
}

/// From which own addresses the addresses of a member are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Each from the own address of the same place in the list: two ends of one path.
    InOrder,
    /// Each from every own address of the same family: a witness has other networks.
    FromEach,
}

/// What a datagram was.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one call; a box would be an allocation for each datagram"
)]
#[derive(Debug)]
pub enum Heard {
    /// A member said something; the clock was read after it had arrived.
    Message(Now, MemberId, PathId, Message),
    /// Something that is for nobody but the link; it was counted.
    Other,
    /// There is nothing more in this socket.
    Nothing,
}

/// Everything between this member and the others.
pub struct Links {
    link: Link,
    sockets: Vec<Socket>,
    retry_at: Instant,
    strangers: u64,
    malformed: u64,
    /// From where the last datagram of each cause came that was refused.
    sources: BTreeMap<&'static str, SocketAddr>,
    sealed: Vec<Datagram>,
    message: Vec<u8>,
}

/// How a socket is.
#[derive(Clone, Debug)]
pub struct PathView {
    /// Which member it leads to.
    pub member: MemberId,
    /// From where.
    pub local: SocketAddr,
    /// To where.
    pub remote: SocketAddr,
    /// Why nothing can be sent there.
    pub trouble: Option<String>,
    /// How long ago something came from there that the member had sealed.
    pub silent_for: Option<Duration>,
}

impl Links {
    /// The sockets between `own` addresses and those of others. Those that can not be made yet are made later.
    pub fn open(now: Instant, link: Link, own: &[SocketAddr], others: &[Place], poll: &Poll) -> Self {
        let own = &own[..own.len().min(PATHS_MAX)];
        let mut sockets: Vec<Socket> = own.iter().map(|local| Socket::for_strangers(*local)).collect();
        for place in others {
            sockets.extend(pairs(own, place).map(|(path, local, remote)| {
                Socket::for_member(place.member, PathId(path as u8), local, remote)
            }));
        }
        if sockets.len() > SOCKETS_MAX {
            tracing::error!(
                paths = sockets.len(),
                "there are more paths between all addresses than the {SOCKETS_MAX} that are used: name fewer"
            );
        }
        sockets.truncate(SOCKETS_MAX);
        let mut this = Self {
            link,
            sockets,
            retry_at: now,
            strangers: 0,
            malformed: 0,
            sources: BTreeMap::new(),
            sealed: Vec::new(),
            message: Vec::with_capacity(MESSAGE_BYTES_MAX),
        };
        this.open_missing(now, poll);
        this
    }

    /// Says something to a member, by every path. `now` was read before.
    pub fn send(&mut self, now: Instant, to: MemberId, message: &Message) {
        self.message.clear();
        wire::write(message, &mut self.message);
        self.link.seal(now, to, &self.message, &mut self.sealed);
        self.flush();
    }

    /// The next datagram of the socket at a place.
    pub fn receive(&mut self, place: u32) -> Heard {
        let Some(socket) = self.sockets.get_mut(place as usize) else { return Heard::Nothing };
        let mut bytes = [0; DATAGRAM_BYTES_MAX + 1];
        let Some((length, from)) = socket.receive(&mut bytes) else { return Heard::Nothing };
        // A socket is everybody's for a moment before it is connected.
        let Some((member, path)) = socket.expects(from) else {
            self.strangers += 1;
            self.sources.insert(STRANGERS, from);
            return Heard::Other;
        };
        let now = now();
        let received = self.link.handle_datagram(now.instant, &bytes[..length], &mut self.sealed);
        let heard = match received {
            Received::Message(sender, message) if sender == member => {
                socket.heard(now.instant);
                match wire::read(&message) {
                    Ok(message) => Heard::Message(now, sender, path, message),
                    Err(wire::Malformed) => {
                        self.malformed += 1;
                        Heard::Other
                    }
                }
            }
            Received::Copy(sender) if sender == member => {
                socket.heard(now.instant);
                Heard::Other
            }
            Received::Message(..) | Received::Copy(_) => {
                self.strangers += 1;
                self.sources.insert(STRANGERS, from);
                Heard::Other
            }
            Received::Discarded(discard) => {
                self.sources.insert(discard.name(), from);
                Heard::Other
            }
            Received::Handshake(_) => Heard::Other,
        };
        self.flush();
        heard
    }

    /// Begins sessions that are not there, and tries sockets again that could not be made.
    pub fn handle_timeout(&mut self, now: Instant, poll: &Poll) {
        self.link.handle_timeout(now, &mut self.sealed);
        self.flush();
        if self.retry_at <= now {
            self.open_missing(now, poll);
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        self.link.poll_timeout().map_or(self.retry_at, |at| at.min(self.retry_at))
    }

    /// What came, by what it was.
    pub fn counts(&self) -> &LinkCounts {
        self.link.counts()
    }

    /// Datagrams from addresses that no member has, and what members said that was no message.
    pub fn refused(&self) -> (u64, u64) {
        (self.strangers, self.malformed)
    }

    /// From where the last datagram came that was refused for a cause: [`STRANGERS`], or the name of a
    /// [`cluster::link::Discard`].
    pub fn last_source(&self, cause: &str) -> Option<SocketAddr> {
        self.sources.get(cause).copied()
    }

    /// How each path is.
    pub fn paths(&self, now: Instant) -> impl Iterator<Item = PathView> {
        self.sockets.iter().filter_map(move |socket| socket.view(now))
    }

    fn open_missing(&mut self, now: Instant, poll: &Poll) {
        self.retry_at = now + RETRY_EVERY;
        for (place, socket) in self.sockets.iter_mut().enumerate() {
            socket.open_if_missing(|opened| poll.add(opened, Source::Link(place as u32)));
        }
    }

    fn flush(&mut self) {
        for Datagram { to, bytes } in self.sealed.drain(..) {
            for socket in &mut self.sockets {
                socket.send_to_member(to, &bytes);
            }
        }
    }
}

/// Which own address speaks to which address of a member, with the number of the path.
fn pairs(own: &[SocketAddr], place: &Place) -> impl Iterator<Item = (usize, SocketAddr, SocketAddr)> {
    let reached = place.reached;
    let each = own.iter().enumerate().flat_map(move |(path, local)| {
        place.addresses.iter().enumerate().map(move |(at, remote)| (path, *local, at, *remote))
    });
    each.filter(move |(path, local, at, remote)| {
        let is_pair = reached == Reached::FromEach || path == at;
        is_pair && local.is_ipv4() == remote.is_ipv4()
    })
    .map(|(path, local, _, remote)| (path, local, remote))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_a_stranger_sends_is_counted_with_its_source() {
        // Nothing else on this host has these addresses of the loopback network.
        let (own, stranger) = ("127.77.1.1:7950", "127.77.1.2:7951");
        let own: SocketAddr = own.parse().expect("an address");
        let (at, poll) = (now().instant, Poll::new().expect("a descriptor is left"));
        let link = Link::new(at, MemberId(0), [MemberId(1)], [7; 32], 1, [7; 32]);
        let mut links = Links::open(at, link, &[own], &[], &poll);
        assert_eq!(links.last_source(STRANGERS), None);

        let socket = UdpSocket::bind(stranger).expect("it is free");
        socket.send_to(b"hello", own).expect("somebody listens");
        while matches!(links.receive(0), Heard::Nothing) {
            std::thread::yield_now();
        }

        assert_eq!(links.refused().0, 1);
        assert_eq!(links.last_source(STRANGERS).map(|source| source.to_string()).as_deref(), Some(stranger));
    }
}
