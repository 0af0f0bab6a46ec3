//! The sockets of the load: many datagrams by one system call, on each of them.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

#[allow(dead_code, reason = "a load takes all that it handles from sockets")]
#[path = "../../src/udp/batch.rs"]
mod batch;

use batch::{BATCH_MAX, ReceiveBatch};

/// How long the load waits for news before it looks at its exchanges.
const WAIT: Duration = Duration::from_millis(50);
/// What the kernel may keep for a socket that is not read at once.
const BUFFER_BYTES: usize = 8 << 20;

/// Messages that wait to be sent, in their order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<(usize, SocketAddr, Range<usize>)>,
}

impl Outbox {
    /// Adds what `write` appends as one message; returns it.
    pub fn push(&mut self, socket: usize, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.messages.push((socket, to, start..self.bytes.len()));
        &self.bytes[start..]
    }
}

/// All sockets of the load.
#[derive(Default)]
pub struct Sockets {
    sockets: Vec<UdpSocket>,
    epoll: Option<std::os::fd::OwnedFd>,
    batch: Option<ReceiveBatch>,
}

impl Sockets {
    /// Opens one more; returns its number.
    pub fn open(&mut self, address: SocketAddr) -> Result<usize, Box<dyn Error>> {
        let socket = UdpSocket::bind(address).map_err(|error| format!("{address}: {error}"))?;
        socket.set_nonblocking(true)?;
        // The kernel may give less; then the number of exchanges under way is the limit.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES);
        let number = self.sockets.len();
        let epoll = match &self.epoll {
            Some(epoll) => epoll,
            None => self.epoll.insert(epoll::create(epoll::CreateFlags::CLOEXEC)?),
        };
        epoll::add(epoll, &socket, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        self.sockets.push(socket);
        Ok(number)
    }

    /// Sends all that waits, each run of one socket by as few calls as possible.
    pub fn send(&mut self, out: &mut Outbox) -> io::Result<()> {
        for run in out.messages.chunk_by(|one, other| one.0 == other.0) {
            let socket = self.sockets[run[0].0].as_fd();
            let mut rest = run;
            while !rest.is_empty() {
                let next = rest.iter().map(|(_, to, range)| (*to, &out.bytes[range.clone()]));
                match batch::send(socket, next) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        out.messages.clear();
        out.bytes.clear();
        Ok(())
    }

    /// Waits a moment for news and gives each message with its socket.
    pub fn receive(
        &mut self,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let batch = self.batch.get_or_insert_with(ReceiveBatch::new);
        let mut ready = Vec::with_capacity(BATCH_MAX);
        let wait = Timespec { tv_sec: 0, tv_nsec: WAIT.as_nanos() as i64 };
        let epoll = self.epoll.as_ref().ok_or("no socket is open")?;
        epoll::wait(epoll, rustix::buffer::spare_capacity(&mut ready), Some(&wait))?;
        for event in ready {
            let number = event.data.u64() as usize;
            let count = match batch.receive(self.sockets[number].as_fd()) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(format!("the server does not answer: {error}").into()),
            };
            for datagram in 0..count {
                if let Some((bytes, _)) = batch.datagram(datagram) {
                    take(number, bytes)?;
                }
            }
        }
        Ok(())
    }
}
