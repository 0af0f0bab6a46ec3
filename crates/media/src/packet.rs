//! What a datagram on a port of media is, as far as its first bytes say.

/// One datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Media.
    Rtp(RtpHeader),
    /// A compound of reports; its first header is sound, what follows is as it came.
    Rtcp(&'a [u8]),
    /// The handshake of DTLS-SRTP, or data over DTLS.
    Dtls,
    /// The handshake of ZRTP.
    Zrtp,
    /// A connectivity check or keepalive, which ends here.
    Stun,
    /// Something else.
    Unknown,
}

/// What is looked at of an RTP header (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// The payload type.
    pub payload: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The time stamp.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
}

impl<'a> Packet<'a> {
    /// Looks at a datagram.
    // RFC 7983 §7: the first byte tells the protocols from each other, RFC 5761 §4: the second one RTP from RTCP.
    pub fn read(bytes: &'a [u8]) -> Self {
        match bytes {
            [0..=3, ..] => Self::Stun,
            [16..=19, ..] => Self::Zrtp,
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] if bytes.len() >= 8 => Self::Rtcp(bytes),
            [128..=191, 192..=223, ..] => Self::Unknown,
            [128..=191, ..] => rtp(bytes).map_or(Self::Unknown, Self::Rtp),
            _ => Self::Unknown,
        }
    }

    /// The source that it names.
    pub fn ssrc(&self) -> Option<u32> {
        match self {
            Self::Rtp(header) => Some(header.ssrc),
            Self::Rtcp(bytes) => word(bytes, 4),
            Self::Dtls | Self::Zrtp | Self::Stun | Self::Unknown => None,
        }
    }
}

fn rtp(bytes: &[u8]) -> Option<RtpHeader> {
    let sources = usize::from(bytes.first()? & 0x0f);
    if bytes.len() < 12 + 4 * sources {
        return None;
    }
    Some(RtpHeader {
        payload: bytes[1] & 0x7f,
        sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
        timestamp: word(bytes, 4)?,
        ssrc: word(bytes, 8)?,
    })
}

/// The 32 bits at a place.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_told_from_the_others() {
        let rtp = [0x80, 0x88, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let header = RtpHeader { payload: 8, sequence: 1, timestamp: 2, ssrc: 3 };

        assert_eq!(Packet::read(&rtp), Packet::Rtp(header));
        assert_eq!(Packet::read(&rtp[..11]), Packet::Unknown);
        assert_eq!(Packet::read(&[&[0x81], &rtp[1..]].concat()), Packet::Unknown, "a list that is cut off");
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 3];
        assert_eq!(Packet::read(&rtcp), Packet::Rtcp(&rtcp));
        assert_eq!(Packet::read(&rtcp).ssrc(), Some(3));
        assert_eq!(Packet::read(&rtcp[..7]), Packet::Unknown);
        assert_eq!(Packet::read(&[22, 254, 253]), Packet::Dtls);
        assert_eq!(Packet::read(&[0x10, 0]), Packet::Zrtp);
        assert_eq!(Packet::read(&[0, 1]), Packet::Stun);
        for unknown in [&[][..], &[0x40, 0], &[0xff; 20], &[64]] {
            assert_eq!(Packet::read(unknown), Packet::Unknown);
        }
    }
}
