//! The guardian's hands: what the kernel does for a virtual address, and what joins guardian and engine.
//!
//! [`Gate`] lets frames of the virtual addresses pass only while the lease lasts; [`Addresses`] adds and removes them;
//! [`Announcer`] tells the neighbours; [`Watch`] sees what others claim and whether the interface has its carrier. All of
//! it is small, blocking and quick, and is called from one thread. [`SharedPage`] and [`pair()`] are the two ways between
//! the guardian and its engine, which never wait.

mod address;
mod announce;
mod clock;
mod gate;
mod inheritance;
mod interface;
mod netlink;
mod page;
mod pair;
mod watch;

pub use address::{AddressError, Addresses};
pub use announce::{AnnounceError, Announcer};
pub use clock::boot_time;
pub use gate::{Gate, GateError, GateKind};
pub use inheritance::{
    Inheritance, KEY_BYTES, KEY_DESCRIPTOR, Key, PAGE_DESCRIPTOR, PAIR_DESCRIPTOR, key_pipe,
};
pub use interface::{Interface, InterfaceError};
pub use page::{LANES_MAX, SharedPage};
pub use pair::{EngineEnd, GuardianEnd, Order, PairError, Reloaded, Report, pair};
pub use watch::{Seen, Watch};
