//! The picture of a cluster: both nodes and the witness as cards, who is active and why, and what needs a look.

pub mod card;
mod reasons;
#[cfg(test)]
mod tests;
mod witness;

use std::time::Duration;

use crate::config::write_duration;
use crate::guardian::view::{ClusterView, LinkView, NodeView, PathView, VoterView, WITNESS_SILENCE_MAX_MS};
use crate::row_witness::RowReport;
use crate::table::Table;
use card::{Border, Card, beside, centred};
pub use witness::witness_text;

/// All that an operator looks for first, in the width of a terminal.
pub fn cluster_text(view: &ClusterView) -> String {
    let mut text = format!("{}\n{}\n\n{}\n", headline(view), votes_line(view), cards(view));
    if view.active.is_none() {
        text.push_str("Nobody is active:\n");
        for reason in reasons::why_nobody(view) {
            text.push_str(&format!("  - {reason}\n"));
        }
        text.push('\n');
    }
    if !view.alarms.is_empty() {
        text.push_str("TO BE LOOKED AT\n");
        for alarm in &view.alarms {
            text.push_str(&format!("  ! {alarm}\n"));
        }
        text.push('\n');
    }
    text.push_str(&paths_text(&view.paths));
    for (name, value) in details(view) {
        text.push_str(&format!("{name:<12}{value}\n"));
    }
    harmless(&text)
}

/// What others call themselves must not reach the terminal as it is.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}

fn paths_text(paths: &[PathView]) -> String {
    let mut table = Table::new(["PATH TO", "OURS", "THEIRS", "", "HEARD"]);
    for path in paths {
        let error = path.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        table.push([
            path.to.clone(),
            path.ours.clone(),
            path.theirs.clone(),
            if path.is_up { "up" } else { "DOWN" }.to_owned(),
            ago(path.heard_ms) + &error,
        ]);
    }
    if table.len() > 0 { format!("{table}\n") } else { String::new() }
}

fn headline(view: &ClusterView) -> String {
    let addresses = view.addresses.join(", ");
    match &view.active {
        Some(active) if *active == view.node => {
            let why = view.cause.as_ref().map_or_else(String::new, |cause| format!(" ({cause})"));
            format!("{addresses}: ACTIVE on {active}, this node, for {}{why}", seconds(view.since_s))
        }
        Some(active) => format!("{addresses}: ACTIVE on {active}; this is {}", view.node),
        None => format!("{addresses}: NOBODY IS ACTIVE; this is {}", view.node),
    }
}

fn votes_line(view: &ClusterView) -> String {
    let ClusterView { epoch, votes, votes_needed, .. } = view;
    let lease = millis(view.lease_ms);
    if let Some(left) = view.lease_left_ms {
        let voters = voters(view).filter(|(_, voter)| voter.votes).map(|(name, _)| name);
        let seats = seats(view);
        return format!(
            "epoch {epoch}, lease {lease} with {} left; {votes} of {seats} votes, {votes_needed} needed: {}",
            millis(left),
            voters.collect::<Vec<_>>().join(", ")
        );
    }
    let granted = match &view.granted {
        Some(grant) => format!("this node's vote is {}'s for {}", grant.node, millis(grant.left_ms)),
        None => "this node's vote is free".to_owned(),
    };
    match view.role.as_str() {
        "candidate" => {
            format!("epoch {epoch}, lease {lease}; asks for votes: {votes} of the {votes_needed} needed")
        }
        _ => format!("epoch {epoch}, lease {lease}; {granted}"),
    }
}

fn cards(view: &ClusterView) -> String {
    let nodes: Vec<Card> = view.nodes.iter().map(|node| node_card(view, node)).collect();
    let mut text = String::new();
    for (row, pair) in nodes.chunks(2).enumerate() {
        match pair {
            [left, right] => {
                let between = if row == 0 && nodes.len() == 2 { wires(view) } else { Vec::new() };
                text.push_str(&beside(left, &between, right));
            }
            _ => pair.iter().for_each(|card| text.push_str(&centred(card))),
        }
    }
    if let Some(witness) = &view.witness {
        text.push_str(&centred(&witness_card(witness, view.row.as_ref())));
    }
    text
}

fn node_card(view: &ClusterView, node: &NodeView) -> Card {
    let mut lines = Vec::new();
    let is_there = !matches!(node.stance.as_str(), "silent" | "never heard");
    if node.is_this {
        let failing = view.checks.iter().filter(|check| check.failing.is_some()).count();
        lines.push(match failing {
            0 => "well".to_owned(),
            1 => "1 check FAILS, see below".to_owned(),
            _ => format!("{failing} checks FAIL, see below"),
        });
        let restarts = match view.engine.restarts {
            0 => String::new(),
            restarts => format!(", restarted {restarts}×"),
        };
        lines.push(format!("engine {}{restarts}", view.engine.state));
    } else {
        let heard = ago(node.voter.heard_ms);
        lines.push(match (is_there, node.ailment) {
            (false, _) if node.voter.heard_ms.is_none() => "was never heard".to_owned(),
            (false, _) => format!("last heard {heard}"),
            (true, 0) => "well".to_owned(),
            (true, ailment) => format!("UNWELL ({ailment}), see status there"),
        });
        if is_there {
            lines.push(format!("heard {heard}"));
        }
    }
    if is_there {
        lines.push(format!("holds {} % of the state", node.ready));
    }
    if node.wants_relief {
        lines.push("asks to be relieved".to_owned());
    }
    let own_grant = view.granted.as_ref().filter(|_| node.is_this);
    lines.push(vote_text(view, &node.voter, own_grant.map(|grant| grant.node.as_str())));
    let title = if node.is_this { format!("{}, this node", node.name) } else { node.name.clone() };
    let border = match node.stance.as_str() {
        "active" => Border::Double,
        _ if is_there => Border::Single,
        _ => Border::Dashed,
    };
    let state = match node.stance.as_str() {
        "standby" | "away" => node.stance.clone(),
        loud => loud.to_uppercase(),
    };
    Card { title, state, border, lines }
}

fn witness_card(witness: &VoterView, row: Option<&RowReport>) -> Card {
    let is_there = witness.heard_ms.is_some_and(|heard| heard <= WITNESS_SILENCE_MAX_MS);
    let granted = match &witness.granted {
        Some(grant) => format!("its vote is {}'s for {}", grant.node, millis(grant.left_ms)),
        None if witness.votes => "votes for this node".to_owned(),
        None => "its vote is free".to_owned(),
    };
    let mut lines = match (is_there, witness.is_stranger, witness.is_able) {
        (false, ..) => vec![match witness.heard_ms {
            Some(_) => format!("last heard {}", ago(witness.heard_ms)),
            None => "was never heard".to_owned(),
        }],
        (true, true, _) => vec!["ANOTHER than before: not counted".to_owned()],
        (true, false, false) => vec!["its disk FAILED: it does not vote".to_owned()],
        (true, false, true) if !witness.is_seated => vec!["has no seat: it does not count".to_owned()],
        (true, false, true) => vec![granted, format!("heard {}", ago(witness.heard_ms))],
    };
    lines.extend(row.map(|row| {
        let latency = row.latency_us.filter(|_| row.trouble.is_none());
        let took = latency.map_or(String::new(), |us| format!(", {}.{} ms", us / 1_000, us / 100 % 10));
        format!("{} at {}{took}", row.kind, row.server)
    }));
    let state = if is_there { "up" } else { "SILENT" };
    let border = if is_there { Border::Single } else { Border::Dashed };
    Card { title: "witness".to_owned(), state: state.to_owned(), border, lines }
}

fn vote_text(view: &ClusterView, voter: &VoterView, own_grant: Option<&str>) -> String {
    let own_is_free = view.nodes.iter().any(|node| node.is_this && node.voter.member == voter.member);
    match own_grant {
        _ if voter.is_stranger => "ANOTHER voter: not counted".to_owned(),
        _ if !voter.is_seated => "no seat: its vote is not counted".to_owned(),
        Some(node) => format!("its vote is {node}'s"),
        None if voter.votes => format!("its vote is {}'s", view.node),
        None if own_is_free => "its vote is free".to_owned(),
        None => String::new(),
    }
}

/// What stands between the two nodes: how many paths are up, and which way they carry.
fn wires(view: &ClusterView) -> Vec<String> {
    let peer = view.nodes.iter().find(|node| !node.is_this);
    let Some(peer) = peer else { return Vec::new() };
    let paths: Vec<bool> =
        view.paths.iter().filter(|path| path.to == peer.name).map(|path| path.is_up).collect();
    let up = paths.iter().filter(|is_up| **is_up).count();
    let is_there = !matches!(peer.stance.as_str(), "silent" | "never heard");
    let this_is_left = view.nodes.first().is_some_and(|node| node.is_this);
    let arrow = match (is_there, peer.hears_us, this_is_left) {
        (false, ..) => "───╳  ╳───",
        (true, true, _) => "◄────────►",
        // What is heard comes from the other one.
        (true, false, true) => "◄─────╳───",
        (true, false, false) => "───╳─────►",
    };
    let count = format!("{up} of {}", paths.len());
    vec![String::new(), arrow.to_owned(), format!("{count:^10}"), format!("{:^10}", "paths up")]
}

fn details(view: &ClusterView) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    let held = match (view.holds_addresses, &view.interface) {
        (true, Some(interface)) => format!("held on {interface}"),
        (true, None) => "held".to_owned(),
        (false, Some(interface)) => format!("not on {interface}"),
        (false, None) => "not held".to_owned(),
    };
    let moved = match view.vip.as_str() {
        "external" => "; moved by others, and that two never answer is theirs",
        "hooks" => "; moved by the hooks",
        _ => "",
    };
    details.push(("addresses", format!("{}: {held}{moved}", view.addresses.join(", "))));
    let gate = match view.gate.kind.as_str() {
        "program" => "a program in the kernel, with an absolute deadline".to_owned(),
        "nftables" => "nftables: weaker, a guardian that is frozen twice may open it late".to_owned(),
        "none" => "NONE: a frozen node may answer beside the new one".to_owned(),
        other => other.to_owned(),
    };
    let frames = match (view.gate.passed, view.gate.dropped) {
        (Some(passed), Some(dropped)) => {
            let passed_on = view.gate.passed_on.filter(|frames| *frames > 0);
            let passed_on = passed_on.map(|frames| format!(", {frames} passed on to the other node"));
            format!("; {passed} frames passed, {dropped} dropped{}", passed_on.unwrap_or_default())
        }
        _ => String::new(),
    };
    details.push(("gate", gate + &frames));
    details.extend(view.gate.errors.iter().map(|error| ("", error.clone())));
    for (at, check) in view.checks.iter().enumerate() {
        let label = if at == 0 { "checks" } else { "" };
        let state =
            check.failing.as_ref().map_or_else(|| "ok".to_owned(), |reason| format!("FAILS: {reason}"));
        details.push((label, format!("{}: {state}", check.name)));
    }
    if let Some(pause) = view.paused_s {
        details.push(("", format!("it gave the service up, and does not want it for {}", seconds(pause))));
    }
    let engine = &view.engine;
    let pid = engine.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let ended = engine.last_end.as_ref().map_or_else(String::new, |end| format!("; it ended last: {end}"));
    details.push((
        "engine",
        format!(
            "{}{pid}, restarted {}, hung {}{ended}",
            engine.state,
            times(engine.restarts),
            times(engine.hung)
        ),
    ));
    details.push(("link", link_text(&view.link)));
    for hook in &view.hooks {
        let outcome = hook.failed.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("FAILED: {why}"));
        details.push(("hook", format!("{} {} ago: {outcome}", hook.hook, seconds(hook.ago_s))));
    }
    let priority = view
        .no_priority
        .as_ref()
        .map_or_else(|| "real-time priority".to_owned(), |why| format!("NO real-time priority ({why})"));
    let memory = view
        .no_locked_memory
        .as_ref()
        .map_or_else(|| "memory locked".to_owned(), |why| format!("memory NOT locked ({why})"));
    details.push((
        "guardian",
        format!(
            "Tandem {}, pid {}, up {}; {priority}; {memory}",
            view.version,
            view.pid,
            seconds(view.uptime_s)
        ),
    ));
    let change = view
        .list
        .change
        .as_ref()
        .map_or_else(String::new, |member| format!("; {member} is being added or removed"));
    details.push(("voters", format!("list {}{change}; settings {}", view.list.version, view.settings)));
    details
}

fn link_text(link: &LinkView) -> String {
    let discarded = link.discarded.iter().map(|discard| {
        let source = discard.last_source.as_ref().map_or_else(String::new, |it| format!(", last from {it}"));
        format!("{} {}{source}", discard.count, discard.cause)
    });
    let discarded: Vec<String> = discarded.collect();
    let discarded = if discarded.is_empty() { "nothing".to_owned() } else { discarded.join("; ") };
    format!("{} messages; refused: {discarded}", link.messages)
}

/// All voters with their names, in the order of their numbers.
fn voters(view: &ClusterView) -> impl Iterator<Item = (&str, &VoterView)> {
    let nodes = view.nodes.iter().map(|node| (node.name.as_str(), &node.voter));
    nodes.chain(view.witness.iter().map(|witness| ("witness", witness)))
}

fn seats(view: &ClusterView) -> usize {
    voters(view).filter(|(_, voter)| voter.is_seated).count() + view.list.surplus.len()
}

fn times(count: u64) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn ago(heard_ms: Option<u64>) -> String {
    heard_ms.map_or_else(|| "never".to_owned(), |heard| format!("{} ago", millis(heard)))
}

fn millis(millis: u64) -> String {
    let exact = if millis < 10_000 { millis } else { millis / 1_000 * 1_000 };
    if exact == 0 { "0ms".to_owned() } else { write_duration(Duration::from_millis(exact)) }
}

fn seconds(seconds: u64) -> String {
    write_duration(Duration::from_secs(seconds))
}
