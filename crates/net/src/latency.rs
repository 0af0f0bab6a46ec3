//! How long requests wait here, by what they are and how they were settled.
//!
//! The time begins where the batch in which a request came was read from its socket, and ends where the batch with its
//! final response, or with what it was sent on as, was given to the kernel. One reading of the clock at the end of a batch
//! serves all that were settled in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::Instant;
use engine::Settled;
use sip::MethodName;
use transaction::Progress;

/// Upper bounds of the buckets in microseconds: of what is worked out at once, of what waits for a disk, a name server or
/// another node, and of what has waited in vain.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// What requests are told apart by.
const KINDS: [(MethodName, Progress); 6] = [
    (MethodName::Invite, Progress::Forwarded),
    (MethodName::Invite, Progress::Answered),
    (MethodName::Register, Progress::Forwarded),
    (MethodName::Register, Progress::Answered),
    (MethodName::Other, Progress::Forwarded),
    (MethodName::Other, Progress::Answered),
];

/// The waits of one kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// INVITE, REGISTER, or `Other` for all others.
    pub method: MethodName,
    /// Whether they were forwarded or answered by this server.
    pub by: Progress,
    /// How many waited no longer than each bound, and longer than the one before; the last one has no bound.
    pub buckets: Vec<(Option<Duration>, u64)>,
    /// The sum of all waits.
    pub sum: Duration,
}

/// All waits since the start.
#[derive(Debug, Default)]
pub(crate) struct Latencies([Histogram; KINDS.len()]);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

impl Latencies {
    /// What was settled in a batch that ends now.
    pub(crate) fn note(&self, end: Instant, settled: impl Iterator<Item = Settled>) {
        for Settled { arrival, by } in settled {
            let method = match arrival.method {
                named @ (MethodName::Invite | MethodName::Register) => named,
                _ => MethodName::Other,
            };
            let Some(kind) = KINDS.iter().position(|kind| *kind == (method, by)) else { continue };
            let waited = end.since(arrival.at);
            let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
            let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
            let histogram = &self.0[kind];
            histogram.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            histogram.sum_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }

    /// All of them, each kind in its place.
    pub(crate) fn all(&self) -> Vec<Latency> {
        let bounds = || BOUNDS_US.into_iter().map(|us| Some(Duration::from_micros(us))).chain([None]);
        let of = |((method, by), histogram): ((MethodName, Progress), &Histogram)| Latency {
            method,
            by,
            buckets: bounds()
                .zip(histogram.buckets.iter().map(|figure| figure.load(Ordering::Relaxed)))
                .collect(),
            sum: Duration::from_nanos(histogram.sum_ns.load(Ordering::Relaxed)),
        };
        KINDS.into_iter().zip(&self.0).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use transaction::Arrival;

    use super::*;

    #[test]
    fn each_wait_is_in_the_first_bucket_that_holds_it() {
        let latencies = Latencies::default();
        let settled =
            |us: u64, method, by| Settled { arrival: Arrival { at: at(1_000_000 - us), method }, by };
        latencies.note(
            at(1_000_000),
            [
                settled(0, MethodName::Register, Progress::Answered),
                settled(50, MethodName::Register, Progress::Answered),
                settled(51, MethodName::Register, Progress::Answered),
                settled(700, MethodName::Bye, Progress::Forwarded),
            ]
            .into_iter(),
        );
        latencies.note(
            at(21_000_000),
            [Settled { arrival: Arrival { at: at(0), method: MethodName::Invite }, by: Progress::Answered }]
                .into_iter(),
        );

        let all = latencies.all();
        let filled = |method, by| {
            let latency =
                all.iter().find(|it| (it.method, it.by) == (method, by)).expect("each kind is there");
            let buckets = latency.buckets.iter().filter(|(_, figure)| *figure > 0).copied();
            (buckets.collect::<Vec<_>>(), latency.sum)
        };
        let us = Duration::from_micros;
        assert_eq!(
            filled(MethodName::Register, Progress::Answered),
            (vec![(Some(us(50)), 2), (Some(us(100)), 1)], us(101))
        );
        assert_eq!(filled(MethodName::Other, Progress::Forwarded), (vec![(Some(us(1_000)), 1)], us(700)));
        assert_eq!(filled(MethodName::Invite, Progress::Answered), (vec![(None, 1)], us(21_000_000)));
        assert_eq!(filled(MethodName::Invite, Progress::Forwarded).0, []);
    }

    fn at(us: u64) -> Instant {
        Instant::START + Duration::from_micros(us)
    }
}
