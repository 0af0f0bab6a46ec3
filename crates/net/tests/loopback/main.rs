//! The server on real sockets of the loopback interface.
//!
//! Each test has an address of its own in 127.0.0.0/8, so tests run side by side. Where a test waits it
//! waits for something to arrive; the time-outs only end a test that has failed.

mod accounts;
mod bans;
mod datagrams;
mod lease;
mod lifetime;
mod outbound;
mod overload;
mod reload;
mod streams;
mod testbed;
