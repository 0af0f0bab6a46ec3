//! What is asked of a call whose media pass another relay.

use super::dialog::{Open, Request};
use super::{Branch, Broken, Call, Kind, Message, Plan, Side, StreamId, Tag, Within};
use crate::sdp::Origin;

impl Call {
    /// Whether the description in a message that was just handled proposes, or says again what was proposed.
    // RFC 3264 §4. A message that comes again has to be told again as what it was.
    pub fn proposes(&self, message: &Message<'_>) -> bool {
        let Message { kind, from, cseq, .. } = *message;
        let of = match message.within {
            Within::Branch(_) => return true,
            Within::Fork(_, tag) | Within::Dialog(tag) => self.dialogs.get(&tag),
        };
        let Some(dialog) = of else { return matches!(kind, Kind::Request(_)) };
        let is_same = |request: Request| request == request_of(kind, from, cseq);
        let open = dialog.open.iter().find(|open| is_same(open.request)).map(|open| open.by);
        let settled = dialog.settled.filter(|settled| is_same(settled.request)).map(|settled| settled.by);
        match open.or(settled) {
            Some(by) => by == from,
            // A PRACK that answers what was offered early closes the exchange of its INVITE.
            None if matches!(kind, Kind::Request(super::Method::Prack)) => {
                dialog.settled.is_none_or(|settled| settled.by == from)
            }
            None => matches!(kind, Kind::Request(_)),
        }
    }

    /// A description that was relayed goes on as it is after all: so does what answers it.
    pub fn pass_on(&mut self, message: &Message<'_>) {
        let Message { kind, from, cseq, .. } = *message;
        let (Within::Fork(_, tag) | Within::Dialog(tag)) = message.within else { return };
        let Some(dialog) = self.dialogs.get_mut(&tag) else { return };
        let request = request_of(kind, from, cseq);
        for Open { offer, .. } in dialog.open.iter_mut().filter(|open| open.request == request) {
            *offer = None;
        }
    }

    /// Whether a copy of the first INVITE is under way, or was accepted.
    pub fn has_branch(&self, branch: Branch) -> bool {
        self.forks.contains_key(&branch) || self.dialogs.values().any(|dialog| dialog.branch == branch)
    }

    /// The dialogs that were accepted and in which somebody says that it sends, so that silence means something.
    pub fn sounding_dialogs(&self) -> impl Iterator<Item = Tag> {
        let sounds = |tag: &Tag| {
            let own = |(stream, plan): (&StreamId, &Plan)| {
                stream.dialog == *tag && (plan.caller.sends || plan.callee.sends)
            };
            self.streams().iter().any(own)
        };
        let confirmed = self.dialogs.iter().filter(|(_, dialog)| dialog.is_confirmed).map(|(tag, _)| *tag);
        confirmed.filter(sounds).collect::<Vec<_>>().into_iter()
    }

    /// Whether somebody has answered and has not ended it, early or for good.
    pub fn has_dialogs(&self) -> bool {
        !self.dialogs.is_empty()
    }

    /// What becomes of what can not be relayed.
    pub fn broken(&self) -> Broken {
        self.terms.broken
    }

    /// What becomes of `o=`.
    pub fn origin(&self) -> Origin {
        self.terms.origin
    }
}

fn request_of(kind: Kind, from: Side, cseq: u32) -> Request {
    let method = match kind {
        Kind::Request(method) | Kind::Accepted(method) | Kind::Refused(method) => method,
        Kind::Ack | Kind::Provisional { .. } => super::Method::Invite,
    };
    let by = match kind {
        Kind::Request(_) | Kind::Ack => from,
        Kind::Provisional { .. } | Kind::Accepted(_) | Kind::Refused(_) => from.other(),
    };
    Request { by, method, cseq }
}
