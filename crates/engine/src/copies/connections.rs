//! Stream connections on their way between two nodes, as [`copies`](super) has it for bindings.
//!
//! They have two owners in one: the edge, which knows the connections of this node, and the orphans, which were the other
//! node's. The numbers of the latter have a bit that those of the former never reach.

use std::time::Duration;

use bytes::Bytes;
use replica::{Capsule, Fetched, Place, Posted, Wanted};
use transport::{ConnectionId, Ends, Orphans, STRANDED_FORMAT, Stranded};

use super::{CONNECTION, CONNECTIONS, Replica};

/// A connection ends by what happens to it; nobody looks at this.
const LEFT: Duration = Duration::from_secs(24 * 3_600);

/// In the numbers of orphans.
const ORPHAN: u64 = 1 << 63;

/// Whose connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionAt {
    /// One of this node's, by the number in its [`ConnectionId`].
    Own(u64),
    /// One of the other node's, by its number among the [`Orphans`].
    Orphan(u64),
}

/// Tells the other node how a connection of this node stands. Nobody waits for it.
pub fn post_connection(replica: &mut impl Replica, id: ConnectionId, stranded: &Stranded) {
    let _posted = replica.put(capsule(stranded), place_of_own_connection(id));
}

/// Tells the other node that a connection has ended, or an orphan is forgotten.
pub fn forget_connection(replica: &mut impl Replica, ends: &Ends) {
    let _posted: Posted = replica.remove(CONNECTION, &ends.to_key());
}

/// Where a connection of this node stands.
pub fn place_of_own_connection(id: ConnectionId) -> Place {
    Place { owner: CONNECTIONS, number: id.number & !ORPHAN }
}

/// The connection at this place; `None`: it is the place of something else.
pub fn connection_at(place: Place) -> Option<ConnectionAt> {
    (place.owner == CONNECTIONS).then_some(match place.number & ORPHAN {
        0 => ConnectionAt::Own(place.number),
        _ => ConnectionAt::Orphan(place.number & !ORPHAN),
    })
}

/// On a standby: takes a connection of the active node.
pub fn apply_connection(orphans: &mut Orphans, stranded: Stranded) -> Option<Place> {
    orphans.take(stranded).map(|number| Place { owner: CONNECTIONS, number: number | ORPHAN })
}

/// On the active node: a connection as it is.
pub fn fetch_connection(stranded: Option<&Stranded>, wanted: Wanted) -> Fetched {
    Fetched { wanted, capsule: stranded.map(capsule) }
}

fn capsule(stranded: &Stranded) -> Capsule {
    Capsule {
        kind: CONNECTION,
        format: STRANDED_FORMAT,
        key: Bytes::from(stranded.ends.to_key()),
        bytes: Bytes::from(stranded.to_capsule()),
        left: LEFT,
    }
}

#[cfg(test)]
mod tests {
    use transport::{ListenerId, LocalAddr, RemoteAddr};

    use super::*;

    #[test]
    fn an_orphan_and_a_connection_of_this_node_are_never_one_place() {
        let mut orphans = Orphans::new(1);
        let ends = Ends {
            local: LocalAddr("192.0.2.10:5060".parse().expect("an address")),
            remote: RemoteAddr("192.0.2.7:40000".parse().expect("an address")),
        };
        let stranded = Stranded { ends, ours: 1, theirs: 2, clock: None, has_call: false };
        let own =
            place_of_own_connection(ConnectionId { node: 1, boot: 1, listener: ListenerId(0), number: 1 });

        let orphan = apply_connection(&mut orphans, stranded).expect("room");

        assert_eq!(connection_at(own), Some(ConnectionAt::Own(1)));
        assert_eq!(connection_at(orphan), Some(ConnectionAt::Orphan(1)));
        assert_eq!(connection_at(Place { owner: 0, number: 1 }), None);
    }
}
