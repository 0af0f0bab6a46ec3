//! Which gateways are there: found out by probes and by the calls that they get.
//!
//! [`Prober`] is one machine of an engine. It sends each gateway an OPTIONS from time to time, takes what the
//! shards tell of their calls ([`Outcome`]), and keeps one [`Health`] a gateway. Whenever that changes what
//! calls should do, it gives out new [`Verdicts`], a value that every shard gets as an input: so no shard
//! asks anybody, and all of them choose alike.
//!
//! Only the active node probes: what sends takes an `ActiveLease`.

mod health;
mod probe;
mod prober;
mod verdict;

#[cfg(test)]
mod tests;

pub use health::{Failure, Health, State};
pub use probe::{GatewayMark, ProbeMark};
pub use prober::{GatewayView, Output, ProbeAnswer, Prober, Service, UnknownGateway};
pub use verdict::{Outcome, Verdict, Verdicts};
