//! `[cluster]`: the nodes that hold one set of virtual addresses between them.
//!
//! All nodes have the same file. A node finds itself in the list by `node.name`; its place there is its number, and a
//! witness is the member after the last node. [`draft`] is the table of keys, [`build()`] what they say of each other.

mod build;
mod digest;
mod draft;
mod here;
mod row;
#[cfg(test)]
mod tests;
mod witness;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use build::build;
pub use digest::digest_of;
pub use draft::{CHECKS, CLUSTER, CLUSTER_NAME, NODES, Read};
pub use here::Here;
pub use row::{DatabaseServer, EtcdServers, NamedBy, RowWitness};

/// What `[cluster]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The file with the secret that makes a host a member.
    pub key_file: PathBuf,
    /// The virtual addresses; they move together. Never empty.
    pub addresses: Vec<IpAddr>,
    /// Where they are added; `None`: where the network of the first one is.
    pub interface: Option<String>,
    /// Who moves them.
    pub vip: Vip,
    /// For how long the voters grant the service.
    pub lease: Duration,
    /// UDP port of the link.
    pub port: u16,
    /// `tandem witness` at each of its addresses; empty: it is a row, or there is none.
    pub witness: Vec<SocketAddr>,
    /// The servers that have the witness's row.
    pub row: Option<RowWitness>,
    /// The place of the node that takes the service back, and how long it must have been well before.
    pub preferred: Option<(usize, Duration)>,
    /// Gateways that must answer.
    pub gateways: Vec<GatewayCheck>,
    /// Whether routes and settings of the kernel are set, and restored at the end.
    pub manage_routes: ManageRoutes,
    /// Commands that are told of a change.
    pub hooks: Hooks,
    /// After so long a hook is ended.
    pub hook_timeout: Duration,
    /// An engine that gave no sign of life for so long hangs.
    pub engine_silence: Duration,
    /// In the order of the file. At least two.
    pub nodes: Vec<ClusterNode>,
    /// The operator's own checks.
    pub checks: Vec<CheckCommand>,
    digest: u64,
}

/// Who moves the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vip {
    /// Tandem does.
    Tandem,
    /// Keepalived or Pacemaker does, and Tandem follows.
    External,
    /// The hooks do, by the means of a cloud; the lease still rules what is sent.
    Hooks,
}

/// Whether routes and settings of the kernel are touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManageRoutes {
    /// They are set, and restored at the end.
    Yes,
    /// `tandem check` tells what is wrong with them.
    No,
}

/// A gateway that must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayCheck {
    /// Each default gateway of the interface.
    Default,
    /// This one.
    At(IpAddr),
}

/// Commands with their words; an empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// This node has become active.
    pub on_active: Vec<String>,
    /// It is active no more, and at each start.
    pub on_standby: Vec<String>,
    /// Something is wrong with it.
    pub on_fault: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its `node.name`.
    pub name: String,
    /// Its own addresses for the link; what stands at the same place for another node is the other end.
    pub paths: Vec<SocketAddr>,
}

/// A check of the operator: healthy is what ends with status 0 in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckCommand {
    /// How `status` names it.
    pub name: String,
    /// The program and its words; never empty.
    pub command: Vec<String>,
    /// From the end of one run to the next.
    pub interval: Duration,
    /// After so long it has failed.
    pub timeout: Duration,
    /// So many failures in a row count, and as many successes then.
    pub failures: u8,
}

/// A value of the file does not fit this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The whole key.
    pub key: &'static str,
    /// What is wrong, as the end of a sentence that begins with the key and its value.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl Cluster {
    /// The place of the node of this name. A name with a domain is also found without it.
    pub fn me(&self, node_name: &str) -> Result<usize, Unfit> {
        let short = node_name.split('.').next().unwrap_or_default();
        let place_of = |name: &str| self.nodes.iter().position(|node| node.name.eq_ignore_ascii_case(name));
        place_of(node_name).or_else(|| place_of(short)).ok_or_else(|| {
            let names: Vec<String> = self.nodes.iter().map(|node| format!("\"{}\"", node.name)).collect();
            Unfit {
                key: "node.name",
                what: format!("makes this host `{node_name}`, which is none of the nodes of [cluster]"),
                mend: format!(
                    "write [node] name = one of {} on this host, or a [[cluster.node]] for it on all",
                    names.join(", ")
                ),
            }
        })
    }

    /// How many vote: the nodes, and the witness if there is one.
    pub fn members(&self) -> usize {
        self.nodes.len() + usize::from(self.has_witness())
    }

    /// Whether there is a witness of any kind.
    pub fn has_witness(&self) -> bool {
        !self.witness.is_empty() || self.row.is_some()
    }

    /// A number that is the same on all nodes whose files say the same.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, what, mend } = self;
        write!(formatter, "{key} {what}: {mend}")
    }
}

impl std::error::Error for Unfit {}
