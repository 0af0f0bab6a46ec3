//! A child without rights, that does not outlive the thread which started it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The first descriptor behind standard input, output and error.
const DESCRIPTOR_FIRST: RawFd = 3;

/// Descriptors that a child is given.
const DESCRIPTORS_MAX: usize = 8;

/// Capabilities that a kernel may know of; those that it does not know are refused.
const CAPABILITIES_MAX: libc::c_ulong = 63;

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub user: u32,
    /// The number of its group.
    pub group: u32,
}

/// What is started.
#[derive(Debug)]
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What it has as descriptors 3, 4 and so on.
    pub descriptors: Vec<OwnedFd>,
    /// As whom it runs; `None`: as who starts it.
    pub user: Option<User>,
}

/// A child that runs.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: u32,
    /// It is readable when the child has ended.
    pub descriptor: OwnedFd,
}

impl Start {
    /// Starts it: without capabilities, with no way to get any, as the user, and killed when the calling thread ends.
    pub fn spawn(self) -> io::Result<Child> {
        let Self { program, arguments, descriptors, user } = self;
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a child is given too many descriptors"));
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: a plain call.
        let parent = unsafe { libc::getpid() };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            // The supervisor is spoken to by the parent alone.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID");
        // SAFETY: between fork and exec only system calls are made, on memory that was made before.
        unsafe {
            command.pre_exec(move || {
                place(&raw)?;
                drop_rights(user)?;
                die_with(parent)
            });
        }
        let mut child = command.spawn()?;
        drop(descriptors);
        // SAFETY: the child was not waited for, so its number is its own; the descriptor is owned by nobody else.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
        if descriptor < 0 {
            let error = io::Error::last_os_error();
            // It may have ended by itself; it is no zombie either way.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        // SAFETY: the descriptor was just made.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
        Ok(Child { pid: child.id(), descriptor })
    }
}

/// Puts descriptors where the child looks for them.
fn place(descriptors: &[RawFd]) -> io::Result<()> {
    // All are lifted out of the way first: one may stand where another is to go.
    let mut lifted: [RawFd; DESCRIPTORS_MAX] = [-1; DESCRIPTORS_MAX];
    let free = DESCRIPTOR_FIRST + DESCRIPTORS_MAX as RawFd;
    for (lifted, descriptor) in lifted.iter_mut().zip(descriptors) {
        // SAFETY: a plain call.
        *lifted = unsafe { libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, free) };
        if *lifted < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for (place, lifted) in (DESCRIPTOR_FIRST..).zip(lifted).take(descriptors.len()) {
        // SAFETY: a plain call; the copy that it makes has no close-on-exec flag.
        if unsafe { libc::dup2(lifted, place) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn drop_rights(user: Option<User>) -> io::Result<()> {
    // SAFETY: plain calls on memory that lives here. The raw calls, because this process has one thread.
    unsafe {
        // Without the right to drop them there are none to drop.
        for capability in 0..=CAPABILITIES_MAX {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if let Some(User { user, group }) = user {
            let calls = [
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
                libc::syscall(libc::SYS_setresgid, group, group, group),
                libc::syscall(libc::SYS_setresuid, user, user, user),
            ];
            if calls.iter().any(|result| *result < 0) {
                return Err(io::Error::last_os_error());
            }
        }
        // As in linux/capability.h: the version, the thread, and two times three sets of 32.
        let header: [u32; 2] = [0x2008_0522, 0];
        let sets = [0_u32; 6];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Last, because the kernel forgets it when rights change.
pub(crate) fn die_with(parent: libc::pid_t) -> io::Result<()> {
    // SAFETY: plain calls.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before.
        if libc::getppid() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn a_child_has_its_descriptors_and_no_rights() {
        let (mut out, inner) = std::io::pipe().expect("a descriptor is left");
        let other = std::fs::File::open("/dev/null").expect("it is there");
        let script = "readlink /proc/self/fd/4 >&3; grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status >&3";

        let child = start(script, vec![inner.into(), other.into()]).spawn().expect("there is a shell");

        let mut text = String::new();
        out.read_to_string(&mut text).expect("it is text");
        wait(&child);
        let lines: Vec<String> = text.lines().map(|line| line.replace('\t', "")).collect();
        let none = "0000000000000000";
        // Who has no right to drop the bounding set keeps it, and can gain nothing from it.
        assert_eq!(lines[0], "/dev/null");
        assert!(
            lines.contains(&format!("CapEff:{none}")) && lines.contains(&format!("CapPrm:{none}")),
            "{text}"
        );
        assert!(lines.contains(&"NoNewPrivs:1".to_owned()), "{text}");
    }

    #[test]
    fn a_child_has_all_its_descriptors_or_is_not_started() {
        let descriptors = |count| {
            let opened = || std::fs::File::open("/dev/null").expect("it is there").into();
            std::iter::repeat_with(opened).take(count).collect()
        };

        let child = start("test -e /proc/self/fd/10", descriptors(DESCRIPTORS_MAX)).spawn();
        assert_eq!(wait(&child.expect("there is a shell")), 0);
        let refused = start("true", descriptors(DESCRIPTORS_MAX + 1)).spawn();
        assert_eq!(refused.expect_err("one too many").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_child_ends_with_the_thread_that_started_it() {
        let child =
            std::thread::spawn(|| start("exec sleep 600", Vec::new()).spawn().expect("there is a shell"));
        let child = child.join().expect("it does not panic");

        wait(&child);
    }

    fn start(script: &str, descriptors: Vec<OwnedFd>) -> Start {
        let arguments = vec!["-c".into(), script.into()];
        Start { program: "/bin/sh".into(), arguments, descriptors, user: None }
    }

    /// Returns its status, as `waitpid` has it.
    fn wait(child: &Child) -> libc::c_int {
        let mut wanted = libc::pollfd { fd: child.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the array of one lives during the call.
        assert_eq!(unsafe { libc::poll(&raw mut wanted, 1, 60_000) }, 1);
        let mut status = -1;
        // SAFETY: the kernel writes an int.
        unsafe { libc::waitpid(child.pid as libc::pid_t, &raw mut status, 0) };
        status
    }
}
