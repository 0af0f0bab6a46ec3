//! One dialog of a call, and the messages that pass within it.
//!
//! It begins with the 2xx to an INVITE, and ends with the BYE of either side. Whoever sends a BYE has hung up, whatever
//! becomes of the BYE; if it is challenged the dialog is up for as long as that takes, and is not counted. It ends too when
//! one side says to an INVITE or UPDATE that it does not know the dialog (481), or nothing at all, as the other side has
//! to see it.

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use sip::{Message, Method, Name, NameAddr, Status};

use super::super::Output;
use super::super::client_branch::ClientBranch;
use super::super::dialog_token::Direction;
use super::super::inbound::Inbound;
use super::super::response_context::ResponseContext;
use super::super::session;
use super::super::user::TransactionUser;
use super::parties::text;
use crate::{CallEnding, CallName, Party};

/// One dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct LiveDialog {
    /// The tag of whoever answered.
    pub(in crate::call) tag: Box<[u8]>,
    /// When that was.
    pub(in crate::call) answered: WallTime,
    /// The gateway that the call went to.
    pub(in crate::call) gateway: Option<Box<str>>,
    /// When the session is over unless it is refreshed.
    pub(in crate::call) expires_at: Option<Instant>,
    /// When both sides are asked whether they are there, if the session has no end.
    pub(in crate::call) check_at: Option<Instant>,
    /// What it takes to send a request within the dialog; `None` if that is too much, or if the node that had it has told
    /// no more than that the dialog is there.
    pub(in crate::call) ends: Option<Box<Ends>>,
}

/// Both ends of a dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Ends {
    /// Who called.
    pub(in crate::call) caller: End,
    /// Who answered.
    pub(in crate::call) callee: End,
    /// The values of Record-Route in the 2xx, as it came: our own among them, with the dialog's token.
    pub(in crate::call) record_route: Box<[u8]>,
}

/// One end of a dialog, as it writes its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct End {
    /// From.
    pub(in crate::call) from: Box<[u8]>,
    /// To.
    pub(in crate::call) to: Box<[u8]>,
    /// The URI in its Contact: its requests go from there, and those to it go there.
    pub(in crate::call) target: Box<[u8]>,
    /// The number of its last request; `None` if it has sent none.
    pub(in crate::call) cseq: Option<u32>,
}

impl LiveDialog {
    /// Only that it is there.
    pub(in crate::call) fn bare(tag: &[u8], answered: WallTime) -> Self {
        Self { tag: tag.into(), answered, gateway: None, expires_at: None, check_at: None, ends: None }
    }

    /// Begins with a 2xx, of which `copy` goes upstream.
    pub(in crate::call) fn answered(
        now: Now,
        tag: &[u8],
        (context, index): (&ResponseContext, usize),
        response: &Message<'_>,
        copy: &Bytes,
    ) -> Self {
        let leg = context.branches.get(index).and_then(|branch: &ClientBranch| branch.aim.leg.as_ref());
        let gateway = leg.map(|leg| Box::from(&*leg.gateway.name));
        let ends = context.inbound.message().and_then(|invite| Ends::of(&invite, response, copy));
        let expires_at = Message::parse(copy).ok().and_then(|upstream| session::interval(&upstream));
        Self {
            gateway,
            expires_at: expires_at.map(|interval| now.instant + interval),
            ends: ends.map(Box::new),
            ..Self::bare(tag, now.wall)
        }
    }
}

impl Ends {
    fn of(invite: &Message<'_>, response: &Message<'_>, copy: &[u8]) -> Option<Self> {
        let upstream = Message::parse(copy).ok()?;
        let end = |of: &Message<'_>, from, to, target, cseq| {
            Some(End { from: text(of.header(from)?)?, to: text(of.header(to)?)?, target, cseq })
        };
        let cseq = Some(invite.cseq().ok()?.number);
        let route: Vec<&[u8]> = response.values(Name::RecordRoute).collect();
        // The callee writes as From what it reads as To.
        Some(Self {
            caller: end(&upstream, Name::From, Name::To, target_of(invite)?, cseq)?,
            callee: end(response, Name::To, Name::From, target_of(response)?, None)?,
            record_route: text(&route.join(&b", "[..]))?,
        })
    }

    /// The end that sends in a direction.
    pub(in crate::call) fn sender(&mut self, direction: Direction) -> &mut End {
        match direction {
            Direction::ToCallee => &mut self.caller,
            Direction::ToCaller => &mut self.callee,
        }
    }
}

/// Whether a request is about the session, and not about something else in its dialog.
// RFC 5057 §4: a subscription may end without the session.
fn is_of_session(request: &Message<'_>) -> bool {
    matches!(request.method(), Some(Method::Invite | Method::Update))
}

/// The URI in a Contact.
fn target_of(message: &Message<'_>) -> Option<Box<[u8]>> {
    let address = NameAddr::parse(message.values(Name::Contact).next()?).ok()?;
    text(address.uri)
}

impl TransactionUser {
    /// The dialog that a message is of: the name of its call, and its place there.
    pub(in crate::call) fn dialog_of(&self, message: &Message<'_>) -> Option<(CallName, usize)> {
        self.directed(message).map(|(name, index, _)| (name, index))
    }

    /// The same with who has sent a request.
    pub(in crate::call) fn sent_by(&self, request: &Message<'_>) -> Option<(CallName, usize, Party)> {
        let (name, index, direction) = self.directed(request)?;
        let sender = match direction {
            Direction::ToCallee => Party::Caller,
            Direction::ToCaller => Party::Callee,
        };
        Some((name, index, sender))
    }

    /// The same with the direction in which a request goes.
    fn directed(&self, message: &Message<'_>) -> Option<(CallName, usize, Direction)> {
        let (call_id, from, to) = (message.call_id().ok()?, message.from_tag()?, message.to_tag()?);
        [(from, to, Direction::ToCallee), (to, from, Direction::ToCaller)].into_iter().find_map(
            |(caller, callee, direction)| {
                let name = CallName::of(&self.keyring.transaction, call_id, caller);
                let call = self.live.calls.get(&name)?;
                let index = call.dialogs.iter().position(|dialog| *dialog.tag == *callee)?;
                Some((name, index, direction))
            },
        )
    }

    /// A request within a dialog passes.
    pub(in crate::call) fn request_in_dialog(&mut self, request: &Message<'_>) {
        let Ok(cseq) = request.cseq() else { return };
        let Some((name, index, direction)) = self.directed(request) else { return };
        let Some(ends) = self.ends_mut(name, index) else { return };
        let number = &mut ends.sender(direction).cseq;
        if number.is_none_or(|before| before < cseq.number) {
            *number = Some(cseq.number);
            self.dialog_changes.note(name);
        }
    }

    /// A request within a dialog is answered by what is no success.
    pub(in crate::call) fn refused_in_dialog(
        &mut self,
        now: Now,
        inbound: &Inbound,
        status: Status,
        out: &mut Vec<Output>,
    ) {
        // RFC 3261 §12.2.1.2: who sent it ends the dialog.
        if !matches!(status, Status::CALL_DOES_NOT_EXIST | Status::REQUEST_TIMEOUT) {
            return;
        }
        let request = inbound.message().filter(is_of_session);
        if let Some((name, index)) = request.and_then(|request| self.dialog_of(&request)) {
            self.dialog_ended(now, name, index, CallEnding::Lost, out);
        }
    }

    // RFC 3261 §12.2.1.2: a 2xx to a target refresh request has the Contact of either side.
    pub(in crate::call) fn refreshed_in_dialog(
        &mut self,
        now: Now,
        request: &Message<'_>,
        response: &Message<'_>,
        copy: &Bytes,
    ) {
        let directed =
            Some(request).filter(|it| is_of_session(it)).and_then(|request| self.directed(request));
        let Some((name, index, direction)) = directed else { return };
        self.session_refreshed(now, name, index, copy);
        let Some(ends) = self.ends_mut(name, index) else { return };
        let mut is_changed = false;
        for (direction, message) in [(direction, request), (direction.back(), response)] {
            let end = ends.sender(direction);
            if let Some(target) = target_of(message).filter(|target| *target != end.target) {
                end.target = target;
                is_changed = true;
            }
        }
        if is_changed {
            self.dialog_changes.note(name);
        }
    }

    // RFC 4028 §8.2: the 2xx as it goes upstream says for how long; without a word the session has no end.
    fn session_refreshed(&mut self, now: Now, name: CallName, index: usize, copy: &Bytes) {
        let Ok(upstream) = Message::parse(copy) else { return };
        let expires_at = session::interval(&upstream).map(|interval| now.instant + interval);
        let is_changed = self.live.change(name, |call| {
            let dialog = call.dialogs.get_mut(index)?;
            (std::mem::replace(&mut dialog.expires_at, expires_at) != expires_at).then_some(())
        });
        if is_changed.flatten().is_some() {
            self.dialog_changes.note(name);
        }
    }

    fn ends_mut(&mut self, name: CallName, index: usize) -> Option<&mut Ends> {
        self.live.calls.get_mut(&name)?.dialogs.get_mut(index)?.ends.as_deref_mut()
    }
}
