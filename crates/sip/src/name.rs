//! Header names: found once when a message is framed, then compared as numbers.

/// The name of a header that something here reads or writes, or that has a compact form; `Other` for all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Name {
    /// `Via`, compact `v`.
    Via,
    /// `From`, compact `f`.
    From,
    /// `To`, compact `t`.
    To,
    /// `Call-ID`, compact `i`.
    CallId,
    /// `CSeq`.
    CSeq,
    /// `Contact`, compact `m`.
    Contact,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Route`.
    Route,
    /// `Record-Route`.
    RecordRoute,
    /// `Content-Length`, compact `l`.
    ContentLength,
    /// `Content-Type`, compact `c`.
    ContentType,
    /// `Content-Encoding`, compact `e`.
    ContentEncoding,
    /// `Content-Disposition`.
    ContentDisposition,
    /// `Content-Language`.
    ContentLanguage,
    /// `Expires`.
    Expires,
    /// `Min-Expires`.
    MinExpires,
    /// `Authorization`.
    Authorization,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `WWW-Authenticate`.
    WwwAuthenticate,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Authentication-Info`.
    AuthenticationInfo,
    /// `Proxy-Authentication-Info`.
    ProxyAuthenticationInfo,
    /// `Require`.
    Require,
    /// `Proxy-Require`.
    ProxyRequire,
    /// `Supported`, compact `k`.
    Supported,
    /// `Unsupported`.
    Unsupported,
    /// `Path`.
    Path,
    /// `Service-Route`.
    ServiceRoute,
    /// `Allow`.
    Allow,
    /// `Allow-Events`, compact `u`.
    AllowEvents,
    /// `User-Agent`.
    UserAgent,
    /// `Server`.
    Server,
    /// `Event`, compact `o`.
    Event,
    /// `Subscription-State`.
    SubscriptionState,
    /// `Retry-After`.
    RetryAfter,
    /// `P-Asserted-Identity`.
    PAssertedIdentity,
    /// `P-Preferred-Identity`.
    PPreferredIdentity,
    /// `P-Access-Network-Info`.
    PAccessNetworkInfo,
    /// `P-Associated-URI`.
    PAssociatedUri,
    /// `P-Called-Party-ID`.
    PCalledPartyId,
    /// `Privacy`.
    Privacy,
    /// `Max-Breadth`.
    MaxBreadth,
    /// `Reason`.
    Reason,
    /// `Date`.
    Date,
    /// `Timestamp`.
    Timestamp,
    /// `Session-Expires`, compact `x`.
    SessionExpires,
    /// `Min-SE`.
    MinSe,
    /// `RAck`.
    Rack,
    /// `RSeq`.
    RSeq,
    /// `Refer-To`, compact `r`.
    ReferTo,
    /// `Referred-By`, compact `b`.
    ReferredBy,
    /// `Refer-Sub`.
    ReferSub,
    /// `Replaces`.
    Replaces,
    /// `Join`.
    Join,
    /// `Target-Dialog`.
    TargetDialog,
    /// `Flow-Timer`.
    FlowTimer,
    /// `Accept`.
    Accept,
    /// `Accept-Encoding`.
    AcceptEncoding,
    /// `Accept-Language`.
    AcceptLanguage,
    /// `Accept-Contact`, compact `a`.
    AcceptContact,
    /// `Reject-Contact`, compact `j`.
    RejectContact,
    /// `Request-Disposition`, compact `d`.
    RequestDisposition,
    /// `Identity`, compact `y`.
    Identity,
    /// `Subject`, compact `s`.
    Subject,
    /// `Organization`.
    Organization,
    /// `Priority`.
    Priority,
    /// `Warning`.
    Warning,
    /// `Error-Info`.
    ErrorInfo,
    /// `Alert-Info`.
    AlertInfo,
    /// `Call-Info`.
    CallInfo,
    /// `In-Reply-To`.
    InReplyTo,
    /// `Reply-To`.
    ReplyTo,
    /// `MIME-Version`.
    MimeVersion,
    /// `History-Info`.
    HistoryInfo,
    /// `Diversion`.
    Diversion,
    /// `SIP-ETag`.
    SipETag,
    /// `SIP-If-Match`.
    SipIfMatch,
    /// `Info-Package`.
    InfoPackage,
    /// `Recv-Info`.
    RecvInfo,
    /// A name that is not in this list: compared by its bytes.
    Other,
}

impl Name {
    /// The name that `bytes` spells, in any case, in its long or its compact form.
    // RFC 3261 §7.3.1: names are compared without case.
    // RFC 3261 §7.3.3: either form may come at any time.
    pub fn from_bytes(bytes: &[u8]) -> Name {
        if let [letter] = bytes {
            return COMPACT[letter.to_ascii_lowercase() as usize];
        }
        let mut at = slot(bytes);
        loop {
            let name = SLOTS[at];
            if name as u8 == Name::Other as u8 || is_same(CANONICAL[name as usize].1, bytes) {
                return name;
            }
            at = (at + 1) % SLOTS.len();
        }
    }

    /// The name as the RFCs write it; empty for `Other`.
    pub fn canonical(self) -> &'static [u8] {
        CANONICAL[self as usize].1
    }

    /// The bit of this name in a set of names.
    pub(crate) fn bit(self) -> u128 {
        1 << self as u8
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.canonical().escape_ascii(), f)
    }
}

/// Each name, its long form and its compact form (0 if it has none), in the order of the enum.
const CANONICAL: [(Name, &[u8], u8); Name::Other as usize + 1] = [
    (Name::Via, b"Via", b'v'),
    (Name::From, b"From", b'f'),
    (Name::To, b"To", b't'),
    (Name::CallId, b"Call-ID", b'i'),
    (Name::CSeq, b"CSeq", 0),
    (Name::Contact, b"Contact", b'm'),
    (Name::MaxForwards, b"Max-Forwards", 0),
    (Name::Route, b"Route", 0),
    (Name::RecordRoute, b"Record-Route", 0),
    (Name::ContentLength, b"Content-Length", b'l'),
    (Name::ContentType, b"Content-Type", b'c'),
    (Name::ContentEncoding, b"Content-Encoding", b'e'),
    (Name::ContentDisposition, b"Content-Disposition", 0),
    (Name::ContentLanguage, b"Content-Language", 0),
    (Name::Expires, b"Expires", 0),
    (Name::MinExpires, b"Min-Expires", 0),
    (Name::Authorization, b"Authorization", 0),
    (Name::ProxyAuthorization, b"Proxy-Authorization", 0),
    (Name::WwwAuthenticate, b"WWW-Authenticate", 0),
    (Name::ProxyAuthenticate, b"Proxy-Authenticate", 0),
    (Name::AuthenticationInfo, b"Authentication-Info", 0),
    (Name::ProxyAuthenticationInfo, b"Proxy-Authentication-Info", 0),
    (Name::Require, b"Require", 0),
    (Name::ProxyRequire, b"Proxy-Require", 0),
    (Name::Supported, b"Supported", b'k'),
    (Name::Unsupported, b"Unsupported", 0),
    (Name::Path, b"Path", 0),
    (Name::ServiceRoute, b"Service-Route", 0),
    (Name::Allow, b"Allow", 0),
    (Name::AllowEvents, b"Allow-Events", b'u'),
    (Name::UserAgent, b"User-Agent", 0),
    (Name::Server, b"Server", 0),
    (Name::Event, b"Event", b'o'),
    (Name::SubscriptionState, b"Subscription-State", 0),
    (Name::RetryAfter, b"Retry-After", 0),
    (Name::PAssertedIdentity, b"P-Asserted-Identity", 0),
    (Name::PPreferredIdentity, b"P-Preferred-Identity", 0),
    (Name::PAccessNetworkInfo, b"P-Access-Network-Info", 0),
    (Name::PAssociatedUri, b"P-Associated-URI", 0),
    (Name::PCalledPartyId, b"P-Called-Party-ID", 0),
    (Name::Privacy, b"Privacy", 0),
    (Name::MaxBreadth, b"Max-Breadth", 0),
    (Name::Reason, b"Reason", 0),
    (Name::Date, b"Date", 0),
    (Name::Timestamp, b"Timestamp", 0),
    (Name::SessionExpires, b"Session-Expires", b'x'),
    (Name::MinSe, b"Min-SE", 0),
    (Name::Rack, b"RAck", 0),
    (Name::RSeq, b"RSeq", 0),
    (Name::ReferTo, b"Refer-To", b'r'),
    (Name::ReferredBy, b"Referred-By", b'b'),
    (Name::ReferSub, b"Refer-Sub", 0),
    (Name::Replaces, b"Replaces", 0),
    (Name::Join, b"Join", 0),
    (Name::TargetDialog, b"Target-Dialog", 0),
    (Name::FlowTimer, b"Flow-Timer", 0),
    (Name::Accept, b"Accept", 0),
    (Name::AcceptEncoding, b"Accept-Encoding", 0),
    (Name::AcceptLanguage, b"Accept-Language", 0),
    (Name::AcceptContact, b"Accept-Contact", b'a'),
    (Name::RejectContact, b"Reject-Contact", b'j'),
    (Name::RequestDisposition, b"Request-Disposition", b'd'),
    (Name::Identity, b"Identity", b'y'),
    (Name::Subject, b"Subject", b's'),
    (Name::Organization, b"Organization", 0),
    (Name::Priority, b"Priority", 0),
    (Name::Warning, b"Warning", 0),
    (Name::ErrorInfo, b"Error-Info", 0),
    (Name::AlertInfo, b"Alert-Info", 0),
    (Name::CallInfo, b"Call-Info", 0),
    (Name::InReplyTo, b"In-Reply-To", 0),
    (Name::ReplyTo, b"Reply-To", 0),
    (Name::MimeVersion, b"MIME-Version", 0),
    (Name::HistoryInfo, b"History-Info", 0),
    (Name::Diversion, b"Diversion", 0),
    (Name::SipETag, b"SIP-ETag", 0),
    (Name::SipIfMatch, b"SIP-If-Match", 0),
    (Name::InfoPackage, b"Info-Package", 0),
    (Name::RecvInfo, b"Recv-Info", 0),
    (Name::Other, b"", 0),
];

// Invariant: a name's number is its place in the table, and all numbers fit in a set of 128 bits.
const _: () = {
    assert!(CANONICAL.len() <= 128);
    let mut at = 0;
    while at < CANONICAL.len() {
        assert!(CANONICAL[at].0 as usize == at);
        at += 1;
    }
};

const COMPACT: [Name; 256] = {
    let mut table = [Name::Other; 256];
    let mut at = 0;
    while at < CANONICAL.len() {
        let letter = CANONICAL[at].2;
        if letter != 0 {
            table[letter as usize] = CANONICAL[at].0;
        }
        at += 1;
    }
    table
};

/// A hash table with open addressing, built by the compiler. It is a quarter full at most, so chains are short.
const SLOTS: [Name; 512] = {
    let mut table = [Name::Other; 512];
    let mut at = 0;
    while at < Name::Other as usize {
        let mut place = slot(CANONICAL[at].1);
        while table[place] as u8 != Name::Other as u8 {
            place = (place + 1) % table.len();
        }
        table[place] = CANONICAL[at].0;
        at += 1;
    }
    table
};

/// Compares without case, as many bytes at a time as there are; the last words overlap. Besides letters of both cases
/// a few bytes that may not stand in a token come out equal.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let is_same_word = |a: [u8; 8], b: [u8; 8]| (u64::from_le_bytes(a) ^ u64::from_le_bytes(b)) & !CASE == 0;
    let is_same_half =
        |a: [u8; 4], b: [u8; 4]| (u32::from_le_bytes(a) ^ u32::from_le_bytes(b)) & !(CASE as u32) == 0;
    if a.len() != b.len() {
        return false;
    }
    if let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
        is_same_word(*a_last, *b_last) && a_words.iter().zip(b_words).all(|(a, b)| is_same_word(*a, *b))
    } else if let (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) =
        (a.first_chunk::<4>(), b.first_chunk::<4>(), a.last_chunk::<4>(), b.last_chunk::<4>())
    {
        is_same_half(*a_first, *b_first) && is_same_half(*a_last, *b_last)
    } else {
        a.iter().zip(b).all(|(a, b)| (a ^ b) & !0x20 == 0)
    }
}

/// Where to look for a name: made of its length, its first, middle and last byte without case.
const fn slot(bytes: &[u8]) -> usize {
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return 0 };
    let middle = bytes[bytes.len() / 2];
    let mixed = (*first | 0x20) as usize * 7
        + (*last | 0x20) as usize * 31
        + (middle | 0x20) as usize * 61
        + bytes.len() * 131;
    mixed % 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_by_its_compact_form() {
        for &(name, long, compact) in &CANONICAL[..Name::Other as usize] {
            assert_eq!(Name::from_bytes(long), name);
            assert_eq!(Name::from_bytes(&long.to_ascii_uppercase()), name);
            assert_eq!(Name::from_bytes(&long.to_ascii_lowercase()), name);
            if compact != 0 {
                assert_eq!(Name::from_bytes(&[compact]), name);
                assert_eq!(Name::from_bytes(&[compact.to_ascii_uppercase()]), name);
            }
        }
    }

    #[test]
    fn a_name_that_only_looks_alike_is_another() {
        for bytes in [&b"Vias"[..], b"Vi", b"C%6Fntact", b"To ", b"", b"z", b"\xff", b"Call_ID", b"CallID"] {
            assert_eq!(Name::from_bytes(bytes), Name::Other, "{}", bytes.escape_ascii());
        }
    }
}
