//! All transactions of one call shard.

use std::fmt;

use bytes::Bytes;
use clock::Instant;
use sip::{Message, Method, MethodName, Status};

use crate::invite_client::InviteClient;
use crate::invite_server::{Acknowledged, InviteServer};
use crate::non_invite_client::NonInviteClient;
use crate::non_invite_server::NonInviteServer;
use crate::table::{Full, Table};
use crate::timers::{Fired, Timers};
use crate::{ClientEvent, ClientKey, Disposition, Output, ResponseDisposition, ServerEvent, ServerKey};

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

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Server transactions begun.
    pub servers_begun: u64,
    /// Client transactions begun.
    pub clients_begun: u64,
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

/// All transactions of one call shard. `D` is where a message goes.
#[derive(Debug)]
pub struct Transactions<D> {
    timers: Timers,
    servers: Table<ServerKey, Server<D>>,
    clients: Table<ClientKey, Client<D>>,
    counters: Counters,
}

#[derive(Debug)]
struct Server<D> {
    machine: ServerMachine,
    to: D,
    arrival: Arrival,
    progress: Progress,
}

/// When a request came, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When its transaction began.
    pub at: Instant,
    /// Its method.
    pub method: MethodName,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It has come.
    Arrived,
    /// It was sent on.
    Forwarded,
    /// It has its final response.
    Answered,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    NonInvite(NonInviteServer),
}

#[derive(Debug)]
struct Client<D> {
    machine: ClientMachine,
    to: D,
}

#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient),
    NonInvite(NonInviteClient),
}

impl<D: Clone> Transactions<D> {
    /// No transactions yet.
    pub fn new(timers: Timers, limits: Limits) -> Self {
        Self {
            timers,
            servers: Table::new(limits.servers_max),
            clients: Table::new(limits.clients_max),
            counters: Counters::default(),
        }
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
        let machine = match Kind::of(method) {
            Kind::Invite => ServerMachine::Invite(InviteServer::new(reliable)),
            Kind::NonInvite => ServerMachine::NonInvite(NonInviteServer::new(now, &self.timers, reliable)),
        };
        let deadline = machine.deadline();
        let arrival = Arrival { at: now, method: MethodName::from(method) };
        let server = Server { machine, to, arrival, progress: Progress::Arrived };
        let begun = self.servers.insert(key, server, deadline);
        self.count_begun(begun, |counters| &mut counters.servers_begun)
    }

    /// Whether there is such a server transaction.
    pub fn server_known(&self, key: ServerKey) -> bool {
        self.servers.contains(key)
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
        (before < progress).then_some((server.arrival, before))
    }

    /// Forgets a server transaction without a word, and says where its responses would have gone: for
    /// a request that is answered without state (RFC 3261 §8.2.7), or not at all.
    pub fn end_server(&mut self, key: ServerKey) -> Option<D> {
        self.servers.remove(key).map(|server| server.to)
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
                let acknowledged = machine.handle_ack(now, &self.timers);
                self.settle_server(slot, out);
                if acknowledged == Acknowledged::For2xx {
                    return Disposition::AckFor2xx;
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
            Some(message) => out.push(Output::Send { to: server.to.clone(), message, of: None }),
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
        let timers = &self.timers;
        let machine = match kind {
            Kind::Invite => ClientMachine::Invite(InviteClient::new(now, timers, request.clone(), reliable)),
            Kind::NonInvite => {
                ClientMachine::NonInvite(NonInviteClient::new(now, timers, request.clone(), reliable))
            }
        };
        let deadline = machine.deadline();
        let begun = self.clients.insert(key, Client { machine, to: to.clone() }, deadline);
        self.count_begun(begun, |counters| &mut counters.clients_begun)?;
        out.push(Output::Send { to, message: request, of: Some(key) });
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
        if disposition == ResponseDisposition::Absorbed {
            self.counters.responses_absorbed += 1;
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
        }
        self.settle_client(slot, out);
    }

    /// Forgets a client transaction without a word. Its responses have no transaction any more.
    pub fn abandon_client(&mut self, key: ClientKey) {
        self.clients.remove(key);
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

impl ServerMachine {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::NonInvite(machine) => machine.deadline(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::NonInvite(machine) => machine.is_terminated(),
        }
    }
}

impl ClientMachine {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::NonInvite(machine) => machine.deadline(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::NonInvite(machine) => machine.is_terminated(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::script::{at, client_key, method_of, request, response, secret, server_key};

    #[test]
    fn a_request_is_told_once_for_each_step_that_it_takes() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let arrival = Arrival { at: at(0), method: MethodName::Invite };
        begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();

        let steps = [Progress::Forwarded, Progress::Forwarded, Progress::Answered, Progress::Answered]
            .map(|progress| transactions.advance_server(server_key(), progress));
        assert_eq!(
            steps,
            [Some((arrival, Progress::Arrived)), None, Some((arrival, Progress::Forwarded)), None]
        );

        transactions.end_server(server_key());
        assert_eq!(transactions.advance_server(server_key(), Progress::Answered), None);
    }

    #[test]
    fn a_full_table_refuses_and_sends_nothing() {
        let mut transactions =
            Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
        let mut out = Vec::new();
        begin_server(&mut transactions, number(0), Kind::Invite).unwrap();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        out.clear();

        assert_eq!(begin_server(&mut transactions, number(1), Kind::Invite), Err(Full));
        assert_eq!(begin_client(&mut transactions, 1, &mut out), Err(Full));

        assert_eq!((out.len(), transactions.counts(), transactions.counters().refused), (0, (1, 1), 2));
    }

    #[test]
    fn what_is_forgotten_neither_fires_nor_answers_and_its_key_is_free() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();
        begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        out.clear();

        transactions.forget_all();
        transactions.handle_timeout(at(60_000), &mut out);

        assert_eq!((out.len(), transactions.counts(), transactions.poll_timeout()), (0, (0, 0), None));
        begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
        assert_eq!(transactions.counts(), (1, 0));
    }

    #[test]
    fn a_transaction_that_is_there_is_not_begun_again() {
        let mut transactions =
            Transactions::new(Timers::default(), Limits { servers_max: 1, clients_max: 1 });
        let mut out = Vec::new();
        begin_server(&mut transactions, server_key(), Kind::Invite).unwrap();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        transactions
            .respond(at(0), server_key(), Status(180), response(180, Kind::Invite), &mut out)
            .unwrap();
        out.clear();

        assert_eq!(begin_server(&mut transactions, server_key(), Kind::Invite), Ok(()));
        assert_eq!(begin_client(&mut transactions, 0, &mut out), Ok(()));
        transactions.handle_request(at(1), server_key(), Method::Invite, &mut out);

        let expected = Output::Send { to: 7, message: response(180, Kind::Invite), of: None };
        assert_eq!((out, transactions.counts()), (vec![expected], (1, 1)));
    }

    #[test]
    fn each_message_goes_where_its_transaction_says() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let (key, mut out) = (client_key(Kind::Invite), Vec::new());
        let invite = request(Kind::Invite);
        transactions.begin_client(at(0), key, Kind::Invite, invite.clone(), 3, false, &mut out).unwrap();
        assert_eq!(out, [Output::Send { to: 3, message: invite.clone(), of: Some(key) }]);

        out.clear();
        transactions.handle_timeout(at(500), &mut out);
        assert_eq!(out, [Output::Send { to: 3, message: invite, of: Some(key) }], "each failure is told");

        out.clear();
        let busy = response(486, Kind::Invite);
        transactions.handle_response(at(600), key, &Message::parse(&busy).unwrap(), &mut out);
        assert!(matches!(&out[..], [Output::Send { to: 3, of: None, .. }]), "the ACK follows the INVITE");
        assert_eq!(transactions.server_destination(server_key()), None);
    }

    #[test]
    fn a_server_transaction_that_is_ended_says_where_its_responses_went() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        begin_server(&mut transactions, server_key(), Kind::NonInvite).unwrap();
        assert_eq!(transactions.server_destination(server_key()), Some(&7));

        assert_eq!(transactions.end_server(server_key()), Some(7));

        assert_eq!(transactions.end_server(server_key()), None);
        assert!(!transactions.server_known(server_key()));
        assert_eq!(transactions.poll_timeout(), None, "no alarm is left");
        let disposition = transactions.handle_request(at(0), server_key(), Method::Options, &mut Vec::new());
        assert_eq!(disposition, Disposition::New);
    }

    #[test]
    fn an_abandoned_client_transaction_says_nothing_more() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        out.clear();

        transactions.abandon_client(ClientKey::of(&secret(), &[0], Method::Options));
        transactions.handle_timeout(at(60_000), &mut out);

        assert_eq!((out, transactions.counts(), transactions.poll_timeout()), (vec![], (0, 0), None));
    }

    #[test]
    fn an_ack_without_a_transaction_is_the_transaction_users() {
        let mut transactions: Transactions<u8> = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();

        let ack = transactions.handle_request(at(0), server_key(), Method::Ack, &mut out);
        let invite = transactions.handle_request(at(0), server_key(), Method::Invite, &mut out);

        assert_eq!((ack, invite), (Disposition::AckFor2xx, Disposition::New));
    }

    #[test]
    fn what_is_due_comes_in_the_order_of_time_over_both_tables() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        begin_server(&mut transactions, number(0), Kind::NonInvite).unwrap();
        out.clear();

        transactions.handle_timeout(at(90_000), &mut out);

        let client = ClientKey::of(&secret(), &[0], Method::Options);
        assert_eq!(
            out[..],
            [
                Output::Client(client, ClientEvent::TimedOut),
                Output::Client(client, ClientEvent::Terminated),
                Output::Server(number(0), ServerEvent::Terminated),
            ]
        );
    }

    #[test]
    fn other_timers_are_for_what_begins_after_them() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();
        begin_client(&mut transactions, 0, &mut out).unwrap();
        assert_eq!(transactions.poll_timeout(), Some(at(500)));

        transactions.reload(Timers { t1: Duration::from_millis(100), ..Timers::default() });
        assert_eq!(transactions.poll_timeout(), Some(at(500)));

        begin_client(&mut transactions, 1, &mut out).unwrap();
        assert_eq!(transactions.poll_timeout(), Some(at(100)));
    }

    /// Where reminders are only forgotten when they are due, 32 seconds of them pile up here.
    #[test]
    fn alarms_do_not_pile_up_under_load() {
        let mut transactions = Transactions::new(Timers::default(), Limits::default());
        let mut out = Vec::new();
        for round in 0..10_000_u64 {
            let key = number(round);
            transactions.begin_server(at(round), key, Method::Options, 7, true).unwrap();
            transactions
                .respond(at(round), key, Status(200), response(200, Kind::NonInvite), &mut out)
                .unwrap();
        }

        assert_eq!((transactions.counts(), transactions.servers.alarms()), ((0, 0), 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        BeginServer(u8, Kind, bool),
        BeginClient(u8, Kind, bool),
        Request(u8, bool),
        Respond(u8, u16),
        Response(u8, u16),
        SendFailed(u8),
        EndServer(u8),
        Abandon(u8),
        Pass(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let kind = prop_oneof![Just(Kind::Invite), Just(Kind::NonInvite)];
        let status =
            prop_oneof![Just(100u16), Just(180), Just(200), Just(302), Just(408), Just(486), Just(603)];
        prop_oneof![
            (0u8..6, kind.clone(), any::<bool>())
                .prop_map(|(n, kind, reliable)| Step::BeginServer(n, kind, reliable)),
            (0u8..6, kind, any::<bool>())
                .prop_map(|(n, kind, reliable)| Step::BeginClient(n, kind, reliable)),
            (0u8..6, any::<bool>()).prop_map(|(n, is_ack)| Step::Request(n, is_ack)),
            (0u8..6, status.clone()).prop_map(|(n, status)| Step::Respond(n, status)),
            (0u8..6, status).prop_map(|(n, status)| Step::Response(n, status)),
            (0u8..6).prop_map(Step::SendFailed),
            (0u8..6).prop_map(Step::EndServer),
            (0u8..6).prop_map(Step::Abandon),
            (0u32..40_000).prop_map(Step::Pass),
        ]
    }

    /// Runs the steps; all outputs, and which transactions the transaction user has to end itself.
    fn run(steps: &[Step]) -> (Vec<Output<u8>>, Transactions<u8>, u64) {
        let limits = Limits { servers_max: 4, clients_max: 4 };
        let (mut transactions, mut out, mut now) =
            (Transactions::new(Timers::default(), limits), Vec::new(), 0);
        let client = |n: u8| ClientKey::of(&secret(), &[n], Method::Invite);
        for step in steps {
            let server = |n: &u8| number(u64::from(*n));
            match step {
                Step::BeginServer(n, kind, reliable) => {
                    let _ = transactions.begin_server(at(now), server(n), method_of(*kind), *n, *reliable);
                }
                Step::BeginClient(n, kind, reliable) => {
                    let request = request(*kind);
                    let _ = transactions.begin_client(
                        at(now),
                        client(*n),
                        *kind,
                        request,
                        *n,
                        *reliable,
                        &mut out,
                    );
                }
                Step::Request(n, is_ack) => {
                    let method = if *is_ack { Method::Ack } else { Method::Invite };
                    transactions.handle_request(at(now), server(n), method, &mut out);
                }
                Step::Respond(n, status) => {
                    let message = response(*status, Kind::Invite);
                    let _ = transactions.respond(at(now), server(n), Status(*status), message, &mut out);
                }
                Step::Response(n, status) => {
                    let bytes = response(*status, Kind::Invite);
                    transactions.handle_response(
                        at(now),
                        client(*n),
                        &Message::parse(&bytes).unwrap(),
                        &mut out,
                    );
                }
                Step::SendFailed(n) => transactions.handle_send_failed(at(now), client(*n), &mut out),
                Step::EndServer(n) => drop(transactions.end_server(server(n))),
                Step::Abandon(n) => transactions.abandon_client(client(*n)),
                Step::Pass(ms) => {
                    now += u64::from(*ms);
                    transactions.handle_timeout(at(now), &mut out);
                }
            }
            let (servers, clients) = transactions.counts();
            assert!(servers <= 4 && clients <= 4);
            assert!(transactions.servers.alarms() <= servers && transactions.clients.alarms() <= clients);
        }
        (out, transactions, now)
    }

    proptest! {
        #[test]
        fn the_same_inputs_give_the_same_outputs(steps in prop::collection::vec(step(), 0..80)) {
            prop_assert_eq!(run(&steps).0, run(&steps).0);
        }

        #[test]
        fn whatever_happens_each_transaction_ends_once(steps in prop::collection::vec(step(), 0..80)) {
            let (mut out, mut transactions, now) = run(&steps);
            transactions.handle_timeout(at(now + 64_000), &mut out);
            transactions.handle_timeout(at(now + 128_000), &mut out);

            // All that is left waits for the transaction user, and for no timer.
            prop_assert_eq!(transactions.poll_timeout(), None);
            let mut ended: BTreeMap<String, u64> = BTreeMap::new();
            for output in &out {
                match output {
                    Output::Server(key, ServerEvent::Terminated) => *ended.entry(format!("{key:?}")).or_default() += 1,
                    Output::Client(key, ClientEvent::Terminated) => *ended.entry(format!("{key:?}")).or_default() += 1,
                    _ => {}
                }
            }
            let (counters, (servers, clients)) = (transactions.counters(), transactions.counts());
            let abandoned = steps.iter().filter(|it| matches!(it, Step::EndServer(_) | Step::Abandon(_))).count();
            let begun = counters.servers_begun + counters.clients_begun;
            let left = (servers + clients) as u64;
            let ends: u64 = ended.values().sum();
            prop_assert!(ends + left <= begun && begun <= ends + left + abandoned as u64);
        }
    }

    fn begin_server(transactions: &mut Transactions<u8>, key: ServerKey, kind: Kind) -> Result<(), Full> {
        transactions.begin_server(at(0), key, method_of(kind), 7, false)
    }

    fn begin_client(
        transactions: &mut Transactions<u8>,
        branch: u8,
        out: &mut Vec<Output<u8>>,
    ) -> Result<(), Full> {
        let key = ClientKey::of(&secret(), &[branch], Method::Options);
        transactions.begin_client(at(0), key, Kind::NonInvite, request(Kind::NonInvite), 7, false, out)
    }

    fn number(number: u64) -> ServerKey {
        let request = format!(
            "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{number}\r\nCall-ID: c\r\n\r\n"
        );
        ServerKey::of(&secret(), &Message::parse(request.as_bytes()).unwrap()).unwrap()
    }
}
