//! RFC 3261 §16.4: what Route and Request-URI say of the way, once what is ours is taken off.

use bytes::Bytes;
use sip::{Aor, Message, Name, NameAddr, SipUri, Uri};

use super::dialog_token::DialogToken;
use super::flow_token::FlowToken;
use super::own::{is_own, is_own_route};
use crate::gruu::{self, Gruu};
use crate::{Keyring, Question, Settings};

/// The way of a request, as its sender wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routed {
    /// The Request-URI to go on with.
    pub(super) request_uri: Bytes,
    /// Route values at the top that were ours; they are taken off.
    pub(super) popped: Vec<Bytes>,
    /// Whether the last Route value became the Request-URI: it is taken off.
    pub(super) was_strict: bool,
    /// The URI of the first Route value that is left.
    pub(super) next: Option<Bytes>,
    /// Our token for this Call-ID, if what was ours had one.
    pub(super) token: Option<DialogToken>,
    /// The flow that a Route or the Request-URI names by a token of ours.
    pub(super) flow: Option<FlowToken>,
    /// What the Request-URI means if it is a GRUU of ours.
    pub(super) gruu: Option<Gruu>,
}

impl Routed {
    /// The question where `aor` is: all of it, or the one phone that the Request-URI means.
    pub(super) fn where_is(&self, aor: Aor) -> Question {
        match &self.gruu {
            Some(Gruu::Of(_, phone)) => Question::LocatePhone(aor, phone.clone()),
            _ => Question::Locate(aor),
        }
    }
}

/// Reads the way. `bytes` are those of `request`.
pub(super) fn read(settings: &Settings, keyring: &Keyring, bytes: &Bytes, request: &Message<'_>) -> Routed {
    let call_id = request.call_id().unwrap_or_default();
    let token = |user: Option<&[u8]>| DialogToken::read(keyring, call_id, user?);

    let received_uri = request.request_uri().unwrap_or_default();
    let mut routes: Vec<&[u8]> = request.values(Name::Route).collect();
    let mut routed = Routed {
        request_uri: bytes.slice_ref(received_uri),
        popped: Vec::new(),
        was_strict: false,
        next: None,
        token: None,
        flow: None,
        gruu: None,
    };

    // RFC 3261 §16.4: a strict router before us has put our Record-Route into the Request-URI, and the target last.
    if let Some(user) = own_user(settings, received_uri)
        && let Some(found) = token(user)
        && let Some(target) = routes.last().and_then(|value| NameAddr::parse(value).ok())
    {
        routed.request_uri = bytes.slice_ref(target.uri);
        routed.was_strict = true;
        routed.token = Some(found);
        routes.pop();
    } else if let Some(found) = contact_token(settings, keyring, received_uri) {
        // The Contact that a registrar was told instead of the phone's own.
        routed.request_uri = found.contact.clone().unwrap_or_default();
        routed.flow = Some(found);
    } else if let Some(stripped) = without_own_maddr(settings, received_uri) {
        routed.request_uri = stripped;
    }

    // RFC 3261 §16.4: the top Route that names us is taken off. RFC 5658 §4: where we recorded two, both are.
    let mut routes = routes.into_iter().peekable();
    let mut first: Option<Option<&[u8]>> = None;
    while let Some(value) = routes.peek()
        && let Ok(address) = NameAddr::parse(value)
        && let Some(user) = own_user(settings, address.uri)
        && first.is_none_or(|first| first == user || first.is_none())
    {
        // One without a user says no more than that the way leads by this server.
        if first.is_none_or(|first| first != user) {
            routed.token = token(user).or(routed.token.take());
            routed.flow = routed.flow.or_else(|| flow_token(settings, keyring, user));
            first = Some(user);
        }
        routed.popped.push(bytes.slice_ref(value));
        routes.next();
    }
    routed.next = routes
        .next()
        .and_then(|value| NameAddr::parse(value).ok())
        .map(|address| bytes.slice_ref(address.uri));
    routed.gruu = gruu_of(settings, keyring, &routed.request_uri);
    routed
}

fn gruu_of(settings: &Settings, keyring: &Keyring, uri: &[u8]) -> Option<Gruu> {
    // Hardly any URI has the parameter, and most need not be read for that.
    if !uri.windows(3).any(|window| window.eq_ignore_ascii_case(b";gr")) {
        return None;
    }
    match Uri::parse(uri) {
        Ok(Uri::Sip(uri)) if is_own(settings, &uri) => gruu::read(&keyring.gruu, &uri),
        _ => None,
    }
}

fn flow_token(settings: &Settings, keyring: &Keyring, user: Option<&[u8]>) -> Option<FlowToken> {
    let has_made_some = !settings.edges.is_empty() || settings.is_location_published;
    if has_made_some { FlowToken::read(keyring, user?) } else { None }
}

/// The token in a Request-URI that stands for a phone's Contact.
fn contact_token(settings: &Settings, keyring: &Keyring, uri: &[u8]) -> Option<FlowToken> {
    if settings.edges.is_empty() {
        return None;
    }
    flow_token(settings, keyring, own_user(settings, uri)?).filter(|token| token.contact.is_some())
}

/// The user of a URI that leads to this server; `None` for a URI that leads elsewhere.
fn own_user<'a>(settings: &Settings, uri: &'a [u8]) -> Option<Option<&'a [u8]>> {
    match Uri::parse(uri) {
        Ok(Uri::Sip(uri)) if is_own_route(settings, &uri) => Some(uri.user),
        _ => None,
    }
}

// RFC 3261 §16.4: a maddr that is ours has served its purpose; it goes, and port and transport with it.
fn without_own_maddr(settings: &Settings, uri: &[u8]) -> Option<Bytes> {
    let Ok(Uri::Sip(uri)) = Uri::parse(uri) else { return None };
    let maddr = uri.maddr()?;
    if !settings.is_own_domain(&maddr) {
        return None;
    }
    Some(Bytes::from(rewritten(&uri)))
}

fn rewritten(uri: &SipUri<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(uri.as_bytes().len());
    out.extend_from_slice(b"sip:");
    if let Some(user) = uri.user {
        out.extend_from_slice(user);
        if let Some(password) = uri.password {
            out.push(b':');
            out.extend_from_slice(password);
        }
        out.push(b'@');
    }
    uri.host.write_to(&mut out);
    for (name, value) in uri.params.iter() {
        if name.eq_ignore_ascii_case(b"maddr") || name.eq_ignore_ascii_case(b"transport") {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    out
}
