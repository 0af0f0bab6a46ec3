//! Which answer waits for which capsule: the 200 to a REGISTER leaves when the other node holds what it stands for.
//!
//! A partition's outputs pass through here in their order. A change goes to the replica and leaves what became of it;
//! the answer behind it is held until the replica has settled it, one way or the other. The partition itself knows
//! nothing of this, and on a node without a peer there is no such machine.
//!
//! Invariant: an answer that is held is let go once, and a 200 to a REGISTER never before its changes are settled.

use std::collections::BTreeMap;

use replica::{Posted, Ticket};
use routing::Answer;
use routing::account::Asker;

/// Answers that are held at a time; what is more is not held. At 5 ms each that is three million a second.
const HELD_MAX: usize = 1 << 14;

/// The answers of one partition that wait for the other node.
#[derive(Debug)]
pub struct Holding {
    /// The partition's number, in the high bits of all its tickets.
    partition: u16,
    given: u64,
    held: BTreeMap<Ticket, (Asker, Answer)>,
    /// What became of the changes since the last answer.
    posted: Option<Posted>,
}

/// What is to be done with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes on at once.
    Passes(Answer),
    /// It is held until this ticket is settled; the replica is to wait for what was posted.
    Waits(Ticket, Posted),
}

impl Holding {
    /// Holds nothing.
    pub fn new(partition: u16) -> Self {
        Self { partition, given: 0, held: BTreeMap::new(), posted: None }
    }

    /// The number of the partition whose answers are held.
    pub fn partition(&self) -> u16 {
        self.partition
    }

    /// Whether an answer is one that is held.
    pub fn holds(answer: &Answer) -> bool {
        matches!(answer, Answer::Registered(Ok(_)))
    }

    /// The owner that a ticket belongs to: a partition, or a shard ([`crate::shard_of_owner`]).
    pub fn owner_of(ticket: Ticket) -> u16 {
        (ticket.0 >> NUMBER_BITS) as u16
    }

    /// A change was given to the replica.
    pub fn handle_posted(&mut self, posted: Posted) {
        self.posted = Some(self.posted.map_or(posted, |before| before.and(posted)));
    }

    /// An answer comes behind its changes. Without any it may repeat what an earlier one said, and then it stands for
    /// `everything` that was ever changed.
    pub fn handle_answer(
        &mut self,
        asker: Asker,
        answer: Answer,
        everything: impl FnOnce() -> Posted,
    ) -> Passage {
        if !Self::holds(&answer) || self.held.len() >= HELD_MAX {
            return Passage::Passes(answer);
        }
        let posted = self.posted.take().unwrap_or_else(everything);
        self.given = (self.given + 1) & ((1 << NUMBER_BITS) - 1);
        let ticket = Ticket(u64::from(self.partition) << NUMBER_BITS | self.given);
        self.held.insert(ticket, (asker, answer));
        Passage::Waits(ticket, posted)
    }

    /// All outputs of one step have passed: what was changed behind the last answer is waited for by nobody.
    pub fn handle_end_of_step(&mut self) {
        self.posted = None;
    }

    /// The node stands by, or is active under another epoch: what is held is let go. The shards that asked have forgotten
    /// those requests.
    pub fn stand_by(&mut self) {
        self.held.clear();
        self.posted = None;
    }

    /// The replica has settled a ticket: the answer that goes on, to whom. An unknown ticket is of an earlier role.
    pub fn handle_settled(&mut self, ticket: Ticket) -> Option<(Asker, Answer)> {
        self.held.remove(&ticket)
    }

    /// How many answers are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// The low bits of a ticket count up.
pub(crate) const NUMBER_BITS: u32 = 48;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use clock::Instant;
    use replica::{Capsule, DigestKey, Epoch, Holdings, Kind, Origin, Place, Sender, SenderOutput};
    use routing::{RegisterRefusal, Registered, Token};

    use super::*;

    #[test]
    fn the_answer_to_a_change_waits_for_it_and_goes_on_once() {
        let mut holding = Holding::new(3);
        holding.handle_posted(Posted::nowhere());

        let passage = holding.handle_answer(asker(1), accepted(), nothing_else);

        let Passage::Waits(ticket, posted) = passage else { panic!("{passage:?}") };
        assert_eq!((posted, Holding::owner_of(ticket)), (Posted::nowhere(), 3));
        assert_eq!(holding.handle_settled(ticket), Some((asker(1), accepted())));
        assert_eq!(holding.handle_settled(ticket), None);
        assert!(holding.is_empty());
    }

    #[test]
    fn an_answer_without_a_change_stands_for_everything() {
        let mut holding = Holding::new(0);

        let passage = holding.handle_answer(asker(1), accepted(), Posted::nowhere);

        assert!(matches!(passage, Passage::Waits(..)), "{passage:?}");
    }

    #[test]
    fn what_promises_nothing_passes() {
        let mut holding = Holding::new(0);
        for answer in [Answer::Noted, Answer::Registered(Err(RegisterRefusal::OutOfOrder))] {
            let passage = holding.handle_answer(asker(1), answer.clone(), nothing_else);

            assert_eq!(passage, Passage::Passes(answer));
        }
    }

    #[test]
    fn a_change_is_waited_for_by_the_answer_behind_it_also_if_another_passes_between() {
        let mut holding = Holding::new(0);
        holding.handle_posted(Posted::nowhere());
        let passes = holding.handle_answer(asker(1), Answer::Noted, nothing_else);
        let waits = holding.handle_answer(asker(2), accepted(), nothing_else);

        assert_eq!(passes, Passage::Passes(Answer::Noted));
        assert!(matches!(waits, Passage::Waits(..)), "{waits:?}");
    }

    #[test]
    fn a_change_of_an_earlier_step_is_waited_for_by_nobody() {
        let mut holding = Holding::new(0);
        holding.handle_posted(Posted::nowhere());
        holding.handle_end_of_step();

        let mut asked = false;
        let passage = holding.handle_answer(asker(1), accepted(), || {
            asked = true;
            Posted::nowhere()
        });

        assert!(asked && matches!(passage, Passage::Waits(..)), "{passage:?}");
    }

    #[test]
    fn what_is_held_when_the_role_ends_is_let_go_and_its_ticket_is_never_given_again() {
        let mut holding = Holding::new(0);
        let Passage::Waits(before, _) = holding.handle_answer(asker(1), accepted(), Posted::nowhere) else {
            panic!("it waits")
        };

        holding.stand_by();
        let Passage::Waits(after, _) = holding.handle_answer(asker(2), accepted(), Posted::nowhere) else {
            panic!("it waits")
        };

        assert_eq!(holding.handle_settled(before), None);
        assert_eq!(holding.handle_settled(after), Some((asker(2), accepted())));
    }

    #[test]
    fn too_many_are_not_held() {
        let mut holding = Holding::new(0);
        for number in 0..HELD_MAX as u64 {
            let passage = holding.handle_answer(asker(number), accepted(), Posted::nowhere);
            assert!(matches!(passage, Passage::Waits(..)));
        }

        let passage = holding.handle_answer(asker(0), accepted(), nothing_else);

        assert_eq!((passage, holding.len()), (Passage::Passes(accepted()), HELD_MAX));
    }

    #[test]
    fn the_sender_lets_go_what_is_held() {
        let (mut sender, mut out) = (sender(), Vec::new());
        let mut holding = Holding::new(1);
        let capsule = Capsule {
            kind: Kind(1),
            format: 1,
            key: Bytes::from_static(b"key"),
            bytes: Bytes::from_static(b"binding"),
            left: Duration::from_secs(60),
        };
        let place = Place { owner: 1, number: 1 };
        holding.handle_posted(sender.put(Instant::START, capsule, place, &mut out));
        let passage = holding.handle_answer(asker(1), accepted(), nothing_else);
        let Passage::Waits(ticket, posted) = passage else { panic!("{passage:?}") };

        sender.wait(Instant::START, ticket, posted, &mut out);

        // There is no peer: it goes on at once.
        let [SenderOutput::Degraded(settled, _)] = &out[..] else { panic!("{out:?}") };
        assert_eq!(holding.handle_settled(*settled), Some((asker(1), accepted())));
    }

    fn sender() -> Sender {
        let me = Origin { node: 0, incarnation: 1 };
        Sender::new(me, Epoch(1), DigestKey::new([1; 16]), Holdings::new())
    }

    fn nothing_else() -> Posted {
        panic!("there was a change")
    }

    fn asker(number: u64) -> Asker {
        Asker { shard: 0, token: Token(number) }
    }

    fn accepted() -> Answer {
        Answer::Registered(Ok(Registered { contacts: Vec::new(), is_outbound: false }))
    }
}
