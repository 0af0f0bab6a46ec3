//! Bytes as text that is safe in SIP tokens: hex, and base64 with the URL alphabet and no padding.

const URL_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const HEX_ALPHABET: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` in base64 (RFC 4648 §5), without padding.
pub fn base64url(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            out.push(URL_ALPHABET[(group >> (18 - 6 * place) & 63) as usize]);
        }
    }
}

/// Appends what `text` stands for; `false`, and an unspecified rest, if it is not such text.
pub fn base64url_decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    for chunk in text.chunks(4) {
        let mut group = 0u32;
        for &character in chunk {
            let Some(value) = base64url_value(character) else { return false };
            group = group << 6 | value;
        }
        let bits = 6 * chunk.len();
        let (length, spare) = (bits / 8, bits % 8);
        // One text for one value: else a sealed token could be changed without breaking its MAC.
        if spare >= 6 || group & ((1 << spare) - 1) != 0 {
            return false;
        }
        let group = group >> spare;
        for place in (0..length).rev() {
            out.push((group >> (8 * place)) as u8);
        }
    }
    true
}

/// Appends `bytes` in lower-case hex.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(HEX_ALPHABET[usize::from(byte >> 4)]);
        out.push(HEX_ALPHABET[usize::from(byte & 15)]);
    }
}

/// Reads hex of either case into `out`; `false` if it is not hex or has another length.
pub fn hex_decode(text: &[u8], out: &mut [u8]) -> bool {
    text.len() == 2 * out.len()
        && text.chunks(2).zip(out).all(|(pair, byte)| match (hex_value(pair[0]), hex_value(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

fn base64url_value(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

fn hex_value(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_from_base64() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|number: u8| number.wrapping_mul(37)).collect();
            let (mut text, mut back) = (Vec::new(), Vec::new());

            base64url(&bytes, &mut text);

            assert!(base64url_decode(&text, &mut back));
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn base64_is_the_one_of_rfc_4648() {
        let mut text = Vec::new();
        base64url(b"\xfb\xff\xfe~f", &mut text);
        assert_eq!(text, b"-__-fmY");
    }

    #[test]
    fn foreign_characters_and_spare_bits_are_refused() {
        for text in ["A", "AB", "ABC", "A+==", "AA=", "AAA\n"] {
            assert!(!base64url_decode(text.as_bytes(), &mut Vec::new()), "{text}");
        }
        assert!(base64url_decode(b"AA", &mut Vec::new()));
    }

    #[test]
    fn hex_comes_back_in_either_case() {
        let mut text = Vec::new();
        hex(&[0x00, 0xab, 0xff], &mut text);
        assert_eq!(text, b"00abff");

        let mut back = [0; 3];
        assert!(hex_decode(b"00AbfF", &mut back));
        assert_eq!(back, [0x00, 0xab, 0xff]);
        assert!(!hex_decode(b"00ab", &mut back));
        assert!(!hex_decode(b"00abfg", &mut back));
    }
}
