//! The To tag of our own responses: derived from the request, so that the ACK to a refusal of which
//! nothing was kept is known again.

use keys::Key;
use sip::Message;

/// The first letter tells our tags apart before any MAC is made.
const PREFIX: u8 = b's';
const MAC_BYTES: usize = 12;

/// The To tag of every response that this server makes to `request` itself.
// RFC 3261 §8.2.7: a server without state gives each retransmission the same tag.
pub(super) fn derived(key: &Key, request: &Message<'_>) -> Vec<u8> {
    let mut tag = vec![PREFIX];
    keys::base32(&mac(key, request).as_bytes()[..MAC_BYTES], &mut tag);
    tag
}

/// Whether `ack` acknowledges a response that this server made itself.
pub(super) fn is_derived(key: &Key, ack: &Message<'_>) -> bool {
    let Some([PREFIX, text @ ..]) = ack.to_tag() else { return false };
    let mut bytes = Vec::with_capacity(MAC_BYTES);
    keys::base32_decode(text, &mut bytes) && bytes.len() == MAC_BYTES && mac(key, ack).verifies(&bytes)
}

// RFC 3261 §17.1.1.3: the ACK has the Call-ID, the From tag and the CSeq number of its INVITE; so has a CANCEL,
// whose 200 should have the To tag of the INVITE's responses (RFC 3261 §9.2).
fn mac(key: &Key, message: &Message<'_>) -> keys::Mac {
    let number = message.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    key.mac(&[message.call_id().unwrap_or_default(), message.from_tag().unwrap_or_default(), &number])
}
