//! A call's media as they go to the other node, so that the next packet there is relayed as the last one was here.
//!
//! A field is added and never given another meaning; what a later version adds is skipped. Times are told as the time
//! since, because each node has a clock of its own. How often what happened is each node's own too, and is not told.

mod stored;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use prost::Message as _;

use super::dialog::{Dialog, OPEN_MAX};
use super::{Call, Counts, DIALOGS_MAX, FORKS_MAX, Fork, Output, Side, StreamId, Tag};
use crate::ports::{Pool, Taken};
use crate::sdp::MEDIA_MAX;

/// The version of the encoding.
pub const FORMAT: u32 = 1;

/// Larger ones are not read, nor would the link between two nodes carry them. A plain call has a third of a kilobyte.
const BYTES_MAX: usize = 160 << 10;

/// Longer ago is as good as for ever.
const SINCE_MAX: Duration = Duration::from_secs(3_600);

/// The bytes are no call that this version can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Clone, PartialEq, prost::Message)]
struct Capsule {
    #[prost(message, optional, tag = "1")]
    terms: Option<stored::Terms>,
    #[prost(message, repeated, tag = "2")]
    forks: Vec<StoredFork>,
    #[prost(message, repeated, tag = "3")]
    dialogs: Vec<StoredDialog>,
    #[prost(message, repeated, tag = "4")]
    latches: Vec<StoredLatch>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredFork {
    #[prost(fixed64, tag = "1")]
    branch: u64,
    #[prost(message, optional, tag = "2")]
    invite: Option<stored::Invite>,
    #[prost(message, optional, tag = "3")]
    offer: Option<stored::SideMedia>,
    #[prost(message, repeated, tag = "4")]
    legs: Vec<stored::Legs>,
    #[prost(bool, tag = "5")]
    is_taken: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredDialog {
    #[prost(fixed64, tag = "1")]
    tag: u64,
    #[prost(fixed64, tag = "2")]
    branch: u64,
    #[prost(bool, tag = "3")]
    is_confirmed: bool,
    #[prost(message, optional, tag = "4")]
    invite: Option<stored::Invite>,
    #[prost(message, repeated, tag = "5")]
    open: Vec<stored::Open>,
    #[prost(message, optional, tag = "6")]
    settled: Option<stored::Settled>,
    #[prost(message, optional, tag = "7")]
    agreed_caller: Option<stored::SideMedia>,
    #[prost(message, optional, tag = "8")]
    agreed_callee: Option<stored::SideMedia>,
    #[prost(message, repeated, tag = "9")]
    legs: Vec<stored::Legs>,
    #[prost(uint64, tag = "10")]
    signalled_us_ago: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredLatch {
    #[prost(fixed64, tag = "1")]
    dialog: u64,
    #[prost(uint32, tag = "2")]
    line: u32,
    #[prost(uint32, tag = "3")]
    pair: u32,
    #[prost(bool, tag = "4")]
    is_callee: bool,
    #[prost(message, optional, tag = "5")]
    source: Option<stored::Address>,
    #[prost(fixed32, optional, tag = "6")]
    ssrc: Option<u32>,
}

impl Call {
    /// Its bytes for the other node.
    pub fn to_bytes(&self, now: Instant) -> Bytes {
        let capsule = Capsule {
            terms: Some(stored::Terms::of(&self.terms)),
            forks: self.forks.iter().map(|(branch, fork)| StoredFork::of(branch.0, fork)).collect(),
            dialogs: self.dialogs.iter().map(|(tag, dialog)| StoredDialog::of(now, *tag, dialog)).collect(),
            latches: self
                .latches
                .iter()
                .map(|((stream, side), latched)| StoredLatch {
                    dialog: stream.dialog.0,
                    line: stream.line.into(),
                    pair: stream.pair.into(),
                    is_callee: *side == Side::Callee,
                    source: Some(stored::Address::of(latched.source)),
                    ssrc: latched.ssrc,
                })
                .collect(),
        };
        capsule.encode_to_vec().into()
    }

    /// Reads what [`Call::to_bytes`] wrote on the other node.
    ///
    /// # Errors
    ///
    /// The bytes are no call that this version can go on with.
    pub fn from_bytes(now: Instant, bytes: Bytes) -> Result<Self, Malformed> {
        if bytes.len() > BYTES_MAX {
            return Err(Malformed);
        }
        let Capsule { terms, forks, dialogs, latches } = Capsule::decode(bytes).map_err(|_| Malformed)?;
        let has_room = forks.len() <= FORKS_MAX && dialogs.len() <= DIALOGS_MAX;
        let (fork_count, dialog_count, latch_count) = (forks.len(), dialogs.len(), latches.len());
        if !has_room {
            return Err(Malformed);
        }
        let mut call = Self {
            terms: terms.ok_or(Malformed)?.read()?,
            forks: forks.into_iter().map(StoredFork::read).collect::<Result<_, _>>()?,
            dialogs: dialogs.into_iter().map(|dialog| dialog.read(now)).collect::<Result<_, _>>()?,
            latches: BTreeMap::new(),
            counts: Counts::default(),
        };
        let streams = call.streams();
        for latch in latches {
            let (stream, side) = latch.place()?;
            // One that leads to no stream would stay for ever.
            if !streams.contains_key(&stream) {
                return Err(Malformed);
            }
            call.latches.insert((stream, side), latch.latched()?);
        }
        let is_each_one_once = call.forks.len() == fork_count
            && call.dialogs.len() == dialog_count
            && call.latches.len() == latch_count;
        if is_each_one_once { Ok(call) } else { Err(Malformed) }
    }

    /// Takes the ports that the other node gave it.
    ///
    /// # Errors
    ///
    /// One of them is in use here, or not of this pool: the call's media can not go on. None is taken then.
    pub fn claim(&self, now: Instant, pool: &mut Pool) -> Result<(), Taken> {
        let ports = self.ports();
        let mut taken = Vec::new();
        for (_, ports) in ports {
            match pool.claim(now, ports) {
                Ok(()) => taken.push(ports),
                Err(refusal) => {
                    taken.into_iter().for_each(|ports| pool.release(now, ports));
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    /// What the edge is to do to go on with it.
    pub fn handle_takeover(&self, out: &mut Vec<Output>) {
        out.extend(self.ports().into_iter().map(|(side, ports)| Output::Bind(side, ports)));
        out.extend(self.streams().into_iter().map(|(stream, plan)| Output::Start(stream, plan)));
    }
}

impl StoredFork {
    fn of(branch: u64, fork: &Fork) -> Self {
        Self {
            branch,
            invite: Some(stored::Invite::of(fork.invite)),
            offer: fork.offer.as_ref().map(stored::SideMedia::of),
            legs: fork.legs.iter().map(stored::Legs::of).collect(),
            is_taken: fork.is_taken,
        }
    }

    fn read(self) -> Result<(super::Branch, Fork), Malformed> {
        let fork = Fork {
            invite: self.invite.ok_or(Malformed)?.read()?,
            offer: self.offer.map(stored::SideMedia::read).transpose()?,
            legs: read_legs(self.legs)?,
            is_taken: self.is_taken,
        };
        Ok((super::Branch(self.branch), fork))
    }
}

impl StoredDialog {
    fn of(now: Instant, tag: Tag, dialog: &Dialog) -> Self {
        let since = now.since(dialog.signalled_at).min(SINCE_MAX);
        Self {
            tag: tag.0,
            branch: dialog.branch.0,
            is_confirmed: dialog.is_confirmed,
            invite: Some(stored::Invite::of(dialog.invite)),
            open: dialog.open.iter().map(stored::Open::of).collect(),
            settled: dialog.settled.map(stored::Settled::of),
            agreed_caller: dialog.agreed.as_ref().map(|agreed| stored::SideMedia::of(&agreed.caller)),
            agreed_callee: dialog.agreed.as_ref().map(|agreed| stored::SideMedia::of(&agreed.callee)),
            legs: dialog.legs.iter().map(stored::Legs::of).collect(),
            signalled_us_ago: since.as_micros() as u64,
        }
    }

    fn read(self, now: Instant) -> Result<(Tag, Dialog), Malformed> {
        if self.open.len() > OPEN_MAX {
            return Err(Malformed);
        }
        let since = Duration::from_micros(self.signalled_us_ago).min(SINCE_MAX);
        let dialog = Dialog {
            branch: super::Branch(self.branch),
            is_confirmed: self.is_confirmed,
            invite: self.invite.ok_or(Malformed)?.read()?,
            open: self.open.into_iter().map(stored::Open::read).collect::<Result<_, _>>()?,
            settled: self.settled.map(stored::Settled::read).transpose()?,
            agreed: stored::read_agreement(self.agreed_caller, self.agreed_callee)?,
            legs: read_legs(self.legs)?,
            signalled_at: Instant::from_nanos(now.as_nanos().saturating_sub(since.as_nanos() as u64)),
        };
        Ok((Tag(self.tag), dialog))
    }
}

impl StoredLatch {
    fn place(&self) -> Result<(StreamId, Side), Malformed> {
        let number = |number: u32| u16::try_from(number).map_err(|_| Malformed);
        let stream =
            StreamId { dialog: Tag(self.dialog), line: number(self.line)?, pair: number(self.pair)? };
        Ok((stream, stored::side(self.is_callee)))
    }

    fn latched(self) -> Result<crate::latch::Latched, Malformed> {
        let source = self.source.ok_or(Malformed)?.read()?;
        Ok(crate::latch::Latched { source, ssrc: self.ssrc })
    }
}

fn read_legs(legs: Vec<stored::Legs>) -> Result<Vec<Option<super::plan::Legs>>, Malformed> {
    if legs.len() > MEDIA_MAX {
        return Err(Malformed);
    }
    legs.into_iter().map(stored::Legs::read).collect()
}
