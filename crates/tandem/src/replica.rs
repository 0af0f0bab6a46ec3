//! The other node of a pair: where it is, the way to it, and how the operator sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ::replica::{Epoch, Kind, Lag, ReceiverCounts, ReceiverView, SenderCounts, SenderView};
use engine::copies::{BAN, BINDING, CALL, CONNECTION, DIALOG, KNOWN, MEDIA, NONCE_COUNT, RECORD};
use keys::RootKey;
use peer::{Identity, Peer, Plan};
use serde::{Deserialize, Serialize};

use crate::config::Cluster;
use crate::degraded;
use crate::guardian::view::millis;

/// Where both nodes of a pair are.
#[derive(Clone, Debug)]
pub struct Pair {
    me: u8,
    own: Vec<SocketAddr>,
    other: Vec<SocketAddr>,
}

impl Pair {
    /// The pair that the node at this place belongs to; `None` where there are more than two nodes.
    pub fn of(cluster: &Cluster, place: u8) -> Option<Self> {
        let [first, second] = &cluster.nodes[..] else { return None };
        let (own, other) = if place == 0 { (first, second) } else { (second, first) };
        Some(Self { me: place, own: own.paths.clone(), other: other.paths.clone() })
    }

    /// What opens the way to the other node, when the server is about to serve.
    pub fn opener(self, root_key: &RootKey) -> anyhow::Result<net::OpenPeer> {
        let identity = Identity::derive(root_key)?;
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let plan = Plan {
            node: self.me,
            incarnation: u64::from_ne_bytes(incarnation),
            listen: self.own,
            peers: self.other,
            known: KNOWN.to_vec(),
        };
        Ok(Box::new(move |owners, own| {
            let start = peer::Start { epoch: Epoch(0), own };
            Ok(Arc::new(Peer::start(plan, identity, owners, start)))
        }))
    }
}

/// The other node, as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaView {
    /// `active`: this node sends. `standby`: it receives.
    pub role: String,
    /// Whether the other node is connected.
    pub connected: bool,
    /// How much of everything the standby has, from 0 to 100, as far as this node knows.
    pub ready: u8,
    /// What is on its way to the standby; the active node knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagView>,
    /// For each kind how many entries are on this node and on the other one.
    pub kinds: BTreeMap<String, KindView>,
    /// Answers that left when the other node held what they stand for, since the start.
    pub held: u64,
    /// Answers that left though it may not, by cause.
    pub degraded: BTreeMap<String, u64>,
    /// What keeps this node from calling the other one or from being called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// Calls to the other node.
    pub called: u64,
    /// Calls that did not get through.
    pub unreached: u64,
    /// Handshakes with who has not the cluster's key.
    pub other_key: u64,
    /// Connections from addresses that are not the other node's.
    pub strangers: u64,
    /// What the role counts, since it began.
    pub counters: BTreeMap<String, u64>,
}

/// What is on its way to the standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagView {
    /// Messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// How long the oldest one has been on its way.
    pub age_ms: u64,
}

/// How many entries of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindView {
    /// On this node.
    pub here: u64,
    /// On the other one, at the last comparison.
    pub there: u64,
}

/// What the server and its counters say of the other node.
pub fn view(peer: &net::PeerView, counters: &BTreeMap<&'static str, u64>) -> ReplicaView {
    let net::PeerView { by_role, counts, troubles } = peer;
    let degraded = counters.iter().filter(|(_, figure)| **figure > 0);
    let degraded = degraded
        .filter_map(|(name, figure)| Some((name.strip_prefix(degraded::PREFIX)?.to_owned(), *figure)))
        .collect();
    let (role, connected, ready, kinds, lag, counters_of_role) = match by_role {
        net::ByRole::Active(SenderView { peer, ready, lag, kinds, counts }) => {
            ("active", peer.is_some(), *ready, kinds, Some(LagView::of(lag)), sent(counts))
        }
        net::ByRole::Standby(ReceiverView { active, ready, kinds, counts, .. }) => {
            ("standby", active.is_some(), *ready, kinds, None, received(counts))
        }
    };
    let kinds = kinds.iter().map(|&(kind, here, there)| (name_of(kind), KindView { here, there }));
    ReplicaView {
        role: role.to_owned(),
        connected,
        ready,
        lag,
        kinds: kinds.collect(),
        held: counters.get("replicated").copied().unwrap_or_default(),
        degraded,
        troubles: troubles.clone(),
        called: counts.called,
        unreached: counts.unreached,
        other_key: counts.not_ours,
        strangers: counts.strangers,
        counters: counters_of_role,
    }
}

/// What was held or degraded is left out: it is counted for all roles together.
fn sent(counts: &SenderCounts) -> BTreeMap<String, u64> {
    named([
        ("sent", counts.sent),
        ("repaired", counts.repaired),
        ("bytes", counts.bytes),
        ("agreed", counts.agreed),
        ("differed", counts.differed),
        ("stale", counts.stale),
        ("lost", counts.lost),
        ("refused", counts.refused),
        ("too_long", counts.too_long),
        ("outdated", counts.outdated),
        ("skipped", counts.skipped),
    ])
}

fn received(counts: &ReceiverCounts) -> BTreeMap<String, u64> {
    named([
        ("applied", counts.applied),
        ("removed", counts.removed),
        ("refused", counts.refused),
        ("unknown", counts.unknown),
        ("skipped", counts.skipped),
        ("turned_away", counts.turned_away),
        ("broken", counts.broken),
        ("agreed", counts.agreed),
        ("differed", counts.differed),
    ])
}

impl LagView {
    fn of(lag: &Lag) -> Self {
        let Lag { messages, bytes, age } = *lag;
        Self { messages, bytes, age_ms: millis(age) }
    }
}

impl ReplicaView {
    /// For the operator, in a line or two.
    pub fn text(&self) -> String {
        let Self { ready, held, .. } = self;
        let mut text = match (self.role.as_str(), self.connected) {
            ("active", true) => format!("the standby holds {ready} % of what is here"),
            ("active", false) => {
                "NO STANDBY is connected: what is acknowledged is on this node alone".to_owned()
            }
            (_, true) => format!("{ready} % of what the active node has is here"),
            (_, false) => format!("the active node is not connected ({ready} % of what it had is here)"),
        };
        if let Some(LagView { messages: messages @ 1.., age_ms, .. }) = self.lag {
            text.push_str(&format!(", {messages} messages on their way for {age_ms} ms"));
        }
        if *held > 0 {
            text.push_str(&format!(", {held} answers after it held them"));
        }
        let causes =
            self.degraded.iter().map(|(cause, figure)| format!("{figure} {}", cause.replace('_', " ")));
        let causes: Vec<String> = causes.collect();
        if !causes.is_empty() {
            text.push_str(&format!(", DEGRADED: {}", causes.join(", ")));
        }
        for (kind, KindView { here, there }) in &self.kinds {
            text.push_str(&format!("\n{:16}{kind}: {here} here, {there} there", ""));
        }
        if !self.connected {
            let why = self.troubles.iter().cloned().chain(self.causes());
            for why in why {
                text.push_str(&format!("\n{:16}{why}", ""));
            }
        }
        text
    }

    /// Why nobody may be connected, as far as the figures tell.
    fn causes(&self) -> impl Iterator<Item = String> + use<> {
        let Self { other_key, strangers, .. } = *self;
        let key = (other_key > 0).then(|| {
            format!("{other_key} handshakes failed: have both nodes the same cluster.key_file, and is it Tandem that calls?")
        });
        let strangers = (strangers > 0).then(|| {
            format!(
                "{strangers} calls came from addresses that are none of the other node's cluster.node.paths"
            )
        });
        key.into_iter().chain(strangers)
    }
}

fn name_of(kind: Kind) -> String {
    match kind {
        BINDING => "bindings".to_owned(),
        NONCE_COUNT => "nonces".to_owned(),
        BAN => "bans".to_owned(),
        CALL => "invites".to_owned(),
        DIALOG => "calls".to_owned(),
        CONNECTION => "connections".to_owned(),
        MEDIA => "media".to_owned(),
        RECORD => "records".to_owned(),
        Kind(number) => format!("kind {number}"),
    }
}

fn named<const N: usize>(figures: [(&str, u64); N]) -> BTreeMap<String, u64> {
    figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_node_without_a_standby_says_so_and_why() {
        let view = ReplicaView {
            role: "active".to_owned(),
            troubles: vec!["192.0.2.2:5061: connection refused".to_owned()],
            degraded: BTreeMap::from([("no_peer".to_owned(), 3)]),
            other_key: 2,
            ..ReplicaView::default()
        };

        let text = view.text();

        for part in ["NO STANDBY", "DEGRADED: 3 no peer", "192.0.2.2:5061: connection refused", "key_file"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_pair_that_is_well_says_how_much_both_have() {
        let view = ReplicaView {
            role: "active".to_owned(),
            connected: true,
            ready: 100,
            lag: Some(LagView::default()),
            kinds: BTreeMap::from([("bindings".to_owned(), KindView { here: 7, there: 7 })]),
            held: 5,
            other_key: 2,
            ..ReplicaView::default()
        };

        let text = view.text();

        assert!(text.starts_with("the standby holds 100 % of what is here, 5 answers"), "{text}");
        assert!(text.contains("bindings: 7 here, 7 there"), "{text}");
        assert!(!text.contains("DEGRADED") && !text.contains("key_file"), "{text}");
    }

    #[test]
    fn counters_of_degraded_answers_are_told_by_their_cause() {
        let view = net::PeerView {
            by_role: net::ByRole::Standby(ReceiverView {
                active: None,
                epoch: Epoch(3),
                ready: 40,
                kinds: vec![(BINDING, 1, 2), (Kind(77), 0, 1)],
                counts: Default::default(),
            }),
            counts: Default::default(),
            troubles: Vec::new(),
        };
        let counters = BTreeMap::from([("degraded_late", 2), ("degraded_lost", 0), ("replicated", 9)]);

        let view = super::view(&view, &counters);

        assert_eq!((view.held, view.degraded), (9, BTreeMap::from([("late".to_owned(), 2)])));
        assert_eq!((view.role.as_str(), view.connected, view.ready), ("standby", false, 40));
        assert_eq!(view.kinds.keys().map(String::as_str).collect::<Vec<_>>(), ["bindings", "kind 77"]);
    }
}
