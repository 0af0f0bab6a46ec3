//! What happened, as a hash that two runs of a seed must share, and as text for who repeats one.

use std::fmt;

use clock::Instant;

/// Takes every happening of a world, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: u64,
    shown: bool,
    text: String,
}

/// The text of a shown trace is kept up to this many bytes: a world that runs away must not eat the memory.
const TEXT_BYTES_MAX: usize = 64 << 20;

impl Trace {
    /// An empty trace; `shown` keeps its text.
    pub(crate) fn new(shown: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: 0, shown, text: String::new() }
    }

    /// Adds one happening: who, and the bytes that tell it.
    pub(crate) fn add(&mut self, now: Instant, what: fmt::Arguments<'_>, bytes: &[u8]) {
        self.lines += 1;
        self.mix(&now.as_nanos().to_le_bytes());
        let mut writer = HashWriter(self);
        // Writing to a hash can not fail.
        let _ = fmt::Write::write_fmt(&mut writer, what);
        self.mix(bytes);
        if self.shown && self.text.len() < TEXT_BYTES_MAX {
            self.show(now, what, bytes);
        }
    }

    /// The hash of all that happened so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things happened so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The text, if it is shown.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn show(&mut self, now: Instant, what: fmt::Arguments<'_>, bytes: &[u8]) {
        use fmt::Write as _;
        // Writing to a string can not fail.
        let _ = writeln!(self.text, "{now} {what}");
        for line in String::from_utf8_lossy(bytes).lines() {
            let _ = writeln!(self.text, "    {line}");
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        for &byte in chunks.remainder() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.hash = (self.hash ^ bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct HashWriter<'a>(&'a mut Trace);

impl fmt::Write for HashWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.mix(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_changes_the_hash() {
        let hash = |bytes: &[u8]| {
            let mut trace = Trace::new(false);
            trace.add(Instant::START, format_args!("sent"), bytes);
            trace.hash()
        };

        assert_eq!(hash(b"0123456789"), hash(b"0123456789"));
        assert_ne!(hash(b"0123456789"), hash(b"0123456788"));
        assert_ne!(hash(b"0123456789"), hash(b"1123456789"));
    }
}
