//! The subkeys of routing, one for each purpose.

use keys::{Key, RootKey};

/// All keys that routing uses. Both nodes of a pair derive the same from the cluster's key.
#[derive(Clone, Debug)]
pub struct Keyring {
    /// Transaction keys: hashes that a stranger can not make collide.
    pub transaction: Key,
    /// MACs in the branch of our Vias.
    pub branch: Key,
    /// To tags of responses that keep no state.
    pub tag: Key,
    /// Digest nonces.
    pub nonce: Key,
    /// Marks of keepalive requests.
    pub keepalive: Key,
    /// What our own accounts at carriers are known by: Call-IDs, tags, cnonces.
    pub trunk: Key,
    /// Tables of sources: hashes that a stranger can not make collide.
    pub bans: Key,
    /// Which requests are refused under overload, and when their senders may come back.
    pub overload: Key,
    /// Which partition an address of record belongs to.
    pub partition: Key,
    /// Record-Route tokens that are made.
    pub token: Key,
    /// The number of `token`.
    pub token_number: u8,
    /// Flow tokens: in Path, and in a Contact that leads here.
    pub flow: Key,
    /// Temporary GRUUs.
    pub gruu: Key,
    /// Record-Route tokens of the key before, for 24 hours after a change.
    pub token_previous: Option<(u8, Key)>,
}

impl Keyring {
    /// Derives all keys from the node's or cluster's secret.
    pub fn derive(root: &RootKey) -> Self {
        Self {
            transaction: root.subkey("transaction", 0),
            branch: root.subkey("branch", 0),
            tag: root.subkey("to tag", 0),
            nonce: root.subkey("nonce", 0),
            keepalive: root.subkey("keepalive", 0),
            trunk: root.subkey("trunk", 0),
            bans: root.subkey("bans", 0),
            overload: root.subkey("overload", 0),
            partition: root.subkey("partition", 0),
            token: root.subkey("record-route", 0),
            token_number: 0,
            flow: root.subkey("flow token", 0),
            gruu: root.subkey("gruu", 0),
            token_previous: None,
        }
    }
}
