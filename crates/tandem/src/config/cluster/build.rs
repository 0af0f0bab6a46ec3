//! What one value of the cluster's tables says of another, and the [`Cluster`] that comes of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use super::super::listen::{Listen, Place};
use super::super::problem::Wrong;
use super::super::reader::{Entry, Reading};
use super::super::suggest::nearest;
use super::draft::{CHECKS, CLUSTER_NAME, CheckDraft, ClusterDraft, MEMBERS_MAX, NODES, NodeDraft, Read};
use super::{CheckCommand, Cluster, ClusterNode, Vip, witness};
use crate::database::Server;

/// Makes the cluster of what was read, if the file has one. What is wrong is reported.
pub fn build(reading: &mut Reading<'_>, read: Read, listen: &[Listen], database: &Server) -> Option<Cluster> {
    let Read { cluster, nodes, checks, digest } = read;
    let entry = cluster?;
    let draft = entry.draft.clone();
    if !entry.has("addresses") {
        let mend = "name the virtual addresses: addresses = [\"192.0.2.10\"]";
        reading.wrong_entry(CLUSTER_NAME, &entry, "", "has no addresses", mend);
    }
    let mut taken = BTreeMap::new();
    for (address, span) in &draft.addresses {
        if taken.insert(*address, format!("virtual address {address}")).is_some() {
            wrong(reading, "addresses", span, format!("names {address} twice"), "name each address once");
        }
    }
    check_served(reading, &entry, listen);
    let port = draft.port;
    let with_port =
        |(address, port_of): (IpAddr, Option<u16>)| SocketAddr::new(address, port_of.unwrap_or(port));
    let nodes = build_nodes(reading, &entry, nodes, &mut taken, with_port);
    let (witness, row) = witness::build(reading, &entry, &taken, database, with_port);
    if !draft.witness.is_empty() && nodes.len() >= MEMBERS_MAX {
        let mend = format!("at most {MEMBERS_MAX} hosts vote, the witness among them");
        reading.wrong_entry(CLUSTER_NAME, &entry, "witness", "is one voter too many", mend);
    }
    let preferred = preferred(reading, &entry, &nodes);
    if draft.vip == Vip::Hooks {
        for (key, words) in [("on_active", &draft.hooks.on_active), ("on_standby", &draft.hooks.on_standby)] {
            if entry.is_right && words.is_empty() {
                let mend = format!("write {key} = [\"/usr/local/bin/move-address\"], or vip = \"tandem\"");
                reading.wrong_entry(
                    CLUSTER_NAME,
                    &entry,
                    "vip",
                    format!("needs {key}, which is not there"),
                    mend,
                );
            }
        }
    }
    let checks = build_checks(reading, checks);
    Some(Cluster {
        key_file: draft.key_file,
        addresses: draft.addresses.into_iter().map(|(address, _)| address).collect(),
        interface: draft.interface,
        vip: draft.vip,
        lease: draft.lease,
        port,
        witness,
        row,
        preferred,
        gateways: draft.gateways,
        manage_routes: draft.manage_routes,
        hooks: draft.hooks,
        hook_timeout: draft.hook_timeout,
        engine_silence: draft.engine_silence,
        nodes,
        checks,
        digest,
    })
}

/// Whoever moves an address on which nothing is served has forgotten something.
fn check_served(reading: &mut Reading<'_>, entry: &Entry<ClusterDraft>, listen: &[Listen]) {
    let addresses = &entry.draft.addresses;
    let Some((first, _)) = addresses.first() else { return };
    // Whoever has to mend that list may have meant this one.
    if reading.problems.iter().any(|problem| problem.key == "sip.listen") {
        return;
    }
    let is_served = |listen: &Listen| match listen.place {
        Place::EveryAddress { .. } => true,
        Place::At(local) => addresses.iter().any(|(address, _)| *address == local.ip()),
    };
    if !listen.iter().any(is_served) {
        let mend = format!("name them in sip.listen: \"udp://{}\"", SocketAddr::new(*first, 5060));
        reading.wrong_entry(CLUSTER_NAME, entry, "addresses", "has no address on which SIP is served", mend);
    }
}

fn build_nodes(
    reading: &mut Reading<'_>,
    cluster: &Entry<ClusterDraft>,
    entries: Vec<Entry<NodeDraft>>,
    taken: &mut BTreeMap<IpAddr, String>,
    with_port: impl Fn((IpAddr, Option<u16>)) -> SocketAddr,
) -> Vec<ClusterNode> {
    let name = NODES.name;
    let mut nodes: Vec<ClusterNode> = Vec::new();
    for entry in &entries {
        let draft = &entry.draft;
        for key in ["name", "paths"] {
            if !entry.has(key) {
                let mend = format!("write {}", NODES.example);
                reading.wrong_entry(name, entry, "", format!("has no {key}"), mend);
            }
        }
        if !draft.name.is_empty() && nodes.iter().any(|node| node.name.eq_ignore_ascii_case(&draft.name)) {
            reading.wrong_entry(name, entry, "name", "is the name of two nodes", "give each its own");
        }
        for (path, span) in &draft.paths {
            let owner = format!("address of node {}", draft.name);
            if let Some(other) = taken.insert(path.0, owner) {
                let what = format!("has {}, which is the {other} too", path.0);
                let mend = "name addresses that only this node has, and has always, each once";
                reading.wrong_part(name, "paths", Wrong::new(span.clone(), what, mend));
            }
        }
        let paths: Vec<SocketAddr> = draft.paths.iter().map(|(path, _)| with_port(*path)).collect();
        if let Some(first) = nodes.first()
            && !first.paths.is_empty()
            && !paths.is_empty()
        {
            let is_alike = first.paths.len() == paths.len()
                && first.paths.iter().zip(&paths).all(|(left, right)| left.is_ipv4() == right.is_ipv4());
            if !is_alike {
                let what = format!("does not fit the paths of node {}", first.name);
                let mend = "give all nodes as many, and IPv4 or IPv6 at the same place: those at one place are one path";
                reading.wrong_entry(name, entry, "paths", what, mend);
            }
        }
        nodes.push(ClusterNode { name: draft.name.clone(), paths });
    }
    if entries.len() < 2 && !reading.problems.iter().any(|problem| problem.key.starts_with(name)) {
        let what = if entries.is_empty() { "has no nodes" } else { "has only one node" };
        let mend = format!("write two [[{name}]], each with {}", NODES.example);
        reading.wrong_entry(CLUSTER_NAME, cluster, "", what, mend);
    }
    nodes
}

fn preferred(
    reading: &mut Reading<'_>,
    entry: &Entry<ClusterDraft>,
    nodes: &[ClusterNode],
) -> Option<(usize, Duration)> {
    let ClusterDraft { preferred, preferred_after, .. } = &entry.draft;
    if preferred.is_empty() {
        return None;
    }
    if let Some(place) = nodes.iter().position(|node| node.name.eq_ignore_ascii_case(preferred)) {
        return Some((place, *preferred_after));
    }
    let mend = match nearest(preferred, nodes.iter().map(|node| node.name.as_str())) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "write the name of a [[cluster.node]], or leave it out".to_owned(),
    };
    reading.wrong_entry(CLUSTER_NAME, entry, "preferred", "is none of the nodes", mend);
    None
}

fn build_checks(reading: &mut Reading<'_>, entries: Vec<Entry<CheckDraft>>) -> Vec<CheckCommand> {
    let name = CHECKS.name;
    let mut checks: Vec<CheckCommand> = Vec::new();
    for entry in entries {
        let draft = entry.draft.clone();
        if !entry.has("name") || entry.is_right && draft.name.is_empty() {
            reading.wrong_entry(name, &entry, "name", "has no name", "give it a name = \"upstream\"");
        } else if !entry.has("command") || entry.is_right && draft.command.is_empty() {
            let mend = "say what is run: command = [\"/usr/local/bin/check-upstream\"]";
            reading.wrong_entry(name, &entry, "command", "has no command", mend);
        } else if checks.iter().any(|check| check.name == draft.name) {
            reading.wrong_entry(name, &entry, "name", "is the name of two checks", "give each its own");
        }
        let CheckDraft { name, command, interval, timeout, failures } = draft;
        checks.push(CheckCommand { name, command, interval, timeout, failures });
    }
    checks
}

pub(super) fn wrong(reading: &mut Reading<'_>, key: &str, span: &Range<usize>, what: String, mend: &str) {
    reading.wrong_part(CLUSTER_NAME, key, Wrong::new(span.clone(), what, mend));
}
