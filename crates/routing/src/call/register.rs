//! REGISTER as the call shard sees it: what the request wants, and how the verdict of its partition is
//! said (RFC 3261 §10.3, RFC 3327, RFC 3608, RFC 5626 §6).

use bytes::Bytes;
use keys::Key;
use sip::{Aor, Credentials, Message, Name, NameAddr, SipUri, Status};
use transport::Source;

use super::inbound::Inbound;
use super::reply::Reply;
use super::target::{REGISTRAR_TAGS, SUPPORTED};
use super::validation::unsupported;
use super::{nat, own};
use crate::gruu::{self, Gruu};
use crate::{
    Authority, ContactUpdate, Contacts, Keyring, Register, RegisterRefusal, Registered, RegisteredContact,
    ServiceRoute,
};

/// RFC 5626 §4.4.1: within so many seconds a phone with a flow of its own sends a keepalive.
const FLOW_TIMER_SECONDS: &[u8] = b"120";

/// What a REGISTER wants of the address of record.
///
/// # Errors
///
/// The refusal of a request that can not be understood.
pub(super) fn wish(
    keyring: &Keyring,
    request: &Message<'_>,
    source: Source,
    aor: Aor,
) -> Result<Register, Reply> {
    // RFC 3261 §10.3 step 2: what is required and not there.
    if let Some(unsupported) = unsupported(request, Name::Require, REGISTRAR_TAGS) {
        return Err(Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, unsupported));
    }
    let has_outbound = supports(request, b"outbound");
    let path: Vec<Bytes> = request.values(Name::Path).map(Bytes::copy_from_slice).collect();
    let is_first_hop = path.is_empty() && request.values(Name::Via).nth(1).is_none();
    // RFC 3327 §5.3: a phone that does not know Path is told so, rather than led by a way that it knows nothing of.
    if !path.is_empty() && !supports(request, b"path") {
        return Err(Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, *b"path"));
    }
    let contacts = contacts(request, has_outbound)?;
    if is_own_gruu(keyring, &contacts, &aor) {
        return Err(Reply::new(Status::FORBIDDEN).because("Contact Is A GRUU"));
    }
    // RFC 5626 §6: a flow needs a first hop that keeps it: this server, or a proxy that says so in its Path.
    let is_flow_kept = is_first_hop || has_outbound_path(request);
    if has_reg_id(&contacts) && !is_flow_kept {
        return Err(Reply::new(Status::FIRST_HOP_LACKS_OUTBOUND_SUPPORT));
    }
    let number =
        request.cseq().map_err(|malformed| Reply::new(malformed.status()).because(malformed.reason()))?;
    Ok(Register {
        authority: Authority::Here,
        aor,
        source,
        contacts,
        expires: request.expires(),
        nat: path.is_empty() && nat::is_behind_nat(request, &source),
        path,
        call_id: Bytes::copy_from_slice(request.call_id().unwrap_or_default()),
        cseq: number.number,
        user_agent: request.header(Name::UserAgent).map(Bytes::copy_from_slice),
        outbound: has_outbound && is_flow_kept,
        gruu: supports(request, b"gruu"),
        response_hash: response_hash(&keyring.nonce, request),
    })
}

/// The address of record that a REGISTER is for.
pub(super) fn aor(request: &Message<'_>) -> Option<Aor> {
    let to = request.to().ok()?;
    Aor::of(&SipUri::parse(to.uri).ok()?)
}

/// The 200 to a REGISTER.
pub(super) fn accepted(request: &Message<'_>, inbound: &Inbound, registered: &Registered) -> Reply {
    let mut reply = Reply::new(Status::OK);
    // RFC 3261 §10.3 step 8: all bindings, with the time that each has left.
    for contact in &registered.contacts {
        reply = reply.with(Name::Contact, contact_value(contact));
    }
    // RFC 3327 §5.3: the Path that was kept.
    for value in request.values(Name::Path) {
        reply = reply.with(Name::Path, value);
    }
    let is_told = match inbound.settings.registrar.service_route {
        ServiceRoute::Off => false,
        ServiceRoute::WithPath => request.header(Name::Path).is_some(),
        ServiceRoute::Always => true,
    };
    if is_told && !registered.contacts.is_empty() {
        // RFC 3608 §6.3: the route that the phone is to put into its own requests: this listener.
        let mut value = b"<".to_vec();
        let listener = inbound.source.flow.listener();
        own::write_uri(&inbound.settings.listeners, listener, b"", &mut value);
        value.extend_from_slice(b";lr>");
        reply = reply.with(Name::ServiceRoute, value);
    }
    if registered.is_outbound {
        // RFC 5626 §6: tells the phone that its flow is used.
        reply = reply.with(Name::Require, *b"outbound").with(Name::FlowTimer, FLOW_TIMER_SECONDS);
    }
    reply.with(Name::Supported, SUPPORTED)
}

/// The refusal of a REGISTER by its partition.
pub(super) fn refused(refusal: RegisterRefusal) -> Reply {
    match refusal {
        RegisterRefusal::IntervalTooBrief { min } => {
            Reply::new(Status::INTERVAL_TOO_BRIEF).with(Name::MinExpires, min.to_string())
        }
        // RFC 3261 §10.3 step 6 and 7: an update that is not in order fails as a whole.
        RegisterRefusal::OutOfOrder => Reply::new(Status::SERVER_INTERNAL_ERROR).because("Out Of Order"),
        RegisterRefusal::TooManyContacts => Reply::new(Status::FORBIDDEN).because("Too Many Contacts"),
        RegisterRefusal::Malformed => Reply::new(Status::BAD_REQUEST).because("Bad Contact"),
        RegisterRefusal::UnknownAor => Reply::new(Status::NOT_FOUND),
        RegisterRefusal::Unavailable => Reply::later(Status::SERVICE_UNAVAILABLE),
    }
}

fn supports(request: &Message<'_>, tag: &[u8]) -> bool {
    [Name::Supported, Name::Require]
        .into_iter()
        .any(|name| request.values(name).any(|value| value.eq_ignore_ascii_case(tag)))
}

fn contacts(request: &Message<'_>, has_outbound: bool) -> Result<Contacts, Reply> {
    let bad = || Reply::new(Status::BAD_REQUEST).because("Bad Contact");
    match request.contacts().map_err(|_| bad())? {
        // RFC 3261 §10.2.2: the star removes, and does nothing else.
        sip::Contacts::Star if request.expires() == Some(0) => Ok(Contacts::RemoveAll),
        sip::Contacts::Star => Err(bad()),
        sip::Contacts::List(list) => {
            let updates: Vec<ContactUpdate> = list.map(|contact| update(&contact, has_outbound)).collect();
            Ok(if updates.is_empty() { Contacts::Query } else { Contacts::Update(updates) })
        }
    }
}

fn update(contact: &NameAddr<'_>, has_outbound: bool) -> ContactUpdate {
    let instance = contact.params.value(b"+sip.instance").map(unquoted);
    let reg_id = contact
        .params
        .value(b"reg-id")
        .and_then(|value| str::from_utf8(value).ok()?.parse().ok())
        // RFC 5626 §6: without an instance, or without the option tag, it is ignored.
        .filter(|_| instance.is_some() && has_outbound);
    ContactUpdate {
        uri: Bytes::copy_from_slice(contact.uri),
        q: contact.q(),
        expires: contact.expires(),
        instance: instance.map(Bytes::copy_from_slice),
        reg_id,
    }
}

// RFC 5627 §5.1: a GRUU that is bound to its own address of record would lead back to itself.
fn is_own_gruu(keyring: &Keyring, contacts: &Contacts, aor: &Aor) -> bool {
    let Contacts::Update(updates) = contacts else { return false };
    updates.iter().any(|update| {
        let named = SipUri::parse(&update.uri).ok().and_then(|uri| gruu::read(&keyring.gruu, &uri));
        matches!(named, Some(Gruu::Of(named, _)) if named == *aor)
    })
}

fn has_reg_id(contacts: &Contacts) -> bool {
    matches!(contacts, Contacts::Update(updates) if updates.iter().any(|update| update.reg_id.is_some()))
}

// RFC 5626 §5.1: the `ob` parameter stands in the Path value of the proxy next to the phone: the last one.
fn has_outbound_path(request: &Message<'_>) -> bool {
    let last = request.paths().filter_map(Result::ok).last();
    last.and_then(|path| path.uri().ok().and_then(|uri| uri.as_sip().map(|uri| uri.params.has(b"ob"))))
        == Some(true)
}

fn contact_value(contact: &RegisteredContact) -> Vec<u8> {
    let mut value = Vec::with_capacity(contact.uri.len() + 64);
    value.push(b'<');
    value.extend_from_slice(&contact.uri);
    value.extend_from_slice(format!(">;expires={}", contact.expires).as_bytes());
    if let Some(q) = contact.q {
        value.extend_from_slice(format!(";q={}.{:03}", q / 1_000, q % 1_000).as_bytes());
    }
    if let Some(instance) = &contact.instance {
        value.extend_from_slice(b";+sip.instance=");
        sip::write_quoted(instance, &mut value);
    }
    if let Some(reg_id) = contact.reg_id {
        value.extend_from_slice(format!(";reg-id={reg_id}").as_bytes());
    }
    // RFC 5627 §5.2: both stand in quotes.
    if let Some(gruus) = &contact.gruus {
        for (name, uri) in [(";pub-gruu=\"", &gruus.public), (";temp-gruu=\"", &gruus.temporary)] {
            value.extend_from_slice(name.as_bytes());
            value.extend_from_slice(uri);
            value.push(b'"');
        }
    }
    value
}

fn response_hash(key: &Key, request: &Message<'_>) -> u64 {
    request
        .lines(Name::Authorization)
        .filter_map(|line| Credentials::parse(line).ok()?.response)
        .next()
        .map_or(0, |response| key.mac(&[b"response", response.as_bytes()]).short())
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}
