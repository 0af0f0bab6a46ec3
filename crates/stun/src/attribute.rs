//! The attributes of a message: type, length, value, padding to four bytes (RFC 8489 §14).

pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
pub(crate) const ERROR_CODE: u16 = 0x0009;
pub(crate) const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
pub(crate) const MESSAGE_INTEGRITY: u16 = 0x0008;
pub(crate) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
pub(crate) const FINGERPRINT: u16 = 0x8028;

/// Types below this one must be understood by who reads them.
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// Whether a request with this attribute can be answered: it need not be understood, or it is one of RFC 8489's own.
/// Those of the credential mechanisms are passed over, because no credentials are asked for.
// RFC 8489 §18.3: 0x0001 to 0x000A (of which 0x0002 to 0x0005, 0x0007 are of RFC 3489), 0x0014 and on.
pub(crate) fn is_understood(kind: u16) -> bool {
    kind >= COMPREHENSION_OPTIONAL
        || matches!(kind, 0x0001 | 0x0006 | 0x0008..=0x000A | 0x0014 | 0x0015 | 0x001C..=0x001E | 0x0020)
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    /// Where its type stands, counted from where the first attribute begins.
    pub(crate) offset: usize,
}

/// The attributes were cut off in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

/// Reads attributes one by one.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn read(&mut self) -> Result<Attribute<'a>, Truncated> {
        let offset = self.at;
        let rest = &self.bytes[offset..];
        let [kind_high, kind_low, len_high, len_low, rest @ ..] = rest else { return Err(Truncated) };
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        let padded = len.next_multiple_of(4);
        if padded > rest.len() {
            return Err(Truncated);
        }
        self.at = offset + 4 + padded;
        Ok(Attribute { kind: u16::from_be_bytes([*kind_high, *kind_low]), value: &rest[..len], offset })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.at = self.bytes.len();
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_passed_over() {
        let bytes = [0x80, 0x22, 0, 3, b'a', b'b', b'c', 0, 0, 6, 0, 0];

        let read: Vec<_> = Attributes::new(&bytes).collect();

        assert_eq!(
            read,
            [
                Ok(Attribute { kind: 0x8022, value: b"abc", offset: 0 }),
                Ok(Attribute { kind: 0x0006, value: b"", offset: 8 }),
            ]
        );
    }

    #[test]
    fn a_cut_attribute_ends_the_reading() {
        for bytes in
            [&[0x80][..], &[0x80, 0x22, 0, 1], &[0x80, 0x22, 0, 1, 9, 0, 0], &[0, 6, 0xFF, 0xFF, 0, 0, 0, 0]]
        {
            assert_eq!(Attributes::new(bytes).collect::<Vec<_>>(), [Err(Truncated)]);
        }
    }
}
