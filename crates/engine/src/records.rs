//! Where the records of calls go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lease::Epoch;
use media::call_figures::CallFigures;
use routing::CallRecord;

use crate::{Output, Peer};

/// Whoever writes down what is left of calls.
pub trait Records: Send + Sync {
    /// Queues what is told of a call that ended while this node was active under an epoch. Blocks nobody.
    fn write(&self, epoch: Epoch, news: RecordNews);

    /// What is owed to a database is told to the other node, which owes it too, from here on.
    fn attach(&self, peer: Arc<dyn Peer>);

    /// On a standby: takes a record that the active node owes. Whether there was room.
    fn hold(&self, id: u128, line: Bytes) -> bool;

    /// On a standby: the active node owes a record no longer.
    fn let_go(&self, number: u64);

    /// On the active node: a record that is owed, for the other node that lacks it.
    fn fetch(&self, number: u64) -> Option<(u128, Bytes)>;

    /// This node has become active: what it has held it owes now itself.
    fn became_active(&self);

    /// Another node may be active.
    fn stood_by(&self);
}

/// What is told of a call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordNews {
    /// Its record.
    Ended(Box<CallRecord>, EndedMedia),
    /// How the media of the record with this id went, after [`EndedMedia::Awaited`]; `None`: nobody knows.
    Media(u128, Option<CallMedia>),
}

/// What is known of the media of a call when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedMedia {
    /// This; `None`: our own relay had none of them.
    Told(Option<CallMedia>),
    /// Those who forward packets were asked and are about to say: [`RecordNews::Media`] follows, unless the node ceases to
    /// be active meanwhile.
    Awaited,
}

/// How the media of a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallMedia {
    /// How long after the call's beginning this node has begun to count: zero unless another node had the call before.
    pub counted_after: Duration,
    /// What has come since.
    pub figures: CallFigures,
}

/// Takes the records out of what a shard wants, before the other node is told that the calls have ended: it would write none
/// then.
pub fn take_records(out: &mut Vec<Output>) -> impl Iterator<Item = RecordNews> + '_ {
    out.extract_if(.., |output| matches!(output, Output::Record(_))).filter_map(|output| match output {
        Output::Record(news) => Some(*news),
        _ => None,
    })
}
