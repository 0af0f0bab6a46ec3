//! The machine: it takes the inputs and gives each to the stage that it belongs to.

use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use clock::{Deadlines, Instant, Now};
use hashbrown::HashMap;
use lease::ActiveLease;
use sip::{Message, Method, Name, Status};
use transaction::{ClientEvent, ClientKey, Kind, ServerEvent, ServerKey};
use transport::selection::{Avoided, Records};
use transport::{Destination, Source};

use super::admission::{self, Proof};
use super::inbound::{Inbound, Turn};
use super::live_calls::{Errands, Failed, LiveCalls, is_for_an_end};
use super::reply::Reply;
use super::response_context::ResponseContext;
use super::stored::Changes;
use super::suspended::{Stage, WAIT_MAX, Waiting, fixed_hasher};
use super::trunks::Trunks;
use super::validation::{self, Refused};
use super::{Output, elsewhere, route};
use crate::bans::{Deed, Evidence};
use crate::gateway::{ProbeMark, Verdicts};
use crate::{
    Answer, Authenticated, CallName, CarrierNews, Count, Counts, KeepaliveMark, Keyring, Located, Report,
    Settings, Token,
};

/// Requests that are proxied at a time by one shard. Each lives for half a minute after its end, so these
/// many are reached by 6,000 requests each second; with 3 KB each they take 600 MB.
const CONTEXTS_MAX: usize = 200_000;

/// The transaction user of one call shard.
#[derive(Debug)]
pub struct TransactionUser {
    pub(super) settings: Arc<Settings>,
    pub(super) keyring: Keyring,
    pub(super) waiting: Waiting,
    pub(super) contexts: HashMap<ServerKey, ResponseContext, RandomState>,
    /// Which branch of which context a client transaction is.
    pub(super) by_client: HashMap<ClientKey, (ServerKey, usize), RandomState>,
    pub(super) deadlines: Deadlines<Reminder>,
    /// Servers of foreign domains that failed lately.
    pub(super) avoided: Avoided,
    pub(super) counts: Counts,
    pub(super) live: LiveCalls,
    /// Whether somebody writes down what is left of calls.
    pub(super) keeps_records: bool,
    pub(super) errands: Errands,
    pub(super) trunks: Trunks,
    /// What is thought of the gateways.
    pub(super) verdicts: Arc<Verdicts>,
    /// The calls that another node has to be told of.
    pub(super) changes: Changes,
    /// The same for those that were answered.
    pub(super) dialog_changes: Changes<CallName>,
    /// Until when responses to what another node has sent are sent on.
    pub(super) orphans_until: Option<Instant>,
    place: Place,
    salts: u64,
}

/// What a deadline is to remind of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reminder {
    /// A request that waits for an answer.
    Waiting(Token),
    /// A branch.
    Branch(ServerKey, usize),
}

/// Which shard of which start this is: it keeps what is counted apart from that of all others.
#[derive(Clone, Copy, Debug)]
struct Place {
    shard: u16,
    boot: u32,
}

impl TransactionUser {
    /// An empty one. `boot` differs at each start of the program, `shard` in each shard of it.
    pub fn new(settings: Arc<Settings>, keyring: Keyring, shard: u16, boot: u32) -> Self {
        Self {
            settings,
            waiting: Waiting::new(shard, boot),
            contexts: HashMap::with_hasher(fixed_hasher()),
            by_client: HashMap::with_hasher(fixed_hasher()),
            deadlines: Deadlines::default(),
            avoided: Avoided::default(),
            counts: Counts::default(),
            live: LiveCalls::new(),
            keeps_records: false,
            errands: Errands::default(),
            trunks: Trunks::new(keyring.trunk, shard, boot),
            keyring,
            verdicts: Arc::default(),
            changes: Changes::default(),
            dialog_changes: Changes::default(),
            orphans_until: None,
            place: Place { shard, boot },
            salts: 0,
        }
    }

    /// Takes other settings; what has begun ends with those it began with.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.trunks.reload(&self.settings, &settings);
        self.settings = settings;
    }

    /// Takes the prober's verdicts over the gateways.
    pub fn handle_verdicts(&mut self, verdicts: Arc<Verdicts>) {
        if verdicts.is_newer_than(&self.verdicts) {
            self.verdicts = verdicts;
        }
    }

    /// A request whose server transaction has just begun. It was validated, and its top Via is stamped.
    pub fn handle_request(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        key: ServerKey,
        source: Source,
        request: Bytes,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(&request) else {
            self.counts.add(Count::Malformed);
            out.push(Output::Drop { key });
            return;
        };
        if let Some(evidence) = self.scanner(now, &source, &message) {
            self.counts.add(Count::Scanner);
            out.push(Output::Report(Report { flow: source.flow, evidence, deed: Deed::Scanner }));
            out.push(Output::Drop { key });
            return;
        }
        let turn = Turn { now, key, request: &message, flow: source.flow };
        match self.inbound(source, &request, &message) {
            Ok(inbound) => self.receive(turn, inbound, out),
            Err(refused) => {
                if let Some(count) = refused.count {
                    self.counts.add(count);
                }
                self.refuse_stateless(turn, &refused.reply, out);
            }
        }
    }

    /// An ACK that belongs to no transaction: to a 2xx, or to one of our own refusals.
    pub fn handle_ack(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        source: Source,
        ack: Bytes,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(&ack) else {
            self.counts.add(Count::Malformed);
            return;
        };
        self.receive_ack(now, source, &ack, &message, out);
    }

    /// A CANCEL, whose own server transaction `key` has begun, for the INVITE of `invite`.
    #[expect(clippy::too_many_arguments, reason = "they are one request and its way")]
    pub fn handle_cancel(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        key: ServerKey,
        invite: ServerKey,
        source: Source,
        cancel: Bytes,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(&cancel) else {
            self.counts.add(Count::Malformed);
            out.push(Output::Drop { key });
            return;
        };
        self.receive_cancel(Turn { now, key, request: &message, flow: source.flow }, invite, out);
    }

    /// A request that can be answered, but not understood: it has no transaction.
    pub fn refuse(
        &mut self,
        _now: Now,
        source: Source,
        request: &Message<'_>,
        status: Status,
        reason: &'static str,
        out: &mut Vec<Output>,
    ) {
        // RFC 3261 §17.1.1.3: an ACK has no response.
        if matches!(request.method(), None | Some(Method::Ack)) {
            return;
        }
        let to = match request.top_via() {
            Ok(via) => transport::response_destination(&via, &source),
            // RFC 4475 §3.1.2.1: a Via that can not be read gets a 400 all the same, where the request came from.
            Err(_) if request.count(Name::Via) > 0 => Destination::Flow(source.flow),
            Err(_) => return,
        };
        if status == Status::SERVICE_UNAVAILABLE {
            self.counts.add(Count::Full);
        }
        let reply = match status {
            Status::SERVICE_UNAVAILABLE => Reply::later(status),
            _ => Reply::new(status),
        };
        let message = reply.because(reason).write(request, &self.keyring, &self.settings);
        out.push(Output::SendStateless { to, message });
    }

    /// A response that a client transaction passed up.
    pub fn handle_response(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        key: ClientKey,
        source: Source,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        if response.status().is_some_and(Status::is_final) {
            out.push(Output::Report(Report::shown(source.flow, Deed::Answered)));
        }
        self.receive_response(now, key, source, response, out);
    }

    /// A response that belongs to no client transaction: the answer to a keepalive, or a stray.
    pub fn handle_stray_response(
        &mut self,
        now: Now,
        source: Source,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let via = response.top_via();
        let mark = via
            .as_ref()
            .ok()
            .and_then(|via| KeepaliveMark::read_branch(&self.keyring.keepalive, via.branch()?, &source.flow));
        let probe = || {
            let branch = via.as_ref().ok()?.branch()?;
            ProbeMark::read_branch(&self.keyring.keepalive, branch, &source.flow.remote())
        };
        let status = response.status().filter(|status| !status.is_provisional());
        match mark {
            Some(mark) => {
                out.push(Output::Report(Report::shown(source.flow, Deed::Answered)));
                out.push(Output::KeepaliveAnswered(mark));
            }
            None if let (Some(mark), Some(status)) = (probe(), status) => {
                out.push(Output::Report(Report::shown(source.flow, Deed::Answered)));
                out.push(Output::ProbeAnswered(mark, status));
            }
            None if self.forward_orphan(now, source, response, out) => {}
            // RFC 6026 §7.3: a response without a transaction is not forwarded.
            None => {
                self.counts.add(Count::StrayResponse);
                out.push(Output::Report(Report::of(source.flow, Deed::Unproven)));
            }
        }
    }

    /// Something happened to a client transaction.
    pub fn handle_client_event(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        key: ClientKey,
        event: ClientEvent,
        out: &mut Vec<Output>,
    ) {
        match event {
            ClientEvent::TimedOut => self.branch_failed(now, key, Status::REQUEST_TIMEOUT, out),
            ClientEvent::Unreachable => self.branch_unreachable(now, key, out),
            ClientEvent::Terminated => {
                if let Some((server, _)) = self.by_client.remove(&key) {
                    self.note_context(server);
                }
            }
        }
    }

    /// Something happened to a server transaction.
    pub fn handle_server_event(
        &mut self,
        now: Now,
        key: ServerKey,
        event: ServerEvent,
        out: &mut Vec<Output>,
    ) {
        match event {
            ServerEvent::AckMissing => {}
            ServerEvent::Terminated => {
                if let Some(stage) = self.waiting.cancel(key) {
                    self.note_stage(&stage);
                }
                self.end_context(key, out);
                self.invite_ended(now, key, || Failed::here(Status::REQUEST_TIMEOUT, None), out);
            }
        }
    }

    /// The answer to an [`Output::Ask`].
    pub fn handle_answer(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        token: Token,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        match self.waiting.resume(token) {
            Some(stage) => {
                self.note_stage(&stage);
                self.resume(now, stage, answer, out);
            }
            None => {
                self.counts.add(Count::UnknownToken);
                match answer {
                    Answer::Authenticated(Authenticated::Counted { account, call, .. }) => {
                        self.call_never_began(now, account, call, out);
                    }
                    Answer::AtGateway(gateway, call) => self.tell_left(now, gateway, call, out),
                    _ => {}
                }
            }
        }
    }

    /// The answer to an [`Output::Resolve`].
    pub fn handle_resolved(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        token: Token,
        records: Records,
        out: &mut Vec<Output>,
    ) {
        match self.waiting.resume(token) {
            Some(Stage::Branch(key, index)) => self.branch_resolved(now, key, index, records, out),
            Some(Stage::AckResolve(inbound, mut aim)) => {
                let bytes = inbound.bytes.clone();
                if let Ok(ack) = Message::parse(&bytes) {
                    aim.handle_records(now.instant, records);
                    self.send_ack(now, &ack, *inbound, *aim, out);
                }
            }
            Some(stage) => {
                self.counts.add(Count::UnknownToken);
                self.give_up(now, stage, out);
            }
            None => self.counts.add(Count::UnknownToken),
        }
    }

    /// Learns how an account of ours stands at its carrier.
    pub fn handle_news(&mut self, news: Arc<CarrierNews>) {
        self.trunks.learn(news);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now, _lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        while let Some((at, reminder)) = self.deadlines.pop_due(now.instant) {
            match reminder {
                Reminder::Waiting(token) => {
                    if let Some(stage) = self.waiting.expire(token, now.instant) {
                        self.note_stage(&stage);
                        self.counts.add(Count::SuspendedTooLong);
                        self.give_up(now, stage, out);
                    }
                }
                Reminder::Branch(key, index) => self.branch_due(now, key, index, at, out),
            }
        }
        self.register_due(now, out);
        self.end_overdue_calls(now, out);
        self.tell_inherited(now, out);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.deadlines.next(), self.trunks.registrants.poll_timeout(), self.live.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What has happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many requests wait for an answer.
    pub fn suspended(&self) -> usize {
        self.waiting.len()
    }

    /// How many calls there are, ringing ones included.
    pub fn calls(&self) -> usize {
        self.live.len()
    }

    /// How many requests are being proxied.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// Reads and checks what every request needs.
    pub(super) fn inbound(
        &self,
        source: Source,
        bytes: &Bytes,
        message: &Message<'_>,
    ) -> Result<Inbound, Refused> {
        let settings = Arc::clone(&self.settings);
        let checked = validation::check(&settings, &self.keyring, message)?;
        let routed = route::read(&settings, &self.keyring, bytes, message);
        let kind = Kind::of(message.method().unwrap_or(Method::Other(b"")));
        Ok(Inbound {
            bytes: bytes.clone(),
            kind,
            source,
            settings,
            checked,
            routed,
            sender: None,
            diversions: Vec::new(),
            diversions_before: message.values(Name::Diversion).count(),
            relay: None,
        })
    }

    /// Puts a request aside. The caller has asked for room.
    pub(super) fn suspend(&mut self, now: Now, stage: Stage) -> Token {
        self.suspend_for(now, stage, WAIT_MAX)
    }

    /// As [`Self::suspend`], with less time.
    pub(super) fn suspend_for(&mut self, now: Now, stage: Stage, time: Duration) -> Token {
        let deadline = now.instant + time;
        self.note_stage(&stage);
        let token = self.waiting.suspend(deadline, stage);
        self.deadlines.push(deadline, Reminder::Waiting(token));
        token
    }

    /// Answers a request of which nothing is kept.
    pub(super) fn refuse_stateless(&self, turn: Turn<'_, '_>, reply: &Reply, out: &mut Vec<Output>) {
        let Turn { key, request, flow, .. } = turn;
        tracing::debug!(call_id = %Inbound::call_id(request), status = reply.status.0, "refused");
        let message = reply.write(request, &self.keyring, &self.settings);
        // A trouble of our own is not laid to the sender.
        if reply.status < Status::SERVER_INTERNAL_ERROR {
            out.push(Output::Report(Report::of(flow, Deed::Unproven)));
        }
        out.push(Output::RespondStateless { key, status: reply.status, message });
    }

    /// Answers a request: without state until it is admitted.
    pub(super) fn answer(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: &Inbound,
        reply: &Reply,
        out: &mut Vec<Output>,
    ) {
        match inbound.sender {
            Some(_) => self.respond(turn, inbound, reply, out),
            None => self.refuse_stateless(turn, reply, out),
        }
    }

    /// Answers a request by its transaction.
    pub(super) fn respond(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: &Inbound,
        reply: &Reply,
        out: &mut Vec<Output>,
    ) {
        let Turn { key, request, .. } = turn;
        if is_for_an_end(inbound) {
            return self.errand_failed(turn.now, key, reply, out);
        }
        tracing::debug!(call_id = %Inbound::call_id(request), status = reply.status.0, "answered");
        let message = reply.write(request, &self.keyring, &inbound.settings);
        out.push(Output::Respond { key, status: reply.status, message });
        if !reply.status.is_provisional() {
            let failed = || Failed::here(reply.status, reply.reason.map(str::to_owned));
            self.invite_ended(turn.now, key, failed, out);
        }
    }

    /// Whether one more request can be proxied.
    pub(super) fn has_room_for_context(&self) -> bool {
        self.contexts.len() < CONTEXTS_MAX
    }

    /// A number for a nonce that hardly any other nonce has.
    pub(super) fn next_salt(&mut self) -> u32 {
        self.salts += 1;
        let Place { shard, boot } = self.place;
        let salt = self.keyring.nonce.mac(&[
            b"salt",
            &boot.to_be_bytes(),
            &shard.to_be_bytes(),
            &self.salts.to_be_bytes(),
        ]);
        // Two nonces of one millisecond may be equal once in four thousand million: then one is found to be used.
        salt.short() as u32
    }

    /// What shows that the scanner whose request this is is there; `None` for whoever is no scanner.
    pub(super) fn scanner(&self, now: Now, source: &Source, request: &Message<'_>) -> Option<Evidence> {
        let agent = request.header(Name::UserAgent)?;
        if !self.settings.admission.is_scanner(agent)
            || self.settings.is_never_held(source.flow.remote().0.ip())
        {
            return None;
        }
        let realm = admission::realm(&self.settings, source, request);
        let proof = admission::proof(&self.settings, &self.keyring, now.wall, source, request, &realm, None);
        Some(match proof {
            Proof::Offered(question) => question.evidence,
            Proof::None | Proof::Stale => Evidence::of(&source.flow),
        })
    }

    /// Takes a request up again.
    fn resume(&mut self, now: Now, stage: Stage, answer: Answer, out: &mut Vec<Output>) {
        if let (
            Stage::Noted,
            Answer::Registered(_) | Answer::Noted | Answer::AtGateway(..) | Answer::GatewayFull,
        ) = (&stage, &answer)
        {
            return;
        }
        let (stage, answer) = match (stage, answer) {
            (Stage::Diversion(key, sought), Answer::Located(found)) => {
                return self.diversion_located(now, key, sought.look, found, out);
            }
            (Stage::Gateway(key, index), answer @ (Answer::AtGateway(..) | Answer::GatewayFull)) => {
                return self.place_answered(now, key, index, Some(answer), out);
            }
            (Stage::Return(key, index, absent, until), Answer::Located(found)) => {
                return self.branch_returned(now, key, index, (absent, until), &targets(found), out);
            }
            other => other,
        };
        let bytes = stage.bytes().unwrap_or_default();
        let Ok(request) = Message::parse(&bytes) else { return self.give_up(now, stage, out) };
        let turn = |key, inbound: &Inbound| Turn { now, key, request: &request, flow: inbound.source.flow };
        match (stage, answer) {
            (Stage::Authenticate(key, inbound, account), Answer::Authenticated(verdict)) => {
                self.authenticated(turn(key, &inbound), *inbound, account, verdict, out);
            }
            (Stage::Register(key, inbound), Answer::Registered(verdict)) => {
                self.registered(turn(key, &inbound), &inbound, verdict, out);
            }
            (Stage::Locate(key, inbound, sought), Answer::Located(found))
                if elsewhere::is_sought(self, &inbound, &request, &found) =>
            {
                self.ask_elsewhere(turn(key, &inbound), *inbound, sought, found, out);
            }
            (Stage::Elsewhere(key, inbound, sought, otherwise), Answer::Elsewhere(servers)) => {
                self.found_elsewhere(turn(key, &inbound), *inbound, sought, servers, *otherwise, out);
            }
            (Stage::Locate(key, inbound, sought), Answer::Located(found)) => {
                self.located(turn(key, &inbound), *inbound, sought.look, found, out);
            }
            (Stage::Side(key, inbound), Answer::Located(found)) => {
                self.side_found(turn(key, &inbound), *inbound, &targets(found), out);
            }
            (Stage::AckSide(inbound), Answer::Located(found)) => {
                self.ack_side_found(now, &request, *inbound, &targets(found), out);
            }
            (Stage::AckLocate(inbound, look), Answer::Located(found)) => {
                self.ack_located(now, &request, *inbound, look, found, out);
            }
            // An answer to something else than was asked.
            (stage, _) => {
                self.counts.add(Count::UnknownToken);
                self.give_up(now, stage, out);
            }
        }
    }

    /// What becomes of a request whose answer does not come.
    fn give_up(&mut self, now: Now, stage: Stage, out: &mut Vec<Output>) {
        let bytes = stage.bytes().unwrap_or_default();
        let request = Message::parse(&bytes);
        let later = Reply::later(Status::SERVER_INTERNAL_ERROR);
        let turn = |key, request, inbound: &Inbound| Turn { now, key, request, flow: inbound.source.flow };
        match (stage, &request) {
            (
                Stage::Authenticate(key, inbound, _)
                | Stage::Register(key, inbound)
                | Stage::Locate(key, inbound, _),
                Ok(request),
            ) => self.answer(turn(key, request, &inbound), &inbound, &later, out),
            // Whoever can not be looked for counts as not registered.
            (Stage::Elsewhere(key, inbound, sought, otherwise), Ok(request)) => {
                let turn = turn(key, request, &inbound);
                self.located(turn, *inbound, sought.look, *otherwise, out);
            }
            // What the token says is still the best that is known.
            (Stage::Side(key, inbound), Ok(request)) => {
                self.side_found(turn(key, request, &inbound), *inbound, &[], out);
            }
            (Stage::AckSide(inbound), Ok(request)) => self.ack_side_found(now, request, *inbound, &[], out),
            (Stage::Branch(key, index), _) => self.branch_resolved(now, key, index, Records::Failed, out),
            (Stage::Return(key, index, absent, until), _) => {
                self.branch_returned(now, key, index, (absent, until), &[], out);
            }
            (Stage::Gateway(key, index), _) => self.place_answered(now, key, index, None, out),
            (Stage::Diversion(key, sought), _) => {
                self.diversion_located(now, key, sought.look, Located::Unavailable, out);
            }
            (Stage::AckLocate(..) | Stage::AckResolve(..) | Stage::Noted, _) | (_, Err(_)) => {}
        }
    }
}

fn targets(located: Located) -> Vec<crate::Target> {
    match located {
        Located::Targets(targets) | Located::Ruled(targets, _) => targets,
        Located::Alias(_) | Located::UnknownAor | Located::Unavailable => Vec::new(),
    }
}
