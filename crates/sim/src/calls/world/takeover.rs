//! How a node stops to be active, and another one begins.

use std::time::Duration;

use clock::Instant;
use lease::{Epoch, LeaseMirror};

use super::super::case::{Moment, Played, Trouble};
use super::super::events::Event;
use super::{Happening, World};
use crate::node::{FromPeer, Node};

/// A node is active so long after the other one's end.
const TAKEOVER: Duration = Duration::from_millis(500);
/// The same where it hands over.
const HAND_OVER: Duration = Duration::from_millis(20);
/// A node that has died is started again so long after the takeover.
const RESTART: Duration = Duration::from_millis(300);
/// Who waits for it to have everything looks so often.
const LOOK: Duration = Duration::from_millis(20);

impl World {
    /// How much later than undisturbed something may be.
    pub(in crate::calls) fn late_max(&self) -> Duration {
        match self.case.0 {
            Played::Undisturbed | Played::Slow => self.case.late_max(),
            Played::Lost(_) | Played::Killed(..) => self.case.late_max() + self.play.asked_late,
        }
    }

    /// The node that was killed is active again, or the other one.
    pub(super) fn take_over(&mut self) {
        self.is_back = std::mem::replace(&mut self.took_over, true);
        self.is_vacant = false;
        self.epoch = Epoch(self.epoch.0 + 1);
        self.events.add(Event::TookOver);
        let (side, epoch) = (self.active, self.epoch);
        if let Some(node) = &mut self.sides[side].node {
            node.set_lease(LeaseMirror::until(Instant::FAR, epoch));
        }
        self.step(side, "takes over", |node, now, out| node.become_active(now, epoch, out));
        if matches!(self.case.0, Played::Killed(_, Trouble::Back)) && !self.is_back {
            self.later(RESTART, Happening::Restart(1 - side));
        }
    }

    /// A node begins with nothing, as the standby of the other one.
    pub(super) fn restart(&mut self, number: usize) {
        self.sides[number].start(number, 2, self.now, &self.settings, &self.root);
        self.step(number, "stands by", Node::look_at_lease);
        self.connect(self.active);
        self.later(LOOK, Happening::LookForCopy);
    }

    /// When the node that was started again has everything, the other one dies.
    pub(super) fn look_for_copy(&mut self) {
        if self.ready() != Some(100) {
            return self.later(LOOK, Happening::LookForCopy);
        }
        self.trace.add(self.now, format_args!("node {} is killed", self.active), b"");
        self.events.add(Event::CameBack);
        self.die(Trouble::Power);
    }

    /// How much of everything the standby has.
    pub(super) fn ready(&self) -> Option<u8> {
        let side = &self.sides[self.active];
        side.node.as_ref().map(|node| node.ready(side.clock(self.now)))
    }

    pub(super) fn hand_over(&mut self) {
        let (side, epoch) = (self.active, self.epoch);
        self.is_vacant = true;
        self.active = 1 - side;
        if let Some(node) = &mut self.sides[side].node {
            node.set_lease(LeaseMirror::none());
        }
        self.step(side, "hands over", |node, now, out| node.become_standby(now, epoch, out));
        self.is_connected = false;
        // It has closed the way by which the other one's acknowledgements come.
        self.queue.retain(|_, it| !matches!(it, Happening::Peer { side: to, .. } if *to == side));
        let what = FromPeer::Disconnected(self.connection);
        self.later(self.link(), Happening::Peer { side: 1 - side, what });
        self.later(HAND_OVER, Happening::TakeOver);
    }

    pub(super) fn strike(&mut self, moment: Moment) {
        let Played::Killed(when, trouble) = self.case.0 else { return };
        if when != moment || self.killed.is_some() {
            return;
        }
        self.killed = Some(self.now);
        if trouble == Trouble::HandOver {
            self.events.add(Event::HandedOver);
            // When this step has ended.
            return self.later(Duration::ZERO, Happening::HandOver);
        }
        self.trace.add(self.now, format_args!("node {} is killed", self.active), b"");
        self.events.add(match moment {
            Moment::Before(_) => Event::KilledBefore,
            Moment::After(_) => Event::KilledAfter,
        });
        self.die(trouble);
    }

    /// The active node dies like this.
    fn die(&mut self, trouble: Trouble) {
        let dead = self.active;
        self.sides[dead].node = None;
        (self.is_vacant, self.is_connected) = (true, false);
        self.queue.retain(|_, happening| !happening.is_for(dead));
        let other = 1 - dead;
        let is_on_its_way = |happening: &Happening| matches!(happening, Happening::Peer { side, what: FromPeer::Bytes(..) } if *side == other);
        match trouble {
            Trouble::Process if self.queue.values().any(is_on_its_way) => {
                self.events.add(Event::KilledWithWrites);
            }
            Trouble::Process => {}
            _ => self.queue.retain(|_, happening| !is_on_its_way(happening)),
        }
        if trouble == Trouble::LostBefore {
            self.lose_what_is_on_its_way();
        }
        self.active = other;
        if trouble == Trouble::Process {
            let what = FromPeer::Disconnected(self.connection);
            self.later(self.link(), Happening::Peer { side: other, what });
        }
        self.later(TAKEOVER, Happening::TakeOver);
    }

    /// The datagram of the dead node that would have arrived last.
    fn lose_what_is_on_its_way(&mut self) {
        let is_of_node =
            |it: &Happening| matches!(it, Happening::Datagram { from, .. } if *from == crate::cast::FIRST);
        let last = self.queue.iter().rev().find(|(_, it)| is_of_node(it)).map(|(&place, _)| place);
        if let Some(place) = last {
            self.queue.remove(&place);
            self.trace.add(self.now, format_args!("a datagram of the dead node is lost"), b"");
            self.events.add(Event::LostBefore);
        }
    }
}
