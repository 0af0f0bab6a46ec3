//! What an operator is shown of a cluster, as it crosses the control socket.
//!
//! [`ClusterView::new`] makes of the pure guardian's view what can be made of it; whoever runs the guardian adds what only
//! it knows: the gate, the engine's process, the link, the hooks.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::guardian::{self, APART_MAX, Alarm, ListView as Listed, MemberView, PeerView};
use cluster::link::{Discard, LinkCounts};
use serde::{Deserialize, Serialize};

use super::links::{Links, STRANGERS};
use super::wording::{Names, alarm_text, engine_name, role_name, stance_name, vip_name};
use crate::config::Cluster;
use crate::row_witness::RowReport;

/// A witness answers once in a second. One that was not heard for so many milliseconds is silent.
pub const WITNESS_SILENCE_MAX_MS: u64 = 3_000;

/// How the cluster looks from one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// This node's name.
    pub node: String,
    /// The program's version.
    pub version: String,
    /// The guardian's process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// `active`, `standby`, `candidate` or `closing`.
    pub role: String,
    /// Seconds since this node took or gave up the service, or since the start.
    pub since_s: u64,
    /// Why it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// How often this node became active since its guardian's start, by the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub takeovers: BTreeMap<String, u64>,
    /// How often it was active no more, by the cause.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub losses: BTreeMap<String, u64>,
    /// The node that is active, as far as this one knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active: Option<String>,
    /// The epoch in force, or the highest that was seen.
    pub epoch: u64,
    /// The configured lease in milliseconds.
    pub lease_ms: u64,
    /// How much of it is left in milliseconds, if this node is active.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_left_ms: Option<u64>,
    /// Votes that count for this node now.
    pub votes: usize,
    /// Votes that are needed.
    pub votes_needed: usize,
    /// Whom this node's voter has granted the service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub granted: Option<GrantView>,
    /// The list of voters.
    pub list: ListView,
    /// All nodes in the order of the configuration.
    pub nodes: Vec<NodeView>,
    /// The witness, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub witness: Option<VoterView>,
    /// The server that has the witness's row, if the witness is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row: Option<RowReport>,
    /// The ways to the others.
    pub paths: Vec<PathView>,
    /// This node's checks.
    pub checks: Vec<CheckView>,
    /// Seconds for which this node does not want the service, because it gave it up for its health.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused_s: Option<u64>,
    /// The virtual addresses.
    pub addresses: Vec<String>,
    /// Who moves them: `tandem`, `hooks` or `external`.
    pub vip: String,
    /// Where they are added.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// Whether they are there now.
    pub holds_addresses: bool,
    /// The gate.
    pub gate: GateView,
    /// The engine's process.
    pub engine: EngineView,
    /// The link.
    pub link: LinkView,
    /// The last run of each hook.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hooks: Vec<HookView>,
    /// Whether the guardian's thread has real-time priority; else why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_priority: Option<String>,
    /// Why its memory is not locked, if it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_locked_memory: Option<String>,
    /// The digest of the settings that all nodes share.
    pub settings: String,
    /// What an operator must look at, in words.
    pub alarms: Vec<String>,
}

/// Whom a voter has granted the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// The node.
    pub node: String,
    /// Under which epoch, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<u64>,
    /// For how long still, in milliseconds.
    pub left_ms: u64,
}

/// The list of voters in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListView {
    /// Its version.
    pub version: u64,
    /// The member that is being added or removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub change: Option<String>,
    /// Configured members without a seat.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unseated: Vec<String>,
    /// Seats of members that are not configured any more.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub surplus: Vec<u8>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Whether it is the one that was asked.
    pub is_this: bool,
    /// `active`, `standby`, `unable`, `away`, `silent` or `never heard`.
    pub stance: String,
    /// What is wrong with it: 0 is nothing.
    pub ailment: u8,
    /// How much of the state it holds, 0 to 100.
    pub ready: u8,
    /// Whether it hears this node.
    pub hears_us: bool,
    /// Whether it is active and asks to be relieved.
    pub wants_relief: bool,
    /// Its vote.
    pub voter: VoterView,
}

/// One voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterView {
    /// The member's number.
    pub member: u8,
    /// Whether it has a seat in the list of voters: whether its vote could count.
    pub is_seated: bool,
    /// Whether its vote counts for this node now.
    pub votes: bool,
    /// Milliseconds since it was heard; absent: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard_ms: Option<u64>,
    /// Whether another voter than the known one speaks for it: that one does not count.
    pub is_stranger: bool,
    /// Whether it can vote, as it says of itself.
    pub is_able: bool,
    /// Whom it has granted the service, if it said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub granted: Option<GrantView>,
}

/// One way to another member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// To whom.
    pub to: String,
    /// This side's address.
    pub ours: String,
    /// The other side's.
    pub theirs: String,
    /// Milliseconds since something good came by it; absent: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heard_ms: Option<u64>,
    /// Whether it counts as up.
    pub is_up: bool,
    /// Why nothing can be sent by it, if nothing can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// What is checked.
    pub name: String,
    /// Why it fails; absent: it passes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failing: Option<String>,
}

/// The gate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateView {
    /// `program`, `nftables` or `none`.
    pub kind: String,
    /// Why a better one can not be had, and what failed later.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub errors: Vec<String>,
    /// Frames of the virtual addresses that passed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passed: Option<u64>,
    /// Those that it dropped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dropped: Option<u64>,
    /// Those that it sent on to the node that took over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passed_on: Option<u64>,
}

/// The engine's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineView {
    /// `starting`, `ready`, `hung` or `dead`.
    pub state: String,
    /// Its process, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u64,
    /// How often it hung.
    pub hung: u64,
    /// Why it ended last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_end: Option<String>,
}

/// The link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// Messages of members.
    pub messages: u64,
    /// What came and was discarded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub discarded: Vec<DiscardView>,
}

/// What was discarded for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardView {
    /// Why.
    pub cause: String,
    /// How often.
    pub count: u64,
    /// From where the last one came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_source: Option<String>,
}

/// The last run of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookView {
    /// `on_active`, `on_standby` or `on_fault`.
    pub hook: String,
    /// Seconds since it ended.
    pub ago_s: u64,
    /// What went wrong; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
}

impl ClusterView {
    /// What follows from the pure guardian's view. `wall_ms` is the calendar in milliseconds since 1970.
    pub fn new(cluster: &Cluster, me: usize, view: &guardian::View, wall_ms: u64) -> Self {
        let names = Names(cluster);
        let nodes: Vec<NodeView> = (0..cluster.nodes.len())
            .map(|place| {
                let member = view.members.iter().find(|member| usize::from(member.member.0) == place);
                let voter = member.map(|member| voter_view(member, &names)).unwrap_or_default();
                let peer = view.peers.iter().find(|peer| usize::from(peer.node.0) == place);
                match peer {
                    _ if place == me => own_view(cluster, me, view, voter),
                    Some(peer) => peer_view(names.node(peer.node), peer, voter),
                    None => {
                        NodeView { name: cluster.nodes[place].name.clone(), voter, ..NodeView::default() }
                    }
                }
            })
            .collect();
        let active = nodes.iter().find(|node| node.stance == "active").map(|node| node.name.clone());
        let witness = view.members.iter().find(|member| member.is_witness);
        Self {
            node: cluster.nodes[me].name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            role: role_name(view.role).to_owned(),
            active,
            epoch: view.lease.map_or(view.highest, |(epoch, _)| epoch).0,
            lease_ms: millis(view.settings.plan.lease),
            lease_left_ms: view.lease.map(|(_, left)| millis(left)),
            votes: view.votes.0,
            votes_needed: view.votes.1,
            granted: view.granted.map(|(holder, epoch, left)| GrantView {
                node: names.node(holder.node),
                epoch: Some(epoch.0),
                left_ms: millis(left),
            }),
            list: list_view(&view.list, &names),
            witness: witness.map(|member| voter_view(member, &names)),
            checks: view
                .checks
                .iter()
                .map(|(name, failing)| CheckView { name: name.clone(), failing: failing.clone() })
                .collect(),
            paused_s: view.paused_for.map(|pause| pause.as_secs()),
            addresses: cluster.addresses.iter().map(ToString::to_string).collect(),
            vip: vip_name(cluster.vip).to_owned(),
            engine: EngineView { state: engine_name(view.engine).to_owned(), ..EngineView::default() },
            settings: format!("{:016x}", view.settings.digest),
            alarms: alarms(view, &names, wall_ms),
            nodes,
            ..Self::default()
        }
    }
}

impl PathView {
    /// How a path is; one that was silent for longer than this is down.
    pub fn new(path: super::links::PathView, to: String, silence_max_ms: u64) -> Self {
        let heard_ms = path.silent_for.map(millis);
        Self {
            to,
            ours: path.local.to_string(),
            theirs: path.remote.to_string(),
            heard_ms,
            is_up: heard_ms.is_some_and(|silence| silence <= silence_max_ms),
            error: path.trouble,
        }
    }
}

impl LinkView {
    /// What was counted, in the link and before it.
    pub fn of(links: &Links) -> Self {
        let source_of = |cause: &str| links.last_source(cause).map(|source| source.to_string());
        let (strangers, malformed) = links.refused();
        let mut view = Self::new(links.counts(), source_of);
        view.refuse(STRANGERS, strangers, source_of(STRANGERS));
        view.refuse("no message", malformed, None);
        view
    }

    /// What was counted. `source_of` says where the last datagram of a cause came from.
    fn new(counts: &LinkCounts, source_of: impl Fn(&str) -> Option<String>) -> Self {
        let discarded = [
            (Discard::WrongKey, counts.wrong_keys),
            (Discard::Version(counts.last_version), counts.versions),
            (Discard::Garbage, counts.garbage),
            (Discard::NotForUs, counts.not_for_us),
            (Discard::Replayed, counts.replayed),
            (Discard::UnknownSession, counts.unknown_sessions),
            (Discard::TooMany, counts.too_many),
        ];
        Self {
            messages: counts.messages,
            discarded: discarded
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(discard, count)| DiscardView {
                    cause: discard.name().to_owned(),
                    count,
                    last_source: source_of(discard.name()),
                })
                .collect(),
        }
    }

    /// Adds what was refused before it came to the link.
    fn refuse(&mut self, cause: &str, count: u64, last_source: Option<String>) {
        if count > 0 {
            self.discarded.push(DiscardView { cause: cause.to_owned(), count, last_source });
        }
    }
}

fn own_view(cluster: &Cluster, me: usize, view: &guardian::View, voter: VoterView) -> NodeView {
    // Nobody says it of itself, and whoever is asked is there.
    let voter = VoterView { is_able: true, heard_ms: None, ..voter };
    NodeView {
        name: cluster.nodes[me].name.clone(),
        is_this: true,
        stance: stance_name(view.stance).to_owned(),
        ailment: view.ailment,
        ready: view.ready,
        hears_us: true,
        wants_relief: false,
        voter,
    }
}

fn peer_view(name: String, peer: &PeerView, voter: VoterView) -> NodeView {
    let Some(said) = &peer.said else {
        return NodeView { name, stance: "never heard".to_owned(), voter, ..NodeView::default() };
    };
    let stance = if peer.is_heard { stance_name(said.stance) } else { "silent" };
    NodeView {
        name,
        is_this: false,
        stance: stance.to_owned(),
        ailment: said.ailment,
        ready: said.ready,
        hears_us: said.hears_you,
        wants_relief: said.wants_relief,
        voter: VoterView { heard_ms: peer.silent_for.map(millis), is_able: true, ..voter },
    }
}

fn voter_view(member: &MemberView, names: &Names<'_>) -> VoterView {
    let granted = member.here.and_then(|here| here.granted).map(|(holder, left)| GrantView {
        node: names.node(holder.node),
        epoch: None,
        left_ms: millis(left),
    });
    VoterView {
        member: member.member.0,
        is_seated: member.is_seated,
        votes: member.votes,
        heard_ms: member.silent_for.map(millis),
        is_stranger: member.is_seated && member.stranger.is_some(),
        is_able: member.here.is_none_or(|here| here.votes),
        granted,
    }
}

fn list_view(list: &Listed, names: &Names<'_>) -> ListView {
    ListView {
        version: list.version.0,
        change: list.change.map(|seat| names.member(seat.member)),
        unseated: list.unseated.iter().map(|member| names.member(*member)).collect(),
        surplus: list.surplus.iter().map(|member| member.0).collect(),
    }
}

/// What follows from what is known now; what happened once is for the log.
fn alarms(view: &guardian::View, names: &Names<'_>, wall_ms: u64) -> Vec<String> {
    let mut alarms = Vec::new();
    for peer in &view.peers {
        let Some(said) = peer.said.filter(|_| peer.is_heard) else { continue };
        if said.settings != view.settings.digest {
            alarms.push(alarm_text(&Alarm::SettingsDiffer(peer.node), names));
        }
        let apart = Duration::from_millis(said.wall_ms.abs_diff(wall_ms));
        if apart > APART_MAX {
            let text = alarm_text(&Alarm::ClocksApart(peer.node), names);
            alarms.push(format!("{text} ({} s)", apart.as_secs()));
        }
        if !said.hears_you {
            let name = names.node(peer.node);
            alarms.push(format!(
                "{name} is heard, but does not hear this node: a cable or a filter lets only one way pass"
            ));
        }
    }
    for member in &view.members {
        // Whoever has no seat has no voter to be another one.
        if let Some(stranger) = member.stranger.filter(|_| member.is_seated) {
            alarms.push(alarm_text(&Alarm::VoterChanged(member.member, stranger), names));
        }
        if member.is_witness && member.here.is_some_and(|here| !here.votes) {
            alarms.push(
                "the witness does not vote: its disk failed; mend it and restart the witness".to_owned(),
            );
        }
    }
    if view.list.change.is_none() && !(view.list.unseated.is_empty() && view.list.surplus.is_empty()) {
        alarms.push(
            "the voters are not those that are configured: after `solo` that is meant, and `tandem solo --end` ends it; after \
             a change of the configuration `tandem cluster apply` on the active node takes it"
                .to_owned(),
        );
    }
    alarms
}

/// Whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use clock::{Instant, Now};
    use cluster::guardian::{Guardian, Input, Settings, Start};
    use cluster::heartbeat::{Heartbeat, Stance};
    use cluster::peer::PathId;
    use cluster::{
        Epoch, Here, Holder, Incarnation, LeasePlan, ListVersion, MemberId, Message, NodeId, Record,
        ServiceId, VoterId,
    };

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_node_that_hears_nobody_yet_is_a_standby_without_votes() {
        let view = view_of(&[]);

        assert_eq!((view.node.as_str(), view.role.as_str(), view.active.as_deref()), ("a", "standby", None));
        assert_eq!((view.votes, view.votes_needed, view.lease_ms), (0, 2, 500));
        let stances: Vec<_> =
            view.nodes.iter().map(|node| (node.name.as_str(), node.stance.as_str())).collect();
        assert_eq!(stances, [("a", "unable"), ("b", "never heard")]);
        assert_eq!(view.witness.expect("it has one").heard_ms, None);
        assert_eq!(view.alarms, [""; 0]);
    }

    #[test]
    fn what_the_other_node_and_the_witness_say_is_shown() {
        let here = Here { granted: Some((holder(1), Duration::from_millis(400))), ..here() };
        let view =
            view_of(&[(MemberId(1), Message::Heartbeat(heartbeat())), (MemberId(2), Message::Here(here))]);

        assert_eq!(view.active.as_deref(), Some("b"));
        let NodeView { stance, ailment, ready, hears_us, voter, .. } = &view.nodes[1];
        assert_eq!((stance.as_str(), *ailment, *ready, *hears_us), ("active", 20, 90, true));
        assert_eq!((voter.member, voter.heard_ms, voter.is_able, voter.is_seated), (1, Some(0), true, true));
        let granted = view.witness.expect("it has one").granted.expect("it said so");
        assert_eq!((granted.node.as_str(), granted.left_ms), ("b", 400));
        assert_eq!(view.alarms, [""; 0]);
    }

    #[test]
    fn what_an_operator_must_look_at_is_told_in_words() {
        let odd = Heartbeat { settings: 1, wall_ms: NOW_MS + 61_000, hears_you: false, ..heartbeat() };
        let other = Heartbeat { voter: VoterId(99), ..odd };
        let view = view_of(&[
            (MemberId(1), Message::Heartbeat(odd)),
            (MemberId(1), Message::Heartbeat(other)),
            (MemberId(2), Message::Here(Here { votes: false, ..here() })),
        ]);

        for part in [
            "the configuration differs: b",
            "the clocks are apart: b",
            "(61 s)",
            "b is heard, but does not hear this node",
            "`tandem cluster accept b`",
            "the witness does not vote",
        ] {
            assert!(view.alarms.iter().any(|alarm| alarm.contains(part)), "{part}: {:?}", view.alarms);
        }
    }

    #[test]
    fn the_settings_in_force_are_shown_and_not_those_of_the_start() {
        let mut guardian = Guardian::new(Instant::START, start(settings(500, 1)));
        guardian.reload(settings(600, 2));

        let view = ClusterView::new(&cluster(), 0, &guardian.view(Instant::START), NOW_MS);

        assert_eq!((view.lease_ms, view.settings.as_str()), (600, "0000000000000002"));
    }

    #[test]
    fn only_what_was_refused_is_listed() {
        let counts = LinkCounts { messages: 5, wrong_keys: 2, ..LinkCounts::default() };

        let link = LinkView::new(&counts, |cause| (cause == "wrong key").then(|| "192.0.2.7:9".to_owned()));

        let listed: Vec<_> = link
            .discarded
            .iter()
            .map(|it| (it.cause.as_str(), it.count, it.last_source.as_deref()))
            .collect();
        assert_eq!((link.messages, listed), (5, vec![("wrong key", 2, Some("192.0.2.7:9"))]));
    }

    const NOW_MS: u64 = 1_800_000_000_000;

    fn view_of(messages: &[(MemberId, Message)]) -> ClusterView {
        let cluster = cluster();
        let at = Instant::START + Duration::from_secs(1);
        let now = Now { instant: at, wall: clock::WallTime::from_millis(NOW_MS) };
        let mut guardian = Guardian::new(at, start(settings(500, DIGEST)));
        let mut out = Vec::new();
        for (from, message) in messages {
            guardian.handle(now, Input::Message(*from, PathId(0), *message), &mut out);
        }
        ClusterView::new(&cluster, 0, &guardian.view(at), NOW_MS)
    }

    const DIGEST: u64 = 7;

    fn settings(lease_ms: u64, digest: u64) -> Settings {
        let plan = LeasePlan { lease: Duration::from_millis(lease_ms) };
        Settings { plan, preferred: None, digest }
    }

    fn cluster() -> Cluster {
        let text = "[cluster]\naddresses = ['192.0.2.10']\nwitness = ['tandem://192.0.2.9']\n\
                    [[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n\
                    [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n";
        let config = Config::parse(Path::new("a.toml"), text).expect("it is right");
        config.cluster.expect("it has one")
    }

    fn start(settings: Settings) -> Start {
        Start {
            service: ServiceId(0),
            me: holder(0),
            nodes: vec![NodeId(0), NodeId(1)],
            has_witness: true,
            known: BTreeMap::new(),
            record: Record::first(VoterId(10)),
            settings,
        }
    }

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            service: ServiceId(0),
            from: holder(1),
            voter: VoterId(11),
            stance: Stance::Active,
            epoch: Epoch(7),
            ailment: 20,
            ready: 90,
            wants_relief: false,
            hears_you: true,
            has_witness: true,
            list: ListVersion::FIRST,
            settings: DIGEST,
            wall_ms: NOW_MS,
            admits_at: None,
        }
    }

    fn here() -> Here {
        Here { service: ServiceId(0), voter: VoterId(12), highest: Epoch(7), granted: None, votes: true }
    }

    fn holder(node: u8) -> Holder {
        Holder { node: NodeId(node), incarnation: Incarnation(1) }
    }
}
