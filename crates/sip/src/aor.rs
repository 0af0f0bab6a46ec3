//! The canonical address of record: what accounts and bindings are kept under.

use crate::grammar::escaped_byte;
use crate::{Host, SipUri};

/// `user@host` in one form for all that is the same address. Small, owned, ordered.
///
/// The user has escapes only where they make a difference; the host is in lower case without final dots. Scheme,
/// port, password, parameters and headers are left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aor {
    /// Invariant: has an at sign; the first one ends the user, which has none.
    text: Box<str>,
}

impl Aor {
    /// The address of record that a URI names. `None` without a user.
    // RFC 3261 §10.3: step 5 removes parameters and undoes escapes. The port is left out too: which domains and ports
    // are ours is decided before, and an account is one account on all of them.
    pub fn of(uri: &SipUri<'_>) -> Option<Aor> {
        let user = uri.user?;
        let mut text = String::with_capacity(user.len() + 1 + 64);
        write_user(user, &mut text);
        Self::at(text, &uri.host)
    }

    /// Reads `user@host`, also with `sip:` or `sips:` before it. `None` if it is no such thing.
    pub fn parse(text: &str) -> Option<Aor> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let bare = if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
            rest
        } else {
            text
        };
        let (user, host) = bare.rsplit_once('@')?;
        let host = Host::parse(host.as_bytes()).ok()?;
        if user.is_empty() || user.contains('@') {
            return None;
        }
        let mut text = String::with_capacity(bare.len());
        write_user(user.as_bytes(), &mut text);
        Self::at(text, &host)
    }

    /// `None` for a name of dots alone.
    fn at(mut text: String, host: &Host<'_>) -> Option<Aor> {
        text.push('@');
        write_host(host, &mut text);
        (!text.ends_with('@')).then(|| Self { text: text.into_boxed_str() })
    }

    /// The user.
    pub fn user(&self) -> &str {
        self.text.split_once('@').map_or("", |(user, _)| user)
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.text.split_once('@').map_or("", |(_, domain)| domain)
    }

    /// `user@host`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Aor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::fmt::Debug for Aor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Undoes escapes that make no difference and escapes what cannot stand there, so that each user has one form.
fn write_user(user: &[u8], text: &mut String) {
    let mut plain: smallvec::SmallVec<[u8; 128]> = smallvec::SmallVec::new();
    let mut rest = user;
    while let Some(&first) = rest.first() {
        let (byte, len, is_escaped) = match escaped_byte(rest) {
            Some(byte) => (byte, 3, true),
            None => (first, 1, false),
        };
        rest = &rest[len..];
        // RFC 3261 §19.1.4: a reserved character is not the same as its escape, every other one is.
        if is_plain(byte) || byte >= 0x80 || is_reserved_in_user(byte) && !is_escaped {
            plain.push(byte);
        } else {
            write_escape(byte, &mut plain);
        }
    }
    for chunk in plain.utf8_chunks() {
        text.push_str(chunk.valid());
        for &byte in chunk.invalid() {
            let mut escape: smallvec::SmallVec<[u8; 128]> = smallvec::SmallVec::new();
            write_escape(byte, &mut escape);
            text.extend(escape.iter().map(|&byte| byte as char));
        }
    }
}

fn write_escape(byte: u8, out: &mut smallvec::SmallVec<[u8; 128]>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
}

fn write_host(host: &Host<'_>, text: &mut String) {
    match host {
        Host::Name(name) => {
            let end = name.iter().rposition(|&byte| byte != b'.').map_or(0, |last| last + 1);
            text.extend(name[..end].iter().map(|byte| byte.to_ascii_lowercase() as char));
        }
        Host::V4(_) | Host::V6(_) => text.push_str(&host.to_string()),
    }
}

/// The `unreserved` of RFC 3261 §25.1.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')')
}

/// The reserved characters that may stand in a user without escape.
fn is_reserved_in_user(byte: u8) -> bool {
    matches!(byte, b';' | b'/' | b'?' | b'&' | b'=' | b'+' | b'$' | b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> String {
        Aor::of(&SipUri::parse(uri.as_bytes()).unwrap()).unwrap().to_string()
    }

    #[test]
    fn what_makes_no_difference_is_left_out() {
        assert_eq!(of("sips:alice:pw@Example.COM.:5061;transport=tls?x=y"), "alice@example.com");
        assert_eq!(of("sip:%61lice@example.com"), "alice@example.com");
        assert_eq!(of("sip:a@[2001:DB8:0::1]:5060"), "a@[2001:db8::1]");
        assert_eq!(of("sip:a#b@h"), of("sip:a%23b@h"));
    }

    #[test]
    fn what_makes_a_difference_is_kept() {
        assert_ne!(of("sip:Alice@h"), of("sip:alice@h"));
        assert_ne!(of("sip:%00@h"), of("sip:%00%00@h"));
        assert_ne!(of("sip:a%2Bb@h"), of("sip:a+b@h"));
        assert_eq!(of("sip:sips%3auser%40example.com@example.net"), "sips%3Auser%40example.com@example.net");
    }

    #[test]
    fn a_user_in_utf8_is_readable_and_has_one_form() {
        assert_eq!(of("sip:j%C3%BCrgen@h"), "jürgen@h");
        assert_eq!(Aor::parse("jürgen@h").unwrap().to_string(), "jürgen@h");
        let latin1 = SipUri::parse(b"sip:j\xfcrgen@h").unwrap();
        assert_eq!(Aor::of(&latin1).unwrap().as_str(), "j%FCrgen@h");
        assert_eq!(of("sip:j%fcrgen@h"), "j%FCrgen@h");
    }

    #[test]
    fn a_percent_sign_that_is_no_escape_does_not_become_one() {
        let odd = of("sip:a%2541@h");
        assert_eq!(odd, "a%2541@h");
        assert_eq!(of(&format!("sip:{odd}")), odd);
        assert_eq!(of("sip:a%zz@h"), "a%25zz@h");
    }

    #[test]
    fn text_is_read_and_what_is_no_address_is_refused() {
        let aor = Aor::parse("sip:%61lice@EXAMPLE.com").unwrap();
        assert_eq!((aor.user(), aor.domain()), ("alice", "example.com"));
        for text in ["", "alice", "@h", "alice@", "a@b@c", "alice@h h", "alice@h:5060"] {
            assert!(Aor::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_domain_of_dots_alone_is_no_address_of_record() {
        assert_eq!(Aor::parse("a@."), None);
        assert_eq!(Aor::of(&SipUri::parse(b"sip:a@..").unwrap()), None);
        assert_eq!(Aor::parse("a@b..").unwrap().as_str(), "a@b");
    }

    #[test]
    fn a_uri_without_a_user_has_no_address_of_record() {
        assert!(Aor::of(&SipUri::parse(b"sip:example.com").unwrap()).is_none());
    }
}
