//! What a branch aims at: a Request-URI, and the ways that may lead there.

use std::collections::VecDeque;

use bytes::Bytes;
use sip::{SipUri, Status};
use transport::{Destination, Flow, ListenerId, NextHop, RemoteAddr, Transport};

use super::dialog_token::{BindingName, Standing};
use super::forward;
use super::inbound::{Inbound, Sender};
use crate::Target;

/// Addresses of one name that are tried. Each that does not answer costs the caller half a minute.
pub(super) const ADDRESSES_MAX: usize = 4;

/// One target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    /// The Request-URI that it gets.
    pub(super) request_uri: Bytes,
    /// Route values that are put on top: the binding's Path.
    pub(super) path: Vec<Bytes>,
    /// The ways to try, one after the other.
    pub(super) hops: VecDeque<Hop>,
    /// The listener that it should leave by.
    pub(super) listener: Option<ListenerId>,
    /// Which binding it is, if it is one that is reached without another proxy.
    pub(super) binding: Option<BindingName>,
    /// The binding's flow, if that is the way to it.
    pub(super) flow: Option<Flow>,
    /// Where it stands, as far as is known.
    pub(super) standing: Standing,
    /// What a request is answered with if none of the ways can be gone.
    pub(super) unreachable: Status,
    /// Bindings of the same phone over other flows, to be tried when this one fails.
    pub(super) spares: VecDeque<Target>,
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
}

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
    /// Find the addresses of a name; then go on with [`Aim::add_addresses`].
    Lookup {
        /// The name.
        host: Box<str>,
        /// The port at each of its addresses.
        port: u16,
        /// How.
        transport: Transport,
    },
    /// No way is left.
    Exhausted,
}

impl Aim {
    /// At a URI, by whatever way it names.
    pub(super) fn at_uri(request_uri: Bytes, size: Size) -> Self {
        Self {
            request_uri,
            path: Vec::new(),
            hops: VecDeque::from([Hop::Uri(size)]),
            listener: None,
            binding: None,
            flow: None,
            standing: Standing::Plain,
            // RFC 3261 §16.9: what can not be sent counts as a 503.
            unreachable: Status::SERVICE_UNAVAILABLE,
            spares: VecDeque::new(),
        }
    }

    /// Takes the next way that can be gone.
    pub(super) fn step(&mut self, inbound: &Inbound) -> Step {
        let listeners = &inbound.settings.listeners;
        while let Some(hop) = self.hops.pop_front() {
            match hop {
                Hop::Flow(flow) => {
                    if let Some(listener) = listeners.get(flow.listener()) {
                        return Step::Send(Destination::Flow(flow), listener.transport, Size::Ignored);
                    }
                }
                Hop::Address(remote, transport, size) => {
                    if let Some(to) = self.destination(inbound, remote, transport) {
                        return Step::Send(to, transport, size);
                    }
                }
                Hop::Uri(size) => {
                    let next = Bytes::copy_from_slice(forward::next_uri(inbound, self));
                    if let Some(lookup) = self.follow(&next, inbound, size) {
                        return lookup;
                    }
                }
                Hop::Server(uri, size) => {
                    if let Some(lookup) = self.follow(&uri, inbound, size) {
                        return lookup;
                    }
                }
            }
        }
        Step::Exhausted
    }

    /// The addresses of a name that was looked up become the next ways.
    pub(super) fn add_addresses(&mut self, addresses: &[RemoteAddr], transport: Transport) {
        let size = if self.binding.is_some() { Size::Ignored } else { Size::Counts };
        for remote in addresses.iter().take(ADDRESSES_MAX).rev() {
            self.hops.push_front(Hop::Address(*remote, transport, size));
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
        let is_peer = inbound.settings.is_peer(remote.0.ip());
        if is_peer && inbound.sender == Some(Sender::Dialog) && self.standing != Standing::Peer {
            return None;
        }
        let like = self.listener.unwrap_or(inbound.source.flow.listener());
        let listener = inbound.settings.listeners.any_for(transport, remote, Some(like))?;
        Some(match transport {
            Transport::Udp => Destination::Flow(Flow::Datagram { listener, remote }),
            Transport::Tcp => Destination::Connect { listener, remote },
        })
    }

    /// An address becomes the next way; a name has to be looked up first; a URI that leads nowhere adds nothing.
    fn follow(&mut self, uri: &[u8], inbound: &Inbound, size: Size) -> Option<Step> {
        let uri = SipUri::parse(uri).ok()?;
        match transport::next_hop(&uri).ok()? {
            NextHop::Address { remote, transport } => {
                let is_peer = inbound.settings.is_peer(remote.0.ip());
                let size = if is_peer { Size::Counts } else { size };
                self.hops.push_front(Hop::Address(remote, transport, size));
                None
            }
            NextHop::Lookup { host, port, transport } => {
                let host = String::from_utf8_lossy(host).into_owned().into_boxed_str();
                Some(Step::Lookup { host, port, transport })
            }
        }
    }
}
