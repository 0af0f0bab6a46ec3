//! Bans: who is slowed down, and who is not heard at all.
//!
//! Kept by source, before any shard: [`Bans::judge`] says of a message, before it is read, whether it is heard. Shards
//! and partitions tell what became of it by [`Report`]s. There are three steps:
//!
//! - **Slowed.** What asks and proves nothing takes a token of its source's bucket; a right password puts it back. While
//!   the bucket is empty nothing of the source is heard. No harm is done by a forged flood but this one.
//! - **Banned.** Wrong passwords, a scanner's name and what is no SIP are offences, and too many of them ban the source
//!   for a time that doubles with each ban.
//! - **Restrained**, in place of banned: an office of many phones shares one address behind its NAT, so a source that
//!   has proved itself (a right password, an answer to a request of this server, a call, a binding) is never banned
//!   whole. It has a much smaller bucket then, and flows that have proved themselves have a bucket of their own.
//!
//! How fast one name's password can be guessed from one source is not decided here but where the account is.
//!
//! A datagram's address can be forged. Therefore only what shows that its sender gets our answers is an offence: what
//! came over a connection, or with a nonce that was sent to this very source. All else costs tokens.
//!
//! Invariants: a source that has proved itself lately is banned by the operator or not at all. Tables are bounded; when
//! one is full, what was touched least lately goes, and of bans those that are forgotten first.

mod bucket;
mod copies;
mod counts;
mod network;
mod recent;
mod report;
mod rules;
#[cfg(test)]
mod scenarios;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use clock::Instant;
use transport::{Flow, ListenerId, RemoteAddr, Transport};

pub use bucket::Rate;
pub use copies::{BanChange, FORMAT as BAN_FORMAT, StoredBan};
pub use counts::BanCounts;
pub use network::SourceNetwork;
pub use report::{Deed, Evidence, Report};
pub use rules::{Admission, Enforcement};

pub(crate) use bucket::Bucket;
pub(crate) use table::Table;

use recent::Recent;

use crate::{Keyring, Settings};

/// Sources and flows that have proved themselves, two for each phone. A stranger can not add to them. About 20 bytes
/// each: as many as there are with two million phones, each at home behind a NAT of its own.
const PROOFS_MAX: usize = 1 << 22;
/// Sources and flows whose rate is counted; about 50 bytes each. A flood with forged addresses can drive others out,
/// which then have their whole rate again.
const BUDGETS_MAX: usize = 1 << 17;
/// Sources with offences; about 60 bytes each. None of them is forged.
const OFFENDERS_MAX: usize = 1 << 16;
/// Sources that are banned or restrained, or were not long ago; about 150 bytes each.
const PENALTIES_MAX: usize = 1 << 16;

/// How long one proof protects a source at least.
const PROOF_LASTS_MIN: Duration = Duration::from_secs(3_600);

/// An empty bucket is full again long before, so a budget that was not touched for so long says nothing.
const BUDGET_LASTS: Duration = Duration::from_secs(60);

/// What a restrained source may ask without proof: enough for a new phone of the office, too little for a guesser.
const RESTRAINED: Rate = Rate { every: Duration::from_secs(1), burst: 5 };

/// Tokens that a scanner or a wrong password costs whose address may be forged: more than a plain request.
const SUSPECT_TOKENS: u32 = 10;

/// An offence in points. A password that is wrong weighs more than one that was not even looked at, because phones
/// repeat by themselves what gets no answer.
const POINTS_PER_FAILURE: u32 = 5;
const POINTS_PER_REPETITION: u32 = 1;

/// A flow is known by its remote side alone.
const ANY_LISTENER: ListenerId = ListenerId(0);

/// What is to be done with what a source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is heard.
    Pass,
    /// Its rate is used up: messages are dropped without an answer until there is more of it.
    Slow,
    /// Nothing of it is heard, and its connections are closed.
    Banned,
}

/// Why a source was banned or restrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Too many wrong passwords.
    WrongCredentials,
    /// A scanner's User-Agent.
    Scanner,
    /// Too much that is no SIP.
    Malformed,
    /// More requests than its rate, all without proof.
    Flood,
    /// The operator wanted it.
    Operator,
}

/// How hard a source is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Nothing of it is heard.
    Banned,
    /// It has proved itself: what has no proof has a very small rate.
    Restrained,
    /// Its rate is used up for the moment.
    Slowed,
}

/// A source that is held, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub source: SourceNetwork,
    /// How hard.
    pub measure: Measure,
    /// Why.
    pub cause: Cause,
    /// How long it still lasts.
    pub left: Duration,
    /// The how many-th one it is; 0 for a source that is only slowed.
    pub number: u32,
}

/// The address can not be banned: the configuration says never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeverBanned;

/// All that is remembered of sources.
#[derive(Debug)]
pub struct Bans {
    settings: Arc<Settings>,
    hasher: RandomState,
    proofs: Recent<()>,
    budgets: Recent<Budget>,
    offenders: Recent<Offences>,
    penalties: BTreeMap<SourceNetwork, Penalty>,
    /// When each penalty is forgotten.
    forgotten: BTreeSet<(Instant, SourceNetwork)>,
    /// Whose penalties have changed since they were told; absent if nobody is told. One for each source that is, or was
    /// a moment ago, among the penalties.
    notes: Option<BTreeSet<SourceNetwork>>,
    counts: BanCounts,
    busy_until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    source: SourceNetwork,
    bucket: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Offences {
    points: u32,
    /// When they begin to count anew.
    window_ends: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    measure: Measure,
    cause: Cause,
    until: Instant,
    number: u32,
    /// Until then the next one is longer.
    forgotten_at: Instant,
}

impl Bans {
    /// Nobody is held.
    pub fn new(settings: Arc<Settings>, keyring: &Keyring) -> Self {
        let key = &keyring.bans;
        Self {
            hasher: recent::hasher(key),
            proofs: Recent::new(key, PROOFS_MAX, proof_lasts(&settings)),
            budgets: Recent::new(key, BUDGETS_MAX, BUDGET_LASTS),
            offenders: Recent::new(key, OFFENDERS_MAX, settings.admission.window),
            penalties: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            notes: None,
            counts: BanCounts::default(),
            busy_until: Instant::START,
            settings,
        }
    }

    /// Takes other settings. Bans that are in force stay, but for sources that are never banned by the new ones.
    pub fn reload(&mut self, now: Instant, settings: Arc<Settings>) {
        self.proofs.reload(now, proof_lasts(&settings));
        self.offenders.reload(now, settings.admission.window);
        self.settings = settings;
    }

    /// Judges what comes by a flow, before it is read.
    pub fn judge(&self, now: Instant, flow: &Flow) -> Judgement {
        let address = flow.remote().0.ip();
        let judgement = self.judge_address(now, address);
        let is_slow = || {
            let budget = self.budgets.of(now, self.party(now, flow));
            budget.is_some_and(|budget| budget.bucket.is_empty(self.rate(now, flow), now))
        };
        if judgement == Judgement::Pass && is_slow() && !self.settings.is_never_held(address) {
            return Judgement::Slow;
        }
        judgement
    }

    /// Whether anything is heard from an address, as far as can be told before anything was sent.
    pub fn judge_address(&self, now: Instant, address: IpAddr) -> Judgement {
        let network = SourceNetwork::of(address);
        match self.penalties.get(&network) {
            Some(penalty) if penalty.bars(now) && !self.settings.is_never_held(address) => {
                let is_spared = penalty.cause != Cause::Operator && self.is_proved(now, network);
                if is_spared { Judgement::Pass } else { Judgement::Banned }
            }
            _ => Judgement::Pass,
        }
    }

    /// Until when [`Bans::judge`] may say anything but pass; before any later report.
    pub fn busy_until(&self) -> Instant {
        self.busy_until
    }

    /// Whether [`Bans::handle_report`] would change anything: most reports are of phones that were seen a moment ago.
    pub fn is_news(&self, now: Instant, report: &Report) -> bool {
        let Report { flow, evidence, deed } = report;
        let is_new_source = || !self.proofs.is_young(now, self.place(network_of(flow)));
        let is_new_flow = || !self.proofs.is_young(now, self.flow_place(flow));
        match deed {
            Deed::InCall => is_new_source(),
            Deed::Answered => is_new_flow() || is_new_source(),
            Deed::Authenticated => {
                let budget = self.budgets.of(now, self.party(now, flow));
                budget.is_some_and(|budget| !budget.bucket.is_full(now))
                    || (*evidence == Evidence::Shown && (is_new_flow() || is_new_source()))
            }
            _ => !self.settings.is_never_held(flow.remote().0.ip()),
        }
    }

    /// Learns what a source did; appends the bans that begin.
    pub fn handle_report(&mut self, now: Instant, report: &Report, out: &mut Vec<Ban>) {
        let Report { flow, evidence, deed } = report;
        // Proofs are kept also of those who are never held: they may be some day, and then they are known.
        match deed {
            Deed::Authenticated => {
                self.give_back(now, flow);
                if *evidence == Evidence::Shown {
                    self.prove_flow(now, flow);
                }
            }
            Deed::Answered => self.prove_flow(now, flow),
            // The token of a call is known to whoever was called, so it says nothing of the flow.
            Deed::InCall => self.prove(now, network_of(flow)),
            _ => {}
        }
        if self.settings.is_never_held(flow.remote().0.ip()) {
            return;
        }
        let points_max = self.points_max();
        let (cause, points) = match deed {
            Deed::Authenticated | Deed::Answered | Deed::InCall => return,
            Deed::Unproven => return self.spend(now, flow, 1),
            Deed::WrongCredentials => (Cause::WrongCredentials, POINTS_PER_FAILURE),
            Deed::Persisted => (Cause::WrongCredentials, POINTS_PER_REPETITION),
            Deed::Scanner => (Cause::Scanner, points_max),
            Deed::Malformed => (Cause::Malformed, POINTS_PER_FAILURE),
            Deed::Flood => (Cause::Flood, POINTS_PER_REPETITION),
        };
        match evidence {
            Evidence::Shown => {
                self.spend(now, flow, 1);
                self.offend(now, network_of(flow), cause, points, out);
            }
            Evidence::Claimed if cause == Cause::Malformed => self.spend(now, flow, 1),
            Evidence::Claimed => self.spend(now, flow, SUSPECT_TOKENS),
        }
    }

    /// Whether a phone has proved lately that it is there: this one, or another one at its address.
    pub(crate) fn is_acquainted(&self, now: Instant, flow: &Flow) -> bool {
        self.is_proved_flow(now, flow) || self.is_proved(now, network_of(flow))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Learns of a binding that was there before the start: whoever has it has proved itself then.
    pub fn handle_binding(&mut self, now: Instant, transport: Transport, remote: RemoteAddr) {
        self.prove(now, SourceNetwork::of(remote.0.ip()));
        // A connection has ended with the process.
        if !transport.is_reliable() {
            self.prove_flow(now, &Flow::Datagram { listener: ANY_LISTENER, remote });
        }
    }

    /// Lets time pass: forgets penalties that are long over.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, network)) = self.forgotten.first().filter(|(at, _)| *at <= now) {
            self.forgotten.remove(&(at, network));
            self.penalties.remove(&network);
            self.note(network);
        }
    }

    /// When [`Bans::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.forgotten.first().map(|&(at, _)| at)
    }

    /// Bans a source for the operator, also one that has proved itself.
    ///
    /// # Errors
    ///
    /// [`NeverBanned`]: a trusted peer, or what the configuration says.
    pub fn ban(&mut self, now: Instant, address: IpAddr, lasts: Duration) -> Result<Ban, NeverBanned> {
        if self.settings.is_never_held(address) {
            return Err(NeverBanned);
        }
        let network = SourceNetwork::of(address);
        Ok(self.hold(now, network, Measure::Banned, Cause::Operator, lasts))
    }

    /// Ends what holds a source, and forgets its offences; tells whether it was held.
    pub fn remove(&mut self, now: Instant, network: SourceNetwork) -> bool {
        let was_held = self.list(now).iter().any(|ban| ban.source == network);
        if let Some(penalty) = self.penalties.remove(&network) {
            self.forgotten.remove(&(penalty.forgotten_at, network));
            self.note(network);
        }
        let place = self.place(network);
        self.offenders.remove(place);
        self.budgets.remove(place);
        was_held
    }

    /// Ends everything that holds anybody; tells how many sources were held.
    pub fn remove_all(&mut self, now: Instant) -> usize {
        let held = self.list(now).len();
        let sources: Vec<SourceNetwork> = self.penalties.keys().copied().collect();
        sources.into_iter().for_each(|source| self.note(source));
        self.penalties.clear();
        self.forgotten.clear();
        self.offenders.clear();
        self.budgets.clear();
        held
    }

    /// Every source that is held, by its address.
    pub fn list(&self, now: Instant) -> Vec<Ban> {
        let held = self.penalties.iter().filter(|(_, penalty)| now < penalty.until);
        let mut bans: Vec<Ban> = held.map(|(network, penalty)| penalty.view(*network, now)).collect();
        let rate = self.settings.admission.unproven;
        let slowed = self.budgets.values().filter(|budget| budget.bucket.is_empty(rate, now));
        bans.extend(slowed.map(|budget| Ban {
            source: budget.source,
            measure: Measure::Slowed,
            cause: Cause::Flood,
            left: budget.bucket.empty_until(rate, now).since(now),
            number: 0,
        }));
        bans.sort_by_key(|ban| (ban.source, ban.measure, ban.left));
        // A source of which several flows are slowed is named once, and one that is held harder by that alone.
        bans.dedup_by_key(|ban| ban.source);
        bans
    }

    /// How many sources are banned or restrained.
    pub fn held(&self, now: Instant) -> usize {
        self.penalties.values().filter(|penalty| now < penalty.until).count()
    }

    /// What has happened.
    pub fn counts(&self) -> &BanCounts {
        &self.counts
    }

    /// Takes tokens of a source.
    fn spend(&mut self, now: Instant, flow: &Flow, tokens: u32) {
        let (party, rate) = (self.party(now, flow), self.rate(now, flow));
        let fresh = || Budget { source: network_of(flow), bucket: Bucket::full(now) };
        let bucket = &mut self.budgets.touch(now, party, fresh).bucket;
        bucket.take(rate, now, tokens);
        if bucket.is_empty(rate, now) {
            self.busy_until = self.busy_until.max(bucket.empty_until(rate, now));
        }
    }

    fn give_back(&mut self, now: Instant, flow: &Flow) {
        let (party, rate) = (self.party(now, flow), self.rate(now, flow));
        if self.budgets.of(now, party).is_some() {
            let fresh = || Budget { source: network_of(flow), bucket: Bucket::full(now) };
            self.budgets.touch(now, party, fresh).bucket.give_back(rate, now);
        }
    }

    fn prove_flow(&mut self, now: Instant, flow: &Flow) {
        let place = self.flow_place(flow);
        self.proofs.touch(now, place, || ());
        self.prove(now, network_of(flow));
    }

    fn prove(&mut self, now: Instant, network: SourceNetwork) {
        let place = self.place(network);
        self.proofs.touch(now, place, || ());
    }

    fn offend(
        &mut self,
        now: Instant,
        network: SourceNetwork,
        cause: Cause,
        points: u32,
        out: &mut Vec<Ban>,
    ) {
        let (window, points_max) = (self.settings.admission.window, self.points_max());
        let place = self.place(network);
        let fresh = || Offences { points: 0, window_ends: now + window };
        let offences = self.offenders.touch(now, place, fresh);
        if now >= offences.window_ends {
            *offences = fresh();
        }
        offences.points = offences.points.saturating_add(points);
        let is_held = self.penalties.get(&network).is_some_and(|penalty| now < penalty.until);
        if offences.points < points_max || is_held {
            return;
        }
        offences.points = 0;
        let measure = if self.is_proved(now, network) { Measure::Restrained } else { Measure::Banned };
        let Admission { ban, ban_max, .. } = self.settings.admission;
        let number = self.penalties.get(&network).map_or(0, |penalty| penalty.number);
        out.push(self.hold(now, network, measure, cause, doubled(ban, number, ban_max)));
    }

    fn hold(
        &mut self,
        now: Instant,
        network: SourceNetwork,
        measure: Measure,
        cause: Cause,
        lasts: Duration,
    ) -> Ban {
        self.handle_timeout(now);
        let number = self.penalties.get(&network).map_or(0, |penalty| penalty.number).saturating_add(1);
        let until = now + lasts;
        // Whoever begins again within the same time is held longer.
        let forgotten_at = until + lasts.max(self.settings.admission.window);
        let penalty = Penalty { measure, cause, until, number, forgotten_at };
        self.put(network, penalty);
        self.note(network);
        self.counts.add(measure, cause);
        penalty.view(network, now)
    }

    fn put(&mut self, network: SourceNetwork, penalty: Penalty) {
        if let Some(before) = self.penalties.remove(&network) {
            self.forgotten.remove(&(before.forgotten_at, network));
        } else if self.penalties.len() >= PENALTIES_MAX
            && let Some((_, first)) = self.forgotten.pop_first()
        {
            self.penalties.remove(&first);
            self.note(first);
        }
        self.penalties.insert(network, penalty);
        self.forgotten.insert((penalty.forgotten_at, network));
        self.busy_until = self.busy_until.max(penalty.until);
    }

    fn note(&mut self, network: SourceNetwork) {
        if let Some(notes) = self.notes.as_mut().filter(|notes| notes.len() < 2 * PENALTIES_MAX) {
            notes.insert(network);
        }
    }

    fn points_max(&self) -> u32 {
        self.settings.admission.failures_max.saturating_mul(POINTS_PER_FAILURE)
    }

    fn rate(&self, now: Instant, flow: &Flow) -> Rate {
        let is_restrained = self.penalties.get(&network_of(flow)).is_some_and(|penalty| now < penalty.until);
        if is_restrained && !self.is_proved_flow(now, flow) {
            RESTRAINED
        } else {
            self.settings.admission.unproven
        }
    }

    /// Whose bucket it is: the flow's own if it has proved itself, else that of its network.
    fn party(&self, now: Instant, flow: &Flow) -> u64 {
        if self.is_proved_flow(now, flow) { self.flow_place(flow) } else { self.place(network_of(flow)) }
    }

    fn is_proved(&self, now: Instant, network: SourceNetwork) -> bool {
        self.proofs.of(now, self.place(network)).is_some()
    }

    fn is_proved_flow(&self, now: Instant, flow: &Flow) -> bool {
        self.proofs.of(now, self.flow_place(flow)).is_some()
    }

    fn place(&self, network: SourceNetwork) -> u64 {
        self.hashed((0u8, network))
    }

    /// The same for every listener: a phone that moves from one to another is the same phone.
    fn flow_place(&self, flow: &Flow) -> u64 {
        let remote = flow.remote().0;
        self.hashed((1u8, flow.is_reliable(), remote.ip().to_canonical(), remote.port()))
    }

    fn hashed(&self, what: impl Hash) -> u64 {
        self.hasher.hash_one(what)
    }
}

impl Penalty {
    fn bars(&self, now: Instant) -> bool {
        self.measure == Measure::Banned && now < self.until
    }

    fn view(&self, source: SourceNetwork, now: Instant) -> Ban {
        let Self { measure, cause, number, .. } = *self;
        Ban { source, measure, cause, left: self.until.since(now), number }
    }
}

impl Cause {
    /// In words, for logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongCredentials => "wrong credentials",
            Self::Scanner => "scanner",
            Self::Malformed => "malformed",
            Self::Flood => "flood",
            Self::Operator => "operator",
        }
    }
}

impl Measure {
    /// In a word, for logs and lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Restrained => "restrained",
            Self::Slowed => "slowed",
        }
    }
}

/// How long a proof protects: as long as a binding may last, and an hour at least.
fn proof_lasts(settings: &Settings) -> Duration {
    PROOF_LASTS_MIN.max(settings.registrar.max_expires)
}

fn network_of(flow: &Flow) -> SourceNetwork {
    SourceNetwork::of(flow.remote().0.ip())
}

/// `first`, doubled `times` times, at most `max`.
pub(crate) fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << times.min(20)).min(max)
}
