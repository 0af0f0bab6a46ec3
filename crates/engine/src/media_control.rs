//! The media of a shard's calls: which bodies go out, and what those who forward packets are to do.
//!
//! The transaction user says of which messages the relay is asked; `media` says what becomes of them. Here the one is
//! handed to the other: a message gets another body, or does not go, and orders go out. Sessions stand in one table in both
//! roles: what the other node has told of, and what this node has begun itself. Only a node that is active has ports in use.
//!
//! All shards of a node share the range of ports. The sessions that the other node has told of hold theirs here too, so that
//! no shard that is active already gives away what another one is about to go on with.

mod elsewhere;
mod figures;
mod message;
mod silence;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use clock::Instant;
use keys::Key;
use media::ng::Ask;
use media::offer_answer::{
    Branch, Call, Face, Faces, Kind, Output as MediaOutput, Side, Tag, Terms, Unanchored, Verdict,
};
use media::ports::{Pool, PortRange};
use routing::{CallName, CallRecord, MediaAsk, MediaEnd, MediaRefusal, MediaWithin, SessionName};
use sip::{Editor, Message};
use transaction::ClientKey;
use transport::{ListenerId, Listeners};

use self::elsewhere::Elsewhere;
pub use self::elsewhere::QuestionToken;
use self::figures::MediaFigures;
use self::silence::SilenceWatch;
pub(crate) use self::stored::StoredSession;
use crate::records::RecordNews;
use crate::relay::{RelayEvent, RelayOrder, RelayReport, RelaySettings};

/// Sessions of one shard; those with media are bounded by the ports, and others by the calls that ring.
const SESSIONS_MAX: usize = 65_536;

/// What has happened to the media of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaCounts {
    /// Sessions that there are; on a standby the other node's.
    pub sessions: usize,
    /// Pairs of ports that calls have, or had a moment ago; none on a standby.
    pub pairs_used: usize,
    /// Descriptions that went on with the relay's addresses.
    pub rewritten: u64,
    /// Descriptions that went on as they were, because the relay could not read or place them.
    pub passed_on: u64,
    /// Requests refused because of what they say.
    pub refused: u64,
    /// Requests refused, or descriptions passed on, because there were no ports.
    pub no_ports: u64,
    /// Dialogs that ended because no packet came.
    pub silent: u64,
    /// Sessions that the other node could not be told of, because they are too large.
    pub too_large: u64,
    /// Sessions of the other node whose ports are not free here.
    pub not_taken_over: u64,
    /// Descriptions that no rtpengine took, because none answered.
    pub relay_unanswered: u64,
    /// Descriptions that an rtpengine did not take.
    pub relay_refused: u64,
    /// Provisional responses that were dropped, because too much of their call waits for an rtpengine.
    pub relay_dropped: u64,
    /// Sessions that another rtpengine has now.
    pub relay_moved: u64,
}

impl MediaCounts {
    /// What has happened, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let Self { sessions: _, pairs_used: _, rewritten, passed_on, refused, .. } = *self;
        let Self { no_ports, silent, too_large, not_taken_over, .. } = *self;
        let Self { relay_unanswered, relay_refused, relay_dropped, relay_moved, .. } = *self;
        [
            ("media_rewritten", rewritten),
            ("media_passed_on", passed_on),
            ("media_refused", refused),
            ("media_no_ports", no_ports),
            ("media_silent", silent),
            ("media_too_large", too_large),
            ("media_not_taken_over", not_taken_over),
            ("media_relay_unanswered", relay_unanswered),
            ("media_relay_refused", relay_refused),
            ("media_relay_dropped", relay_dropped),
            ("media_relay_moved", relay_moved),
        ]
        .into_iter()
    }
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// It goes on like this.
    On {
        /// The whole message.
        message: Bytes,
        /// Whether it names ports that nobody was told of before.
        names_ports: bool,
    },
    /// It does not go on.
    Refused(MediaRefusal),
    /// An rtpengine is asked what becomes of it: [`MediaControl::handle_reply`] says it.
    Asked(QuestionToken),
}

/// The media of a shard's calls.
#[derive(Debug)]
pub(crate) struct MediaControl {
    settings: Option<Arc<RelaySettings>>,
    /// A secret: where in the range a call has its ports.
    key: Key,
    /// Which shard this is.
    number: u16,
    pool: Pool,
    sessions: BTreeMap<SessionName, Session>,
    by_call: BTreeSet<(CallName, SessionName)>,
    by_branch: BTreeMap<Branch, SessionName>,
    orders: Vec<RelayOrder>,
    /// What rtpengines are to be asked.
    questions: Vec<Ask<QuestionToken>>,
    /// Questions in all.
    asked: u64,
    silence: SilenceWatch,
    figures: MediaFigures,
    changed: BTreeSet<SessionName>,
    /// Those that the other node has, as far as is known.
    told: BTreeSet<SessionName>,
    notes_changes: bool,
    /// Whether its sessions have their ports here.
    is_active: bool,
    /// Whether what happens to sessions is the other node's doing.
    stands_by: bool,
    counts: MediaCounts,
}

/// One passage of a call.
#[derive(Debug)]
struct Session {
    call: Call,
    name: CallName,
    call_id: Bytes,
    branches: Vec<Branch>,
    /// Whether its ports are its own in the range; they are not while somebody else has them.
    holds: bool,
    /// Which rtpengine has its media; `None`: our own relay.
    elsewhere: Option<Elsewhere>,
}

impl MediaControl {
    /// Relays nothing.
    pub(crate) fn new(key: Key, number: u16) -> Self {
        Self {
            settings: None,
            key,
            number,
            pool: Pool::new(1, 0, 0),
            sessions: BTreeMap::new(),
            by_call: BTreeSet::new(),
            by_branch: BTreeMap::new(),
            orders: Vec::new(),
            questions: Vec::new(),
            asked: 0,
            silence: SilenceWatch::default(),
            figures: MediaFigures::default(),
            changed: BTreeSet::new(),
            told: BTreeSet::new(),
            notes_changes: false,
            is_active: false,
            stands_by: false,
            counts: MediaCounts::default(),
        }
    }

    /// Takes other settings. Calls keep what they were told; with another range of ports they lose nothing but the
    /// promise that nobody else gets theirs.
    pub(crate) fn reload(&mut self, now: Instant, settings: Option<Arc<RelaySettings>>) {
        let range = |settings: &Option<Arc<RelaySettings>>| settings.as_ref().map(|it| it.ports.clone());
        let other_range = range(&settings).filter(|other| Some(other) != range(&self.settings).as_ref());
        let silence = |settings: &Option<Arc<RelaySettings>>| settings.as_ref().and_then(|it| it.silence);
        let is_same_silence = silence(&self.settings) == silence(&settings);
        self.settings = settings;
        if !is_same_silence && self.is_active {
            self.watch_all(now);
        }
        if let Some(range) = other_range {
            self.draw_from(now, &range);
        }
    }

    /// From here on it is noted which sessions have changed.
    pub(crate) fn note_changes(&mut self) {
        self.notes_changes = true;
    }

    /// The same question, of the session that the message is of: a response is of the one that its branch began, by whichever
    /// listener it came back.
    pub(crate) fn placed(&self, ask: &MediaAsk) -> MediaAsk {
        let of_branch = match ask.within {
            MediaWithin::Fork(client, _) => self.by_branch.get(&branch(client)).copied(),
            _ => None,
        };
        MediaAsk { session: of_branch.unwrap_or(ask.session), ..*ask }
    }

    /// From here on it is known of calls that end how their media went.
    pub(crate) fn keep_figures(&mut self) {
        self.figures.keep();
    }

    /// A call has ended.
    pub(crate) fn note_ended(&mut self, call: CallName, record: Box<CallRecord>) {
        self.figures.call_ended(call, record);
    }

    /// What is to be written down after a step.
    pub(crate) fn take_records(&mut self, now: Instant) -> std::vec::Drain<'_, RecordNews> {
        let by_call = &self.by_call;
        let has_media = |call| sessions_of(by_call, call).next().is_some();
        self.figures.after_step(now, has_media)
    }

    /// The relay is asked what becomes of a message.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        listeners: &Listeners,
        ask: &MediaAsk,
        bytes: Bytes,
    ) -> Passed {
        let as_it_is = |message| Passed::On { message, names_ports: false };
        let Ok(message) = Message::parse(&bytes) else { return as_it_is(bytes) };
        let Some(kind) = message::kind(&message) else { return as_it_is(bytes) };
        match ask.within {
            MediaWithin::Branch { client, caller, callee } => {
                if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&ask.session) {
                    self.counts.no_ports += 1;
                    return Passed::Refused(MediaRefusal::NoPorts);
                }
                if !self.begin(ask, &message, listeners, (caller, callee)) {
                    return as_it_is(bytes);
                }
                self.note_branch(ask.session, client);
            }
            // What went on without the relay is answered without it.
            MediaWithin::Fork(client, _) if !self.by_branch.contains_key(&branch(client)) => {
                return as_it_is(bytes);
            }
            MediaWithin::Fork(..) | MediaWithin::Dialog(_) => {}
        }
        let mut out = Vec::new();
        let mut verdict = Verdict::NoDescription;
        let told = message::told(ask, kind, &message);
        self.with_session(now, ask.session, &mut out, |call, pool, out| {
            verdict = call.handle(now, &told, pool, out);
        });
        let names_ports = out.iter().any(|output| matches!(output, MediaOutput::Bind(..)));
        let is_elsewhere = self.sessions.get(&ask.session).is_some_and(|session| session.elsewhere.is_some());
        if is_elsewhere && let (Kind::Refused(_), MediaWithin::Fork(client, _)) = (kind, ask.within) {
            self.handle_branch_ended(now, client);
        }
        match verdict {
            Verdict::NoDescription => as_it_is(bytes),
            Verdict::PassedOn(Unanchored::Ports(_)) => {
                self.counts.no_ports += 1;
                as_it_is(bytes)
            }
            Verdict::PassedOn(_) => {
                self.counts.passed_on += 1;
                as_it_is(bytes)
            }
            Verdict::Rewritten { .. } if is_elsewhere => match self.ask_elsewhere(ask, &told, &message) {
                Some(token) => Passed::Asked(token),
                None => as_it_is(bytes),
            },
            Verdict::Rewritten { body, .. } => {
                self.counts.rewritten += 1;
                let mut rewritten = Vec::with_capacity(bytes.len() + 64);
                Editor::new(&message).body(None, &body).write(&mut rewritten);
                Passed::On { message: Bytes::from(rewritten), names_ports }
            }
            Verdict::Refused(Unanchored::Ports(_)) => {
                self.counts.no_ports += 1;
                Passed::Refused(MediaRefusal::NoPorts)
            }
            Verdict::Refused(_) => {
                self.counts.refused += 1;
                Passed::Refused(MediaRefusal::NotAcceptable)
            }
        }
    }

    /// Something is over.
    pub(crate) fn handle_end(&mut self, now: Instant, end: MediaEnd) {
        match end {
            MediaEnd::Branch(client) => self.handle_branch_ended(now, client),
            MediaEnd::Dialog(call, tag) => {
                for name in self.sessions_of(call).collect::<Vec<_>>() {
                    self.with_session(now, name, &mut Vec::new(), |call, pool, out| {
                        call.handle_dialog_ended(now, Tag(tag), pool, out);
                    });
                    self.let_go_elsewhere(name);
                }
            }
        }
    }

    /// A client transaction is gone.
    pub(crate) fn handle_branch_ended(&mut self, now: Instant, client: ClientKey) {
        let branch = branch(client);
        let Some(name) = self.by_branch.remove(&branch) else { return };
        if let Some(session) = self.sessions.get_mut(&name) {
            session.branches.retain(|known| *known != branch);
        }
        self.with_session(now, name, &mut Vec::new(), |call, pool, out| {
            call.handle_branch_ended(now, branch, pool, out);
        });
        self.delete_branch_elsewhere(name, client);
    }

    /// Something has happened to a stream. Gives the dialog that is to be ended because nothing comes.
    pub(crate) fn handle_event(&mut self, event: RelayEvent) -> Option<(CallName, u64)> {
        let RelayEvent { session: name, stream, report } = event;
        if let RelayReport::Figures(figures) = report {
            tracing::debug!(?stream, ?figures, "media");
            self.figures.told((name, stream), Some(&figures));
            return None;
        }
        let session = self.sessions.get_mut(&name)?;
        match report {
            RelayReport::Latched(side, latched) => {
                session.call.handle_latched(stream, side, latched);
                self.note(name);
                None
            }
            RelayReport::Silent => {
                if !session.call.is_confirmed(stream.dialog) {
                    return None;
                }
                self.counts.silent += 1;
                Some((session.name, stream.dialog.0))
            }
            RelayReport::Figures(_) => None,
        }
    }

    /// What is to be done by those who forward packets, since this was asked last.
    pub(crate) fn take_orders(&mut self) -> std::vec::Drain<'_, RelayOrder> {
        self.orders.drain(..)
    }

    /// The node has become active: what stands in the table goes on here.
    pub(crate) fn take_over(&mut self, now: Instant) {
        (self.is_active, self.stands_by) = (true, false);
        self.claim_or_forget(now);
        self.watch_all(now);
        let mut out = Vec::new();
        for (name, session) in self.sessions.iter().filter(|(_, session)| session.elsewhere.is_none()) {
            self.figures.taken_over(now, session.name);
            session.call.handle_takeover(&mut out);
            let faces = session.call.faces();
            self.orders.extend(out.drain(..).map(|output| RelayOrder { session: *name, faces, output }));
        }
    }

    /// The node is not active any more. What the other node was told of stays.
    pub(crate) fn stand_by(&mut self) {
        (self.is_active, self.stands_by) = (false, true);
        self.questions.clear();
        self.silence = SilenceWatch::default();
        self.figures.stand_by();
        self.pool.end_rest();
        self.changed.clear();
        if !self.notes_changes {
            let names: Vec<SessionName> = self.sessions.keys().copied().collect();
            names.into_iter().for_each(|name| self.forget(name));
        }
    }

    /// The sessions of a call, in order.
    pub(crate) fn sessions_of(&self, call: CallName) -> impl Iterator<Item = SessionName> + '_ {
        sessions_of(&self.by_call, call)
    }

    /// How it stands.
    pub(crate) fn counts(&self) -> MediaCounts {
        let pairs_used = if self.is_active { self.pool.held() } else { 0 };
        MediaCounts { sessions: self.sessions.len(), pairs_used, ..self.counts }
    }

    /// Begins a session unless it is there; `false` if nothing is relayed.
    fn begin(
        &mut self,
        ask: &MediaAsk,
        message: &Message<'_>,
        listeners: &Listeners,
        (caller, callee): (ListenerId, ListenerId),
    ) -> bool {
        if self.sessions.contains_key(&ask.session) {
            return true;
        }
        let (Some(settings), Ok(call_id)) = (&self.settings, message.call_id()) else { return false };
        let face = |listener| face(settings, listeners, listener);
        let (Some(caller), Some(callee)) = (face(caller), face(callee)) else { return false };
        let terms =
            Terms { faces: Faces { caller, callee }, broken: settings.broken, origin: settings.origin };
        let mut elsewhere = None;
        if settings.is_elsewhere {
            let has_others = self.sessions_of(ask.call).next().is_some();
            let Some(begun) = Elsewhere::begin(message, has_others, ask.session) else { return false };
            elsewhere = Some(begun);
        }
        let session = Session {
            call: Call::new(terms),
            name: ask.call,
            call_id: Bytes::copy_from_slice(call_id),
            branches: Vec::new(),
            holds: true,
            elsewhere,
        };
        self.by_call.insert((ask.call, ask.session));
        self.sessions.insert(ask.session, session);
        true
    }

    fn note_branch(&mut self, name: SessionName, client: ClientKey) {
        let branch = branch(client);
        if self.by_branch.insert(branch, name).is_none()
            && let Some(session) = self.sessions.get_mut(&name)
        {
            session.branches.push(branch);
        }
    }

    /// Does something with a session, says what is to be done, and forgets it if nothing is left.
    fn with_session(
        &mut self,
        now: Instant,
        name: SessionName,
        out: &mut Vec<MediaOutput>,
        act: impl FnOnce(&mut Call, &mut Pool, &mut Vec<MediaOutput>),
    ) {
        let Some(session) = self.sessions.get_mut(&name) else { return };
        if session.elsewhere.is_some() {
            act(&mut session.call, &mut Pool::elsewhere(), out);
        } else {
            act(&mut session.call, &mut self.pool, out);
            let faces = session.call.faces();
            let order = |output: &MediaOutput| RelayOrder { session: name, faces, output: output.clone() };
            self.orders.extend(out.iter().map(order));
            for output in out.iter() {
                if let MediaOutput::End(stream) = output {
                    self.figures.stream_ended(now, session.name, (name, *stream));
                }
            }
        }
        let is_over = session.call.is_over();
        self.note(name);
        if is_over {
            self.forget(name);
        }
    }

    fn note(&mut self, name: SessionName) {
        if self.notes_changes {
            self.changed.insert(name);
        }
    }

    /// Takes a session out; its ports are closed.
    fn forget(&mut self, name: SessionName) {
        let Some(session) = self.sessions.remove(&name) else { return };
        self.by_call.remove(&(session.name, name));
        self.figures.session_ended(session.name);
        for branch in session.branches {
            self.by_branch.remove(&branch);
        }
        if let Some(elsewhere) = &session.elsewhere {
            self.look_no_more(elsewhere.heard);
            return self.delete_elsewhere(name, elsewhere, None);
        }
        let ports = session.call.ports();
        if session.holds {
            ports.iter().for_each(|(_, ports)| self.pool.put_back(*ports));
        }
        let faces = session.call.faces();
        let unbind = |(side, ports): (Side, _)| MediaOutput::Unbind(side, ports);
        let outputs = ports.into_iter().map(unbind);
        self.orders.extend(outputs.map(|output| RelayOrder { session: name, faces, output }));
    }

    /// From here on ports are of this range. Sessions hold theirs as far as they are in it and nobody has them.
    fn draw_from(&mut self, now: Instant, range: &PortRange) {
        self.pool = range.pool(self.number, self.key.mac(&[b"ports", &self.number.to_be_bytes()]).short());
        for session in self.sessions.values_mut().filter(|session| session.elsewhere.is_none()) {
            session.holds = session.call.claim(now, &mut self.pool).is_ok();
        }
    }

    /// Takes the ports of sessions that do not hold them yet; those whose ports somebody else has are forgotten.
    fn claim_or_forget(&mut self, now: Instant) {
        let mut refused = Vec::new();
        for (name, session) in &mut self.sessions {
            if session.holds || session.elsewhere.is_some() {
                continue;
            }
            session.holds = session.call.claim(now, &mut self.pool).is_ok();
            if !session.holds {
                refused.push(*name);
            }
        }
        self.counts.not_taken_over += refused.len() as u64;
        for name in refused {
            self.note(name);
            self.forget(name);
        }
    }
}

fn sessions_of(
    by_call: &BTreeSet<(CallName, SessionName)>,
    call: CallName,
) -> impl Iterator<Item = SessionName> + '_ {
    let of_call = (call, SessionName::from_u64(0))..=(call, SessionName::from_u64(u64::MAX));
    by_call.range(of_call).map(|(_, name)| *name)
}

fn branch(client: ClientKey) -> Branch {
    Branch(client.as_u128() as u64)
}

/// The relay's address towards whoever uses a listener.
fn face(settings: &RelaySettings, listeners: &Listeners, listener: ListenerId) -> Option<Face> {
    let own = listeners.get(listener)?.local.0.ip();
    let faces = || settings.faces.iter();
    let same = faces().find(|face| face.local == own);
    let family = || faces().find(|face| face.local.is_ipv4() == own.is_ipv4());
    same.or_else(family).or_else(|| faces().next()).copied()
}
