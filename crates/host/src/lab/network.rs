//! The network of one host.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use crate::child::die_with;
use crate::process_group::unblock_signals;

/// A network, empty at first but for its loopback. The kernel keeps it while this value, a socket or a process is in it.
#[derive(Clone, Debug)]
pub struct HostNetwork {
    descriptor: Arc<OwnedFd>,
}

impl HostNetwork {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        let make = || {
            // SAFETY: it moves this thread alone, which ends at once.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        };
        Ok(Self { descriptor: Arc::new(on_a_thread(make)?.into()) })
    }

    /// Calls `act` on this host: a socket that is made in it belongs to the host for ever.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            move_to(self.descriptor.as_raw_fd())?;
            Ok(act())
        })
    }

    /// A program on this host. It is killed when the thread that starts it ends, and is the leader of its own process group,
    /// so that a key at the terminal does not reach it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        unblock_signals(&mut command);
        // SAFETY: a plain call.
        let parent = unsafe { libc::getpid() };
        let network = self.descriptor.clone();
        let enter = move || {
            move_to(network.as_raw_fd())?;
            die_with(parent)
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(enter) };
        command.process_group(0);
        command
    }
}

impl AsFd for HostNetwork {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A thread that has changed its network is of no use for anything else.
fn on_a_thread<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        scope.spawn(act).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn move_to(network: RawFd) -> io::Result<()> {
    // SAFETY: a plain call; it moves this thread alone.
    if unsafe { libc::setns(network, libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
