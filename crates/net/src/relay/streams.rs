//! The streams of one worker, by number and by name.

use std::collections::BTreeMap;

use engine::SessionName;
use media::offer_answer::{Side, StreamId, Tag};
use media::stream::{Port, Stream};
use slab::Slab;

use super::kernel::Hold;

/// A stream, and the sockets that it comes and goes by.
#[derive(Debug)]
pub(super) struct RelayedStream {
    pub(super) session: SessionName,
    pub(super) id: StreamId,
    /// Who is told of it.
    pub(super) shard: u16,
    pub(super) stream: Stream,
    pub(super) caller: LegSockets,
    pub(super) callee: LegSockets,
    /// Who sends on what comes from the caller, and from the callee.
    pub(super) holds: [Hold; 2],
}

/// The sockets of one side, by their numbers; `None`: it could not be bound, or the line has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LegSockets {
    pub(super) media: Option<usize>,
    pub(super) rtcp: Option<usize>,
}

impl RelayedStream {
    /// Who sends on what comes from a side.
    pub(super) fn hold(&self, side: Side) -> &Hold {
        &self.holds[usize::from(side == Side::Callee)]
    }

    /// Gives who did it before.
    pub(super) fn set_hold(&mut self, side: Side, hold: Hold) -> Hold {
        std::mem::replace(&mut self.holds[usize::from(side == Side::Callee)], hold)
    }

    /// The socket by which packets leave towards a side.
    pub(super) fn towards(&self, side: Side, port: Port) -> Option<usize> {
        let leg = match side {
            Side::Caller => self.caller,
            Side::Callee => self.callee,
        };
        match port {
            Port::Media => leg.media,
            Port::Rtcp => leg.rtcp,
        }
    }

    /// The socket is another's, or closed.
    pub(super) fn let_go(&mut self, socket: usize) {
        for leg in [&mut self.caller, &mut self.callee] {
            leg.media = leg.media.filter(|it| *it != socket);
            leg.rtcp = leg.rtcp.filter(|it| *it != socket);
        }
    }

    /// All its sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = usize> + use<> {
        [self.caller.media, self.caller.rtcp, self.callee.media, self.callee.rtcp].into_iter().flatten()
    }
}

// What docs/media.md says of memory.
const _: () = assert!(size_of::<RelayedStream>() <= 1_600);

#[derive(Debug, Default)]
pub(super) struct Streams {
    all: Slab<RelayedStream>,
    by_name: BTreeMap<(SessionName, StreamId), usize>,
}

impl Streams {
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut RelayedStream> {
        self.all.get_mut(number)
    }

    pub(super) fn number_of(&self, session: SessionName, id: StreamId) -> Option<usize> {
        self.by_name.get(&(session, id)).copied()
    }

    /// All streams of one dialog.
    pub(super) fn of_dialog(
        &self,
        session: SessionName,
        dialog: Tag,
    ) -> impl Iterator<Item = &RelayedStream> {
        let first = StreamId { dialog, line: 0, pair: 0 };
        let last = StreamId { dialog, line: u16::MAX, pair: u16::MAX };
        let numbers = self.by_name.range((session, first)..=(session, last));
        numbers.filter_map(|(_, number)| self.all.get(*number))
    }

    pub(super) fn insert(&mut self, stream: RelayedStream) -> usize {
        let name = (stream.session, stream.id);
        let number = self.all.insert(stream);
        self.by_name.insert(name, number);
        number
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<RelayedStream> {
        let stream = self.all.try_remove(number)?;
        self.by_name.remove(&(stream.session, stream.id));
        Some(stream)
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.by_name.clear();
    }

    /// In no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RelayedStream> {
        self.all.iter_mut().map(|(_, stream)| stream)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RelayedStream> {
        self.by_name.values().filter_map(|number| self.all.get(*number))
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.by_name.values().copied()
    }
}
