//! An edge in front of another registrar: phones register through this server at a registrar behind it
//! (RFC 3327, RFC 5626 §5).
//!
//! What is for the domain of an edge, or from it and for no domain of ours, goes to the registrar. Nobody is
//! challenged here: the registrar asks for digest and judges, and its 401 and 407 pass. A REGISTER gets our Path with
//! a sealed token that names the flow it came by, so that the registrar's requests find back to the phone. When the
//! registrar accepts, the account's partition is told: it keeps the NAT open and knows the present flow of a phone
//! that moves in mid-call; it never decides over the registration.
//!
//! Invariant: a request leaves by a flow token only if it came from the registrar of the token's edge or a trusted
//! peer, and only to the flow that the token names.

use bytes::Bytes;
use clock::Now;
use sip::{Contacts as ContactValues, Editor, Host, Message, Method, Name, NameAddr, SipUri, Status, Uri};
use transport::{ListenerId, Listeners, Transport};

use super::aim::{Aim, Hop, Size};
use super::dialog_token::{BindingName, Side, Standing, instance_hash};
use super::flow_token::{CONTACT_BYTES_MAX, EdgeMark, FlowToken};
use super::inbound::{Inbound, Sender, Turn};
use super::lead::Plan;
use super::listener_mark::ListenerMark;
use super::own::{self, is_own};
use super::record_route::{contact_instance, way};
use super::reply::Reply;
use super::round::Round;
use super::suspended::Stage;
use super::user::TransactionUser;
use super::{Output, nat, register, target, validation};
use crate::bans::Deed;
use crate::{Authority, Contacts, Count, Edge, EdgeContact, Keyring, Question, Settings};

/// The edge whose registrar a request is for: by its Request-URI, or by its From where the Request-URI is no domain of
/// ours. A Route that is left must lead to that registrar.
pub(super) fn of<'i>(inbound: &'i Inbound, request: &Message<'_>) -> Option<&'i Edge> {
    let settings = &inbound.settings;
    if settings.edges.is_empty() {
        return None;
    }
    let source = inbound.source.flow.remote().0.ip();
    // What comes from the registrar itself does not go back to it.
    let not_back = |edge: &&Edge| edge.address() != Some(source.to_canonical());
    let named = Uri::parse(&inbound.routed.request_uri).ok();
    let named = named.as_ref().and_then(|uri| uri.as_sip());
    let to = named.and_then(|uri| settings.edge(&uri.host)).filter(not_back);
    let from = || {
        let from = request.from().ok()?;
        settings.edge(&SipUri::parse(from.uri).ok()?.host).filter(not_back)
    };
    if let Some(next) = &inbound.routed.next {
        // RFC 3608 §6.1: what the phone was told as Service-Route stands as Route in its requests.
        return [to, from()].into_iter().flatten().find(|edge| leads_to_registrar(edge, next));
    }
    match (to, named) {
        // This server's own address may be an edge's domain. Without a user this server is meant, another port is
        // somebody else.
        (Some(edge), Some(uri)) => {
            let is_for_ourselves = uri.user.is_none()
                && request.method() != Some(Method::Register)
                && settings.listeners.has_host(&uri.host);
            let is_elsewhere =
                uri.port.is_some() && settings.listeners.has_host(&uri.host) && !is_own(settings, uri);
            (!is_for_ourselves && !is_elsewhere).then_some(edge)
        }
        (_, Some(uri)) if is_own(settings, uri) => None,
        _ if settings.trusted_peer(source).is_some() => None,
        _ => from(),
    }
}

/// Whether a request within a dialog goes to the registrar of an edge, which judges it.
pub(super) fn is_towards_registrar(inbound: &Inbound) -> bool {
    let next = inbound.routed.next.as_ref().unwrap_or(&inbound.routed.request_uri);
    inbound.settings.edges.iter().any(|edge| leads_to_registrar(edge, next))
}

fn leads_to_registrar(edge: &Edge, uri: &[u8]) -> bool {
    let (Ok(registrar), Ok(uri)) = (SipUri::parse(edge.to.as_bytes()), SipUri::parse(uri)) else {
        return false;
    };
    let port = |uri: &SipUri<'_>| uri.port.unwrap_or(Transport::Udp.default_port());
    registrar.host == uri.host && port(&registrar) == port(&uri) && uri.maddr().is_none()
}

/// What the registrar's final response says of who sent the request: it judges in our place.
pub(super) fn judged(inbound: &Inbound, status: Status) -> Option<Deed> {
    match status {
        _ if inbound.sender != Some(Sender::ToRegistrar) => None,
        status if status.is_success() => Some(Deed::Authenticated),
        Status::UNAUTHORIZED
        | Status::PROXY_AUTHENTICATION_REQUIRED
        | Status::FORBIDDEN
        | Status::NOT_FOUND => Some(Deed::Unproven),
        _ => None,
    }
}

impl TransactionUser {
    /// A request for the registrar of an edge, or by its rules for somebody else.
    pub(super) fn receive_for_registrar(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        out: &mut Vec<Output>,
    ) {
        let Some(edge) = of(&inbound, turn.request) else { return };
        if let Err(reply) = validation::check_forwarding(turn.request, &inbound.checked) {
            return self.refuse_stateless(turn, &reply, out);
        }
        if turn.request.method() == Some(Method::Register) && !can_be_rewritten(edge, turn.request) {
            return self.refuse_stateless(turn, &Reply::new(Status::BAD_REQUEST).because("Bad Contact"), out);
        }
        let mut aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Counts);
        aim.listener = edge.listener(&inbound.settings.listeners);
        if inbound.routed.next.is_none() {
            aim.hops.clear();
            aim.hops.push_back(Hop::Server(Bytes::copy_from_slice(edge.to.as_bytes()), size(edge)));
        }
        inbound.sender = Some(Sender::ToRegistrar);
        self.trying(turn, &inbound, out);
        self.begin(turn, inbound, Plan::of(vec![Round::at_server(aim)]), out);
    }

    /// A request with the token of a flow: from a registrar behind this edge to a phone.
    pub(super) fn receive_by_flow(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        token: FlowToken,
        out: &mut Vec<Output>,
    ) {
        if !may_use(&self.keyring, &inbound, &token) {
            self.counts.add(Count::FlowRefused);
            return self.refuse_stateless(turn, &Reply::new(Status::FORBIDDEN), out);
        }
        if let Err(reply) = validation::check_forwarding(turn.request, &inbound.checked) {
            return self.refuse_stateless(turn, &reply, out);
        }
        inbound.sender = Some(Sender::ByFlow);
        self.trying(turn, &inbound, out);
        let aim = flow_aim(&self.keyring, &inbound, &token);
        self.begin(turn, inbound, Plan::of(vec![Round::at_server(aim)]), out);
    }

    /// Tells the partition of the account what the registrar has accepted. `response` is as the phone gets it.
    pub(super) fn note_registration(
        &mut self,
        now: Now,
        inbound: &Inbound,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let Some(request) = inbound.message() else { return };
        let Some(aor) = register::aor(&request) else { return };
        let Ok(mut wish) =
            register::wish(&inbound.settings, &self.keyring, &request, inbound.source, aor.clone())
        else {
            return;
        };
        wish.authority = Authority::Elsewhere;
        match &mut wish.contacts {
            Contacts::Query => return,
            Contacts::RemoveAll => {}
            Contacts::Update(updates) => {
                for update in updates {
                    if update.expires.or(wish.expires) != Some(0) {
                        update.expires = Some(granted(response, &update.uri));
                    }
                }
            }
        }
        if !self.waiting.has_room() {
            self.counts.add(Count::Full);
            return;
        }
        let token = self.suspend(now, Stage::Noted);
        out.push(Output::Ask { partition_of: aor, token, question: Question::Register(Box::new(wish)) });
    }
}

/// What a REGISTER gets on its way to the registrar, which it leaves for by `leaves_by`.
pub(super) fn edit_registration(
    keyring: &Keyring,
    editor: &mut Editor<'_, '_>,
    request: &Message<'_>,
    inbound: &Inbound,
    leaves_by: ListenerId,
) {
    let Some(edge) = of(inbound, request) else { return };
    let listeners = &inbound.settings.listeners;
    let mut token = FlowToken {
        edge: EdgeMark::of(keyring, edge),
        phone: phone(keyring, inbound, request),
        contact: None,
    };
    match edge.contact {
        EdgeContact::Keep => {
            // RFC 5626 §5.1: `ob` tells the registrar that this is a flow, if the phone is next to us.
            let is_first_hop = request.values(Name::Via).nth(1).is_none();
            let params = if is_first_hop { ";lr;ob" } else { ";lr" };
            let uri = uri(keyring, listeners, leaves_by, &token);
            editor.prepend(Name::Path, &[b"<", &uri[..], params.as_bytes(), b">"].concat());
            // Deviation: RFC 3327 §5.2 adds a Path only if the phone supports it. Hardly any does, and none has to:
            // what comes back by the Path is the same for it.
            if !request.values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case(b"path")) {
                editor.append(Name::Supported, b"path");
            }
        }
        EdgeContact::Rewrite => {
            let Ok(ContactValues::List(contacts)) = request.contacts() else { return };
            let values: Vec<Vec<u8>> = contacts
                .map(|contact| {
                    token.contact = Some(Bytes::copy_from_slice(contact.uri));
                    let uri = uri(keyring, listeners, leaves_by, &token);
                    [b"<", &uri[..], b">", contact.params.as_bytes()].concat()
                })
                .collect();
            if !values.is_empty() {
                editor.set(Name::Contact, &values.join(&b", "[..]));
            }
        }
    }
}

/// The registrar's answer to a REGISTER with the phone's own Contacts where they were rewritten.
pub(super) fn restore_contacts(keyring: &Keyring, response: &Bytes) -> Bytes {
    let Ok(message) = Message::parse(response) else { return response.clone() };
    let Ok(ContactValues::List(contacts)) = message.contacts() else { return response.clone() };
    let mut has_changed = false;
    let values: Vec<Vec<u8>> = contacts
        .map(|contact| {
            let own = SipUri::parse(contact.uri).ok().and_then(|uri| FlowToken::read(keyring, uri.user?));
            let own = own.and_then(|token| token.contact);
            has_changed |= own.is_some();
            [b"<", own.as_deref().unwrap_or(contact.uri), b">", contact.params.as_bytes()].concat()
        })
        .collect();
    if !has_changed {
        return response.clone();
    }
    let mut editor = Editor::new(&message);
    editor.set(Name::Contact, &values.join(&b", "[..]));
    let mut bytes = Vec::with_capacity(response.len());
    editor.write(&mut bytes);
    Bytes::from(bytes)
}

// RFC 3261 §18.1.1: a large request goes by TCP, unless the operator said how the registrar is spoken to.
fn size(edge: &Edge) -> Size {
    match SipUri::parse(edge.to.as_bytes()) {
        Ok(uri) if uri.transport().is_some() => Size::Ignored,
        _ => Size::Counts,
    }
}

fn can_be_rewritten(edge: &Edge, request: &Message<'_>) -> bool {
    match (edge.contact, request.contacts()) {
        (EdgeContact::Keep, _) | (EdgeContact::Rewrite, Ok(ContactValues::Star)) => true,
        (EdgeContact::Rewrite, Ok(ContactValues::List(mut contacts))) => {
            contacts.all(|contact| contact.uri.len() <= CONTACT_BYTES_MAX)
        }
        (EdgeContact::Rewrite, Err(_)) => false,
    }
}

fn may_use(keyring: &Keyring, inbound: &Inbound, token: &FlowToken) -> bool {
    let settings: &Settings = &inbound.settings;
    let source = inbound.source.flow.remote().0.ip().to_canonical();
    if token.edge == EdgeMark::beside(keyring) {
        return settings.is_location_published && settings.trusted_peer(source).is_some();
    }
    let edge = settings.edges.iter().find(|edge| EdgeMark::of(keyring, edge) == token.edge);
    edge.is_some_and(|edge| edge.address() == Some(source) || settings.trusted_peer(source).is_some())
}

fn flow_aim(keyring: &Keyring, inbound: &Inbound, token: &FlowToken) -> Aim {
    let listener = token.phone.listener.find(&keyring.branch, &inbound.settings.listeners);
    let mut aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Ignored);
    aim.hops.clear();
    aim.listener = listener;
    aim.standing = token.phone.standing;
    aim.binding = token.phone.binding.clone();
    // RFC 5626 §5.3.1: the flow is gone, and with it the only way.
    aim.unreachable = Status::FLOW_FAILED;
    if let Some(Hop::Flow(flow)) = target::token_hop(inbound, &token.phone, listener) {
        aim.flow = Some(flow);
        aim.hops.push_back(Hop::Flow(flow));
    }
    aim
}

/// The phone that sent a REGISTER.
fn phone(keyring: &Keyring, inbound: &Inbound, request: &Message<'_>) -> Side {
    let flow = inbound.source.flow;
    let is_nat = nat::is_behind_nat(request, &inbound.source);
    Side {
        account: None,
        listener: ListenerMark::of_id(&keyring.branch, &inbound.settings.listeners, flow.listener()),
        way: way(&flow),
        standing: if is_nat { Standing::BehindNat } else { Standing::Plain },
        binding: register::aor(request).map(|aor| BindingName {
            aor,
            instance: contact_instance(request).map(|it| instance_hash(keyring, it)),
        }),
    }
}

/// `sip:TOKEN@us`, where `us` is the listener that the registrar sees.
fn uri(keyring: &Keyring, listeners: &Listeners, leaves_by: ListenerId, token: &FlowToken) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    token.write(keyring, &mut text);
    let mut uri = Vec::with_capacity(text.len() + 48);
    own::write_uri(listeners, leaves_by, &text, &mut uri);
    uri
}

/// How many seconds a registrar gave a Contact. One that shows it in another form is believed for the shortest time
/// that it gave any.
fn granted(response: &Message<'_>, contact: &[u8]) -> u32 {
    let otherwise = response.expires().unwrap_or_default();
    let Ok(ContactValues::List(list)) = response.contacts() else { return otherwise };
    let wanted = Uri::parse(contact).ok();
    let is_it = |shown: &NameAddr<'_>| {
        shown.uri == contact
            || matches!((&wanted, shown.uri()), (Some(wanted), Ok(shown)) if wanted.equivalent(&shown))
    };
    let all: Vec<NameAddr<'_>> = list.collect();
    let lasts = |shown: &NameAddr<'_>| shown.expires().unwrap_or(otherwise);
    match all.iter().find(|shown| is_it(shown)) {
        Some(shown) => lasts(shown),
        None => all.iter().map(lasts).min().unwrap_or(otherwise),
    }
}

/// Whether a host is the domain of an edge, whose credentials are for the registrar.
pub(super) fn is_domain(settings: &Settings, host: &Host<'_>) -> bool {
    !settings.edges.is_empty() && settings.edge(host).is_some()
}
