//! The standby's side: lets the peer in, applies what it sends, and turns away whom it should not hear.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use replica::{ConnectionNumber, Deframer, Frame, FramingError, ReceiverOutput};
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::calling::{HANDSHAKE_TIME, READ_BYTES};
use crate::peer::{Shared, now, tally};
use crate::role::{Role, Standby};

/// Connections at a time, with those that have not shown the key yet. A peer has one, and for a moment two.
const CONNECTIONS_MAX: usize = 8;

/// The peer reads its answers at once; one that does not is gone.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// After an error of the listening socket, which is mostly a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often an address is tried again.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// Connections that wait to be let in; there is one peer.
const BACKLOG: u32 = 16;

/// Listens as soon as that can be, and lets in who comes.
pub(crate) async fn open_and_run(shared: Arc<Shared>, address: SocketAddr) {
    loop {
        match listen(address) {
            Ok(listener) => {
                shared.troubles.note(address, None);
                return run(shared, listener).await;
            }
            Err(error) => {
                if shared.troubles.note(address, Some(&error)) {
                    tracing::error!(
                        %address,
                        %error,
                        "the other node can not call here: TCP of the cluster's port must be free on this address"
                    );
                }
            }
        }
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}

/// On an address that this host may not have yet.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    match address.is_ipv4() {
        true => sockopt::set_ip_freebind(&socket, true)?,
        false => sockopt::set_ipv6_freebind(&socket, true)?,
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets in who comes.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let place = Arc::clone(&places).try_acquire_owned();
        let (true, Ok(place)) = (is_peer(&shared, from.ip()), place) else {
            tally(&shared.tallies.strangers);
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut changes = shared.changes.subscribe();
            tokio::select! {
                _ = changes.changed() => {}
                () = serve(&shared, stream) => {}
            }
            drop(place);
        });
    }
}

fn is_peer(shared: &Shared, from: IpAddr) -> bool {
    shared.plan.peers.iter().any(|peer| peer.ip() == from.to_canonical())
}

async fn serve(shared: &Arc<Shared>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.identity.server));
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await else {
        tally(&shared.tallies.not_ours);
        return;
    };
    let number = ConnectionNumber(shared.number());
    let mut visit = Visit { shared, number, answers: BytesMut::new() };
    visit.run(stream).await;
}

/// One connection. However it ends, the receiver is told.
struct Visit<'a> {
    shared: &'a Shared,
    number: ConnectionNumber,
    answers: BytesMut,
}

impl Visit<'_> {
    async fn run(&mut self, mut stream: TlsStream<TcpStream>) {
        let mut deframer = Deframer::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // What is silent for too long is ended by the receiver, or was never let in.
            let Ok(read) = timeout(self.patience(), stream.read(&mut buffer)).await else {
                self.with_standby(|standby, now, out| standby.receiver.handle_timeout(now, out));
                return;
            };
            let length = match read {
                Ok(length) if length > 0 => length,
                Ok(_) | Err(_) => return,
            };
            deframer.push(&buffer[..length]);
            let goes_on = self.hear(&mut deframer);
            let answers = self.answers.split();
            if !answers.is_empty() {
                let write = async {
                    stream.write_all(&answers).await?;
                    stream.flush().await
                };
                match timeout(WRITE_TIME, write).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            if !goes_on {
                let _ = timeout(WRITE_TIME, stream.shutdown()).await;
                return;
            }
        }
    }

    /// Hears all whole frames; `false` if the connection is to end.
    fn hear(&mut self, deframer: &mut Deframer) -> bool {
        loop {
            let goes_on = match deframer.next_frame() {
                Ok(Some(frame)) => self.hear_frame(frame),
                Ok(None) => break,
                Err(error) => self.hear_nonsense(error),
            };
            if !goes_on {
                return false;
            }
        }
        self.with_standby(|standby, _, out| standby.receiver.acknowledge(out))
    }

    fn hear_frame(&mut self, frame: Frame) -> bool {
        let number = self.number;
        let is_standby =
            self.with_standby(|standby, now, out| standby.receiver.handle_frame(now, number, frame, out));
        if !is_standby {
            self.turn_away();
        }
        is_standby
    }

    fn hear_nonsense(&mut self, error: FramingError) -> bool {
        let number = self.number;
        self.with_standby(|standby, _, out| standby.receiver.handle_broken(number, error, out));
        false
    }

    /// Lets `act` use the receiver and carries out what it wants; `false` if this connection is to end, or if this node
    /// is no standby.
    fn with_standby(
        &mut self,
        act: impl FnOnce(&mut Standby, clock::Instant, &mut Vec<ReceiverOutput>),
    ) -> bool {
        let mut out = Vec::new();
        let _turn = self.shared.take_turn();
        {
            let mut role = self.shared.lock();
            let Role::Standby(standby) = &mut *role else { return false };
            if standby.closing.remove(&self.number) {
                return false;
            }
            act(standby, now(), &mut out);
        }
        let mut goes_on = true;
        for output in out {
            goes_on &= self.carry_out(output);
        }
        goes_on
    }

    fn carry_out(&mut self, output: ReceiverOutput) -> bool {
        match output {
            ReceiverOutput::Send(to, bytes) if to == self.number => self.answers.extend_from_slice(&bytes),
            // An acknowledgement by a connection that has just been replaced.
            ReceiverOutput::Send(..) => {}
            ReceiverOutput::Apply(apply) => {
                let name = apply.name;
                let place = self.shared.owners.apply(apply);
                if let Role::Standby(standby) = &mut *self.shared.lock() {
                    match place {
                        Some(place) => standby.receiver.placed(name, place),
                        None => standby.receiver.refused(name),
                    }
                }
            }
            ReceiverOutput::Remove(kind, place) => self.shared.owners.remove(kind, place),
            ReceiverOutput::Close(connection, cause) => {
                tracing::info!(?cause, "a connection from the active node is closed");
                if connection == self.number {
                    return false;
                }
                if let Role::Standby(standby) = &mut *self.shared.lock() {
                    standby.close(connection);
                }
            }
        }
        true
    }

    /// The node that calls believes that it is the active one; this one knows better.
    fn turn_away(&mut self) {
        if let Role::Active(active) = &*self.shared.lock() {
            let answer = replica::turn_away(self.shared.me(), active.sender.epoch());
            self.answers.extend_from_slice(&answer);
        }
    }

    fn patience(&self) -> Duration {
        let due = match &*self.shared.lock() {
            Role::Standby(standby) => standby.receiver.poll_timeout(),
            Role::Active(_) | Role::Changing => None,
        };
        due.map_or(HANDSHAKE_TIME, |due| due.since(now())).max(Duration::from_millis(1))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let _turn = self.shared.take_turn();
        if let Role::Standby(standby) = &mut *self.shared.lock() {
            standby.receiver.disconnected(self.number);
            standby.closing.remove(&self.number);
        }
    }
}
