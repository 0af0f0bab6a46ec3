//! RFC 3261 §16.6: the copy of a request that goes on, and the copy of a response that goes back.

use bytes::Bytes;
use sip::limits::{HEADERS_MAX, MESSAGE_BYTES_MAX};
use sip::{Editor, Message, Method, Name, NameAddr, SipUri, Status};
use transport::{Destination, Transport};

use super::aim::Aim;
use super::branch::{Below, Branch};
use super::inbound::{Inbound, Sender, makes_dialog};
use super::listener_mark::ListenerMark;
use super::{admission, diversion, edge, mask, own_request, record_route, session};
use crate::session_name::Anchor;
use crate::{Keyring, Settings, Trunk, trunk};

/// RFC 3261 §16.6 item 3: what a request gets that has no Max-Forwards.
const MAX_FORWARDS: u32 = 70;

/// Header lines that a request may get: Via, two Record-Route, Max-Forwards, Max-Breadth, Content-Length,
/// P-Asserted-Identity; one Route for each Path value and one Diversion for each forwarding are added to this.
const ADDED_LINES_MAX: usize = 7;

/// A request that is ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// The whole request.
    pub(super) bytes: Bytes,
    /// The branch of its Via.
    pub(super) branch: Vec<u8>,
}

/// One attempt to forward a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    /// The request.
    pub(super) inbound: &'a Inbound,
    /// What it aims at.
    pub(super) aim: &'a Aim,
    /// Where it goes.
    pub(super) to: Destination,
    /// The listener's transport.
    pub(super) transport: Transport,
    /// Counts the rounds of one request: the same target may be tried again in a later one.
    pub(super) round: u8,
    /// Counts the attempts of one aim.
    pub(super) number: u8,
    /// RFC 5393 §5.3: how many branches the copy may have.
    pub(super) breadth: u32,
    /// What proves to a carrier that we are its customer.
    pub(super) credentials: &'a [(Name, Vec<u8>)],
    /// The media session, if it is the first request of a dialog whose media pass the relay.
    pub(super) anchor: Option<Anchor>,
}

/// Makes the copy of a request. `request` is the framed form of the attempt's request.
pub(super) fn request(keyring: &Keyring, request: &Message<'_>, attempt: &Attempt<'_>) -> Option<Forwarded> {
    let Attempt { inbound, aim, to, .. } = *attempt;
    let settings = &inbound.settings;
    let method = request.method()?;
    let mut editor = Editor::new(request);

    // RFC 3261 §16.6 item 3: one hop less.
    let max_forwards = inbound.checked.max_forwards.map_or(MAX_FORWARDS, |left| left.saturating_sub(1));
    editor.set(Name::MaxForwards, max_forwards.to_string().as_bytes());
    // RFC 5393 §5.3.3: each branch is told its share. An ACK has no branches.
    let own = own_request::trunk(inbound);
    let is_own = own_request::is_own(inbound);
    if method != Method::Ack && !is_own {
        editor.set(Name::MaxBreadth, attempt.breadth.to_string().as_bytes());
    }
    for value in record_routes(keyring, request, method, attempt) {
        editor.prepend(Name::RecordRoute, &value);
    }
    for value in diversion::values(inbound) {
        editor.prepend(Name::Diversion, &value);
    }
    edit_route(&mut editor, request, inbound, aim);
    remove_own_credentials(&mut editor, request, inbound);
    match &aim.leg {
        Some(leg) => leg.edit(&mut editor, request, inbound),
        None => edit_identity(&mut editor, request, inbound, &to),
    }
    edit_mask(&mut editor, keyring, request, inbound);
    session::edit_request(&mut editor, request, inbound);
    if method == Method::Register && inbound.sender == Some(Sender::ToRegistrar) {
        edge::edit_registration(keyring, &mut editor, request, inbound, to.listener());
    }
    for (name, value) in attempt.credentials {
        editor.append(*name, value);
    }
    if aim.cseq_shift > 0 {
        edit_cseq(&mut editor, request, aim.cseq_shift);
    }
    // RFC 3261 §20.14: a stream needs Content-Length.
    if to.is_reliable() {
        editor.ensure_content_length();
    }

    // RFC 3261 §16.6 item 8: a Via of ours, whose branch tells loops from spirals.
    let top = request.top_via().ok()?;
    let below = Below { via: &top, method, call_id: request.call_id().ok()? };
    let branch = Branch {
        attempt: attempt.number,
        target: target_hash(keyring, attempt),
        listener: ListenerMark::of_id(&keyring.branch, &settings.listeners, inbound.source.flow.listener()),
        loop_hash: inbound.checked.loop_hash,
    };
    let mut text = Vec::with_capacity(48);
    branch.write(&keyring.branch, &below, &mut text);
    let sent_by = settings.listeners.sent_by(to.listener())?;
    let mut via = Vec::with_capacity(128);
    via.extend_from_slice(b"SIP/2.0/");
    via.extend_from_slice(attempt.transport.via_name().as_bytes());
    via.push(b' ');
    via.extend_from_slice(sent_by.as_bytes());
    if is_own {
        editor.remove_first(Name::Via);
        if let Some(trunk) = own {
            edit_own(&mut editor, settings, trunk, &to);
        }
        // RFC 3581 §3: a request of our own may have to pass a NAT of ours.
        via.extend_from_slice(b";rport");
    }
    via.extend_from_slice(b";branch=");
    via.extend_from_slice(&text);
    editor.prepend(Name::Via, &via);

    let mut bytes = Vec::with_capacity(request.bytes().len() + 512);
    editor.write(&mut bytes);
    // What this proxy adds may be too much: nobody could read it, and no CANCEL or ACK of it could be made.
    let added = ADDED_LINES_MAX + session::ADDED_LINES_MAX + aim.added_lines() + inbound.diversions.len();
    let has_room = request.headers().len() + added <= HEADERS_MAX && bytes.len() <= MESSAGE_BYTES_MAX;
    // A copy without spare room: a transaction keeps it for half a minute.
    has_room.then(|| Forwarded { bytes: Bytes::copy_from_slice(&bytes), branch: text })
}

/// What a request of our own gets only when it leaves.
fn edit_own(editor: &mut Editor<'_, '_>, settings: &Settings, trunk: &Trunk, to: &Destination) {
    if let (Some(registration), Some(listener)) = (&trunk.registration, settings.listeners.get(to.listener()))
    {
        editor.append(Name::Contact, &trunk::contact(registration, listener));
    }
}

/// The number of a request that was challenged and is sent again, and of those that follow in its dialog.
// RFC 3261 §22.2: credentials make it another request, whose CSeq is one higher.
fn edit_cseq(editor: &mut Editor<'_, '_>, request: &Message<'_>, shift: u8) {
    let Ok(cseq) = request.cseq() else { return };
    let number = shifted(cseq.number, shift).to_string();
    editor.set(Name::CSeq, &[number.as_bytes(), b" ", cseq.method.as_bytes()].concat());
    // RFC 3262 §7.2: it repeats the number of the INVITE whose response is acknowledged.
    let words: Vec<&[u8]> = request
        .header(Name::Rack)
        .unwrap_or_default()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .collect();
    if let [response, number, method] = words[..]
        && let Some(number) = str::from_utf8(number).ok().and_then(|number| number.parse().ok())
    {
        let number = shifted(number, shift).to_string();
        editor.set(Name::Rack, &[response, number.as_bytes(), method].join(&b" "[..]));
    }
}

// RFC 3261 §8.1.1.5: less than 2^31. A number that can not grow stays.
fn shifted(number: u32, shift: u8) -> u32 {
    number.checked_add(shift.into()).filter(|number| *number < 1 << 31).unwrap_or(number)
}

/// The Request-URI that a request leaves with: digest hashes it.
pub(super) fn leaving_uri<'a>(inbound: &'a Inbound, aim: &'a Aim) -> &'a [u8] {
    let next = next_uri(inbound, aim);
    let is_strict = next != &aim.request_uri[..] && SipUri::parse(next).is_ok_and(|uri| !uri.lr());
    without_headers(if is_strict { next } else { &aim.request_uri })
}

/// Where the next hop of a request is named: in the first Route that is left, else in the Request-URI.
// RFC 3261 §16.6 item 7: the first Route, if there is one.
pub(super) fn next_uri<'a>(inbound: &'a Inbound, aim: &'a Aim) -> &'a [u8] {
    let path = aim.path.first().and_then(|value| NameAddr::parse(value).ok()).map(|address| address.uri);
    path.or(inbound.routed.next.as_deref()).unwrap_or(&aim.request_uri)
}

/// Makes the copy of a response that goes back to the sender of the request.
///
/// `is_believed` says whether the response came from a trusted peer, `is_masked` whether the request left with another
/// From.
pub(super) fn response(
    inbound: &Inbound,
    response: &Message<'_>,
    is_believed: bool,
    is_masked: bool,
) -> Bytes {
    let request = inbound.message();
    let mut editor = Editor::new(response);
    let token_masks = inbound.routed.token.as_ref().is_some_and(|token| token.mask.is_some());
    if let Some(request) = request.as_ref().filter(|_| is_masked || token_masks) {
        mask::restore(&mut editor, request);
    }
    // RFC 3261 §16.7 item 3: the top Via is ours.
    editor.remove_first(Name::Via);
    restore_cseq(&mut editor, inbound, response);
    session::edit_response(&mut editor, inbound, response);
    let is_private = asks_for_privacy(response) && !inbound.is_trusted();
    // RFC 3325 §5: an identity is worth what its sender is worth.
    if !is_believed || is_private {
        editor.remove(Name::PAssertedIdentity);
    }
    if inbound.source.flow.is_reliable() {
        editor.ensure_content_length();
    }
    let mut bytes = Vec::with_capacity(response.bytes().len());
    editor.write(&mut bytes);
    Bytes::copy_from_slice(&bytes)
}

/// Upstream the number in CSeq is that of the request as it came.
fn restore_cseq(editor: &mut Editor<'_, '_>, inbound: &Inbound, response: &Message<'_>) {
    let request = inbound.message();
    let sent = request.as_ref().and_then(|request| Some((request.header(Name::CSeq)?, request.cseq().ok()?)));
    if let (Some((value, sent)), Ok(came)) = (sent, response.cseq())
        && sent.number != came.number
    {
        editor.set(Name::CSeq, value);
    }
}

/// The same response with the challenges of the other branches.
// RFC 3261 §16.7 item 7: the client answers all of them at once.
pub(super) fn with_challenges(response: &Bytes, challenges: &[(Name, Vec<u8>)]) -> Bytes {
    let Ok(message) = Message::parse(response) else { return response.clone() };
    let mut editor = Editor::new(&message);
    for (name, value) in challenges {
        if !message.lines(*name).any(|line| line == value.as_slice()) {
            editor.append(*name, value);
        }
    }
    let mut bytes = Vec::with_capacity(response.len() + 256);
    editor.write(&mut bytes);
    Bytes::from(bytes)
}

/// The challenges of a response, to be merged.
pub(super) fn challenges(response: &Message<'_>) -> Vec<(Name, Vec<u8>)> {
    let is_challenge =
        matches!(response.status(), Some(Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED));
    if !is_challenge {
        return Vec::new();
    }
    [Name::WwwAuthenticate, Name::ProxyAuthenticate]
        .into_iter()
        .flat_map(|name| response.lines(name).map(move |line| (name, line.to_vec())))
        .collect()
}

/// What Record-Route gets, the topmost last.
fn record_routes(
    keyring: &Keyring,
    request: &Message<'_>,
    method: Method<'_>,
    attempt: &Attempt<'_>,
) -> Vec<Vec<u8>> {
    if !makes_dialog(method) {
        return Vec::new();
    }
    if request.to_tag().is_none() {
        return record_route::values(
            keyring,
            attempt.inbound,
            request,
            attempt.aim,
            (&attempt.to, attempt.anchor),
        );
    }
    // RFC 6665 §4.3: every NOTIFY is recorded; within the dialog the recipient of it is told what its peer was told.
    match method {
        Method::Notify if attempt.inbound.routed.token.is_some() => {
            attempt.inbound.routed.popped.iter().map(|value| value.to_vec()).collect()
        }
        _ => Vec::new(),
    }
}

// RFC 3261 §16.6 item 2, 4 and 6: Request-URI and Route.
fn edit_route(editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound, aim: &Aim) {
    let next = next_uri(inbound, aim);
    // RFC 3261 §16.6 item 6: a next hop that is a strict router gets its own URI as Request-URI, the target last.
    if next != &aim.request_uri[..] && SipUri::parse(next).is_ok_and(|uri| !uri.lr()) {
        write_strict_route(editor, request, inbound, aim, next);
        return;
    }
    if Some(&aim.request_uri[..]) != request.request_uri() {
        editor.request_uri(without_headers(&aim.request_uri));
    }
    for _ in &inbound.routed.popped {
        editor.remove_first(Name::Route);
    }
    if inbound.routed.was_strict {
        editor.remove_last(Name::Route);
    }
    for value in aim.path.iter().rev() {
        editor.prepend(Name::Route, value);
    }
}

/// The whole Route is written anew: the first value moves to the Request-URI, the target to the end.
fn write_strict_route(
    editor: &mut Editor<'_, '_>,
    request: &Message<'_>,
    inbound: &Inbound,
    aim: &Aim,
    next: &[u8],
) {
    let routed = &inbound.routed;
    let received: Vec<&[u8]> = request.values(Name::Route).collect();
    let end = received.len().saturating_sub(usize::from(routed.was_strict));
    let left = received.get(routed.popped.len()..end).unwrap_or_default();
    let target = [b"<", &aim.request_uri[..], b">"].concat();
    let path = aim.path.iter().map(|value| &value[..]);
    let values: Vec<&[u8]> = path.chain(left.iter().copied()).skip(1).chain([&target[..]]).collect();
    editor.request_uri(without_headers(next));
    editor.remove(Name::Route);
    editor.prepend(Name::Route, &values.join(&b", "[..]));
}

// RFC 3261 §19.1.1: a Contact and a Route may have headers, a Request-URI may not.
fn without_headers(uri: &[u8]) -> &[u8] {
    SipUri::parse(uri).map_or(uri, |uri| uri.without_headers())
}

/// A caller whose From the callee sees otherwise.
fn edit_mask(editor: &mut Editor<'_, '_>, keyring: &Keyring, request: &Message<'_>, inbound: &Inbound) {
    let Some(token) = &inbound.routed.token else { return };
    let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
    if let (Some(mask), Some(direction)) = (&token.mask, token.direction(keyring, from, to)) {
        mask.edit(editor, request, direction);
    }
}

fn remove_own_credentials(editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound) {
    // The registrar behind this edge asks for digest itself, perhaps in a realm of our name.
    if inbound.sender == Some(Sender::ToRegistrar) {
        return;
    }
    for (index, header) in request.headers().enumerate() {
        let is_own = matches!(header.name, Name::Authorization | Name::ProxyAuthorization)
            && admission::is_own_credentials(&inbound.settings, header.value);
        if is_own {
            editor.remove_line(index);
        }
    }
}

// RFC 3325 §5: what a trusted peer asserts is passed on, what others assert is taken out; what this server knows by
// digest is told to trusted peers.
fn edit_identity(editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound, to: &Destination) {
    let to_trusted = inbound.settings.is_peer(to.remote().0.ip());
    if inbound.is_trusted() {
        // RFC 3325 §7: the identity of a caller that asks for privacy is for trusted peers only.
        if asks_for_privacy(request) && !to_trusted {
            editor.remove(Name::PAssertedIdentity);
        }
        return;
    }
    let asserted = match &inbound.sender {
        Some(Sender::Account { account, .. }) if to_trusted && request.to_tag().is_none() => Some(account),
        _ => None,
    };
    if request.header(Name::PAssertedIdentity).is_some() {
        editor.remove(Name::PAssertedIdentity);
    }
    // RFC 3325 §9.2: the wish of a user is for its own proxy.
    if request.header(Name::PPreferredIdentity).is_some() && inbound.sender != Some(Sender::ToRegistrar) {
        editor.remove(Name::PPreferredIdentity);
    }
    if let Some(account) = asserted {
        editor.append(Name::PAssertedIdentity, format!("<sip:{account}>").as_bytes());
    }
}

// RFC 3323 §4.2, RFC 3325 §9.3: the privacy of an identity, among other kinds.
pub(super) fn asks_for_privacy(message: &Message<'_>) -> bool {
    message
        .lines(Name::Privacy)
        .flat_map(|line| line.split(|&byte| byte == b';' || byte == b','))
        .any(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"id"))
}

fn target_hash(keyring: &Keyring, attempt: &Attempt<'_>) -> u32 {
    let Attempt { aim, to, round, .. } = attempt;
    let mut way = Vec::with_capacity(32);
    super::layout::write_address(to.remote().0, &mut way);
    way.extend_from_slice(&to.listener().0.to_be_bytes());
    if let Destination::Flow(transport::Flow::Connection { id, .. }) = to {
        way.extend_from_slice(&id.number.to_be_bytes());
    }
    (keyring.branch.mac(&[b"target", &[*round], &aim.request_uri, &way]).short() >> 32) as u32
}
