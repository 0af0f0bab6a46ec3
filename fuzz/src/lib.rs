//! What must hold for any bytes that a stranger sends.
//!
//! Each [`Target`] takes bytes and panics if something does not hold. libFuzzer drives them from
//! `fuzz_targets`, the program of this crate from a seed and the committed corpus, with stable Rust.
//! The targets read no clock and no file: the same bytes always give the same end.

pub mod call_capsule;
pub mod dialog_capsule;
pub mod engine_inputs;
pub mod framing;
pub mod message;
pub mod mutator;
pub mod replication;
pub mod rng;
pub mod selection;
pub mod session_description;
pub mod stun_binding;
pub mod values;

/// One thing that is tried.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Bytes of the longest input that is worth to be made.
    pub bytes_max: usize,
    body: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target { name: "message", bytes_max: 70_000, body: message::run },
    Target { name: "values", bytes_max: 4_096, body: values::run },
    Target { name: "uri", bytes_max: 1_024, body: values::run_uris },
    Target { name: "framing", bytes_max: 140_000, body: framing::run },
    Target { name: "stun", bytes_max: 2_048, body: stun_binding::run },
    Target { name: "sdp", bytes_max: 16_384, body: session_description::run },
    Target { name: "selection", bytes_max: 1_024, body: selection::run },
    Target { name: "replica", bytes_max: 32_768, body: replication::run },
    Target { name: "call", bytes_max: 16_384, body: call_capsule::run },
    Target { name: "dialog", bytes_max: 8_192, body: dialog_capsule::run },
    Target { name: "engine", bytes_max: 8_192, body: engine_inputs::run },
];

impl Target {
    /// Tries one input.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn run(&self, data: &[u8]) {
        (self.body)(data);
    }
}

/// The target of this name.
///
/// # Panics
///
/// If there is none.
pub fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("the name of a target")
}

/// A number that stands for the bytes: it chooses among what can be done with them.
pub(crate) fn number_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Whether `part` lies within `whole`, at the same place in memory.
pub(crate) fn is_within(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || {
        let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
        whole.start <= part.start && part.end <= whole.end
    }
}
