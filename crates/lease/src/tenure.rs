//! How a machine learns that its node is active again after others were.
//!
//! Nobody tells a machine in time that the lease is over: the guardian may hang, and a message may be late. So each
//! machine compares the epoch under which the holder became active, by the proof that it is given, with that of the last
//! proof. Between two of them another node may have been active, and what the machine had in hand then is not true any
//! more. While it is one nobody was, however long the lease was away, and however often the holder has raised its epoch.

use crate::{ActiveLease, Epoch};

/// Under which epoch a machine acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenure {
    /// It was not called yet.
    #[default]
    Fresh,
    /// It stands by: it has let go of what it had in hand.
    Standby,
    /// It acts, since this epoch.
    Acting(Epoch),
}

/// What a proof says to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It goes on, or begins.
    Same,
    /// It is active after a time as a standby.
    Anew,
    /// The same, but it was never told that it stood by: what it has in hand is of an earlier time.
    Overtaken,
}

impl Tenure {
    /// The machine is called with a proof. It says the same until the machine stands by or the holder became active anew.
    pub fn enter(&mut self, lease: &ActiveLease<'_>) -> Entry {
        let before = std::mem::replace(self, Self::Acting(lease.since()));
        match before {
            Self::Fresh => Entry::Same,
            Self::Standby => Entry::Anew,
            Self::Acting(since) if since == lease.since() => Entry::Same,
            Self::Acting(_) => Entry::Overtaken,
        }
    }

    /// The machine is to stand by.
    pub fn leave(&mut self) {
        *self = Self::Standby;
    }

    /// Whether it stands by: nothing of it has a deadline then.
    pub fn is_standby(&self) -> bool {
        *self == Self::Standby
    }
}

#[cfg(test)]
mod tests {
    use clock::Instant;

    use super::*;
    use crate::LeaseMirror;

    #[test]
    fn within_one_epoch_nothing_is_new() {
        let mut tenure = Tenure::default();

        assert_eq!(enter(&mut tenure, 3), Entry::Same);
        assert_eq!(enter(&mut tenure, 3), Entry::Same);
    }

    #[test]
    fn another_epoch_overtakes_a_machine_that_was_not_told() {
        let mut tenure = Tenure::default();
        enter(&mut tenure, 3);

        assert_eq!(enter(&mut tenure, 5), Entry::Overtaken);
        assert_eq!(enter(&mut tenure, 5), Entry::Same);
    }

    #[test]
    fn an_epoch_that_its_holder_raises_ends_nothing() {
        let mut tenure = Tenure::default();
        enter(&mut tenure, 3);
        let raised = LeaseMirror::until(Instant::FAR, Epoch(5)).held_since(Epoch(3));
        let proof = raised.active(Instant::START).expect("it is far from its end");
        assert_eq!((proof.epoch(), tenure.enter(&proof)), (Epoch(5), Entry::Same));

        assert_eq!(enter(&mut tenure, 5), Entry::Overtaken, "it became active anew");
    }

    #[test]
    fn who_stood_by_begins_anew_once() {
        let mut tenure = Tenure::default();
        tenure.leave();
        assert!(tenure.is_standby());

        assert_eq!(enter(&mut tenure, 3), Entry::Anew);
        assert_eq!(enter(&mut tenure, 3), Entry::Same);
        assert!(!tenure.is_standby());

        tenure.leave();
        assert_eq!(enter(&mut tenure, 3), Entry::Anew, "it has let go of all, also of this epoch");
    }

    fn enter(tenure: &mut Tenure, epoch: u64) -> Entry {
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(epoch));
        tenure.enter(&mirror.active(Instant::START).expect("it is far from its end"))
    }
}
