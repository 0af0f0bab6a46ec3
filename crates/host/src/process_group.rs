//! Commands that the guardian starts: what they do not get, and how they are ended with all that they have started.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives a command every signal back: what this process reads instead of being interrupted by it ([`crate::Signals`]) would
/// end neither the command nor anything that it starts.
pub fn unblock_signals(command: &mut Command) {
    let unblock = || {
        // SAFETY: a set of signals is plain memory that sigemptyset fills.
        let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives during the calls.
        let refused = unsafe {
            libc::sigemptyset(&raw mut none);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        };
        if refused == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(refused)) }
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(unblock) };
}

/// Keeps the descriptors that this process was started with, but the first three, from every child that it starts. Those
/// that the program itself opens never reach a child.
pub fn keep_descriptors() -> io::Result<()> {
    // SAFETY: a plain call, which only marks descriptors.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Kills a group of processes: a command with all that it has started.
pub fn kill_group(leader: u32) -> io::Result<()> {
    let Some(leader) = i32::try_from(leader).ok().filter(|leader| *leader > 1) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // SAFETY: a plain call; the group is that of a child.
    if unsafe { libc::killpg(leader, libc::SIGKILL) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
