//! Which message of a call waits for which capsule: what stops somebody from repeating something leaves when the other node
//! holds what it stands for.
//!
//! A shard's messages pass through here in their order, behind the capsules of the same step. A message of a call of which
//! others wait goes with the last of these, so that the messages of a call keep their order. The shard itself knows nothing
//! of this, and on a node without a peer there is no such machine.
//!
//! Invariant: a message that is held is let go once, and not before what was posted with it is settled.

use std::collections::BTreeMap;

use bytes::Bytes;
use replica::{Posted, Ticket};
use transaction::{ClientKey, ServerKey};
use transport::Destination;

use crate::holding::NUMBER_BITS;
use crate::place::owner_of_shard;
use crate::shard::{Settled, Waits};

/// Messages that are held at a time; what is more is not held. At 5 ms each that is three million a second.
const HELD_MAX: usize = 1 << 14;

/// Messages that wait for one ticket; what is more does not wait.
const WITH_ONE_MAX: usize = 16;

/// The messages of one shard that wait for the other node.
#[derive(Debug)]
pub struct CallHolding {
    shard: u16,
    given: u64,
    held: BTreeMap<Ticket, Held>,
    /// The last ticket of each call of which something waits.
    last: BTreeMap<ServerKey, Ticket>,
    /// What became of the calls that have changed in this step.
    posted: BTreeMap<ServerKey, Posted>,
    /// A buffer, empty between two steps.
    pub(crate) changed: Vec<ServerKey>,
}

/// A message that is held: where it goes, itself, and the client transaction to be told if it can not be sent.
pub type HeldMessage = (Destination, Bytes, Option<ClientKey>);

#[derive(Debug)]
struct Held {
    call: ServerKey,
    messages: Vec<HeldMessage>,
    settled: Vec<Settled>,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallPassage {
    /// It goes on at once.
    Passes(HeldMessage),
    /// It is held with others of its call.
    Behind,
    /// It is held until this ticket is settled; the replica is to wait for what was posted.
    Waits(Ticket, Posted),
}

impl CallHolding {
    /// Holds nothing.
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            given: 0,
            held: BTreeMap::new(),
            last: BTreeMap::new(),
            posted: BTreeMap::new(),
            changed: Vec::new(),
        }
    }

    /// The number of the shard whose messages are held.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// A call was given to the replica.
    pub(crate) fn handle_posted(&mut self, call: ServerKey, posted: Posted) {
        self.posted.insert(call, posted);
    }

    /// A message of a call comes behind its capsule. If the call has not changed, it stands for `everything` that was ever
    /// told.
    pub(crate) fn handle_message(
        &mut self,
        call: ServerKey,
        message: HeldMessage,
        settled: Option<Settled>,
        waits: Waits,
        everything: impl FnOnce() -> Posted,
    ) -> CallPassage {
        if waits == Waits::BehindOthers {
            let held = self.last.get(&call).and_then(|ticket| self.held.get_mut(ticket));
            return match held.filter(|held| held.messages.len() < WITH_ONE_MAX) {
                Some(held) => {
                    held.messages.push(message);
                    held.settled.extend(settled);
                    CallPassage::Behind
                }
                None => CallPassage::Passes(message),
            };
        }
        if self.held.len() >= HELD_MAX {
            return CallPassage::Passes(message);
        }
        let posted = self.posted.get(&call).copied().unwrap_or_else(everything);
        self.given = (self.given + 1) & ((1 << NUMBER_BITS) - 1);
        let ticket = Ticket(u64::from(owner_of_shard(self.shard)) << NUMBER_BITS | self.given);
        self.held
            .insert(ticket, Held { call, messages: vec![message], settled: settled.into_iter().collect() });
        self.last.insert(call, ticket);
        CallPassage::Waits(ticket, posted)
    }

    /// All outputs of one step have passed.
    pub(crate) fn handle_end_of_step(&mut self) {
        self.posted.clear();
    }

    /// The node stands by, or became active anew: what is held is let go. Who waits for it repeats what it has sent.
    pub fn stand_by(&mut self) {
        self.held.clear();
        self.last.clear();
        self.posted.clear();
    }

    /// The replica has settled a ticket: the messages that leave, in their order, and the requests that they settle. An
    /// unknown ticket is of an earlier role.
    pub fn handle_settled(&mut self, ticket: Ticket) -> (Vec<HeldMessage>, Vec<Settled>) {
        let Some(Held { call, messages, settled }) = self.held.remove(&ticket) else {
            return Default::default();
        };
        if self.last.get(&call) == Some(&ticket) {
            self.last.remove(&call);
        }
        (messages, settled)
    }

    /// How many tickets are not settled.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use transport::{Flow, ListenerId, RemoteAddr};

    use super::*;

    #[test]
    fn what_comes_behind_a_message_that_waits_leaves_with_it_and_in_order() {
        let mut holding = CallHolding::new(3);
        holding.handle_posted(call(1), Posted::nowhere());
        let CallPassage::Waits(ticket, _) = until_held(&mut holding, 1, "100") else { panic!("it waits") };
        holding.handle_end_of_step();

        assert_eq!(behind(&mut holding, 1, "180"), CallPassage::Behind);
        assert_eq!(behind(&mut holding, 2, "180"), passes("180"), "another call");

        assert_eq!(crate::Holding::owner_of(ticket), owner_of_shard(3));
        assert_eq!(holding.handle_settled(ticket).0, [message("100"), message("180")]);
        assert_eq!(holding.handle_settled(ticket).0, []);
        assert_eq!(behind(&mut holding, 1, "183"), passes("183"), "nothing of it waits any more");
        assert!(holding.is_empty());
    }

    #[test]
    fn what_is_behind_waits_for_the_last_ticket_of_its_call() {
        let mut holding = CallHolding::new(0);
        let CallPassage::Waits(first, _) = until_held(&mut holding, 1, "100") else { panic!("it waits") };
        let CallPassage::Waits(last, _) = until_held(&mut holding, 1, "486") else { panic!("it waits") };

        assert_eq!(behind(&mut holding, 1, "486 again"), CallPassage::Behind);

        assert_eq!(holding.handle_settled(first).0, [message("100")]);
        assert_eq!(holding.handle_settled(last).0, [message("486"), message("486 again")]);
    }

    #[test]
    fn what_is_held_when_the_role_ends_is_let_go() {
        let mut holding = CallHolding::new(0);
        let CallPassage::Waits(before, _) = until_held(&mut holding, 1, "100") else { panic!("it waits") };

        holding.stand_by();

        assert_eq!(behind(&mut holding, 1, "180"), passes("180"));
        let CallPassage::Waits(after, _) = until_held(&mut holding, 1, "100") else { panic!("it waits") };
        assert_eq!((holding.handle_settled(before).0, holding.handle_settled(after).0.len()), (vec![], 1));
    }

    #[test]
    fn too_much_is_not_held() {
        let mut holding = CallHolding::new(0);
        for number in 0..HELD_MAX as u128 {
            assert!(matches!(until_held(&mut holding, number, "100"), CallPassage::Waits(..)));
        }
        assert_eq!(until_held(&mut holding, u128::MAX, "100"), passes("100"));

        for _ in 1..WITH_ONE_MAX {
            assert_eq!(behind(&mut holding, 0, "180"), CallPassage::Behind);
        }
        assert_eq!(behind(&mut holding, 0, "180"), passes("180"));
    }

    fn until_held(holding: &mut CallHolding, number: u128, text: &'static str) -> CallPassage {
        holding.handle_message(call(number), message(text), None, Waits::UntilHeld, Posted::nowhere)
    }

    fn behind(holding: &mut CallHolding, number: u128, text: &'static str) -> CallPassage {
        holding.handle_message(call(number), message(text), None, Waits::BehindOthers, Posted::nowhere)
    }

    fn passes(text: &'static str) -> CallPassage {
        CallPassage::Passes(message(text))
    }

    fn message(text: &'static str) -> HeldMessage {
        let remote = RemoteAddr(std::net::SocketAddr::from(([192, 0, 2, 1], 5060)));
        let to = Destination::Flow(Flow::Datagram { listener: ListenerId(0), remote });
        (to, Bytes::from_static(text.as_bytes()), None)
    }

    fn call(number: u128) -> ServerKey {
        ServerKey::from_u128(number)
    }
}
