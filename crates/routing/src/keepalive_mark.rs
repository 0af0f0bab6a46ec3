//! The mark in a keepalive's branch: whose keepalive it was, so that any shard can tell from the answer.

use keys::Key;
use transport::Flow;

use crate::BindingId;

/// Every branch of ours that is a keepalive begins with this.
const PREFIX: &[u8] = b"z9hG4bK-k-";
const PLAIN_BYTES: usize = 2 + 8 + 4;
const MAC_BYTES: usize = 8;

/// Names one keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveMark {
    /// The partition that sent it.
    pub partition: u16,
    /// The binding it was sent to.
    pub binding: BindingId,
    /// Counts up with each keepalive of the binding.
    pub number: u32,
}

impl KeepaliveMark {
    /// Appends the branch parameter's value. It is good only when answered from `flow`'s remote side.
    pub fn write_branch(&self, key: &Key, flow: &Flow, out: &mut Vec<u8>) {
        let plain = self.plain();
        let mut sealed = plain.to_vec();
        sealed.extend_from_slice(&key.mac(&[&plain, flow_text(flow).as_bytes()]).as_bytes()[..MAC_BYTES]);
        out.extend_from_slice(PREFIX);
        keys::base32(&sealed, out);
    }

    /// Reads a branch that this server made; `None` for any other, and for an answer from elsewhere.
    pub fn read_branch(key: &Key, branch: &[u8], flow: &Flow) -> Option<Self> {
        let mut sealed = Vec::with_capacity(PLAIN_BYTES + MAC_BYTES);
        if !keys::base32_decode(branch.strip_prefix(PREFIX)?, &mut sealed) {
            return None;
        }
        let (plain, mac) = sealed.split_first_chunk::<PLAIN_BYTES>()?;
        if mac.len() != MAC_BYTES || !key.mac(&[plain, flow_text(flow).as_bytes()]).verifies(mac) {
            return None;
        }
        Some(Self {
            partition: u16::from_be_bytes([plain[0], plain[1]]),
            binding: BindingId(u64::from_be_bytes(plain[2..10].try_into().expect("8 of 14 bytes"))),
            number: u32::from_be_bytes(plain[10..14].try_into().expect("4 of 14 bytes")),
        })
    }

    fn plain(&self) -> [u8; PLAIN_BYTES] {
        let mut plain = [0; PLAIN_BYTES];
        plain[..2].copy_from_slice(&self.partition.to_be_bytes());
        plain[2..10].copy_from_slice(&self.binding.0.to_be_bytes());
        plain[10..].copy_from_slice(&self.number.to_be_bytes());
        plain
    }
}

fn flow_text(flow: &Flow) -> String {
    format!("{}", flow.remote())
}
