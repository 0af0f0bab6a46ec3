//! The lease as the engine of a node has it: from the page that it shares with its guardian.

use std::sync::Arc;
use std::time::Duration;

use ::host::{EngineEnd, PairError, Report, SharedLease, SharedPage};
use clock::Instant;
use lease::{Epoch, LeaseMirror};

/// How often each thread shows that it is awake: a guardian that looks for a silence of 250 ms then forgives three
/// beats that a busy host delays.
const BEAT_EVERY: Duration = Duration::from_millis(50);

/// The engine's view of the shared page.
pub struct PageLease {
    page: SharedPage,
    guardian: Arc<EngineEnd>,
}

impl PageLease {
    /// The lease of this page; the guardian is told of the first answer of each epoch.
    pub fn new(page: SharedPage, guardian: Arc<EngineEnd>) -> Self {
        Self { page, guardian }
    }
}

impl net::Lease for PageLease {
    fn mirror(&self) -> LeaseMirror {
        match self.page.lease() {
            Some(SharedLease { epoch, since, deadline }) => {
                LeaseMirror::until(instant(deadline), Epoch(epoch)).held_since(Epoch(since))
            }
            None => LeaseMirror::none(),
        }
    }

    fn beat_every(&self) -> Option<Duration> {
        Some(BEAT_EVERY)
    }

    fn beat(&self, lane: usize, now: Instant) {
        self.page.beat(lane, Duration::from_nanos(now.as_nanos()));
    }

    fn answered(&self, epoch: Epoch, at: Instant) {
        tell(&self.guardian, Report::Answered { epoch: epoch.0, at: Duration::from_nanos(at.as_nanos()) });
    }
}

/// Tells the guardian something. One that does not read has other troubles, and one that is dead takes this process with
/// it.
pub fn tell(guardian: &EngineEnd, report: Report) {
    match guardian.send(report) {
        Ok(()) | Err(PairError::Ended) => {}
        Err(error) => tracing::error!(%error, ?report, "the guardian could not be told"),
    }
}

/// The lease as it is written to the page.
pub fn shared(lease: LeaseMirror) -> SharedLease {
    let deadline = Duration::from_nanos(lease.deadline().as_nanos());
    SharedLease { epoch: lease.epoch().0, since: lease.since().0, deadline }
}

fn instant(boot_time: Duration) -> Instant {
    Instant::from_nanos(u64::try_from(boot_time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use ::host::pair;
    use net::Lease;

    use super::*;

    #[test]
    fn the_engine_acts_as_long_as_its_guardian_has_written() {
        let (mut written, descriptor) = SharedPage::create().expect("a page");
        let (guardian, engine) = pair().expect("a pair");
        let engine = Arc::new(EngineEnd::open(engine).expect("an end"));
        let lease = PageLease::new(SharedPage::open(descriptor).expect("the same page"), engine);
        assert_eq!(lease.mirror(), LeaseMirror::none());

        written.set_lease(SharedLease { epoch: 7, since: 4, deadline: Duration::from_millis(1_400) });
        let mirror = lease.mirror();
        let at = |ms| Instant::START + Duration::from_millis(ms);
        let epochs = mirror.active(at(1_399)).map(|lease| (lease.epoch(), lease.since()));
        assert_eq!(epochs, Some((Epoch(7), Epoch(4))));
        assert!(mirror.active(at(1_400)).is_none());

        lease.beat(0, at(900));
        assert_eq!(written.oldest_beat(), Some(Duration::from_millis(900)));
        lease.answered(Epoch(7), at(950));
        let told = Report::Answered { epoch: 7, at: Duration::from_millis(950) };
        assert_eq!(guardian.receive().expect("a report"), Some(told));

        written.clear_lease();
        assert_eq!(lease.mirror(), LeaseMirror::none());
    }
}
