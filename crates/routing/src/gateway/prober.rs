//! The machine that watches all gateways.
//!
//! A turn of a gateway: its name is resolved, an OPTIONS goes to one of its servers after the other, and the first
//! answer in time is a success. As long as the next turns decide something they follow at once, so that a gateway
//! of three failures is down some seconds after its death and not three intervals.
//!
//! Invariant: an answer counts only for the probe that is waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use keys::Key;
use lease::{ActiveLease, Entry, Tenure};
use sip::{SipUri, Status};
use transport::selection::{Query, Records, Selection, Server, Step};
use transport::{Destination, Flow, NextHop, Transport};

use super::health::{Failure, Health, Limits, State};
use super::probe::{self, GatewayMark, ProbeMark};
use super::verdict::{Outcome, Verdict, Verdicts};
use crate::dial_plan::Gateway;
use crate::{Keyring, Settings};

/// How long an answer may take. A gateway that needs longer for an OPTIONS is no good for calls either.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a name may take.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two turns that decide something.
const HASTE: Duration = Duration::from_millis(500);

/// What the machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send {
        /// Where.
        to: Destination,
        /// The whole message.
        message: Bytes,
    },
    /// Ask the DNS, and answer by [`Prober::handle_resolved`].
    Resolve {
        /// Goes back with the answer.
        gateway: GatewayMark,
        /// What.
        query: Query,
    },
    /// Give every shard these verdicts.
    Publish(Arc<Verdicts>),
}

/// What a probe brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// This response.
    Status(Status),
    /// This failure.
    Failed(Failure),
}

/// Whether the operator lets a gateway have calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It gets them.
    In,
    /// It gets no new ones; those that it has go on.
    Out,
}

/// No gateway has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownGateway;

/// A gateway as the operator sees it.
#[derive(Clone, Debug)]
pub struct GatewayView {
    /// What it is.
    pub gateway: Arc<Gateway>,
    /// Whether the operator lets it have calls.
    pub service: Service,
    /// Whether it is there.
    pub state: State,
    /// Since when.
    pub since: WallTime,
    /// How long it still is busy by its own word.
    pub busy_for: Option<Duration>,
    /// The last probe that has an end.
    pub last_probe: Option<(WallTime, ProbeAnswer)>,
    /// Requests that were sent to it.
    pub tried: u64,
    /// Those of them that failed because of it.
    pub failed: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Prober {
    settings: Arc<Settings>,
    key: Key,
    watched: BTreeMap<GatewayMark, Watched>,
    published: Arc<Verdicts>,
    tenure: Tenure,
}

#[derive(Debug)]
struct Watched {
    gateway: Arc<Gateway>,
    service: Service,
    health: Health,
    turn: Turn,
    /// Probes sent.
    number: u32,
    last_probe: Option<(WallTime, ProbeAnswer)>,
    tried: u64,
    failed: u64,
}

/// How far a gateway's turn is.
#[derive(Clone, Debug)]
enum Turn {
    /// It is never probed.
    Never,
    /// The next one begins then.
    At(Instant),
    /// Its name is looked up, until then.
    Resolving(Box<Selection>, Instant),
    /// The probe was sent, and is waited for until then. Its name may have other servers.
    Sent(Option<Box<Selection>>, Instant),
}

impl Prober {
    /// Watches all gateways of the settings.
    pub fn new(now: Now, settings: Arc<Settings>, keyring: &Keyring) -> Self {
        let mut prober = Self {
            settings: Arc::clone(&settings),
            key: keyring.keepalive,
            watched: BTreeMap::new(),
            published: Arc::default(),
            tenure: Tenure::default(),
        };
        prober.take_settings(now, settings);
        prober
    }

    /// Takes other settings. A gateway that stays, by its name, keeps what is known of it.
    pub fn reload(&mut self, now: Now, settings: Arc<Settings>, out: &mut Vec<Output>) {
        self.take_settings(now, settings);
        self.publish(now, out);
    }

    fn take_settings(&mut self, now: Now, settings: Arc<Settings>) {
        let mut before = std::mem::take(&mut self.watched);
        for gateway in &settings.dial_plan.gateways {
            let mark = GatewayMark::of(&self.key, &gateway.name);
            let watched = match before.remove(&mark) {
                Some(mut watched) => {
                    let is_elsewhere = watched.gateway.uri != gateway.uri;
                    let is_watched_alike = watched.gateway.watch == gateway.watch;
                    watched.gateway = Arc::clone(gateway);
                    if is_elsewhere {
                        watched.health = Health::new(now);
                    }
                    if is_elsewhere || !is_watched_alike {
                        watched.turn = first_turn(now, gateway);
                    }
                    watched
                }
                None => Watched::new(now, Arc::clone(gateway)),
            };
            self.watched.insert(mark, watched);
        }
        self.settings = settings;
    }

    /// Probes nobody until it is called again: another node may be active. What is thought of the gateways stays.
    pub fn stand_by(&mut self) {
        self.tenure.leave();
    }

    /// A turn that was under way before the node stood by has no answer, and the next one is at once.
    fn enter(&mut self, now: Now, lease: &ActiveLease<'_>) {
        if self.tenure.enter(lease) != Entry::Same {
            for watched in self.watched.values_mut() {
                watched.turn = first_turn(now, &watched.gateway);
            }
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        self.enter(now, lease);
        let (settings, key) = (&self.settings, &self.key);
        for (mark, watched) in &mut self.watched {
            let limits = watched.limits();
            watched.health.tick(now, limits);
            let sight = Sight { now, mark: *mark, settings, key };
            match watched.turn {
                Turn::At(at) if at <= now.instant => watched.begin(sight, out),
                Turn::Resolving(_, until) if until <= now.instant => {
                    watched.end(now, failed(Failure::NoAddress))
                }
                Turn::Sent(_, until) if until <= now.instant => {
                    watched.fail(sight, failed(Failure::Silent), out);
                }
                Turn::Never | Turn::At(_) | Turn::Resolving(..) | Turn::Sent(..) => {}
            }
        }
        self.publish(now, out);
    }

    /// What the DNS said of a gateway's name.
    pub fn handle_resolved(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        gateway: GatewayMark,
        records: Records,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        let (settings, key) = (&self.settings, &self.key);
        if let Some(watched) = self.watched.get_mut(&gateway)
            && let Turn::Resolving(selection, _) = &mut watched.turn
        {
            selection.handle_records(records);
            let selection = selection.clone();
            watched.select(
                Sight { now, mark: gateway, settings, key },
                selection,
                failed(Failure::NoAddress),
                out,
            );
        }
        self.publish(now, out);
    }

    /// A final response to a probe.
    pub fn handle_answered(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        mark: ProbeMark,
        status: Status,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        let (settings, key) = (&self.settings, &self.key);
        if let Some(watched) = self.watched.get_mut(&mark.gateway)
            && let Turn::Sent(..) = watched.turn
            && watched.number == mark.number
        {
            let answer = ProbeAnswer::Status(status);
            match watched.gateway.watch.refusals.contains(&status) {
                true => watched.fail(Sight { now, mark: mark.gateway, settings, key }, answer, out),
                false => watched.end(now, answer),
            }
        }
        self.publish(now, out);
    }

    /// What became of a request to a gateway.
    pub fn handle_outcome(&mut self, now: Now, gateway: &str, outcome: Outcome, out: &mut Vec<Output>) {
        if let Some(watched) = self.watched.get_mut(&GatewayMark::of(&self.key, gateway)) {
            watched.tried += 1;
            let limits = watched.limits();
            match outcome {
                Outcome::Answered => watched.health.call_answered(now),
                Outcome::Failed(failure) => {
                    watched.failed += 1;
                    watched.health.call_failed(now, limits, failure);
                }
                Outcome::Busy(time) => {
                    watched.failed += 1;
                    watched.health.be_busy(now, time);
                }
            }
        }
        self.publish(now, out);
    }

    /// Takes a gateway out of service, or puts it back.
    pub fn set_service(
        &mut self,
        now: Now,
        name: &str,
        service: Service,
        out: &mut Vec<Output>,
    ) -> Result<(), UnknownGateway> {
        let mark = GatewayMark::of(&self.key, name);
        self.watched.get_mut(&mark).ok_or(UnknownGateway)?.service = service;
        self.publish(now, out);
        Ok(())
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.tenure.is_standby() {
            return None;
        }
        self.watched.values().filter_map(Watched::deadline).min()
    }

    /// All gateways, in the order of the configuration.
    pub fn gateways(&self, now: Instant) -> Vec<GatewayView> {
        let marks =
            self.settings.dial_plan.gateways.iter().map(|gateway| GatewayMark::of(&self.key, &gateway.name));
        marks.filter_map(|mark| self.watched.get(&mark)).map(|watched| watched.view(now)).collect()
    }

    fn publish(&mut self, now: Now, out: &mut Vec<Output>) {
        let verdicts: Verdicts = self
            .watched
            .values()
            .map(|watched| (watched.gateway.name.clone(), watched.verdict(now.instant)))
            .collect();
        if let Some(next) = self.published.next(verdicts) {
            self.published = Arc::new(next);
            out.push(Output::Publish(Arc::clone(&self.published)));
        }
    }
}

/// What a turn looks at.
#[derive(Clone, Copy)]
struct Sight<'a> {
    now: Now,
    mark: GatewayMark,
    settings: &'a Settings,
    key: &'a Key,
}

impl Watched {
    fn new(now: Now, gateway: Arc<Gateway>) -> Self {
        Self {
            turn: first_turn(now, &gateway),
            gateway,
            service: Service::In,
            health: Health::new(now),
            number: 0,
            last_probe: None,
            tried: 0,
            failed: 0,
        }
    }

    fn limits(&self) -> Limits {
        let watch = &self.gateway.watch;
        let (failures, successes) = (watch.failures.max(1), watch.successes.max(1));
        Limits { failures, successes, is_probed: watch.interval.is_some() }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        match self.service {
            Service::In => self.health.verdict(now),
            Service::Out => Verdict::Out,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let turn = match &self.turn {
            Turn::Never => None,
            Turn::At(at) | Turn::Resolving(_, at) | Turn::Sent(_, at) => Some(*at),
        };
        [turn, self.health.deadline()].into_iter().flatten().min()
    }

    fn begin(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) {
        let uri = self.gateway.uri.clone();
        let hop = SipUri::parse(&uri).ok().and_then(|uri| transport::next_hop(&uri).ok());
        match hop {
            Some(NextHop::Address { remote, transport }) => {
                self.send(sight, Server { remote, transport }, None, out);
            }
            Some(NextHop::Select(wanted)) => {
                let supported = [Transport::Udp, Transport::Tcp];
                let seed = sight.key.mac(&[b"probe server", self.gateway.name.as_bytes()]).short();
                let selection = Box::new(Selection::new(wanted, supported.into(), seed));
                self.select(sight, selection, failed(Failure::NoAddress), out);
            }
            None => self.end(sight.now, failed(Failure::NoAddress)),
        }
    }

    /// Takes the next step of a name: a question, or a server. Without any the turn ends with `otherwise`.
    fn select(
        &mut self,
        sight: Sight<'_>,
        mut selection: Box<Selection>,
        otherwise: ProbeAnswer,
        out: &mut Vec<Output>,
    ) {
        match selection.step() {
            Step::Ask(query) => {
                out.push(Output::Resolve { gateway: sight.mark, query });
                self.turn = Turn::Resolving(selection, sight.now.instant + RESOLVE_TIME_MAX);
            }
            Step::Try(server) => self.send(sight, server, Some(selection), out),
            Step::Exhausted(_) => self.end(sight.now, otherwise),
        }
    }

    fn send(
        &mut self,
        sight: Sight<'_>,
        Server { remote, transport }: Server,
        selection: Option<Box<Selection>>,
        out: &mut Vec<Output>,
    ) {
        let Sight { now, mark, settings, key } = sight;
        let listeners = &settings.listeners;
        let via = self.gateway.via.and_then(|via| via.find(listeners));
        let listener = listeners.any_for(transport, remote, via).and_then(|id| listeners.get(id));
        self.number = self.number.wrapping_add(1);
        self.turn = Turn::Sent(selection, now.instant + ANSWER_TIME_MAX);
        let Some(listener) = listener.filter(|_| remote.is_host()) else {
            return self.fail(sight, failed(Failure::Unreachable), out);
        };
        let to = match transport {
            Transport::Udp => Destination::Flow(Flow::Datagram { listener: listener.id, remote }),
            Transport::Tcp => Destination::Connect { listener: listener.id, remote },
        };
        let mark = ProbeMark { gateway: mark, number: self.number };
        let message = probe::write(key, &mark, listener, &remote, &self.gateway.uri);
        out.push(Output::Send { to, message });
    }

    /// One server has failed: the next one of its name is asked, or the turn ends.
    // RFC 3263 §4.3: calls try the next server too, so that the gateway is there as long as one of them is.
    fn fail(&mut self, sight: Sight<'_>, answer: ProbeAnswer, out: &mut Vec<Output>) {
        match std::mem::replace(&mut self.turn, Turn::Never) {
            Turn::Sent(Some(selection), _) => self.select(sight, selection, answer, out),
            _ => self.end(sight.now, answer),
        }
    }

    /// Ends a turn, and says when the next one begins.
    fn end(&mut self, now: Now, answer: ProbeAnswer) {
        let (limits, watch) = (self.limits(), &self.gateway.watch);
        let before = self.health.state;
        self.last_probe = Some((now.wall, answer));
        match answer {
            ProbeAnswer::Status(status) if !watch.refusals.contains(&status) => {
                self.health.probe_answered(now, limits);
            }
            ProbeAnswer::Status(status) => {
                self.health.probe_failed(now, limits, Failure::Refused(status));
            }
            ProbeAnswer::Failed(failure) => self.health.probe_failed(now, limits, failure),
        }
        match (before, self.health.state) {
            (State::Up | State::Unknown, State::Down(why)) => {
                tracing::warn!(gateway = %self.gateway.name, ?why, "a gateway is down");
            }
            (State::Down(_), State::Up) => tracing::info!(gateway = %self.gateway.name, "a gateway is up"),
            _ => {}
        }
        self.turn = match watch.interval {
            None => Turn::Never,
            Some(interval) if self.health.is_undecided() => Turn::At(now.instant + interval.min(HASTE)),
            Some(interval) => Turn::At(now.instant + interval),
        };
    }

    fn view(&self, now: Instant) -> GatewayView {
        GatewayView {
            gateway: Arc::clone(&self.gateway),
            service: self.service,
            state: self.health.state,
            since: self.health.since,
            busy_for: self.health.busy_for(now),
            last_probe: self.last_probe,
            tried: self.tried,
            failed: self.failed,
        }
    }
}

fn first_turn(now: Now, gateway: &Gateway) -> Turn {
    gateway.watch.interval.map_or(Turn::Never, |_| Turn::At(now.instant))
}

fn failed(failure: Failure) -> ProbeAnswer {
    ProbeAnswer::Failed(failure)
}
