//! The media of a shard's calls: what the user wants relayed, what forwards packets, and what the other node is told of.

use std::net::SocketAddr;
use std::sync::Arc;

use clock::{Instant, Now};
use lease::ActiveLease;
use routing::{CallName, SessionName};

use super::{Output, Shard};
use crate::media_control::StoredSession;
use crate::relay::{RelayEvent, RelayOrder, RelaySettings};

impl Shard {
    /// Relays media like this from here on; `None`: no call that begins.
    pub fn set_relay(&mut self, now: Instant, settings: Option<Arc<RelaySettings>>) {
        self.media.reload(now, settings);
    }

    /// Takes what those who forward packets tell.
    pub fn handle_relay_event(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        event: RelayEvent,
        out: &mut Vec<Output>,
    ) {
        self.enter(now, lease);
        if let Some((call, dialog)) = self.media.handle_event(event) {
            self.end_silent(now, lease, call, dialog);
        }
        self.settle(now, lease, out);
    }

    /// Nothing comes of a dialog any more.
    pub(super) fn end_silent(&mut self, now: Now, lease: &ActiveLease<'_>, call: CallName, dialog: u64) {
        let is_known = self.user.hang_up(now, lease, call, dialog, &mut self.from_user);
        if !is_known {
            self.media.handle_end(now.instant, routing::MediaEnd::Dialog(call, dialog));
        }
    }

    /// Appends what is to be done by those who forward packets, since this was asked last. To be called behind each step, before
    /// what it sends leaves: a message may name ports that are ordered here.
    pub fn take_relay_orders(&mut self, out: &mut Vec<RelayOrder>) {
        out.extend(self.media.take_orders());
    }

    /// What is to be written down after a step: only now it is known which streams have ended in it.
    pub(super) fn give_records(&mut self, now: Now, out: &mut Vec<Output>) {
        out.extend(self.media.take_records(now.instant).map(|news| Output::Record(Box::new(news))));
    }

    /// The media sessions that have begun, changed or ended since this was asked last; none if changes are not noted.
    pub(crate) fn take_changed_sessions(&mut self) -> Vec<SessionName> {
        self.media.take_changed()
    }

    /// A media session, for the other node.
    pub(crate) fn stored_session(&mut self, now: Now, name: SessionName) -> Option<StoredSession> {
        self.media.stored(now.instant, name)
    }

    /// The media sessions of a call, in order.
    pub fn media_sessions_of(&self, call: CallName) -> impl Iterator<Item = SessionName> + '_ {
        self.media.sessions_of(call)
    }

    /// Which rtpengine has a session's media, if one has.
    pub fn rtpengine_of(&self, session: SessionName) -> Option<SocketAddr> {
        self.media.node_of(session)
    }

    /// The media sessions, in order.
    pub fn media_sessions(&self) -> Vec<SessionName> {
        self.media.names()
    }

    /// On a standby: takes a media session that the active node tells of. Whether there is room for it.
    pub(crate) fn inherit_session(&mut self, now: Now, name: SessionName, session: &StoredSession) -> bool {
        if !self.tenure.is_standby() {
            // As for a call that rings.
            self.stand_by(now);
        }
        self.media.inherit(now.instant, name, session)
    }

    /// On a standby: lets a media session go.
    pub(crate) fn disinherit_session(&mut self, name: SessionName) {
        self.media.disinherit(name);
    }
}
