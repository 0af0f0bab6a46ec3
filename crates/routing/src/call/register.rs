//! REGISTER as the call shard sees it: what the request wants, and how the verdict of its partition is
//! said (RFC 3261 §10.3, RFC 3327, RFC 3608, RFC 5626 §6).

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use clock::WallTime;
use keys::Key;
use sip::{Aor, Credentials, Message, Name, NameAddr, SipUri, Status, Uri};
use transport::Source;

use super::date::date;
use super::inbound::Inbound;
use super::reply::Reply;
use super::target::{REGISTRAR_TAGS, SUPPORTED};
use super::validation::unsupported;
use super::{nat, own};
use crate::gruu::{self, Gruu};
use crate::{
    Authority, ContactUpdate, Contacts, Keyring, Register, RegisterRefusal, RegisterRight, Registered,
    RegisteredContact, ServiceRoute, Settings,
};

/// RFC 5626 §4.4.1: within so many seconds a phone with a flow of its own sends a keepalive.
const FLOW_TIMER_SECONDS: &[u8] = b"120";

/// What a REGISTER wants of the address of record.
///
/// # Errors
///
/// The refusal of a request that can not be understood.
pub(super) fn wish(
    settings: &Settings,
    keyring: &Keyring,
    request: &Message<'_>,
    source: Source,
    aor: Aor,
) -> Result<Register, Reply> {
    // RFC 3261 §10.3 step 2: what is required and not there. A request that ends here has passed the proxy here too.
    let required = unsupported(request, Name::Require, REGISTRAR_TAGS)
        .or_else(|| unsupported(request, Name::ProxyRequire, &[]));
    if let Some(unsupported) = required {
        return Err(Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, unsupported));
    }
    let has_outbound = supports(request, b"outbound");
    let path: Vec<Bytes> = request.values(Name::Path).map(Bytes::copy_from_slice).collect();
    let is_first_hop = path.is_empty() && request.values(Name::Via).nth(1).is_none();
    // RFC 3327 §5.3: a phone that does not know Path is told so, rather than led by a way that it knows nothing of.
    if !path.is_empty() && !supports(request, b"path") {
        return Err(Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, *b"path"));
    }
    let nat = path.is_empty() && nat::is_behind_nat(request, &source);
    let contacts = contacts(request, has_outbound)?;
    if is_own_gruu(keyring, &contacts, &aor) {
        return Err(Reply::new(Status::FORBIDDEN).because("Contact Is A GRUU"));
    }
    if !can_be_called(settings, request, nat) {
        return Err(Reply::new(Status::BAD_REQUEST).because("Unusable Contact"));
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
        nat,
        path,
        call_id: Bytes::copy_from_slice(request.call_id().unwrap_or_default()),
        cseq: number.number,
        user_agent: request.header(Name::UserAgent).map(Bytes::copy_from_slice),
        outbound: has_outbound && is_flow_kept,
        gruu: supports(request, b"gruu"),
        response_hash: response_hash(&keyring.nonce, request),
        right: RegisterRight::Proved,
    })
}

/// The address of record that a REGISTER is for.
pub(super) fn aor(request: &Message<'_>) -> Option<Aor> {
    let to = request.to().ok()?;
    Aor::of(&SipUri::parse(to.uri).ok()?)
}

/// The 200 to a REGISTER.
pub(super) fn accepted(
    now: WallTime,
    request: &Message<'_>,
    inbound: &Inbound,
    registered: &Registered,
) -> Reply {
    // RFC 3261 §10.3 step 8: phones without a clock of their own set it by this.
    let mut reply = Reply::new(Status::OK).with(Name::Date, date(now));
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
        RegisterRefusal::OutOfOrder | RegisterRefusal::NotRepeated => {
            Reply::new(Status::SERVER_INTERNAL_ERROR).because("Out Of Order")
        }
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

/// Whether a call can be sent to each Contact that is to be kept.
fn can_be_called(settings: &Settings, request: &Message<'_>, is_behind_nat: bool) -> bool {
    let Ok(sip::Contacts::List(contacts)) = request.contacts() else { return true };
    let mut kept = contacts.filter(|contact| contact.expires().or_else(|| request.expires()) != Some(0));
    kept.all(|contact| match contact.uri() {
        Ok(Uri::Sip(uri)) => leads_elsewhere(settings, &uri, is_behind_nat),
        // A mailto: or tel: can not be called by SIP.
        _ => false,
    })
}

/// Whether a URI leads to some host, and not to this server: a call there would come back.
fn leads_elsewhere(settings: &Settings, uri: &SipUri<'_>, is_behind_nat: bool) -> bool {
    let address = uri.host.ip().map(|address| address.to_canonical());
    let is_nowhere = address.is_some_and(|address| {
        address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
    });
    if is_nowhere || uri.port == Some(0) {
        return false;
    }
    // Behind NAT another host may have our private address. It is called by its flow.
    let is_namesake = is_behind_nat && address.is_some_and(nat::is_private);
    // RFC 5627 §5.1: a GRUU of somebody else here is an address like any other.
    let is_gruu = uri.params.has(b"gr");
    is_namesake || is_gruu || !own::is_own(settings, uri)
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
