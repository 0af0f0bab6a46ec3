//! What ought to be: the books of a world, kept from what phones say, and compared with what is.
//!
//! A fault disturbs: what it overlaps need only end, everything else must end as its script says.

mod bindings;
mod calls;

use std::time::Duration;

use clock::Instant;

pub(crate) use bindings::{Bindings, Bound};
pub(crate) use calls::{CallRecord, Calls, Expected};

/// A span of time in which the world hurts somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disturbance {
    /// From then.
    pub(crate) from: Instant,
    /// Until then.
    pub(crate) until: Instant,
    /// Only these phones are hurt; empty: all.
    pub(crate) phones: Vec<usize>,
}

/// All disturbances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disturbances(Vec<Disturbance>);

impl Disturbances {
    /// Notes one.
    pub(crate) fn add(&mut self, from: Instant, lasts: Duration, phones: &[usize]) {
        self.0.push(Disturbance { from, until: from + lasts, phones: phones.to_vec() });
    }

    /// Whether one of these phones is hurt in this span.
    pub(crate) fn touch(&self, from: Instant, until: Instant, phones: &[usize]) -> bool {
        self.0.iter().any(|disturbance| {
            disturbance.from <= until
                && from <= disturbance.until
                && (disturbance.phones.is_empty()
                    || disturbance.phones.iter().any(|phone| phones.contains(phone)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbance_touches_whom_it_hurts_while_it_lasts() {
        let mut disturbances = Disturbances::default();
        disturbances.add(at(10), Duration::from_secs(5), &[3]);

        assert!(disturbances.touch(at(0), at(10), &[1, 3]));
        assert!(disturbances.touch(at(15), at(20), &[3]));
        assert!(!disturbances.touch(at(16), at(20), &[3]));
        assert!(!disturbances.touch(at(0), at(20), &[1]));
        disturbances.add(at(30), Duration::ZERO, &[]);
        assert!(disturbances.touch(at(29), at(31), &[1]));
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}
