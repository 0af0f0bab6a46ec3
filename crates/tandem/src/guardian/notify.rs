//! What systemd, or whoever started the guardian, is told: without ever waiting for it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use clock::Instant;

/// The supervisor's socket, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog_every: Option<Duration>,
    next: Instant,
}

impl Notifier {
    /// Connects to the socket that the environment names.
    pub fn from_environment(now: Instant) -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let opened = connect(&name.to_string_lossy());
            opened.inspect_err(|error| tracing::warn!(%error, "the supervisor can not be told")).ok()
        });
        // A third of what is allowed, so that a lost message is no death.
        let watchdog_every = sd_notify::watchdog_enabled().map(|allowed| allowed / 3);
        Self { socket, watchdog_every, next: now }
    }

    /// Tells something. What finds no room is lost.
    pub fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }

    /// When [`Self::turn`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        if self.watchdog_every.is_some() { self.next } else { Instant::FAR }
    }

    /// Tells, when it is time for it, that the loop turns.
    pub fn turn(&mut self, now: Instant) {
        if let Some(every) = self.watchdog_every
            && self.next <= now
        {
            self.next = now + every;
            self.tell("WATCHDOG=1");
        }
    }
}

fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_does_not_read_holds_nobody_up() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let path = place.path().join("notify");
        let _supervisor = UnixDatagram::bind(&path).expect("it can be bound");
        let socket = connect(&path.to_string_lossy()).expect("it is there");
        let mut notifier = Notifier {
            socket: Some(socket),
            watchdog_every: Some(Duration::from_nanos(1)),
            next: Instant::START,
        };

        for turn in 0..100_000 {
            notifier.turn(Instant::from_nanos(turn));
        }
    }
}
