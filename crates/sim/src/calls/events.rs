//! What is worth counting while calls are taken over: a zero in this table says that something was not tried at all.

use crate::events::{Happened, events};

events! {
    /// A node was killed before an input or output.
    KilledBefore "killed_before",
    /// A node was killed after one.
    KilledAfter "killed_after",
    /// The other node became active.
    TookOver "took_over",
    /// A node was killed with what it had written still on its way.
    KilledWithWrites "killed_with_writes_under_way",
    /// A message waited for the other node, and left when that one had what it stood for.
    Held "message_held",
    /// One waited too long.
    Degraded "message_degraded",
    /// A call was lost of which a message had gone on without the other node.
    Excused "loss_excused",
    /// A datagram was lost.
    Lost "datagram_lost",
    /// A node was killed and a datagram lost that it had sent.
    LostBefore "datagram_of_dead_node_lost",
    /// A node was started again, and had everything when the other one died.
    CameBack "came_back",
    /// A node handed the service over.
    HandedOver "handed_over",
    /// A name was looked up.
    Resolved "name_resolved",
    /// The same by a node that went on with a call.
    ResolvedAgain "name_resolved_by_new_node",
    /// An entry came to the standby.
    Applied "entry_applied",
    /// The new node was sent an INVITE.
    NewHeardInvite "new_node_heard_invite",
    /// An ACK.
    NewHeardAck "new_node_heard_ack",
    /// A CANCEL.
    NewHeardCancel "new_node_heard_cancel",
    /// A BYE.
    NewHeardBye "new_node_heard_bye",
    /// A PRACK, REFER or NOTIFY.
    NewHeardOther "new_node_heard_other_request",
    /// A provisional response.
    NewHeardProvisional "new_node_heard_1xx",
    /// A 2xx.
    NewHeardSuccess "new_node_heard_2xx",
    /// A refusal.
    NewHeardRefusal "new_node_heard_refusal",
    /// The new node sent an INVITE.
    NewSentInvite "new_node_sent_invite",
    /// An ACK.
    NewSentAck "new_node_sent_ack",
    /// A CANCEL.
    NewSentCancel "new_node_sent_cancel",
    /// A BYE.
    NewSentBye "new_node_sent_bye",
    /// A PRACK, REFER or NOTIFY.
    NewSentOther "new_node_sent_other_request",
    /// A provisional response.
    NewSentProvisional "new_node_sent_1xx",
    /// A 2xx.
    NewSentSuccess "new_node_sent_2xx",
    /// A 408.
    NewSentTimeout "new_node_sent_408",
    /// Another refusal.
    NewSentRefusal "new_node_sent_refusal",
}

impl Event {
    /// What a new node was sent.
    pub(super) fn heard(bytes: &[u8]) -> Self {
        match bytes {
            [b'S', b'I', b'P', b'/', _, _, _, _, b'1', ..] => Self::NewHeardProvisional,
            [b'S', b'I', b'P', b'/', _, _, _, _, b'2', ..] => Self::NewHeardSuccess,
            [b'S', b'I', b'P', b'/', ..] => Self::NewHeardRefusal,
            [b'I', ..] => Self::NewHeardInvite,
            [b'A', ..] => Self::NewHeardAck,
            [b'C', ..] => Self::NewHeardCancel,
            [b'B', ..] => Self::NewHeardBye,
            _ => Self::NewHeardOther,
        }
    }

    /// What a new node sent.
    pub(super) fn sent(bytes: &[u8]) -> Self {
        match bytes {
            [b'S', b'I', b'P', b'/', _, _, _, _, b'1', ..] => Self::NewSentProvisional,
            [b'S', b'I', b'P', b'/', _, _, _, _, b'2', ..] => Self::NewSentSuccess,
            [b'S', b'I', b'P', b'/', _, _, _, _, b'4', b'0', b'8', ..] => Self::NewSentTimeout,
            [b'S', b'I', b'P', b'/', ..] => Self::NewSentRefusal,
            [b'I', ..] => Self::NewSentInvite,
            [b'A', ..] => Self::NewSentAck,
            [b'C', ..] => Self::NewSentCancel,
            [b'B', ..] => Self::NewSentBye,
            _ => Self::NewSentOther,
        }
    }
}

/// How often each event happened.
pub(super) type Events = Happened<Event>;
