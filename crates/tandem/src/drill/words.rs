//! What a drill and its hands say to each other: lines of JSON, in by standard input, out by standard output.
//!
//! The drill numbers what it asks, so that an answer that comes late, because the link was cut in between, is known as such.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::Fault;

/// Bytes of a line.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Its number, from 1.
    pub number: u64,
    /// What.
    pub what: Deed,
}

/// What a hand can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Tell how the cluster looks.
    Status,
    /// Tell the takeovers of this node after this epoch.
    Reports {
        /// The epoch.
        after: u64,
    },
    /// Do this to this node.
    Hurt(Fault),
    /// Undo all that was done.
    Heal,
}

/// What a hand says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// What it answers; 0: who it is.
    pub number: u64,
    /// The answer, or why there is none.
    pub answer: Result<Value, String>,
}

/// Who a hand is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The program's version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// Tells whether two processes share one network.
    pub network: String,
    /// Where SIP is served on a virtual address over UDP.
    pub servers: Vec<SocketAddr>,
    /// The virtual addresses.
    pub virtual_addresses: Vec<IpAddr>,
    /// The node's own addresses.
    pub paths: Vec<IpAddr>,
    /// How the node would be started again after a kill; else why it would not.
    pub restart: Result<String, String>,
}

/// Tells whether two processes share one network: the boot of the machine, and the network's number in it.
pub fn network() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    format!("{} {}", boot.trim(), network.display())
}
