//! A stream in pieces: however it is cut, the same messages come out.

use clock::Instant;
use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Framed, Message};
use transport::{ConnectionId, Flow, Frame, Framer, FramingError, ListenerId, RemoteAddr, Source, Transport};

use crate::rng::Rng;
use crate::{is_within, number_of};

/// What a stream has brought. Pings that come together are one, so that their number depends on the pieces.
#[derive(Debug, PartialEq, Eq)]
struct Brought {
    frames: Vec<Frame>,
    end: Result<(), FramingError>,
}

/// Tries the bytes as a stream, in pieces of several kinds.
pub fn run(data: &[u8]) {
    let whole = bring(data, || MESSAGE_BYTES_MAX);
    check(data, &whole);
    let mut rng = Rng::new(number_of(data));
    let largest = rng.pick(&[2, 3, 17, 300, 5_000]);
    assert_eq!(bring(data, || 1 + rng.below(largest)), whole, "pieces change what comes out");
    assert_eq!(bring(data, || 1), whole, "bytes one by one change what comes out");
}

fn bring(data: &[u8], mut length: impl FnMut() -> usize) -> Brought {
    let (mut framer, mut frames) = (Framer::new(), Vec::new());
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(length().clamp(1, rest.len()));
        rest = after;
        framer.push(Instant::START, piece);
        loop {
            match framer.next() {
                Ok(Some(Frame::Ping)) if frames.last() == Some(&Frame::Ping) => {}
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return Brought { frames, end: Err(error) },
            }
        }
        let has_rest = framer.partial_since().is_some();
        assert!(!has_rest || framer.partial_since() == Some(Instant::START));
    }
    Brought { frames, end: Ok(()) }
}

fn check(data: &[u8], brought: &Brought) {
    let mut at = 0;
    for frame in &brought.frames {
        let Frame::Message(bytes) = frame else { continue };
        assert!(bytes.len() <= MESSAGE_BYTES_MAX);
        let found = data[at..].windows(bytes.len()).position(|window| window == bytes);
        at += found.expect("a message is a piece of the stream, after the one before") + bytes.len();
        assert_eq!(
            sip::frame_stream(bytes),
            Framed::Message { len: bytes.len() },
            "a framed message has another length"
        );
        let (message, _) = Message::parse_lenient(bytes).expect("a framed message has a start line");
        assert!(is_within(bytes, message.body()));
        assert_eq!(message.bytes().len(), bytes.len(), "a framed message ends before its end");
    }
    if let Err(FramingError::Unframable { head, .. }) = &brought.end {
        // A head without a start line gets no answer; every other one has something wrong that can be said.
        if let Ok((message, problem)) = Message::parse_lenient(head) {
            let problem = transport::framing_problem(&message, &source(), problem);
            assert!(problem.is_some(), "what can not be framed has nothing wrong");
        }
    }
}

fn source() -> Source {
    let (listener, remote) = (ListenerId(0), RemoteAddr(([192, 0, 2, 1], 5060).into()));
    let id = ConnectionId { node: 0, boot: 1, listener, number: 1 };
    Source { flow: Flow::Connection { id, remote }, transport: Transport::Tcp }
}
