//! What every shard has to know of a registration that one of them keeps.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

/// How one account stands at its carrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarrierNews {
    /// The account's name.
    pub trunk: Arc<str>,
    /// Where the carrier was found: calls from there are believed to be the carrier's. Empty: none are.
    pub addresses: BTreeSet<IpAddr>,
    /// The realm that the carrier named, if the operator left that to it.
    pub realm: Option<Bytes>,
}
