//! Globally routable URIs of one phone (RFC 5627): made for it when it registers, and read when somebody calls it.
//!
//! A public one is the address of record with the phone's instance: it tells who is called. A temporary one is a
//! sealed text in place of the user, which tells nothing: in it are the address of record, and marks of the instance
//! and of the series of registrations (its Call-ID) that it was given in. Nothing is remembered of either: a public
//! one is good whenever, a temporary one while the phone is registered in that same series.

use bytes::Bytes;
use keys::Key;
use sip::{Aor, SipUri};

use crate::call::seal;

/// An instance that is longer gets no GRUU: a URN of a UUID has 45 bytes.
const INSTANCE_BYTES_MAX: usize = 128;
/// The same for an address of record: with it the sealed text has 200 letters.
const AOR_BYTES_MAX: usize = 96;
/// Before what is sealed, so that hardly any other user is taken for one of ours.
const KIND: u8 = 0x6d;

/// The URIs of one phone, without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gruus {
    /// Tells who and which phone.
    pub public: Bytes,
    /// Tells nothing.
    pub temporary: Bytes,
}

/// Which phone of an address of record a GRUU means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phone {
    /// The one with this instance: a URN, without brackets.
    Instance(Bytes),
    /// The one with this mark of its instance, while it registers in the series with this mark.
    Temporary {
        /// Of the instance.
        instance: u64,
        /// Of the Call-ID of its REGISTER requests.
        series: u32,
    },
}

/// What a URI with a `gr` parameter means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gruu {
    /// A phone of this address of record.
    Of(Aor, Phone),
    /// Nothing: it was not made here, or it was changed.
    Invalid,
}

/// The registration that a GRUU is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration<'a> {
    /// The address of record.
    pub aor: &'a Aor,
    /// `+sip.instance` without quotes.
    pub instance: &'a [u8],
    /// Call-ID of the REGISTER.
    pub call_id: &'a [u8],
    /// The number in its CSeq.
    pub cseq: u32,
}

/// The GRUUs that a registration is told; `None` if it has no instance that could stand in one.
// RFC 5627 §5.4: the public one is the same for ever, the temporary one is another for each REGISTER.
pub(crate) fn make(key: &Key, registration: &Registration<'_>) -> Option<Gruus> {
    let Registration { aor, instance, call_id, cseq } = *registration;
    let urn = urn(instance)?;
    let is_text = urn.iter().all(|&byte| is_param_byte(byte));
    if !is_text || urn.len() > INSTANCE_BYTES_MAX || aor.as_str().len() > AOR_BYTES_MAX {
        return None;
    }
    let public = [b"sip:", aor.as_str().as_bytes(), b";gr=", urn].concat();
    let plain = [
        &instance_mark(key, urn).to_be_bytes()[..],
        &series_mark(key, call_id).to_be_bytes(),
        &cseq.to_be_bytes(),
        aor.as_str().as_bytes(),
    ]
    .concat();
    let mut sealed = vec![KIND];
    seal::seal(key, b"", &plain, &mut sealed);
    let mut temporary = b"sip:".to_vec();
    keys::base32(&sealed, &mut temporary);
    temporary.extend_from_slice(format!("@{};gr", aor.domain()).as_bytes());
    Some(Gruus { public: Bytes::from(public), temporary: Bytes::from(temporary) })
}

/// What a URI of one of our domains means if it is a GRUU; `None` for every other.
// RFC 5627 §3.1: the parameter `gr` makes it one; with a value it is public.
pub(crate) fn read(key: &Key, uri: &SipUri<'_>) -> Option<Gruu> {
    match uri.param(b"gr")? {
        Some(instance) => Some(match Aor::of(uri) {
            Some(aor) => Gruu::Of(aor, Phone::Instance(Bytes::copy_from_slice(instance))),
            None => Gruu::Invalid,
        }),
        None => Some(uri.user.and_then(|user| open(key, user)).unwrap_or(Gruu::Invalid)),
    }
}

/// Whether a phone that is registered so is the one that is meant.
pub(crate) fn is_meant(key: &Key, phone: &Phone, instance: &[u8], call_id: &[u8]) -> bool {
    let Some(urn) = urn(instance) else { return false };
    match phone {
        Phone::Instance(wanted) => wanted.eq_ignore_ascii_case(urn),
        // RFC 5627 §3.2: a REGISTER with another Call-ID ends all temporary ones of the phone.
        Phone::Temporary { instance, series } => {
            *instance == instance_mark(key, urn) && *series == series_mark(key, call_id)
        }
    }
}

fn open(key: &Key, user: &[u8]) -> Option<Gruu> {
    let mut sealed = Vec::with_capacity(user.len());
    if !keys::base32_decode(user, &mut sealed) {
        return None;
    }
    let (&KIND, sealed) = sealed.split_first()? else { return None };
    let plain = seal::open(key, b"", sealed)?;
    let (instance, rest) = plain.split_first_chunk()?;
    let (series, rest) = rest.split_first_chunk()?;
    let (_cseq, aor) = rest.split_first_chunk::<4>()?;
    let phone =
        Phone::Temporary { instance: u64::from_be_bytes(*instance), series: u32::from_be_bytes(*series) };
    Some(Gruu::Of(Aor::parse(str::from_utf8(aor).ok()?)?, phone))
}

/// RFC 5626 §4.1: the URN stands in angle brackets. Its case makes no difference, its letters go into marks in one.
fn urn(instance: &[u8]) -> Option<&[u8]> {
    instance.strip_prefix(b"<")?.strip_suffix(b">").filter(|urn| !urn.is_empty())
}

fn instance_mark(key: &Key, urn: &[u8]) -> u64 {
    key.mac(&[b"instance", &urn.to_ascii_lowercase()]).short()
}

fn series_mark(key: &Key, call_id: &[u8]) -> u32 {
    (key.mac(&[b"call-id", call_id]).short() >> 32) as u32
}

/// RFC 3261 §25.1: what may stand in a URI's parameter without escape.
const fn is_param_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_'
                | b'.'
                | b'!'
                | b'~'
                | b'*'
                | b'\''
                | b'('
                | b')'
                | b'['
                | b']'
                | b'/'
                | b':'
                | b'&'
                | b'+'
                | b'$'
                | b'%'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_gruu_names_the_address_and_the_phone() {
        let gruus = make(&key(1), &registration(1)).expect("it has an instance");

        assert_eq!(gruus.public, "sip:bob@example.org;gr=urn:uuid:F81D");
        let (aor, phone) = of(&key(1), &gruus.public);
        assert_eq!(aor.as_str(), "bob@example.org");
        assert!(is_meant(&key(1), &phone, b"<urn:uuid:f81d>", b"any"));
        assert!(!is_meant(&key(1), &phone, b"<urn:uuid:f81e>", b"any"));
    }

    /// RFC 5627 §3.2: a temporary one is another for each REGISTER, and all of one Call-ID are good.
    #[test]
    fn a_temporary_gruu_names_nobody_and_is_good_for_its_series() {
        let (first, second) = (make(&key(1), &registration(1)), make(&key(1), &registration(2)));
        let (first, second) = (first.expect("made").temporary, second.expect("made").temporary);
        assert_ne!(first, second);
        assert!(!String::from_utf8_lossy(&first).contains("bob") && first.ends_with(b"@example.org;gr"));

        for temporary in [first, second] {
            let (aor, phone) = of(&key(1), &temporary);
            assert_eq!(aor.as_str(), "bob@example.org");
            assert!(is_meant(&key(1), &phone, b"<urn:uuid:F81D>", b"series-1"));
            assert!(!is_meant(&key(1), &phone, b"<urn:uuid:F81D>", b"series-2"));
            assert!(!is_meant(&key(1), &phone, b"<urn:uuid:other>", b"series-1"));
        }
    }

    #[test]
    fn what_was_not_made_here_is_no_temporary_gruu() {
        let temporary = make(&key(1), &registration(1)).expect("made").temporary;
        assert_eq!(read_text(&key(2), &temporary), Some(Gruu::Invalid));
        for place in 4..temporary.len() - b"@example.org;gr".len() {
            let mut changed = temporary.to_vec();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            assert_eq!(read_text(&key(1), &changed), Some(Gruu::Invalid), "letter {place}");
        }
        assert_eq!(read_text(&key(1), b"sip:bob@example.org;gr"), Some(Gruu::Invalid));
        assert_eq!(read_text(&key(1), b"sip:example.org;gr=urn:uuid:1"), Some(Gruu::Invalid));
        assert_eq!(read_text(&key(1), b"sip:bob@example.org"), None);
    }

    #[test]
    fn what_can_not_stand_in_a_uri_gets_none() {
        let long = [b"<urn:", &vec![b'x'; 200][..], b">"].concat();
        for instance in [&b""[..], b"urn:uuid:1", b"<>", b"<urn:a b>", b"<urn:a;b>", &long] {
            let registration = Registration { instance, ..registration(1) };
            assert_eq!(make(&key(1), &registration), None, "{}", instance.escape_ascii());
        }
    }

    fn key(seed: u8) -> Key {
        keys::RootKey::new([seed; 32]).subkey("gruu", 0)
    }

    fn registration(cseq: u32) -> Registration<'static> {
        static BOB: std::sync::LazyLock<Aor> =
            std::sync::LazyLock::new(|| Aor::parse("bob@example.org").expect("an address"));
        Registration { aor: &BOB, instance: b"<urn:uuid:F81D>", call_id: b"series-1", cseq }
    }

    fn read_text(key: &Key, text: &[u8]) -> Option<Gruu> {
        read(key, &SipUri::parse(text).expect("a URI"))
    }

    fn of(key: &Key, text: &[u8]) -> (Aor, Phone) {
        match read_text(key, text) {
            Some(Gruu::Of(aor, phone)) => (aor, phone),
            other => panic!("{other:?}"),
        }
    }
}
