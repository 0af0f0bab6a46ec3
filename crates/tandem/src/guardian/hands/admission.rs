//! When frames are let in before the lease: as soon as the addresses are there.
//!
//! Until then one that comes goes on to the active node, as ever, and is answered by it. Let in it would be lost: a kernel
//! drops what comes for an address that it does not have.

use std::time::Duration;

use super::{Deed, Hand};

/// Until when frames are to be let in, while the addresses are waited for.
#[derive(Debug, Default)]
pub(super) struct Admission {
    wanted: Option<Duration>,
}

impl Admission {
    /// Frames are to be let in until then, once the addresses that were just asked for are there.
    pub(super) fn want(&mut self, until: Duration) {
        self.wanted = Some(until);
    }

    /// They are not wanted any more, or come in by the lease.
    pub(super) fn forget(&mut self) {
        self.wanted = None;
    }

    /// Says until when to let frames in now that this was done. It is said once.
    pub(super) fn follow(&mut self, deed: &Deed) -> Option<Duration> {
        // Of several addresses some may be there.
        let may_be_there = matches!(deed, Deed::Held | Deed::Failed(Hand::Addresses, _));
        self.wanted.take_if(|_| may_be_there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Duration = Duration::from_secs(11);

    #[test]
    fn frames_are_let_in_once_the_addresses_are_there_and_not_before() {
        let mut admission = Admission::default();
        assert_eq!(admission.follow(&Deed::Held), None, "nobody wants it");

        admission.want(UNTIL);

        for other in [Deed::GateClosed, Deed::Dropped, Deed::Announced, Deed::Mended(Hand::Addresses)] {
            assert_eq!(admission.follow(&other), None, "{other:?}");
        }
        assert_eq!(admission.follow(&Deed::Failed(Hand::Gate, String::new())), None);
        assert_eq!(admission.follow(&Deed::Held), Some(UNTIL));
        assert_eq!(admission.follow(&Deed::Held), None, "it is done");
    }

    #[test]
    fn addresses_of_which_some_could_not_be_added_let_in_all_the_same() {
        let mut admission = Admission::default();
        admission.want(UNTIL);

        assert_eq!(admission.follow(&Deed::Failed(Hand::Addresses, "no room".to_owned())), Some(UNTIL));
    }

    #[test]
    fn who_turns_away_before_the_addresses_are_there_lets_nothing_in() {
        let mut admission = Admission::default();
        admission.want(UNTIL);
        admission.forget();

        assert_eq!(admission.follow(&Deed::Held), None);
    }
}
