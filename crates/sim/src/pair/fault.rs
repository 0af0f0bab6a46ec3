//! Planted faults: the absence of one rule each of who joins an engine to its replica, to see that the world finds it.
//!
//! Without the feature `test-faults` nothing can be planted and the checks cost nothing.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A 200 leaves before the other node has what it stands for.
    AnswerNotHeld,
    /// A 200 that repeats an earlier one is not held either.
    RepetitionNotHeld,
    /// A node that stands by lets time pass for its bindings.
    StandbyExpires,
    /// A node that has become active goes on to take what it is told.
    ActiveApplies,
    /// What a standby is given is not behind NAT there.
    KeepaliveForgotten,
    /// The nodes make nonces with different keys.
    NonceOfOneNode,
    /// A change is not told, and waits for all that was.
    ChangeNotTold,
    /// An end is not told.
    EndNotTold,
    /// The standby has a binding at another listener than the active node.
    ListenerForgotten,
    /// A binding that is carried over ends earlier there.
    EndsEarlier,
    /// A node that becomes active gives up what it held.
    HoldingsForgotten,
    /// The kernel lets everything pass.
    NoGate,
    /// A node that hands over passes nothing on.
    NotPassedOn,
    /// A node that takes over lets nothing in before it is active.
    NotAdmitted,
    /// An engine forgets what came before the lease.
    EarlyForgotten,
}

/// All faults.
pub const ALL: [Fault; 15] = [
    Fault::AnswerNotHeld,
    Fault::RepetitionNotHeld,
    Fault::StandbyExpires,
    Fault::ActiveApplies,
    Fault::KeepaliveForgotten,
    Fault::NonceOfOneNode,
    Fault::ChangeNotTold,
    Fault::EndNotTold,
    Fault::ListenerForgotten,
    Fault::EndsEarlier,
    Fault::HoldingsForgotten,
    Fault::NoGate,
    Fault::NotPassedOn,
    Fault::NotAdmitted,
    Fault::EarlyForgotten,
];

#[cfg(feature = "test-faults")]
mod planted {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ALL, Fault};

    /// The planted one's place in [`ALL`], or one past the end.
    static PLANTED: AtomicUsize = AtomicUsize::new(ALL.len());

    /// Plants a fault in all worlds of this process, or takes it out again.
    pub fn plant(fault: Option<Fault>) {
        let place = fault.and_then(|fault| ALL.iter().position(|other| *other == fault));
        PLANTED.store(place.unwrap_or(ALL.len()), Ordering::Relaxed);
    }

    /// Whether a fault is planted.
    pub fn is_planted(fault: Fault) -> bool {
        ALL.get(PLANTED.load(Ordering::Relaxed)) == Some(&fault)
    }
}

#[cfg(feature = "test-faults")]
pub use planted::{is_planted, plant};

/// Whether a fault is planted: never without the feature.
#[cfg(not(feature = "test-faults"))]
pub(crate) const fn is_planted(_fault: Fault) -> bool {
    false
}
