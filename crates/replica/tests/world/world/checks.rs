//! What must hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::Instant;
use replica::Ticket;

use super::{KINDS, Key, Table, World};

impl World {
    pub(super) fn hold(&mut self, ticket: Ticket) -> Result<(), String> {
        let Some(changes) = self.waiting.remove(&ticket) else {
            return Err(format!("{ticket:?} is answered twice"));
        };
        self.count("held");
        let is_repetition = self.repetitions.remove(&ticket);
        self.count_if("held by who changed nothing", is_repetition);
        for (key, change) in changes {
            self.check(&key, change)?;
            let last = self.held.entry(key).or_default();
            *last = change.max(*last);
        }
        Ok(())
    }

    /// What the standby has of a key is what it was at this change or after it.
    fn check(&self, key: &Key, change: u64) -> Result<(), String> {
        let there = self.tables[usize::from(1 - self.active)].content(key.0, &key.1);
        let Some(history) = self.history.get(key) else { return Ok(()) };
        let mut later = history.iter().rev().take_while(|(number, _)| *number >= change);
        let is_right = later.any(|(_, content)| content.as_ref() == there);
        match is_right {
            true => Ok(()),
            false => Err(format!("change {change} of {key:?} is held, and is not there")),
        }
    }

    pub(super) fn check_held(&self) -> Result<(), String> {
        self.held.iter().try_for_each(|(key, change)| self.check(key, *change))
    }

    /// Both nodes have the same, and know it.
    pub(super) fn agree(&mut self) -> Result<(), String> {
        self.check_held()?;
        let now = self.instant();
        let known = |table: &Table| -> BTreeMap<Key, (Bytes, Instant)> {
            table.contents().into_iter().filter(|((kind, _), _)| KINDS.contains(kind)).collect()
        };
        let active = known(&self.tables[usize::from(self.active)]);
        let standby = known(&self.tables[usize::from(1 - self.active)]);
        // The last changes may still be on their way.
        let lag = self.sender.view(now).lag;
        let keys: BTreeSet<&Key> = active.keys().chain(standby.keys()).collect();
        let wrong = keys
            .iter()
            .filter(|key| active.get(**key).map(|it| &it.0) != standby.get(**key).map(|it| &it.0))
            .count();
        if wrong > 0 && lag.messages == 0 {
            return Err(format!(
                "{wrong} of {} entries differ after all has healed; {:?}",
                active.len(),
                self.sender.view(now)
            ));
        }
        // Nothing ends before the time for which it was granted, wherever it has been.
        for (key, (content, ends_at)) in active.iter().chain(&standby) {
            if self.granted.get(&content.slice(..8)).is_none_or(|granted| ends_at < granted) {
                return Err(format!("{key:?} ends too early"));
            }
        }
        let sums = KINDS.map(|kind| {
            let (here, there) = (self.sender.holdings(), self.receiver.holdings());
            (here.count(kind), here.sum(kind)) == (there.count(kind), there.sum(kind))
        });
        let is_known = self.sender.ready() == 100 && self.receiver.ready(now) == 100;
        if !is_known || (lag.messages == 0 && sums.contains(&false)) {
            return Err(format!(
                "not equal after all has healed: {sums:?} {:?} {:?}",
                self.sender.view(now),
                self.receiver.view(now)
            ));
        }
        if !self.sender.holdings().is_consistent() || !self.receiver.holdings().is_consistent() {
            return Err("sums are not those of the entries".to_owned());
        }
        Ok(())
    }
}
