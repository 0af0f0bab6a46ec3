//! The deterministic world: the engine that ships, among phones, NATs and a hostile network, in one thread
//! with virtual time.
//!
//! A seed is a run: [`run()`] plays it and gives a [`Verdict`], in which every broken rule stands with the
//! time at which it was broken. The same seed gives the same bytes. A failing seed is repeated with
//! [`Telling::Everything`], which tells every message.
//!
//! The parts: `cast` says who lives in a world, `script` what they do and what breaks, `world` lets it
//! happen; `node` is the server, `phone` a user agent that shares no rule with it; `watch` looks at every
//! message of the server, `ledger` keeps the books of what ought to be; `events` counts what happened, so
//! that a world in which something never happens does not pass for a test of it. `crowd` takes the phones out of
//! the world, for real sockets.

pub mod calls;
mod cast;
mod crowd;
mod dns;
mod elsewhere;
mod events;
mod journal;
mod ledger;
mod nat;
mod neighbour;
mod network;
mod node;
pub mod pair;
mod phone;
mod rng;
mod run;
#[cfg(test)]
mod scenario;
mod script;
mod store;
mod stranger;
mod stream;
pub mod talk;
mod trace;
mod watch;
mod world;

pub use crowd::{Crowd, Effect, Figures, Habits, Seat};
pub use events::Table;
pub use pair::run_pair;
pub use run::{Telling, Verdict, run};
pub use talk::run_talk;
pub use watch::Violation;
