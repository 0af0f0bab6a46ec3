//! What phones say to each other of their media, by way of the node.

use std::time::Duration;

use media::body::Body;
use media::offer_answer::{Kind, Message, Method, Within};

use super::{
    BRANCH, BRANCH_LASTS, Happening, SAY_AGAIN, SETTLED_AFTER, SETTLED_LATE_AFTER, TAG, WINDOW, World,
};
use crate::talk::phone::Direction;

/// A takeover that is longer ago makes no difference.
const TAKEOVER_TELLS: Duration = Duration::from_secs(1);

/// A message of the signalling.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    pub(super) kind: Kind,
    pub(super) by: usize,
    pub(super) within: Within,
    pub(super) cseq: u32,
    pub(super) body: Vec<u8>,
    pub(super) direction: Direction,
}

impl World {
    pub(super) fn say(&mut self, said: Signal) {
        let transit = self.transit();
        self.later(transit, Happening::Signal(said));
    }

    pub(super) fn handle_message(&mut self, said: Signal) {
        let (source, is_behind_nat) = self.seen(said.by);
        let Some(node) = &mut self.node else {
            return self.later(SAY_AGAIN, Happening::Signal(said));
        };
        let body = Body { content_type: Some(b"application/sdp"), bytes: &said.body, ..Body::default() };
        let message = Message {
            kind: said.kind,
            from: self.phones[said.by].side,
            within: said.within,
            cseq: said.cseq,
            body: if said.body.is_empty() { Body::default() } else { body },
            source,
            is_behind_nat,
        };
        let passed = node.handle_message(self.now, &message);
        // The message leaves when the other node has what it stands for.
        self.version += 1;
        self.told = (self.version, node.capsule(self.now));
        self.latch_untold = false;
        self.trace.add(self.now, format_args!("{:?} of phone {}", said.kind, said.by), &said.body);
        match passed {
            Ok(body) => {
                let transit = self.transit();
                self.later(transit, Happening::Delivered(Signal { body, ..said }));
            }
            Err(why) => self.breach("what phones say is relayed", why),
        }
    }

    /// A phone hears what the other one said.
    pub(super) fn hear(&mut self, said: Signal) {
        let phone = 1 - said.by;
        if !said.body.is_empty()
            && let Err(why) = self.phones[phone].hear_description(&said.body)
        {
            return self.breach("what phones say is relayed", why);
        }
        match (said.kind, said.within) {
            (Kind::Request(_), Within::Branch(_)) => {
                let (is_early, rings) = (self.rng.chance(500), self.rng.between(SAY_AGAIN, SAY_AGAIN * 6));
                if is_early {
                    self.later(SAY_AGAIN / 2, Happening::Answer { is_early });
                }
                self.later(rings, Happening::Answer { is_early: false });
            }
            (Kind::Request(_), _) => self.answer(phone, &said),
            (Kind::Provisional { .. }, _) => self.phones[phone].direction = said.direction.answer(),
            (Kind::Accepted(_), _) => {
                self.phones[phone].direction = said.direction.answer();
                self.say(Signal {
                    kind: Kind::Ack,
                    by: phone,
                    within: Within::Dialog(TAG),
                    cseq: said.cseq,
                    body: Vec::new(),
                    direction: said.direction,
                });
                self.window_until = self.now + WINDOW;
            }
            (Kind::Ack, _) => {
                if !self.is_answered {
                    self.is_answered = true;
                    self.later(Duration::from_secs(1), Happening::Act);
                    self.later(BRANCH_LASTS, Happening::BranchEnded);
                }
                self.is_in_exchange = false;
                self.is_path_broken = false;
                // Who moved before the takeover may move once more, as far as the new node knows.
                let is_early = self.now.since(self.taken_over_at) < TAKEOVER_TELLS;
                self.settle(if is_early { SETTLED_LATE_AFTER } else { SETTLED_AFTER });
            }
            (Kind::Refused(_), _) => {}
        }
    }

    pub(super) fn answer_invite(&mut self, is_early: bool) {
        let body = self.phones[1].describe(Direction::Both).into_bytes();
        let kind =
            if is_early { Kind::Provisional { is_reliable: false } } else { Kind::Accepted(Method::Invite) };
        self.say(Signal {
            kind,
            by: 1,
            within: Within::Fork(BRANCH, TAG),
            cseq: 1,
            body,
            direction: Direction::Both,
        });
    }

    fn answer(&mut self, phone: usize, offer: &Signal) {
        let direction = offer.direction.answer();
        self.phones[phone].direction = direction;
        let body = self.phones[phone].describe(direction).into_bytes();
        self.say(Signal {
            kind: Kind::Accepted(Method::Invite),
            by: phone,
            within: Within::Dialog(TAG),
            cseq: offer.cseq,
            body,
            direction,
        });
    }

    /// A phone offers anew, in the dialog.
    pub(super) fn offer(&mut self, phone: usize, direction: Direction) {
        self.is_in_exchange = true;
        self.cseq += 1;
        let body = self.phones[phone].describe(direction).into_bytes();
        self.say(Signal {
            kind: Kind::Request(Method::Invite),
            by: phone,
            within: Within::Dialog(TAG),
            cseq: self.cseq,
            body,
            direction,
        });
    }
}
