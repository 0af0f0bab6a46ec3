//! The handshake: Noise NNpsk0, so that only who has the key can open or accept, with fresh keys at each start.

use siphasher::sip128::{Hasher128, SipHasher24};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use std::hash::Hasher;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// What each side tells the other: its start.
const PAYLOAD_BYTES: usize = 8;

/// Room for either message of the handshake.
const HANDSHAKE_BYTES_MAX: usize = 32 + PAYLOAD_BYTES + 16;

/// Random bytes that are drawn from a seed: the edge draws the seed from the kernel once.
#[derive(Clone)]
pub(super) struct Chance {
    seed: [u8; 32],
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Chance of its own for one handshake.
    fn branch(&mut self) -> Self {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Self { seed, drawn: 0 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(16) {
            self.drawn += 1;
            let mut block = [0; 16];
            for half in self.seed.chunks(16) {
                let key = half.try_into().expect("half of 32 bytes");
                let mut hasher = SipHasher24::new_with_key(key);
                hasher.write_u64(self.drawn);
                hasher.write(&block);
                block = hasher.finish128().as_bytes();
            }
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

impl Random for Chance {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        self.fill(bytes);
        Ok(())
    }
}

struct Resolver(Chance);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(self.0.clone()))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// The side that opens.
pub(super) fn initiator(key: &[u8; 32], prologue: [u8; 4], chance: &mut Chance) -> Option<HandshakeState> {
    let params: NoiseParams = PATTERN.parse().ok()?;
    let builder = Builder::with_resolver(params, Box::new(Resolver(chance.branch())));
    builder.psk(0, key).ok()?.prologue(&prologue).ok()?.build_initiator().ok()
}

/// The side that accepts.
pub(super) fn responder(key: &[u8; 32], prologue: [u8; 4], chance: &mut Chance) -> Option<HandshakeState> {
    let params: NoiseParams = PATTERN.parse().ok()?;
    let builder = Builder::with_resolver(params, Box::new(Resolver(chance.branch())));
    builder.psk(0, key).ok()?.prologue(&prologue).ok()?.build_responder().ok()
}

/// Appends the next message of the handshake.
pub(super) fn say(state: &mut HandshakeState, payload: &[u8; PAYLOAD_BYTES], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.resize(start + HANDSHAKE_BYTES_MAX, 0);
    match state.write_message(payload, &mut out[start..]) {
        Ok(length) => {
            out.truncate(start + length);
            true
        }
        Err(_) => false,
    }
}

/// Reads the other side's message: its start.
pub(super) fn hear(state: &mut HandshakeState, message: &[u8]) -> Option<u64> {
    let mut payload = [0; HANDSHAKE_BYTES_MAX];
    if message.len() > HANDSHAKE_BYTES_MAX {
        return None;
    }
    let length = state.read_message(message, &mut payload).ok()?;
    payload[..length].try_into().ok().map(u64::from_be_bytes)
}
