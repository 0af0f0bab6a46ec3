//! What an operator asks and wishes, and how the node looks from outside.

use std::collections::BTreeMap;

use ::host::GateKind;
use clock::Instant;
use cluster::MemberId;
use cluster::guardian::{Engine, Input, Refused, Wish};
use cluster::peer::Peer;
use serde_json::Value;

use super::super::hands::Hand;
use super::super::hooks::{HookResult, Occasion};
use super::super::poll::now;
use super::super::question::{Question, Reply};
use super::super::row_witness::RowWitness;
use super::super::view::{
    ClusterView, GateView, HookView, LinkView, PathView, WITNESS_SILENCE_MAX_MS, millis,
};
use super::super::wording::{Names, refused_text};
use super::EventLoop;
use crate::config::Cluster;
use crate::config::cluster::Vip;

/// What does not change while the guardian runs.
#[derive(Clone, Debug)]
pub struct About {
    /// What the configuration said at the start.
    pub cluster: Cluster,
    /// This node's place in it.
    pub me: usize,
    /// Where the virtual addresses are added.
    pub interface: Option<String>,
    /// Why the thread has no real-time priority.
    pub no_priority: Option<String>,
    /// Why the memory is not locked.
    pub no_locked_memory: Option<String>,
}

/// What is remembered to be shown.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) started: Instant,
    /// Since when the node is what it is, and why.
    pub(super) since: Instant,
    pub(super) cause: Option<&'static str>,
    /// How often it became active, and was active no more, by why.
    pub(super) takeovers: BTreeMap<&'static str, u64>,
    pub(super) losses: BTreeMap<&'static str, u64>,
    /// What an operator must know and the view does not have, the latest last.
    pub(super) alarms: Vec<String>,
    /// The last run of each hook.
    pub(super) hooks: BTreeMap<Occasion, (Instant, HookResult)>,
    pub(super) holds_addresses: bool,
    /// What the engine was told to be last.
    pub(super) engine: Engine,
    /// How many registrations it has, as it said last.
    pub(super) bindings: Option<u64>,
    /// What it has degraded since its start, by the place of the cause.
    pub(super) degraded: BTreeMap<u8, u64>,
}

impl Remembered {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            since: now,
            cause: None,
            takeovers: BTreeMap::new(),
            losses: BTreeMap::new(),
            alarms: Vec::new(),
            hooks: BTreeMap::new(),
            holds_addresses: false,
            engine: Engine::Starting,
            bindings: None,
            degraded: BTreeMap::new(),
        }
    }
}

impl EventLoop {
    pub(super) fn answer(&mut self, question: Question, reply: Reply) {
        let wish = match question {
            Question::ClusterStatus {} => {
                let view = serde_json::to_value(self.picture()).map_err(|error| error.to_string());
                // Who asked may be gone.
                let _ = reply.try_send(view);
                return;
            }
            Question::Reload {} => {
                self.reloads.push(reply);
                self.reload();
                return;
            }
            Question::Switchover { force } => Wish::Switchover { force },
            Question::Solo { on, force } => Wish::Solo { on, force },
            Question::Accept { member } => Wish::Accept(MemberId(member)),
            Question::ChangeList {} => Wish::ChangeList,
        };
        if self.waiting.is_some() {
            let busy = refused_text(Refused::Busy, &Names(&self.parts.about.cluster));
            // Who asked may be gone.
            let _ = reply.try_send(Err(busy));
            return;
        }
        self.waiting = Some(reply);
        self.handle(now(), Input::Wish(wish));
    }

    /// What an operator wished is done, or can not be done.
    pub(super) fn settled(&mut self, result: Result<(), Refused>) {
        let names = Names(&self.parts.about.cluster);
        let result = result.map(|()| Value::Null).map_err(|refused| refused_text(refused, &names));
        if let Some(reply) = self.waiting.take() {
            // Who asked may be gone.
            let _ = reply.try_send(result);
        }
    }

    /// How the node looks.
    fn picture(&self) -> ClusterView {
        let at = now();
        let instant = at.instant;
        let parts = &self.parts;
        let about = &parts.about;
        let (hands, remembered) = (parts.hands.view(), &self.remembered);
        let view = parts.guardian.view(instant);
        let is_active = view.lease.is_some();
        let mut picture = ClusterView::new(&about.cluster, about.me, &view, at.wall.as_millis());
        picture.uptime_s = instant.since(remembered.started).as_secs();
        picture.since_s = instant.since(remembered.since).as_secs();
        picture.cause = remembered.cause.map(str::to_owned);
        let counted = |figures: &BTreeMap<&'static str, u64>| {
            figures.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect()
        };
        picture.takeovers = counted(&remembered.takeovers);
        picture.losses = counted(&remembered.losses);
        picture.interface.clone_from(&about.interface);
        // What others move is here as long as this node is active.
        let has_none = about.cluster.vip == Vip::External;
        picture.holds_addresses = is_active && (remembered.holds_addresses || has_none);
        picture.no_priority.clone_from(&about.no_priority);
        picture.no_locked_memory.clone_from(&about.no_locked_memory);
        let kind = match hands.gate {
            Some(GateKind::Program) => "program",
            Some(GateKind::Nftables) => "nftables",
            Some(GateKind::None) | None => "none",
        };
        let gate_troubles = hands.troubles.iter().filter(|(hand, _)| *hand == Hand::Gate);
        picture.gate = GateView {
            kind: kind.to_owned(),
            errors: hands.refusals.iter().chain(gate_troubles.map(|(_, reason)| reason)).cloned().collect(),
            passed: hands.counts.map(|counts| counts.passed),
            dropped: hands.counts.map(|counts| counts.dropped),
            passed_on: hands.counts.map(|counts| counts.passed_on),
        };
        picture.engine.pid = parts.engine.pid();
        let record = parts.engine.record();
        picture.engine.restarts = record.restarts;
        picture.engine.hung = record.hung;
        picture.engine.last_end.clone_from(&record.last_end);
        picture.link = LinkView::of(&parts.links);
        picture.paths = self.paths(instant);
        if parts.row.as_ref().is_some_and(RowWitness::is_silent) {
            picture
                .alarms
                .push("the process that speaks to the witness's server says nothing; see the log".to_owned());
        } else if let Some(row) = parts.row.as_ref().and_then(RowWitness::report) {
            let trouble = row
                .trouble
                .as_ref()
                .map(|trouble| format!("the witness's server ({} at {}): {trouble}", row.kind, row.server));
            picture.alarms.extend(trouble);
            picture.row = Some(row.clone());
        }
        picture.hooks = remembered
            .hooks
            .iter()
            .map(|(occasion, (ended, result))| HookView {
                hook: format!("on_{}", occasion.name()),
                ago_s: instant.since(*ended).as_secs(),
                failed: result.result.clone().err(),
            })
            .collect();
        let troubles = hands.troubles.iter().filter(|(hand, _)| *hand != Hand::Gate);
        picture.alarms.extend(troubles.map(|(hand, reason)| format!("{hand}: {reason}")));
        for alarm in &remembered.alarms {
            if !picture.alarms.contains(alarm) {
                picture.alarms.push(alarm.clone());
            }
        }
        picture
    }

    fn paths(&self, now: Instant) -> Vec<PathView> {
        let names = Names(&self.parts.about.cluster);
        let witness = MemberId(self.parts.about.cluster.nodes.len() as u8);
        let views = self.parts.links.paths(now);
        views
            .map(|path| {
                let is_witness = path.member == witness;
                let silence_max_ms =
                    if is_witness { WITNESS_SILENCE_MAX_MS } else { millis(Peer::silence_max()) };
                let to = names.member(path.member);
                PathView::new(path, to, silence_max_ms)
            })
            .collect()
    }
}
