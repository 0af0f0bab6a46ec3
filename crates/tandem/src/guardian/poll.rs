//! What a loop waits for: descriptors that are readable, and a time of the clock that goes on while the host is suspended.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use clock::{Instant, Now, WallTime};
use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Descriptors that are told of at once; the others are told of in the next turn.
const EVENTS_MAX: usize = 32;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The time has come.
    Timer,
    /// Other threads have something to say.
    Inbox,
    /// SIGTERM, SIGHUP.
    Signals,
    /// ARP of the virtual addresses' interface.
    Watch,
    /// The engine's process has ended.
    EngineEnd,
    /// The engine says something.
    Engine,
    /// The process of the witness's row says something.
    Row,
    /// A socket of the links, by its place.
    Link(u32),
}

/// Waits for sources.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    set_to: Instant,
}

impl Poll {
    /// Waits for nothing yet but the time.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let this = Self { epoll, timer, set_to: Instant::FAR };
        this.add(&this.timer, Source::Timer)?;
        Ok(this)
    }

    /// Waits for a descriptor too, until it is closed or removed.
    pub fn add(&self, descriptor: &impl AsFd, source: Source) -> io::Result<()> {
        let data = epoll::EventData::new_u64(source.number());
        Ok(epoll::add(&self.epoll, descriptor, data, epoll::EventFlags::IN)?)
    }

    /// Waits for a descriptor no longer.
    pub fn remove(&self, descriptor: &impl AsFd) {
        // One that is not there is what is wanted.
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Waits until something is readable, or until a time has come.
    pub fn wait(&mut self, until: Instant, ready: &mut Vec<Source>) -> io::Result<()> {
        ready.clear();
        if until != self.set_to {
            self.set_to = until;
            self.set_timer(until)?;
        }
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok((events, _)) => ready.extend(events.iter().filter_map(|event| Source::of(event.data.u64()))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ready.contains(&Source::Timer) {
            // It has been read when it is set anew.
            self.set_to = Instant::FAR;
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
        }
        Ok(())
    }

    fn set_timer(&self, until: Instant) -> io::Result<()> {
        // A time of zero would switch it off; one that is past is due at once.
        let nanoseconds = until.as_nanos().clamp(1, i64::MAX as u64);
        let at = Timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as i64,
            tv_nsec: (nanoseconds % 1_000_000_000) as _,
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: at };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        Ok(())
    }
}

impl Source {
    const LINKS: u64 = 1 << 32;

    fn number(self) -> u64 {
        match self {
            Self::Timer => 0,
            Self::Inbox => 1,
            Self::Signals => 2,
            Self::Watch => 3,
            Self::EngineEnd => 4,
            Self::Engine => 5,
            Self::Row => 6,
            Self::Link(place) => Self::LINKS | u64::from(place),
        }
    }

    fn of(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Timer,
            1 => Self::Inbox,
            2 => Self::Signals,
            3 => Self::Watch,
            4 => Self::EngineEnd,
            5 => Self::Engine,
            6 => Self::Row,
            link if link & Self::LINKS != 0 => Self::Link(link as u32),
            _ => return None,
        })
    }
}

/// Both clocks, read now. That of the lease is `CLOCK_BOOTTIME`, as is that of the gate.
pub fn now() -> Now {
    let nanoseconds = u64::try_from(::host::boot_time().as_nanos()).unwrap_or(u64::MAX);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let wall = WallTime::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
    Now::new(Instant::from_nanos(nanoseconds), wall)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn a_time_that_is_past_is_due_at_once_and_each_time_anew() {
        let mut poll = Poll::new().expect("a descriptor is left");
        let mut ready = Vec::new();

        for _ in 0..2 {
            poll.wait(Instant::START, &mut ready).expect("it can wait");
            assert_eq!(ready, [Source::Timer]);
        }
    }

    #[test]
    fn a_descriptor_that_is_readable_comes_before_a_time_that_is_far() {
        let mut poll = Poll::new().expect("a descriptor is left");
        let descriptor = eventfd(1, EventfdFlags::CLOEXEC).expect("a descriptor is left");
        poll.add(&descriptor, Source::Link(7)).expect("it can be waited for");
        let mut ready = Vec::new();

        poll.wait(now().instant + Duration::from_secs(600), &mut ready).expect("it can wait");

        assert_eq!(ready, [Source::Link(7)]);
    }

    #[test]
    fn every_source_has_a_number_of_its_own() {
        for source in [
            Source::Timer,
            Source::Inbox,
            Source::Signals,
            Source::Watch,
            Source::EngineEnd,
            Source::Engine,
            Source::Row,
            Source::Link(0),
            Source::Link(u32::MAX),
        ] {
            assert_eq!(Source::of(source.number()), Some(source));
        }
    }
}
