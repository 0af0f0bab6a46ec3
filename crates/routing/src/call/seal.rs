//! Sealing: bytes that travel through strangers' hands, and that only this server can make or read.
//!
//! The tag is a MAC over the bytes and a context that does not travel with them; the bytes are then
//! hidden by a stream derived from the tag. Equal bytes give equal seals: nothing is drawn, and
//! either node of a pair makes the same.

use keys::Key;

/// Bytes of the tag. A forger has to guess them against a running server.
const TAG_BYTES: usize = 12;

/// Appends the seal of `plain`; it opens only together with `context`.
pub(crate) fn seal(key: &Key, context: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    let mac = key.mac(&[b"tag", context, plain]);
    let tag = &mac.as_bytes()[..TAG_BYTES];
    out.extend_from_slice(tag);
    let start = out.len();
    out.extend_from_slice(plain);
    hide(key, tag, &mut out[start..]);
}

/// What was sealed, if this key sealed it for this context.
pub(crate) fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, hidden) = sealed.split_first_chunk::<TAG_BYTES>()?;
    let mut plain = hidden.to_vec();
    hide(key, tag, &mut plain);
    key.mac(&[b"tag", context, &plain]).verifies(tag).then_some(plain)
}

fn hide(key: &Key, tag: &[u8], bytes: &mut [u8]) {
    for (number, block) in (0u32..).zip(bytes.chunks_mut(16)) {
        let stream = key.mac(&[b"stream", tag, &number.to_be_bytes()]);
        for (byte, mask) in block.iter_mut().zip(stream.as_bytes()) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_read_again_in_its_context_alone() {
        let key = keys::RootKey::new([1; 32]).subkey("test", 0);
        for length in [0, 1, 16, 17, 100] {
            let plain = vec![7; length];
            let mut sealed = Vec::new();
            seal(&key, b"call", &plain, &mut sealed);

            assert_eq!(open(&key, b"call", &sealed), Some(plain));
            assert_eq!(open(&key, b"other call", &sealed), None);
        }
    }

    #[test]
    fn a_changed_bit_breaks_the_seal() {
        let key = keys::RootKey::new([1; 32]).subkey("test", 0);
        let mut sealed = Vec::new();
        seal(&key, b"call", b"plain text", &mut sealed);

        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, b"call", &changed), None, "bit {bit}");
        }
        assert_eq!(open(&key, b"call", &sealed[..11]), None);
    }

    #[test]
    fn the_plain_bytes_do_not_show() {
        let key = keys::RootKey::new([1; 32]).subkey("test", 0);
        let mut sealed = Vec::new();
        seal(&key, b"call", b"alice@example.org", &mut sealed);

        assert!(!sealed.windows(5).any(|window| window == b"alice"));
    }
}
