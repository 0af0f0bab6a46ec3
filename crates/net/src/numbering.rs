//! Numbers of listeners over a reload.
//!
//! Flows, connections and bindings name a listener by its number, so a listener that stays keeps it, whatever
//! place it has in the new configuration. A number that was given up is not given again in this start: what
//! still names it must find nothing rather than another listener.

use std::collections::BTreeMap;
use std::sync::Arc;

use routing::Settings;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

/// Which number each (transport, address) has had since the start.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    known: BTreeMap<(Transport, LocalAddr), ListenerId>,
    next: u16,
}

/// So many different listeners were served since the start that there are no numbers left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Numbering {
    /// The same settings, with the listeners under the numbers that they have here.
    pub(crate) fn apply(&mut self, settings: &Settings) -> Result<Arc<Settings>, Exhausted> {
        let listeners = settings.listeners.iter().map(|listener| {
            let id = self.number(listener.transport, listener.local)?;
            Ok(Listener { id, ..listener.clone() })
        });
        let listeners = Listeners::new(listeners.collect::<Result<_, _>>()?);
        Ok(Arc::new(Settings { listeners: Arc::new(listeners), ..settings.clone() }))
    }

    fn number(&mut self, transport: Transport, local: LocalAddr) -> Result<ListenerId, Exhausted> {
        if let Some(id) = self.known.get(&(transport, local)) {
            return Ok(*id);
        }
        let id = ListenerId(self.next);
        self.next = self.next.checked_add(1).ok_or(Exhausted)?;
        self.known.insert((transport, local), id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_settings::settings;

    #[test]
    fn a_listener_that_stays_keeps_its_number() {
        let mut numbering = Numbering::default();
        numbering.apply(&settings(&["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"])).expect("numbers are left");

        let reloaded = numbering
            .apply(&settings(&["tcp:192.0.2.9:5060", "tcp:192.0.2.1:5060", "udp:192.0.2.1:5060"]))
            .expect("numbers are left");

        let numbers: Vec<_> = reloaded.listeners.iter().map(|listener| listener.id.0).collect();
        assert_eq!(numbers, [2, 1, 0]);
    }

    #[test]
    fn a_listener_that_comes_back_has_its_number_again_and_nobody_else_had_it() {
        let mut numbering = Numbering::default();
        numbering.apply(&settings(&["udp:192.0.2.1:5060"])).expect("numbers are left");
        let without = numbering.apply(&settings(&["udp:192.0.2.2:5060"])).expect("numbers are left");
        let again = numbering.apply(&settings(&["udp:192.0.2.1:5060"])).expect("numbers are left");

        assert_eq!(without.listeners.iter().map(|listener| listener.id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(again.listeners.iter().map(|listener| listener.id.0).collect::<Vec<_>>(), [0]);
    }
}
