//! `vip = "external"`: another program moves the virtual addresses, and the node is active while they are here.
//!
//! Whoever moves them decides who is active, and only that program can keep two nodes from it at once. The guardian of such
//! a node is alone in its cluster: its own voter grants it the lease, so that epochs grow and are on disk as ever; it is
//! away while an address is not here.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::host::{Changes, Network};
use cluster::guardian::{Input, Wish};

use super::halt::Halt;
use super::inbox::{Inward, Sender};
use crate::small_thread::spawn;

/// How often it is looked whether the addresses are still to be followed, and where they are if nothing was heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The thread that follows the addresses.
#[derive(Debug)]
pub struct Follower {
    halt: Arc<Halt>,
    thread: JoinHandle<()>,
}

impl Follower {
    /// Follows these addresses, and tells the inbox what the node is to be. The node must begin as one that is away.
    pub fn start(addresses: Vec<IpAddr>, inbox: Sender) -> io::Result<Self> {
        let changes = Changes::open()?;
        let halt = Arc::new(Halt::default());
        let seen = Arc::clone(&halt);
        let thread = spawn("follower", move || follow(&addresses, changes, &inbox, &seen))?;
        Ok(Self { halt, thread })
    }

    /// Follows no more.
    pub fn finish(self) {
        self.halt.set();
        // One that panicked follows no more either.
        let _ = self.thread.join();
    }
}

fn follow(addresses: &[IpAddr], mut changes: Changes, inbox: &Sender, halt: &Halt) {
    let mut was_here = false;
    while !halt.is_set() {
        // What is heard only shortens the time to the next look.
        let _ = changes.take();
        let is_here = match ::host::networks() {
            Ok(networks) => are_here(addresses, &networks),
            // Who can not see them must not serve on their behalf.
            Err(error) => {
                tracing::error!(%error, "the host's addresses can not be read");
                false
            }
        };
        if is_here != was_here {
            was_here = is_here;
            tracing::info!(is_here, "the virtual addresses have moved");
            let wish = if is_here { Wish::Return } else { Wish::Away };
            if inbox.send(Inward::Cluster(Input::Wish(wish))).is_err() {
                return;
            }
        }
        if ::host::wait_readable(&[changes.as_fd()], LOOK_EVERY).is_err() {
            halt.is_set_within(LOOK_EVERY);
        }
    }
}

/// Whether all of them are: they move together, and one that is still missing is on its way.
fn are_here(addresses: &[IpAddr], networks: &[Network]) -> bool {
    addresses.iter().all(|address| networks.iter().any(|network| network.address == *address))
}

#[cfg(test)]
mod tests {
    use super::super::inbox::inbox;
    use super::*;

    #[test]
    fn a_node_is_active_when_all_addresses_are_here() {
        let networks = ["192.0.2.9", "2001:db8::9"].map(|text| Network {
            index: 2,
            interface: "eth0".to_owned(),
            is_loopback: false,
            address: at(text),
            prefix: 32,
        });

        assert!(are_here(&[at("192.0.2.9"), at("2001:db8::9")], &networks));
        assert!(!are_here(&[at("192.0.2.9"), at("2001:db8::8")], &networks));
    }

    #[test]
    fn addresses_that_are_here_are_told_of_once() {
        let (sender, inbox) = inbox().expect("a descriptor is left");

        let follower = Follower::start(vec![at("127.0.0.1")], sender).expect("it starts");
        ::host::wait_readable(&[inbox.as_fd()], Duration::from_secs(60)).expect("it waits");
        follower.finish();

        let mut told = Vec::new();
        inbox.take(10, &mut told);
        assert!(matches!(told[..], [Inward::Cluster(Input::Wish(Wish::Return))]), "{told:?}");
    }

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
