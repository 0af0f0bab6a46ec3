//! What an engine has from its guardian at its start: five descriptors, at numbers that both know.
//!
//! The engine has no right to read the cluster's key, and is started again and again; so the guardian, which has read the
//! key once, hands over what it derived from it, through a pipe that can be read once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel_relay::KernelRelay;
use crate::page::SharedPage;
use crate::pair::EngineEnd;
use crate::segment_pair::SegmentEnd;

/// The engine's end of the [`pair`](crate::pair()).
pub const PAIR_DESCRIPTOR: RawFd = 3;
/// The [`SharedPage`].
pub const PAGE_DESCRIPTOR: RawFd = 4;
/// The pipe with the engine's root key, see [`key_pipe`].
pub const KEY_DESCRIPTOR: RawFd = 5;
/// The engine's [`SegmentEnd`].
pub const SEGMENTS_DESCRIPTOR: RawFd = 6;
/// The map of streams that the kernel sends on, or why there is none: see [`KernelRelay`].
pub const RELAY_DESCRIPTOR: RawFd = 7;

/// Bytes of the engine's root key.
pub const KEY_BYTES: usize = 32;

/// All that an engine inherits.
#[derive(Debug)]
pub struct Inheritance {
    /// The way to the guardian.
    pub pair: EngineEnd,
    /// Where the lease stands.
    pub page: SharedPage,
    /// The root key, derived from the cluster's.
    pub key: Key,
    /// Where the numbers of connections go.
    pub segments: SegmentEnd,
    /// The streams of media that the kernel sends on, or why it sends on none.
    pub relay: Result<KernelRelay, String>,
}

/// A root key's bytes. They do not print.
pub struct Key(pub [u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// A pipe that holds an engine's root key: the end that the engine inherits as [`KEY_DESCRIPTOR`]. Each start wants
/// another one.
pub fn key_pipe(key: &[u8; KEY_BYTES]) -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    // A pipe has room for more than this, so it does not wait for the reader.
    writer.write_all(key)?;
    Ok(reader.into())
}

/// All that the process which serves metrics inherits.
#[derive(Debug)]
pub struct ExporterInheritance {
    /// The way to the guardian.
    pub guardian: UnixDatagram,
    /// Where scrapes come.
    pub listener: TcpListener,
}

impl ExporterInheritance {
    /// Takes what this process has inherited; this works once. Whoever was not started by a guardian has nothing.
    pub fn take() -> io::Result<Self> {
        let [guardian, listener] = take([PAIR_DESCRIPTOR, PAGE_DESCRIPTOR])?;
        Ok(Self { guardian: guardian.into(), listener: listener.into() })
    }
}

/// All that the process which speaks to the witness's server inherits.
#[derive(Debug)]
pub struct RowInheritance {
    /// The way to the guardian.
    pub guardian: UnixDatagram,
}

impl RowInheritance {
    /// Takes what this process has inherited; this works once. Whoever was not started by a guardian has nothing.
    pub fn take() -> io::Result<Self> {
        let [guardian] = take([PAIR_DESCRIPTOR])?;
        Ok(Self { guardian: guardian.into() })
    }
}

impl Inheritance {
    /// Takes what this process has inherited; this works once. Whoever was not started by a guardian has nothing.
    pub fn take() -> io::Result<Self> {
        let [pair, page, key, segments, relay] =
            take([PAIR_DESCRIPTOR, PAGE_DESCRIPTOR, KEY_DESCRIPTOR, SEGMENTS_DESCRIPTOR, RELAY_DESCRIPTOR])?;
        Self::of(pair, page, key, segments, relay)
    }

    fn of(pair: OwnedFd, page: OwnedFd, key: OwnedFd, segments: OwnedFd, relay: OwnedFd) -> io::Result<Self> {
        let pair = EngineEnd::open(pair)?;
        let page = SharedPage::open(page)?;
        let mut bytes = [0; KEY_BYTES];
        File::from(key).read_exact(&mut bytes)?;
        let segments = SegmentEnd::open(segments);
        Ok(Self { pair, page, key: Key(bytes), segments, relay: KernelRelay::open(relay) })
    }
}

fn take<const COUNT: usize>(descriptors: [RawFd; COUNT]) -> io::Result<[OwnedFd; COUNT]> {
    static IS_TAKEN: AtomicBool = AtomicBool::new(false);
    if IS_TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it was taken before"));
    }
    let mut taken = Vec::with_capacity(COUNT);
    for descriptor in descriptors {
        taken.push(inherited(descriptor)?);
    }
    Ok(taken.try_into().expect("there is one for each number"))
}

/// A descriptor that was open when the program began. No child of ours inherits it.
fn inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the command takes an int and only looks at the number.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, `take` asks for each number once, and nothing else in this program uses these numbers: whatever
    // it opens gets others as long as these are taken.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_finds_what_its_guardian_gave() {
        let (guardian, pair) = crate::pair().expect("a pair");
        let (mut shared, page) = SharedPage::create().expect("a page");
        let key = key_pipe(&[7; KEY_BYTES]).expect("a pipe");
        shared.set_lease(crate::SharedLease {
            epoch: 3,
            since: 3,
            deadline: std::time::Duration::from_secs(9),
        });
        guardian.send(crate::Order::Drain).expect("room");

        let inheritance = Inheritance::of(pair, page, key, segments(), no_relay()).expect("all is there");

        assert_eq!(inheritance.key.0, [7; KEY_BYTES]);
        assert_eq!(inheritance.page.lease(), shared.lease());
        assert_eq!(inheritance.pair.receive().expect("a message"), Some(crate::Order::Drain));
        assert_eq!(format!("{:?}", inheritance.key), "Key(..)");
        assert_eq!(inheritance.relay.expect_err("none"), "there is no gate");
    }

    #[test]
    fn a_key_that_is_too_short_is_refused() {
        let (_guardian, pair) = crate::pair().expect("a pair");
        let (_shared, page) = SharedPage::create().expect("a page");
        let (key, mut writer) = io::pipe().expect("a pipe");
        writer.write_all(&[7; KEY_BYTES - 1]).expect("room");
        drop(writer);

        assert!(Inheritance::of(pair, page, key.into(), segments(), no_relay()).is_err());
    }

    fn no_relay() -> OwnedFd {
        crate::reason_pipe("there is no gate").expect("a pipe")
    }

    fn segments() -> OwnedFd {
        let (_guardian, engine) = SegmentEnd::pair().expect("a pair");
        engine.for_child().expect("a descriptor")
    }
}
