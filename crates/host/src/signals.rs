//! Signals as something to read, for a loop that waits for descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What somebody wants of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, or SIGINT at a terminal.
    End,
    /// SIGHUP.
    Reload,
}

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP from their handlers. To be called before the first thread is started: a thread has
    /// the mask of the one that started it.
    pub fn take() -> io::Result<Self> {
        // SAFETY: a set of signals is plain memory that sigemptyset fills.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives during the calls; the descriptor is owned by nobody else.
        unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                libc::sigaddset(&raw mut set, signal);
            }
            let refused = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            if refused != 0 {
                return Err(io::Error::from_raw_os_error(refused));
            }
            let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { descriptor: OwnedFd::from_raw_fd(descriptor) })
        }
    }

    /// The next signal; `None`: no more for now.
    pub fn next(&self) -> Option<Signal> {
        let mut bytes = [0_u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the buffer lives during the call, and its length is its own.
        let length =
            unsafe { libc::read(self.descriptor.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        // The number comes first.
        let number = usize::try_from(length).ok().filter(|length| *length == bytes.len()).map(|_| {
            let first = [bytes[0], bytes[1], bytes[2], bytes[3]];
            i32::from_ne_bytes(first)
        })?;
        Some(if number == libc::SIGHUP { Signal::Reload } else { Signal::End })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_and_ends_nothing() {
        // The mask and the signals are those of this thread alone.
        std::thread::spawn(|| {
            let signals = Signals::take().expect("a descriptor is left");
            assert_eq!(signals.next(), None);

            for (raised, read) in [(libc::SIGHUP, Signal::Reload), (libc::SIGTERM, Signal::End)] {
                // SAFETY: the signal is blocked in the thread that it is for.
                unsafe { libc::pthread_kill(libc::pthread_self(), raised) };
                assert_eq!(signals.next(), Some(read));
            }
        })
        .join()
        .expect("it does not panic");
    }
}
