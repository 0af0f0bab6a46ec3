//! The OPTIONS that asks a gateway whether it is there, and the mark by which its answer is known.

use bytes::Bytes;
use keys::Key;
use transport::{Listener, RemoteAddr};

/// Every branch of ours that is a probe begins with this.
const PREFIX: &[u8] = b"z9hG4bK-p-";
const PLAIN_BYTES: usize = 8 + 4;
const MAC_BYTES: usize = 8;

/// Names one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeMark {
    /// Which gateway it was sent to.
    pub gateway: GatewayMark,
    /// Counts up with each probe of the gateway.
    pub number: u32,
}

/// A gateway's name as a number, the same in every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayMark(u64);

impl GatewayMark {
    /// The mark of a name.
    pub fn of(key: &Key, name: &str) -> Self {
        Self(key.mac(&[b"gateway", name.as_bytes()]).short())
    }
}

impl ProbeMark {
    /// Appends the branch parameter's value. It is good only when answered from `remote`.
    fn write_branch(&self, key: &Key, remote: &RemoteAddr, out: &mut Vec<u8>) {
        let plain = self.plain();
        let mut sealed = plain.to_vec();
        sealed.extend_from_slice(&mac(key, &plain, remote));
        out.extend_from_slice(PREFIX);
        keys::base32(&sealed, out);
    }

    /// Reads a branch that this server made; `None` for any other, and for an answer from elsewhere.
    pub fn read_branch(key: &Key, branch: &[u8], remote: &RemoteAddr) -> Option<Self> {
        let mut sealed = Vec::with_capacity(PLAIN_BYTES + MAC_BYTES);
        if !keys::base32_decode(branch.strip_prefix(PREFIX)?, &mut sealed) {
            return None;
        }
        let (plain, sent) = sealed.split_first_chunk::<PLAIN_BYTES>()?;
        let parts: [&[u8]; 3] = [b"probe", plain, &remote.to_string().into_bytes()];
        if sent.len() != MAC_BYTES || !key.mac(&parts).verifies(sent) {
            return None;
        }
        Some(Self {
            gateway: GatewayMark(u64::from_be_bytes(plain[..8].try_into().expect("8 of 12 bytes"))),
            number: u32::from_be_bytes(plain[8..].try_into().expect("4 of 12 bytes")),
        })
    }

    fn plain(&self) -> [u8; PLAIN_BYTES] {
        let mut plain = [0; PLAIN_BYTES];
        plain[..8].copy_from_slice(&self.gateway.0.to_be_bytes());
        plain[8..].copy_from_slice(&self.number.to_be_bytes());
        plain
    }
}

fn mac(key: &Key, plain: &[u8], remote: &RemoteAddr) -> [u8; MAC_BYTES] {
    let mac = key.mac(&[b"probe", plain, remote.to_string().as_bytes()]);
    let mut short = [0; MAC_BYTES];
    short.copy_from_slice(&mac.as_bytes()[..MAC_BYTES]);
    short
}

/// Writes the request.
// RFC 3261 §8.1.1: the six header fields of every request, and nothing that asks for more than an answer.
pub(super) fn write(
    key: &Key,
    mark: &ProbeMark,
    listener: &Listener,
    remote: &RemoteAddr,
    uri: &[u8],
) -> Bytes {
    let sent_by = listener.sent_by();
    let call = key.mac(&[b"probe call-id", &mark.gateway.0.to_be_bytes(), &mark.number.to_be_bytes()]);
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"OPTIONS ");
    out.extend_from_slice(uri);
    out.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
    out.extend_from_slice(listener.transport.via_name().as_bytes());
    out.push(b' ');
    out.extend_from_slice(sent_by.as_bytes());
    out.extend_from_slice(b";rport;branch=");
    mark.write_branch(key, remote, &mut out);
    out.extend_from_slice(b"\r\nMax-Forwards: 70\r\nFrom: <sip:");
    out.extend_from_slice(sent_by.as_bytes());
    out.extend_from_slice(b">;tag=");
    keys::hex(&call.as_bytes()[8..], &mut out);
    out.extend_from_slice(b"\r\nTo: <");
    out.extend_from_slice(uri);
    out.extend_from_slice(b">\r\nCall-ID: ");
    keys::hex(&call.as_bytes()[..8], &mut out);
    out.extend_from_slice(b"\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
    Bytes::from(out)
}
