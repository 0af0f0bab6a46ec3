//! The sockets of the rtpengines that relay media in the place of our own workers.
//!
//! A shard leaves its questions in an inbox, under its lock, so that those of a session stay in their order. One task gives
//! them to [`media::ng::Client`], which says what is sent when; each rtpengine has a connected socket and a task that
//! listens to it, so that the kernel keeps strangers out and tells when nobody listens there. Answers go to the event loop
//! of the shard that asked.
//!
//! The commands leave by the host's own address and not by a virtual one: the gate does not stop them. So the lease is
//! looked at here, before each of them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Instant;
use engine::{QuestionToken, Shard};
use lease::{Entry, Tenure};
use media::ng::{Answer, Ask, BYTES_MAX, Client, NODES_MAX, Node, NodeView, Output};
use rustix::net::SendFlags;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::clocks;
use crate::mandate::Mandate;

/// Questions that wait for the task: it is awake or there are no threads any more.
const WAITING_MAX: usize = 65_536;
/// With the ends of calls, for which nobody waits: they find room longer.
const WAITING_WITH_ENDS_MAX: usize = 2 * WAITING_MAX;

/// Which question of which shard.
pub(crate) type Waiter = (u16, QuestionToken);

/// Takes an answer to the shard that asked.
pub(crate) type TellAnswer = Arc<dyn Fn(Answer<Waiter>) + Send + Sync>;

/// All rtpengines.
pub(crate) struct Rtpengines {
    inbox: Mutex<Inbox>,
    /// Something is in the inbox, or the deadline or the lease may be another.
    wake: Notify,
    desk: Mutex<Desk>,
    /// Whether there is any; what is asked often.
    is_on: AtomicBool,
    mandate: Arc<Mandate>,
    tell: TellAnswer,
}

/// What shards have left.
#[derive(Default)]
struct Inbox {
    asks: Vec<Ask<Waiter>>,
    /// Ends of calls for which there was no room, by whom they were for.
    unsaid: BTreeMap<SocketAddr, u64>,
}

struct Desk {
    client: Client<Waiter>,
    tenure: Tenure,
    sockets: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    listening: Vec<JoinHandle<()>>,
}

/// What came to the client.
enum Input<'a> {
    Asks(Vec<Ask<Waiter>>),
    Datagram(SocketAddr, &'a [u8]),
    Unreachable(SocketAddr),
    Time,
}

impl Rtpengines {
    /// Knows none. `seed` is another one at each start of each node.
    pub(crate) fn new(seed: u64, mandate: Arc<Mandate>, tell: TellAnswer) -> Arc<Self> {
        let desk = Desk {
            client: Client::new(seed),
            tenure: Tenure::default(),
            sockets: BTreeMap::new(),
            listening: Vec::new(),
        };
        Arc::new(Self {
            inbox: Mutex::default(),
            wake: Notify::new(),
            desk: Mutex::new(desk),
            is_on: AtomicBool::new(false),
            mandate,
            tell,
        })
    }

    /// Asks these from here on.
    pub(crate) fn reload(self: &Arc<Self>, runtime: &Handle, nodes: &[Node]) {
        let _within = runtime.enter();
        let mut desk = self.desk();
        desk.client.reload(clocks::instant(), nodes);
        for (address, error) in self.open_missing(&mut desk) {
            warn!(rtpengine = %address, %error, "no way to an rtpengine: it is tried again with each ping");
        }
        let has_some = desk.client.addresses().next().is_some();
        let is_first = has_some && !self.is_on.swap(true, Ordering::Relaxed);
        if is_first {
            desk.listening.push(runtime.spawn(run(Arc::clone(self))));
        }
        drop(desk);
        self.wake.notify_one();
    }

    /// Opens the sockets that are not there; gives those that can not be. To be called within the runtime.
    fn open_missing(self: &Arc<Self>, desk: &mut Desk) -> Vec<(SocketAddr, io::Error)> {
        let mut failed = Vec::new();
        let addresses: Vec<SocketAddr> = desk.client.addresses().collect();
        for address in addresses {
            if desk.sockets.contains_key(&address) {
                continue;
            }
            match open(address) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    desk.sockets.insert(address, Arc::clone(&socket));
                    desk.listening.push(tokio::spawn(listen(Arc::clone(self), address, socket)));
                }
                Err(error) => failed.push((address, error)),
            }
        }
        failed
    }

    /// Takes what a shard asks. To be called with its lock.
    pub(crate) fn take_questions(&self, number: u16, shard: &mut Shard) {
        let mut questions = Vec::new();
        shard.take_relay_questions(&mut questions);
        if questions.is_empty() {
            return;
        }
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        for Ask { waiter, session, node, may_move, command } in questions {
            let ask = Ask { waiter: waiter.map(|token| (number, token)), session, node, may_move, command };
            let room = if ask.waiter.is_some() { WAITING_MAX } else { WAITING_WITH_ENDS_MAX };
            if inbox.asks.len() >= room || !self.is_on.load(Ordering::Relaxed) {
                if let Some(waiter) = ask.waiter {
                    (self.tell)(Answer { waiter, node: None, result: Err(media::ng::Failure::Busy) });
                } else if let Some(node) = ask.node.filter(|_| inbox.unsaid.len() < NODES_MAX) {
                    *inbox.unsaid.entry(node).or_default() += 1;
                }
                continue;
            }
            inbox.asks.push(ask);
        }
        drop(inbox);
        self.wake.notify_one();
    }

    /// The lease may be another.
    pub(crate) fn look_at_lease(&self) {
        self.wake.notify_one();
    }

    /// How those do that are configured.
    pub(crate) fn view(&self) -> Vec<NodeView> {
        self.desk().client.view()
    }

    /// Ends all that waits for something.
    pub(crate) fn stop(&self) {
        for task in self.desk().listening.drain(..) {
            task.abort();
        }
    }

    /// Gives the client what came and does what it wants. Gives its next deadline; `None`: this node stands by, or it has
    /// none.
    fn step(&self, input: Input<'_>) -> Option<Instant> {
        let mut answers = Vec::new();
        let deadline = {
            let desk = &mut *self.desk();
            let now = clocks::instant();
            let mirror = self.mandate.mirror();
            let Some(lease) = mirror.active(now) else {
                if !desk.tenure.is_standby() {
                    desk.client.stand_by(now);
                    desk.tenure.leave();
                }
                return None;
            };
            if desk.tenure.enter(&lease) != Entry::Same {
                desk.client.stand_by(now);
            }
            let mut out = Vec::new();
            match input {
                Input::Asks(asks) => {
                    asks.into_iter().for_each(|ask| desk.client.handle_ask(now, &lease, ask, &mut out));
                }
                Input::Datagram(from, datagram) => {
                    desk.client.handle_datagram(now, &lease, from, datagram, &mut out);
                }
                Input::Unreachable(node) => desk.client.handle_unreachable(now, &lease, node, &mut out),
                Input::Time => {}
            }
            desk.client.handle_timeout(now, &lease, &mut out);
            // What can not be sent makes the client say more; each of them is gone then, and said so once.
            while !out.is_empty() {
                for output in std::mem::take(&mut out) {
                    if let Some(gone) = desk.carry(output, &mut answers) {
                        desk.client.handle_unreachable(now, &lease, gone, &mut out);
                    }
                }
            }
            desk.client.poll_timeout()
        };
        // Without the lock.
        answers.into_iter().for_each(|answer| (self.tell)(answer));
        deadline
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Does what the client wants; gives whom nothing can be sent to.
    fn carry(&self, output: Output<Waiter>, answers: &mut Vec<Answer<Waiter>>) -> Option<SocketAddr> {
        match output {
            Output::Send { to, datagram } => {
                let Some(socket) = self.sockets.get(&to) else { return Some(to) };
                match rustix::net::send(&**socket, &datagram, SendFlags::DONTWAIT).map_err(io::Error::from) {
                    Ok(_) => {}
                    // There is no room in the socket: it is said again.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        debug!(rtpengine = %to, %error, "a command can not be sent");
                        return is_unreachable(&error).then_some(to);
                    }
                }
            }
            Output::Answer(answer) => answers.push(answer),
            Output::Changed { node, is_up: true } => info!(rtpengine = %node, "the rtpengine is there again"),
            Output::Changed { node, is_up: false } => {
                warn!(rtpengine = %node, "the rtpengine does not answer: new calls go by others until it does");
            }
        }
        None
    }
}

/// Lets the client's time pass and brings it what is asked. Runs for ever.
async fn run(rtpengines: Arc<Rtpengines>) {
    loop {
        // There may be a way now where there was none at the start.
        rtpengines.open_missing(&mut rtpengines.desk());
        let inbox = std::mem::take(&mut *rtpengines.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        let Inbox { asks, unsaid } = inbox;
        for (node, number) in unsaid {
            rtpengines.desk().client.note_unsaid(node, number);
        }
        let deadline = rtpengines.step(Input::Asks(asks));
        match deadline {
            None => rtpengines.wake.notified().await,
            Some(deadline) => {
                let left = deadline.since(clocks::instant());
                // It was either woken or the time has come, and does the same.
                let _ = tokio::time::timeout(left, rtpengines.wake.notified()).await;
            }
        }
    }
}

/// Takes what an rtpengine sends. Runs for ever.
async fn listen(rtpengines: Arc<Rtpengines>, node: SocketAddr, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; BYTES_MAX];
    loop {
        let input = match socket.recv(&mut buffer).await {
            Ok(length) => Input::Datagram(node, &buffer[..length]),
            Err(error) if is_unreachable(&error) => Input::Unreachable(node),
            Err(error) => {
                debug!(rtpengine = %node, %error, "nothing can be received");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Input::Time
            }
        };
        rtpengines.step(input);
        rtpengines.wake.notify_one();
    }
}

/// A socket that hears nobody else.
fn open(node: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match node {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(node)?;
    UdpSocket::from_std(socket)
}

fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}
