//! The relay's fast path, as an engine has it: which streams the kernel sends on by itself, and what it has counted of them.
//!
//! The program is the guardian's and hangs behind its gate (`bpf/relay.h`). The engine, which has no rights, has inherited the
//! descriptor of one map and writes it; kernels before 5.19 let it not, where programs are for the privileged alone. What
//! it can do by that it can do by its sockets too.

use std::fs::{File, read_to_string};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::Netlink;

/// Clock rates that an entry has room for. As `RATES` in relay.h.
pub const RATES_MAX: usize = 8;

/// What no payload type is.
const NO_PAYLOAD: u8 = 0xff;
/// Bytes of a reason, at most.
const REASON_MAX: u64 = 512;

// The commands of bpf(2), which are for ever.
const LOOK_UP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const NEXT_KEY: libc::c_int = 4;
const LOOK_UP_AND_DELETE: libc::c_int = 21;

/// Both ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes to.
    pub to: SocketAddr,
}

/// How datagrams with certain ends go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The ends with which they leave, of the same family.
    pub leaves: Ends,
    /// The type of service with which they leave.
    pub tos: u8,
    /// Clock rates in hertz by payload type; what has no room has no jitter.
    pub rates: [(u8, u32); RATES_MAX],
}

/// What was heard of a stream. As `struct heard` in relay.h, and in the terms of RFC 3550 §A.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets.
    pub packets: u64,
    /// Bytes of datagrams.
    pub octets: u64,
    /// Packets that earlier sources have lost.
    pub lost_before: u64,
    /// When the last one came, by `CLOCK_BOOTTIME` in nanoseconds; 0: none.
    pub at: u64,
    /// Packets of this source.
    pub received: u64,
    /// How often its number went round.
    pub cycles: u64,
    /// The source.
    pub ssrc: u32,
    /// Of the last packet, if `has_transit`.
    pub transit: u32,
    /// In sixteenths of a unit of the time stamp.
    pub jitter: u32,
    /// The clock rate of the jitter; 0: none.
    pub rate: u32,
    /// 0x10000 and the number that would confirm a new beginning; 0: none.
    pub restart: u32,
    /// The first number.
    pub base: u16,
    /// The highest one.
    pub highest: u16,
    /// Whether there is a source: 0 or 1.
    pub has_source: u8,
    /// Whether there is a transit: 0 or 1.
    pub has_transit: u8,
    /// The payload type of the transit.
    pub transit_payload: u8,
    /// Nothing.
    pub unused: [u8; 5],
}

/// As `struct ends`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key {
    to: [u8; 16],
    from: [u8; 16],
    to_port: [u8; 2],
    from_port: [u8; 2],
}

/// As `struct way`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Entry {
    leaves: Key,
    tos: u8,
    unused: [u8; 3],
    rates: [u32; RATES_MAX],
    payloads: [u8; RATES_MAX],
    heard: Heard,
}

/// What bpf(2) takes for one element of a map.
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The streams that the kernel sends on.
#[derive(Debug)]
pub struct KernelRelay {
    map: OwnedFd,
}

impl KernelRelay {
    /// What an engine has inherited: the map, or a pipe with the reason why there is none. `Err` says it.
    pub fn open(inherited: OwnedFd) -> Result<Self, String> {
        let Some(sizes) = sizes_of(inherited.as_raw_fd()) else {
            let mut reason = String::new();
            let read = File::from(inherited).take(REASON_MAX).read_to_string(&mut reason);
            return Err(read.map_or_else(|error| error.to_string(), |_| reason));
        };
        if sizes != (size_of::<Key>(), size_of::<Entry>()) {
            return Err("the guardian is of another version".to_owned());
        }
        let this = Self { map: inherited };
        match this.look(LOOK_UP, &Key::default()) {
            Ok(_) => Ok(this),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err("this kernel lets only the privileged write a program's map; from 5.19 on it does"
                    .to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has the kernel send on what has these ends, going on with what was heard until now.
    pub fn set(&self, came: Ends, way: &Way, heard: Heard) -> io::Result<()> {
        let mut entry = Entry {
            leaves: Key::of(way.leaves),
            tos: way.tos,
            payloads: way.rates.map(|(payload, rate)| if rate == 0 { NO_PAYLOAD } else { payload }),
            rates: way.rates.map(|(_, rate)| rate),
            heard,
            ..Entry::default()
        };
        self.call(UPDATE, &mut Key::of(came), (&raw mut entry).cast())
    }

    /// What was heard of what has these ends; `None`: the kernel has no such stream.
    pub fn heard(&self, came: Ends) -> io::Result<Option<Heard>> {
        self.look(LOOK_UP, &Key::of(came))
    }

    /// As [`Self::heard`], and the kernel sends on nothing more of it.
    pub fn take_back(&self, came: Ends) -> io::Result<Option<Heard>> {
        self.look(LOOK_UP_AND_DELETE, &Key::of(came))
    }

    /// Takes back all that an engine of before has left.
    pub fn clear(&self) -> io::Result<()> {
        let mut key = Key::default();
        loop {
            let mut next = Key::default();
            // Of a key that is not there the next is the first.
            match self.call(NEXT_KEY, &mut key, (&raw mut next).cast()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            }
            match self.call(DELETE, &mut next, std::ptr::null_mut()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }

    fn look(&self, command: libc::c_int, key: &Key) -> io::Result<Option<Heard>> {
        let (mut key, mut entry) = (*key, Entry::default());
        match self.call(command, &mut key, (&raw mut entry).cast()) {
            Ok(()) => Ok(Some(entry.heard)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `value` leads to as much as the command reads or writes: an entry, a key, or nothing.
    fn call(&self, command: libc::c_int, key: &mut Key, value: *mut libc::c_void) -> io::Result<()> {
        let element = Element {
            map: self.map.as_raw_fd() as u32,
            unused: 0,
            key: (&raw mut *key) as u64,
            value: value as u64,
            flags: 0,
        };
        // SAFETY: the element lives during the call, and so do key and value, whose lengths are those of the map.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw const element, size_of::<Element>()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Key {
    fn of(Ends { from, to }: Ends) -> Self {
        Self {
            to: octets(to.ip()),
            from: octets(from.ip()),
            to_port: to.port().to_be_bytes(),
            from_port: from.port().to_be_bytes(),
        }
    }
}

/// What an engine inherits in place of the map: why there is none.
pub fn reason_pipe(reason: &str) -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    let bytes = reason.as_bytes();
    // A pipe has room for this, so it does not wait for the reader.
    writer.write_all(&bytes[..bytes.len().min(REASON_MAX as usize)])?;
    Ok(reader.into())
}

/// By which interface packets go from one address to another; `None`: by none, or they stay on this host.
///
/// The kernel's answer for what is sent now: it counts rules, tables and, where there are several ways, what it would choose.
pub fn interface_towards(from: IpAddr, to: IpAddr) -> io::Result<Option<u32>> {
    let mut question = RouteMessage::default();
    let (family, bits) = if to.is_ipv4() { (AddressFamily::Inet, 32) } else { (AddressFamily::Inet6, 128) };
    question.header.address_family = family;
    question.header.destination_prefix_length = bits;
    question.header.source_prefix_length = bits;
    question.attributes = vec![RouteAttribute::Destination(to.into()), RouteAttribute::Source(from.into())];
    let answers = Netlink::open()?.get(RouteNetlinkMessage::GetRoute(question))?;
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        }
        _ => None,
    }))
}

/// The sizes of a map's keys and values; `None`: it is no map.
fn sizes_of(descriptor: RawFd) -> Option<(usize, usize)> {
    let text = read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    Some((number("key_size")?, number("value_size")?))
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
