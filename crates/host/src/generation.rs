//! Whether this machine is a copy of what it was: a virtual machine that was restored from a snapshot, or cloned.
//!
//! The hypervisor changes the machine's generation id then, and the kernel tells of it in an event (Linux 6.10 and later,
//! with CONFIG_VMGENID). Where it does not, a jump of the wall clock is all there is to see.

use std::io;

use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};

/// The kernel's own events; udev's are in another group.
const KERNEL_GROUP: u32 = 1;

/// What the event has among its lines.
const MARK: &[u8] = b"NEW_VMGENID=1";

/// Events that are read before others have their turn.
const TURN_MAX: usize = 64;

/// Hears of a changed generation id.
pub struct Generation {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Generation {
    /// Begins to listen.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT)?;
        socket.bind(&SocketAddr::new(0, KERNEL_GROUP))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(8 * 1024) })
    }

    /// Whether the id has changed since the last call. Events that were lost are no reason to think so: there are many of
    /// other kinds.
    pub fn has_changed(&mut self) -> bool {
        let mut has_changed = false;
        for _ in 0..TURN_MAX {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => has_changed |= is_change(&self.buffer),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => break,
            }
        }
        has_changed
    }
}

fn is_change(event: &[u8]) -> bool {
    event.split(|byte| *byte == 0).any(|line| line == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_of_a_restored_machine_is_known_among_others() {
        assert!(is_change(b"change@/devices/VMGENCTR:00\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=900\0"));
        assert!(!is_change(b"change@/devices/x\0NOT_NEW_VMGENID=1\0NEW_VMGENID=10\0"));
        assert!(!is_change(b""));
    }
}
