//! The deterministic world: the engine that ships, among phones, routers and a hostile network, in one
//! thread with virtual time. (to be refined)
#![allow(dead_code)]

mod cast;
mod dns;
mod events;
mod ledger;
mod nat;
mod neighbour;
mod network;
mod node;
mod phone;
mod rng;
mod store;
mod stranger;
mod stream;
mod trace;
mod watch;
mod world;
