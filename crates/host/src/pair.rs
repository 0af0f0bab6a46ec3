//! The pair of sockets between guardian and engine: what the one orders and the other reports.
//!
//! Each message is one small datagram of a fixed size. Neither side waits for the other: what finds no room is an error,
//! and so is whatever is no message. The lease goes by the [`SharedPage`](crate::SharedPage) and never by here: a message
//! may be late. Either side learns from the end of the pair that the other is dead.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A mark, the kind of message, room to align, and two numbers.
const MESSAGE_BYTES: usize = 24;

/// The first byte: both ends are of one program, so it tells rubbish alone and grows with the messages.
const MARK: u8 = 0xE1;

/// What the guardian wants of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look at the page now: it says that the service is held under this epoch, and until when.
    Active(u64),
    /// Look at the page now: it says that the service is held no longer.
    Standby,
    /// Finish what is in hand: a planned hand-over. [`Report::Drained`] answers it.
    Drain,
    /// Read the configuration again. [`Report::Reloaded`] answers it.
    Reload,
    /// End.
    Stop,
}

/// What the engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// All sockets are bound and all state is restored.
    Serving,
    /// How much of the active node's state is here, from 0 to 100.
    Ready(u8),
    /// [`Order::Drain`] is done: nothing more is sent.
    Drained,
    /// The first SIP response has left by a virtual address under an epoch.
    Answered {
        /// Which.
        epoch: u64,
        /// When, by `CLOCK_BOOTTIME`.
        at: Duration,
    },
    /// [`Order::Reload`] is done.
    Reloaded(Reloaded),
    /// So many registrations are here.
    Bindings(u64),
    /// How often since the engine's start something was answered that no other node held.
    Degraded {
        /// Why: a place in a list that both processes have.
        cause: u8,
        /// How often for this cause.
        count: u64,
    },
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The configuration is in force.
    Taken,
    /// It has mistakes, and nothing was changed. The engine's log says which.
    Refused,
}

/// Why nothing was sent or received.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The other process has ended.
    #[error("the other process has ended")]
    Ended,
    /// The other process takes nothing.
    #[error("the other process does not read")]
    Full,
    /// What came is no message.
    #[error("what came is no message ({bytes} bytes)")]
    Garbage {
        /// How long it is, as far as it was read.
        bytes: usize,
    },
    /// The kernel refused.
    #[error("the pair of sockets fails: {0}")]
    Refused(#[from] io::Error),
}

/// The guardian's end.
#[derive(Debug)]
pub struct GuardianEnd(OwnedFd);

/// The engine's end.
#[derive(Debug)]
pub struct EngineEnd(OwnedFd);

/// Makes a pair: the guardian's end, and the descriptor that its engine inherits. Both close when another program is
/// started, unless who starts it says otherwise.
pub fn pair() -> io::Result<(GuardianEnd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors.
    let made = unsafe {
        libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
            ends.as_mut_ptr(),
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given them, and nobody else knows of them.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    Ok((GuardianEnd(ours), theirs))
}

impl GuardianEnd {
    /// Sends an order.
    pub fn send(&self, order: Order) -> Result<(), PairError> {
        send(self.as_fd(), order.write())
    }

    /// The next report; `None`: there is none for now.
    pub fn receive(&self) -> Result<Option<Report>, PairError> {
        receive(self.as_fd(), Report::read)
    }
}

impl EngineEnd {
    /// The end that was inherited. What is no such socket is refused.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let mut kind: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option is an int; the kernel writes at most `length` bytes, which is its size.
        let asked = unsafe {
            libc::getsockopt(
                descriptor.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TYPE,
                (&raw mut kind).cast(),
                &raw mut length,
            )
        };
        if asked < 0 {
            return Err(io::Error::last_os_error());
        }
        if kind != libc::SOCK_SEQPACKET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the descriptor is another kind of socket",
            ));
        }
        Ok(Self(descriptor))
    }

    /// Sends a report.
    pub fn send(&self, report: Report) -> Result<(), PairError> {
        send(self.as_fd(), report.write())
    }

    /// The next order; `None`: there is none for now.
    pub fn receive(&self) -> Result<Option<Order>, PairError> {
        receive(self.as_fd(), Order::read)
    }
}

impl AsFd for GuardianEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for EngineEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message as it travels: its kind and two numbers.
type Numbers = (u8, u64, u64);

impl Order {
    fn write(self) -> Numbers {
        match self {
            Self::Active(epoch) => (1, epoch, 0),
            Self::Standby => (2, 0, 0),
            Self::Drain => (3, 0, 0),
            Self::Reload => (4, 0, 0),
            Self::Stop => (5, 0, 0),
        }
    }

    fn read(numbers: Numbers) -> Option<Self> {
        match numbers {
            (1, epoch, 0) => Some(Self::Active(epoch)),
            (2, 0, 0) => Some(Self::Standby),
            (3, 0, 0) => Some(Self::Drain),
            (4, 0, 0) => Some(Self::Reload),
            (5, 0, 0) => Some(Self::Stop),
            _ => None,
        }
    }
}

impl Report {
    fn write(self) -> Numbers {
        match self {
            Self::Serving => (129, 0, 0),
            Self::Ready(percent) => (130, u64::from(percent), 0),
            Self::Drained => (131, 0, 0),
            Self::Answered { epoch, at } => (132, epoch, u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)),
            Self::Reloaded(Reloaded::Taken) => (133, 1, 0),
            Self::Reloaded(Reloaded::Refused) => (133, 0, 0),
            Self::Bindings(number) => (134, number, 0),
            Self::Degraded { cause, count } => (135, u64::from(cause), count),
        }
    }

    fn read(numbers: Numbers) -> Option<Self> {
        match numbers {
            (129, 0, 0) => Some(Self::Serving),
            (130, percent @ 0..=100, 0) => Some(Self::Ready(percent as u8)),
            (131, 0, 0) => Some(Self::Drained),
            (132, epoch, at) => Some(Self::Answered { epoch, at: Duration::from_nanos(at) }),
            (133, 1, 0) => Some(Self::Reloaded(Reloaded::Taken)),
            (133, 0, 0) => Some(Self::Reloaded(Reloaded::Refused)),
            (134, number, 0) => Some(Self::Bindings(number)),
            (135, cause @ 0..=255, count) => Some(Self::Degraded { cause: cause as u8, count }),
            _ => None,
        }
    }
}

fn send(socket: BorrowedFd<'_>, (kind, first, second): Numbers) -> Result<(), PairError> {
    let mut message = [0; MESSAGE_BYTES];
    message[..2].copy_from_slice(&[MARK, kind]);
    message[8..16].copy_from_slice(&first.to_le_bytes());
    message[16..].copy_from_slice(&second.to_le_bytes());
    loop {
        // SAFETY: the buffer lives during the call, and its length is its own.
        let sent = unsafe {
            libc::send(
                socket.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        match failure(io::Error::last_os_error()) {
            Failure::Again => {}
            Failure::NotNow => return Err(PairError::Full),
            Failure::Of(error) => return Err(error),
        }
    }
}

fn receive<M>(
    socket: BorrowedFd<'_>,
    read: impl FnOnce(Numbers) -> Option<M>,
) -> Result<Option<M>, PairError> {
    // One byte more than a message, so that a longer one shows.
    let mut room = [0; MESSAGE_BYTES + 1];
    let length = loop {
        // SAFETY: the buffer lives during the call, and its length is its own.
        let received = unsafe {
            libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
        };
        match usize::try_from(received) {
            Ok(0) => return Err(PairError::Ended),
            Ok(length) => break length,
            Err(_) => match failure(io::Error::last_os_error()) {
                Failure::Again => {}
                Failure::NotNow => return Ok(None),
                Failure::Of(error) => return Err(error),
            },
        }
    };
    let number = |from: usize| room[from..from + 8].try_into().map(u64::from_le_bytes);
    let numbers = match (length, room[0], &room[2..8]) {
        (MESSAGE_BYTES, MARK, [0, 0, 0, 0, 0, 0]) => {
            number(8).and_then(|first| Ok((room[1], first, number(16)?))).ok()
        }
        _ => None,
    };
    numbers.and_then(read).map(Some).ok_or(PairError::Garbage { bytes: length })
}

enum Failure {
    Again,
    NotNow,
    Of(PairError),
}

fn failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::Interrupted => Failure::Again,
        io::ErrorKind::WouldBlock => Failure::NotNow,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
            Failure::Of(PairError::Ended)
        }
        _ => Failure::Of(PairError::Refused(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: [Order; 6] =
        [Order::Active(0), Order::Active(u64::MAX), Order::Standby, Order::Drain, Order::Reload, Order::Stop];
    const REPORTS: [Report; 9] = [
        Report::Serving,
        Report::Ready(0),
        Report::Ready(100),
        Report::Drained,
        Report::Answered { epoch: 9, at: Duration::from_nanos(1_234_567_890_123) },
        Report::Reloaded(Reloaded::Taken),
        Report::Reloaded(Reloaded::Refused),
        Report::Bindings(u64::MAX),
        Report::Degraded { cause: 255, count: u64::MAX },
    ];

    #[test]
    fn every_message_arrives_as_it_was_sent_and_in_its_order() {
        let (guardian, engine) = opened();

        for order in ORDERS {
            guardian.send(order).expect("room");
        }
        for report in REPORTS {
            engine.send(report).expect("room");
        }

        for order in ORDERS {
            assert_eq!(engine.receive().expect("a message"), Some(order));
        }
        for report in REPORTS {
            assert_eq!(guardian.receive().expect("a message"), Some(report));
        }
        assert_eq!(engine.receive().expect("open"), None);
        assert_eq!(guardian.receive().expect("open"), None);
    }

    #[test]
    fn the_end_of_one_side_is_seen_by_the_other_behind_what_it_had_sent() {
        let (guardian, engine) = opened();
        engine.send(Report::Drained).expect("room");
        drop(engine);

        assert_eq!(guardian.receive().expect("a message"), Some(Report::Drained));
        assert!(matches!(guardian.receive(), Err(PairError::Ended)));
        assert!(matches!(guardian.send(Order::Stop), Err(PairError::Ended)));

        let (guardian, engine) = opened();
        drop(guardian);
        assert!(matches!(engine.receive(), Err(PairError::Ended)));
        assert!(matches!(engine.send(Report::Serving), Err(PairError::Ended)));
    }

    #[test]
    fn who_does_not_read_is_told_no_more_and_holds_up_nobody() {
        let (guardian, engine) = opened();

        let refused = (0..100_000).find_map(|_| guardian.send(Order::Standby).err());

        assert!(matches!(refused, Some(PairError::Full)));
        engine.receive().expect("a message");
        guardian.send(Order::Standby).expect("there is room again");
    }

    #[test]
    fn garbage_is_an_error_and_what_follows_is_read() {
        let (guardian, engine) = opened();
        let mut good = [0; MESSAGE_BYTES];
        good[..2].copy_from_slice(&[MARK, 2]);
        let with = |place: usize, byte: u8| {
            let mut bad = good;
            bad[place] = byte;
            bad.to_vec()
        };
        let bad = [
            good[..MESSAGE_BYTES - 1].to_vec(),
            [&good[..], &[0]].concat(),
            vec![MARK; 60_000],
            with(0, 0),
            with(1, 0),
            with(1, 6),
            // A report is no order.
            with(1, 129),
            with(7, 1),
            with(8, 1),
            with(16, 1),
        ];

        for bad in bad {
            raw_send(&guardian, &bad);
            let shown = &bad[..bad.len().min(30)];
            assert!(matches!(engine.receive(), Err(PairError::Garbage { .. })), "{shown:?}");
        }

        raw_send(&guardian, &good);
        assert_eq!(engine.receive().expect("a message"), Some(Order::Standby));
    }

    #[test]
    fn a_number_out_of_its_range_is_garbage() {
        assert_eq!(Report::read((130, 101, 0)), None);
        assert_eq!(Report::read((133, 2, 0)), None);
    }

    #[test]
    fn another_kind_of_socket_is_refused() {
        let (stream, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
        assert!(EngineEnd::open(stream.into()).is_err());
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(EngineEnd::open(file.into()).is_err());
    }

    fn opened() -> (GuardianEnd, EngineEnd) {
        let (guardian, engine) = pair().expect("a pair");
        (guardian, EngineEnd::open(engine).expect("an end"))
    }

    fn raw_send(end: &GuardianEnd, bytes: &[u8]) {
        // SAFETY: the buffer lives during the call, and its length is its own.
        let sent = unsafe { libc::send(end.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(usize::try_from(sent).ok(), Some(bytes.len()));
    }
}
