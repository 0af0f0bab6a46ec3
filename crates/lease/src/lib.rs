//! The proof of being active.
//!
//! What sends from a virtual address, expires or deletes takes an [`ActiveLease`], and only
//! [`LeaseMirror::active`] makes one, so that a standby that acts does not compile. On a single
//! node the mirror is permanent; in a cluster it carries the deadline that the guardian keeps. A machine whose state
//! belongs to the time as active follows it by a [`Tenure`].

mod tenure;

use std::marker::PhantomData;

use clock::Instant;

pub use tenure::{Entry, Tenure};

/// What this process was told of its lease: until when it may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseMirror {
    until: Instant,
    epoch: Epoch,
    since: Epoch,
}

/// The number of the lease; it grows at each change of holder, and when the holder learns that others know a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl LeaseMirror {
    /// The lease of a node that has no peer: it never ends.
    pub const fn permanent() -> Self {
        Self::until(Instant::FAR, Epoch(0))
    }

    /// No lease: a standby.
    pub const fn none() -> Self {
        Self::until(Instant::START, Epoch(0))
    }

    /// A lease that ends at `until`.
    pub const fn until(until: Instant, epoch: Epoch) -> Self {
        Self { until, epoch, since: epoch }
    }

    /// The same of a holder that has raised its epoch: it became active under `since`, and nobody else was from then on.
    pub const fn held_since(self, since: Epoch) -> Self {
        Self { since, ..self }
    }

    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.until
    }

    /// Under which epoch the holder became active.
    pub fn since(&self) -> Epoch {
        self.since
    }

    /// The number under which this process acts, if it does.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The proof for what is done at `now`, or `None` for a standby.
    pub fn active(&self, now: Instant) -> Option<ActiveLease<'_>> {
        (now < self.until).then_some(ActiveLease {
            epoch: self.epoch,
            since: self.since,
            mirror: PhantomData,
        })
    }
}

/// The right to act for the service at one moment. It can not be stored beyond its mirror.
#[derive(Clone, Copy, Debug)]
pub struct ActiveLease<'a> {
    epoch: Epoch,
    since: Epoch,
    mirror: PhantomData<&'a LeaseMirror>,
}

impl ActiveLease<'_> {
    /// The number under which this node acts.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number under which this node became active. While it stays the same nobody else was.
    pub fn since(&self) -> Epoch {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_ends_at_its_deadline() {
        let until = Instant::START + Duration::from_millis(400);
        let mirror = LeaseMirror::until(until, Epoch(7));

        assert_eq!(mirror.active(Instant::START).map(|lease| lease.epoch()), Some(Epoch(7)));
        assert!(mirror.active(until).is_none());
    }

    #[test]
    fn a_standby_is_never_active() {
        assert!(LeaseMirror::none().active(Instant::START).is_none());
    }

    #[test]
    fn a_node_without_a_peer_is_always_active() {
        assert!(LeaseMirror::permanent().active(Instant::START + Duration::from_secs(1 << 30)).is_some());
    }
}
