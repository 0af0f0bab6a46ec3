//! Where the records of calls go.

use lease::Epoch;
use routing::CallRecord;

/// Whoever writes down what is left of calls.
pub trait Records: Send + Sync {
    /// Queues the record of a call that ended while this node was active under an epoch. Blocks nobody.
    fn write(&self, epoch: Epoch, record: CallRecord);
}
