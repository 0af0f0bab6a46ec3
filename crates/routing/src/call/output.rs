//! What a transaction user asks of the layers below it and of the edge.

use std::sync::Arc;

use bytes::Bytes;
use sip::{Aor, Status};
use transaction::{ClientKey, Kind, ServerKey};
use transport::Destination;
use transport::selection::Query;

use super::media::{MediaAsk, MediaEnd};
use crate::gateway::{Outcome, ProbeMark};
use crate::{CallName, CallRecord, CarrierNews, Gateway, KeepaliveMark, Question, Report, Token};

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A response by its server transaction.
    Respond {
        /// The transaction of the request.
        key: ServerKey,
        /// The status of `message`.
        status: Status,
        /// The whole response.
        message: Bytes,
    },
    /// A response without state: the server transaction is forgotten, and the message is sent once.
    RespondStateless {
        /// The transaction of the request.
        key: ServerKey,
        /// The status of `message`.
        status: Status,
        /// The whole response.
        message: Bytes,
    },
    /// The server transaction is forgotten without a word.
    Drop {
        /// The transaction of the request.
        key: ServerKey,
    },
    /// A request by a client transaction of its own.
    Forward {
        /// The transaction to begin.
        key: ClientKey,
        /// Which of the two machines it is.
        kind: Kind,
        /// The request that is sent on by it, if it is one.
        of: Option<ServerKey>,
        /// Where it goes.
        to: Destination,
        /// The whole request.
        request: Bytes,
    },
    /// A message that no transaction keeps: the ACK to a 2xx.
    SendStateless {
        /// Where it goes.
        to: Destination,
        /// The whole message.
        message: Bytes,
    },
    /// A client transaction is forgotten without a word.
    Abandon {
        /// The transaction.
        key: ClientKey,
    },
    /// A request is not wanted any more: if it has not left because the relay is asked about it, it must not, and the user
    /// is told ([`TransactionUser::handle_withdrawn`](super::TransactionUser::handle_withdrawn)).
    Withdraw {
        /// The transaction that it would begin.
        key: ClientKey,
    },
    /// A question for the partition of an address of record.
    Ask {
        /// Whose partition.
        partition_of: Aor,
        /// Comes back with the answer.
        token: Token,
        /// What is asked.
        question: Question,
    },
    /// The store is asked at which servers beside this one a user is registered. The answer is
    /// [`Answer::Elsewhere`](crate::Answer::Elsewhere).
    FindElsewhere {
        /// Comes back with the answer.
        token: Token,
        /// The address of record.
        aor: Aor,
    },
    /// The DNS is asked.
    Resolve {
        /// Comes back with the answer.
        token: Token,
        /// What is asked.
        query: Query,
    },
    /// Every shard is to know this.
    Publish(Arc<CarrierNews>),
    /// A keepalive of this server was answered.
    KeepaliveAnswered(KeepaliveMark),
    /// A source did something that the bans have to know.
    Report(Report),
    /// A probe of this server's was answered.
    ProbeAnswered(ProbeMark, Status),
    /// A message that passes the media relay: it goes on with the relay's body, or the user is told that it must not
    /// ([`TransactionUser::handle_media_refused`](super::TransactionUser::handle_media_refused)).
    Relayed {
        /// What the relay has to know.
        ask: Box<MediaAsk>,
        /// What is to be done with it then: a response, a request, or what no transaction keeps.
        message: Box<Output>,
    },
    /// The relay need not know of this any more.
    MediaOver(MediaEnd),
    /// A call has ended, of which this is left: it is written down.
    Record(CallName, Box<CallRecord>),
    /// What became of a request that went to a gateway.
    GatewayOutcome(Arc<Gateway>, Outcome),
}
