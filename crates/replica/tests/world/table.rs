//! The table of an owner: it understands the bytes, and gives every entry a number that is never used twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::Instant;
use replica::{Capsule, Kind, Place};

#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<u64, Row>,
    by_key: BTreeMap<(Kind, Bytes), u64>,
    given: u64,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub kind: Kind,
    pub key: Bytes,
    pub content: Bytes,
    pub ends_at: Instant,
}

impl Table {
    pub fn put(&mut self, row: Row) -> Place {
        self.given += 1;
        if let Some(before) = self.by_key.insert((row.kind, row.key.clone()), self.given) {
            self.rows.remove(&before);
        }
        self.rows.insert(self.given, row);
        Place { owner: 7, number: self.given }
    }

    pub fn remove_key(&mut self, kind: Kind, key: &Bytes) -> bool {
        let number = self.by_key.remove(&(kind, key.clone()));
        number.is_some_and(|number| self.rows.remove(&number).is_some())
    }

    pub fn remove(&mut self, place: Place) {
        if let Some(row) = self.rows.remove(&place.number) {
            self.by_key.remove(&(row.kind, row.key));
        }
    }

    pub fn at(&self, place: Place) -> Option<&Row> {
        self.rows.get(&place.number)
    }

    pub fn content(&self, kind: Kind, key: &Bytes) -> Option<&Bytes> {
        let number = self.by_key.get(&(kind, key.clone()))?;
        self.rows.get(number).map(|row| &row.content)
    }

    /// Every entry with its place.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Row)> {
        self.rows.iter().map(|(&number, row)| (Place { owner: 7, number }, row))
    }

    /// Every key with what it says.
    pub fn contents(&self) -> BTreeMap<(Kind, Bytes), (Bytes, Instant)> {
        self.rows
            .values()
            .map(|row| ((row.kind, row.key.clone()), (row.content.clone(), row.ends_at)))
            .collect()
    }
}

impl Row {
    pub fn capsule(&self, now: Instant) -> Capsule {
        Capsule {
            kind: self.kind,
            format: 1,
            key: self.key.clone(),
            bytes: self.content.clone(),
            left: self.ends_at.since(now),
        }
    }

    pub fn of(now: Instant, capsule: &Capsule) -> Self {
        Self {
            kind: capsule.kind,
            key: capsule.key.clone(),
            content: capsule.bytes.clone(),
            ends_at: now + capsule.left,
        }
    }
}
