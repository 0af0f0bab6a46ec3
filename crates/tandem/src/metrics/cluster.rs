//! The families of a node of a cluster, as its guardian sees it.

use std::collections::BTreeMap;

use super::text::Exposition;
use crate::guardian::view::{ClusterView, VoterView, WITNESS_SILENCE_MAX_MS};
use crate::guardian::wording::{CAUSES, REASONS};

/// What a node can be.
const ROLES: [&str; 4] = ["standby", "candidate", "active", "closing"];

/// What the gate can be.
const GATES: [&str; 3] = ["program", "nftables", "none"];

/// Writes the families; of a guardian that does not answer only that it does not.
pub fn write(view: Option<&ClusterView>, out: &mut Exposition) {
    out.gauge("tandem_guardian_up", "Whether the process that holds the lease answers.").is(view.is_some());
    let Some(view) = view else { return };
    let mut role = out.gauge("tandem_cluster_role", "What this node is: 1 for one of the roles.");
    for name in ROLES {
        role.sample(&[("role", name)], view.role == name);
    }
    out.gauge("tandem_cluster_role_age_seconds", "Since when this node is active, or is not.")
        .is(view.since_s);
    out.gauge("tandem_cluster_epoch", "The epoch in force, or the highest that was seen.").is(view.epoch);
    out.gauge("tandem_cluster_votes", "Votes that count for this node.").is(view.votes);
    out.gauge("tandem_cluster_votes_needed", "Votes that are needed to be active.").is(view.votes_needed);
    out.gauge("tandem_cluster_lease_seconds", "The configured lease.").is(seconds(view.lease_ms));
    out.gauge(
        "tandem_cluster_lease_left_seconds",
        "How much of the lease is left; 0 if this node is not active.",
    )
    .is(seconds(view.lease_left_ms.unwrap_or(0)));
    counted(
        out,
        ("tandem_cluster_takeovers_total", "How often this node became active, by the reason."),
        "reason",
        &REASONS.map(underscored),
        &view.takeovers,
    );
    counted(
        out,
        ("tandem_cluster_losses_total", "How often this node was active no more, by the cause."),
        "cause",
        &CAUSES.map(underscored),
        &view.losses,
    );
    nodes(view, out);
    voters(view, out);
    here(view, out);
    link(view, out);
}

fn nodes(view: &ClusterView, out: &mut Exposition) {
    let mut up = out.gauge("tandem_cluster_node_up", "Whether a node is heard; this node hears itself.");
    for node in &view.nodes {
        let is_heard = node.is_this || !matches!(node.stance.as_str(), "silent" | "never heard");
        up.sample(&[("node", &node.name)], is_heard);
    }
    let mut ready =
        out.gauge("tandem_cluster_node_ready_ratio", "How much of the active node's state a node holds.");
    for node in &view.nodes {
        ready.sample(&[("node", &node.name)], f64::from(node.ready) / 100.0);
    }
    let mut ailment = out.gauge("tandem_cluster_node_ailment", "What is wrong with a node: 0 is nothing.");
    for node in &view.nodes {
        ailment.sample(&[("node", &node.name)], u64::from(node.ailment));
    }
}

fn voters(view: &ClusterView, out: &mut Exposition) {
    let voters: Vec<(&str, &VoterView)> = view
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), &node.voter))
        .chain(view.witness.iter().map(|witness| ("witness", witness)))
        .collect();
    let mut votes = out.gauge("tandem_cluster_voter_votes", "Whether a voter's vote counts for this node.");
    for (name, voter) in &voters {
        votes.sample(&[("voter", name)], voter.votes);
    }
    let mut able = out.gauge("tandem_cluster_voter_able", "Whether a voter can vote, as it says of itself.");
    for (name, voter) in &voters {
        able.sample(&[("voter", name)], voter.is_able && !voter.is_stranger);
    }
    let mut witness = out.gauge("tandem_cluster_witness_up", "Whether the witness is heard.");
    if let Some(voter) = &view.witness {
        witness.is(voter.heard_ms.is_some_and(|silence| silence <= WITNESS_SILENCE_MAX_MS));
    }
}

fn here(view: &ClusterView, out: &mut Exposition) {
    let mut checks = out.gauge("tandem_cluster_check_failing", "Whether a check of this node fails.");
    for check in &view.checks {
        checks.sample(&[("check", &check.name)], check.failing.is_some());
    }
    out.gauge("tandem_cluster_alarms", "What `tandem status` shows under TO BE LOOKED AT.")
        .is(view.alarms.len());
    out.gauge("tandem_cluster_addresses_held", "Whether the virtual addresses are on this node.")
        .is(view.holds_addresses);
    let mut gate = out.gauge("tandem_cluster_gate", "Which gate is in force: 1 for one of the kinds.");
    for kind in GATES {
        gate.sample(&[("kind", kind)], view.gate.kind == kind);
    }
    let mut frames = out.counter(
        "tandem_cluster_gate_frames_total",
        "Frames of the virtual addresses that the gate let pass, dropped, or sent on to the node that took over.",
    );
    let figures =
        [("passed", view.gate.passed), ("dropped", view.gate.dropped), ("passed_on", view.gate.passed_on)];
    for (verdict, figure) in figures {
        if let Some(figure) = figure {
            frames.sample(&[("verdict", verdict)], figure);
        }
    }
    let mut hooks = out.gauge("tandem_cluster_hook_failed", "Whether the last run of a hook failed.");
    for hook in &view.hooks {
        hooks.sample(&[("hook", &hook.hook)], hook.failed.is_some());
    }
    out.gauge("tandem_guardian_uptime_seconds", "Since when the process that holds the lease runs.")
        .is(view.uptime_s);
    out.gauge(
        "tandem_guardian_real_time",
        "Whether the process that holds the lease has real-time priority and locked memory.",
    )
    .is(view.no_priority.is_none() && view.no_locked_memory.is_none());
    out.counter("tandem_engine_restarts_total", "How often the guardian started the engine again.")
        .is(view.engine.restarts);
    out.counter("tandem_engine_hangs_total", "How often the engine hung.").is(view.engine.hung);
}

fn link(view: &ClusterView, out: &mut Exposition) {
    let mut paths = out.gauge("tandem_cluster_path_up", "Whether a way to another member is up.");
    for path in &view.paths {
        paths.sample(&[("member", &path.to), ("ours", &path.ours), ("theirs", &path.theirs)], path.is_up);
    }
    out.counter("tandem_cluster_link_messages_total", "Messages of members.").is(view.link.messages);
    let mut discarded = out.counter(
        "tandem_cluster_link_discarded_total",
        "What came to the cluster's port and was discarded, by cause.",
    );
    for discard in &view.link.discarded {
        discarded.sample(&[("cause", &underscored(&discard.cause))], discard.count);
    }
}

/// A counter whose values are all known, so that each is there before it was counted first.
fn counted(
    out: &mut Exposition,
    (name, help): (&'static str, &str),
    label: &'static str,
    known: &[String],
    figures: &BTreeMap<String, u64>,
) {
    let mut family = out.counter(name, help);
    for value in known {
        let figure = figures.iter().find(|(name, _)| underscored(name) == *value).map_or(0, |(_, it)| *it);
        family.sample(&[(label, value)], figure);
    }
}

fn underscored(text: &str) -> String {
    text.replace(' ', "_")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
