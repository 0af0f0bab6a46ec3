//! What happens to a pair.

use std::time::Duration;

use crate::chance::Chance;
use crate::cluster::fault::Fault;

/// The moment within this time is drawn.
const MOMENT_MAX: Duration = Duration::from_secs(1);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// To the node that serves.
    Fault(Fault),
    /// Somebody wants the other node.
    Switchover,
}

impl Event {
    /// All.
    pub const ALL: [Event; Fault::ALL.len() + 1] = {
        let mut all = [Event::Switchover; Fault::ALL.len() + 1];
        let mut number = 0;
        while number < Fault::ALL.len() {
            all[number] = Event::Fault(Fault::ALL[number]);
            number += 1;
        }
        all
    };

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Event::Fault(fault) => fault.name(),
            Event::Switchover => "planned switchover",
        }
    }

    /// Waits until its moment, which the round draws.
    pub fn wait_for_moment(self, round: u64) {
        let mut chance = Chance(round * Event::ALL.len() as u64 + self.name().len() as u64);
        std::thread::sleep(Duration::from_millis(chance.below(MOMENT_MAX.as_millis() as u64)));
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_found_by_its_name() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.name()), Some(event));
        }
    }
}
