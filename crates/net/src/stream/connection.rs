//! One stream connection: a task that reads messages from it and writes to it what its queue holds.
//!
//! Reading and writing go on side by side, so a peer that does not read is still heard. The table of
//! connections ends the task by closing the queue; the peer ends it by closing the connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use routing::Report;
use routing::bans::{Deed, Judgement};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tracing::{debug, trace};
use transport::{
    ConnectionId, Flow, Frame, Framer, FramingError, LocalAddr, PING, PONG, Progress, RemoteAddr, Source,
    Transport,
};

use super::queue::SendQueue;
use super::stranding::{Began, Followed};
use crate::clocks;
use crate::edge::Edge;
use crate::mandate::{Leave, Ownership};
use crate::socket;
use crate::tally::Tally;

/// A peer that has not answered by then is taken for dead. A request that waits can still go elsewhere.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(4);
/// A peer that takes nothing for so long is taken for dead.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// What is left to be written when the peer has ended its side.
const FINISH_TIME_MAX: Duration = Duration::from_secs(2);
/// A connection that is handed over is cut as soon as the lease is gone. If that does not come it ends by itself.
const HANDED_OVER_TIME_MAX: Duration = Duration::from_secs(2);
/// When the kernel asks a silent peer whether it is there, how often, and how many times.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES_MAX: u32 = 4;
/// What one read takes: some messages. It stands on the stack, so a silent connection has no buffer.
const READ_BYTES_MAX: usize = 16 * 1_024;

/// What a connection's task needs to know.
pub(super) struct Link {
    pub(super) edge: Arc<Edge>,
    pub(super) id: ConnectionId,
    pub(super) remote: RemoteAddr,
    pub(super) ownership: Ownership,
    pub(super) queue: Arc<SendQueue>,
    /// Whether a ping was written whose answer the reader does not expect yet.
    has_pinged: AtomicBool,
}

impl Link {
    pub(super) fn new(
        edge: Arc<Edge>,
        id: ConnectionId,
        remote: RemoteAddr,
        ownership: Ownership,
        queue: Arc<SendQueue>,
    ) -> Self {
        Self { edge, id, remote, ownership, queue, has_pinged: AtomicBool::new(false) }
    }
}

/// Opens a connection from a listener's address and serves it.
pub(super) async fn open(link: Link, local: LocalAddr) {
    let connecting = async {
        if link.edge.mandate.may_send(link.ownership) == Leave::Never {
            link.edge.tallies.add_many(Tally::Withheld, link.queue.cut());
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        socket::open_tcp_from(local)?.connect(link.remote.0).await
    };
    let connecting = async {
        tokio::select! {
            connected = connecting => connected,
            // The attempt is given up; what the kernel would still send of it meets the gate.
            () = link.queue.is_cut() => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    };
    match timeout(CONNECT_TIME_MAX, connecting).await {
        Ok(Ok(stream)) => {
            link.edge.streams.established(clocks::instant(), link.id);
            serve(link, stream, Began::Opened).await;
        }
        failed => {
            let reason =
                failed.map_or_else(|_| "no answer".to_owned(), |refused| format!("{:?}", refused.err()));
            debug!(remote = %link.remote, reason, "connection not opened");
            link.edge.tallies.add(Tally::ConnectionFailed);
            link.edge.streams.ended(&link);
        }
    }
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(link: Link, mut stream: TcpStream, began: Began) {
    if let Err(error) = set_options(&stream) {
        // The peer is gone already: the first read says so.
        debug!(remote = %link.remote, %error, "connection without options");
    }
    let followed = Followed::begin(&link, &stream, began);
    let (reading, writing) = stream.split();
    let mut writing = Box::pin(write(&link, followed.as_ref(), writing));
    let both = async {
        tokio::select! {
            () = read(&link, followed.as_ref(), reading) => {
                link.queue.finish();
                // Too late is as good as written: the peer does not read.
                let _ = timeout(FINISH_TIME_MAX, &mut writing).await;
            }
            () = &mut writing => {
                // The peer has the end of what was written. What it sends in answer is the other node's to hear.
                if link.queue.ended() {
                    let _ = timeout(HANDED_OVER_TIME_MAX, link.queue.is_cut()).await;
                }
            }
        }
    };
    let is_cut = tokio::select! {
        // First: no word of the other two is to leave then.
        biased;
        () = link.queue.is_cut() => true,
        () = both => false,
    };
    drop(writing);
    if is_cut || link.edge.mandate.may_send(link.ownership) == Leave::Never {
        cut(&stream);
    }
    drop(followed);
    drop(stream);
    link.edge.streams.ended(&link);
}

/// Lets a connection end at once: the kernel keeps nothing of it and repeats nothing, so that it answers nobody when the
/// address is here again. The one segment that it sends meets the gate.
pub(super) fn cut(stream: &TcpStream) {
    // It fails only for what is no connection any more.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes =
        TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES_MAX);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(WRITE_TIME_MAX))
}

async fn read(link: &Link, followed: Option<&Followed>, reading: ReadHalf<'_>) {
    let source =
        Source { flow: Flow::Connection { id: link.id, remote: link.remote }, transport: Transport::Tcp };
    let mut framer = Framer::new();
    loop {
        if reading.readable().await.is_err() {
            return;
        }
        if link.has_pinged.swap(false, Ordering::Relaxed) {
            framer.expect_pong();
        }
        let now = clocks::instant();
        match read_some(&reading, &mut framer, now) {
            Ok(0) => return,
            Ok(bytes) => {
                if let Some(followed) = followed {
                    followed.carried(bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                trace!(remote = %link.remote, %error, "connection lost");
                return;
            }
        }
        let mut messages = Vec::new();
        let framed = take_frames(link, &mut framer, &mut messages);
        if let Some(followed) = followed {
            messages.iter().for_each(|message| followed.carried_message(message));
        }
        link.edge.streams.received(now, link.id, Progress::of(framer.partial_since()));
        if !messages.is_empty()
            && link.edge.take_messages(source, link.ownership, &messages) == Judgement::Banned
        {
            return;
        }
        if let Err(error) = framed {
            link.edge.learn(clocks::now(), &mut vec![Report::of(source.flow, Deed::Malformed)]);
            debug!(remote = %link.remote, ?error, "connection brings no SIP");
            link.edge.tallies.add(Tally::ConnectionBroken);
            return;
        }
    }
}

fn read_some(reading: &ReadHalf<'_>, framer: &mut Framer, now: Instant) -> io::Result<usize> {
    let mut room = [0; READ_BYTES_MAX];
    let length = reading.try_read(&mut room)?;
    framer.push(now, &room[..length]);
    Ok(length)
}

/// Takes all whole frames. Pings are answered here, behind the answers to what came before them.
fn take_frames(link: &Link, framer: &mut Framer, messages: &mut Vec<Bytes>) -> Result<(), FramingError> {
    loop {
        match framer.next() {
            Ok(Some(Frame::Message(message))) => messages.push(message),
            // RFC 5626 §4.4.1: a single line end answers a double one.
            Ok(Some(Frame::Ping)) => {
                link.edge.tallies.add(Tally::KeepaliveReceived);
                // A full queue: the peer does not read its pongs either.
                let _ = link.queue.push(Bytes::from_static(PONG), None);
            }
            Ok(Some(Frame::Pong)) => {}
            Ok(None) => return Ok(()),
            Err(error) => {
                // A request of an unknown length is answered by its shard, and then the connection ends.
                if let FramingError::Unframable { head, .. } = &error {
                    messages.push(head.clone());
                }
                return Err(error);
            }
        }
    }
}

async fn write(link: &Link, followed: Option<&Followed>, mut writing: WriteHalf<'_>) {
    while let Some(message) = link.queue.next().await {
        // What waited until the lease was over does not leave.
        let leave = link.edge.mandate.may_send(link.ownership);
        if leave == Leave::Never {
            link.edge.tallies.add_many(Tally::Withheld, link.queue.cut());
            return;
        }
        // Before it is written, so that the answer can not be read before it is expected.
        if message == PING {
            link.has_pinged.store(true, Ordering::Relaxed);
        }
        match timeout(WRITE_TIME_MAX, writing.write_all(&message)).await {
            Ok(Ok(())) => {
                link.edge.mandate.sent(leave, std::iter::once(&message[..]));
                link.queue.written();
                if let Some(followed) = followed {
                    followed.carried(message.len());
                    followed.carried_message(&message);
                }
                link.edge.streams.sent(clocks::instant(), link.id);
            }
            Ok(Err(_)) | Err(_) => return,
        }
    }
    if link.edge.mandate.may_send(link.ownership) == Leave::Never {
        return;
    }
    // The peer may still read what was written; if it is gone there is nobody to tell.
    let _ = writing.shutdown().await;
}
