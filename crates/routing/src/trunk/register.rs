//! The REGISTER of an account (RFC 3261 §10.2), as the transaction user forwards it.

use bytes::Bytes;
use keys::Key;
use sip::{Method, Name, RequestBuilder};
use transport::{Listener, Transport};

use super::{Registration, Trunk};

/// One REGISTER.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register<'a> {
    pub(super) registration: &'a Registration,
    pub(super) call_id: &'a str,
    pub(super) tag: &'a str,
    pub(super) cseq: u32,
    /// Seconds; 0 takes the registration back.
    pub(super) expires: u32,
}

/// The Call-ID and the From tag of all REGISTERs of an account, also after a restart.
// RFC 3261 §10.2: all registrations of a user agent at one registrar should have the same Call-ID.
pub(super) fn names(key: &Key, trunk: &Trunk, registration: &Registration) -> (String, String) {
    let Registration { registrar, address, contact_user, .. } = registration;
    let parts = [trunk.name.as_bytes(), registrar.as_bytes(), address.as_bytes(), contact_user.as_bytes()];
    let text = |purpose: &[u8]| {
        let mut text = Vec::with_capacity(32);
        keys::hex(&key.mac(&[&[purpose], &parts[..]].concat()).as_bytes()[..10], &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    (text(b"call-id"), text(b"tag"))
}

impl Register<'_> {
    /// The request. What depends on the listener that it leaves by, Via and Contact, is written when it leaves; the
    /// Via that stands here tells its transaction, and goes then.
    pub(super) fn write(&self, key: &Key) -> Bytes {
        let Self { registration, call_id, tag, cseq, expires } = *self;
        let mut via = b"SIP/2.0/UDP own.invalid;branch=z9hG4bK-o-".to_vec();
        let mac = key.mac(&[b"register", call_id.as_bytes(), &cseq.to_be_bytes()]);
        keys::hex(&mac.as_bytes()[..8], &mut via);
        let address = format!("<{}>", registration.address);
        let mut builder = RequestBuilder::new(Method::Register, registration.registrar.as_bytes());
        builder.header(Name::Via, &via);
        if let Some(proxy) = &registration.proxy {
            builder.header(Name::Route, format!("<{}>", with_lr(proxy)).as_bytes());
        }
        builder
            .header(Name::MaxForwards, b"71")
            .header(Name::From, format!("{address};tag={tag}").as_bytes())
            .header(Name::To, address.as_bytes())
            .header(Name::CallId, call_id.as_bytes())
            .header(Name::CSeq, format!("{cseq} REGISTER").as_bytes())
            .header(Name::Expires, expires.to_string().as_bytes());
        let mut bytes = Vec::with_capacity(512);
        builder.write(&mut bytes);
        Bytes::from(bytes)
    }
}

/// Our Contact at a carrier, on the listener by which we speak with it.
pub(crate) fn contact(registration: &Registration, listener: &Listener) -> Vec<u8> {
    let mut contact = format!("<sip:{}@{}", registration.contact_user, listener.sent_by());
    if listener.transport != Transport::Udp {
        contact.push_str(";transport=");
        contact.push_str(listener.transport.uri_name());
    }
    contact.push('>');
    contact.into_bytes()
}

// RFC 3261 §16.12: without `lr` the proxy would be taken for a strict router.
fn with_lr(proxy: &str) -> String {
    match proxy.split(';').skip(1).any(|parameter| parameter.eq_ignore_ascii_case("lr")) {
        true => proxy.to_owned(),
        false => format!("{proxy};lr"),
    }
}
