//! The active node's side: calls the peer by each path in turn, again and again, and lets its sender speak.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use replica::Deframer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::peer::{Shared, now, tally};
use crate::role::Role;

/// A path on which no connection comes about in this time is given up for this turn.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// The handshake, on a path that has a connection.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(3);

/// Between two turns over all paths: the first pause, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

const NOT_OURS: &str = "who answers there does not have the cluster's key, or speaks no TLS";

/// Bytes that are read at a time.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Calls whenever this node is active.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    loop {
        let is_active = matches!(&*shared.lock(), Role::Active(_));
        let change = async {
            // The sender of the changes lives as long as `shared`.
            let _ = changes.changed().await;
        };
        if is_active {
            tokio::select! {
                () = change => {}
                () = call(&shared) => {}
            }
        } else {
            // Nobody is called: what was wrong with a path may be over.
            for &path in &shared.plan.peers {
                shared.troubles.note(path, None);
            }
            change.await;
        }
    }
}

async fn call(shared: &Arc<Shared>) {
    let mut pause = PAUSE_FIRST;
    loop {
        for (place, &path) in shared.plan.peers.iter().enumerate() {
            let from = shared.plan.listen.get(place).map(SocketAddr::ip);
            if converse_by(shared, from, path).await {
                pause = PAUSE_FIRST;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// From the own address of the path: the peer lets in no other one of this host.
async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Whether the peer let this node in.
async fn converse_by(shared: &Arc<Shared>, from: Option<IpAddr>, path: SocketAddr) -> bool {
    tally(&shared.tallies.called);
    let stream = match timeout(CONNECT_TIME, connect(from, path)).await {
        Ok(Ok(stream)) => stream,
        failed => {
            tally(&shared.tallies.unreached);
            match failed {
                Ok(Err(error)) => shared.troubles.note(path, Some(&error)),
                _ => shared.troubles.note(path, Some(&"it does not answer")),
            };
            return false;
        }
    };
    // Each capsule is waited for.
    let _ = stream.set_nodelay(true);
    let connector = TlsConnector::from(Arc::clone(&shared.identity.client));
    // The address is no name that would be checked: the key is.
    let handshake = connector.connect(path.ip().into(), stream);
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, handshake).await else {
        tally(&shared.tallies.not_ours);
        if shared.troubles.note(path, Some(&NOT_OURS)) {
            tracing::warn!(%path, "{NOT_OURS}");
        }
        return false;
    };
    shared.troubles.note(path, None);
    let mut conversation = Conversation { shared, number: shared.number(), was_let_in: false };
    conversation.begin();
    conversation.run(stream).await;
    conversation.was_let_in
}

/// One connection. However it ends, the sender is told.
struct Conversation<'a> {
    shared: &'a Shared,
    number: u64,
    was_let_in: bool,
}

impl Conversation<'_> {
    fn begin(&self) {
        {
            let mut role = self.shared.lock();
            let Role::Active(active) = &mut *role else { return };
            active.outbox.open(self.number);
            active.wanted.clear();
        }
        self.shared.with_sender(|sender, now, out| sender.connected(now, out));
    }

    async fn run(&mut self, stream: TlsStream<TcpStream>) {
        let (read, write) = tokio::io::split(stream);
        let (shared, number) = (self.shared, self.number);
        tokio::select! {
            () = self.hear(read) => {}
            () = speak(shared, number, write) => {}
            () = keep_time(shared) => {}
        }
    }

    async fn hear(&mut self, mut read: ReadHalf<TlsStream<TcpStream>>) {
        let mut deframer = Deframer::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = match read.read(&mut buffer).await {
                Ok(length) if length > 0 => length,
                Ok(_) | Err(_) => return,
            };
            deframer.push(&buffer[..length]);
            loop {
                match deframer.next_frame() {
                    Ok(Some(frame)) => {
                        self.shared.with_sender(|sender, now, out| sender.handle_frame(now, frame, out));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.shared.with_sender(|sender, _, out| sender.handle_broken(error, out));
                        return;
                    }
                }
                if !self.is_there() {
                    return;
                }
            }
        }
    }

    /// Whether the connection is still the sender's.
    fn is_there(&mut self) -> bool {
        let role = self.shared.lock();
        let Role::Active(active) = &*role else { return false };
        self.was_let_in |= active.sender.is_open();
        active.outbox.connection == Some(self.number)
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        let mut is_ours = false;
        if let Role::Active(active) = &mut *self.shared.lock() {
            is_ours = active.outbox.connection == Some(self.number);
            if is_ours {
                active.outbox.close();
            }
        }
        if is_ours {
            self.shared.with_sender(|sender, _, out| sender.disconnected(out));
        }
    }
}

/// Writes what there is, and has owners asked in between.
async fn speak(shared: &Shared, number: u64, mut write: WriteHalf<TlsStream<TcpStream>>) {
    loop {
        let taken = {
            let mut role = shared.lock();
            let Role::Active(active) = &mut *role else { return };
            let wanted = std::mem::take(&mut active.wanted);
            active.outbox.take(number).map(|bytes| (bytes, wanted))
        };
        let Some((bytes, wanted)) = taken else {
            let _ = timeout(Duration::from_millis(100), write.shutdown()).await;
            return;
        };
        let has_none = bytes.is_empty() && wanted.is_empty();
        if !bytes.is_empty() && (write.write_all(&bytes).await.is_err() || write.flush().await.is_err()) {
            return;
        }
        if !wanted.is_empty() {
            let answers = shared.owners.fetch(wanted);
            shared.with_sender(|sender, now, out| sender.fetched(now, answers, out));
        }
        if has_none {
            shared.work.notified().await;
        }
    }
}

/// Lets the sender's time pass.
async fn keep_time(shared: &Shared) {
    loop {
        // Who puts something between the look and the store wakes this task, whatever it is for.
        shared.armed.store(u64::MAX, Ordering::SeqCst);
        let due = match &*shared.lock() {
            Role::Active(active) => active.sender.poll_timeout(),
            Role::Standby(_) | Role::Changing => return,
        };
        let due = due.map_or(u64::MAX, clock::Instant::as_nanos);
        shared.armed.store(due, Ordering::SeqCst);
        let left = Duration::from_nanos(due.saturating_sub(now().as_nanos()));
        tokio::select! {
            () = tokio::time::sleep(left) => {
                shared.with_sender(|sender, now, out| sender.handle_timeout(now, out));
            }
            () = shared.earlier.notified() => {}
        }
    }
}
