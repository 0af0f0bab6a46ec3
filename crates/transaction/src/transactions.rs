//! All transactions of one call shard.

use std::fmt;

use bytes::Bytes;
use clock::Instant;
use sip::{Message, Method, MethodName, Status};

use crate::changes::Changes;
use crate::client::{Client, ClientMachine};
use crate::invite_server::Acknowledged;
use crate::server::{Server, ServerMachine};
use crate::table::{Full, Table};
use crate::timers::{Fired, Timers};
use crate::{
    Arrival, ClientEvent, ClientKey, Counters, Disposition, Output, Progress, ResponseDisposition,
    ServerEvent, ServerKey, StoredClient, StoredServer,
};

/// Which of the two kinds of machines a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// INVITE.
    Invite,
    /// All others but ACK, which has no transaction of its own.
    NonInvite,
}

impl Kind {
    /// The kind that requests of this method have.
    pub fn of(method: Method<'_>) -> Self {
        if method == Method::Invite { Self::Invite } else { Self::NonInvite }
    }
}

/// How many transactions may live at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Server transactions.
    pub servers_max: u32,
    /// Client transactions.
    pub clients_max: u32,
}

/// A transaction over UDP lives for half a minute after its end. So these many are reached by 32,000
/// requests each second on one shard, which is about what a core can do; with a response of 500 bytes each they take
/// 800 MB. Only what was admitted has one for so long.
const TRANSACTIONS_MAX: u32 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self { servers_max: TRANSACTIONS_MAX, clients_max: TRANSACTIONS_MAX }
    }
}

/// There is no such transaction: it has ended, or was never begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTransaction;

impl fmt::Display for NoTransaction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no such transaction")
    }
}

impl std::error::Error for NoTransaction {}

/// All transactions of one call shard. `D` is where a message goes.
#[derive(Debug)]
pub struct Transactions<D> {
    timers: Timers,
    servers: Table<ServerKey, Server<D>>,
    clients: Table<ClientKey, Client<D>>,
    counters: Counters,
    changes: Changes,
}

impl<D: Clone> Transactions<D> {
    /// No transactions yet.
    pub fn new(timers: Timers, limits: Limits) -> Self {
        Self {
            timers,
            servers: Table::new(limits.servers_max),
            clients: Table::new(limits.clients_max),
            counters: Counters::default(),
            changes: Changes::default(),
        }
    }

    /// From here on it is noted which transactions have changed. Whoever wants that takes them after each step.
    pub fn note_changes(&mut self) {
        self.changes.note();
    }

    /// Appends which transactions have begun, changed or ended since the last call.
    pub fn take_changes(&mut self, servers: &mut Vec<ServerKey>, clients: &mut Vec<ClientKey>) {
        self.changes.take(servers, clients);
    }

    /// Takes other lengths of the timers. Deadlines that are set stay.
    pub fn reload(&mut self, timers: Timers) {
        self.timers = timers;
    }

    /// Begins a server transaction. Nothing is sent. One that is there already stays as it is.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn begin_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        method: Method<'_>,
        to: D,
        reliable: bool,
    ) -> Result<(), Full> {
        if self.servers.contains(key) {
            return Ok(());
        }
        let server = Server::new(now, &self.timers, method, to, reliable);
        let deadline = server.machine.deadline();
        let begun = self.servers.insert(key, server, deadline);
        self.count_begun(begun, |counters| &mut counters.servers_begun)?;
        self.changes.server(key);
        Ok(())
    }

    /// A server transaction as another node goes on with it.
    pub fn stored_server(&self, now: Instant, key: ServerKey) -> Option<StoredServer> {
        self.servers.get(key)?.stored(now)
    }

    /// Goes on with a server transaction of another node. Nothing is sent. One that is there already stays as it is.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn restore_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        stored: StoredServer,
        to: D,
    ) -> Result<(), Full> {
        if self.servers.contains(key) {
            return Ok(());
        }
        let server = Server::restored(now, stored, to);
        let deadline = server.machine.deadline();
        let restored = self.servers.insert(key, server, deadline);
        self.count_begun(restored, |counters| &mut counters.servers_restored)?;
        self.changes.server(key);
        Ok(())
    }

    /// Whether there is such a server transaction.
    pub fn server_known(&self, key: ServerKey) -> bool {
        self.servers.contains(key)
    }

    /// The method of a server transaction's request.
    pub fn server_method(&self, key: ServerKey) -> Option<MethodName> {
        self.servers.get(key).map(|server| server.arrival.method)
    }

    /// Where the responses of a server transaction go.
    pub fn server_destination(&self, key: ServerKey) -> Option<&D> {
        self.servers.get(key).map(|server| &server.to)
    }

    /// Notes how far a request is. The first time that it is so far its arrival is told, and how far it was before.
    pub fn advance_server(&mut self, key: ServerKey, progress: Progress) -> Option<(Arrival, Progress)> {
        let (_, server) = self.servers.find(key)?;
        let before = server.progress;
        server.progress = before.max(progress);
        if before < progress {
            self.changes.server(key);
        }
        (before < progress).then_some((server.arrival, before))
    }

    /// Forgets a server transaction without a word, and says where its responses would have gone: for
    /// a request that is answered without state (RFC 3261 §8.2.7), or not at all.
    pub fn end_server(&mut self, key: ServerKey) -> Option<D> {
        let ended = self.servers.remove(key).map(|server| server.to)?;
        self.changes.server(key);
        Some(ended)
    }

    /// Takes a request: a retransmission is answered, an ACK to a 300-699 ends here.
    pub fn handle_request(
        &mut self,
        now: Instant,
        key: ServerKey,
        method: Method<'_>,
        out: &mut Vec<Output<D>>,
    ) -> Disposition {
        let Some((slot, server)) = self.servers.find(key) else {
            return if method == Method::Ack { Disposition::AckFor2xx } else { Disposition::New };
        };
        let repeated = match &mut server.machine {
            ServerMachine::Invite(machine) if method == Method::Ack => {
                match machine.handle_ack(now, &self.timers) {
                    Acknowledged::For2xx => return Disposition::AckFor2xx,
                    Acknowledged::Confirms => {
                        self.changes.server(key);
                        self.settle_server(slot, out);
                    }
                    Acknowledged::Absorbed => {}
                }
                None
            }
            ServerMachine::Invite(machine) => machine.handle_invite(),
            ServerMachine::NonInvite(machine) => machine.handle_request(),
        };
        self.counters.requests_absorbed += 1;
        if let Some(message) = repeated
            && let Some((_, server)) = self.servers.at(slot)
        {
            out.push(Output::Send { to: server.to.clone(), message, of: None });
        }
        Disposition::Absorbed
    }

    /// Sends a response of the transaction user, unless the machine's state or RFC 4320 forbids it.
    ///
    /// # Errors
    ///
    /// [`NoTransaction`]: it has ended, nothing is sent.
    pub fn respond(
        &mut self,
        now: Instant,
        key: ServerKey,
        status: Status,
        message: Bytes,
        out: &mut Vec<Output<D>>,
    ) -> Result<(), NoTransaction> {
        let (slot, server) = self.servers.find(key).ok_or(NoTransaction)?;
        let sent = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.respond(now, &self.timers, status, message),
            ServerMachine::NonInvite(machine) => machine.respond(now, &self.timers, status, message),
        };
        match sent {
            Some(message) => {
                self.changes.server(key);
                out.push(Output::Send { to: server.to.clone(), message, of: None });
            }
            None => self.counters.responses_withheld += 1,
        }
        self.settle_server(slot, out);
        Ok(())
    }

    /// Where the request of a client transaction went.
    pub fn client_destination(&self, key: ClientKey) -> Option<&D> {
        self.clients.get(key).map(|client| &client.to)
    }

    /// Begins a client transaction and sends its request. If there is one with this key already, then
    /// nothing is sent and that one stays.
    ///
    /// # Errors
    ///
    /// [`Full`]: nothing is sent.
    #[expect(clippy::too_many_arguments, reason = "they are one request and its way")]
    pub fn begin_client(
        &mut self,
        now: Instant,
        key: ClientKey,
        kind: Kind,
        request: Bytes,
        to: D,
        reliable: bool,
        out: &mut Vec<Output<D>>,
    ) -> Result<(), Full> {
        if self.clients.contains(key) {
            return Ok(());
        }
        let client = Client::new(now, &self.timers, kind, request.clone(), to.clone(), reliable);
        let deadline = client.machine.deadline();
        let begun = self.clients.insert(key, client, deadline);
        self.count_begun(begun, |counters| &mut counters.clients_begun)?;
        self.changes.client(key);
        out.push(Output::Send { to, message: request, of: Some(key) });
        Ok(())
    }

    /// A client transaction as another node goes on with it.
    pub fn stored_client(&self, now: Instant, key: ClientKey) -> Option<StoredClient> {
        self.clients.get(key)?.stored(now)
    }

    /// Goes on with a client transaction of another node. As [`Transactions::restore_server`].
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn restore_client(
        &mut self,
        now: Instant,
        key: ClientKey,
        stored: StoredClient,
        to: D,
    ) -> Result<(), Full> {
        if self.clients.contains(key) {
            return Ok(());
        }
        let client = Client::restored(now, stored, to);
        let deadline = client.machine.deadline();
        let restored = self.clients.insert(key, client, deadline);
        self.count_begun(restored, |counters| &mut counters.clients_restored)?;
        self.changes.client(key);
        Ok(())
    }

    /// Takes a response: one that the transaction user has seen ends here, and a repeated 300-699 to
    /// an INVITE is acknowledged again.
    pub fn handle_response(
        &mut self,
        now: Instant,
        key: ClientKey,
        response: &Message<'_>,
        out: &mut Vec<Output<D>>,
    ) -> ResponseDisposition {
        let (Some(status), Some((slot, client))) = (response.status(), self.clients.find(key)) else {
            return ResponseDisposition::Unknown;
        };
        let (disposition, ack) = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.handle_response(now, &self.timers, status, response),
            ClientMachine::NonInvite(machine) => (machine.handle_response(now, &self.timers, status), None),
        };
        if let Some(message) = ack {
            // RFC 3261 §17.1.1.2: the ACK goes where the INVITE went. Nobody waits for it, so nobody is told if it
            // can not be sent: the response will be repeated.
            out.push(Output::Send { to: client.to.clone(), message, of: None });
        }
        match disposition {
            ResponseDisposition::Absorbed => self.counters.responses_absorbed += 1,
            ResponseDisposition::Deliver | ResponseDisposition::Unknown => self.changes.client(key),
        }
        self.settle_client(slot, out);
        disposition
    }

    /// Is told that a request could not be sent: no route, connection refused, port unreachable.
    pub fn handle_send_failed(&mut self, _now: Instant, key: ClientKey, out: &mut Vec<Output<D>>) {
        let Some((slot, client)) = self.clients.find(key) else { return };
        let is_lost = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.handle_send_failed(),
            ClientMachine::NonInvite(machine) => machine.handle_send_failed(),
        };
        if is_lost {
            self.counters.unreachable += 1;
            out.push(Output::Client(key, ClientEvent::Unreachable));
            self.changes.client(key);
        }
        self.settle_client(slot, out);
    }

    /// Forgets a client transaction without a word. Its responses have no transaction any more.
    pub fn abandon_client(&mut self, key: ClientKey) {
        if self.clients.remove(key).is_some() {
            self.changes.client(key);
        }
    }

    /// Forgets all transactions without a word. Whoever waits for an answer repeats its request to the node that is
    /// active then.
    pub fn forget_all(&mut self) {
        self.servers.clear();
        self.clients.clear();
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output<D>>) {
        // In the order of time over both tables; on a tie the servers are first.
        loop {
            let (server, client) = (self.servers.next_deadline(), self.clients.next_deadline());
            let server_is_next = match (server, client) {
                (Some(server), Some(client)) => server <= client,
                (server, _) => server.is_some(),
            };
            if server_is_next {
                let Some(slot) = self.servers.pop_due(now) else { return };
                self.server_timeout(now, slot, out);
            } else {
                let Some(slot) = self.clients.pop_due(now) else { return };
                self.client_timeout(now, slot, out);
            }
        }
    }

    /// When [`Transactions::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.servers.next_deadline(), self.clients.next_deadline()].into_iter().flatten().min()
    }

    /// How many server and client transactions there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn server_timeout(&mut self, now: Instant, slot: u32, out: &mut Vec<Output<D>>) {
        let Some((key, server)) = self.servers.at(slot) else { return };
        let fired = match &mut server.machine {
            ServerMachine::Invite(machine) => machine.handle_timeout(now, &self.timers),
            ServerMachine::NonInvite(machine) => machine.handle_timeout(now),
        };
        match fired {
            Some(Fired::Resend(message)) => {
                self.counters.retransmitted += 1;
                out.push(Output::Send { to: server.to.clone(), message, of: None });
            }
            Some(Fired::AckMissing) => {
                self.counters.ack_missing += 1;
                out.push(Output::Server(key, ServerEvent::AckMissing));
            }
            Some(Fired::TimedOut | Fired::Ended) | None => {}
        }
        self.changes.server(key);
        self.settle_server(slot, out);
    }

    fn client_timeout(&mut self, now: Instant, slot: u32, out: &mut Vec<Output<D>>) {
        let Some((key, client)) = self.clients.at(slot) else { return };
        let fired = match &mut client.machine {
            ClientMachine::Invite(machine) => machine.handle_timeout(now),
            ClientMachine::NonInvite(machine) => machine.handle_timeout(now, &self.timers),
        };
        match fired {
            Some(Fired::Resend(message)) => {
                self.counters.retransmitted += 1;
                out.push(Output::Send { to: client.to.clone(), message, of: Some(key) });
            }
            Some(Fired::TimedOut) => {
                self.counters.timed_out += 1;
                out.push(Output::Client(key, ClientEvent::TimedOut));
            }
            Some(Fired::AckMissing | Fired::Ended) | None => {}
        }
        self.changes.client(key);
        self.settle_client(slot, out);
    }

    /// After each step of a machine: its alarm follows its deadline, or it goes.
    fn settle_server(&mut self, slot: u32, out: &mut Vec<Output<D>>) {
        let Some((key, server)) = self.servers.at(slot) else { return };
        if server.machine.is_terminated() {
            self.servers.remove(key);
            out.push(Output::Server(key, ServerEvent::Terminated));
        } else {
            let deadline = server.machine.deadline();
            self.servers.set_deadline(slot, deadline);
        }
    }

    /// As [`Transactions::settle_server`].
    fn settle_client(&mut self, slot: u32, out: &mut Vec<Output<D>>) {
        let Some((key, client)) = self.clients.at(slot) else { return };
        if client.machine.is_terminated() {
            self.clients.remove(key);
            out.push(Output::Client(key, ClientEvent::Terminated));
        } else {
            let deadline = client.machine.deadline();
            self.clients.set_deadline(slot, deadline);
        }
    }

    fn count_begun(
        &mut self,
        begun: Result<(), Full>,
        counter: fn(&mut Counters) -> &mut u64,
    ) -> Result<(), Full> {
        match begun {
            Ok(()) => *counter(&mut self.counters) += 1,
            Err(Full) => self.counters.refused += 1,
        }
        begun
    }
}

#[cfg(test)]
mod tests;
