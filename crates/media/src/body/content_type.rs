//! What a body is: `multipart/mixed;boundary="a b"`.

/// A media type with its parameters (RFC 2045 §5.1, RFC 3261 §20.15).
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentType<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> ContentType<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let semicolon = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let (name, parameters) = value.split_at(semicolon);
        let slash = name.iter().position(|byte| *byte == b'/')?;
        let (kind, subtype) = (name[..slash].trim_ascii(), name[slash + 1..].trim_ascii());
        (!kind.is_empty() && !subtype.is_empty()).then_some(Self { kind, subtype, parameters })
    }

    pub(super) fn is(&self, kind: &[u8], subtype: &[u8]) -> bool {
        self.is_of(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    pub(super) fn is_of(&self, kind: &[u8]) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// The value of a parameter, without its quotes.
    pub(super) fn parameter(&self, wanted: &[u8]) -> Option<Vec<u8>> {
        let mut rest = self.parameters;
        while let Some(after) = rest.strip_prefix(b";") {
            let end = after.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(after.len());
            let name = after[..end].trim_ascii();
            let Some(value) = after[end..].strip_prefix(b"=") else {
                rest = &after[end..];
                continue;
            };
            let (value, behind) = value_of(value.trim_ascii_start());
            if name.eq_ignore_ascii_case(wanted) {
                return Some(value);
            }
            let next = behind.iter().position(|byte| *byte == b';').unwrap_or(behind.len());
            rest = &behind[next..];
        }
        None
    }
}

/// A token or a quoted string, and what is behind it.
fn value_of(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        return (text[..end].trim_ascii_end().to_vec(), &text[end..]);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return (value, &quoted[at + 1..]),
            b'\\' => value.extend(bytes.next().map(|(_, byte)| *byte)),
            _ => value.push(*byte),
        }
    }
    (value, &[])
}
