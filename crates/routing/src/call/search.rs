//! The servers of one next hop, in the order in which they are tried.
//!
//! RFC 3263 says which servers a name has and which comes first; on top of that, a server that failed a moment
//! ago comes last, and the DNS gets only so much time. Which of equal servers comes first is decided by the
//! Call-ID, so that all requests of one call take the same one.
//!
//! Invariant: a request waits no longer than [`DNS_TIME_MAX`] for the DNS, all its questions together.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;
use transport::Transport;
use transport::selection::{Avoided, Outcome, Query, Records, Remainder, Selection, Server, Step, Wanted};

use super::aim::Size;
use super::inbound::Inbound;
use crate::Keyring;

/// All questions of one request. A caller that waits in silence hangs up about then.
pub(super) const DNS_TIME_MAX: Duration = Duration::from_secs(8);

/// A search for servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// Whether a large request to these servers goes by TCP.
    pub(super) size: Size,
    selection: Selection,
    /// Servers that failed lately.
    postponed: VecDeque<Server>,
    /// What is left of [`DNS_TIME_MAX`].
    time_left: Duration,
    asked_at: Option<Instant>,
}

/// A search under way, without what the request itself tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// Whether a large request to these servers goes by TCP.
    pub(super) size: Size,
    /// How far the selection is.
    pub(super) remainder: Remainder,
    /// Servers that failed lately.
    pub(super) postponed: VecDeque<Server>,
    /// What is left of [`DNS_TIME_MAX`].
    pub(super) time_left: Duration,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This question, for which there is so much time.
    Ask(Query, Duration),
    /// This server.
    Try(Server),
    /// Nothing.
    Exhausted(Outcome),
}

impl Search {
    /// Begins a search on behalf of a request.
    pub(super) fn new(keyring: &Keyring, inbound: &Inbound, wanted: Wanted, size: Size) -> Self {
        let (supported, seed) = Self::preference(keyring, inbound);
        Self {
            size,
            selection: Selection::new(wanted, supported, seed),
            postponed: VecDeque::new(),
            time_left: DNS_TIME_MAX,
            asked_at: None,
        }
    }

    /// Goes on with the search of another node. What was asked there and not answered is asked again.
    pub(super) fn resume(keyring: &Keyring, inbound: &Inbound, wanted: Wanted, rest: Rest) -> Self {
        let (supported, seed) = Self::preference(keyring, inbound);
        let Rest { size, remainder, postponed, time_left } = rest;
        let selection = Selection::resume(wanted, supported, seed, remainder);
        Self { size, selection, postponed, time_left: time_left.min(DNS_TIME_MAX), asked_at: None }
    }

    /// What is sought.
    pub(super) fn wanted(&self) -> &Wanted {
        self.selection.wanted()
    }

    /// What [`Self::resume`] goes on with.
    pub(super) fn rest(&self, now: Instant) -> Rest {
        let passed = self.asked_at.map_or(Duration::ZERO, |asked_at| now.since(asked_at));
        Rest {
            size: self.size,
            remainder: self.selection.remainder(),
            postponed: self.postponed.clone(),
            time_left: self.time_left.saturating_sub(passed),
        }
    }

    /// The transports, and what decides between servers of one priority.
    fn preference(keyring: &Keyring, inbound: &Inbound) -> (Vec<Transport>, u64) {
        let listeners = &inbound.settings.listeners;
        let is_served =
            |transport: &Transport| listeners.iter().any(|listener| listener.transport == *transport);
        // RFC 3263 §4.1: UDP before TCP where the DNS leaves the choice to the client.
        let supported = [Transport::Udp, Transport::Tcp].into_iter().filter(is_served).collect();
        // RFC 2782: the weights want a draw; a number of the call's own spreads calls and keeps each together.
        let request = inbound.message();
        let call_id = request.as_ref().and_then(|request| request.call_id().ok()).unwrap_or_default();
        (supported, keyring.branch.mac(&[b"server", call_id]).short())
    }

    /// What to do next. What is asked is answered by [`Search::handle_records`] before this is called again.
    pub(super) fn next(&mut self, now: Instant, avoided: &Avoided) -> Next {
        loop {
            match self.selection.step() {
                Step::Ask(_) if self.time_left.is_zero() => self.selection.handle_records(Records::Failed),
                Step::Ask(query) => {
                    self.asked_at = Some(now);
                    return Next::Ask(query, self.time_left);
                }
                Step::Try(server) if avoided.contains(now, server) => self.postponed.push_back(server),
                Step::Try(server) => return Next::Try(server),
                Step::Exhausted(outcome) => {
                    return self.postponed.pop_front().map_or(Next::Exhausted(outcome), Next::Try);
                }
            }
        }
    }

    /// Whether another server may follow.
    pub(super) fn has_more(&self) -> bool {
        self.selection.has_more() || !self.postponed.is_empty()
    }

    /// Takes the answer of the DNS, or [`Records::Failed`] when the time is over.
    pub(super) fn handle_records(&mut self, now: Instant, records: Records) {
        if let Some(asked_at) = self.asked_at.take() {
            self.time_left = self.time_left.saturating_sub(now.since(asked_at));
            self.selection.handle_records(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::tests::scene::{self, Scene};

    #[test]
    fn all_questions_together_get_one_time() {
        let mut search = search(None);
        let mut now = Instant::START;
        let mut given = Vec::new();
        while let Next::Ask(_, time) = search.next(now, &Avoided::default()) {
            given.push(time.as_secs());
            now += Duration::from_secs(3);
            search.handle_records(now, Records::Failed);
        }

        assert_eq!(given, [8, 5, 2]);
        assert_eq!(search.next(now, &Avoided::default()), Next::Exhausted(Outcome::DnsFailed));
    }

    /// RFC 3263 §4.3: a server that failed lately comes last, and is tried all the same if there is no other.
    #[test]
    fn a_server_that_failed_lately_comes_last() {
        let now = Instant::START;
        let mut avoided = Avoided::default();
        avoided.add(now, server(1), None);
        let mut search = search(Some(5060));
        assert!(matches!(search.next(now, &avoided), Next::Ask(..)));

        search.handle_records(now, Records::Addresses(vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]));

        assert_eq!(search.next(now, &avoided), Next::Try(server(2)));
        assert_eq!(search.next(now, &avoided), Next::Try(server(1)));
        assert_eq!(search.next(now, &avoided), Next::Exhausted(Outcome::Tried));
    }

    fn search(port: Option<u16>) -> Search {
        let scene = Scene::new();
        let wanted = Wanted { name: "elsewhere.example".into(), port, transport: None };
        let inbound = scene.inbound(&scene::invite("sip:x@elsewhere.example"));
        Search::new(&scene.keyring, &inbound, wanted, Size::Counts)
    }

    fn server(last: u8) -> Server {
        Server { remote: transport::RemoteAddr(([192, 0, 2, last], 5060).into()), transport: Transport::Udp }
    }
}
