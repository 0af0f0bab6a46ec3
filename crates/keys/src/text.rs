//! Bytes as text that is safe in SIP tokens: hex, and base32 in lower case without padding.
//!
//! Base32 and not base64: some devices change the case of what stands in a URI, and others look for the name of a
//! header field anywhere in a message. A text of one case survives both.

const BASE32_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const HEX_ALPHABET: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` in base32 (RFC 4648 §6), in lower case and without padding: 8 characters for 5 bytes.
pub fn base32(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut group, mut bits) = (0u32, 0);
    for &byte in bytes {
        group = (group << 8 | u32::from(byte)) & 0xfff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(BASE32_ALPHABET[(group >> bits & 31) as usize]);
        }
    }
    if bits > 0 {
        out.push(BASE32_ALPHABET[(group << (5 - bits) & 31) as usize]);
    }
}

/// Appends what `text` stands for, in either case; `false`, and an unspecified rest, if it is not such text.
pub fn base32_decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut group, mut bits) = (0u32, 0);
    for &character in text {
        let Some(value) = base32_value(character) else { return false };
        group = (group << 5 | value) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((group >> bits) as u8);
        }
    }
    // One text for one value, but for case: a last character with bits that mean nothing is refused.
    bits < 5 && group & ((1 << bits) - 1) == 0
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

fn base32_value(character: u8) -> Option<u32> {
    let value = match character.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => letter - b'a',
        digit @ b'2'..=b'7' => digit - b'2' + 26,
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
    fn every_length_comes_back_from_base32() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|number: u8| number.wrapping_mul(37)).collect();
            let (mut text, mut back) = (Vec::new(), Vec::new());

            base32(&bytes, &mut text);

            assert!(base32_decode(&text.to_ascii_uppercase(), &mut back));
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn base32_is_the_one_of_rfc_4648() {
        for (bytes, expected) in
            [("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("foobar", "mzxw6ytboi")]
        {
            let mut text = Vec::new();
            base32(bytes.as_bytes(), &mut text);
            assert_eq!(text, expected.as_bytes());
        }
    }

    #[test]
    fn foreign_characters_and_spare_bits_are_refused() {
        for text in ["a", "mz", "mzx", "m1", "my======", "my\n", "mzxw6y"] {
            assert!(!base32_decode(text.as_bytes(), &mut Vec::new()), "{text}");
        }
        assert!(base32_decode(b"my", &mut Vec::new()));
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
