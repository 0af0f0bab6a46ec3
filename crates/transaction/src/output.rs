//! What the transactions want done, what happens to them, and whose a message is.

use bytes::Bytes;

use crate::{ClientKey, ServerKey};

/// What the transactions want done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<D> {
    /// Send a message.
    Send {
        /// Where.
        to: D,
        /// The whole message.
        message: Bytes,
        /// Whom to tell, by [`Transactions::handle_send_failed`](crate::Transactions::handle_send_failed), if it can not be sent.
        of: Option<ClientKey>,
    },
    /// Something has happened to a client transaction.
    Client(ClientKey, ClientEvent),
    /// Something has happened to a server transaction.
    Server(ServerKey, ServerEvent),
}

/// What has happened to a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Timer B or F: there was no final response. `Terminated` follows.
    TimedOut,
    /// The request could not be sent. `Terminated` follows.
    Unreachable,
    /// It is gone: nothing more comes of it.
    Terminated,
}

/// What has happened to a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Timer H: the final response to an INVITE was never acknowledged. `Terminated` follows.
    AckMissing,
    /// It is gone: a response to its request is not sent any more.
    Terminated,
}

/// Whose a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It has no transaction; [`Transactions::begin_server`](crate::Transactions::begin_server) begins one.
    New,
    /// It was a retransmission, or an ACK to a 300-699, and has ended here.
    Absorbed,
    /// An ACK to a 2xx, or to what was answered without a transaction: it is the transaction user's.
    AckFor2xx,
}

/// Whose a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseDisposition {
    /// The transaction user's.
    Deliver,
    /// It was a retransmission and has ended here.
    Absorbed,
    /// It has no transaction.
    Unknown,
}
