//! A socket of a phone, and the thread that reads it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sip::Message;

/// How often time passes for who speaks: as exact as a phone has to be.
const TICK: Duration = Duration::from_millis(10);

/// A larger datagram is none of these phones'.
const DATAGRAM_BYTES_MAX: usize = 8 * 1024;

/// Who speaks SIP.
pub trait Speaks: Send + 'static {
    /// Takes a message.
    fn handle(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>);
    /// Lets time pass.
    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>);
}

/// Somebody who speaks, with its socket.
#[derive(Debug)]
pub struct Wire<T> {
    speaker: Arc<Mutex<T>>,
    is_over: Arc<AtomicBool>,
}

impl<T: Speaks> Wire<T> {
    /// Lets somebody speak to the server by a socket.
    pub fn start(socket: UdpSocket, server: SocketAddr, speaker: T) -> io::Result<Self> {
        socket.set_read_timeout(Some(TICK))?;
        let speaker = Arc::new(Mutex::new(speaker));
        let is_over = Arc::new(AtomicBool::new(false));
        let (inner, until) = (speaker.clone(), is_over.clone());
        std::thread::Builder::new()
            .name("phone".to_owned())
            .spawn(move || serve(&socket, server, &inner, &until))?;
        Ok(Self { speaker, is_over })
    }

    /// Who speaks, between two messages.
    pub fn speaker(&self) -> MutexGuard<'_, T> {
        lock(&self.speaker)
    }
}

impl<T> Drop for Wire<T> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn serve<T: Speaks>(socket: &UdpSocket, server: SocketAddr, speaker: &Mutex<T>, until: &AtomicBool) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let mut out = Vec::new();
    while !until.load(Ordering::Relaxed) {
        // Silence, or an ICMP error of a moment when nobody has the address.
        let received = socket.recv_from(&mut buffer).ok().filter(|(_, from)| *from == server);
        let now = Instant::now();
        {
            let mut speaker = lock(speaker);
            if let Some((length, _)) = received
                && let Ok(message) = Message::parse(&buffer[..length])
            {
                speaker.handle(now, &message, &mut out);
            }
            speaker.handle_timeout(now, &mut out);
        }
        for bytes in out.drain(..) {
            // No neighbour has the address: it is as lost as on a real network.
            let _ = socket.send_to(&bytes, server);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
