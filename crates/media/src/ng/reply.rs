//! What an rtpengine answers.

use bytes::Bytes;

use super::bencode::{Malformed, Value};

/// Datagrams that are longer are none of rtpengine's.
pub const BYTES_MAX: usize = 65_535;
/// What is kept of a reason, for the log.
const REASON_BYTES_MAX: usize = 200;

/// An answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is there.
    Pong,
    /// It has done what was asked.
    Done {
        /// The description with its own addresses.
        sdp: Option<Bytes>,
        /// How many packets of a call have come, if that was asked.
        packets: Option<u64>,
    },
    /// It wants no more calls at this time.
    LoadLimit,
    /// It can not do that.
    Error(String),
}

impl Reply {
    /// Reads a datagram: its cookie, and what it says.
    ///
    /// # Errors
    ///
    /// It is none that an rtpengine would send.
    pub fn read(datagram: &[u8]) -> Result<(&str, Self), Malformed> {
        let at = datagram.iter().position(|byte| *byte == b' ').ok_or(Malformed)?;
        let cookie = std::str::from_utf8(&datagram[..at]).map_err(|_| Malformed)?;
        let value = Value::read(&datagram[at + 1..])?;
        let text = |key| value.get(key).and_then(Value::text);
        let reply = match text("result").ok_or(Malformed)? {
            b"pong" => Self::Pong,
            b"ok" => Self::Done { sdp: text("sdp").map(Bytes::copy_from_slice), packets: packets(&value) },
            b"load limit" => Self::LoadLimit,
            b"error" => Self::Error(reason(text("error-reason").unwrap_or_default())),
            _ => return Err(Malformed),
        };
        Ok((cookie, reply))
    }

    /// Whether it says that it has never heard of the call, or has forgotten it.
    pub fn is_unknown_call(&self) -> bool {
        matches!(self, Self::Error(reason) if reason.starts_with("Unknown call-id"))
    }
}

fn packets(value: &Value<'_>) -> Option<u64> {
    let of = |kind| value.get("totals")?.get(kind)?.get("packets")?.integer()?.try_into().ok();
    let (media, control): (Option<u64>, Option<u64>) = (of("RTP"), of("RTCP"));
    media.map(|media| media.saturating_add(control.unwrap_or_default()))
}

/// As it may stand in a log.
fn reason(text: &[u8]) -> String {
    let shown = &text[..text.len().min(REASON_BYTES_MAX)];
    shown.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_answer_is_known_by_its_result() {
        let read = |text: &'static str| Reply::read(text.as_bytes());
        assert_eq!(read("c1 d6:result4:ponge"), Ok(("c1", Reply::Pong)));
        let sdp = Some(Bytes::from_static(b"v=0"));
        assert_eq!(read("c1 d6:result2:ok3:sdp3:v=0e"), Ok(("c1", Reply::Done { sdp, packets: None })));
        assert_eq!(read("c d6:result10:load limite"), Ok(("c", Reply::LoadLimit)));
        let (_, error) = read("c d12:error-reason15:Unknown call-id6:result5:errore").unwrap();
        assert!(error.is_unknown_call());
        let totals = "c d6:result2:ok6:totalsd4:RTCPd7:packetsi2ee3:RTPd7:packetsi40eeee";
        assert_eq!(read(totals), Ok(("c", Reply::Done { sdp: None, packets: Some(42) })));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            "",
            "c",
            "c ",
            " d6:result2:ok",
            "c d6:result3:fooe",
            "c de",
            "c l6:result2:oke",
            "c d6:resulti1ee",
        ] {
            assert_eq!(Reply::read(text.as_bytes()), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn a_reason_can_do_no_harm_in_a_log() {
        let hostile = [&b"c d12:error-reason300:"[..], &[0x1b; 300], b"6:result5:errore"].concat();

        let (_, reply) = Reply::read(&hostile).unwrap();

        assert_eq!(reply, Reply::Error("\\x1b".repeat(REASON_BYTES_MAX)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(cookie in "[ -~]{0,8}", bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Reply::read(&[cookie.as_bytes(), b" d6:result2:ok", &bytes, b"e"].concat());
            let _ = Reply::read(&bytes);
        }
    }
}
