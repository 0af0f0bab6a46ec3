//! What was sent and is not acknowledged yet.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;

/// Frames on their way: half a second of 30 thousand registrations a second.
const MESSAGES_MAX: usize = 1 << 14;

/// Bytes on their way: they wait in the kernel and in the edge, for a peer that takes nothing.
const BYTES_MAX: usize = 4 << 20;

/// The frames on their way, by number. Only their lengths are kept.
#[derive(Debug, Default)]
pub(super) struct Window {
    frames: VecDeque<OnTheWay>,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct OnTheWay {
    sequence: u64,
    bytes: u32,
    sent_at: Instant,
}

impl Window {
    /// Whether a frame of about so many bytes may leave.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.frames.len() < MESSAGES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    pub(super) fn push(&mut self, now: Instant, sequence: u64, bytes: usize) {
        self.bytes += bytes;
        self.frames.push_back(OnTheWay { sequence, bytes: bytes as u32, sent_at: now });
    }

    /// Everything up to this number has arrived.
    pub(super) fn acknowledge(&mut self, through: u64) {
        while let Some(frame) = self.frames.front().filter(|frame| frame.sequence <= through) {
            self.bytes -= frame.bytes as usize;
            self.frames.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the frame left that has waited for longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.frames.front().map(|frame| frame.sent_at)
    }

    /// How long ago that was.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.oldest().map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}
