use proptest::prelude::*;

use super::*;

const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nl: 4\r\n\r\nbody";
const OKAY: &str = "SIP/2.0 200 OK\r\nContent-Length : 0\r\n\r\n";

#[test]
fn a_message_is_given_when_its_last_byte_is_there() {
    let mut framer = Framer::new();
    let (start, last) = OPTIONS.as_bytes().split_at(OPTIONS.len() - 1);

    framer.push(at(0), start);
    assert_eq!(framer.next(), Ok(None));

    framer.push(at(1), last);
    assert_eq!(framer.next(), Ok(Some(message(OPTIONS))));
    assert_eq!(framer.next(), Ok(None));
}

#[test]
fn pipelined_messages_come_in_order() {
    let mut framer = Framer::new();
    framer.push(at(0), format!("{OPTIONS}{OKAY}\r\n{OPTIONS}").as_bytes());

    assert_eq!(drain(&mut framer), Ok(vec![message(OPTIONS), message(OKAY), message(OPTIONS)]));
}

/// A body may look like anything.
#[test]
fn a_body_is_skipped_by_its_length_alone() {
    let body = format!("\r\n\r\n{OKAY}\0\u{ff}\r\n\r\n");
    let text = format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut framer = Framer::new();

    framer.push(at(0), text.as_bytes());
    framer.push(at(0), OKAY.as_bytes());

    assert_eq!(drain(&mut framer), Ok(vec![message(&text), message(OKAY)]));
}

#[test]
fn bare_line_feeds_end_lines_as_well() {
    let text = "OPTIONS sip:a@b SIP/2.0\nl: 2\n\nhi";
    let mut framer = Framer::new();

    framer.push(at(0), format!("{text}{OKAY}").as_bytes());

    assert_eq!(drain(&mut framer), Ok(vec![message(text), message(OKAY)]));
}

/// RFC 5626 §3.5.1: a double line end is a ping.
#[test]
fn a_double_line_end_is_a_ping_however_it_is_cut() {
    for cut in 0..=4 {
        let mut framer = Framer::new();
        let mut frames = Vec::new();
        for piece in [&PING[..cut], &PING[cut..]] {
            framer.push(at(0), piece);
            frames.extend(drain(&mut framer).unwrap());
        }

        assert_eq!(frames, [Frame::Ping], "cut at {cut}");
        assert_eq!(framer.partial_since(), None);
    }
}

/// RFC 5626 §4.4.1: the first line end after our ping is its answer, and a ping may follow it.
#[test]
fn the_line_end_after_our_ping_is_its_pong() {
    let mut framer = Framer::new();
    framer.expect_pong();
    assert!(framer.is_pong_missing());

    framer.push(at(0), b"\r\n");
    assert_eq!(drain(&mut framer), Ok(vec![Frame::Pong]));
    assert!(!framer.is_pong_missing());

    framer.expect_pong();
    framer.push(at(0), b"\r\n\r\n\r\n");
    assert_eq!(drain(&mut framer), Ok(vec![Frame::Pong, Frame::Ping]));
}

/// Else we would answer every second pong.
#[test]
fn two_line_ends_with_a_long_time_between_them_are_no_ping() {
    let mut framer = Framer::new();
    for second in [0, 25, 50, 75] {
        framer.push(at(second), b"\r\n");
        assert_eq!(drain(&mut framer), Ok(vec![]), "{second}");
    }

    framer.push(at(76), b"\r\n");
    assert_eq!(drain(&mut framer), Ok(vec![Frame::Ping]));
}

/// RFC 3261 §7.5: and no ping is made of it and of one after the message.
#[test]
fn a_single_line_end_before_a_message_is_ignored() {
    let mut framer = Framer::new();

    framer.push(at(0), format!("\r\n{OPTIONS}\r\n{OKAY}\n\r\r\n{OKAY}").as_bytes());

    assert_eq!(drain(&mut framer), Ok(vec![message(OPTIONS), message(OKAY), message(OKAY)]));
}

/// Each answer costs a write, each question only four bytes.
#[test]
fn a_flood_of_pings_is_answered_once_for_each_push() {
    let mut framer = Framer::new();

    framer.push(at(0), &PING.repeat(MESSAGE_BYTES_MAX / PING.len()));

    assert_eq!(drain(&mut framer), Ok(vec![Frame::Ping]));
    assert_eq!((framer.waiting(), framer.buffer.capacity(), framer.partial_since()), (0, 0, None));
}

#[test]
fn the_deadline_of_a_slow_sender_counts_from_the_first_byte() {
    let mut framer = Framer::new();
    assert_eq!(framer.partial_since(), None);
    for (second, byte) in OPTIONS.bytes().enumerate().take(OPTIONS.len() - 1) {
        framer.push(at(second as u64), &[byte]);
        assert_eq!(framer.next(), Ok(None));
        assert_eq!(framer.partial_since(), Some(at(0)));
    }

    framer.push(at(500), format!("y{}", &OPTIONS[..9]).as_bytes());
    assert_eq!(drain(&mut framer), Ok(vec![message(OPTIONS)]));
    assert_eq!(framer.partial_since(), Some(at(500)), "the next one has begun");

    framer.push(at(600), &OPTIONS.as_bytes()[9..]);
    assert_eq!(drain(&mut framer), Ok(vec![message(OPTIONS)]));
    assert_eq!(framer.partial_since(), None);
}

/// RFC 3261 §18.3: the length must be known, and believable.
#[test]
fn a_stream_whose_next_message_can_not_be_found_is_given_up() {
    for (header, problem) in [
        ("Content-Length: -1", Malformed::ContentLength),
        ("Content-Length: 5x", Malformed::ContentLength),
        ("Content-Length: 65535", Malformed::TooLarge),
        ("Content-Length: 4294967296", Malformed::TooLarge),
        ("Content-Length: 18446744073709551616", Malformed::TooLarge),
        ("Content-Length: 99999999999999999999999999999999", Malformed::TooLarge),
        ("Content-Length: 5\r\nl: 6", Malformed::Repeated(Name::ContentLength)),
        ("X: no length at all", Malformed::Missing(Name::ContentLength)),
    ] {
        let head = format!("OPTIONS sip:a@b SIP/2.0\r\n{header}\r\n\r\n");
        let mut framer = Framer::new();
        framer.push(at(0), head.as_bytes());
        framer.push(at(0), OKAY.as_bytes());

        let expected = FramingError::Unframable { head: head.into(), problem };
        assert_eq!(drain(&mut framer), Err(expected), "{header}");
    }
}

#[test]
fn after_an_error_nothing_is_taken_or_given() {
    let mut framer = Framer::new();
    framer.push(at(0), b"\x16\x03\x01\x02\x00");
    assert_eq!(framer.next(), Err(FramingError::NotSip));

    framer.push(at(1), OPTIONS.as_bytes());

    assert_eq!(framer.next(), Err(FramingError::NotSip));
    assert_eq!((framer.buffer.capacity(), framer.partial_since()), (0, None));
}

#[test]
fn a_stream_of_something_else_shows_in_its_first_line() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01",
        b" OPTIONS sip:a@b SIP/2.0\r\n",
        b"\0\0",
        b"hello\n",
        b"\r\n\r\n\x80",
    ] {
        let mut framer = Framer::new();
        framer.push(at(0), bytes);

        assert_eq!(drain(&mut framer), Err(FramingError::NotSip), "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_endless_first_line_is_given_up() {
    assert_eq!(
        trickle(b"OPTIONS sip:a@b SIP/2.0", b"aaaaaaa", 2 * START_LINE_BYTES_MAX),
        FramingError::NotSip
    );
}

#[test]
fn an_endless_header_section_is_given_up() {
    let head = b"OPTIONS sip:a@b SIP/2.0\r\n";

    assert_eq!(trickle(head, b"X: y\r\n", 2 * MESSAGE_BYTES_MAX), FramingError::HeadTooLarge);
    assert_eq!(trickle(head, b"X", 2 * MESSAGE_BYTES_MAX), FramingError::HeadTooLarge);
}

#[test]
fn the_largest_message_passes_and_one_byte_more_does_not() {
    for (extra, is_taken) in [(0, true), (1, false)] {
        let head = "MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 65490\r\n\r\n";
        let body = MESSAGE_BYTES_MAX - head.len() + extra;
        let text = head.replace("65490", &body.to_string()) + &"x".repeat(body);
        let mut framer = Framer::new();
        let mut frames = Vec::new();
        for piece in text.as_bytes().chunks(1_000) {
            framer.push(at(0), piece);
            match drain(&mut framer) {
                Ok(some) => frames.extend(some),
                Err(error) => {
                    assert!(matches!(error, FramingError::Unframable { problem: Malformed::TooLarge, .. }));
                    break;
                }
            }
        }

        assert_eq!(frames == [message(&text)], is_taken, "{extra}");
    }
}

#[test]
fn an_edge_that_does_not_take_its_frames_is_stopped() {
    let mut framer = Framer::new();
    for _ in 0..3 {
        framer.push(at(0), &[b'\r'; MESSAGE_BYTES_MAX]);
    }

    assert_eq!(framer.next(), Err(FramingError::Overrun));
}

#[test]
fn a_silent_connection_keeps_no_buffer() {
    let body = "x".repeat(60_000);
    let text = format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Length: 60000\r\n\r\n{body}");
    let mut framer = Framer::new();
    framer.push(at(0), text.as_bytes());

    assert_eq!(drain(&mut framer), Ok(vec![message(&text)]));

    assert_eq!(framer.buffer.capacity(), 0);
}

/// The buffer never runs empty here.
#[test]
fn a_stream_that_never_pauses_keeps_no_more_than_it_needs() {
    let mut framer = Framer::new();
    framer.push(at(0), &OPTIONS.as_bytes()[..30]);
    let shifted = [&OPTIONS.as_bytes()[30..], &OPTIONS.as_bytes()[..30]].concat();

    for _ in 0..10_000 {
        framer.push(at(0), &shifted);
        assert_eq!(drain(&mut framer), Ok(vec![message(OPTIONS)]));
    }

    assert!(framer.buffer.len() <= 2 * OPTIONS.len(), "{}", framer.buffer.len());
}

/// Were each piece to cost a search of all that waits, this would be 2 billion steps.
#[test]
fn a_large_message_in_single_bytes_costs_no_more_than_its_bytes() {
    let headers = "X: y\n".repeat(400);
    let body = "\r\n".repeat(30_000);
    let text = format!("MESSAGE sip:a@b SIP/2.0\r\n{headers}l: {}\r\n\r\n{body}", body.len());
    let mut framer = Framer::new();
    let mut frames = Vec::new();

    for byte in text.as_bytes() {
        framer.push(at(0), &[*byte]);
        frames.extend(drain(&mut framer).unwrap());
    }

    assert_eq!(frames, [message(&text)]);
}

/// One part of a hostile stream.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![
        Just("0"),
        Just("4"),
        Just("-4"),
        Just("+4"),
        Just("04"),
        Just("4, 4"),
        Just(""),
        Just("65535"),
        Just("4294967300"),
        Just("18446744073709551620"),
        Just("four")
    ];
    prop_oneof![
        4 => Just(OPTIONS.as_bytes().to_vec()),
        3 => Just(OKAY.as_bytes().to_vec()),
        2 => Just(b"\r\n".to_vec()),
        2 => Just(PING.to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r".to_vec()),
        1 => lengths.prop_map(|it| format!("BYE sip:a@b SIP/2.0\r\nl: {it}\r\n\r\nbody").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => "[ -~\r\n]{0,40}".prop_map(String::into_bytes),
    ]
}

/// All frames of a stream that comes in these pieces, pings that came together counted once.
fn frames_of(stream: &[u8], mut sizes: impl Iterator<Item = usize>) -> (Vec<Frame>, Option<FramingError>) {
    let (mut framer, mut frames, mut rest) = (Framer::new(), Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = after;
        framer.push(at(0), piece);
        loop {
            match framer.next() {
                Ok(Some(Frame::Ping)) if frames.last() == Some(&Frame::Ping) => {}
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(framer.waiting() <= MESSAGE_BYTES_MAX);
        let is_waiting = framer.waiting() > 0 && framer.has_message_begun();
        assert_eq!(framer.partial_since().is_some(), is_waiting);
    }
    (frames, None)
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_the_pieces(
        parts in prop::collection::vec(part(), 0..12),
        sizes in prop::collection::vec(1usize..40, 1..40),
    ) {
        let stream = parts.concat();
        let whole = frames_of(&stream, std::iter::repeat(usize::MAX));

        prop_assert_eq!(&frames_of(&stream, std::iter::repeat(1)), &whole);
        prop_assert_eq!(&frames_of(&stream, sizes.into_iter().cycle()), &whole);
    }

    #[test]
    fn what_well_formed_peers_send_is_never_refused(
        messages in prop::collection::vec((0usize..300, 0usize..3), 1..12),
        sizes in prop::collection::vec(1usize..200, 1..40),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (body, line_ends) in messages {
            let body = "\r\nSIP/2.0 200 OK\r\n".chars().cycle().take(body).collect::<String>();
            let text = format!("INFO sip:a@b SIP/2.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.extend_from_slice(&b"\r\n".repeat(line_ends));
            stream.extend_from_slice(text.as_bytes());
            expected.extend((line_ends == 2).then_some(Frame::Ping));
            expected.push(message(&text));
        }

        prop_assert_eq!(frames_of(&stream, sizes.into_iter().cycle()), (expected, None));
    }

    #[test]
    fn no_bytes_make_it_panic(
        stream in prop::collection::vec(any::<u8>(), 0..3_000),
        sizes in prop::collection::vec(1usize..99, 1..9),
    ) {
        frames_of(&stream, sizes.into_iter().cycle());
    }
}

/// Sends `start`, then `more` again and again, up to `max` bytes: what the stream is given up for.
fn trickle(start: &[u8], more: &[u8], max: usize) -> FramingError {
    let mut framer = Framer::new();
    framer.push(at(0), start);
    for _ in 0..max / more.len() {
        if let Err(error) = framer.next() {
            return error;
        }
        framer.push(at(0), more);
    }
    unreachable!("a stream of {max} bytes without a frame was not given up")
}

fn drain(framer: &mut Framer) -> Result<Vec<Frame>, FramingError> {
    let mut frames = Vec::new();
    while let Some(frame) = framer.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn message(text: &str) -> Frame {
    Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
}

fn at(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}
