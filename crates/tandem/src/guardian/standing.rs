//! What the threads beside the guardian's know of the node: whether it is active, and whether its engine can be asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Written by the guardian's thread, read by others; nobody ever waits.
#[derive(Debug, Default)]
pub struct Standing {
    /// Nanoseconds of `CLOCK_BOOTTIME` until which the lease is held.
    until: AtomicU64,
    is_engine_ready: AtomicBool,
}

impl Standing {
    /// The node is active until then; [`Duration::ZERO`]: it is not.
    pub fn active_until(&self, deadline: Duration) {
        let nanoseconds = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.until.store(nanoseconds, Ordering::Release);
    }

    /// Whether the engine has started and can answer.
    pub fn engine_ready(&self, is_ready: bool) {
        self.is_engine_ready.store(is_ready, Ordering::Release);
    }

    /// Whether the node is active. Whoever acts on it may act late, and then the gate is closed.
    pub fn is_active(&self) -> bool {
        u128::from(self.until.load(Ordering::Acquire)) > ::host::boot_time().as_nanos()
    }

    /// Whether the engine can answer.
    pub fn is_engine_ready(&self) -> bool {
        self.is_engine_ready.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_lease_has_run_out_is_not_active() {
        let standing = Standing::default();
        assert!(!standing.is_active());

        standing.active_until(::host::boot_time() + Duration::from_secs(60));
        assert!(standing.is_active());

        standing.active_until(::host::boot_time());
        assert!(!standing.is_active());
    }
}
