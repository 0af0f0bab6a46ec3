//! The way to a phone of ours for a server beside this one, which finds it in a table that both know (RFC 3327 §5.3).
//!
//! Such a server must not send to the phone itself: behind NAT nothing gets in but by the flow that the phone opened to
//! us. So the table has a Path, whose token names the flow, like the Path that an edge gives to its registrar.

use bytes::Bytes;
use transport::Listeners;

use super::dialog_token::{Side, Standing, Way};
use super::flow_token::{EdgeMark, FlowToken};
use super::listener_mark::ListenerMark;
use super::own;
use super::record_route::{binding_name, way};
use crate::{Keyring, Target};

/// The value of a Path that leads to a phone by way of this server; `None` if it is registered on a listener that is not
/// there.
pub(crate) fn path_to(keyring: &Keyring, listeners: &Listeners, target: &Target) -> Option<Bytes> {
    let listener = target.listener?;
    let token = FlowToken {
        edge: EdgeMark::beside(keyring),
        phone: Side {
            account: None,
            listener: ListenerMark::of_id(&keyring.branch, listeners, listener),
            way: target.flow.as_ref().map_or(Way::Uri, way),
            standing: if target.nat { Standing::BehindNat } else { Standing::Plain },
            binding: Some(binding_name(keyring, target)),
        },
        contact: None,
    };
    let mut text = Vec::with_capacity(128);
    token.write(keyring, &mut text);
    let mut path = Vec::with_capacity(text.len() + 48);
    path.push(b'<');
    own::write_uri(listeners, listener, &text, &mut path);
    path.extend_from_slice(b";lr>");
    Some(Bytes::from(path))
}
