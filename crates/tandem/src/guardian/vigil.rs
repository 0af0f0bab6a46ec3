//! Watches for signs that this machine stood still together with its clock, or is a copy of what it was.

use std::time::Duration;

use ::host::{Generation, boot_time};
use clock::Now;
use cluster::standstill::{Jump, Standstill};

use super::poll::now;

/// Reading two clocks takes no longer, unless the thread is put aside between them; then they are read again.
const READ_WITHIN: Duration = Duration::from_millis(1);

/// How often they are read again.
const TRIES_MAX: usize = 3;

/// Looks at both clocks, and hears of the machine's generation id.
pub struct Vigil {
    clocks: Standstill,
    generation: Option<Generation>,
}

impl Vigil {
    /// Begins to watch. Where the kernel's events can not be heard the clocks are all there is.
    pub fn begin() -> Self {
        let generation = Generation::open();
        let generation = generation.inspect_err(
            |error| tracing::debug!(%error, "a changed generation id of the machine is not heard of"),
        );
        Self { clocks: Standstill::default(), generation: generation.ok() }
    }

    /// What is to be seen at this turn of a loop, as an operator is told it.
    pub fn look(&mut self) -> Option<String> {
        let (now, doubt) = read_clocks();
        let jump = self.clocks.look(now, doubt);
        if self.generation.as_mut().is_some_and(Generation::has_changed) {
            return Some(
                "this virtual machine was restored or copied: its generation id has changed".to_owned(),
            );
        }
        let (way, by) = match jump? {
            Jump::Forward(by) => ("forward", by),
            Jump::Back(by) => ("back", by),
        };
        Some(format!(
            "the wall clock has jumped {way} by {} ms: this machine may have stood still",
            by.as_millis()
        ))
    }
}

/// Both clocks, and how far apart they may have been read.
fn read_clocks() -> (Now, Duration) {
    let read = || {
        let before = boot_time();
        let read = now();
        (read, boot_time().saturating_sub(before))
    };
    let mut last = read();
    for _ in 1..TRIES_MAX {
        if last.1 <= READ_WITHIN {
            break;
        }
        last = read();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_goes_on_shows_nothing() {
        let mut vigil = Vigil::begin();

        assert_eq!([(); 3].map(|()| vigil.look()), [const { None }; 3]);
    }
}
