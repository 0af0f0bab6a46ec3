//! One thing that happens under calls, and their books.

use std::time::Duration;

use anyhow::Result;

use super::contestant::{Contestant, Servers};
use crate::calls::Calls;
use crate::calls::books::Books;
use crate::chance::Chance;
use crate::cluster::fault::Fault;
use crate::lab::Lab;
use crate::lab::pair::Pair;

/// Calls begin for so long before it happens, so that as many ring and talk as ever will,
const BEFORE: u64 = 4;
/// for so long until it is mended, which is longer than any of the pairs needs to take over,
const UNTIL_MENDED: u64 = 6;
/// and for so long behind that, in seconds.
const AFTER: u64 = 4;
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

    /// By its name.
    pub fn named(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// A pair, to which one thing happens after the other.
#[derive(Debug)]
pub struct Trials<'l> {
    lab: &'l Lab,
    pair: Pair,
    servers: Servers,
    a_second: u32,
}

impl<'l> Trials<'l> {
    /// Starts a pair.
    pub fn begin(lab: &'l Lab, who: Contestant, a_second: u32) -> Result<Trials<'l>> {
        let pair = Pair::new(lab)?;
        let servers = Servers::start(lab, &pair, who)?;
        Ok(Trials { lab, pair, servers, a_second })
    }

    /// Lets it happen; the round draws the moment.
    pub fn run(&mut self, event: Event, round: u64) -> Result<Books> {
        let Trials { lab, pair, servers, a_second } = self;
        servers.wait_until_whole()?;
        let mut calls = Calls::begin(lab, &pair.phone, &pair.far, *a_second, event.name())?;
        let of = |seconds: u64| u64::from(*a_second) * seconds;
        calls.wait_for(of(BEFORE))?;
        let mut chance = Chance(round * Event::ALL.len() as u64 + event.name().len() as u64);
        std::thread::sleep(Duration::from_millis(chance.below(MOMENT_MAX.as_millis() as u64)));
        let harm = servers.hurt(lab, pair, event)?;
        calls.wait_for(of(UNTIL_MENDED))?;
        servers.mend(lab, pair, harm)?;
        calls.wait_for(of(AFTER))?;
        let books = calls.end()?;
        servers.wait_until_whole()?;
        Ok(books)
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
