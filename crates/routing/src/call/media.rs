//! Which calls' media pass the relay, and what the relay has to know of their messages.
//!
//! Nothing of a session description is read here: a message that passes the relay goes out as [`Output::Relayed`] with
//! what its bytes do not tell, and whoever carries it puts the relay's body into it or says that it must not go
//! ([`TransactionUser::handle_media_refused`]). Whether a branch of a call does is decided once, and the token of its dialog
//! says so from there on, so that nobody is asked for a call that does not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use clock::Now;
use lease::ActiveLease;
use sip::{Message, Method, Status};
use transaction::{ClientKey, Kind, ServerKey};
use transport::{Destination, ListenerId, Source};

use super::Output;
use super::aim::Aim;
use super::branches;
use super::client_branch::{BranchState, ClientBranch, Phase, Sent};
use super::dialog_token::{DialogToken, Direction, Standing};
use super::inbound::{Inbound, Sender};
use super::nat;
use super::response_context::ResponseContext;
use super::user::TransactionUser;
use crate::session_name::Anchor;
use crate::{CallName, Count, Gateway, Keyring, SessionName};

/// Which calls' media pass the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayRules {
    /// Those of listeners that are not named.
    pub default: Anchoring,
    /// Those that come in or leave by these listeners. Where the two differ the later one in the order of [`Anchoring`] holds.
    pub listeners: BTreeMap<ListenerId, Anchoring>,
    /// Whether accounts and gateways that have a rule of their own are relayed where nothing else is.
    pub named: bool,
}

/// Whether media pass the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchoring {
    /// They do not.
    #[default]
    Never,
    /// They do if one of both sides sits behind a NAT.
    Nat,
    /// They do.
    Always,
}

impl RelayRules {
    /// Whether no call passes.
    pub fn is_off(&self) -> bool {
        !self.named
            && self.default == Anchoring::Never
            && self.listeners.values().all(|rule| *rule == Anchoring::Never)
    }

    fn of(&self, listener: ListenerId) -> Anchoring {
        self.listeners.get(&listener).copied().unwrap_or(self.default)
    }
}

/// One of the two ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaSide {
    /// Who sent the first INVITE.
    Caller,
    /// Who got it.
    Callee,
}

/// Where a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaWithin {
    /// The first INVITE, on a branch.
    Branch {
        /// The branch.
        client: ClientKey,
        /// The listener towards the caller.
        caller: ListenerId,
        /// The listener towards the callee.
        callee: ListenerId,
    },
    /// A response to the first INVITE, on this branch; it makes a dialog, which a hash of the callee's tag names.
    Fork(ClientKey, u64),
    /// Anything inside a dialog.
    Dialog(u64),
}

/// What the relay has to know of a message besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAsk {
    /// Which passage of the call it is; of a response to the first INVITE that of its branch, if that is known by another one.
    pub session: SessionName,
    /// The call.
    pub call: CallName,
    /// Where it belongs.
    pub within: MediaWithin,
    /// Who sent it.
    pub from: MediaSide,
    /// The number in CSeq of the request that it is or answers, as that came in: on the other side it may be another one.
    pub cseq: u32,
    /// The address that it came from.
    pub source: IpAddr,
    /// Whether its sender sits behind a NAT.
    pub is_behind_nat: bool,
}

/// Something of which the relay need not know any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEnd {
    /// The first INVITE was refused on this branch.
    Branch(ClientKey),
    /// A dialog of this call has ended, which a hash of the callee's tag names.
    Dialog(CallName, u64),
}

/// Why a request must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaRefusal {
    /// The relay has no ports for it.
    NoPorts,
    /// What it says of media can not be relayed, and is not to go past the relay.
    NotAcceptable,
}

/// Whether a branch's media pass the relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MediaWay {
    /// It was not sent yet.
    #[default]
    Undecided,
    /// They do not.
    Direct,
    /// They do.
    Relayed,
}

impl MediaWay {
    /// The way of a branch that is about to be sent.
    pub(super) fn decide(inbound: &Inbound, request: &Message<'_>, aim: &Aim, to: &Destination) -> Self {
        let rules = &inbound.settings.relay;
        let is_first = request.method() == Some(Method::Invite) && request.to_tag().is_none();
        if !is_first || rules.is_off() {
            return Self::Direct;
        }
        // Whoever is named has a rule in the place of those of listeners; of several the strongest holds.
        let comes_by = match &inbound.sender {
            Some(Sender::Trusted | Sender::Carrier(_)) => {
                inbound.settings.dial_plan.gateway_at(inbound.source.flow.remote().0.ip())
            }
            _ => None,
        };
        let goes_by = aim.leg.as_ref().map(|leg| &leg.gateway);
        let of_gateway = |gateway: Option<&Arc<Gateway>>| gateway.and_then(|gateway| gateway.relay);
        let named = [inbound.relay, aim.relay, of_gateway(comes_by), of_gateway(goes_by)];
        let named = named.into_iter().flatten().max();
        let by_listener = || rules.of(inbound.source.flow.listener()).max(rules.of(to.listener()));
        let is_relayed = match named.unwrap_or_else(by_listener) {
            Anchoring::Never => false,
            Anchoring::Nat => {
                aim.standing == Standing::BehindNat || nat::is_behind_nat(request, &inbound.source)
            }
            Anchoring::Always => true,
        };
        if is_relayed { Self::Relayed } else { Self::Direct }
    }
}

/// What a dialog's token says of its media.
#[derive(Clone, Copy, Debug)]
struct Anchored<'a> {
    token: &'a DialogToken,
    anchor: Anchor,
    direction: Direction,
}

impl<'a> Anchored<'a> {
    fn of(keyring: &Keyring, inbound: &'a Inbound, request: &Message<'_>) -> Option<Self> {
        let token = inbound.routed.token.as_ref()?;
        let anchor = token.anchor?;
        let (from, to) = (request.from_tag()?, request.to_tag()?);
        Some(Self { token, anchor, direction: token.direction(keyring, from, to)? })
    }

    fn tags<'m>(&self, request: &Message<'m>) -> (&'m [u8], &'m [u8]) {
        let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
        match self.direction {
            Direction::ToCallee => (from, to),
            Direction::ToCaller => (to, from),
        }
    }

    /// `is_response`: it goes against the direction of its request.
    fn ask(
        &self,
        keyring: &Keyring,
        request: &Message<'_>,
        (source, is_response): (IpAddr, bool),
    ) -> Option<MediaAsk> {
        let call_id = request.call_id().ok()?;
        let (caller, callee) = self.tags(request);
        let direction = if is_response { self.direction.back() } else { self.direction };
        Some(MediaAsk {
            session: SessionName::of(&keyring.transaction, call_id, self.anchor),
            call: CallName::of(&keyring.transaction, call_id, caller),
            within: MediaWithin::Dialog(media_tag(keyring, callee)),
            from: match direction {
                Direction::ToCallee => MediaSide::Caller,
                Direction::ToCaller => MediaSide::Callee,
            },
            cseq: request.cseq().ok()?.number,
            source,
            is_behind_nat: self.token.side(direction.back()).standing == Standing::BehindNat,
        })
    }
}

/// What the relay calls a dialog.
pub(super) fn media_tag(keyring: &Keyring, callee_tag: &[u8]) -> u64 {
    keyring.tag.mac(&[b"media tag", callee_tag]).short()
}

/// The request may say something of media.
fn is_of_media(method: Option<Method<'_>>) -> bool {
    matches!(method, Some(Method::Invite | Method::Update | Method::Prack | Method::Ack))
}

/// A message that may have to pass the relay.
pub(super) fn passing(ask: Option<MediaAsk>, message: Output) -> Output {
    match ask {
        Some(ask) => Output::Relayed { ask: Box::new(ask), message: Box::new(message) },
        None => message,
    }
}

/// Whether what leaves on a branch may wait for the relay.
pub(super) fn may_wait(inbound: &Inbound, branch: &ClientBranch) -> bool {
    let token = inbound.routed.token.as_ref();
    branch.media == MediaWay::Relayed || token.is_some_and(|token| token.anchor.is_some())
}

impl TransactionUser {
    /// What the relay is asked of a request within a dialog, or of the ACK to a 2xx; `None` if it passes nothing of it.
    pub(super) fn ask_in_dialog(&self, inbound: &Inbound, request: &Message<'_>) -> Option<MediaAsk> {
        if !is_of_media(request.method()) {
            return None;
        }
        let source = inbound.source.flow.remote().0.ip();
        Anchored::of(&self.keyring, inbound, request)?.ask(&self.keyring, request, (source, false))
    }

    /// The same of a request that leaves on a branch.
    pub(super) fn ask_of_request(
        &self,
        (key, inbound): (ServerKey, &Inbound),
        request: &Message<'_>,
        branch: &ClientBranch,
        (client, to): (ClientKey, &Destination),
    ) -> Option<MediaAsk> {
        if branch.media != MediaWay::Relayed {
            return self.ask_in_dialog(inbound, request);
        }
        let (call_id, caller) = (request.call_id().ok()?, request.from_tag()?);
        let anchor = Anchor::of(key, &inbound.settings.listeners, to.listener());
        Some(MediaAsk {
            session: SessionName::of(&self.keyring.transaction, call_id, anchor),
            call: CallName::of(&self.keyring.transaction, call_id, caller),
            within: MediaWithin::Branch {
                client,
                caller: inbound.source.flow.listener(),
                callee: to.listener(),
            },
            from: MediaSide::Caller,
            cseq: request.cseq().ok()?.number,
            source: inbound.source.flow.remote().0.ip(),
            is_behind_nat: nat::is_behind_nat(request, &inbound.source),
        })
    }

    /// The same of a response that goes upstream.
    pub(super) fn ask_of_response(
        &self,
        (key, context): (ServerKey, &ResponseContext),
        (index, client): (usize, ClientKey),
        source: &Source,
        response: &Message<'_>,
    ) -> Option<MediaAsk> {
        let inbound = &context.inbound;
        let branch = context.branches.get(index)?;
        let address = source.flow.remote().0.ip();
        if branch.media != MediaWay::Relayed {
            inbound.routed.token.as_ref()?.anchor?;
            let request = inbound.message().filter(|request| is_of_media(request.method()))?;
            return Anchored::of(&self.keyring, inbound, &request)?.ask(
                &self.keyring,
                &request,
                (address, true),
            );
        }
        let request = inbound.message()?;
        let (call_id, caller) = (request.call_id().ok()?, request.from_tag()?);
        let tag = media_tag(&self.keyring, response.to_tag().unwrap_or_default());
        let anchor = Anchor::of(key, &inbound.settings.listeners, source.flow.listener());
        Some(MediaAsk {
            session: SessionName::of(&self.keyring.transaction, call_id, anchor),
            call: CallName::of(&self.keyring.transaction, call_id, caller),
            within: MediaWithin::Fork(client, tag),
            from: MediaSide::Callee,
            cseq: request.cseq().ok()?.number,
            source: address,
            is_behind_nat: branch.aim.standing == Standing::BehindNat
                || nat::names_unreachable_media(response, address),
        })
    }

    /// Lets the responses to `key` in `out` pass the relay that the caller of this has just put there.
    pub(super) fn relay_responses(
        &self,
        key: ServerKey,
        ask: Option<MediaAsk>,
        statuses: impl Fn(Status) -> bool,
        out: &mut [Output],
    ) {
        let Some(ask) = ask else { return };
        for output in out {
            if matches!(output, Output::Respond { key: of, status, .. } if *of == key && statuses(*status)) {
                let message = std::mem::replace(output, Output::Drop { key });
                *output = passing(Some(ask), message);
            }
        }
    }

    /// The best response to a request within a dialog is no success: what the request proposed counts for nothing.
    pub(super) fn relay_refusal(&self, key: ServerKey, inbound: &Inbound, out: &mut [Output]) {
        if inbound.routed.token.as_ref().is_none_or(|token| token.anchor.is_none()) {
            return;
        }
        let Some(request) = inbound.message().filter(|request| is_of_media(request.method())) else { return };
        let source = inbound.source.flow.remote().0.ip();
        let ask = Anchored::of(&self.keyring, inbound, &request)
            .and_then(|anchored| anchored.ask(&self.keyring, &request, (source, true)));
        self.relay_responses(key, ask, |_| true, out);
    }

    /// A BYE passes: the media of its dialog end.
    pub(super) fn media_hung_up(&self, inbound: &Inbound, bye: &Message<'_>, out: &mut Vec<Output>) {
        let Some(anchored) = Anchored::of(&self.keyring, inbound, bye) else { return };
        let Ok(call_id) = bye.call_id() else { return };
        let (caller, callee) = anchored.tags(bye);
        let call = CallName::of(&self.keyring.transaction, call_id, caller);
        out.push(Output::MediaOver(MediaEnd::Dialog(call, media_tag(&self.keyring, callee))));
    }

    /// A dialog is over without a BYE that passed.
    pub(super) fn media_ended(&self, call: CallName, callee_tag: &[u8], out: &mut Vec<Output>) {
        if !self.settings.relay.is_off() {
            out.push(Output::MediaOver(MediaEnd::Dialog(call, media_tag(&self.keyring, callee_tag))));
        }
    }

    /// The relay lets a request not go on, which has not left.
    pub fn handle_media_refused(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        client: ClientKey,
        refusal: MediaRefusal,
        out: &mut Vec<Output>,
    ) {
        let Some((key, index)) = self.by_client.remove(&client) else { return };
        let Some(mut context) = self.contexts.remove(&key) else { return };
        if context.branches.get(index).is_some_and(|branch| branch.client == Some(client)) {
            let status = match refusal {
                MediaRefusal::NoPorts => {
                    context.has_no_ports = true;
                    Status::SERVICE_UNAVAILABLE
                }
                MediaRefusal::NotAcceptable => Status::NOT_ACCEPTABLE_HERE,
            };
            self.counts.add(Count::MediaRefused);
            // It says nothing of the gateway.
            context.branches[index].untold = None;
            branches::end(&mut context, index, status);
        }
        self.settle(now, key, context, out);
    }

    /// A request that was not wanted any more ([`Output::Withdraw`]) has not left, and will not.
    pub fn handle_withdrawn(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        client: ClientKey,
        out: &mut Vec<Output>,
    ) {
        let Some((key, index)) = self.by_client.remove(&client) else { return };
        let Some(mut context) = self.contexts.remove(&key) else { return };
        let branch = context.branches.get_mut(index).filter(|branch| branch.client == Some(client));
        if let Some(branch) = branch
            && let BranchState::Sent(Sent { phase: Phase::CancelWanted(cause), .. }) = branch.state
        {
            // It says nothing of the gateway.
            branch.untold = None;
            branches::end(&mut context, index, cause.outcome());
        }
        self.settle(now, key, context, out);
    }

    /// Another node had a request to send that waited for its relay: it is asked about again here. Whether there is such
    /// a request.
    pub fn send_again(&mut self, client: ClientKey, out: &mut Vec<Output>) -> bool {
        let Some(&(key, index)) = self.by_client.get(&client) else { return false };
        let Some(context) = self.contexts.get(&key) else { return false };
        let branch = context.branches.get(index).filter(|branch| branch.client == Some(client));
        let Some(branch) = branch else { return false };
        let BranchState::Sent(Sent { request, to, phase: Phase::Calling, .. }) = &branch.state else {
            return false;
        };
        let (request, to) = (request.clone(), *to);
        let came = context.inbound.message();
        let ask =
            came.and_then(|came| self.ask_of_request((key, &context.inbound), &came, branch, (client, &to)));
        let forward = Output::Forward { key: client, kind: Kind::Invite, of: Some(key), to, request };
        let is_asked = ask.is_some();
        out.extend(ask.map(|ask| passing(Some(ask), forward)));
        is_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_rule_of_both_listeners_holds() {
        let listeners = BTreeMap::from([(ListenerId(1), Anchoring::Always)]);
        let rules = RelayRules { default: Anchoring::Nat, listeners, named: false };

        assert_eq!(rules.of(ListenerId(0)).max(rules.of(ListenerId(1))), Anchoring::Always);
        assert!(!rules.is_off());
        assert!(RelayRules::default().is_off());
        assert!(!RelayRules { named: true, ..RelayRules::default() }.is_off());
    }
}
