//! What a phone speaks through: one UDP socket, or one TCP connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::message::Message;
use crate::lab::Host;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// The two transports that a phone can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// The word in Via.
    pub fn in_via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// The word in a URI and on the command line of other programs.
    pub fn in_uri(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
    }
}

/// An open socket.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    local: SocketAddr,
    remote: SocketAddr,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp { stream: TcpStream, received: Vec<u8> },
}

impl Wire {
    /// A socket on `host` at `local`, port 0 for any, that speaks to `remote`.
    pub fn open(host: &Host, transport: Transport, local: (IpAddr, u16), remote: SocketAddr) -> Result<Wire> {
        let socket = match transport {
            Transport::Udp => Socket::Udp(host.enter(|| UdpSocket::bind(local))??),
            Transport::Tcp => {
                let connect = || TcpStream::connect_timeout(&remote, Duration::from_secs(3));
                let stream = host.enter(connect)?.context("no TCP connection")?;
                stream.set_nodelay(true)?;
                Socket::Tcp { stream, received: Vec::new() }
            }
        };
        let local = match &socket {
            Socket::Udp(udp) => udp.local_addr()?,
            Socket::Tcp { stream, .. } => stream.local_addr()?,
        };
        Ok(Wire { socket, local, remote })
    }

    /// Where the phone is reached on its own host.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport.
    pub fn transport(&self) -> Transport {
        match self.socket {
            Socket::Udp(_) => Transport::Udp,
            Socket::Tcp { .. } => Transport::Tcp,
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.socket {
            Socket::Udp(udp) => drop(udp.send_to(bytes, self.remote)?),
            Socket::Tcp { stream, .. } => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// The next message, or none by the deadline. What is not SIP (keepalives) is skipped.
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Message>> {
        loop {
            if let Socket::Tcp { received, .. } = &mut self.socket
                && let Some(message) = take_framed(received)
            {
                return Ok(Some(message));
            }
            let Some(bytes) = self.receive_bytes(deadline)? else { return Ok(None) };
            match &mut self.socket {
                Socket::Udp(_) => {
                    if let Some(message) = Message::parse(&bytes) {
                        return Ok(Some(message));
                    }
                }
                Socket::Tcp { received, .. } => received.extend_from_slice(&bytes),
            }
        }
    }

    /// The next bytes as they come, or none by the deadline.
    pub fn receive_bytes(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let length = match &mut self.socket {
            Socket::Udp(udp) => {
                udp.set_read_timeout(Some(left))?;
                udp.recv(&mut buffer)
            }
            Socket::Tcp { stream, .. } => {
                stream.set_read_timeout(Some(left))?;
                let length = stream.read(&mut buffer);
                if matches!(length, Ok(0)) {
                    bail!("the server closed the connection");
                }
                length
            }
        };
        match length {
            Ok(length) => {
                buffer.truncate(length);
                Ok(Some(buffer))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            // A port that nobody listens on answers by ICMP; the server may be about to start.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes the first whole message out of what a stream has brought.
fn take_framed(received: &mut Vec<u8>) -> Option<Message> {
    let blank = received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    received.drain(..blank);
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let length = Message::parse(&received[..head])
        .and_then(|message| message.header("Content-Length")?.parse::<usize>().ok())
        .unwrap_or(0);
    if received.len() < head + length {
        return None;
    }
    let message = Message::parse(&received[..head + length]);
    received.drain(..head + length);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gives_a_message_only_when_its_body_is_whole() {
        let message = Message::request("INFO", "sip:a@b").with_body("text/plain", "four");
        let bytes = [b"\r\n\r\n".to_vec(), message.to_bytes(), message.to_bytes()].concat();
        let mut received = bytes[..bytes.len() - 1].to_vec();

        assert_eq!(take_framed(&mut received).map(|m| m.body), Some("four".to_owned()));
        assert_eq!(take_framed(&mut received), None);
        received.push(bytes[bytes.len() - 1]);
        assert_eq!(take_framed(&mut received).map(|m| m.body), Some("four".to_owned()));
        assert!(received.is_empty());
    }
}
