//! Where the records of calls go.

use lease::Epoch;
use routing::CallRecord;

use crate::Output;

/// Whoever writes down what is left of calls.
pub trait Records: Send + Sync {
    /// Queues the record of a call that ended while this node was active under an epoch. Blocks nobody.
    fn write(&self, epoch: Epoch, record: CallRecord);
}

/// Takes the records out of what a shard wants, before the other node is told that the calls have ended: it would write none
/// then.
pub fn take_records(out: &mut Vec<Output>) -> impl Iterator<Item = CallRecord> + '_ {
    out.extract_if(.., |output| matches!(output, Output::Record(_))).filter_map(|output| match output {
        Output::Record(record) => Some(*record),
        _ => None,
    })
}
