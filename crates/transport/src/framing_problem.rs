//! What a stream asks of a message beyond what a datagram does.

use sip::{Framed, Malformed, Message, Name, frame_stream};

use crate::Source;

/// What is wrong with a message, where the stream that it came over says it better than the parser's `problem`. The head
/// of [`FramingError::Unframable`](crate::FramingError::Unframable) may be one: read like a datagram it would look whole without its body, or cut off
/// where the body was too large to be waited for.
pub fn framing_problem(
    message: &Message<'_>,
    source: &Source,
    problem: Option<Malformed>,
) -> Option<Malformed> {
    if !source.flow.is_reliable() {
        return problem;
    }
    match problem {
        Some(problem) => match frame_stream(message.bytes()) {
            Framed::Broken(better) => Some(better),
            Framed::NeedMore | Framed::Keepalive { .. } | Framed::Message { .. } => Some(problem),
        },
        // RFC 3261 §20.14: over a stream the header field must be used.
        None if message.header(Name::ContentLength).is_none() => {
            Some(Malformed::Missing(Name::ContentLength))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionId, Flow, ListenerId, RemoteAddr, Transport};

    /// RFC 3261 §20.14: what a stream brings has to say how long it is; a datagram need not.
    #[test]
    fn only_a_stream_needs_a_content_length() {
        let (remote, listener) = (RemoteAddr(([192, 0, 2, 1], 5060).into()), ListenerId(0));
        let id = ConnectionId { node: 0, boot: 1, listener, number: 1 };
        let stream = Source { flow: Flow::Connection { id, remote }, transport: Transport::Tcp };
        let datagram = Source { flow: Flow::Datagram { listener, remote }, transport: Transport::Udp };
        let lost = Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n\r\n").unwrap();
        let told = Message::parse(b"SIP/2.0 200 OK\r\nContent-Length : 0\r\n\r\n").unwrap();

        let problem = Some(Malformed::Missing(Name::ContentLength));
        assert_eq!(framing_problem(&lost, &stream, None), problem);
        assert_eq!(framing_problem(&lost, &datagram, None), None);
        assert_eq!(framing_problem(&told, &stream, None), None);
    }
}
