//! The socket of the observer: it has every frame that comes in by a cable, in the order in which the switch takes them.
//!
//! It is one packet socket for all cables, so its queue is that order. A filter in the kernel takes only what comes in by
//! a cable (not what leaves by another, nor what the bridge gives to the host) and may speak for a watched address.

use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::Mac;
use crate::process;

/// All protocols, as `socket` wants it.
const EVERYTHING: u16 = 3;
/// Frames are small; what is behind this says nothing about who speaks.
const FRAME_BYTES_MAX: usize = 192;
/// A second of the busiest scenario has some hundred frames.
const QUEUE_BYTES: usize = 8 << 20;
/// How long a read waits, so that the end is seen.
const WAIT: Duration = Duration::from_millis(20);

/// Instructions of the classic packet filter.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where the filter finds what is not in the frame: the packet's type, and the interface.
const PACKET_TYPE: u32 = -0x1000_i32 as u32 + 4;
const INTERFACE: u32 = -0x1000_i32 as u32 + 8;
/// The type of what leaves.
const OUTGOING: u32 = 4;

/// The open socket.
#[derive(Debug)]
pub struct Ear {
    socket: Socket,
}

impl Ear {
    /// Listens at these interfaces for frames that may speak for these addresses.
    pub fn open(ports: &[u32], watched: &[IpAddr]) -> Result<Ear> {
        let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("a packet socket")?;
        socket.attach_filter(&filter(ports, watched)?)?;
        // Only root of the machine may go beyond its limit; the default is enough for what is not too long asleep.
        let _ = set_socket_recv_buffer_size_force(&socket, QUEUE_BYTES);
        socket.set_nonblocking(true)?;
        let ear = Ear { socket };
        // What came in before the filter was there.
        while ear.take(&mut [0; FRAME_BYTES_MAX])?.is_some() {}
        ear.socket.set_nonblocking(false)?;
        ear.socket.set_read_timeout(Some(WAIT))?;
        Ok(ear)
    }

    /// The next frame, as sender, protocol and payload; `None` when none has come for a moment.
    pub fn next<'b>(&self, buffer: &'b mut [u8; FRAME_BYTES_MAX]) -> Result<Option<(Mac, u16, &'b [u8])>> {
        let Some(length) = self.take(buffer)? else { return Ok(None) };
        let Some((head, payload)) = buffer[..length].split_at_checked(14) else { return Ok(None) };
        let mac = Mac([head[6], head[7], head[8], head[9], head[10], head[11]]);
        Ok(Some((mac, u16::from_be_bytes([head[12], head[13]]), payload)))
    }

    fn take(&self, buffer: &mut [u8; FRAME_BYTES_MAX]) -> Result<Option<usize>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Room for one frame.
pub fn buffer() -> [u8; FRAME_BYTES_MAX] {
    [0; FRAME_BYTES_MAX]
}

/// Fails if the kernel had to drop a frame because it was not read in time.
pub fn check_nothing_was_lost() -> Result<()> {
    let text = process::output(Command::new("ss").args(["--packet", "--memory", "--no-header"]))?;
    let words = text.split(['(', ')', ',', '\n', ' ']);
    let lost: Vec<u64> = words.filter_map(|word| word.strip_prefix('d')?.parse().ok()).collect();
    ensure!(!lost.is_empty(), "`ss` does not say how many frames a socket has lost: {text}");
    ensure!(lost.iter().all(|count| *count == 0), "the observer was too slow to see everything: {text}");
    Ok(())
}

fn filter(ports: &[u32], watched: &[IpAddr]) -> Result<Vec<SockFilter>> {
    let watched: Vec<u32> = watched
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(u32::from(*address)),
            IpAddr::V6(_) => None,
        })
        .collect();
    // In this order: type, interface, protocol, source, and at the end what to do: drop, accept.
    let protocol = 3 + ports.len() + 1;
    let source = protocol + 4;
    let drop = source + 1 + watched.len();
    let accept = drop + 1;
    let mut program: Vec<SockFilter> = Vec::new();
    let jump = |program: &mut Vec<SockFilter>, value: u32, yes: usize, no: usize| -> Result<()> {
        let from = program.len() + 1;
        let step = |to: usize| u8::try_from(to - from).context("too many cables or addresses for a filter");
        program.push(SockFilter::new(JUMP_EQUAL, step(yes)?, step(no)?, value));
        Ok(())
    };
    let load = |code, offset| SockFilter::new(code, 0, 0, offset);
    program.push(load(LOAD_WORD, PACKET_TYPE));
    jump(&mut program, OUTGOING, drop, 2)?;
    program.push(load(LOAD_WORD, INTERFACE));
    for port in ports {
        let next = program.len() + 1;
        jump(&mut program, *port, protocol, next)?;
    }
    program.push(load(RETURN, 0));
    program.push(load(LOAD_HALF, 12));
    jump(&mut program, 0x0806, accept, protocol + 2)?;
    jump(&mut program, 0x86dd, accept, protocol + 3)?;
    jump(&mut program, 0x0800, source, drop)?;
    program.push(load(LOAD_WORD, 14 + 12));
    for address in watched {
        let next = program.len() + 1;
        jump(&mut program, address, accept, next)?;
    }
    program.push(load(RETURN, 0));
    program.push(load(RETURN, FRAME_BYTES_MAX as u32));
    Ok(program)
}
