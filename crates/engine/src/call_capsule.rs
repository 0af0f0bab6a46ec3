//! A call as it goes to the other node: what routing makes of its context, and its transactions.
//!
//! An INVITE that has left is told once, by routing, as what differs from the one that came.
//!
//! A field is added and never given another meaning; what a later version adds is skipped. Listeners are told by transport and
//! address, because their numbers are each node's own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use routing::StoredCall;
use routing::account::Unreadable;
use sip::MethodName;
use transaction::{ClientKey, ClientState, Progress, Repeat, ServerState, StoredClient, StoredServer};
use transport::{ConnectionId, Destination, Flow, ListenerId, Listeners, LocalAddr, RemoteAddr, Transport};

/// The version of the encoding.
pub const FORMAT: u32 = 1;

/// Client transactions of one call: more than all branches of all rounds can have.
const CLIENTS_MAX: usize = 1_024;

/// Such a time is a mistake, and must not overflow a clock.
const LEFT_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A call as another node can go on with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallCapsule {
    /// It says whose shard the call is.
    pub(crate) call_id: Bytes,
    /// What routing knows of it; `None` once only its server transaction is left.
    pub(crate) call: Option<StoredCall>,
    pub(crate) server: (StoredServer, Way),
    pub(crate) clients: Vec<(ClientKey, StoredClient, Way)>,
}

/// Where the messages of a transaction go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    transport: Transport,
    local: LocalAddr,
    remote: RemoteAddr,
    means: Means,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Datagram,
    /// Node, boot and number of the connection, which is that of the node that had the call.
    Connection(u8, u32, u64),
    Connect,
}

#[derive(Clone, PartialEq, Message)]
struct Capsule {
    #[prost(bytes = "bytes", tag = "1")]
    call_id: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    call: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    server: Option<Server>,
    #[prost(message, repeated, tag = "4")]
    clients: Vec<Client>,
}

#[derive(Clone, PartialEq, Message)]
struct Server {
    #[prost(message, optional, tag = "1")]
    way: Option<StoredWay>,
    #[prost(bool, tag = "2")]
    reliable: bool,
    #[prost(uint64, tag = "3")]
    age_us: u64,
    #[prost(uint32, tag = "4")]
    progress: u32,
    #[prost(message, optional, tag = "5")]
    state: Option<State>,
}

#[derive(Clone, PartialEq, Message)]
struct Client {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(message, optional, tag = "2")]
    way: Option<StoredWay>,
    #[prost(bool, tag = "3")]
    reliable: bool,
    #[prost(message, optional, tag = "4")]
    state: Option<State>,
}

/// Of a server or a client transaction: the numbers are below.
#[derive(Clone, PartialEq, Message)]
struct State {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    message: Option<Bytes>,
    #[prost(uint64, tag = "3")]
    left_us: u64,
    #[prost(message, optional, tag = "4")]
    repeat: Option<StoredRepeat>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRepeat {
    #[prost(uint64, tag = "1")]
    after_us: u64,
    #[prost(uint64, tag = "2")]
    interval_us: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWay {
    #[prost(uint32, tag = "1")]
    transport: u32,
    #[prost(message, optional, tag = "2")]
    local: Option<Address>,
    #[prost(message, optional, tag = "3")]
    remote: Option<Address>,
    #[prost(message, optional, tag = "4")]
    connection: Option<Connection>,
    #[prost(bool, tag = "5")]
    connects: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Connection {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(fixed32, tag = "2")]
    boot: u32,
    #[prost(uint64, tag = "3")]
    number: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    /// 4 or 16 of them.
    #[prost(bytes = "bytes", tag = "1")]
    ip: Bytes,
    #[prost(uint32, tag = "2")]
    port: u32,
}

/// The transports by their number; the numbers stay.
const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// How far a request is, by its number; the numbers stay.
const PROGRESSES: [Progress; 3] = [Progress::Arrived, Progress::Forwarded, Progress::Answered];

impl CallCapsule {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let (stored, way) = &self.server;
        let server = Server {
            way: Some(way.write()),
            reliable: stored.reliable,
            age_us: micros(stored.age),
            progress: PROGRESSES.iter().position(|known| *known == stored.progress).unwrap_or(0) as u32,
            state: server_state(&stored.state),
        };
        let capsule = Capsule {
            call_id: self.call_id.clone(),
            call: self.call.as_ref().map(StoredCall::to_bytes),
            server: Some(server),
            clients: self
                .clients
                .iter()
                .map(|(key, stored, way)| Client {
                    key: Bytes::copy_from_slice(&key.as_u128().to_be_bytes()),
                    way: Some(way.write()),
                    reliable: stored.reliable,
                    state: Some(client_state(&stored.state, || self.call.as_ref()?.request_of(*key))),
                })
                .collect(),
        };
        capsule.encode_to_vec().into()
    }

    pub(crate) fn from_bytes(bytes: Bytes) -> Result<Self, Unreadable> {
        let Capsule { call_id, call, server, clients } =
            Capsule::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        let call = call.map(StoredCall::from_bytes).transpose()?;
        let is_of_call = call.as_ref().is_none_or(|call| call.call_id() == call_id);
        let server = read_server(server.ok_or(Unreadable::Malformed)?)?;
        // Nobody would ever answer a request of which only the transaction is known.
        let is_answered = !matches!(server.0.state, ServerState::InviteProceeding { .. });
        if call_id.is_empty()
            || !is_of_call
            || clients.len() > CLIENTS_MAX
            || (call.is_none() && !is_answered)
        {
            return Err(Unreadable::Malformed);
        }
        let clients = clients.into_iter().map(|client| read_client(client, call.as_ref()));
        let clients = clients.collect::<Result<_, _>>()?;
        Ok(Self { call_id, call, server, clients })
    }
}

impl Way {
    /// `None` for a listener that is not there.
    pub(crate) fn of(listeners: &Listeners, to: &Destination) -> Option<Self> {
        let (listener, remote, means) = match *to {
            Destination::Flow(Flow::Datagram { listener, remote }) => (listener, remote, Means::Datagram),
            Destination::Flow(Flow::Connection { id, remote }) => {
                (id.listener, remote, Means::Connection(id.node, id.boot, id.number))
            }
            Destination::Connect { listener, remote } => (listener, remote, Means::Connect),
        };
        let listener = listeners.get(listener)?;
        Some(Self { transport: listener.transport, local: listener.local, remote, means })
    }

    /// The same on this node; `None` for a listener that it does not have.
    pub(crate) fn destination(&self, listeners: &Listeners) -> Option<Destination> {
        let listener: ListenerId = listeners.find(self.transport, self.local)?;
        let remote = self.remote;
        Some(match self.means {
            Means::Datagram => Destination::Flow(Flow::Datagram { listener, remote }),
            Means::Connection(node, boot, number) => Destination::Flow(Flow::Connection {
                id: ConnectionId { node, boot, listener, number },
                remote,
            }),
            Means::Connect => Destination::Connect { listener, remote },
        })
    }

    /// Whether it leads to the same place from another node.
    pub(crate) fn outlives_its_node(&self) -> bool {
        self.means == Means::Datagram
    }

    fn write(&self) -> StoredWay {
        let transport = TRANSPORTS.iter().position(|known| *known == self.transport);
        StoredWay {
            transport: transport.map_or(u32::MAX, |number| number as u32),
            local: Some(address(self.local.0)),
            remote: Some(address(self.remote.0)),
            connection: match self.means {
                Means::Connection(node, boot, number) => Some(Connection { node: node.into(), boot, number }),
                Means::Datagram | Means::Connect => None,
            },
            connects: self.means == Means::Connect,
        }
    }

    fn read(stored: Option<StoredWay>) -> Result<Self, Unreadable> {
        let StoredWay { transport, local, remote, connection, connects } =
            stored.ok_or(Unreadable::Malformed)?;
        let transport = usize::try_from(transport).unwrap_or(usize::MAX);
        let transport = *TRANSPORTS.get(transport).ok_or(Unreadable::UnknownTransport)?;
        let means = match (connection, connects) {
            (Some(Connection { node, boot, number }), false) => {
                Means::Connection(u8::try_from(node).map_err(|_| Unreadable::Malformed)?, boot, number)
            }
            (None, true) => Means::Connect,
            (None, false) => Means::Datagram,
            (Some(_), true) => return Err(Unreadable::Malformed),
        };
        if (means == Means::Datagram) != (transport == Transport::Udp) {
            return Err(Unreadable::Malformed);
        }
        Ok(Self { transport, local: LocalAddr(socket(local)?), remote: RemoteAddr(socket(remote)?), means })
    }
}

fn read_server(server: Server) -> Result<(StoredServer, Way), Unreadable> {
    let progress = usize::try_from(server.progress).unwrap_or(usize::MAX);
    let stored = StoredServer {
        method: MethodName::Invite,
        reliable: server.reliable,
        age: time(server.age_us),
        progress: *PROGRESSES.get(progress).ok_or(Unreadable::Malformed)?,
        state: read_server_state(server.state.ok_or(Unreadable::Malformed)?)?,
    };
    Ok((stored, Way::read(server.way)?))
}

fn read_client(
    client: Client,
    call: Option<&StoredCall>,
) -> Result<(ClientKey, StoredClient, Way), Unreadable> {
    let key: [u8; 16] = client.key[..].try_into().map_err(|_| Unreadable::Malformed)?;
    let key = ClientKey::from_u128(u128::from_be_bytes(key));
    let state = client.state.ok_or(Unreadable::Malformed)?;
    let state = read_client_state(state, || call?.request_of(key))?;
    Ok((key, StoredClient { reliable: client.reliable, state }, Way::read(client.way)?))
}

/// `None` for a request that is no INVITE: no other one belongs to a call.
fn server_state(state: &ServerState) -> Option<State> {
    Some(match state {
        ServerState::InviteProceeding { provisional } => {
            State { number: 1, message: provisional.clone(), ..State::default() }
        }
        ServerState::InviteCompleted { response, repeat, left } => {
            full(2, Some(response.clone()), repeat.as_ref(), *left)
        }
        ServerState::InviteAccepted { left } => {
            State { number: 3, left_us: micros(*left), ..State::default() }
        }
        ServerState::InviteConfirmed { left } => {
            State { number: 4, left_us: micros(*left), ..State::default() }
        }
        ServerState::Trying { .. } | ServerState::Proceeding { .. } | ServerState::Completed { .. } => {
            return None;
        }
    })
}

fn read_server_state(state: State) -> Result<ServerState, Unreadable> {
    let State { number, message, left_us, repeat } = state;
    let (left, repeat) = (time(left_us), repeat.map(read_repeat));
    Ok(match number {
        1 => ServerState::InviteProceeding { provisional: message },
        2 => {
            let response = message.ok_or(Unreadable::Malformed)?;
            ServerState::InviteCompleted { response, repeat, left }
        }
        3 => ServerState::InviteAccepted { left },
        4 => ServerState::InviteConfirmed { left },
        _ => return Err(Unreadable::Malformed),
    })
}

/// `told` is the INVITE as routing tells it.
fn client_state(state: &ClientState, told: impl FnOnce() -> Option<Bytes>) -> State {
    let untold = |request: &Bytes| told().is_none_or(|told| told != *request).then(|| request.clone());
    match state {
        ClientState::InviteCalling { request, repeat, left } => {
            full(1, untold(request), repeat.as_ref(), *left)
        }
        ClientState::InviteProceeding { request } => {
            State { number: 2, message: untold(request), ..State::default() }
        }
        ClientState::InviteCompleted { ack, left } => full(3, Some(ack.clone()), None, *left),
        ClientState::InviteAccepted { left } => {
            State { number: 4, left_us: micros(*left), ..State::default() }
        }
        ClientState::Trying { request, repeat, left } => {
            full(5, Some(request.clone()), repeat.as_ref(), *left)
        }
        ClientState::Proceeding { request, repeat, left } => {
            full(6, Some(request.clone()), repeat.as_ref(), *left)
        }
        ClientState::Completed { left } => State { number: 7, left_us: micros(*left), ..State::default() },
    }
}

fn read_client_state(state: State, told: impl FnOnce() -> Option<Bytes>) -> Result<ClientState, Unreadable> {
    let State { number, message, left_us, repeat } = state;
    let (left, repeat) = (time(left_us), repeat.map(read_repeat));
    let message = if matches!(number, 1 | 2) { message.or_else(told) } else { message };
    let message = message.ok_or(Unreadable::Malformed);
    Ok(match number {
        1 => ClientState::InviteCalling { request: message?, repeat, left },
        2 => ClientState::InviteProceeding { request: message? },
        3 => ClientState::InviteCompleted { ack: message?, left },
        4 => ClientState::InviteAccepted { left },
        5 => ClientState::Trying { request: message?, repeat, left },
        6 => ClientState::Proceeding { request: message?, repeat, left },
        7 => ClientState::Completed { left },
        _ => return Err(Unreadable::Malformed),
    })
}

fn full(number: u32, message: Option<Bytes>, repeat: Option<&Repeat>, left: Duration) -> State {
    let repeat = repeat.map(|Repeat { after, interval }| StoredRepeat {
        after_us: micros(*after),
        interval_us: micros(*interval),
    });
    State { number, message, left_us: micros(left), repeat }
}

fn read_repeat(stored: StoredRepeat) -> Repeat {
    Repeat { after: time(stored.after_us), interval: time(stored.interval_us) }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn time(micros: u64) -> Duration {
    Duration::from_micros(micros).min(LEFT_MAX)
}

fn address(address: SocketAddr) -> Address {
    let ip = match address.ip() {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    Address { ip, port: address.port().into() }
}

fn socket(address: Option<Address>) -> Result<SocketAddr, Unreadable> {
    let Address { ip, port } = address.ok_or(Unreadable::Malformed)?;
    let port = u16::try_from(port).map_err(|_| Unreadable::Malformed)?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(&ip[..]).map_err(|_| Unreadable::Malformed)?.into(),
        16 => <[u8; 16]>::try_from(&ip[..]).map_err(|_| Unreadable::Malformed)?.into(),
        _ => return Err(Unreadable::Malformed),
    };
    Ok(SocketAddr::new(ip, port))
}
