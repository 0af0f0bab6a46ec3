//! A row of `location` as a binding, whoever wrote it; or why it is none.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use clock::WallTime;
use routing::StoredBinding;
use sip::{Aor, NameAddr, SipUri};
use transport::{LocalAddr, Transport};

use super::super::link::Row;
use super::shape::{Field, Shape};
use crate::row;

/// What a server is, as far as it says which rows could be its own.
pub struct Home<'a> {
    /// Where it listens.
    pub listeners: &'a [(Transport, LocalAddr)],
    /// Whether an address of record is in one of its domains.
    pub serves: &'a dyn Fn(&Aor) -> bool,
    /// The domain of rows that name none.
    pub domain: Option<&'a str>,
    /// Whether other servers write the table too: then a row that names no socket is not ours.
    pub is_shared: bool,
}

/// Bytes of one value, and of a Path: what a binding may have at most.
const VALUE_BYTES_MAX: usize = 2_048;
const PATH_BYTES_MAX: usize = 4_096;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRow {
    /// Whose it is, as it stands there.
    pub name: String,
    /// Its Contact.
    pub contact: String,
    /// The binding.
    pub binding: Result<StoredBinding, LeftOut>,
}

/// Why a row is no binding of this server's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Its time is over.
    Expired,
    /// Tandem has written it.
    Own,
    /// It names no domain, and none was told.
    NoDomain,
    /// Its name is no address of record.
    BrokenName,
    /// Its domain is none of this server's.
    UnknownDomain(String),
    /// Its Contact is no SIP URI that can be followed.
    BrokenContact,
    /// `expires` is no time.
    BrokenExpires,
    /// It has no end.
    Permanent,
    /// `path` is no list of addresses.
    BrokenPath,
    /// A column has control characters, or is longer than any phone's.
    BrokenText(&'static str),
    /// `received` is no address.
    BrokenReceived,
    /// Nothing tells the address that the phone came from.
    NoAddress,
    /// It names no socket, and this server has several, or others write the table too.
    NoSocket,
    /// The phone registered on a socket that is no listener of this server.
    UnknownSocket(String),
}

/// Reads a row as [`Shape::page_query`] gives it.
pub fn read(shape: &Shape, home: &Home<'_>, now: WallTime, row: &Row) -> FoundRow {
    let columns = Columns { shape, row };
    let name = match columns.text(Field::Domain) {
        "" => columns.text(Field::Username).to_owned(),
        domain => format!("{}@{domain}", columns.text(Field::Username)),
    };
    let contact = columns.text(Field::Contact).to_owned();
    FoundRow { name, contact, binding: columns.binding(home, now) }
}

struct Columns<'a> {
    shape: &'a Shape,
    row: &'a Row,
}

impl Columns<'_> {
    /// The text of a column without the spaces that fill it; empty where there is none.
    fn text(&self, field: Field) -> &str {
        let place = self.shape.fields().position(|(other, _)| other == field);
        // The first column is the page's.
        place.map_or("", |place| self.row.text(place + 1).trim())
    }

    fn binding(&self, home: &Home<'_>, now: WallTime) -> Result<StoredBinding, LeftOut> {
        let path = path(self.text(Field::Path))?;
        if self.shape.is_own(self.text(Field::Id)) || leads_to(home, path.first()) {
            return Err(LeftOut::Own);
        }
        let expires_at = self.expires(now)?;
        let aor = self.aor(home)?;
        let contact = self.sound(Field::Contact, "contact")?;
        let uri = SipUri::parse(contact.as_bytes()).ok().filter(|uri| !uri.secure);
        let uri = uri.ok_or(LeftOut::BrokenContact)?;
        let seen = self.received()?;
        let remote = seen.or_else(|| address(&uri)).or_else(|| first_hop(&path)).ok_or(LeftOut::NoAddress)?;
        let instance = self.sound(Field::Instance, "instance")?.trim_matches('"');
        let instance = (!instance.is_empty()).then(|| bytes(instance));
        let user_agent = self.sound(Field::UserAgent, "user_agent")?;
        Ok(StoredBinding {
            listener: self.listener(home, &uri)?,
            // OpenSIPS and Kamailio note where a phone was seen if that is not where it says to be.
            nat: seen.is_some_and(|seen| address(&uri) != Some(seen)),
            received: remote,
            q: self.q(),
            call_id: bytes(self.sound(Field::CallId, "callid")?),
            cseq: self.text(Field::Cseq).parse().unwrap_or_default(),
            reg_id: self.text(Field::RegId).parse().ok().filter(|number| *number > 0 && instance.is_some()),
            user_agent: (!user_agent.is_empty()).then(|| bytes(user_agent)),
            contact: bytes(contact),
            response_hash: 0,
            aor,
            path,
            instance,
            expires_at,
        })
    }

    /// The same, if it is one that can stand in a message.
    fn sound(&self, field: Field, name: &'static str) -> Result<&str, LeftOut> {
        let text = self.text(field);
        let is_sound = text.len() <= VALUE_BYTES_MAX && !text.contains(char::is_control);
        if is_sound { Ok(text) } else { Err(LeftOut::BrokenText(name)) }
    }

    fn expires(&self, now: WallTime) -> Result<WallTime, LeftOut> {
        let column = self.shape.fields().find(|(field, _)| *field == Field::Expires);
        let seconds = column
            .and_then(|(_, column)| self.shape.read_time(column.content, self.text(Field::Expires)))
            .and_then(|seconds| u64::try_from(seconds).ok())
            .ok_or(LeftOut::BrokenExpires)?;
        if seconds == 0 {
            return Err(LeftOut::Permanent);
        }
        let at = WallTime::from_millis(seconds.saturating_mul(1_000));
        if at <= now { Err(LeftOut::Expired) } else { Ok(at) }
    }

    fn aor(&self, home: &Home<'_>) -> Result<Aor, LeftOut> {
        let domain = match (self.text(Field::Domain), home.domain) {
            ("", None) => return Err(LeftOut::NoDomain),
            ("", Some(domain)) => domain,
            (domain, _) => domain,
        };
        let text = format!("{}@{domain}", self.text(Field::Username));
        let aor = Aor::parse(&text).ok_or(LeftOut::BrokenName)?;
        if (home.serves)(&aor) { Ok(aor) } else { Err(LeftOut::UnknownDomain(aor.domain().to_owned())) }
    }

    fn received(&self) -> Result<Option<SocketAddr>, LeftOut> {
        match self.text(Field::Received) {
            "" => Ok(None),
            text => {
                let uri = SipUri::parse(text.as_bytes()).map_err(|_| LeftOut::BrokenReceived)?;
                address(&uri).map(Some).ok_or(LeftOut::BrokenReceived)
            }
        }
    }

    fn listener(&self, home: &Home<'_>, uri: &SipUri<'_>) -> Result<(Transport, LocalAddr), LeftOut> {
        let text = self.text(Field::Socket);
        if text.is_empty() && home.is_shared {
            return Err(LeftOut::NoSocket);
        }
        if text.is_empty() {
            let transport = uri.transport().map_or(Some(Transport::Udp), Transport::of_name);
            let mut fitting = home.listeners.iter().filter(|(is, _)| Some(*is) == transport);
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(*only),
                _ => Err(LeftOut::NoSocket),
            };
        }
        let socket = row::read_socket(text).filter(|socket| home.listeners.contains(socket));
        socket.ok_or_else(|| LeftOut::UnknownSocket(text.to_owned()))
    }

    fn q(&self) -> Option<u16> {
        let q: f64 = self.text(Field::Q).parse().ok()?;
        // -1 is none, with both.
        (0.0..=1.0).contains(&q).then(|| (q * 1_000.0).round() as u16)
    }
}

/// The values of a Path, topmost first. They are sent on as they are, so that each must be an address from its begin to its end.
fn path(text: &str) -> Result<Vec<Bytes>, LeftOut> {
    if text.len() > PATH_BYTES_MAX || text.contains(char::is_control) {
        return Err(LeftOut::BrokenPath);
    }
    let mut values = Vec::new();
    let (mut begin, mut is_within, mut is_quoted) = (0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '<' if !is_quoted => is_within = true,
            '>' if !is_quoted => is_within = false,
            ',' if !is_quoted && !is_within => {
                values.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    let rest = text[begin..].trim();
    if !rest.is_empty() {
        values.push(rest);
    }
    if is_quoted || values.iter().any(|value| uri_of(value.as_bytes()).is_none()) {
        return Err(LeftOut::BrokenPath);
    }
    Ok(values.into_iter().map(bytes).collect())
}

/// The URI in a value of a Path.
fn uri_of(value: &[u8]) -> Option<SipUri<'_>> {
    let address = NameAddr::parse(value).ok()?;
    // RFC 3327 §4: a path-value is a name-addr, whose URI has brackets.
    let is_name_addr = address.display.is_some() || value.starts_with(b"<");
    if is_name_addr { SipUri::parse(address.uri).ok() } else { None }
}

fn first_hop(path: &[Bytes]) -> Option<SocketAddr> {
    address(&uri_of(path.first()?)?)
}

/// Whether a Path begins with this server.
fn leads_to(home: &Home<'_>, first: Option<&Bytes>) -> bool {
    let address = first.and_then(|value| address(&uri_of(value)?));
    address.is_some_and(|address| home.listeners.iter().any(|(_, local)| local.0 == address))
}

fn address(uri: &SipUri<'_>) -> Option<SocketAddr> {
    let port = uri.port.unwrap_or(Transport::Udp.default_port());
    uri.host.ip().map(|ip| SocketAddr::new(ip, port))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl LeftOut {
    /// What rows of one kind have in common.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Own => "written by Tandem",
            Self::NoDomain => "no domain",
            Self::BrokenName => "broken name",
            Self::UnknownDomain(_) => "unknown domain",
            Self::BrokenContact => "broken contact",
            Self::BrokenExpires => "broken expires",
            Self::Permanent => "without end",
            Self::BrokenPath => "broken path",
            Self::BrokenText(_) => "broken text",
            Self::BrokenReceived => "broken received",
            Self::NoAddress => "no address",
            Self::NoSocket => "no socket",
            Self::UnknownSocket(_) => "unknown socket",
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => formatter.write_str("it has expired"),
            Self::Own => formatter.write_str("Tandem has written it"),
            Self::NoDomain => formatter.write_str("it names no domain: tell one with --domain"),
            Self::BrokenName => formatter.write_str("username and domain are no address of record"),
            Self::UnknownDomain(domain) => {
                write!(formatter, "{domain} is no domain of this server: write it into sip.domains and `tandem reload`")
            }
            Self::BrokenContact => formatter.write_str("its contact is no sip: URI"),
            Self::BrokenExpires => formatter.write_str("its expires is no time"),
            Self::Permanent => formatter.write_str(
                "it has no end: let that phone register, or write what it is for as a [[gateway]] or a forward",
            ),
            Self::BrokenPath => formatter.write_str("its path is no list of <sip:...> URIs"),
            Self::BrokenText(column) => {
                write!(formatter, "its {column} has control characters, or more than {VALUE_BYTES_MAX} bytes")
            }
            Self::BrokenReceived => formatter.write_str("its received is no sip: URI with an address"),
            Self::NoAddress => {
                formatter.write_str("its contact is a name, and neither received nor path has an address")
            }
            Self::NoSocket => formatter
                .write_str("it names no socket, and this server has several, or none like it, or shares the table"),
            Self::UnknownSocket(socket) => write!(
                formatter,
                "{socket} is no listener of this server: phones are called from the address that they registered at"
            ),
        }
    }
}
