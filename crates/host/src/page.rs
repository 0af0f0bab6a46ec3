//! The page that the two processes of a node share: the lease on its way to the engine, heartbeats on their way back.
//!
//! The guardian writes until when its engine may act, and the engine's threads each write when they were last awake.
//! Nothing here ever waits, so neither process can hold up the other: the lease is under a sequence lock whose reader
//! gives up after a few tries, and then there is no lease. A guardian that was stopped in the middle of a write so has
//! an engine that does nothing.
//!
//! All times are of `CLOCK_BOOTTIME`, which both processes read. The engine could write a lease for itself; it would
//! gain nothing, because the gate in the kernel does not look here.
//!
//! Invariant: one thread of one process writes the lease ([`SharedPage::set_lease`] wants the page for itself), and
//! whoever reads sees what was written together.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// Threads of an engine that show that they run: the event loops of the largest hosts, and one more for the rest.
pub const LANES_MAX: usize = 257;

/// Tries to read the lease. A write takes some nanoseconds: whoever meets so many of them meets a writer that stands.
const TRIES_MAX: usize = 64;

/// Beats that are closer than this are one: loops that turn very often leave the page's lines to those that read them.
const BEAT_EVERY: Duration = Duration::from_millis(1);

/// The smallest unit that can be mapped on every machine that we know of is this or a divisor of what it is.
const PAGE_BYTES: usize = 4096;

/// Neither process can make the other's page shorter, which would kill it at the next look.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// What stands in the page. Only atomics: two processes look at it at once.
#[repr(C)]
struct Layout {
    /// Odd while the lease is being written.
    sequence: AtomicU64,
    epoch: AtomicU64,
    since: AtomicU64,
    /// Nanoseconds; 0: no lease.
    deadline: AtomicU64,
    /// Fills a cache line, so that beats do not disturb those who look for the lease.
    _room: [u64; 4],
    /// Nanoseconds; 0: never.
    beats: [AtomicU64; LANES_MAX],
}

const _: () = assert!(size_of::<Layout>() <= PAGE_BYTES);

/// The lease, as it stands in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLease {
    /// Its number.
    pub epoch: u64,
    /// The number under which the node became active: the holder may have raised it since.
    pub since: u64,
    /// Until when the engine may act. It may be past.
    pub deadline: Duration,
}

/// One process's view of the page.
#[derive(Debug)]
pub struct SharedPage {
    layout: NonNull<Layout>,
}

// SAFETY: what the pointer leads to are atomics alone, and the mapping is this value's until it is dropped.
unsafe impl Send for SharedPage {}
// SAFETY: as above; a shared reference gives nothing but atomic loads and stores.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A page without a lease or a beat, and the descriptor by which another process opens it.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        // SAFETY: the name is a C string that outlives the call.
        let descriptor = unsafe {
            libc::memfd_create(c"tandem-page".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given it, and nobody else knows of it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: no pointer is handed over.
        if unsafe { libc::ftruncate(descriptor.as_raw_fd(), PAGE_BYTES as libc::off_t) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the command takes an int.
        if unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let page = Self::open(&descriptor)?;
        Ok((page, descriptor))
    }

    /// The page behind a descriptor that [`SharedPage::create`] gave, maybe in another process. What is no such page is
    /// refused. The descriptor is not needed any more.
    pub fn open(descriptor: impl std::os::fd::AsFd) -> io::Result<Self> {
        let descriptor = descriptor.as_fd();
        check(descriptor)?;
        // SAFETY: the kernel picks a place of its own for the mapping, and the descriptor is open.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let layout = NonNull::new(place.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { layout })
    }

    /// Lets the engine act for an epoch until a deadline.
    pub fn set_lease(&mut self, SharedLease { epoch, since, deadline }: SharedLease) {
        self.write(epoch, since, nanoseconds(deadline));
    }

    /// Takes the lease away.
    pub fn clear_lease(&mut self) {
        self.write(0, 0, 0);
    }

    /// The lease; `None`: there is none, or it is being written and that does not come to an end.
    pub fn lease(&self) -> Option<SharedLease> {
        let layout = self.layout();
        for _ in 0..TRIES_MAX {
            let before = layout.sequence.load(Ordering::Acquire);
            let epoch = layout.epoch.load(Ordering::Relaxed);
            let since = layout.since.load(Ordering::Relaxed);
            let deadline = layout.deadline.load(Ordering::Relaxed);
            // All were read before the second look at the sequence.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && layout.sequence.load(Ordering::Relaxed) == before {
                let deadline = (deadline != 0).then(|| Duration::from_nanos(deadline));
                return deadline.map(|deadline| SharedLease { epoch, since, deadline });
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Shows that a thread is awake. A lane that the page has no room for is not seen.
    pub fn beat(&self, lane: usize, now: Duration) {
        let Some(beat) = self.layout().beats.get(lane) else { return };
        let now = nanoseconds(now);
        let last = beat.load(Ordering::Relaxed);
        if last == 0 || now.saturating_sub(last) >= BEAT_EVERY.as_nanos() as u64 {
            beat.store(now, Ordering::Relaxed);
        }
    }

    /// When that thread was last awake which has been silent for longest, of those that ever showed themselves; `None` if
    /// none has. It may be a millisecond behind.
    pub fn oldest_beat(&self) -> Option<Duration> {
        let beats = self.layout().beats.iter().map(|beat| beat.load(Ordering::Relaxed));
        beats.filter(|&beat| beat != 0).min().map(Duration::from_nanos)
    }

    fn write(&mut self, epoch: u64, since: u64, deadline: u64) {
        let layout = self.layout();
        let before = layout.sequence.load(Ordering::Relaxed);
        layout.sequence.store(before.wrapping_add(1), Ordering::Relaxed);
        // Nothing below is seen before the sequence is odd.
        fence(Ordering::Release);
        layout.epoch.store(epoch, Ordering::Relaxed);
        layout.since.store(since, Ordering::Relaxed);
        layout.deadline.store(deadline, Ordering::Relaxed);
        layout.sequence.store(before.wrapping_add(2), Ordering::Release);
    }

    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is whole, aligned, of zeroes or what was written as atomics, and lives as long as `self`;
        // its file is sealed against becoming shorter.
        unsafe { self.layout.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: `open` has mapped exactly this, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.layout.as_ptr().cast(), PAGE_BYTES) };
    }
}

fn check(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let refused = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason.to_owned()));
    // SAFETY: the command takes nothing.
    let seals = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 {
        return refused("the descriptor is no memory that can be sealed");
    }
    if seals & SEALS != SEALS {
        return refused("the shared page is not sealed");
    }
    // SAFETY: a stat of zeroes is a valid value of this plain C structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure, which outlives the call.
    if unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if stat.st_size != PAGE_BYTES as libc::off_t {
        return refused("the shared page has another size");
    }
    Ok(())
}

/// More than 584 years of uptime are not told apart.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn what_one_process_writes_the_other_reads() {
        let (mut guardian, descriptor) = SharedPage::create().expect("a page");
        let engine = SharedPage::open(descriptor).expect("the same page");
        assert_eq!(engine.lease(), None);

        let raised = SharedLease { epoch: 7, since: 4, deadline: ms(1_400) };
        guardian.set_lease(raised);
        assert_eq!(engine.lease(), Some(raised));

        guardian.clear_lease();
        assert_eq!(engine.lease(), None);
    }

    #[test]
    fn a_writer_that_was_stopped_in_the_middle_leaves_no_lease() {
        let (mut guardian, descriptor) = SharedPage::create().expect("a page");
        let engine = SharedPage::open(descriptor).expect("the same page");
        guardian.set_lease(lease(7));

        guardian.layout().sequence.fetch_add(1, Ordering::Relaxed);

        assert_eq!(engine.lease(), None);
    }

    #[test]
    fn an_epoch_is_never_seen_with_the_deadline_of_another() {
        const WRITES: u64 = 20_000;
        let (mut guardian, descriptor) = SharedPage::create().expect("a page");
        let engine = SharedPage::open(descriptor).expect("the same page");
        guardian.set_lease(lease(1));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    // Between two looks the writer may be in the middle at every try.
                    let Some(seen) = engine.lease() else { continue };
                    assert_eq!(seen, lease(seen.epoch));
                    assert!(seen.epoch >= last, "it went back");
                    last = seen.epoch;
                }
            });
            for number in 1..=WRITES {
                guardian.set_lease(lease(number));
            }
            is_over.store(true, Ordering::Relaxed);
            reader.join().expect("no torn write was seen");
        });
        assert_eq!(engine.lease(), Some(lease(WRITES)));
    }

    #[test]
    fn the_lane_that_is_silent_for_longest_is_seen() {
        let (guardian, descriptor) = SharedPage::create().expect("a page");
        let engine = SharedPage::open(descriptor).expect("the same page");
        assert_eq!(guardian.oldest_beat(), None, "none has shown itself");

        engine.beat(0, ms(100));
        engine.beat(LANES_MAX - 1, ms(90));
        assert_eq!(guardian.oldest_beat(), Some(ms(90)));

        engine.beat(LANES_MAX - 1, ms(200));
        assert_eq!(guardian.oldest_beat(), Some(ms(100)));
    }

    #[test]
    fn beats_within_a_millisecond_are_one_and_lanes_without_room_are_none() {
        let (page, _descriptor) = SharedPage::create().expect("a page");

        page.beat(0, ms(100));
        page.beat(0, ms(100) + Duration::from_micros(999));
        assert_eq!(page.oldest_beat(), Some(ms(100)));
        page.beat(0, ms(101));
        assert_eq!(page.oldest_beat(), Some(ms(101)));

        page.beat(LANES_MAX, ms(1));
        assert_eq!(page.oldest_beat(), Some(ms(101)));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let null = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(SharedPage::open(&null).expect_err("no memory").kind(), io::ErrorKind::InvalidData);

        let (_page, descriptor) = SharedPage::create().expect("a page");
        // SAFETY: no pointer is handed over.
        let shortened = unsafe { libc::ftruncate(descriptor.as_raw_fd(), 0) };
        assert!(shortened < 0, "it is sealed");

        // SAFETY: the name is a C string; the descriptor is ours alone.
        let unsealed = unsafe {
            OwnedFd::from_raw_fd(libc::memfd_create(
                c"test".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            ))
        };
        assert_eq!(SharedPage::open(&unsealed).expect_err("not sealed").kind(), io::ErrorKind::InvalidData);
    }

    fn lease(epoch: u64) -> SharedLease {
        SharedLease { epoch, since: epoch, deadline: ms(epoch) }
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
}
