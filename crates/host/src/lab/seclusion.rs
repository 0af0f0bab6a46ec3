//! A process that leaves the machine's networks and mounts.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process could not leave.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Unsecluded {
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    pub reason: io::Error,
}

/// What leaving takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The namespaces.
    Namespaces,
    /// To be root in the new user namespace.
    Rights,
    /// A place for files that ends with the process.
    Place,
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Namespaces => "the kernel gives no namespaces",
            Self::Rights => "the kernel gives no rights in a user namespace",
            Self::Place => "the kernel mounts no temporary place for files",
        })
    }
}

/// Leaves this process alone: in a network without interfaces, with mounts of its own, and with an empty `place` that is in
/// memory and ends with the process. Whoever may not do so is root in a user namespace. To be called before the first
/// thread is started.
pub fn seclude(place: &Path) -> Result<(), Unsecluded> {
    leave()?;
    let at = |reason| Unsecluded { step: Step::Place, reason };
    let place = CString::new(place.as_os_str().as_bytes()).map_err(|error| at(error.into()))?;
    // What is mounted here is not to be seen outside.
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, c"").map_err(at)?;
    mount(c"tmpfs", &place, libc::MS_NOSUID | libc::MS_NODEV, c"mode=0700").map_err(at)
}

fn leave() -> Result<(), Unsecluded> {
    let at = |step| move |reason| Unsecluded { step, reason };
    // SAFETY: plain calls.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let own = libc::CLONE_NEWNET | libc::CLONE_NEWNS;
    if user == 0 {
        match unshare(own) {
            // Root of a container, say, who may do less than root.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            result => return result.map_err(at(Step::Namespaces)),
        }
    }
    unshare(libc::CLONE_NEWUSER | own).map_err(at(Step::Namespaces))?;
    let write = |name: &str, text: String| std::fs::write(format!("/proc/self/{name}"), text);
    write("setgroups", "deny".to_owned())
        .and_then(|()| write("uid_map", format!("0 {user} 1")))
        .and_then(|()| write("gid_map", format!("0 {group} 1")))
        .map_err(at(Step::Rights))
}

fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no file descriptor and no memory is touched.
    if unsafe { libc::unshare(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mount(
    what: &std::ffi::CStr,
    place: &std::ffi::CStr,
    flags: libc::c_ulong,
    options: &std::ffi::CStr,
) -> io::Result<()> {
    // SAFETY: all texts live during the call.
    let mounted =
        unsafe { libc::mount(what.as_ptr(), place.as_ptr(), what.as_ptr(), flags, options.as_ptr().cast()) };
    if mounted < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
