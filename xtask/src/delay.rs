//! A way to a TCP server by which each answer takes as long as the scenario says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::lab::Host;

/// How often it is looked whether it is over, and whether an answer may go.
const TURN: Duration = Duration::from_millis(10);

/// A host by which a server is reached.
#[derive(Debug)]
pub struct Delay {
    address: Ipv4Addr,
    milliseconds: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    /// Takes connections at this port and carries them to the server, without delay.
    pub fn start(host: &Host, port: u16, server: SocketAddr) -> Result<Delay> {
        let listener = host.enter(|| TcpListener::bind((host.v4, port)))??;
        listener.set_nonblocking(true)?;
        let (milliseconds, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (delay, until, from) = (milliseconds.clone(), is_over.clone(), host.clone());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => carry(&from, client, server, &delay),
                    Err(_) => std::thread::sleep(TURN),
                }
            }
        });
        Ok(Delay { address: host.v4, milliseconds, is_over, thread: Some(thread) })
    }

    /// Where it takes connections.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// So long each answer takes from here on.
    pub fn set(&self, delay: Duration) {
        self.milliseconds.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Both ways of a connection, each until one side ends it.
fn carry(host: &Host, client: TcpStream, server: SocketAddr, delay: &Arc<AtomicU64>) {
    // Whoever is not there is not there for the client either.
    let Ok(Ok(server)) = host.enter(|| TcpStream::connect(server)) else { return };
    let both = |stream: &TcpStream| stream.set_nonblocking(false).and_then(|()| stream.try_clone());
    let (Ok(to_client), Ok(to_server)) = (both(&client), both(&server)) else { return };
    let (none, delay) = (Arc::new(AtomicU64::new(0)), delay.clone());
    std::thread::spawn(move || pass(client, to_server, &none));
    std::thread::spawn(move || pass(server, to_client, &delay));
}

fn pass(mut from: TcpStream, mut to: TcpStream, delay: &AtomicU64) {
    let mut buffer = [0; 16_384];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                // One that waits goes on as soon as the delay is less.
                let came = Instant::now();
                while came.elapsed() < Duration::from_millis(delay.load(Ordering::Relaxed)) {
                    std::thread::sleep(TURN);
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    for stream in [from, to] {
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
