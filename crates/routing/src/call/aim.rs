//! What a branch aims at: a Request-URI, and the ways that may lead there.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::{SipUri, Status};
use transport::selection::{Avoided, Outcome, Query, Records, Server};
use transport::{Destination, Flow, ListenerId, NextHop, RemoteAddr, Transport};

use super::dialog_token::{BindingName, Standing};
use super::forward;
use super::inbound::{Inbound, Sender};
use super::leg::Leg;
use super::search::{Next, Search};
use crate::{Anchoring, Keyring, Target, Trunk};

/// One target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    /// The Request-URI that it gets.
    pub(super) request_uri: Bytes,
    /// Route values that are put on top: the binding's Path.
    pub(super) path: Vec<Bytes>,
    /// The ways to try, one after the other.
    pub(super) hops: VecDeque<Hop>,
    /// The servers of the name that the last hop has led to.
    pub(super) search: Option<Box<Search>>,
    /// The listener that it should leave by.
    pub(super) listener: Option<ListenerId>,
    /// Which binding it is, if it is one that is reached without another proxy.
    pub(super) binding: Option<BindingName>,
    /// The binding's flow, if that is the way to it.
    pub(super) flow: Option<Flow>,
    /// Our account there: it answers challenges.
    pub(super) account: Option<Arc<Trunk>>,
    /// How much higher the number in CSeq is there than it was when it came: by one for each challenge that was
    /// answered while there was no dialog yet.
    pub(super) cseq_shift: u8,
    /// Where it stands, as far as is known.
    pub(super) standing: Standing,
    /// What a request is answered with if none of the ways can be gone.
    pub(super) unreachable: Status,
    /// Bindings of the same phone over other flows, to be tried when this one fails.
    pub(super) spares: VecDeque<Target>,
    /// The gateway that it is, and the route to it.
    pub(super) leg: Option<Arc<Leg>>,
    /// What the account says of media whose phone it is.
    pub(super) relay: Option<Anchoring>,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// A flow that is there. Its transport is never changed.
    Flow(Flow),
    /// Wherever Route, or else the Request-URI, leads.
    Uri(Size),
    /// Wherever this URI leads, whatever Route and Request-URI say.
    Server(Bytes, Size),
    /// This address.
    Address(RemoteAddr, Transport, Size),
    /// The flow that a phone makes when it comes back, whose connection is gone.
    Return(Box<Absent>),
}

/// A phone whose connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    /// The phone.
    pub(super) binding: BindingName,
    /// The user of its Contact, and the address that it came from: for a phone that names no instance.
    pub(super) contact: Bytes,
    /// See `contact`.
    pub(super) address: Option<IpAddr>,
}

/// How long a request waits for a phone to come back: after a takeover it is told of the end of its connection at once, and
/// whoever sent the request repeats it for half a minute.
pub(super) const RETURN_WAIT: Duration = Duration::from_secs(4);

/// What a request's size does to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// RFC 3261 §18.1.1: a large request goes by TCP.
    Counts,
    /// The transport stays: it is a phone's, or was changed before.
    Ignored,
}

/// What is to be done next to get a request on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send it.
    Send(Destination, Transport, Size),
    /// Ask the DNS, for no longer than this; then go on with [`Aim::handle_records`].
    Lookup(Query, Duration),
    /// Wait until this phone has a flow again, and go on with it.
    Await(Box<Absent>),
    /// No way is left. If the name itself is why, this is what that would be answered with.
    Exhausted(Option<Status>),
}

/// What the steps of an aim look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) inbound: &'a Inbound,
    /// The servers that failed lately.
    pub(super) avoided: &'a Avoided,
    pub(super) now: Instant,
}

impl Aim {
    /// At a URI, by whatever way it names.
    pub(super) fn at_uri(request_uri: Bytes, size: Size) -> Self {
        Self {
            request_uri,
            path: Vec::new(),
            hops: VecDeque::from([Hop::Uri(size)]),
            search: None,
            listener: None,
            binding: None,
            flow: None,
            account: None,
            cseq_shift: 0,
            standing: Standing::Plain,
            // RFC 3261 §16.9: what can not be sent counts as a 503.
            unreachable: Status::SERVICE_UNAVAILABLE,
            spares: VecDeque::new(),
            leg: None,
            relay: None,
        }
    }

    /// Header lines that its request may get, besides those of every request.
    pub(super) fn added_lines(&self) -> usize {
        self.path.len() + self.leg.as_ref().map_or(0, |leg| leg.added_lines())
    }

    /// Takes the next way that can be gone.
    pub(super) fn step(&mut self, outlook: Outlook<'_>) -> Step {
        let inbound = outlook.inbound;
        let listeners = &inbound.settings.listeners;
        let mut unfound = None;
        loop {
            // What a URI led to is gone through before the next URI is followed.
            let leads_on = matches!(self.hops.front(), None | Some(Hop::Uri(_) | Hop::Server(..)));
            if leads_on && let Some(search) = &mut self.search {
                match search.next(outlook.now, outlook.avoided) {
                    Next::Ask(query, time) => return Step::Lookup(query, time),
                    Next::Try(Server { remote, transport }) => {
                        self.hops.push_front(Hop::Address(remote, transport, search.size));
                    }
                    Next::Exhausted(outcome) => {
                        unfound = self.unfound(outcome);
                        self.search = None;
                    }
                }
                continue;
            }
            match self.hops.pop_front() {
                None => return Step::Exhausted(unfound),
                Some(Hop::Flow(flow)) => {
                    if let Some(listener) = listeners.get(flow.listener()) {
                        return Step::Send(Destination::Flow(flow), listener.transport, Size::Ignored);
                    }
                }
                Some(Hop::Address(remote, transport, size)) => {
                    if let Some(to) = self.destination(inbound, remote, transport) {
                        return Step::Send(to, transport, size);
                    }
                }
                Some(Hop::Uri(size)) => {
                    let next = Bytes::copy_from_slice(forward::next_uri(inbound, self));
                    // What the DNS names is a server; a phone that is registered by a name is none.
                    let size_of_server = if self.binding.is_some() { Size::Ignored } else { Size::Counts };
                    self.follow(outlook, &next, size, size_of_server);
                }
                Some(Hop::Server(uri, size)) => self.follow(outlook, &uri, size, size),
                // Another flow of the phone is there already.
                Some(Hop::Return(_)) if !self.spares.is_empty() => {}
                Some(Hop::Return(absent)) => return Step::Await(absent),
            }
        }
    }

    /// Whether another way may follow when this one fails.
    pub(super) fn has_more(&self) -> bool {
        // A phone that does not answer would not answer by another flow either.
        let is_other = |hop: &Hop| !matches!(hop, Hop::Return(_));
        self.hops.iter().any(is_other) || !self.spares.is_empty() || self.has_other_servers()
    }

    /// Whether another server of the same name may follow.
    pub(super) fn has_other_servers(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.has_more())
    }

    /// What the DNS said goes into the next step.
    pub(super) fn handle_records(&mut self, now: Instant, records: Records) {
        if let Some(search) = &mut self.search {
            search.handle_records(now, records);
        }
    }

    fn unfound(&self, outcome: Outcome) -> Option<Status> {
        match outcome {
            // A phone that is registered is known, whatever became of the name of its Contact.
            _ if self.binding.is_some() => None,
            Outcome::Tried => None,
            // RFC 3261 §21.4.5: a domain that does not exist has no users.
            Outcome::NoSuchName => Some(Status::NOT_FOUND),
            Outcome::DnsFailed => Some(Status::SERVICE_UNAVAILABLE),
        }
    }

    /// The way to an address: from the aim's listener, or the one that the request came in on, or any that can.
    pub(super) fn destination(
        &self,
        inbound: &Inbound,
        remote: RemoteAddr,
        transport: Transport,
    ) -> Option<Destination> {
        if !remote.is_host() {
            return None;
        }
        // What began elsewhere does not go on to a peer that believes this server.
        let is_believing = inbound.settings.is_believing(remote.0.ip());
        let is_in_dialog = matches!(inbound.sender, Some(Sender::Dialog | Sender::ForAnEnd));
        if is_believing && is_in_dialog && self.standing != Standing::Peer {
            return None;
        }
        // Only a route leads to a gateway, whatever name it was reached by.
        let is_gateway = inbound.settings.dial_plan.has_address(remote.0.ip());
        let is_led = self.leg.is_some()
            || self.binding.is_some()
            || self.account.is_some()
            || is_in_dialog
            || matches!(inbound.sender, Some(Sender::ToRegistrar | Sender::ByFlow));
        if is_gateway && !is_led {
            return None;
        }
        let like = self.listener.unwrap_or(inbound.source.flow.listener());
        let listener = inbound.settings.listeners.any_for(transport, remote, Some(like))?;
        Some(match transport {
            Transport::Udp => Destination::Flow(Flow::Datagram { listener, remote }),
            Transport::Tcp => Destination::Connect { listener, remote },
        })
    }

    /// An address becomes the next way, a name a search; a URI that leads nowhere adds nothing.
    fn follow(&mut self, outlook: Outlook<'_>, uri: &[u8], size: Size, size_of_server: Size) {
        let Outlook { keyring, inbound, .. } = outlook;
        match SipUri::parse(uri).ok().and_then(|uri| transport::next_hop(&uri).ok()) {
            Some(NextHop::Address { remote, transport }) => {
                let is_peer = inbound.settings.is_peer(remote.0.ip());
                let size = if is_peer { Size::Counts } else { size };
                self.hops.push_front(Hop::Address(remote, transport, size));
            }
            Some(NextHop::Select(wanted)) => {
                self.search = Some(Box::new(Search::new(keyring, inbound, wanted, size_of_server)));
            }
            None => {}
        }
    }
}
