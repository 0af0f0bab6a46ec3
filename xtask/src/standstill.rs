//! Whether the machine itself stood still: a virtual host that its own host did not run for a while.
//!
//! A lease of half a second is over after such a pause, and the service rightly moves to whoever gets the votes next. A
//! scenario that names the node that serves has then seen something true and not what it is about.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often the watch looks at the clock.
const STEP: Duration = Duration::from_millis(10);
/// A pause that can cost a lease: it counts for 400 ms, and is renewed every 100 ms.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// More pauses than this are not kept; the oldest go.
const PAUSES_MAX: usize = 1000;

/// A watch that goes on until it is dropped.
#[derive(Debug)]
pub struct Watch {
    pauses: Arc<Mutex<Vec<Pause>>>,
}

/// A time in which this thread did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    begin: Instant,
    end: Instant,
}

impl Watch {
    /// Starts the watch's thread.
    pub fn begin() -> Watch {
        let pauses = Arc::default();
        let kept = Arc::downgrade(&pauses);
        thread::spawn(move || {
            // Without the right for it the nodes of a scenario have none either: what makes this thread wait does so to them.
            let _ = host::be_real_time();
            watch(&kept);
        });
        Watch { pauses }
    }

    /// The longest pause that reaches into the time since `begin`.
    pub fn longest_since(&self, begin: Instant) -> Option<Duration> {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        longest(&pauses, begin)
    }
}

fn longest(pauses: &[Pause], since: Instant) -> Option<Duration> {
    pauses.iter().filter(|pause| pause.end > since).map(|pause| pause.end - pause.begin).max()
}

fn watch(pauses: &Weak<Mutex<Vec<Pause>>>) {
    let mut begin = Instant::now();
    loop {
        thread::sleep(STEP);
        let Some(pauses) = pauses.upgrade() else { return };
        let end = Instant::now();
        if end - begin >= PAUSE_MIN {
            let mut pauses = pauses.lock().unwrap_or_else(PoisonError::into_inner);
            if pauses.len() == PAUSES_MAX {
                pauses.remove(0);
            }
            pauses.push(Pause { begin, end });
        }
        begin = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pause_that_ended_since_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let pauses = [Pause { begin: at(0), end: at(900) }, Pause { begin: at(1000), end: at(1300) }];

        assert_eq!(longest(&pauses, at(500)), Some(Duration::from_millis(900)));
        assert_eq!(longest(&pauses, at(900)), Some(Duration::from_millis(300)));
        assert_eq!(longest(&pauses, at(1300)), None);
    }
}
