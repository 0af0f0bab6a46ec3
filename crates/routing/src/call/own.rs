//! Which URIs mean this server, and how it is named in those that it makes.

use sip::{Host, SipUri};
use transport::{ListenerId, Listeners, Transport};

use crate::Settings;

/// Appends a URI that leads to this server by a listener, with `user` if that is not empty, and without brackets.
pub(super) fn write_uri(listeners: &Listeners, listener: ListenerId, user: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"sip:");
    if !user.is_empty() {
        out.extend_from_slice(user);
        out.push(b'@');
    }
    out.extend_from_slice(listeners.sent_by(listener).unwrap_or_default().as_bytes());
    if let Some(listener) = listeners.get(listener)
        && listener.transport != Transport::Udp
    {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(listener.transport.uri_name().as_bytes());
    }
}

/// Whether a Request-URI's resource is this server's to say (RFC 3261 §16.5): one of our domains, at one of our
/// ports if a port is given. Another port on the same host is somebody else.
pub fn is_own(settings: &Settings, uri: &SipUri<'_>) -> bool {
    match uri.port {
        None => settings.is_own_domain(&uri.host),
        Some(port) => is_own_address(settings, &uri.host, port),
    }
}

/// Whether a Route's URI leads to this server itself.
pub(super) fn is_own_route(settings: &Settings, uri: &SipUri<'_>) -> bool {
    is_own(settings, uri) && uri.maddr().is_none_or(|maddr| settings.is_own_domain(&maddr))
}

fn is_own_address(settings: &Settings, host: &Host<'_>, port: u16) -> bool {
    if settings.listeners.is_ours(host, Some(port), None) {
        return true;
    }
    // A domain's name stands for every listener.
    settings.is_own_domain(host)
        && !settings.listeners.has_host(host)
        && settings.listeners.iter().any(|listener| {
            let advertised = listener.advertise.as_ref().and_then(|advertise| advertise.port);
            listener.local.0.port() == port || advertised == Some(port)
        })
}
