//! Comparing the table with the bindings, page by page, while changes go on being written.
//!
//! First all bindings are read, of each a fingerprint of its row and its place. Then the table is read: a row that says what it
//! should is done with, one that belongs to no binding is to be removed. The bindings that are left have no row or a wrong
//! one, and are owed.
//!
//! Invariant: a row that is written while the table is read belongs to a binding that is known here, so that it is never
//! taken for a stranger's.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::time::{Duration, Instant};

use clock::WallTime;
use engine::{Comparison as Outcome, Page, Published};
use replica::Place;
use routing::account::BindingKey;

use super::row::{Fingerprint, OwnRow, fingerprint, fingerprint_of_found, own_row};
use super::shape::{RowId, Shape};
use crate::server::link::Row;

/// A comparison that is under way.
#[derive(Debug)]
pub struct Comparison {
    stage: Stage,
    /// What was found of the bindings, without those whose rows are right.
    wanted: BTreeMap<RowId, Wanted>,
    hasher: RandomState,
    began: Instant,
    rows: u64,
    strange: u64,
    differing: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The bindings are read; these come next.
    Bindings(Option<Page>),
    /// The table is read, behind the row with this number.
    Table(i64),
    /// What is wrong is told.
    Rest,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    fingerprint: Fingerprint,
    place: Place,
}

impl Comparison {
    /// One that begins.
    pub fn begin() -> Self {
        Self {
            stage: Stage::Bindings(None),
            wanted: BTreeMap::new(),
            hasher: RandomState::new(),
            began: Instant::now(),
            rows: 0,
            strange: 0,
            differing: 0,
        }
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Reads the next bindings.
    pub fn read_bindings(&mut self, shape: &Shape, published: &dyn Published, now: WallTime) {
        let Stage::Bindings(behind) = self.stage else { return };
        let (found, next) = published.page(behind);
        for (place, binding) in found {
            if let Ok(row) = own_row(shape, &binding, now) {
                self.want(shape, &row, place);
            }
        }
        self.stage = next.map_or(Stage::Table(-1), |page| Stage::Bindings(Some(page)));
    }

    /// Takes a page of the table; returns the numbers of the rows that are to be removed, of those that are this server's. A page
    /// without rows is the end.
    pub fn take_page(&mut self, shape: &Shape, page: &[Row], is_ours: impl Fn(&Row) -> bool) -> Vec<i64> {
        let Some(last) = page.last().and_then(|row| row.number(0)) else {
            self.stage = Stage::Rest;
            self.differing = self.wanted.len() as u64;
            return Vec::new();
        };
        self.stage = Stage::Table(last);
        self.rows += page.len() as u64;
        let mut strangers = Vec::new();
        for row in page {
            let wanted = shape.read_id(row.text(1)).and_then(|id| Some((id, *self.wanted.get(&id)?)));
            match wanted {
                Some((id, wanted))
                    if wanted.fingerprint == fingerprint_of_found(shape, &self.hasher, row) =>
                {
                    self.wanted.remove(&id);
                }
                Some(_) => {}
                None if is_ours(row) => strangers.extend(row.number::<i64>(0)),
                None => {}
            }
        }
        self.strange += strangers.len() as u64;
        strangers
    }

    /// The next bindings whose rows are not as they should be; none at the end.
    pub fn take_rest(&mut self, published: &dyn Published, max: usize) -> Vec<BindingKey> {
        let mut keys = Vec::new();
        while keys.is_empty() && !self.wanted.is_empty() {
            let some: Vec<Place> = std::iter::from_fn(|| self.wanted.pop_first())
                .take(max)
                .map(|(_, wanted)| wanted.place)
                .collect();
            let found = published.at(&some).into_iter().flatten();
            keys.extend(found.map(|binding| BindingKey::of(&binding.stored)));
        }
        keys
    }

    /// A row was written meanwhile.
    pub fn wrote(&mut self, shape: &Shape, row: &OwnRow, place: Place) {
        match self.stage {
            Stage::Bindings(_) | Stage::Table(_) => self.want(shape, row, place),
            Stage::Rest => {}
        }
    }

    /// A row was removed meanwhile.
    pub fn removed(&mut self, id: RowId) {
        self.wanted.remove(&id);
    }

    /// What has become of it.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            ago: Duration::ZERO,
            took: self.began.elapsed(),
            rows: self.rows,
            differing: self.differing,
            strange: self.strange,
        }
    }

    fn want(&mut self, shape: &Shape, row: &OwnRow, place: Place) {
        let fingerprint = fingerprint(shape, &self.hasher, row);
        self.wanted.insert(row.id, Wanted { fingerprint, place });
    }
}
