//! Digest credentials and challenges as text (RFC 3261 §22.4, RFC 7616,
//! RFC 8760). Nothing is computed here.

use memchr::memchr;

use crate::Malformed;
use crate::grammar::{hex_digit, is_lws, is_token, is_token_byte, quoted_len, trim, trim_start};

/// A parameter's value, with or without quotes.
#[derive(Clone, Copy, Debug)]
pub struct AuthValue<'a> {
    /// What stands between the quotes, or the token.
    inner: &'a [u8],
    quoted: bool,
}

impl<'a> AuthValue<'a> {
    /// What stands between the quotes, escapes left in; or the token.
    // RFC 7616 §3.4.2: `unq()` of the digest takes off the quotes and nothing else.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.inner
    }

    /// The bytes with escapes undone.
    pub fn unescaped(&self) -> impl Iterator<Item = u8> + use<'a> {
        let mut rest = self.inner;
        let quoted = self.quoted;
        std::iter::from_fn(move || {
            let (mut first, mut after) = rest.split_first()?;
            if quoted
                && *first == b'\\'
                && let Some((escaped, after_escaped)) = after.split_first()
            {
                (first, after) = (escaped, after_escaped);
            }
            rest = after;
            Some(*first)
        })
    }

    /// Appends the bytes with escapes undone.
    pub fn unquote_into(&self, out: &mut Vec<u8>) {
        out.extend(self.unescaped());
    }

    /// Whether the value is `bytes` once escapes are undone.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.unescaped().eq(bytes.iter().copied())
    }

    /// The same without case.
    pub fn is_ignoring_case(&self, bytes: &[u8]) -> bool {
        self.unescaped().map(|byte| byte.to_ascii_lowercase()).eq(bytes.iter().map(u8::to_ascii_lowercase))
    }
}

/// The value of one Authorization or Proxy-Authorization line. A line holds one, and its commas separate parameters.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The scheme, as it came: `Digest`.
    pub scheme: &'a [u8],
    /// `username`.
    pub username: Option<AuthValue<'a>>,
    /// `realm`.
    pub realm: Option<AuthValue<'a>>,
    /// `nonce`.
    pub nonce: Option<AuthValue<'a>>,
    /// `uri`.
    pub uri: Option<AuthValue<'a>>,
    /// `response`.
    pub response: Option<AuthValue<'a>>,
    /// `algorithm`.
    pub algorithm: Option<AuthValue<'a>>,
    /// `cnonce`.
    pub cnonce: Option<AuthValue<'a>>,
    /// `opaque`.
    pub opaque: Option<AuthValue<'a>>,
    /// `qop`.
    pub qop: Option<AuthValue<'a>>,
    /// `nc` as it came: it goes into the digest as text.
    pub nc: Option<AuthValue<'a>>,
    /// `userhash`.
    pub userhash: Option<AuthValue<'a>>,
}

impl<'a> Credentials<'a> {
    /// Reads the value of one line. Of another scheme than Digest only the scheme is read; a parameter that stands
    /// there twice is refused, because two readers could take different ones.
    pub fn parse(value: &'a [u8]) -> Result<Credentials<'a>, Malformed> {
        let (scheme, parameters) = split_scheme(value)?;
        let mut credentials = Self::of_scheme(scheme);
        if !credentials.is_digest() {
            return Ok(credentials);
        }
        for parameter in split_parameters(parameters) {
            let (name, value) = parameter?;
            if let Some(place) = credentials.place(name)
                && place.replace(value).is_some()
            {
                return Err(Malformed::Credentials);
            }
        }
        Ok(credentials)
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"Digest")
    }

    /// `nc` as a number. `None` if it is not there or not eight hexadecimal digits.
    pub fn nonce_count(&self) -> Option<u32> {
        let digits = self.nc?.as_bytes();
        if digits.len() != 8 {
            return None;
        }
        digits.iter().try_fold(0u32, |number, &digit| Some(number << 4 | u32::from(hex_digit(digit)?)))
    }

    fn of_scheme(scheme: &'a [u8]) -> Self {
        Self {
            scheme,
            username: None,
            realm: None,
            nonce: None,
            uri: None,
            response: None,
            algorithm: None,
            cnonce: None,
            opaque: None,
            qop: None,
            nc: None,
            userhash: None,
        }
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<AuthValue<'a>>> {
        let mut lower = [0u8; NAME_BYTES_MAX];
        Some(match lower_name(name, &mut lower)? {
            b"username" => &mut self.username,
            b"realm" => &mut self.realm,
            b"nonce" => &mut self.nonce,
            b"uri" => &mut self.uri,
            b"response" => &mut self.response,
            b"algorithm" => &mut self.algorithm,
            b"cnonce" => &mut self.cnonce,
            b"opaque" => &mut self.opaque,
            b"qop" => &mut self.qop,
            b"nc" => &mut self.nc,
            b"userhash" => &mut self.userhash,
            _ => return None,
        })
    }
}

/// The longest name of a parameter that is looked at.
const NAME_BYTES_MAX: usize = "algorithm".len();

fn lower_name<'l>(name: &[u8], lower: &'l mut [u8; NAME_BYTES_MAX]) -> Option<&'l [u8]> {
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    Some(lower)
}

/// Splits the scheme from what follows it.
fn split_scheme(value: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let value = trim(value);
    let scheme_len = value.iter().position(|&byte| is_lws(byte)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_len);
    if is_token(scheme) { Ok((scheme, rest)) } else { Err(Malformed::Credentials) }
}

/// All `name = value`, up to one that can not be read.
fn split_parameters(mut rest: &[u8]) -> impl Iterator<Item = Result<(&[u8], AuthValue<'_>), Malformed>> {
    std::iter::from_fn(move || {
        rest = skip_commas(rest);
        if rest.is_empty() {
            return None;
        }
        let Some((name, value, after)) = split_parameter(rest) else {
            rest = &[];
            return Some(Err(Malformed::Credentials));
        };
        rest = after;
        Some(Ok((name, value)))
    })
}

fn skip_commas(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = trim_start(rest);
        match rest.strip_prefix(b",") {
            Some(after) => rest = after,
            None => return rest,
        }
    }
}

/// Splits `name = value` off; the rest begins with a comma or is empty.
fn split_parameter(bytes: &[u8]) -> Option<(&[u8], AuthValue<'_>, &[u8])> {
    let equals = memchr(b'=', bytes)?;
    let name = trim(&bytes[..equals]);
    let rest = trim_start(&bytes[equals + 1..]);
    let (value, rest) = if rest.first() == Some(&b'"') {
        let (quoted, rest) = rest.split_at(quoted_len(rest)?);
        (AuthValue { inner: &quoted[1..quoted.len() - 1], quoted: true }, rest)
    } else {
        let (token, rest) = rest.split_at(memchr(b',', rest).unwrap_or(rest.len()));
        // Some phones send `uri` without its quotes, so the value may have more than a token.
        let token = trim(token);
        if token.iter().any(|&byte| is_lws(byte) || byte == b'"') {
            return None;
        }
        (AuthValue { inner: token, quoted: false }, rest)
    };
    let rest = trim_start(rest);
    let is_parameter = !name.is_empty()
        && name.iter().all(|&byte| is_token_byte(byte))
        && (rest.is_empty() || rest.starts_with(b","));
    is_parameter.then_some((name, value, rest))
}

/// The value of one WWW-Authenticate or Proxy-Authenticate line, as somebody else wrote it.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedChallenge<'a> {
    /// The scheme, as it came: `Digest`.
    pub scheme: &'a [u8],
    /// `realm`.
    pub realm: Option<AuthValue<'a>>,
    /// `nonce`.
    pub nonce: Option<AuthValue<'a>>,
    /// `opaque`, which the credentials repeat.
    pub opaque: Option<AuthValue<'a>>,
    /// `algorithm`; MD5 where it is absent.
    pub algorithm: Option<AuthValue<'a>>,
    /// `qop`: a list of tokens.
    pub qop: Option<AuthValue<'a>>,
    /// `stale`.
    pub stale: Option<AuthValue<'a>>,
}

impl<'a> ReceivedChallenge<'a> {
    /// Reads the value of one line. Of another scheme than Digest only the scheme is read; a parameter that stands
    /// there twice is refused.
    // RFC 3261 §7.3.1: each line holds one challenge, although its parameters are separated by commas.
    pub fn parse(value: &'a [u8]) -> Result<ReceivedChallenge<'a>, Malformed> {
        let (scheme, parameters) = split_scheme(value)?;
        let mut challenge =
            Self { scheme, realm: None, nonce: None, opaque: None, algorithm: None, qop: None, stale: None };
        if !challenge.is_digest() {
            return Ok(challenge);
        }
        for parameter in split_parameters(parameters) {
            let (name, value) = parameter?;
            let mut lower = [0u8; NAME_BYTES_MAX];
            let place = match lower_name(name, &mut lower).unwrap_or_default() {
                b"realm" => &mut challenge.realm,
                b"nonce" => &mut challenge.nonce,
                b"opaque" => &mut challenge.opaque,
                b"algorithm" => &mut challenge.algorithm,
                b"qop" => &mut challenge.qop,
                b"stale" => &mut challenge.stale,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Malformed::Credentials);
            }
        }
        Ok(challenge)
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"Digest")
    }

    /// Whether only the nonce was too old.
    pub fn is_stale(&self) -> bool {
        self.stale.is_some_and(|stale| stale.is_ignoring_case(b"true"))
    }

    /// The tokens of `qop`; `None` where it is absent, which is the old form of digest.
    pub fn qops(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let tokens = self.qop?.as_bytes().split(|&byte| byte == b',');
        Some(tokens.map(trim).filter(|token| !token.is_empty()))
    }
}

/// A digest challenge, the value of WWW-Authenticate or Proxy-Authenticate.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// The realm, unquoted.
    pub realm: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8],
    /// `MD5`, `SHA-256`, `SHA-512-256`.
    pub algorithm: &'a [u8],
    /// Whether the client may try again with the same password.
    pub freshness: Freshness,
}

/// Why a challenge is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// There were no good credentials.
    Wrong,
    /// The digest was right, but its nonce is too old: `stale=true`.
    Stale,
}

impl Challenge<'_> {
    /// Appends the value, with `qop="auth"`.
    // RFC 8760 §2.4 and RFC 7616 §3.3: realm, nonce and qop are quoted, algorithm and stale are tokens.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Digest realm=");
        write_quoted(self.realm, out);
        out.extend_from_slice(b", nonce=");
        write_quoted(self.nonce, out);
        if self.freshness == Freshness::Stale {
            out.extend_from_slice(b", stale=true");
        }
        out.extend_from_slice(b", algorithm=");
        out.extend_from_slice(self.algorithm);
        out.extend_from_slice(b", qop=\"auth\"");
    }
}

/// Appends `bytes` as a quoted string; controls, which no escape can carry, become spaces.
pub fn write_quoted(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 | 0x7f => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &[u8] =
        b"Digest username=\"Al\\\"ice\", realm=\"a, b\",\r\n nonce=\"xyz\", URI=\"sip:b@c;x=1,2\", \
        response=\"0011\", algorithm=SHA-256, cnonce=\"c\", opaque=\"\", qop=auth, nc=0000000a, extra=1";

    #[test]
    fn all_parameters_are_found() {
        let credentials = Credentials::parse(FULL).unwrap();

        assert!(credentials.is_digest());
        assert!(credentials.username.unwrap().is(b"Al\"ice"));
        assert_eq!(credentials.username.unwrap().as_bytes(), b"Al\\\"ice");
        assert_eq!(credentials.realm.unwrap().as_bytes(), b"a, b");
        assert_eq!(credentials.uri.unwrap().as_bytes(), b"sip:b@c;x=1,2");
        assert_eq!(credentials.algorithm.unwrap().as_bytes(), b"SHA-256");
        assert_eq!(credentials.opaque.unwrap().as_bytes(), b"");
        assert_eq!(credentials.qop.unwrap().as_bytes(), b"auth");
        assert_eq!(credentials.nonce_count(), Some(10));
        let mut out = Vec::new();
        credentials.username.unwrap().unquote_into(&mut out);
        assert_eq!(out, b"Al\"ice");
    }

    #[test]
    fn another_scheme_is_named_and_not_read() {
        let credentials = Credentials::parse(b"NoOneKnowsThisScheme opaque-data=here").unwrap();

        assert!(!credentials.is_digest());
        assert!(credentials.username.is_none());
    }

    #[test]
    fn bad_credentials_are_refused() {
        for value in [
            &b""[..],
            b"Digest username",
            b"Digest username=\"a",
            b"Digest username=\"a\" realm=\"b\"",
            b"Digest username=\"a\", username=\"b\"",
            b"Digest =\"a\"",
            b"Digest user name=\"a\"",
            b"Digest nc=1 2",
        ] {
            assert!(Credentials::parse(value).is_err(), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_nonce_count_has_eight_hexadecimal_digits() {
        for (value, count) in [
            (&b"Digest nc=ffffffff"[..], Some(u32::MAX)),
            (b"Digest nc=\"00000001\"", Some(1)),
            (b"Digest nc=1", None),
            (b"Digest nc=0000000g", None),
            (b"Digest", None),
        ] {
            assert_eq!(Credentials::parse(value).unwrap().nonce_count(), count);
        }
    }

    #[test]
    fn a_challenge_is_read_whatever_its_spacing_and_case() {
        let value: &[u8] = b"digest Realm=\"a, b\" , NONCE=\"x=\",opaque=\"\",stale=TRUE, algorithm=SHA-256,\
            qop=\"auth , auth-int\", domain=\"sip:c\", a-long-extension=1";

        let challenge = ReceivedChallenge::parse(value).unwrap();

        assert!(challenge.is_digest() && challenge.is_stale());
        assert_eq!(challenge.realm.unwrap().as_bytes(), b"a, b");
        assert_eq!(challenge.nonce.unwrap().as_bytes(), b"x=");
        assert_eq!(challenge.opaque.unwrap().as_bytes(), b"");
        assert_eq!(challenge.algorithm.unwrap().as_bytes(), b"SHA-256");
        assert_eq!(challenge.qops().unwrap().collect::<Vec<_>>(), [&b"auth"[..], b"auth-int"]);
        assert!(ReceivedChallenge::parse(b"Digest nonce=\"x\"").unwrap().qops().is_none());
    }

    #[test]
    fn a_challenge_of_another_scheme_is_named_and_a_doubled_nonce_refused() {
        let basic = ReceivedChallenge::parse(b"Basic realm=\"a\"").unwrap();

        assert!(!basic.is_digest() && basic.realm.is_none());
        assert!(ReceivedChallenge::parse(b"Digest nonce=\"x\", nonce=\"y\"").is_err());
        assert!(ReceivedChallenge::parse(b"Digest nonce=\"x").is_err());
        assert!(ReceivedChallenge::parse(b"").is_err());
    }

    #[test]
    fn a_challenge_is_written_with_its_quotes() {
        let mut out = Vec::new();

        Challenge { realm: b"a\"b", nonce: b"n", algorithm: b"SHA-256", freshness: Freshness::Stale }
            .write(&mut out);

        assert_eq!(out, b"Digest realm=\"a\\\"b\", nonce=\"n\", stale=true, algorithm=SHA-256, qop=\"auth\"");
    }
}
