//! The URIs that a gateway is sent: of the number, and of the caller.

use bytes::Bytes;

use super::{Gateway, Route, is_number};

impl Gateway {
    /// The URI of a number that the route has rewritten already.
    pub fn number_uri(&self, number: &str) -> Bytes {
        let number = self.rewrite.apply(number);
        let mut uri = Vec::with_capacity(number.len() + self.uri.len() + 8);
        uri.extend_from_slice(b"sip:");
        write_user(&number, &mut uri);
        uri.push(b'@');
        uri.extend_from_slice(self.uri.get(b"sip:".len()..).unwrap_or_default());
        Bytes::from(uri)
    }

    /// The caller's URI in the form that this gateway wants.
    pub fn caller_uri(&self, route: &Route, user: &str, domain: &str) -> Vec<u8> {
        let rules = &self.caller;
        let number = match &route.caller {
            Some(number) => number.to_string(),
            None if is_number(user) => rules.rewrite.apply(user),
            None => rules.otherwise.as_deref().unwrap_or(user).to_owned(),
        };
        let mut uri = b"sip:".to_vec();
        write_user(&number, &mut uri);
        uri.push(b'@');
        uri.extend_from_slice(rules.domain.as_deref().unwrap_or(domain).as_bytes());
        uri
    }
}

/// Appends a number or a name as it stands in a URI.
// RFC 3261 §25.1: what may stand in `user`; an escape that came stays one.
pub fn write_user(user: &str, out: &mut Vec<u8>) {
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%".contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}
