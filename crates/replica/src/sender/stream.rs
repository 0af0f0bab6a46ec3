//! The numbered frames of one connection after the other.
//!
//! Numbers are never used twice, so that what was sent over a connection that is lost is not taken for something else.

use std::collections::VecDeque;

use clock::Instant;

use super::{CloseCause, Output};
use crate::counts::SenderCounts;
use crate::fault::{self, Fault};
use crate::frame::{Ack, Body, Frame};
use crate::framing;
use crate::sender::window::Window;

/// Refusals that are remembered, for who comes to wait after the answer.
const REFUSED_MAX: usize = 1_024;

/// Frames with their numbers, and what is known of their arrival.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The frames on their way.
    pub(super) window: Window,
    last: u64,
    /// The first of this connection.
    first: u64,
    acknowledged: u64,
    /// The last refusals, in order.
    refused: VecDeque<u64>,
}

impl Stream {
    /// A connection begins; gives the number of its first frame.
    pub(super) fn begin(&mut self) -> u64 {
        self.first = self.last + 1;
        self.acknowledged = self.last;
        self.first
    }

    /// The number of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The number up to which everything has arrived.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether a frame was sent before this connection began.
    pub(super) fn is_before(&self, sequence: u64) -> bool {
        sequence < self.first && !fault::is_planted(Fault::OldConnectionCounts)
    }

    /// Whether the peer could not take one of these frames.
    pub(super) fn was_refused(&self, first: u64, last: u64) -> bool {
        self.refused.iter().any(|sequence| (first..=last).contains(sequence))
    }

    /// Sends a frame; gives its number.
    pub(super) fn post(
        &mut self,
        now: Instant,
        body: Body,
        counts: &mut SenderCounts,
        out: &mut Vec<Output>,
    ) -> u64 {
        self.last += 1;
        let bytes = framing::to_bytes(&Frame { sequence: self.last, body: Some(body) });
        self.window.push(now, self.last, bytes.len());
        counts.bytes += bytes.len() as u64;
        out.push(Output::Send(bytes));
        self.last
    }

    /// The peer says what has arrived.
    pub(super) fn acknowledge(&mut self, ack: &Ack) -> Result<(), CloseCause> {
        let is_sent = (self.acknowledged..=self.last).contains(&ack.through);
        let fresh = self.acknowledged + 1..=ack.through;
        let is_fresh = ack.refused.iter().all(|sequence| fresh.contains(sequence))
            && ack.refused.is_sorted_by(|one, other| one < other);
        if !(is_sent && is_fresh && ack.refused.len() <= REFUSED_MAX) {
            match fault::is_planted(Fault::ForeignAck) {
                true => {}
                false => return Err(CloseCause::WrongSequence),
            }
        }
        self.acknowledged = ack.through;
        self.window.acknowledge(ack.through);
        self.refused.extend(&ack.refused);
        while self.refused.len() > REFUSED_MAX {
            self.refused.pop_front();
        }
        Ok(())
    }
}
