//! Sessions whose media pass another relay: an rtpengine is asked for each description, and answers later.
//!
//! The machine of offers and answers ([`Call`]) follows such a call too, so that it is known what each description is; the
//! ports that it has in its hands are placeholders which nobody is told. Which rtpengine has the session, and by which names,
//! is in the session's capsule, so that the other node goes on with the same one.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::Instant;
use media::body::Body;
use media::ng::{Ask, Command, Described, Failure, Reply};
use media::offer_answer::{Broken, Kind, Message as Told};
use routing::{MediaAsk, MediaRefusal, MediaWithin, SessionName};
use sip::{Editor, Message, Name};
use transaction::ClientKey;

use super::silence::Heard;
use super::{MediaControl, Passed, branch, message};

/// Names a question until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionToken(pub u64);

/// What rtpengine knows a session by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// The Call-ID, with something behind it if the call passes here several times.
    pub(super) call_id: Bytes,
    pub(super) caller_tag: Bytes,
    /// Which one has it; `None` before it was offered.
    pub(super) node: Option<SocketAddr>,
    /// Whether one may have it.
    pub(super) is_asked: bool,
    /// When packets came last; `None` while nobody looks.
    pub(super) heard: Option<Heard>,
}

impl Elsewhere {
    /// What a session is called that begins with this INVITE.
    pub(super) fn begin(invite: &Message<'_>, others: bool, name: SessionName) -> Option<Self> {
        let call_id = invite.call_id().ok()?;
        let call_id = match others {
            // Two passages of one call differ in nothing else.
            true => [call_id, format!(";passage={:016x}", name.as_u64()).as_bytes()].concat().into(),
            false => Bytes::copy_from_slice(call_id),
        };
        Some(Self {
            call_id,
            caller_tag: Bytes::copy_from_slice(invite.from_tag()?),
            node: None,
            is_asked: false,
            heard: None,
        })
    }
}

impl MediaControl {
    /// Asks the session's rtpengine about a message that has a description.
    pub(super) fn ask_elsewhere(
        &mut self,
        ask: &MediaAsk,
        told: &Told<'_>,
        message: &Message<'_>,
    ) -> Option<QuestionToken> {
        let session = self.sessions.get_mut(&ask.session)?;
        let elsewhere = session.elsewhere.as_mut()?;
        elsewhere.is_asked = true;
        let place = told.body.find_description().ok()??;
        let sdp = Bytes::copy_from_slice(&told.body.bytes[place]);
        let tag = |tag: Option<&[u8]>| tag.filter(|tag| !tag.is_empty()).map(Bytes::copy_from_slice);
        let (from_tag, to_tag) = (tag(message.from_tag()), tag(message.to_tag()));
        // In a response the sender is who To names.
        let (sender, other) = match message.status() {
            Some(_) => (to_tag, from_tag),
            None => (from_tag, to_tag),
        };
        let is_offer = session.call.proposes(told);
        let (from_tag, to_tag) = if is_offer { (sender, other) } else { (other, sender) };
        let described = Described {
            call_id: elsewhere.call_id.clone(),
            from_tag: from_tag.unwrap_or_default(),
            to_tag,
            branch: match ask.within {
                MediaWithin::Branch { client, .. } | MediaWithin::Fork(client, _) => {
                    Some(branch_name(client))
                }
                MediaWithin::Dialog(_) => None,
            },
            sdp,
            source: ask.source,
            is_behind_nat: ask.is_behind_nat,
            towards: session.call.faces().towards(told.from.other()).local,
            origin: session.call.origin(),
        };
        let node = elsewhere.node;
        let command = if is_offer { Command::Offer(described) } else { Command::Answer(described) };
        let token = self.next_token();
        let question =
            Ask { waiter: Some(token), session: ask.session.as_u64(), node, may_move: is_offer, command };
        self.questions.push(question);
        Some(token)
    }

    /// A question is not asked after all.
    pub(crate) fn take_back(&mut self, token: QuestionToken) {
        self.questions.retain(|question| question.waiter != Some(token));
    }

    /// What becomes of a message about which an rtpengine was asked.
    pub(crate) fn handle_reply(
        &mut self,
        now: Instant,
        ask: &MediaAsk,
        bytes: Bytes,
        node: Option<SocketAddr>,
        result: Result<Reply, Failure>,
    ) -> Passed {
        let as_it_is = |message| Passed::On { message, names_ports: false };
        if matches!(result, Ok(Reply::Done { sdp: Some(_), .. })) {
            self.note_node(ask.session, node);
            self.watch(now, ask.session);
        }
        // A request that was given up meanwhile has no bytes.
        let Ok(message) = Message::parse(&bytes) else { return as_it_is(bytes) };
        let sdp = match result {
            Ok(Reply::Done { sdp: Some(sdp), .. }) => sdp,
            Ok(reply) => {
                self.counts.relay_refused += 1;
                tracing::info!(?node, ?reply, "rtpengine does not take a description");
                return self.fail(now, ask, &message, bytes.clone(), MediaRefusal::NotAcceptable);
            }
            Err(failure) => {
                self.counts.relay_unanswered += 1;
                tracing::debug!(?node, ?failure, "no rtpengine takes a description");
                return self.fail(now, ask, &message, bytes.clone(), MediaRefusal::NoPorts);
            }
        };
        let body = body_of(&message);
        let Ok(Some(place)) = body.find_description() else { return as_it_is(bytes) };
        self.counts.rewritten += 1;
        let body = body.with_description(place, &sdp);
        let mut rewritten = Vec::with_capacity(bytes.len() + 64);
        Editor::new(&message).body(None, &body).write(&mut rewritten);
        Passed::On { message: Bytes::from(rewritten), names_ports: true }
    }

    /// A provisional response does not leave: too much of its call waits.
    pub(crate) fn note_dropped(&mut self) {
        self.counts.relay_dropped += 1;
    }

    /// Names a question.
    pub(super) fn next_token(&mut self) -> QuestionToken {
        self.asked += 1;
        QuestionToken(self.asked)
    }

    /// The session is with this one.
    fn note_node(&mut self, name: SessionName, node: Option<SocketAddr>) {
        let session = self.sessions.get_mut(&name);
        if let Some(elsewhere) = session.and_then(|session| session.elsewhere.as_mut())
            && elsewhere.node != node
        {
            if elsewhere.node.is_some() {
                self.counts.relay_moved += 1;
            }
            elsewhere.node = node;
            self.note(name);
        }
    }

    /// A description has found no relay: a request is refused if that is wanted, and all else goes on as it is, and so does
    /// what answers it.
    fn fail(
        &mut self,
        now: Instant,
        ask: &MediaAsk,
        message: &Message<'_>,
        bytes: Bytes,
        refusal: MediaRefusal,
    ) -> Passed {
        let Some(session) = self.sessions.get_mut(&ask.session) else {
            return Passed::On { message: bytes, names_ports: false };
        };
        let is_refused = message.is_request()
            && !matches!(ask.within, MediaWithin::Fork(..))
            && session.call.broken() == Broken::Refuse
            && message::kind(message) != Some(Kind::Ack);
        if let MediaWithin::Branch { client, .. } = ask.within {
            self.handle_branch_ended(now, client);
        } else if !is_refused && let Some(kind) = message::kind(message) {
            session.call.pass_on(&message::told(ask, kind, message));
            self.note(ask.session);
        }
        if is_refused {
            return Passed::Refused(refusal);
        }
        self.counts.passed_on += 1;
        Passed::On { message: bytes, names_ports: false }
    }

    /// Which rtpengine has a call's media, if one has.
    pub(crate) fn node_of(&self, name: SessionName) -> Option<SocketAddr> {
        self.sessions.get(&name)?.elsewhere.as_ref()?.node
    }

    /// What rtpengines are asked, since this was asked last.
    pub(crate) fn take_questions(&mut self) -> std::vec::Drain<'_, Ask<QuestionToken>> {
        self.questions.drain(..)
    }

    /// The session has ended, or one of its branches.
    pub(super) fn delete_elsewhere(
        &mut self,
        name: SessionName,
        elsewhere: &Elsewhere,
        branch: Option<Bytes>,
    ) {
        // On a standby it is the other node's to say.
        if self.stands_by || !elsewhere.is_asked {
            return;
        }
        let (call_id, from_tag) = (elsewhere.call_id.clone(), elsewhere.caller_tag.clone());
        let command = Command::Delete { call_id, from_tag, branch };
        let session = name.as_u64();
        self.questions.push(Ask { waiter: None, session, node: elsewhere.node, may_move: false, command });
    }

    /// A dialog has ended. Of the last one's call nothing is kept for a 2xx that comes again: that names ports which its
    /// rtpengine may give to somebody else.
    pub(super) fn let_go_elsewhere(&mut self, name: SessionName) {
        let session = self.sessions.get(&name);
        if session.is_some_and(|session| session.elsewhere.is_some() && !session.call.has_dialogs()) {
            self.forget(name);
            self.note(name);
        }
    }

    /// A branch has ended: what rtpengine has for it alone is freed, unless somebody has accepted there.
    pub(super) fn delete_branch_elsewhere(&mut self, name: SessionName, client: ClientKey) {
        let Some(session) = self.sessions.get(&name) else { return };
        let Some(elsewhere) = session.elsewhere.clone() else { return };
        if !session.call.is_over() && !session.call.has_branch(branch(client)) {
            self.delete_elsewhere(name, &elsewhere, Some(branch_name(client)));
        }
    }
}

fn branch_name(client: ClientKey) -> Bytes {
    Bytes::from(format!("{:016x}", branch(client).0))
}

fn body_of<'a>(message: &'a Message<'a>) -> Body<'a> {
    Body {
        content_type: message.header(Name::ContentType),
        disposition: message.header(Name::ContentDisposition),
        encoding: message.header(Name::ContentEncoding),
        bytes: message.body(),
    }
}
