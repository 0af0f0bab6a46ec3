//! Keys: one secret of the node (or cluster), a subkey for each purpose, and the MACs made with them.
//!
//! [`RootKey`] is what lies on disk. [`RootKey::subkey`] derives a [`Key`] by label, so that no two
//! purposes share one. [`Key::mac`] is SipHash with 128 bits, a keyed function made for short
//! inputs: it costs tens of nanoseconds, and what it protects lives for minutes and is verified only
//! here. Nothing in this crate draws randomness: the program makes the root key once.

mod key;
mod text;

pub use key::{Key, Mac, RootKey};
pub use text::{base32, base32_decode, hex, hex_decode};
