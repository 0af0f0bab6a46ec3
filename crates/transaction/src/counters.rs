//! What has happened to the transactions of one shard.

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Server transactions begun.
    pub servers_begun: u64,
    /// Client transactions begun.
    pub clients_begun: u64,
    /// Server transactions of another node that this one goes on with.
    pub servers_restored: u64,
    /// Client transactions of another node that this one goes on with.
    pub clients_restored: u64,
    /// Transactions refused because the table was full.
    pub refused: u64,
    /// Retransmissions of requests, and ACKs, that were absorbed.
    pub requests_absorbed: u64,
    /// Retransmissions of responses that were absorbed.
    pub responses_absorbed: u64,
    /// Messages sent again by a timer.
    pub retransmitted: u64,
    /// Responses of the transaction user that a machine may not send.
    pub responses_withheld: u64,
    /// Client transactions that got no final response.
    pub timed_out: u64,
    /// Client transactions whose request could not be sent.
    pub unreachable: u64,
    /// INVITE server transactions whose final response was never acknowledged.
    pub ack_missing: u64,
}

impl Counters {
    /// All names with their figures.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("server_transaction", self.servers_begun),
            ("client_transaction", self.clients_begun),
            ("server_transaction_restored", self.servers_restored),
            ("client_transaction_restored", self.clients_restored),
            ("transaction_refused", self.refused),
            ("request_absorbed", self.requests_absorbed),
            ("response_absorbed", self.responses_absorbed),
            ("retransmitted", self.retransmitted),
            ("response_withheld", self.responses_withheld),
            ("timed_out", self.timed_out),
            ("unreachable", self.unreachable),
            ("ack_missing", self.ack_missing),
        ]
        .into_iter()
    }
}
