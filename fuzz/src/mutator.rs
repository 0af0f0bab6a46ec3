//! Small changes of an input, which chance chooses: bytes, pieces, numbers, words of SIP.

use crate::rng::Rng;

/// What parsers and machines may stumble over.
const WORDS: [&[u8]; 44] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\r\n ",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b"<>",
    b";",
    b";;",
    b",",
    b"=",
    b"@",
    b"%",
    b"%00",
    b"?",
    b"[",
    b"]",
    b"::",
    b"\xff\xfe",
    b"4294967296",
    b"18446744073709551616",
    b"-1",
    b"65536",
    b"SIP/2.0",
    b"Via: SIP/2.0/UDP a;branch=z9hG4bKx\r\n",
    b"Route: <sip:a;lr>\r\n",
    b"Content-Length: 0\r\n",
    b"l: 99\r\n",
    b"INVITE",
    b"ACK",
    b"CANCEL",
    b"sip:",
    b"tel:+1",
    b";lr",
    b";tag=1",
    b";rport",
    b";maddr=224.0.0.1",
    b"*",
];

/// Changes `input`; `other` is another input, of which a piece may be taken.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8], bytes_max: usize) {
    for _ in 0..=rng.below(5) {
        change(rng, input, other);
    }
    // Once in a while something is repeated very often: what is quadratic shows.
    if rng.once_in(64) {
        repeat(rng, input, bytes_max);
    }
    input.truncate(bytes_max);
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(input.len() + 1);
    let end = at + rng.below((input.len() - at).min(64) + 1);
    match rng.below(11) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(rng.pick(&[1, 0xff]));
            }
        }
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            let to = rng.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 => drop(input.splice(at..at, rng.pick(&WORDS).iter().copied())),
        6 => drop(input.splice(at..end, rng.pick(&WORDS).iter().copied())),
        7 => input.truncate(at),
        8 => {
            let from = rng.below(other.len() + 1);
            let to = from + rng.below((other.len() - from).min(200) + 1);
            input.splice(at..at, other[from..to].iter().copied());
        }
        9 => {
            let from = rng.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let bytes: Vec<u8> = (0..1 + rng.below(8)).map(|_| rng.next() as u8).collect();
            input.splice(at..at, bytes);
        }
    }
}

fn repeat(rng: &mut Rng, input: &mut Vec<u8>, bytes_max: usize) {
    let at = rng.below(input.len() + 1);
    let end = at + rng.below((input.len() - at).min(100) + 1);
    let piece = input[at..end].to_vec();
    if piece.is_empty() || input.len() >= bytes_max {
        return;
    }
    let room = bytes_max - input.len();
    let times = 1 + rng.below(room / piece.len() + 1);
    input.splice(at..at, piece.repeat(times));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_never_grow_beyond_their_limit_and_do_change() {
        let mut rng = Rng::new(1);
        let mut changed = 0;
        for _ in 0..5_000 {
            let mut input = b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec();
            mutate(&mut rng, &mut input, b"other", 300);
            assert!(input.len() <= 300);
            changed += usize::from(input != b"OPTIONS sip:a SIP/2.0\r\n\r\n");
        }

        assert!(changed > 4_500);
    }
}
