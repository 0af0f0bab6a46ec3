//! The bindings of all partitions, as a store publishes them for servers beside this one.

use std::sync::Weak;

use engine::{Page, Published};
use lease::Epoch;
use replica::Place;
use routing::account::BindingKey;
use routing::{BindingId, PublishedBinding};
use transport::{LocalAddr, Transport};

use crate::clocks;
use crate::edge::Edge;

/// Rows of a partition that are looked at under its lock at once: SIP waits for that.
const ROWS_AT_ONCE: u32 = 64;

/// The partitions of a server that may be gone.
pub(crate) struct EdgePublished(pub(crate) Weak<Edge>);

impl Published for EdgePublished {
    fn epoch(&self) -> Option<Epoch> {
        let edge = self.0.upgrade()?;
        edge.mandate.epoch(clocks::instant())
    }

    fn with_keys(&self, keys: &[BindingKey]) -> Vec<Option<(Place, PublishedBinding)>> {
        let Some(edge) = self.0.upgrade() else { return vec![None; keys.len()] };
        let find = |key: &BindingKey| {
            let owner = edge.machines.partition_of(&key.aor);
            edge.machines.partitions.get(usize::from(owner))?.read(|seat| {
                let id = seat.partition.number_of(key)?;
                let published = seat.partition.published(clocks::now(), id)?;
                Some((Place { owner, number: id.0 }, published))
            })
        };
        keys.iter().map(find).collect()
    }

    fn listeners(&self) -> Vec<(Transport, LocalAddr)> {
        let Some(edge) = self.0.upgrade() else { return Vec::new() };
        let Some(seat) = edge.machines.partitions.first() else { return Vec::new() };
        seat.read(|owner| owner.partition.listeners())
    }

    fn at(&self, places: &[Place]) -> Vec<Option<PublishedBinding>> {
        let Some(edge) = self.0.upgrade() else { return vec![None; places.len()] };
        let find = |place: &Place| {
            let seat = edge.machines.partitions.get(usize::from(place.owner))?;
            seat.read(|owner| owner.partition.published(clocks::now(), BindingId(place.number)))
        };
        places.iter().map(find).collect()
    }

    fn page(&self, behind: Option<Page>) -> (Vec<(Place, PublishedBinding)>, Option<Page>) {
        let Page { partition: owner, row } = behind.unwrap_or(Page { partition: 0, row: 0 });
        let Some(edge) = self.0.upgrade() else { return (Vec::new(), None) };
        let Some(seat) = edge.machines.partitions.get(usize::from(owner)) else { return (Vec::new(), None) };
        let (found, next) = seat.read(|seat| seat.partition.published_rows(clocks::now(), row, ROWS_AT_ONCE));
        let found =
            found.into_iter().map(|(id, published)| (Place { owner, number: id.0 }, published)).collect();
        let next = match next {
            Some(row) => Page { partition: owner, row },
            None => Page { partition: owner + 1, row: 0 },
        };
        let is_there = usize::from(next.partition) < edge.machines.partitions.len();
        (found, is_there.then_some(next))
    }
}
