//! The branch of our Vias: derived from the request, so that it proves itself.
//!
//! Either node of a pair derives the same branch from the same request, and checks a response's from
//! the response's own bytes: the MAC is over what follows below our Via, which is what the key of the
//! server transaction is made of (branch and sent-by of the Via below, the method and the Call-ID).

use keys::Key;
use sip::{Message, Method, Name, Via};

use super::layout::{Reader, write_address};
use super::listener_mark::ListenerMark;

// RFC 3261 §8.1.1.7: every branch begins with the magic cookie. The letter is the layout's version; that of
// a keepalive is `-k-`.
const PREFIX: &[u8] = b"z9hG4bKa";
const PLAIN_BYTES: usize = 1 + 4 + 4 + 8;
const MAC_BYTES: usize = 8;

/// How many Vias of ours are searched in one request. Max-Forwards of a well-meaning client is 70.
const VIAS_SEARCHED_MAX: usize = 255;

/// What a branch of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// Counts the attempts to reach one target: other addresses, another transport.
    pub(super) attempt: u8,
    /// Tells the targets of one request from each other.
    pub(super) target: u32,
    /// The listener that the request came in on.
    pub(super) listener: ListenerMark,
    /// What would be the same if the request came back unchanged.
    pub(super) loop_hash: u64,
}

impl Branch {
    /// Appends the branch for a request that came with `below` as its top Via.
    pub(super) fn write(&self, key: &Key, below: &Below<'_>, out: &mut Vec<u8>) {
        let plain = self.plain();
        let mut sealed = [0; PLAIN_BYTES + MAC_BYTES];
        sealed[..PLAIN_BYTES].copy_from_slice(&plain);
        sealed[PLAIN_BYTES..].copy_from_slice(&below.mac(key, &plain).as_bytes()[..MAC_BYTES]);
        out.extend_from_slice(PREFIX);
        keys::base32(&sealed, out);
    }

    /// Reads a branch that this server made above `below`; `None` for every other.
    pub(super) fn read(key: &Key, branch: &[u8], below: &Below<'_>) -> Option<Self> {
        let mut sealed = Vec::with_capacity(PLAIN_BYTES + MAC_BYTES);
        if !keys::base32_decode(branch.strip_prefix(PREFIX)?, &mut sealed) {
            return None;
        }
        let (plain, mac) = sealed.split_first_chunk::<PLAIN_BYTES>()?;
        if mac.len() != MAC_BYTES || !below.mac(key, plain).verifies(mac) {
            return None;
        }
        let mut reader = Reader(plain);
        Some(Self {
            attempt: reader.byte()?,
            target: u32::from_be_bytes(reader.array()?),
            listener: ListenerMark(u32::from_be_bytes(reader.array()?)),
            loop_hash: u64::from_be_bytes(reader.array()?),
        })
    }

    fn plain(&self) -> [u8; PLAIN_BYTES] {
        let mut plain = [0; PLAIN_BYTES];
        plain[0] = self.attempt;
        plain[1..5].copy_from_slice(&self.target.to_be_bytes());
        plain[5..9].copy_from_slice(&self.listener.0.to_be_bytes());
        plain[9..].copy_from_slice(&self.loop_hash.to_be_bytes());
        plain
    }
}

/// What stands below our Via, from which the branch's MAC is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Below<'a> {
    /// The Via that was on top when the request came.
    pub(super) via: &'a Via<'a>,
    /// The method of the request, or of the response's CSeq.
    pub(super) method: Method<'a>,
    /// The Call-ID.
    pub(super) call_id: &'a [u8],
}

impl Below<'_> {
    fn mac(&self, key: &Key, plain: &[u8]) -> keys::Mac {
        let mut sent_by = Vec::with_capacity(48);
        self.via.host.write_to(&mut sent_by);
        sent_by.make_ascii_lowercase();
        if let Some(port) = self.via.port {
            sent_by.push(b':');
            sent_by.extend_from_slice(&port.to_be_bytes());
        }
        // Where the response goes: who is asked for it can not aim it elsewhere.
        let mut mark = Vec::with_capacity(20);
        if let Some(received) = self.via.received() {
            write_address((received, self.via.rport().flatten().unwrap_or_default()).into(), &mut mark);
        }
        let branch = self.via.branch().unwrap_or_default();
        key.mac(&[b"branch", plain, branch, &sent_by, &mark, self.method.as_bytes(), self.call_id])
    }
}

/// The hash of all that decides where the request goes; a request that comes back with the same hash
/// would go round for ever.
// RFC 5393 §4.2.1: the hash covers all that routing looks at, and no Via.
pub(super) fn loop_hash(key: &Key, request: &Message<'_>) -> u64 {
    let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![
        b"loop",
        request.request_uri().unwrap_or_default(),
        request.from_tag().unwrap_or_default(),
        request.to_tag().unwrap_or_default(),
        request.call_id().unwrap_or_default(),
        &number,
    ];
    parts.extend(request.values(Name::Route));
    // A border: what is a Route is not taken for a Proxy-Require.
    parts.push(b"");
    parts.extend(request.values(Name::ProxyRequire));
    key.mac(&parts).short()
}

/// Whether this server has forwarded a request before, be it this very one or what others have made of it.
pub(super) fn has_been_here(key: &Key, request: &Message<'_>) -> bool {
    own_branches(key, request).next().is_some()
}

/// Whether this server has forwarded this very request before.
// RFC 3261 §16.3 item 4, RFC 5393 §4.2.2: all our Vias are searched. The same hash is a loop; another hash is
// a spiral, which goes on.
pub(super) fn is_loop(key: &Key, request: &Message<'_>, hash: u64) -> bool {
    own_branches(key, request).any(|branch| branch.loop_hash == hash)
}

fn own_branches<'a>(key: &'a Key, request: &'a Message<'_>) -> impl Iterator<Item = Branch> + use<'a> {
    let vias: Vec<Via<'a>> = request.vias().map_while(Result::ok).take(VIAS_SEARCHED_MAX).collect();
    let method_and_call = request.method().zip(request.call_id().ok());
    let branches: Vec<Branch> = vias
        .windows(2)
        .filter_map(|pair| {
            let (method, call_id) = method_and_call?;
            let below = Below { via: &pair[1], method, call_id };
            pair[0].branch().and_then(|branch| Branch::read(key, branch, &below))
        })
        .collect();
    branches.into_iter()
}
