//! A neighbouring proxy that the server trusts: it sends calls back, with another target or with the same.
//!
//! It keeps no state (RFC 3261 §16.11): its branch is made from the branch below it.

use std::net::SocketAddr;

use sip::{Editor, Message, Name, Uri};

use crate::phone::address_of;

/// A user of the neighbour whose calls go back to the server's user of the rest of the name.
pub(crate) const SPIRAL_PREFIX: &str = "to-";

/// The proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The server's.
    pub(crate) server: SocketAddr,
    /// Whether it stays in the dialogs.
    pub(crate) records: bool,
}

impl Neighbour {
    /// Where a datagram goes on, and as what; `None`: it is dropped.
    pub(crate) fn forward(&self, bytes: &[u8], domain: &str) -> Option<(SocketAddr, Vec<u8>)> {
        let message = Message::parse(bytes).ok()?;
        if message.is_request() {
            self.forward_request(&message, domain)
        } else {
            self.forward_response(&message)
        }
    }

    fn forward_request(&self, request: &Message<'_>, domain: &str) -> Option<(SocketAddr, Vec<u8>)> {
        let mut routes = request.routes();
        let mut editor = Editor::new(request);
        let mut next = routes.next();
        let mine = |route: &Option<Result<sip::NameAddr<'_>, sip::Malformed>>| matches!(route, Some(Ok(route)) if text_address(route.uri) == Some(self.address));
        if mine(&next) {
            editor.remove_first(Name::Route);
            next = routes.next();
        }
        let uri = request.request_uri()?;
        let target = match &next {
            Some(Ok(route)) => text_address(route.uri).unwrap_or(self.server),
            _ => match text_address(uri) {
                Some(address) if address != self.address => address,
                _ => self.server,
            },
        };
        let uri = sent_back(uri, domain);
        editor.request_uri(&uri);
        let hops = request.max_forwards().ok()?.unwrap_or(70).checked_sub(1)?.to_string();
        editor.set(Name::MaxForwards, hops.as_bytes());
        let via = request.top_via().ok()?;
        let below = String::from_utf8_lossy(via.branch()?).into_owned();
        let branch = format!("SIP/2.0/UDP {};rport;branch=z9hG4bK-n-{}", self.address, short(&below));
        editor.prepend(Name::Via, branch.as_bytes());
        let own = format!("<sip:{};lr>", self.address);
        if self.records && request.to_tag().is_none() {
            editor.prepend(Name::RecordRoute, own.as_bytes());
        }
        let mut out = Vec::new();
        editor.write(&mut out);
        Some((target, out))
    }

    fn forward_response(&self, response: &Message<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        let mut vias = response.vias();
        let own = vias.next()?.ok()?;
        own.branch().filter(|branch| branch.starts_with(b"z9hG4bK-n-"))?;
        vias.next()?.ok()?;
        let mut editor = Editor::new(response);
        editor.remove_first(Name::Via);
        let mut out = Vec::new();
        editor.write(&mut out);
        // Everything that it forwards came from the server.
        Some((self.server, out))
    }
}

fn text_address(uri: &[u8]) -> Option<SocketAddr> {
    address_of(&String::from_utf8_lossy(uri))
}

/// The Request-URI that a user of the neighbour stands for.
fn sent_back(uri: &[u8], domain: &str) -> Vec<u8> {
    let user = match Uri::parse(uri) {
        Ok(Uri::Sip(sip)) => sip.user.map(|user| String::from_utf8_lossy(user).into_owned()),
        _ => None,
    };
    match user.as_deref() {
        Some("loop") => format!("sip:loop@{domain}").into_bytes(),
        Some(user) => match user.strip_prefix(SPIRAL_PREFIX) {
            Some(user) => format!("sip:{user}@{domain}").into_bytes(),
            None => uri.to_vec(),
        },
        None => uri.to_vec(),
    }
}

fn short(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
