//! A thread that is not kept waiting by others: real-time priority, and memory that is never paged out.

use std::io;

/// Above every ordinary thread and below whatever else a host has at real-time priority: the kernel's own threads use 50.
const PRIORITY: i32 = 10;

/// Gives the calling thread real-time priority. Threads and processes that it starts do not have it.
pub fn be_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters live during the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps all memory of this process that is in use, and each page that is used later, from being paged out.
pub fn lock_memory() -> io::Result<()> {
    // The limit is the kernel's own for processes without the right; whoever has the right needs none.
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit lives during the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) };
    // Pages that were reserved and never used stay what they are: the stacks of threads, the allocator's spare room.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: a plain call.
    if unsafe { libc::mlockall(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_a_real_time_thread_starts_is_an_ordinary_one() {
        let policies = std::thread::spawn(|| {
            be_real_time().ok()?;
            let inner = std::thread::spawn(policy).join().ok()?;
            Some((policy(), inner))
        });
        // Without the right for it there is nothing to see.
        if let Some((own, inner)) = policies.join().expect("it does not panic") {
            assert_eq!((own & !libc::SCHED_RESET_ON_FORK, inner), (libc::SCHED_RR, libc::SCHED_OTHER));
        }
    }

    fn policy() -> i32 {
        // SAFETY: a plain call about the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }
}
