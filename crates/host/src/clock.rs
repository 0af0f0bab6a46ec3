//! The clock of the lease: it goes on while the machine is suspended.

use std::time::Duration;

/// `CLOCK_BOOTTIME`, the same clock that the gate's program in the kernel reads.
pub fn boot_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that the kernel fills; the clock exists since Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
