//! The guardian's hands: what the kernel does for a virtual address, and what joins guardian and engine.
//!
//! [`Gate`] lets frames of the virtual addresses pass only while the lease lasts; [`Addresses`] adds and removes them;
//! [`Announcer`] tells the neighbours and asks them; [`Watch`] sees what others claim and which neighbour answers. All of
//! it is small, blocking and quick, and is called from one thread. [`Routes`] lets what is sent from a virtual address leave
//! by its own interface, [`destroy_streams`] ends its connections when it leaves; [`HandshakeTap`] and [`Tickler`] are for
//! those of a node that is gone; [`Changes`] and [`Generation`] hear what
//! becomes of the host. [`SharedPage`] and [`pair()`] are the two ways between the guardian and its engine, which never wait.

mod address;
mod announce;
mod changes;
pub mod child;
mod clock;
mod gate;
mod generation;
mod inheritance;
mod interface;
mod kernel_relay;
pub mod lab;
mod netlink;
mod packet_filter;
mod page;
mod pair;
mod process_group;
mod routes;
mod schedule;
mod segment_pair;
mod segments;
mod signals;
mod streams;
mod watch;

pub use address::{AddressError, Addresses};
pub use announce::{AnnounceError, Announcer};
pub use changes::{Changed, Changes, wait_readable};
pub use clock::boot_time;
pub use gate::{Counts, Gate, GateError, GateKind, run_nft};
pub use generation::Generation;
pub use inheritance::{
    ExporterInheritance, Inheritance, KEY_BYTES, KEY_DESCRIPTOR, Key, PAGE_DESCRIPTOR, PAIR_DESCRIPTOR,
    RELAY_DESCRIPTOR, RowInheritance, SEGMENTS_DESCRIPTOR, key_pipe,
};
pub use interface::{Interface, InterfaceError, Network, networks};
pub use kernel_relay::{Ends, Heard, KernelRelay, RATES_MAX, Way, interface_towards, reason_pipe};
pub use page::{LANES_MAX, SharedLease, SharedPage};
pub use pair::{EngineEnd, GuardianEnd, Order, PairError, Reloaded, Report, pair};
pub use process_group::{keep_descriptors, kill_group, unblock_signals};
pub use routes::{Remark, Routes, RoutesError, default_gateways, remarks};
pub use schedule::{be_real_time, lock_memory};
pub use segment_pair::{SEGMENTS_MAX, SegmentEnd};
pub use segments::{HandshakeTap, Segment, Tickler};
pub use signals::{Signal, Signals};
pub use streams::{StreamError, destroy_streams};
pub use watch::{Seen, Watch};
