//! One value of Via (RFC 3261 §20.42).

use std::net::IpAddr;

use memchr::memchr;

use crate::grammar::{decimal, decimal_u16, is_lws, is_token, trim, trim_start, write_decimal};
use crate::host::{bare_ip, write_ip};
use crate::params::Form;
use crate::{Host, Malformed, Params};

/// What every branch begins with that was made by RFC 3261's rules.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One value of Via.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    /// The transport, as it came: `UDP`.
    pub transport: &'a [u8],
    /// The host of sent-by.
    pub host: Host<'a>,
    /// The port of sent-by, if one stands there.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    branch: Option<&'a [u8]>,
    received: Option<Option<&'a [u8]>>,
    rport: Option<Option<&'a [u8]>>,
    bytes: &'a [u8],
}

impl<'a> Via<'a> {
    /// Reads one value. White space may stand around the slashes and the colon.
    pub fn parse(value: &'a [u8]) -> Result<Via<'a>, Malformed> {
        let value = trim(value);
        let (head, params) = value.split_at(memchr(b';', value).unwrap_or(value.len()));
        let rest = match head.strip_prefix(b"SIP/2.0/") {
            Some(rest) => rest,
            None => after_protocol(head).ok_or(Malformed::Via)?,
        };
        let rest = trim_start(rest);
        let transport_len = rest.iter().position(|&byte| is_lws(byte)).ok_or(Malformed::Via)?;
        let (transport, sent_by) = rest.split_at(transport_len);
        let (host, port) = split_sent_by(trim(sent_by)).ok_or(Malformed::Via)?;
        if !is_token(transport) {
            return Err(Malformed::Via);
        }
        let params = Params::new(params);
        // The parameters that are asked for most; of those with one name the first counts.
        let (mut branch, mut received, mut rport) = (None, None, None);
        for place in params.places() {
            // RFC 4475 §3.1.2.1: separators with nothing between them are an error.
            if place.form != Form::Regular {
                return Err(Malformed::Via);
            }
            if place.name.eq_ignore_ascii_case(b"branch") {
                branch.get_or_insert(place.value);
            } else if place.name.eq_ignore_ascii_case(b"rport") {
                rport.get_or_insert(place.value);
            } else if place.name.eq_ignore_ascii_case(b"received") {
                received.get_or_insert(place.value);
            }
        }
        let branch = branch.flatten();
        Ok(Self { transport, host, port, params, branch, received, rport, bytes: value })
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The `branch` parameter.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.branch
    }

    /// Whether the branch begins with the magic cookie, has something behind it, and so names the transaction.
    // RFC 3261 §17.2.3: a branch without the cookie was made by a client of RFC 2543 and is not unique.
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().is_some_and(|branch| branch.len() > MAGIC_COOKIE.len() && starts_with_cookie(branch))
    }

    /// Whether the branch is the magic cookie alone.
    pub(crate) fn has_empty_branch(&self) -> bool {
        self.branch().is_some_and(|branch| branch.len() == MAGIC_COOKIE.len() && starts_with_cookie(branch))
    }

    /// The `received` parameter. `None` also if it is no address.
    pub fn received(&self) -> Option<IpAddr> {
        self.received.flatten().and_then(bare_ip)
    }

    /// The `rport` parameter: `Some(None)` is a client that asks for it, `Some(Some(port))` is filled in.
    // RFC 3581 §3: a client asks for the port with an empty `rport`.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport.map(|value| value.and_then(decimal_u16))
    }

    /// The `maddr` parameter. `None` also if it is no host.
    pub fn maddr(&self) -> Option<Host<'a>> {
        self.params.value(b"maddr").and_then(|value| Host::parse(value).ok())
    }

    /// The `ttl` parameter.
    pub fn ttl(&self) -> Option<u8> {
        self.params.value(b"ttl").and_then(decimal).and_then(|number| u8::try_from(number).ok())
    }

    /// Appends the value as a server stamps it: every `received` and `rport` that came is dropped, then `;received`
    /// and, if a port is given, `;rport` are added. All else stays as it came.
    // RFC 3261 §18.2.1: what a client claims in `received` must not survive. RFC 3581 §4: both are filled in.
    pub fn write_stamped(&self, received: IpAddr, rport: Option<u16>, out: &mut Vec<u8>) {
        let mut kept = 0;
        if self.received.is_some() || self.rport.is_some() {
            let mut places = self.params.places();
            loop {
                let start = self.bytes.len() - places.rest().len();
                let Some(place) = places.next() else { break };
                if place.name.eq_ignore_ascii_case(b"received") || place.name.eq_ignore_ascii_case(b"rport") {
                    out.extend_from_slice(&self.bytes[kept..start]);
                    kept = self.bytes.len() - places.rest().len();
                }
            }
        }
        out.extend_from_slice(&self.bytes[kept..]);
        out.extend_from_slice(b";received=");
        write_ip(received, out);
        if let Some(port) = rport {
            out.extend_from_slice(b";rport=");
            write_decimal(u64::from(port), out);
        }
    }
}

// RFC 3261 §7.3.1: tokens are compared without case unless said otherwise, and of the cookie nothing is said.
fn starts_with_cookie(branch: &[u8]) -> bool {
    branch.get(..MAGIC_COOKIE.len()).is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// What follows the name and the version of the protocol; both may be any token.
fn after_protocol(bytes: &[u8]) -> Option<&[u8]> {
    let (protocol, rest) = split_slash(bytes)?;
    let (version, rest) = split_slash(rest)?;
    (is_token(protocol) && is_token(version)).then_some(rest)
}

fn split_slash(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr(b'/', bytes)?;
    Some((trim(&bytes[..at]), &bytes[at + 1..]))
}

fn split_sent_by(bytes: &[u8]) -> Option<(Host<'_>, Option<u16>)> {
    let host_len = match bytes.first()? {
        b'[' => memchr(b']', bytes)? + 1,
        _ => memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, port) = bytes.split_at(host_len);
    let host = Host::parse(trim(host)).ok()?;
    let port = match trim_start(port) {
        [] => None,
        [b':', digits @ ..] => Some(decimal_u16(trim(digits))?),
        _ => return None,
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_folds_may_stand_around_separators() {
        let via =
            Via::parse(b"SIP  /   2.0\r\n /UDP\r\n    192.0.2.2 : 5070 ; branch =\r\n 390skdjuw ;rport")
                .unwrap();

        assert_eq!(via.transport, b"UDP");
        assert_eq!((via.host, via.port), (Host::parse(b"192.0.2.2").unwrap(), Some(5070)));
        assert_eq!(via.branch(), Some(&b"390skdjuw"[..]));
        assert!(!via.has_magic_cookie());
        assert_eq!(via.rport(), Some(None));
    }

    #[test]
    fn an_ipv6_reference_and_its_port_are_told_apart() {
        let via =
            Via::parse(b"SIP/2.0/TCP [2001:db8::9:1]:6050;branch=z9hG4bKas3;received=[2001:db8::9:255]")
                .unwrap();

        assert_eq!(via.host, Host::V6("2001:db8::9:1".parse().unwrap()));
        assert_eq!(via.port, Some(6050));
        assert!(via.has_magic_cookie());
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert_eq!(via.rport(), None);
    }

    #[test]
    fn the_cookie_alone_names_no_transaction() {
        assert!(!Via::parse(b"SIP/2.0/UDP a;branch=z9hG4bK").unwrap().has_magic_cookie());
        assert!(Via::parse(b"SIP/2.0/UDP a;branch=z9hG4bK1").unwrap().has_magic_cookie());
        assert!(!Via::parse(b"SIP/2.0/UDP a").unwrap().has_magic_cookie());
    }

    #[test]
    fn a_stamp_replaces_what_the_client_claimed() {
        let via = Via::parse(
            b"SIP/2.0/UDP 10.0.0.1:5060 ;rport; x = \"1\";Received=1.2.3.4;received;branch=z9hG4bKa",
        )
        .unwrap();
        let mut out = Vec::new();

        via.write_stamped("192.0.2.7".parse().unwrap(), Some(40_000), &mut out);

        assert_eq!(
            out,
            b"SIP/2.0/UDP 10.0.0.1:5060 ; x = \"1\";branch=z9hG4bKa;received=192.0.2.7;rport=40000"
        );
    }

    #[test]
    fn a_stamp_writes_an_ipv6_address_without_brackets() {
        let mut out = Vec::new();
        Via::parse(b"SIP/2.0/UDP a").unwrap().write_stamped("2001:db8::1".parse().unwrap(), None, &mut out);
        assert_eq!(out, b"SIP/2.0/UDP a;received=2001:db8::1");
    }

    #[test]
    fn what_is_no_via_is_refused() {
        for value in [
            &b""[..],
            b"SIP/2.0/UDP",
            b"SIP/2.0 UDP host",
            b"SIP/2.0/UDP ;branch=z9hG4bKa",
            b"SIP/2.0/UDP 192.0.2.15;;,;,,",
            b"SIP/2.0/UDP a b",
            b"SIP/2.0/UDP a:x",
            b"SIP/2.0/UDP a:99999",
            b"SIP/2.0/UDP 2001:db8::1",
            b"SIP/2.0/U@P a",
            b"SIP/2.0/UDP a;branch=z9 hG",
        ] {
            assert!(matches!(Via::parse(value), Err(Malformed::Via)), "{}", value.escape_ascii());
        }
    }
}
