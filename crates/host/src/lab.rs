//! Hosts inside this machine: networks of the kernel's own, cables between them, and nothing that stays.
//!
//! A process that is [`seclude`]d has left the machine's networks and mounts behind, with root's rights over what it makes
//! in their place, also if it is nobody's. Each [`HostNetwork`] is then one host's network, and [`Cables`] connect them. No
//! name has to be unique on the machine, no packet can leave it, and all of it ends with the last process that is in it.

mod cables;
mod network;
mod seclusion;

pub use cables::Cables;
pub use network::HostNetwork;
pub use seclusion::{Step, Unsecluded, seclude};
