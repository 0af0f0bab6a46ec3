//! A dialog as a phone keeps it: ids, route set, remote target.

use sip::{Message, Name, Uri};

use super::message::{Outgoing, text};

/// One dialog.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    /// Call-ID.
    pub(crate) call_id: String,
    /// The whole value of From in our requests.
    pub(crate) local: String,
    /// Our tag.
    pub(crate) local_tag: String,
    /// The whole value of To in our requests.
    pub(crate) remote: String,
    /// The other side's tag.
    pub(crate) remote_tag: String,
    /// The number of our last request.
    pub(crate) cseq: u32,
    /// In the order in which our requests pass them.
    routes: Vec<String>,
    /// The other side's Contact.
    target: String,
}

impl Dialog {
    /// The caller's side of a 2xx.
    // RFC 3261 §12.1.2: the route set is Record-Route backwards.
    pub(crate) fn of_caller(response: &Message<'_>, cseq: u32) -> Option<Self> {
        let mut routes = routes(response);
        routes.reverse();
        Some(Self {
            call_id: text(response.call_id().ok()?),
            local: text(response.header(Name::From)?),
            local_tag: text(response.from_tag()?),
            remote: text(response.header(Name::To)?),
            remote_tag: text(response.to_tag()?),
            cseq,
            routes,
            target: contact(response)?,
        })
    }

    /// The callee's side of an INVITE that it answers with this tag.
    // RFC 3261 §12.1.1: the route set is Record-Route as it stands.
    pub(crate) fn of_callee(invite: &Message<'_>, local_tag: &str) -> Option<Self> {
        Some(Self {
            call_id: text(invite.call_id().ok()?),
            local: format!("{};tag={local_tag}", text(invite.header(Name::To)?)),
            local_tag: local_tag.to_owned(),
            remote: text(invite.header(Name::From)?),
            remote_tag: text(invite.from_tag()?),
            cseq: 0,
            routes: routes(invite),
            target: contact(invite)?,
        })
    }

    /// Whether a request from the other side belongs to this dialog.
    pub(crate) fn fits(&self, request: &Message<'_>) -> bool {
        request.call_id().ok() == Some(self.call_id.as_bytes())
            && request.to_tag() == Some(self.local_tag.as_bytes())
            && request.from_tag() == Some(self.remote_tag.as_bytes())
    }

    /// Takes the other side's Contact of a target refresh.
    // RFC 3261 §12.2: the route set stays, the target changes.
    pub(crate) fn refresh(&mut self, message: &Message<'_>) {
        if let Some(target) = contact(message) {
            self.target = target;
        }
    }

    /// The next request in the dialog; `strict` sends it as a client does that knows only strict routing.
    pub(crate) fn request(&mut self, method: &'static str, strict: bool) -> Outgoing {
        if method != "ACK" {
            self.cseq += 1;
        }
        let (uri, routes) = self.route(strict);
        Outgoing {
            method,
            uri,
            routes,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            lines: String::new(),
            credentials: String::new(),
            body: String::new(),
        }
    }

    /// How many proxies stay in the dialog.
    pub(crate) fn hops(&self) -> usize {
        self.routes.len()
    }

    /// The URI of the first hop: where requests of the dialog are sent.
    pub(crate) fn next_hop(&self) -> String {
        self.routes.first().map_or_else(|| self.target.clone(), |route| inside(route))
    }

    // RFC 3261 §12.2.1.1: loose routing keeps the target in the Request-URI, strict routing puts it last.
    fn route(&self, strict: bool) -> (String, Vec<String>) {
        match self.routes.split_first() {
            Some((first, rest)) if strict => {
                let mut routes = rest.to_vec();
                routes.push(format!("<{}>", self.target));
                (inside(first), routes)
            }
            _ => (self.target.clone(), self.routes.clone()),
        }
    }
}

/// The address and port that a URI names, if it names an address.
pub(crate) fn address_of(uri: &str) -> Option<std::net::SocketAddr> {
    let Ok(Uri::Sip(uri)) = Uri::parse(uri.as_bytes()) else { return None };
    let address: std::net::IpAddr = match uri.host {
        sip::Host::V4(address) => address.into(),
        sip::Host::V6(address) => address.into(),
        sip::Host::Name(_) => return None,
    };
    Some(std::net::SocketAddr::new(address, uri.port.unwrap_or(5060)))
}

fn routes(message: &Message<'_>) -> Vec<String> {
    message.values(Name::RecordRoute).map(text).collect()
}

fn contact(message: &Message<'_>) -> Option<String> {
    message.values(Name::Contact).next().map(|value| inside(&text(value)))
}

/// The URI inside `<>`, or the whole up to the first parameter.
pub(crate) fn inside(value: &str) -> String {
    let uri = match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default(),
    };
    uri.trim().to_owned()
}
