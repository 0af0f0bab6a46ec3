//! Servers that have failed lately: they come last for a while.
//!
//! Nothing is ever refused because of it. A server that is the only one is tried all the same, and one that
//! answers is as good as any other at once.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;

use super::Server;

/// Servers that are remembered: a busy carrier has some dozens. A hostile zone can not fill more.
const AVOIDED_MAX: usize = 1_024;

/// How long a server comes last that did not answer or could not be reached. When the time is over, one call pays
/// some seconds to learn how it is.
const AVOIDED_FOR: Duration = Duration::from_secs(60);

/// RFC 3263 §4.3: a server may wish not to be asked for as long as Retry-After says. Longer wishes are cut: whoever
/// has one server less can not be without it for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The servers that come last.
#[derive(Clone, Debug, Default)]
pub struct Avoided {
    until: BTreeMap<Server, Instant>,
}

impl Avoided {
    /// A server did not answer, could not be reached, or wishes to be left alone for `retry_after`.
    pub fn add(&mut self, now: Instant, server: Server, retry_after: Option<Duration>) {
        if self.until.len() >= AVOIDED_MAX && !self.until.contains_key(&server) {
            self.until.retain(|_, until| now < *until);
            // Full of fresh ones: this one is tried again, which costs time and no harm.
            if self.until.len() >= AVOIDED_MAX {
                return;
            }
        }
        let time = retry_after.map_or(AVOIDED_FOR, |wish| wish.min(RETRY_AFTER_MAX));
        self.until.insert(server, now + time);
    }

    /// A server has answered.
    pub fn remove(&mut self, server: Server) {
        self.until.remove(&server);
    }

    /// Whether a server comes last.
    pub fn contains(&self, now: Instant, server: Server) -> bool {
        self.until.get(&server).is_some_and(|until| now < *until)
    }

    /// Whether there is none, so that nothing need be looked for.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RemoteAddr, Transport};

    #[test]
    fn a_server_that_failed_is_avoided_for_a_while() {
        let mut avoided = Avoided::default();
        avoided.add(at(0), server(1), None);

        assert!(avoided.contains(at(59), server(1)));
        assert!(!avoided.contains(at(59), server(2)));
        assert!(!avoided.contains(at(60), server(1)));
    }

    #[test]
    fn a_server_that_answers_is_avoided_no_longer() {
        let mut avoided = Avoided::default();
        avoided.add(at(0), server(1), None);

        avoided.remove(server(1));

        assert!(!avoided.contains(at(1), server(1)));
        assert!(avoided.is_empty());
    }

    /// RFC 3263 §4.3: for the time of Retry-After, but no day.
    #[test]
    fn the_wish_of_a_server_counts_within_bounds() {
        let mut avoided = Avoided::default();
        avoided.add(at(0), server(1), Some(Duration::from_secs(5)));
        avoided.add(at(0), server(2), Some(Duration::from_secs(86_400)));

        assert!(avoided.contains(at(4), server(1)));
        assert!(!avoided.contains(at(5), server(1)));
        assert!(avoided.contains(at(299), server(2)));
        assert!(!avoided.contains(at(300), server(2)));
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let mut avoided = Avoided::default();
        for number in 0..AVOIDED_MAX as u16 + 10 {
            avoided.add(at(0), server(number), None);
        }
        assert_eq!(avoided.until.len(), AVOIDED_MAX);

        avoided.add(at(61), server(u16::MAX), None);

        assert!(avoided.contains(at(61), server(u16::MAX)), "what is over makes room");
        assert_eq!(avoided.until.len(), 1);
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn server(number: u16) -> Server {
        let [high, low] = number.to_be_bytes();
        let remote = RemoteAddr(([192, 0, high, low], 5060).into());
        Server { remote, transport: Transport::Udp }
    }
}
