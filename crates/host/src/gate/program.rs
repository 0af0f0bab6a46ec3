//! The gate as a program in the kernel.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, ProgramArray};
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, Pod};

use super::{Counts, GateError};
use crate::clock::boot_time;
use crate::interface::Interface;

/// Built from `bpf/gate.c`; the test command builds it again and compares.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/gate.o"));

/// Before every filter that an operator is likely to have.
const PRIORITY: u16 = 1;

const DIRECTIONS: [(&str, TcAttachType); 2] =
    [("gate_out", TcAttachType::Egress), ("gate_in", TcAttachType::Ingress)];

/// What a datagram goes on to that the open gate has let in: `bpf/relay.h`.
const RELAY: &str = "relay";

/// As `struct state` in gate.c.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct State {
    epoch: u64,
    closed: u64,
    deadline: u64,
    admit: u64,
    pass: u64,
    retired: u32,
    heir: [u8; 6],
    own: [u8; 6],
}

// SAFETY: five numbers of eight bytes and sixteen bytes without padding; every pattern of bits is one.
unsafe impl Pod for State {}

// SAFETY: three numbers without padding; every pattern of bits is one.
unsafe impl Pod for Counts {}

pub(super) struct Program {
    program: Ebpf,
    interface: String,
    state: State,
    /// The epoch at whose end frames are passed on.
    passing: u64,
    /// Until when they are, but for the time in which they are let in.
    passes_until: u64,
    /// Why the relay's program does not hang behind the gate, if it does not.
    no_relay: Option<String>,
}

impl Program {
    /// Loads it, closed, and attaches it in both directions. Nothing but [`Self::remove`] and [`detach`] takes it away,
    /// neither a drop nor the end of this process.
    pub(super) fn load(interface: &Interface, addresses: &[IpAddr]) -> Result<Self, GateError> {
        let name = interface.name.clone();
        let refused = |reason: &dyn std::fmt::Display| GateError::Program {
            interface: name.clone(),
            reason: reason.to_string(),
        };
        let mut program = Ebpf::load(OBJECT).map_err(|error| refused(&chain(&error)))?;
        {
            let map = program.map_mut("ADDRESSES").ok_or_else(|| refused(&"it has no map ADDRESSES"))?;
            let mut map: HashMap<_, [u8; 16], u8> =
                HashMap::try_from(map).map_err(|error| refused(&chain(&error)))?;
            for address in addresses {
                map.insert(octets(*address), 1, 0).map_err(|error| refused(&chain(&error)))?;
            }
        }
        let state = State { own: interface.mac, ..State::default() };
        let mut this = Self {
            program,
            interface: interface.name.clone(),
            state,
            passing: 0,
            passes_until: 0,
            no_relay: None,
        };
        this.write()?;
        // Both before anything of a predecessor is touched: the verifier takes its time, and it may refuse.
        for (name, _) in DIRECTIONS {
            this.direction(name)?.load().map_err(|error| refused(&chain(&error)))?;
        }
        // It fails where the queue is there already.
        let _ = tc::qdisc_add_clsact(&interface.name);
        for (name, direction) in DIRECTIONS {
            let program = this.direction(name)?;
            detach_one(&interface.name, name, direction);
            // Not by a link, which would end with this process: the gate must outlive its guardian.
            let options = NlOptions { priority: PRIORITY, handle: TcHandle::new(0, 1), classid: None };
            let attached = program
                .attach_with_options(&interface.name, direction, TcAttachOptions::Netlink(options))
                .and_then(|id| program.take_link(id))
                .map_err(|error| refused(&chain(&error)))?;
            // Dropped it would detach: an error or a panic would open the gate while the addresses are here.
            std::mem::forget(attached);
        }
        // Without it media take the longer way.
        this.no_relay = this.begin_relay().err();
        Ok(this)
    }

    /// The map of streams that the kernel sends on, or why it sends on none.
    pub(super) fn relay_map(&self) -> Result<OwnedFd, String> {
        if let Some(reason) = &self.no_relay {
            return Err(reason.clone());
        }
        let Some(Map::HashMap(map)) = self.program.map("STREAMS") else {
            return Err("the gate's program has no map of streams".to_owned());
        };
        map.fd().as_fd().try_clone_to_owned().map_err(|error| error.to_string())
    }

    /// The kernel takes it away with the last descriptor of the map that holds it, so it ends with this process.
    fn begin_relay(&mut self) -> Result<(), String> {
        let relay = self.direction(RELAY).map_err(|error| error.to_string())?;
        relay.load().map_err(|error| chain(&error))?;
        let relay = relay.fd().and_then(|program| Ok(program.try_clone()?)).map_err(|error| chain(&error))?;
        let map = self.program.map_mut("NEXT").ok_or("the gate's program has no map of what is next")?;
        let mut next = ProgramArray::try_from(map).map_err(|error| chain(&error))?;
        next.set(0, &relay, 0).map_err(|error| chain(&error))
    }

    pub(super) fn open(&mut self, epoch: u64, deadline: Duration) -> Result<(), GateError> {
        (self.state.epoch, self.state.deadline) = (epoch, nanoseconds(deadline));
        if epoch > self.passing {
            // The service is back, or was never given.
            (self.state.pass, self.passes_until) = (0, 0);
        }
        if self.state.admit != 0 {
            // The program may read while this is written: it is open before it lets in no more.
            self.write()?;
            self.state.admit = 0;
        }
        self.write()
    }

    pub(super) fn admit(&mut self, until: Duration) -> Result<(), GateError> {
        self.state.admit = nanoseconds(until);
        self.write()?;
        // Two gates that pass on to each other would do so for ever.
        self.state.pass = 0;
        self.write()
    }

    pub(super) fn turn_away(&mut self) -> Result<(), GateError> {
        self.state.pass = self.passes_until;
        self.write()?;
        self.state.admit = 0;
        self.write()
    }

    pub(super) fn pass_on(&mut self, heir: [u8; 6], until: Duration) -> Result<(), GateError> {
        // To whom is there before it is begun.
        (self.state.heir, self.state.pass) = (heir, 0);
        self.write()?;
        (self.passes_until, self.passing) = (nanoseconds(until), self.state.epoch);
        self.state.pass = self.passes_until;
        self.write()
    }

    pub(super) fn close(&mut self, epoch: u64) -> Result<(), GateError> {
        self.state.closed = self.state.closed.max(epoch);
        self.write()
    }

    pub(super) fn counts(&self) -> Option<Counts> {
        let map: Array<_, Counts> = Array::try_from(self.program.map("COUNTS")?).ok()?;
        map.get(&0, 0).ok()
    }

    /// What is passed on is so until its time is over, also when this process has ended: then the program does nothing.
    pub(super) fn remove(mut self) {
        self.state.retired = 1;
        if self.state.pass <= nanoseconds(boot_time()) || self.write().is_err() {
            detach(&self.interface);
        }
    }

    fn direction(&mut self, name: &str) -> Result<&mut SchedClassifier, GateError> {
        let interface = &self.interface;
        let refused = |reason| GateError::Program { interface: interface.clone(), reason };
        let program =
            self.program.program_mut(name).ok_or_else(|| refused("it lacks a direction".to_owned()))?;
        program.try_into().map_err(|error| refused(chain(&error)))
    }

    fn write(&mut self) -> Result<(), GateError> {
        let refused = |reason: String| GateError::Program { interface: self.interface.clone(), reason };
        let map = self.program.map_mut("STATE").ok_or_else(|| refused("it has no map STATE".to_owned()))?;
        let mut map: Array<_, State> = Array::try_from(map).map_err(|error| refused(chain(&error)))?;
        map.set(0, self.state, 0).map_err(|error| refused(chain(&error)))
    }
}

/// Takes away what this or a dead guardian has attached.
pub(super) fn detach(interface: &str) {
    for (name, direction) in DIRECTIONS {
        detach_one(interface, name, direction);
    }
}

fn detach_one(interface: &str, name: &str, direction: TcAttachType) {
    // Nothing attached is what is wanted.
    let _ = tc::qdisc_detach_program(interface, direction, name);
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An error with all that it stems from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
