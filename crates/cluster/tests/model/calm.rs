//! Whether one node becomes active, and stays so, once nothing fails any more.

use cluster::{Contender, Role};

use super::{Effect, NODES, NOW, Setting, State};

/// Ticks within which somebody is active: a lease that was granted in vain, a restart's wait, a hand-over that fails, and
/// some campaigns.
const TICKS_TO_CONVERGE: usize = 40;

/// More steps in a tick would be a loop.
const STEPS_OF_TICK: usize = 400;

impl State {
    /// From here on nothing fails any more: whether one node becomes active and stays so.
    pub fn converges(mut self, setting: &Setting) -> bool {
        let setting = Setting { flight_max: usize::MAX, ..*setting };
        let mut served = 0;
        for _ in 0..TICKS_TO_CONVERGE {
            self.run_tick(&setting);
            let active = self.places.iter().take(NODES).filter(|place| place.is_open()).count();
            served = if active == 1 { served + 1 } else { 0 };
            if served > 3 {
                return true;
            }
            self.after_tick(&setting);
            self.settle(&setting, true);
        }
        false
    }

    /// All that can happen before time passes happens.
    fn run_tick(&mut self, setting: &Setting) {
        // Each step takes something away; what is asked again is asked again after a tick.
        for _ in 0..STEPS_OF_TICK {
            let is_served = self
                .places
                .iter()
                .filter_map(|place| place.contender.as_ref())
                .any(|contender| contender.role() != Role::Standby || contender.is_taking_over());
            let next = (0..self.places.len()).find_map(|at| self.next_of(at, is_served));
            let (at, effects) = if let Some(next) = next {
                next
            } else if let Some((to, message)) = self.flight.pop() {
                (usize::from(to), self.deliver(usize::from(to), message))
            } else {
                return;
            };
            let mut ends = Vec::new();
            self.clone().carry_out(at, &effects, setting.flight_max, &mut ends);
            // The first end is the one in which nothing was lost.
            *self = ends.swap_remove(0);
            self.settle(setting, false);
        }
    }

    fn next_of(&mut self, at: usize, is_served: bool) -> Option<(usize, Vec<Effect>)> {
        let place = &mut self.places[at];
        if place.voter.is_none() {
            self.start(at);
            return Some((at, Vec::new()));
        }
        if !place.moves() {
            return Some((at, std::mem::take(&mut place.frozen)));
        }
        if !place.writing.is_empty() {
            return Some((at, self.disk_written(at)));
        }
        if place.closing.is_some() {
            return Some((at, self.gate_closed(at)));
        }
        if place.is_draining {
            place.is_draining = false;
            return Some((at, self.contend(at, |contender, out| contender.drained(out))));
        }
        let due = place.contender.as_ref().and_then(Contender::poll_timeout);
        if due.is_some_and(|due| due <= NOW) {
            return Some((at, self.contend(at, |contender, out| contender.handle_timeout(NOW, out))));
        }
        if !is_served && self.may_campaign(at) {
            return Some((at, self.campaign(at)));
        }
        None
    }
}
