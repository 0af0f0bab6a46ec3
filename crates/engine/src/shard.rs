//! A call shard: the layers of one message, from the transport to the transaction user and back.
//!
//! A message comes in at the bottom: it is parsed, its top Via is stamped, and its transaction is
//! looked up. What is new goes to the transaction user, whose outputs go down again. The shard does
//! no I/O: all that is to be sent, asked or resolved is appended to the caller's buffer.
//!
//! Invariant: between two inputs no output of a layer waits inside the shard.

use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now};
use lease::{ActiveLease, Entry, Tenure};
use routing::bans::Deed;
use routing::call::Output as UserOutput;
use routing::gateway::{Outcome, ProbeMark, Verdicts};
use routing::overload::Rejection;
use routing::{
    Answer, CarrierNews, Count, Counts, Gateway, KeepaliveMark, Keyring, Question, Readiness, Report,
    Settings, Token, TransactionUser,
};
use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Aor, Malformed, Message, Method, MethodName, Status};
use transaction::{
    Arrival, ClientEvent, ClientKey, Disposition, Output as TransactionOutput, Progress, ResponseDisposition,
    ServerKey, Transactions,
};
use transport::selection::{Query, Records};
use transport::{Destination, Flow, Listeners, Quoted, Source};

use self::calls::Calls;
pub(crate) use self::calls::number_of;
pub use self::calls::{CallBytes, Waits};
use self::media_waits::MediaWaits;
use crate::media_control::{MediaControl, MediaCounts};
use crate::records::RecordNews;
use crate::traffic::Traffic;

mod calls;
mod dialogs;
mod media;
mod media_waits;
mod registrations;

/// What a shard wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message. If it can not be sent and `of` is given, the shard wants to know.
    Send {
        /// Where.
        to: Destination,
        /// The whole message.
        message: Bytes,
        /// The client transaction to be told of a failure.
        of: Option<ClientKey>,
    },
    /// Send a message of a call for which the other node may have to hold the call first: [`copies::post_calls`] says
    /// whether it waits. Only a shard that notes changes wants this.
    ///
    /// [`copies::post_calls`]: crate::copies::post_calls
    SendWhenHeld {
        /// The call.
        call: ServerKey,
        /// Where.
        to: Destination,
        /// The whole message.
        message: Bytes,
        /// The client transaction to be told of a failure.
        of: Option<ClientKey>,
        /// For what.
        waits: Waits,
        /// The request that is settled when it leaves.
        settled: Option<Settled>,
    },
    /// Ask the partition of an address of record.
    Ask {
        /// Whose partition.
        partition_of: Aor,
        /// Goes back with the answer.
        token: Token,
        /// What.
        question: Question,
    },
    /// Ask the store at which servers beside this one a user is registered.
    FindElsewhere {
        /// Goes back with the answer.
        token: Token,
        /// Who.
        aor: Aor,
    },
    /// Ask the DNS.
    Resolve {
        /// Goes back with the answer.
        token: Token,
        /// What.
        query: Query,
    },
    /// Tell every shard, this one too, how an account of ours stands at its carrier.
    Publish(Arc<CarrierNews>),
    /// Tell the mark's partition that its keepalive was answered.
    KeepaliveAnswered(KeepaliveMark),
    /// Tell the bans what a source did.
    Report(Report),
    /// Tell the prober that a probe was answered.
    ProbeAnswered(ProbeMark, Status),
    /// Tell the prober what became of a request to a gateway.
    GatewayOutcome(Arc<Gateway>, Outcome),
    /// Write down what is left of a call that has ended.
    Record(Box<RecordNews>),
    /// A request is settled: note how long that took when what is to be sent has left.
    Settled(Settled),
}

/// A request that was answered, or sent on to where it is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// When it came, and what it is.
    pub arrival: Arrival,
    /// Which of the two it was.
    pub by: Progress,
}

/// What a shard holds and what has happened in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Server transactions alive.
    pub servers: usize,
    /// Client transactions alive.
    pub clients: usize,
    /// Requests that wait for an answer.
    pub suspended: usize,
    /// Requests that are being proxied.
    pub contexts: usize,
    /// Calls, ringing ones included.
    pub calls: usize,
    /// INVITEs under way on the other node, to go on with, of which a node that has become active has some for a moment; on a
    /// standby also calls that were answered there.
    pub inherited: usize,
    /// Requests and answers.
    pub traffic: Traffic,
    /// What has happened to requests.
    pub counts: Counts,
    /// What has happened to transactions.
    pub transactions: transaction::Counters,
    /// What has happened to media.
    pub media: MediaCounts,
}

/// One of an engine's call shards.
#[derive(Debug)]
pub struct Shard {
    keyring: Keyring,
    number: u16,
    /// How many shards there are; none before registrations are to be kept.
    shards: Option<u16>,
    listeners: Arc<Listeners>,
    transactions: Transactions<Destination>,
    user: TransactionUser,
    tenure: Tenure,
    malformed: u64,
    traffic: Traffic,
    media: MediaControl,
    media_waits: MediaWaits,
    stamped: Vec<u8>,
    from_transactions: Vec<TransactionOutput<Destination>>,
    from_user: Vec<UserOutput>,
    /// What it knows of its calls for the other node; nothing without a peer.
    calls: Option<Box<Calls>>,
}

impl Shard {
    /// An empty shard. `boot` differs at each start of the program.
    pub fn new(settings: Arc<Settings>, keyring: Keyring, number: u16, boot: u32) -> Self {
        Self {
            listeners: Arc::clone(&settings.listeners),
            transactions: Transactions::new(settings.timers, transaction::Limits::default()),
            user: TransactionUser::new(settings, keyring.clone(), number, boot),
            media: MediaControl::new(keyring.partition, number),
            media_waits: MediaWaits::default(),
            keyring,
            number,
            shards: None,
            tenure: Tenure::default(),
            malformed: 0,
            traffic: Traffic::default(),
            stamped: Vec::new(),
            from_transactions: Vec::new(),
            from_user: Vec::new(),
            calls: None,
        }
    }
}

impl Shard {
    /// Forgets all that is in hand, without a word: another node may be active. Calls that the other node was told of are
    /// kept as it has them.
    pub fn stand_by(&mut self, now: Now) {
        self.bequeath(now);
        self.transactions.forget_all();
        self.user.stand_by();
        self.media.stand_by();
        self.media_waits.clear();
        self.forget_changes();
        self.tenure.leave();
    }

    /// Sees under which epoch it is called. What was begun under another one is forgotten, but for calls that the other
    /// node was told of: with these it goes on, as with those that it was told of itself.
    fn enter(&mut self, now: Now, lease: &ActiveLease<'_>) {
        match self.tenure.enter(lease) {
            Entry::Same => {}
            Entry::Anew => {
                self.user.took_over(now);
                self.media.take_over(now.instant);
            }
            Entry::Overtaken => {
                self.stand_by(now);
                self.tenure.enter(lease);
                self.user.took_over(now);
                self.media.take_over(now.instant);
            }
        }
    }

    /// As [`Self::enter`], because of a message: a call of the other node that it may be of is gone on with before.
    fn enter_with(&mut self, now: Now, lease: &ActiveLease<'_>, message: &[u8]) {
        self.enter(now, lease);
        if self.has_inherited()
            && let Some(call_id) = sip::find_call_id(message)
        {
            self.take_over_with(now, call_id);
        }
    }

    /// Takes one SIP message: a datagram, or one framed from a stream.
    pub fn handle_message(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        source: Source,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.enter_with(now, lease, bytes);
        let Ok((message, problem)) = Message::parse_lenient(bytes) else {
            self.malformed += 1;
            out.push(Output::Report(Report::of(source.flow, Deed::Malformed)));
            return self.settle(now, lease, out);
        };
        let problem =
            transport::framing_problem(&message, &source, problem).or_else(|| message.validate().err());
        match (message.is_request(), problem) {
            (true, None) => self.take_request(now, lease, source, &message),
            (true, Some(problem)) => {
                self.malformed += 1;
                out.push(Output::Report(Report::of(source.flow, Deed::Malformed)));
                self.user.refuse(
                    now,
                    source,
                    &message,
                    problem.status(),
                    problem.reason(),
                    &mut self.from_user,
                );
            }
            (false, None) => self.take_response(now, lease, source, &message),
            (false, Some(_)) => {
                self.malformed += 1;
                out.push(Output::Report(Report::of(source.flow, Deed::Malformed)));
            }
        }
        self.settle(now, lease, out);
    }

    /// Refuses a request because more comes than can be handled, unless it repeats one that is in hand: what was let in is
    /// not refused any more. Whatever is no good request is taken as ever.
    pub fn turn_away(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        source: Source,
        bytes: &[u8],
        refusal: Rejection,
        out: &mut Vec<Output>,
    ) {
        self.enter_with(now, lease, bytes);
        let good = Message::parse(bytes).ok().filter(|message| {
            let problem = transport::framing_problem(message, &source, None);
            problem.is_none() && message.validate().is_ok()
        });
        let key = good.as_ref().and_then(|message| ServerKey::of(&self.keyring.transaction, message).ok());
        let (Some(message), Some(key)) = (good, key) else {
            return self.handle_message(now, lease, source, bytes, out);
        };
        if self.transactions.server_known(key) {
            return self.handle_message(now, lease, source, bytes, out);
        }
        let request = self.stamp(&message, &source);
        self.user.turn_away(now, source, &request, refusal, &mut self.from_user);
        self.settle(now, lease, out);
    }

    /// Takes one SIP message that came by an address of this node's own, while the node is not active: it is answered
    /// from itself, and nothing is kept of it.
    pub fn handle_as_standby(
        &mut self,
        now: Now,
        source: Source,
        bytes: &[u8],
        readiness: Readiness,
        out: &mut Vec<Output>,
    ) {
        let message = Message::parse(bytes).ok().filter(|message| message.validate().is_ok());
        let Some(message) = message else {
            self.malformed += 1;
            return;
        };
        if !message.is_request() {
            return;
        }
        let request = self.stamp(&message, &source);
        self.user.answer_as_standby(now, source, request, readiness, &mut self.from_user);
        out.extend(self.from_user.drain(..).filter_map(|output| match output {
            UserOutput::SendStateless { to, message } => Some(Output::Send { to, message, of: None }),
            UserOutput::Report(report) => Some(Output::Report(report)),
            _ => None,
        }));
    }

    /// Takes a partition's answer to [`Output::Ask`].
    pub fn handle_answer(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        token: Token,
        answer: Answer,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        self.user.handle_answer(now, lease, token, answer, &mut self.from_user);
        self.settle(now, lease, out);
    }

    /// Takes the answer to [`Output::Resolve`].
    pub fn handle_resolved(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        token: Token,
        records: Records,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        self.user.handle_resolved(now, lease, token, records, &mut self.from_user);
        self.settle(now, lease, out);
    }

    /// Is told that the message of a client transaction could not be sent.
    pub fn handle_send_failed(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        of: ClientKey,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        self.transactions.handle_send_failed(now.instant, of, &mut self.from_transactions);
        self.settle(now, lease, out);
    }

    /// Is told that the network or a host has refused a datagram, of which it quotes the beginning. Whoever says so may
    /// lie; it counts for a request that is waiting for an answer and went by this very flow.
    pub fn handle_refused(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        flow: Flow,
        quote: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        let quoted = Quoted::read(quote);
        let key = quoted.map(|quoted| ClientKey::of(&self.keyring.transaction, quoted.branch, quoted.method));
        let is_of_flow =
            |key: &ClientKey| self.transactions.client_destination(*key) == Some(&Destination::Flow(flow));
        if let Some(key) = key.filter(is_of_flow) {
            self.transactions.handle_send_failed(now.instant, key, &mut self.from_transactions);
        }
        self.settle(now, lease, out);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        self.enter(now, lease);
        self.take_over_some(now);
        self.transactions.handle_timeout(now.instant, &mut self.from_transactions);
        self.user.handle_timeout(now, lease, &mut self.from_user);
        self.media.handle_timeout(now.instant);
        self.give_up_relay_questions(now, lease, out);
        self.settle(now, lease, out);
    }

    /// Whether a request waits for an answer of a partition, the store, the DNS or an rtpengine.
    pub fn has_suspended(&self) -> bool {
        self.user.suspended() > 0 || self.media_waits.count() > 0
    }

    /// Learns how an account of ours stands at its carrier.
    pub fn handle_news(&mut self, news: Arc<CarrierNews>) {
        self.user.handle_news(news);
    }

    /// Learns what the prober thinks of the gateways.
    pub fn handle_verdicts(&mut self, verdicts: Arc<Verdicts>) {
        self.user.handle_verdicts(verdicts);
    }

    /// When [`Shard::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.tenure.is_standby() {
            return None;
        }
        if self.has_inherited() {
            return Some(Instant::START);
        }
        let timeouts = [
            self.transactions.poll_timeout(),
            self.user.poll_timeout(),
            self.media.poll_timeout(),
            self.media_waits.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Takes other settings; what has begun ends with the ones it began with.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        self.transactions.reload(settings.timers);
        self.listeners = Arc::clone(&settings.listeners);
        self.user.reload(settings);
        self.assign_registrations();
    }

    /// What the shard holds and what has happened.
    pub fn counts(&self) -> ShardCounts {
        let (servers, clients) = self.transactions.counts();
        let mut counts = self.user.counts().clone();
        counts.add_many(Count::Malformed, self.malformed);
        // On a standby they are the other node's.
        let (calls, inherited) = match (self.tenure.is_standby(), self.user.calls()) {
            (true, answered) => (0, answered),
            (false, calls) => (calls, 0),
        };
        ShardCounts {
            servers,
            clients,
            suspended: self.user.suspended() + self.media_waits.count(),
            contexts: self.user.contexts(),
            calls,
            inherited: self.inherited() + inherited,
            traffic: self.traffic.clone(),
            counts,
            transactions: *self.transactions.counters(),
            media: self.media.counts(),
        }
    }

    fn take_request(&mut self, now: Now, lease: &ActiveLease<'_>, source: Source, message: &Message<'_>) {
        let (Some(method), Ok(key)) = (message.method(), ServerKey::of(&self.keyring.transaction, message))
        else {
            self.malformed += 1;
            return;
        };
        match self.transactions.handle_request(now.instant, key, method, &mut self.from_transactions) {
            Disposition::Absorbed => self.repeats(key),
            Disposition::AckFor2xx => {
                self.traffic.came(MethodName::Ack);
                let ack = self.stamp(message, &source);
                self.user.handle_ack(now, lease, source, ack, &mut self.from_user);
            }
            Disposition::New => self.begin(now, lease, source, message, method, key),
        }
    }

    fn begin(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        source: Source,
        message: &Message<'_>,
        method: Method<'_>,
        key: ServerKey,
    ) {
        self.traffic.came(MethodName::from(method));
        let request = self.stamp(message, &source);
        let to = match message.top_via() {
            Ok(via) if request.len() <= MESSAGE_BYTES_MAX => {
                Ok(transport::response_destination(&via, &source))
            }
            // With what the stamp adds it is larger than a message may be.
            Ok(_) => Err(Malformed::TooLarge),
            Err(problem) => Err(problem),
        };
        let to = match to {
            Ok(to) => to,
            Err(problem) => {
                self.malformed += 1;
                let (status, reason) = (problem.status(), problem.reason());
                return self.user.refuse(now, source, message, status, reason, &mut self.from_user);
            }
        };
        if self.transactions.begin_server(now.instant, key, method, to, source.flow.is_reliable()).is_err() {
            self.user.refuse(
                now,
                source,
                message,
                Status::SERVICE_UNAVAILABLE,
                "Too Many Transactions",
                &mut self.from_user,
            );
            return;
        }
        match method {
            Method::Cancel => match ServerKey::of_cancelled(&self.keyring.transaction, message) {
                Ok(invite) => {
                    self.cancels(key, invite);
                    self.user.handle_cancel(now, lease, key, invite, source, request, &mut self.from_user)
                }
                Err(_) => {
                    self.malformed += 1;
                    self.transactions.end_server(key);
                }
            },
            _ => self.user.handle_request(now, lease, key, source, request, &mut self.from_user),
        }
    }

    fn take_response(&mut self, now: Now, lease: &ActiveLease<'_>, source: Source, response: &Message<'_>) {
        let Ok(key) = ClientKey::of_response(&self.keyring.transaction, response) else {
            self.malformed += 1;
            return;
        };
        match self.transactions.handle_response(now.instant, key, response, &mut self.from_transactions) {
            ResponseDisposition::Absorbed => self.acknowledges(key, Waits::BehindOthers),
            ResponseDisposition::Deliver => {
                self.acknowledges(key, Waits::UntilHeld);
                self.user.handle_response(now, lease, key, source, response, &mut self.from_user);
            }
            ResponseDisposition::Unknown => {
                self.user.handle_stray_response(now, source, response, &mut self.from_user);
            }
        }
    }

    fn stamp(&mut self, message: &Message<'_>, source: &Source) -> Bytes {
        self.stamped.clear();
        transport::stamp(message, source, &mut self.stamped);
        Bytes::copy_from_slice(&self.stamped)
    }

    /// Carries outputs between the layers until none is left.
    fn settle(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        loop {
            self.rise(now, lease, out);
            if self.from_user.is_empty() {
                return self.give_records(now, out);
            }
            let mut outputs = std::mem::take(&mut self.from_user);
            for output in outputs.drain(..) {
                self.sink(now, lease, output, out);
                self.rise(now, lease, out);
            }
            // The user may have answered an event meanwhile: its outputs come after these.
            outputs.append(&mut self.from_user);
            self.from_user = outputs;
        }
    }

    /// Counts a final response. Whoever only now gets what it asked for is settled.
    fn answered(&mut self, key: ServerKey, status: Status) -> Option<Settled> {
        if !status.is_final() {
            return None;
        }
        let (arrival, before) = self.transactions.advance_server(key, Progress::Answered)?;
        self.traffic.answered(arrival.method, status);
        (before == Progress::Arrived).then_some(Settled { arrival, by: Progress::Answered })
    }

    /// From the transactions: messages to the wire, events to the user.
    fn rise(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        let mut speaker = self.take_speaker();
        let mut outputs = std::mem::take(&mut self.from_transactions);
        for output in outputs.drain(..) {
            match output {
                TransactionOutput::Send { to, message, of } => {
                    out.push(Output::of_transaction(speaker.as_mut(), to, message, of));
                }
                TransactionOutput::Client(key, event) => {
                    if event == ClientEvent::Terminated {
                        self.media.handle_branch_ended(now.instant, key);
                    }
                    self.user.handle_client_event(now, lease, key, event, &mut self.from_user);
                }
                TransactionOutput::Server(key, event) => {
                    self.user.handle_server_event(now, key, event, &mut self.from_user);
                }
            }
        }
        self.from_transactions = outputs;
        // Its transaction was gone.
        out.extend(speaker.and_then(|speaker| speaker.settled).map(Output::Settled));
    }

    /// From the user: down to the transactions, or out.
    fn sink(&mut self, now: Now, lease: &ActiveLease<'_>, output: UserOutput, out: &mut Vec<Output>) {
        match output {
            UserOutput::Respond { key, status, message } => {
                let settled = self.answered(key, status);
                out.extend(self.answers(key, status, settled).map(Output::Settled));
                if self
                    .transactions
                    .respond(now.instant, key, status, message, &mut self.from_transactions)
                    .is_err()
                {
                    tracing::debug!(status = status.0, "a response found its transaction gone");
                }
            }
            UserOutput::RespondStateless { key, status, message } => {
                out.extend(self.answered(key, status).map(Output::Settled));
                if let Some(to) = self.transactions.end_server(key) {
                    out.push(Output::Send { to, message, of: None });
                }
            }
            UserOutput::Drop { key } => {
                self.transactions.end_server(key);
            }
            UserOutput::Forward { key, kind, of, to, request } => {
                let forwarded =
                    of.and_then(|request| self.transactions.advance_server(request, Progress::Forwarded));
                out.extend(
                    forwarded
                        .map(|(arrival, _)| Output::Settled(Settled { arrival, by: Progress::Forwarded })),
                );
                let reliable = to.is_reliable();
                let begun = self.transactions.begin_client(
                    now.instant,
                    key,
                    kind,
                    request,
                    to,
                    reliable,
                    &mut self.from_transactions,
                );
                if begun.is_err() {
                    self.from_transactions.push(TransactionOutput::Client(key, ClientEvent::Unreachable));
                }
            }
            UserOutput::SendStateless { to, message } => out.push(Output::Send { to, message, of: None }),
            UserOutput::Abandon { key } => {
                self.transactions.abandon_client(key);
                self.media_waits.abandon(key);
                self.media.handle_branch_ended(now.instant, key);
            }
            UserOutput::Withdraw { key } => self.withdraw(now, lease, key),
            UserOutput::Relayed { ask, message } => self.sink_relayed(now, lease, &ask, *message, out),
            UserOutput::MediaOver(end) => self.media.handle_end(now.instant, end),
            UserOutput::Ask { partition_of, token, question } => {
                out.push(Output::Ask { partition_of, token, question });
            }
            UserOutput::FindElsewhere { token, aor } => out.push(Output::FindElsewhere { token, aor }),
            UserOutput::Resolve { token, query } => out.push(Output::Resolve { token, query }),
            UserOutput::Publish(news) => out.push(Output::Publish(news)),
            UserOutput::KeepaliveAnswered(mark) => out.push(Output::KeepaliveAnswered(mark)),
            UserOutput::Report(report) => out.push(Output::Report(report)),
            UserOutput::ProbeAnswered(mark, status) => out.push(Output::ProbeAnswered(mark, status)),
            UserOutput::Record(call, record) => self.media.note_ended(call, record),
            UserOutput::GatewayOutcome(gateway, outcome) => {
                out.push(Output::GatewayOutcome(gateway, outcome))
            }
        }
    }
}
