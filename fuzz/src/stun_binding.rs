//! STUN: whatever comes, an answer is well formed, small, goes with its request, and is not answered itself.

use std::net::SocketAddr;

/// RFC 8489 §5: the bytes of the header.
const HEADER_BYTES: usize = 20;

/// Tries the bytes as a datagram.
pub fn run(data: &[u8]) {
    for source in ["192.0.2.7:40000", "[2001:db8::7]:1", "[::ffff:192.0.2.7]:65535"] {
        let source: SocketAddr = source.parse().expect("an address");
        let mut out = b"before".to_vec();
        let is_answered = stun::answer(data, source, &mut out);
        let answer = out.strip_prefix(b"before").expect("what was there before stays");
        assert_eq!(is_answered, !answer.is_empty());
        if !is_answered {
            continue;
        }
        assert!(stun::is_stun(data) && stun::is_stun(answer));
        assert_eq!(data[..2], [0, 1], "only a Binding request is answered");
        assert_eq!(answer[4..HEADER_BYTES], data[4..HEADER_BYTES], "an answer has the id of its request");
        assert!(matches!(answer[..2], [1, 1] | [1, 0x11]), "an answer is a response");
        assert_eq!(usize::from(u16::from_be_bytes([answer[2], answer[3]])), answer.len() - HEADER_BYTES);
        assert!(answer.len() <= 100, "an answer of {} bytes invites to amplify", answer.len());
        assert!(!stun::answer(answer, source, &mut Vec::new()), "an answer is answered");
    }
}
