//! The Record-Route that this server puts into requests that make a dialog: made per branch, with a
//! token that says how either side is reached.

use sip::{Aor, Contacts, Message, SipUri};
use transport::{Destination, Flow, ListenerId, Listeners, RemoteAddr};

use super::admission::{self, Identity};
use super::aim::Aim;
use super::dialog_token::{
    AccountName, BindingName, DialogToken, Side, Standing, Way, account_hash, instance_hash, tag_hash,
};
use super::inbound::{Inbound, Sender};
use super::listener_mark::ListenerMark;
use super::{nat, own};
use crate::session_name::Anchor;
use crate::{Keyring, Target, Trunk};

/// The Record-Route values for a request that begins a dialog, the topmost last.
pub(super) fn values(
    keyring: &Keyring,
    inbound: &Inbound,
    request: &Message<'_>,
    aim: &Aim,
    (to, anchor): (&Destination, Option<Anchor>),
) -> Vec<Vec<u8>> {
    let listeners = &inbound.settings.listeners;
    let token = DialogToken {
        caller: caller(keyring, inbound, request),
        callee: callee(keyring, inbound, aim, to),
        caller_tag: tag_hash(keyring, request.from_tag().unwrap_or_default()),
        anchor,
        mask: aim.leg.as_ref().and_then(|leg| leg.mask(request, inbound)),
    };
    let mut text = Vec::with_capacity(160);
    token.write(keyring, request.call_id().unwrap_or_default(), &mut text);

    // RFC 5658 §4: where the request leaves by another listener than it came in on, each side is told its own.
    let received_on = inbound.source.flow.listener();
    let mut values = vec![value(listeners, received_on, &text)];
    if to.listener() != received_on {
        values.push(value(listeners, to.listener(), &text));
    }
    values
}

fn value(listeners: &Listeners, listener: ListenerId, token: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(token.len() + 64);
    value.push(b'<');
    own::write_uri(listeners, listener, token, &mut value);
    value.extend_from_slice(b";lr>");
    value
}

fn caller(keyring: &Keyring, inbound: &Inbound, request: &Message<'_>) -> Side {
    let is_nat = nat::is_behind_nat(request, &inbound.source);
    let flow = inbound.source.flow;
    let way = if is_nat || flow.is_reliable() { way(&flow) } else { Way::Uri };
    let listener = ListenerMark::of_id(&keyring.branch, &inbound.settings.listeners, flow.listener());
    let aor = match &inbound.sender {
        // A peer is no binding; what it says in From belongs to others.
        Some(
            Sender::Trusted
            | Sender::Dialog
            | Sender::ByFlow
            | Sender::Carrier(_)
            | Sender::Ourselves(_)
            | Sender::ForAnEnd,
        )
        | None => None,
        Some(Sender::Account { home, .. }) => Some(home.clone()),
        Some(Sender::Open) => match admission::identity(keyring, request) {
            Identity::Of(aor) if is_own(inbound, &aor) => Some(aor),
            _ => None,
        },
        // What an impostor gains is that requests of its own call find their way to whom it claims to be.
        Some(Sender::ToRegistrar) => match admission::identity(keyring, request) {
            Identity::Of(aor) => Some(aor),
            _ => None,
        },
    };
    // Where Request-URI and Route decide, no binding is asked.
    let binding = aor.filter(|_| way != Way::Uri).map(|aor| BindingName {
        aor,
        instance: contact_instance(request).map(|it| instance_hash(keyring, it)),
    });
    let account = match &inbound.sender {
        Some(Sender::Carrier(trunk)) => Some(account_name(keyring, trunk, 0)),
        _ => None,
    };
    Side { listener, way, standing: standing(inbound, is_nat, flow.remote()), binding, account }
}

fn account_name(keyring: &Keyring, trunk: &Trunk, cseq_shift: u8) -> AccountName {
    AccountName { name: account_hash(keyring, &trunk.name), cseq_shift }
}

fn callee(keyring: &Keyring, inbound: &Inbound, aim: &Aim, to: &Destination) -> Side {
    let (way, binding) = match (to, &aim.binding) {
        // RFC 5626 §5.3: what was sent by a flow goes on by the flow.
        (Destination::Flow(flow), binding) if aim.flow == Some(*flow) => (way(flow), binding.clone()),
        _ => (Way::Uri, None),
    };
    Side {
        listener: ListenerMark::of_id(&keyring.branch, &inbound.settings.listeners, to.listener()),
        way,
        standing: standing(inbound, aim.standing == Standing::BehindNat, to.remote()),
        binding,
        account: aim.account.as_ref().map(|trunk| account_name(keyring, trunk, aim.cseq_shift)),
    }
}

fn standing(inbound: &Inbound, is_behind_nat: bool, remote: RemoteAddr) -> Standing {
    match inbound.settings.is_believing(remote.0.ip()) {
        _ if is_behind_nat => Standing::BehindNat,
        true => Standing::Peer,
        false => Standing::Plain,
    }
}

/// What the token says of a target's binding.
pub(super) fn binding_name(keyring: &Keyring, target: &Target) -> BindingName {
    let instance = target.instance.as_ref().map(|instance| instance_hash(keyring, instance));
    BindingName { aor: target.aor.clone(), instance }
}

/// How a token names a flow.
pub(super) fn way(flow: &Flow) -> Way {
    match *flow {
        Flow::Datagram { remote, .. } => Way::Datagram(remote),
        Flow::Connection { id, remote } => {
            Way::Connection { node: id.node, boot: id.boot, number: id.number, remote }
        }
    }
}

/// RFC 5626 §4.1: the instance that a Contact names, without its quotes.
pub(super) fn contact_instance<'a>(request: &'a Message<'_>) -> Option<&'a [u8]> {
    let Ok(Contacts::List(mut contacts)) = request.contacts() else { return None };
    let value = contacts.next()?.params.value(b"+sip.instance")?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

fn is_own(inbound: &Inbound, aor: &Aor) -> bool {
    let text = format!("sip:{aor}");
    SipUri::parse(text.as_bytes()).is_ok_and(|uri| inbound.settings.is_own_domain(&uri.host))
}
