//! Messages that wait for what an rtpengine says about their media.
//!
//! A session's messages stay in their order: what comes behind one that waits waits too. An answer comes within the time of
//! two rtpengines ([`media::ng`]); if none does, because it was lost together with the lease, the wait ends as if none had
//! answered. A request that is not wanted any more does not leave.
//!
//! Invariant: no session takes the room of others, whatever its phones send while its rtpengine is slow.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::{Deadlines, Instant, Now};
use lease::ActiveLease;
use media::ng::{Ask, Failure, Reply};
use routing::call::Output as UserOutput;
use routing::{MediaAsk, SessionName};
use sip::{Message, Status};
use transaction::ClientKey;

use super::{Output, Shard};
use crate::media_control::{Passed, QuestionToken};

/// Messages of one shard that wait: all calls that begin in a second under full load.
const WAITING_MAX: usize = 8_192;
/// Messages of one session that wait: whatever its two phones say to each other in the time of an answer, and a few of
/// each that came again.
const OF_SESSION_MAX: usize = 64;
/// Behind so many of its session a provisional response does not wait: the final one must have room.
const PROVISIONAL_BEHIND_MAX: usize = 32;
/// After this time nobody answers any more: two rtpengines are asked within 2.4 s, and a few questions of the same session
/// may stand before, of 1.2 s each.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);

/// The messages of one shard.
#[derive(Debug, Default)]
pub(super) struct MediaWaits {
    sessions: BTreeMap<SessionName, VecDeque<Waiting>>,
    /// The first of its session, about which was asked.
    asked: BTreeMap<QuestionToken, SessionName>,
    /// Until when an answer is waited for; also of questions that were answered.
    deadlines: Deadlines<QuestionToken>,
    /// In which session a request waits.
    requests: BTreeMap<ClientKey, SessionName>,
    count: usize,
}

#[derive(Debug)]
struct Waiting {
    ask: MediaAsk,
    /// `None` for a request that is not to be sent any more.
    message: Option<UserOutput>,
}

impl MediaWaits {
    /// How many messages wait.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Forgets all; an answer that comes finds nobody.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A request is not to be sent any more; whether it waits, so that it never was.
    pub(super) fn abandon(&mut self, client: ClientKey) -> bool {
        let Some(session) = self.requests.remove(&client) else { return false };
        for waiting in self.sessions.get_mut(&session).into_iter().flatten() {
            if waiting.request() == Some(client) {
                waiting.message = None;
            }
        }
        true
    }

    /// When [`Shard::give_up_relay_questions`] wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// How many of a session wait.
    fn of(&self, session: SessionName) -> usize {
        self.sessions.get(&session).map_or(0, VecDeque::len)
    }

    fn has_room(&self, session: SessionName) -> bool {
        self.count < WAITING_MAX && self.of(session) < OF_SESSION_MAX
    }

    fn push(&mut self, waiting: Waiting) {
        self.note(&waiting);
        self.sessions.entry(waiting.ask.session).or_default().push_back(waiting);
    }

    fn pop(&mut self, session: SessionName) -> Option<Waiting> {
        let waiting = self.sessions.get_mut(&session)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.sessions.remove(&session);
        }
        self.count -= usize::from(first.is_some());
        if let Some(client) = first.as_ref().and_then(Waiting::request) {
            self.requests.remove(&client);
        }
        first
    }

    /// Puts back the first of a session, about which was asked.
    fn put_back(&mut self, now: Instant, token: QuestionToken, waiting: Waiting) {
        let session = waiting.ask.session;
        self.note(&waiting);
        self.sessions.entry(session).or_default().push_front(waiting);
        self.asked.insert(token, session);
        self.deadlines.push(now + ANSWER_TIME_MAX, token);
    }

    fn note(&mut self, waiting: &Waiting) {
        self.count += 1;
        if let Some(client) = waiting.request() {
            self.requests.insert(client, waiting.ask.session);
        }
    }

    fn pop_overdue(&mut self, now: Instant) -> Option<QuestionToken> {
        while let Some((_, token)) = self.deadlines.pop_due(now) {
            if self.asked.contains_key(&token) {
                return Some(token);
            }
        }
        None
    }
}

impl Waiting {
    fn request(&self) -> Option<ClientKey> {
        match &self.message {
            Some(UserOutput::Forward { key, .. }) => Some(*key),
            _ => None,
        }
    }
}

impl Shard {
    /// Appends what rtpengines are to be asked, since this was asked last. To be called behind each step; the answer comes
    /// back by [`Self::handle_relay_reply`].
    pub fn take_relay_questions(&mut self, out: &mut Vec<Ask<QuestionToken>>) {
        out.extend(self.media.take_questions());
    }

    /// Takes what an rtpengine has said, or that none has. `node` is which one was asked last.
    pub fn handle_relay_reply(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        token: QuestionToken,
        node: Option<SocketAddr>,
        result: Result<Reply, Failure>,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        for (call, dialog) in self.media.handle_looked(now.instant, token, &result) {
            self.end_silent(now, lease, call, dialog);
        }
        self.conclude(now, lease, token, node, result, out);
        self.settle(now, lease, out);
    }

    /// Lets time pass: what was not answered for so long will not be.
    pub(super) fn give_up_relay_questions(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        out: &mut Vec<Output>,
    ) {
        while let Some(token) = self.media_waits.pop_overdue(now.instant) {
            self.conclude(now, lease, token, None, Err(Failure::Silent), out);
        }
    }

    /// A request is not wanted any more: if it waits, it does not leave, and the user hears so.
    pub(super) fn withdraw(&mut self, now: Now, lease: &ActiveLease<'_>, client: ClientKey) {
        if self.media_waits.abandon(client) {
            self.media.handle_branch_ended(now.instant, client);
            self.user.handle_withdrawn(now, lease, client, &mut self.from_user);
        }
    }

    fn conclude(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        token: QuestionToken,
        node: Option<SocketAddr>,
        result: Result<Reply, Failure>,
        out: &mut Vec<Output>,
    ) {
        let Some(session) = self.media_waits.asked.remove(&token) else { return };
        let Some(Waiting { ask, message }) = self.media_waits.pop(session) else { return };
        self.pass(
            now,
            lease,
            (&ask, message),
            |shard, ask, bytes| shard.media.handle_reply(now.instant, ask, bytes, node, result),
            out,
        );
        self.go_on(now, lease, session, out);
    }

    /// A message leaves with the relay's body, later, or not at all.
    pub(super) fn sink_relayed(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        ask: &MediaAsk,
        message: UserOutput,
        out: &mut Vec<Output>,
    ) {
        let ask = &self.media.placed(ask);
        let before = self.media_waits.of(ask.session);
        let has_room = self.media_waits.has_room(ask.session);
        if before > 0 && (before >= PROVISIONAL_BEHIND_MAX || !has_room) && is_provisional(&message) {
            return self.media.note_dropped();
        }
        if before == 0 || !has_room {
            return self.consider(now, lease, ask, message, out);
        }
        self.media_waits.push(Waiting { ask: *ask, message: Some(message) });
    }

    /// Lets the messages behind one that has left go on, up to the next about which is asked.
    fn go_on(&mut self, now: Now, lease: &ActiveLease<'_>, session: SessionName, out: &mut Vec<Output>) {
        while let Some(Waiting { ask, message }) = self.media_waits.pop(session) {
            let Some(message) = message else { continue };
            let asked = self.media_waits.asked.len();
            self.consider(now, lease, &ask, message, out);
            if self.media_waits.asked.len() > asked {
                return;
            }
        }
    }

    fn consider(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        ask: &MediaAsk,
        message: UserOutput,
        out: &mut Vec<Output>,
    ) {
        let Some(bytes) = bytes_of(&message) else { return self.sink(now, lease, message, out) };
        match self.media.handle(now.instant, &self.listeners, ask, bytes) {
            Passed::Asked(token) if !self.media_waits.has_room(ask.session) => {
                self.media.take_back(token);
                let busy = Err(Failure::Busy);
                self.pass(
                    now,
                    lease,
                    (ask, Some(message)),
                    |shard, ask, bytes| shard.media.handle_reply(now.instant, ask, bytes, None, busy),
                    out,
                );
            }
            Passed::Asked(token) => {
                let waiting = Waiting { ask: *ask, message: Some(message) };
                self.media_waits.put_back(now.instant, token, waiting);
            }
            passed => self.pass(now, lease, (ask, Some(message)), |_, _, _| passed, out),
        }
    }

    /// A message leaves as `becomes` says, or it does not. `None`: it was not to leave any more.
    fn pass(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        (ask, message): (&MediaAsk, Option<UserOutput>),
        becomes: impl FnOnce(&mut Self, &MediaAsk, Bytes) -> Passed,
        out: &mut Vec<Output>,
    ) {
        match message {
            Some(UserOutput::Forward { key, kind, of, to, request }) => {
                match becomes(self, ask, request.clone()) {
                    Passed::Refused(refusal) => {
                        self.user.handle_media_refused(now, lease, key, refusal, &mut self.from_user);
                    }
                    passed => {
                        let (request, names_ports) = left(passed, request);
                        if let Some(call) = of.filter(|_| names_ports) {
                            self.announces(call);
                        }
                        self.sink(now, lease, UserOutput::Forward { key, kind, of, to, request }, out);
                    }
                }
            }
            Some(UserOutput::Respond { key, status, message }) => {
                let (message, names_ports) = left(becomes(self, ask, message.clone()), message);
                if names_ports {
                    self.answers_with_ports(key);
                }
                self.sink(now, lease, UserOutput::Respond { key, status, message }, out);
            }
            Some(UserOutput::SendStateless { to, message }) => {
                let (message, _) = left(becomes(self, ask, message.clone()), message);
                self.sink(now, lease, UserOutput::SendStateless { to, message }, out);
            }
            Some(other) => self.sink(now, lease, other, out),
            None => drop(becomes(self, ask, Bytes::new())),
        }
        // Who speaks, and for what, is noted for one message at a time.
        self.rise(now, lease, out);
    }
}

/// The message that leaves, if it can not be refused any more, and whether it names ports that nobody was told of.
fn left(passed: Passed, as_it_was: Bytes) -> (Bytes, bool) {
    match passed {
        Passed::On { message, names_ports } => (message, names_ports),
        Passed::Refused(_) | Passed::Asked(_) => (as_it_was, false),
    }
}

fn is_provisional(message: &UserOutput) -> bool {
    match message {
        UserOutput::Respond { status, .. } => status.is_provisional(),
        UserOutput::SendStateless { message, .. } => {
            let message = Message::parse(message);
            message.is_ok_and(|message| message.status().is_some_and(Status::is_provisional))
        }
        _ => false,
    }
}

fn bytes_of(message: &UserOutput) -> Option<Bytes> {
    match message {
        UserOutput::Forward { request, .. } => Some(request.clone()),
        UserOutput::Respond { message, .. } | UserOutput::SendStateless { message, .. } => {
            Some(message.clone())
        }
        _ => None,
    }
}
