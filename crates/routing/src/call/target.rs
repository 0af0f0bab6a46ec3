//! RFC 3261 §16.5: what a request aims at, and what this server answers for itself.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use sip::{Message, Method, Name, SipUri, Status};
use transport::{ConnectionId, Flow, ListenerId, RemoteAddr, Transport};

use super::aim::{Absent, Aim, Hop, Size};
use super::dialog_token::{AccountName, BindingName, Side, Standing, Way, account_hash, instance_hash};
use super::inbound::Inbound;
use super::record_route::{self, binding_name};
use super::reply::Reply;
use super::validation::unsupported;
use crate::{Keyring, Target, Trunk};

/// The methods that this server answers itself.
const ALLOW: &[u8] = b"OPTIONS, REGISTER";

/// The extensions that this server has as a registrar.
// RFC 3327 §5.3, RFC 5626 §6, RFC 5627 §5.2.
pub(super) const SUPPORTED: &[u8] = b"path, outbound, gruu";

/// The same, as a REGISTER may require them.
pub(super) const REGISTRAR_TAGS: &[&[u8]] = &[b"path", b"outbound", b"gruu"];

/// The answer to a request for this server itself.
pub(super) fn for_ourselves(request: &Message<'_>) -> Reply {
    // RFC 3261 §8.2.1: a method that is not allowed here.
    if request.method() != Some(Method::Options) {
        return Reply::new(Status::METHOD_NOT_ALLOWED).with(Name::Allow, ALLOW);
    }
    // RFC 3261 §8.2.2.3: what is required and not there.
    if let Some(unsupported) = unsupported(request, Name::Require, REGISTRAR_TAGS) {
        return Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, unsupported);
    }
    // RFC 3261 §11.2: what an INVITE would be told, and what this server can do.
    Reply::new(Status::OK)
        .with(Name::Allow, ALLOW)
        .with(Name::Accept, *b"*/*")
        .with(Name::AcceptEncoding, *b"identity")
        .with(Name::AcceptLanguage, *b"en")
        .with(Name::Supported, SUPPORTED)
}

/// One aim for each phone, with its `q`. Several flows of one phone are one aim.
pub(super) fn aims(keyring: &Keyring, targets: Vec<Target>) -> Vec<(u16, Aim)> {
    let mut groups: Vec<(Target, VecDeque<Target>)> = Vec::with_capacity(targets.len());
    for target in targets {
        // RFC 5626 §5.3, RFC 5626 §7: a request is not forked to several flows of one instance.
        let same_phone = |first: &Target| {
            target.reg_id.is_some() && first.reg_id.is_some() && first.instance == target.instance
        };
        match groups.iter_mut().find(|(first, _)| same_phone(first)) {
            Some((_, spares)) => spares.push_back(target),
            None => groups.push((target, VecDeque::new())),
        }
    }
    groups.into_iter().map(|(target, spares)| (target.q, Aim { spares, ..aim(keyring, target) })).collect()
}

/// The aim at one binding.
pub(super) fn aim(keyring: &Keyring, target: Target) -> Aim {
    let by_path = !target.path.is_empty();
    let binding = (!by_path).then(|| binding_name(keyring, &target));
    let flow = target.flow.filter(|flow| !by_path && is_reached_by_flow(&target, flow));
    let mut hops = VecDeque::with_capacity(2);
    hops.extend(flow.map(Hop::Flow));
    // RFC 5626 §5.3.1: what can not go by the flow goes by no other way; the phone's next flow is tried.
    let is_flow_alone = target.reg_id.is_some() && flow.is_some();
    // Behind NAT the Contact leads nowhere, or to somebody else.
    if by_path || !(target.nat || is_flow_alone) {
        hops.push_back(Hop::Uri(Size::Ignored));
    }
    Aim {
        request_uri: target.contact,
        path: target.path,
        hops,
        search: None,
        listener: target.listener,
        binding,
        flow,
        account: None,
        cseq_shift: 0,
        standing: if target.nat && !by_path { Standing::BehindNat } else { Standing::Plain },
        unreachable: Status::TEMPORARILY_UNAVAILABLE,
        spares: VecDeque::new(),
        leg: None,
        relay: None,
    }
}

/// Whether a phone is reached by its flow, rather than by its Contact.
fn is_reached_by_flow(target: &Target, flow: &Flow) -> bool {
    let has_address = SipUri::parse(&target.contact).is_ok_and(|uri| uri.host.ip().is_some());
    target.nat || flow.is_reliable() || target.reg_id.is_some() || !has_address
}

/// The aim of a request within a dialog. `targets` are the present bindings of the side, if it is one.
pub(super) fn side_aim(keyring: &Keyring, inbound: &Inbound, side: &Side, targets: &[Target]) -> Aim {
    let listeners = &inbound.settings.listeners;
    let listener = side.listener.find(&keyring.branch, listeners);
    let mut aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Ignored);
    aim.listener = listener;
    aim.standing = side.standing;
    if let Some(AccountName { name, cseq_shift }) = side.account {
        let is_it = |trunk: &&Arc<Trunk>| account_hash(keyring, &trunk.name) == name;
        aim.account = inbound.settings.trunks.iter().find(is_it).cloned();
        // Also where the account is not there any more: the other side counts on it.
        aim.cseq_shift = cseq_shift;
    }
    if side.way == Way::Uri {
        return aim;
    }
    // RFC 5626 §5.3.1: the flow is gone, and with it the only way.
    aim.unreachable = Status::FLOW_FAILED;
    aim.hops.clear();
    let present =
        side.binding.as_ref().and_then(|binding| present_binding(keyring, inbound, side, binding, targets));
    match present {
        Some(target) => {
            aim.listener = target.listener.or(listener);
            aim.hops.extend(target.flow.map(Hop::Flow));
            // RFC 5627 §6.1: the phone is sent its own Contact, as by every other way.
            if inbound.routed.gruu.is_some() {
                aim.request_uri = target.contact.clone();
            }
        }
        None => aim.hops.extend(token_hop(inbound, side, listener)),
    }
    if let (Way::Connection { remote, .. }, Some(binding)) = (&side.way, &side.binding) {
        aim.hops.push_back(Hop::Return(Box::new(Absent {
            binding: binding.clone(),
            contact: inbound.routed.request_uri.clone(),
            address: Some(remote.0.ip()),
        })));
    }
    if side.standing != Standing::BehindNat {
        aim.hops.push_back(Hop::Uri(Size::Ignored));
    }
    aim
}

/// The flow of a phone that has come back, among the present bindings of its address of record.
pub(super) fn returned(keyring: &Keyring, absent: &Absent, targets: &[Target]) -> Option<Flow> {
    let is_same_contact = |contact: &[u8]| match (SipUri::parse(contact), SipUri::parse(&absent.contact)) {
        (Ok(found), Ok(wanted)) => found.user == wanted.user && found.host == wanted.host,
        _ => false,
    };
    let is_it = |target: &&Target| match (absent.binding.instance, &target.instance) {
        (Some(instance), Some(found)) => instance_hash(keyring, found) == instance,
        (Some(_), None) => false,
        // Its port is another one; the same for the Contact of many phones.
        (None, _) => {
            is_same_contact(&target.contact)
                && target.flow.is_some_and(|flow| absent.address.is_none_or(|it| it == flow.remote().0.ip()))
        }
    };
    let is_there =
        |target: &&Target| target.path.is_empty() && target.flow.is_some_and(|flow| flow.is_reliable());
    targets.iter().filter(is_there).find(is_it).and_then(|target| target.flow)
}

/// The way that a token names.
pub(super) fn token_hop(inbound: &Inbound, side: &Side, listener: Option<ListenerId>) -> Option<Hop> {
    match side.way {
        Way::Uri => None,
        Way::Datagram(remote) => Some(match listener {
            Some(listener) => Hop::Flow(Flow::Datagram { listener, remote }),
            None => any_datagram(remote),
        }),
        Way::Connection { node, boot, number, remote } => {
            let listener = listener.or_else(|| {
                let like = inbound.source.flow.listener();
                inbound.settings.listeners.any_for(Transport::Tcp, remote, Some(like))
            })?;
            Some(Hop::Flow(Flow::Connection { id: ConnectionId { node, boot, listener, number }, remote }))
        }
    }
}

/// The listener is gone since: any other may still get through.
fn any_datagram(remote: RemoteAddr) -> Hop {
    Hop::Address(remote, Transport::Udp, Size::Ignored)
}

/// The binding that a token names, as it is registered at present: by its instance, else by its Contact, which is the
/// Request-URI of requests within the dialog. Two phones behind two NATs may have one private address, so that the
/// Contact counts only where the public address is the same.
fn present_binding<'t>(
    keyring: &Keyring,
    inbound: &Inbound,
    side: &Side,
    binding: &BindingName,
    targets: &'t [Target],
) -> Option<&'t Target> {
    let wanted = SipUri::parse(&inbound.routed.request_uri).ok();
    let is_same_phone = |target: &Target| match (binding.instance, &target.instance) {
        (Some(instance), Some(found)) => instance_hash(keyring, found) == instance,
        (Some(_), None) => false,
        (None, _) => {
            let is_same_contact = match (&wanted, SipUri::parse(&target.contact)) {
                (Some(wanted), Ok(contact)) => {
                    contact.user == wanted.user && contact.host == wanted.host && contact.port == wanted.port
                }
                _ => false,
            };
            is_same_contact && target.flow.is_some_and(|flow| Some(flow.remote().0.ip()) == way_ip(side))
        }
    };
    let mut found = targets.iter().filter(|target| target.path.is_empty() && is_same_phone(target));
    let first = found.next()?;
    // Of several flows of one phone the one that the dialog began on, if it is there.
    let is_same_flow =
        |target: &&Target| target.flow.is_some_and(|flow| record_route::way(&flow) == side.way);
    Some([first].into_iter().chain(found).find(is_same_flow).unwrap_or(first))
}

fn way_ip(side: &Side) -> Option<IpAddr> {
    match side.way {
        Way::Uri => None,
        Way::Datagram(remote) | Way::Connection { remote, .. } => Some(remote.0.ip()),
    }
}
