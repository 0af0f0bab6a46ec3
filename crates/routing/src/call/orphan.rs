//! Responses to what the node before this one has sent on.
//!
//! The other node is told of INVITEs under way and of no other requests: whoever waits for an answer repeats those. But a
//! planned hand-over is to lose no message. For a while after a takeover a response to such a request is sent on by what it
//! carries itself: the branch proves that this pair has made it, for that Via below it, and names the listener.

use std::time::Duration;

use bytes::Bytes;
use clock::Now;
use sip::{Editor, Message, Method, Name, Via};
use transport::{Destination, Flow, RemoteAddr, Source, Transport};

use super::Output;
use super::branch::{Below, Branch};
use super::forward;
use super::user::TransactionUser;
use crate::bans::Deed;
use crate::{Count, Report};

/// RFC 3261 §17.1.2.2: nobody waits for longer than timer F for the answer to a request that is no INVITE.
const ORPHANS_FOR: Duration = Duration::from_secs(32);

impl TransactionUser {
    /// This node goes on with what another one has begun.
    pub fn took_over(&mut self, now: Now) {
        self.orphans_until = Some(now.instant + ORPHANS_FOR);
    }

    /// Sends on a response whose request another node has sent; says whether it was one.
    // Deviation: RFC 6026 §7.3 has responses without a transaction dropped. The transaction is there: on a node that has
    // handed over.
    pub(super) fn forward_orphan(
        &mut self,
        now: Now,
        source: Source,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) -> bool {
        if self.orphans_until.is_none_or(|until| until < now.instant) {
            return false;
        }
        let Some(to) = self.orphans_way(response) else { return false };
        self.counts.add(Count::OrphanForwarded);
        out.push(Output::Report(Report::shown(source.flow, Deed::Answered)));
        let mut editor = Editor::new(response);
        // RFC 3261 §16.7 item 3: the top Via is ours.
        editor.remove_first(Name::Via);
        // RFC 3325 §5: an identity is worth what its sender is worth.
        if !self.settings.is_peer(source.flow.remote().0.ip()) || forward::asks_for_privacy(response) {
            editor.remove(Name::PAssertedIdentity);
        }
        let mut bytes = Vec::with_capacity(response.bytes().len());
        editor.write(&mut bytes);
        out.push(Output::SendStateless { to, message: Bytes::from(bytes) });
        true
    }

    /// Where it goes: the branch's MAC covers all that is read of the Via below it.
    fn orphans_way(&self, response: &Message<'_>) -> Option<Destination> {
        let method = response.cseq().ok()?.method;
        // Of an INVITE this node knows, a CANCEL is answered by each hop, and of a REGISTER the answer is to be noted.
        if matches!(method, Method::Invite | Method::Cancel | Method::Register) {
            return None;
        }
        let mut vias = response.vias();
        let (top, via): (Via<'_>, Via<'_>) = (vias.next()?.ok()?, vias.next()?.ok()?);
        let below = Below { via: &via, method, call_id: response.call_id().ok()? };
        let branch = Branch::read(&self.keyring.branch, top.branch()?, &below)?;
        let listener = branch.listener.find(&self.keyring.branch, &self.settings.listeners)?;
        // What came by a connection went with it.
        if self.settings.listeners.get(listener)?.transport != Transport::Udp {
            return None;
        }
        let port = via.port.unwrap_or(Transport::Udp.default_port());
        let (address, port) = match via.received() {
            Some(received) => (received, via.rport().flatten().unwrap_or(port)),
            None => (via.host.ip()?, port),
        };
        let remote = RemoteAddr((address, port).into());
        Some(Destination::Flow(Flow::Datagram { listener, remote }))
    }
}
