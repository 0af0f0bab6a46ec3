//! Makes equal what differs in nothing that matters, so that the search meets it once.

use std::time::Duration;

use clock::Instant;
use cluster::canonical::Frame;
use cluster::{Contender, Holder, Incarnation, NodeId, RequestNumber};

use super::{Effect, Message, NODES, NOW, Place, State};

impl State {
    pub(super) fn renumber(&mut self) {
        // Which questions may still be answered.
        let mut answerable: Vec<(Incarnation, RequestNumber)> = Vec::new();
        for (_, message) in &mut self.flight {
            message.numbers(&mut |of, number| {
                answerable.push((of, *number));
            });
        }
        for place in &mut self.places {
            for effect in &mut place.frozen {
                effect.numbers(&mut |of, number| {
                    answerable.push((of, *number));
                });
            }
            if let Some(voter) = &mut place.voter {
                voter.pending_numbers(&mut |of, number| {
                    answerable.push((of, *number));
                });
            }
            if let Some(contender) = &mut place.contender {
                let me = contender.me().incarnation;
                contender.numbers(&mut |of, number| {
                    if of != me {
                        answerable.push((of, *number));
                    }
                });
            }
        }
        for contender in self.places.iter_mut().filter_map(|place| place.contender.as_mut()) {
            let me = contender.me().incarnation;
            contender.forget_unanswerable(&|number| answerable.contains(&(me, number)));
        }
        // Then numbers keep nothing but their order among those that may still come.
        let mut known: Vec<(Incarnation, RequestNumber)> = Vec::new();
        self.each_number(&mut |of, number| known.push((of, *number)));
        known.sort_unstable();
        known.dedup();
        let mut rank = |of: Incarnation, number: &mut RequestNumber| {
            let before =
                known.iter().filter(|(other, other_number)| *other == of && *other_number <= *number);
            *number = RequestNumber(before.count() as u64);
        };
        self.each_number(&mut rank);
        for place in &mut self.places {
            if let Some(voter) = &mut place.voter {
                voter.heard_numbers(&mut rank);
            }
            if let Some(contender) = &mut place.contender {
                contender.last_number(&mut rank);
            }
        }
    }

    /// Where no other start of a node will be heard any more, it is not remembered what its last ones have said.
    pub(super) fn forget_starts(&mut self) {
        let mut alive: Vec<Holder> = Vec::new();
        for (_, message) in &self.flight {
            if let Message::Ask(ask) = message {
                alive.push(ask.holder);
            }
        }
        for effect in self.places.iter().flat_map(|place| &place.frozen) {
            if let Effect::Send(_, Message::Ask(ask)) = effect {
                alive.push(ask.holder);
            }
        }
        alive.extend(self.places.iter().filter_map(|place| place.contender.as_ref()).map(Contender::me));
        let is_down = |node: NodeId| self.places[usize::from(node.0)].contender.is_none();
        let down: Vec<NodeId> = (0..NODES as u8).map(NodeId).filter(|node| is_down(*node)).collect();
        for voter in self.places.iter_mut().filter_map(|place| place.voter.as_mut()) {
            voter.forget_starts(&|holder| {
                let others = alive.iter().any(|other| other.node == holder.node && *other != holder);
                !others && !down.contains(&holder.node)
            });
        }
    }

    fn each_number(&mut self, of: &mut dyn FnMut(Incarnation, &mut RequestNumber)) {
        self.flight.iter_mut().for_each(|(_, message)| message.numbers(of));
        for place in &mut self.places {
            place.frozen.iter_mut().for_each(|effect| effect.numbers(of));
            if let Some(voter) = &mut place.voter {
                voter.pending_numbers(of);
            }
            if let Some(contender) = &mut place.contender {
                contender.numbers(of);
            }
        }
    }
}

impl Place {
    /// The write that is done next is number 1.
    pub(super) fn renumber_writes(&mut self) {
        if let Some(voter) = &mut self.voter {
            voter.renumber_writes();
        }
    }

    pub(super) fn rebase(&mut self, now: Instant, unit: Duration) {
        self.lags &= !self.writing.is_empty() || self.closing.is_some();
        let frame = Frame { now, to: NOW, unit };
        frame.deadline(&mut self.gate.until);
        if !self.is_open() {
            // What it was does not matter any more, but that it must not be opened again.
            self.gate.closed = self.gate.closed.max(self.gate.epoch);
            self.gate.epoch = self.gate.closed;
            self.gate.until = NOW;
        }
        for effect in &mut self.frozen {
            if let Effect::Open(_, until) = effect {
                frame.deadline(until);
            }
        }
        if let Some(voter) = &mut self.voter {
            voter.rebase(&frame);
        }
        if let Some(contender) = &mut self.contender {
            contender.rebase(&frame);
        }
    }
}

impl Message {
    fn numbers(&mut self, of: &mut dyn FnMut(Incarnation, &mut RequestNumber)) {
        match self {
            Message::Ask(ask) => of(ask.holder.incarnation, &mut ask.number),
            Message::Answer(answer) => of(answer.holder.incarnation, &mut answer.number),
            Message::HandoverAsk(ask) => of(ask.to.incarnation, &mut ask.number),
            Message::HandoverAnswer(answer) => of(answer.to.incarnation, &mut answer.number),
            Message::Release(_) | Message::List(_) => {}
        }
    }
}

impl Effect {
    fn numbers(&mut self, of: &mut dyn FnMut(Incarnation, &mut RequestNumber)) {
        if let Effect::Send(_, message) = self {
            message.numbers(of);
        }
    }
}
