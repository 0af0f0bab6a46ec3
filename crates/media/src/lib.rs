//! What a media relay has to know, without a socket: session descriptions and the bodies that they come in.
//!
//! Nothing here reads a clock, opens a socket or knows SIP. The worker that would bind ports and forward packets is not
//! there, and neither is what would give it a call's bodies: no call is relayed by this crate alone.
//!
//! - [`body`] finds the session description in a message's body, which may have several parts (RFC 5621).
//! - [`sdp`] reads it in place (RFC 8866) and writes it again with the relay's addresses in it. All that is not an
//!   address of media stays byte for byte.
//! - [`offer_answer`] follows the offers and answers of one call (RFC 3264), and says which port is told to whom and
//!   what streams there are.
//! - [`ports`] gives the ports.
//! - [`latch`] finds where a side behind a NAT is (RFC 7362), by [`packet`]s that come from there.
//! - [`stream`] says of each datagram where it goes, and keeps [`figures`] of loss, jitter and delay; [`call_figures`] is what those of a
//!   call come to.
//! - [`ng`] asks an rtpengine in the place of all this but [`offer_answer`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod body;
pub mod call_figures;
pub mod figures;
pub mod latch;
pub mod ng;
pub mod offer_answer;
pub mod packet;
pub mod ports;
pub mod sdp;
pub mod stream;
