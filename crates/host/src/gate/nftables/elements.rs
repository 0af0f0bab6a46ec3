//! Timed elements of sets, written to the kernel without `nft`: their time begins when they are written, so little must lie
//! between reading the clock and that.
//!
//! One batch of nfnetlink is carried out whole or not at all (`linux/netfilter/nfnetlink.h`, `nf_tables.h`). Numbers are in
//! network order, but for those of a message's own header.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const FAMILY_NETDEV: u8 = 5;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const DATA_VALUE: u16 = 1;
const NESTED: u16 = 1 << 15;

/// `struct nlmsghdr`, and what nfnetlink puts behind it.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// Room for one datagram of answers: each message of a batch may have one, and an error quotes the message.
const BUFFER_BYTES: usize = 16 * 1024;

/// A socket to the kernel's nftables.
pub(super) struct Elements {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Changes that are made together.
pub(super) struct Batch {
    table: &'static str,
    first: u32,
    sequence: u32,
    /// How many of the messages are answered.
    answered: usize,
    bytes: Vec<u8>,
}

impl Elements {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Changes of the sets of a table in the family `netdev`.
    pub(super) fn batch(&self, table: &'static str) -> Batch {
        let mut batch =
            Batch { table, first: self.sequence, sequence: self.sequence, answered: 0, bytes: Vec::new() };
        batch.message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, |_| {});
        batch
    }

    /// Carries it out and waits until that is done.
    pub(super) fn write(&mut self, mut batch: Batch) -> io::Result<()> {
        batch.message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, |_| {});
        self.sequence = batch.sequence;
        self.socket.send(&batch.bytes, 0)?;
        let mut left = batch.answered;
        while left > 0 {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for (sequence, code) in answers(&self.buffer)? {
                // An answer to a batch of before, which was given up.
                if sequence.wrapping_sub(batch.first) > batch.sequence.wrapping_sub(batch.first) {
                    continue;
                }
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code));
                }
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// The sequence number and the error's negative number, 0 for none, of each answer in a datagram.
fn answers(datagram: &[u8]) -> io::Result<Vec<(u32, i32)>> {
    let (mut rest, mut found) = (datagram, Vec::new());
    while !rest.is_empty() {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let word = |at: usize| rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let length = u32::from_ne_bytes(word(0).ok_or_else(broken)?) as usize;
        let kind = u32::from_ne_bytes(word(4).ok_or_else(broken)?) as u16;
        if kind == NLMSG_ERROR {
            let sequence = u32::from_ne_bytes(word(8).ok_or_else(broken)?);
            found.push((sequence, i32::from_ne_bytes(word(HEADER).ok_or_else(broken)?)));
        }
        if length < HEADER || length > rest.len() {
            return Err(broken());
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Ok(found)
}

impl Batch {
    /// Takes all elements out of a set.
    pub(super) fn flush(&mut self, set: &str) {
        self.change(DELETE_ELEMENTS, 0, set, |_| {});
    }

    /// Puts an element in, for as long; no longer than its key is the set's type.
    pub(super) fn add(&mut self, set: &str, key: &[u8], time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.change(NEW_ELEMENTS, NLM_F_CREATE, set, |bytes| {
            attribute(bytes, LIST_ELEMENTS | NESTED, |bytes| {
                attribute(bytes, LIST_ELEMENT | NESTED, |bytes| {
                    attribute(bytes, ELEMENT_KEY | NESTED, |bytes| {
                        attribute(bytes, DATA_VALUE, |bytes| bytes.extend_from_slice(key));
                    });
                    attribute(bytes, ELEMENT_TIMEOUT, |bytes| {
                        bytes.extend_from_slice(&milliseconds.to_be_bytes())
                    });
                });
            });
        });
    }

    fn change(&mut self, kind: u16, flags: u16, set: &str, more: impl FnOnce(&mut Vec<u8>)) {
        let table = self.table;
        self.answered += 1;
        self.message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, FAMILY_NETDEV, 0, |bytes| {
            attribute(bytes, LIST_TABLE, |bytes| text(bytes, table));
            attribute(bytes, LIST_SET, |bytes| text(bytes, set));
            more(bytes);
        });
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let [high, low] = resource.to_be_bytes();
        let behind: [u8; FAMILY_HEADER] = [family, 0, high, low];
        self.bytes.extend_from_slice(&behind);
        write(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    write(bytes);
    let length = (bytes.len() - start) as u16;
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        let whole: Vec<u8> = [36u32.to_ne_bytes(), u32::from(NLMSG_ERROR).to_ne_bytes(), 7u32.to_ne_bytes()]
            .concat()
            .into_iter()
            .chain([0; 4])
            .chain((-2i32).to_ne_bytes())
            .chain([0; 16])
            .collect();

        assert_eq!(answers(&whole).expect("a whole answer"), [(7, -2)]);
        for length in 1..whole.len() {
            assert!(answers(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
