//! The guardian's hands: what the kernel does for a virtual address.
//!
//! [`Gate`] lets frames of the virtual addresses pass only while the lease lasts; [`Addresses`] adds and removes them;
//! [`Announcer`] tells the neighbours; [`Watch`] sees what others claim and whether the interface has its carrier. All of
//! it is small, blocking and quick, and is called from one thread.

mod address;
mod announce;
mod clock;
mod gate;
mod interface;
mod netlink;
mod watch;

pub use address::{AddressError, Addresses};
pub use announce::{AnnounceError, Announcer};
pub use clock::boot_time;
pub use gate::{Gate, GateError, GateKind};
pub use interface::{Interface, InterfaceError};
pub use watch::{Seen, Watch};
