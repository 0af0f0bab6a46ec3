//! What shards and partitions tell of a source.

use transport::Flow;

/// One thing that a source did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it came from.
    pub flow: Flow,
    /// Whether that is known or only said.
    pub evidence: Evidence,
    /// What it did.
    pub deed: Deed,
}

/// Whether the sender of a message is where the message says that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// A datagram whose address may be forged.
    Claimed,
    /// The sender gets what is sent there: it connected, or it returned a nonce or a branch that this server sent there.
    Shown,
}

/// What a source can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It answered a request of this server: it is a phone or a peer that this server wanted to reach.
    Answered,
    /// It sent a request of a call that this server had let through.
    InCall,
    /// It showed that it knows a password.
    Authenticated,
    /// It asked for something and proved nothing, and was refused without state.
    Unproven,
    /// It showed that it does not know a password.
    WrongCredentials,
    /// It tried another password for a name that is slowed down.
    Persisted,
    /// It said that it is a scanner.
    Scanner,
    /// What it sent is no SIP.
    Malformed,
    /// It sent more over a connection than it may while it proves nothing.
    Flood,
}

impl Report {
    /// A deed whose evidence is the flow's own: who sends over a connection has opened it.
    pub fn of(flow: Flow, deed: Deed) -> Self {
        Self { flow, evidence: Evidence::of(&flow), deed }
    }

    /// A deed by which the source has shown that it gets what is sent there.
    pub fn shown(flow: Flow, deed: Deed) -> Self {
        Self { flow, evidence: Evidence::Shown, deed }
    }
}

impl Evidence {
    /// What the flow alone shows.
    pub fn of(flow: &Flow) -> Self {
        if flow.is_reliable() { Self::Shown } else { Self::Claimed }
    }
}
