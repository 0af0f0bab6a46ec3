//! A phone that talks: it sends by the description that it was given, and hears what comes to its port.

use std::net::SocketAddr;

use media::offer_answer::Side;

/// What a packet of a stranger has in its payload.
const STRANGE: &[u8] = b"stranger";
/// The bytes before the payload (RFC 3550 §5.1).
const HEADER: usize = 12;

/// In which directions a phone wants media (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Both,
    SendOnly,
    ReceiveOnly,
    Neither,
}

impl Direction {
    /// What the other one agrees to.
    pub(super) fn answer(self) -> Self {
        match self {
            Self::Both => Self::Both,
            Self::SendOnly => Self::ReceiveOnly,
            Self::ReceiveOnly => Self::SendOnly,
            Self::Neither => Self::Neither,
        }
    }

    pub(super) fn sends(self) -> bool {
        matches!(self, Self::Both | Self::SendOnly)
    }

    pub(super) fn receives(self) -> bool {
        matches!(self, Self::Both | Self::ReceiveOnly)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Both => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::ReceiveOnly => "recvonly",
            Self::Neither => "inactive",
        }
    }
}

/// One phone.
#[derive(Debug)]
pub(super) struct Phone {
    pub(super) side: Side,
    /// Its port of media; that of RTCP is the next one.
    pub(super) local: SocketAddr,
    /// Its router, if it is not in the open.
    pub(super) nat: Option<usize>,
    pub(super) direction: Direction,
    /// Where it was told to send media.
    pub(super) remote: Option<SocketAddr>,
    pub(super) ssrc: u32,
    version: u32,
    sequence: u16,
}

/// What a phone makes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Media of the phone with this source, and their number.
    Media(u32, u16),
    Report,
    /// A stranger's.
    Strange,
}

impl Phone {
    pub(super) fn new(side: Side, local: SocketAddr, nat: Option<usize>, ssrc: u32) -> Self {
        Self { side, local, nat, direction: Direction::Both, remote: None, ssrc, version: 0, sequence: 0 }
    }

    /// Its description, with a version that grows (RFC 3264 §8).
    pub(super) fn describe(&mut self, direction: Direction) -> String {
        self.version += 1;
        let (address, port, version) = (self.local.ip(), self.local.port(), self.version);
        format!(
            "v=0\r\no=- 1 {version} IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0\r\na={}\r\n",
            direction.word()
        )
    }

    /// It is given the other side's description.
    pub(super) fn hear_description(&mut self, description: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(description);
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let address = line("c=IN IP4 ").and_then(|address| address.parse().ok());
        let port =
            line("m=audio ").and_then(|rest| rest.split(' ').next()).and_then(|port| port.parse().ok());
        let place = address.zip(port).map(|(address, port)| SocketAddr::new(address, port));
        self.remote = Some(place.ok_or_else(|| format!("no place for media in {text}"))?);
        Ok(())
    }

    /// The next packet of its media.
    pub(super) fn speak(&mut self) -> (u16, Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        (self.sequence, rtp(self.ssrc, self.sequence, b"speech"))
    }

    /// Another stream from here on.
    pub(super) fn change_source(&mut self, ssrc: u32) {
        (self.ssrc, self.sequence) = (ssrc, 0);
    }
}

/// A receiver's report of nothing (RFC 3550 §6.4.2).
pub(super) fn report(ssrc: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 201, 0, 1];
    bytes.extend(ssrc.to_be_bytes());
    bytes
}

/// A stranger's packet that names this source.
pub(super) fn strange(ssrc: u32, sequence: u16) -> Vec<u8> {
    rtp(ssrc, sequence, STRANGE)
}

/// What a datagram is.
pub(super) fn said(bytes: &[u8]) -> Option<Said> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(1) == Some(&201) {
        return Some(Said::Report);
    }
    let payload = bytes.get(HEADER..)?;
    let sequence = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    Some(if payload == STRANGE { Said::Strange } else { Said::Media(word(8)?, sequence) })
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend((u32::from(sequence) * 160).to_be_bytes());
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(payload);
    bytes
}
