//! The guardian of a cluster's node: it holds the lease, moves the virtual addresses and keeps the engine alive.
//!
//! One thread decides everything, and takes what others have to say from one [`inbox`]. It never waits
//! for a disk, a child, a lock of somebody else or a reader: whatever may take time is done by a thread of its own, which
//! puts the outcome into the inbox.

pub mod checks;
pub mod control;
pub mod engine_process;
pub mod errand;
pub mod event_loop;
pub mod exporter;
pub mod follower;
pub mod halt;
pub mod hands;
pub mod hooks;
pub mod inbox;
pub mod keeper;
pub mod links;
pub mod memory;
pub mod notify;
pub mod poll;
pub mod question;
pub mod reload;
pub mod report;
pub mod routes;
pub mod row_witness;
pub mod segments;
pub mod standing;
pub mod start;
pub mod starvation;
pub mod view;
pub mod vigil;
pub mod witness;
pub mod wording;
