//! The lease as the server sees it, and who holds an address.
//!
//! Three things may be done by this process, at three places: a machine acts while [`Mandate::mirror`] says so, at each
//! step; a socket of a virtual address sends while [`Mandate::may_send`] says so, by the clock of that moment and not of
//! the batch; and on the node's own addresses a standby answers from the request alone. The gate in the kernel has the
//! same deadline and is behind all of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clock::Instant;
use engine::Readiness;
use lease::{Epoch, LeaseMirror};

use crate::clocks;

/// Where the lease comes from. It is looked at for each batch, so it must be quick and never wait.
pub trait Lease: Send + Sync {
    /// What is known of the lease at this moment.
    fn mirror(&self) -> LeaseMirror;

    /// How often each thread must show that it is awake; `None` if nobody looks.
    fn beat_every(&self) -> Option<Duration>;

    /// The thread of a lane is awake. The event loops have the lanes from 0, all other work the one behind them.
    fn beat(&self, lane: usize, now: Instant);

    /// The first response of an epoch has left by a virtual address.
    fn answered(&self, epoch: Epoch, at: Instant);
}

/// The lease of a node without a peer.
#[derive(Clone, Copy, Debug)]
pub struct Permanent;

impl Lease for Permanent {
    fn mirror(&self) -> LeaseMirror {
        LeaseMirror::permanent()
    }

    fn beat_every(&self) -> Option<Duration> {
        None
    }

    fn beat(&self, _lane: usize, _now: Instant) {}

    fn answered(&self, _epoch: Epoch, _at: Instant) {}
}

/// Whose address a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The node's own: it answers there whoever is active.
    Own,
    /// The service's: whoever is active has it.
    Virtual,
}

/// Whether something may leave by a socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It may: nobody else has the address.
    Always,
    /// It may, under this epoch.
    Under(Epoch),
    /// It may not.
    Never,
}

/// Under which epochs a process acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// The present one.
    pub(crate) now: Epoch,
    /// Under which it became active. While this stays the same nobody else was.
    pub(crate) since: Epoch,
}

/// What this process may do.
pub(crate) struct Mandate {
    lease: Arc<dyn Lease>,
    virtual_addresses: BTreeSet<IpAddr>,
    /// The highest epoch in which nothing new is begun, plus one.
    draining: AtomicU64,
    /// The highest epoch that is over, whatever the lease says, plus one.
    closed: AtomicU64,
    /// The highest epoch in which a response has left, plus one.
    answered: AtomicU64,
    is_ready: AtomicBool,
}

impl Mandate {
    pub(crate) fn new(lease: Arc<dyn Lease>, virtual_addresses: BTreeSet<IpAddr>) -> Self {
        Self {
            lease,
            virtual_addresses,
            draining: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            is_ready: AtomicBool::new(true),
        }
    }

    /// Whose this address is.
    pub(crate) fn ownership(&self, address: IpAddr) -> Ownership {
        if self.virtual_addresses.contains(&address) { Ownership::Virtual } else { Ownership::Own }
    }

    /// What machines may act by.
    pub(crate) fn mirror(&self) -> LeaseMirror {
        let mirror = self.lease.mirror();
        if mirror.epoch().0 < self.closed.load(Ordering::Relaxed) { LeaseMirror::none() } else { mirror }
    }

    /// Under which epoch this process acts.
    pub(crate) fn epoch(&self, now: Instant) -> Option<Epoch> {
        self.mirror().active(now).map(|lease| lease.epoch())
    }

    /// Whether this process does not act at this moment.
    pub(crate) fn is_standby(&self) -> bool {
        self.epoch(clocks::instant()).is_none()
    }

    /// The proof's two epochs, if this process acts: the present one, and that under which it became active.
    pub(crate) fn epochs(&self, now: Instant) -> Option<Epochs> {
        self.mirror().active(now).map(|lease| Epochs { now: lease.epoch(), since: lease.since() })
    }

    /// Whether something may leave by a socket right now. The clock is read only where it matters.
    pub(crate) fn may_send(&self, ownership: Ownership) -> Leave {
        match ownership {
            Ownership::Own => Leave::Always,
            Ownership::Virtual => self.epoch(clocks::instant()).map_or(Leave::Never, Leave::Under),
        }
    }

    /// Whether something that came at this moment may be begun.
    pub(crate) fn may_receive(&self, ownership: Ownership, now: Instant) -> bool {
        match ownership {
            Ownership::Own => true,
            Ownership::Virtual => {
                let mirror = self.mirror();
                // With the count of batches in hand it has one order of all threads: either the drain waits for a
                // batch, or the batch sees the drain here.
                mirror.epoch().0 >= self.draining.load(Ordering::SeqCst) && mirror.active(now).is_some()
            }
        }
    }

    /// Whether the epoch of the lease that is here was brought to its end.
    pub(crate) fn is_over(&self) -> bool {
        let mirror = self.lease.mirror();
        mirror != LeaseMirror::none() && mirror.epoch().0 < self.draining.load(Ordering::SeqCst)
    }

    /// Takes the news that these messages have left.
    pub(crate) fn sent<'m>(&self, leave: Leave, mut messages: impl Iterator<Item = &'m [u8]>) {
        let Leave::Under(epoch) = leave else { return };
        let mark = epoch.0.saturating_add(1);
        if self.answered.load(Ordering::Relaxed) < mark
            && messages.any(|message| message.starts_with(b"SIP/2.0 "))
            && self.answered.fetch_max(mark, Ordering::Relaxed) < mark
        {
            self.lease.answered(epoch, clocks::instant());
        }
    }

    /// Begins nothing more in the present epoch; gives it.
    pub(crate) fn drain(&self) -> Epoch {
        let epoch = self.mirror().epoch();
        self.draining.fetch_max(epoch.0.saturating_add(1), Ordering::SeqCst);
        epoch
    }

    /// Ends an epoch here, whatever the lease says of it.
    pub(crate) fn close(&self, epoch: Epoch) {
        self.closed.fetch_max(epoch.0.saturating_add(1), Ordering::Relaxed);
    }

    /// Whether this process has peers.
    pub(crate) fn is_permanent(&self) -> bool {
        self.lease.mirror() == LeaseMirror::permanent()
    }

    pub(crate) fn readiness(&self) -> Readiness {
        match self.is_ready.load(Ordering::Relaxed) {
            true => Readiness::Ready,
            false => Readiness::NotReady,
        }
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        self.is_ready.store(readiness == Readiness::Ready, Ordering::Relaxed);
    }

    pub(crate) fn beat_every(&self) -> Option<Duration> {
        self.lease.beat_every()
    }

    pub(crate) fn beat(&self, lane: usize, now: Instant) {
        self.lease.beat(lane, now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_virtual_address_sends_until_the_deadline_and_an_own_one_always() {
        let lease = Arc::new(Given::default());
        let mandate = mandate(&lease);
        assert_eq!(mandate.ownership(VIRTUAL), Ownership::Virtual);
        assert_eq!(mandate.ownership([192, 0, 2, 11].into()), Ownership::Own);

        for (mirror, may) in [
            (LeaseMirror::none(), false),
            (LeaseMirror::until(clocks::instant(), Epoch(3)), false),
            (LeaseMirror::until(Instant::FAR, Epoch(3)), true),
        ] {
            lease.give(mirror);
            assert_eq!(mandate.may_send(Ownership::Virtual) != Leave::Never, may, "{mirror:?}");
            assert_eq!(mandate.may_receive(Ownership::Virtual, clocks::instant()), may, "{mirror:?}");
            assert_eq!(mandate.may_send(Ownership::Own), Leave::Always);
            assert!(mandate.may_receive(Ownership::Own, clocks::instant()));
        }
    }

    #[test]
    fn an_epoch_that_is_drained_takes_nothing_and_one_that_is_closed_sends_nothing_but_the_next_does() {
        let lease = Arc::new(Given::default());
        let mandate = mandate(&lease);
        lease.give(LeaseMirror::until(Instant::FAR, Epoch(3)));

        let epoch = mandate.drain();
        assert_eq!(epoch, Epoch(3));
        assert!(!mandate.may_receive(Ownership::Virtual, clocks::instant()));
        assert_eq!(mandate.may_send(Ownership::Virtual), Leave::Under(epoch), "what is in hand still leaves");

        mandate.close(epoch);
        assert_eq!(mandate.may_send(Ownership::Virtual), Leave::Never);
        assert_eq!(mandate.epoch(Instant::START), None);

        lease.give(LeaseMirror::until(Instant::FAR, Epoch(5)));
        assert!(mandate.may_receive(Ownership::Virtual, clocks::instant()));
        assert_eq!(mandate.may_send(Ownership::Virtual), Leave::Under(Epoch(5)));
    }

    #[test]
    fn the_first_response_of_each_epoch_is_told_once() {
        let lease = Arc::new(Given::default());
        let mandate = mandate(&lease);
        let sent = |leave, message: &[u8]| mandate.sent(leave, std::iter::once(message));
        sent(Leave::Always, b"SIP/2.0 200 OK");
        for epoch in [Epoch(3), Epoch(5)] {
            sent(Leave::Under(epoch), b"OPTIONS sip:x SIP/2.0");
            assert!(!lease.answered.lock().expect("no test panics inside").contains(&epoch));
            sent(Leave::Under(epoch), b"SIP/2.0 200 OK");
            sent(Leave::Under(epoch), b"SIP/2.0 200 OK");
        }

        assert_eq!(*lease.answered.lock().expect("no test panics inside"), [Epoch(3), Epoch(5)]);
    }

    const VIRTUAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    fn mandate(lease: &Arc<Given>) -> Mandate {
        Mandate::new(Arc::clone(lease) as Arc<dyn Lease>, BTreeSet::from([VIRTUAL]))
    }

    struct Given {
        mirror: Mutex<LeaseMirror>,
        answered: Mutex<Vec<Epoch>>,
    }

    impl Default for Given {
        fn default() -> Self {
            Self { mirror: Mutex::new(LeaseMirror::none()), answered: Mutex::default() }
        }
    }

    impl Given {
        fn give(&self, mirror: LeaseMirror) {
            *self.mirror.lock().expect("no test panics inside") = mirror;
        }
    }

    impl Lease for Given {
        fn mirror(&self) -> LeaseMirror {
            *self.mirror.lock().expect("no test panics inside")
        }

        fn beat_every(&self) -> Option<Duration> {
            None
        }

        fn beat(&self, _lane: usize, _now: Instant) {}

        fn answered(&self, epoch: Epoch, _at: Instant) {
            self.answered.lock().expect("no test panics inside").push(epoch);
        }
    }
}
