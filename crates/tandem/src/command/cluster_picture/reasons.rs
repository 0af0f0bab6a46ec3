//! Why nobody is active, as far as one node can tell.

use super::{ago, millis, seconds, voters};
use crate::guardian::view::{ClusterView, WITNESS_SILENCE_MAX_MS};

/// Each reason, the weightiest first; never empty.
pub fn why_nobody(view: &ClusterView) -> Vec<String> {
    let mut reasons = Vec::new();
    let is_heard = |heard: Option<u64>| heard.is_some_and(|heard| heard <= WITNESS_SILENCE_MAX_MS);
    let counts =
        |voter: &crate::guardian::view::VoterView| voter.is_seated && voter.is_able && !voter.is_stranger;
    let this = view.nodes.iter().find(|node| node.is_this);
    let own_member = this.map(|node| node.voter.member);
    let (there, missing): (Vec<_>, Vec<_>) =
        voters(view).filter(|(_, voter)| voter.is_seated).partition(|(_, voter)| {
            counts(voter) && (Some(voter.member) == own_member || is_heard(voter.heard_ms))
        });
    if there.len() < view.votes_needed {
        let missing: Vec<String> = missing
            .iter()
            .map(|(name, voter)| match (voter.is_stranger, voter.is_able) {
                (true, _) => format!("{name} (another voter than before)"),
                (false, false) => format!("{name} (it does not vote)"),
                (false, true) => format!("{name} (heard {})", ago(voter.heard_ms)),
            })
            .collect();
        reasons.push(format!(
            "{} votes are needed and only {} can be had; not there: {}",
            view.votes_needed,
            there.len(),
            missing.join(", ")
        ));
    }
    if let Some(this) = this {
        match this.stance.as_str() {
            "unable" => reasons.push(format!(
                "{} can not be active: its engine is {}, or its disk failed",
                this.name, view.engine.state
            )),
            "away" if view.vip == "external" => reasons.push(format!(
                "{} has not the address: what moves it (keepalived, Pacemaker) has not put it here",
                this.name
            )),
            "away" => reasons.push(format!("{} was taken out by an operator, or is stopping", this.name)),
            _ => {}
        }
        if let Some(pause) = view.paused_s {
            reasons.push(format!("{} gave up for its health and waits {} more", this.name, seconds(pause)));
        }
    }
    for check in view.checks.iter().filter(|check| check.failing.is_some()) {
        reasons.push(format!("{} fails: {}", check.name, check.failing.as_deref().unwrap_or_default()));
    }
    for node in view.nodes.iter().filter(|node| !node.is_this) {
        match node.stance.as_str() {
            "unable" => reasons.push(format!("{} can not be active: see `tandem status` there", node.name)),
            "away" => reasons.push(format!("{} was taken out by an operator, or is stopping", node.name)),
            _ => {}
        }
    }
    if let Some(grant) = view.granted.as_ref().filter(|grant| grant.node != view.node) {
        reasons.push(format!("this node's vote is {}'s for {} more", grant.node, millis(grant.left_ms)));
    }
    if view.role == "candidate" {
        reasons.push(format!(
            "{} asks for votes now: it has {} of {}",
            view.node, view.votes, view.votes_needed
        ));
    }
    if reasons.is_empty() {
        reasons.push(
            "a node has just started or given up; a standby takes over within a lease or two".to_owned(),
        );
    }
    reasons
}
