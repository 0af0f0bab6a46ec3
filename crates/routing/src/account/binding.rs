//! One binding as its partition keeps it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use keys::Key;
use sip::Aor;
use transport::{ConnectionId, Flow, RemoteAddr};

use super::binding_text::BindingText;
use super::keepalive::Score;
use super::places::{PlaceId, Places};
use super::{BindingKey, BindingView};
use crate::gruu;
use crate::{BindingId, Gruus, RegisteredContact, StoredBinding, Target};

/// A binding in the location.
#[derive(Debug)]
pub(super) struct Binding {
    /// Its number; it stays through every refresh.
    pub id: BindingId,
    /// What its last REGISTER said.
    pub registration: Registration,
    /// How its keepalives fare.
    pub score: Score,
    /// The one reminder that is set for it.
    pub reminder_at: Instant,
}

/// What a REGISTER says of one contact.
#[derive(Debug)]
pub(super) struct Registration {
    /// Contact, Call-ID, instance, user agent, Path.
    pub text: BindingText,
    /// Where it was seen to come from.
    pub remote: SocketAddr,
    /// The listener that it came in on.
    pub place: PlaceId,
    /// The connection, while it is open. Boxed, because most phones use datagrams.
    pub connection: Option<Box<ConnectionId>>,
    /// When it ends.
    pub expires_at: Instant,
    /// The seconds that its phone was given; `None` after a restart, which is told only what was left of them.
    pub granted: Option<NonZeroU32>,
    /// Hash of the digest `response`.
    pub response_hash: u64,
    /// The number in CSeq.
    pub cseq: u32,
    /// Present only if the binding is an RFC 5626 flow; then there is an instance too.
    pub reg_id: Option<u32>,
    /// In thousandths.
    pub q: Option<u16>,
    /// Whether the phone sits behind NAT.
    pub nat: bool,
}

impl Binding {
    /// Whether it has not ended.
    pub(super) fn is_live(&self, now: Now) -> bool {
        now.instant < self.registration.expires_at
    }

    /// When something is to be done about it.
    pub(super) fn wants_attention_at(&self) -> Instant {
        self.registration.expires_at.min(self.score.next_at)
    }

    /// What it is in an answer to INVITE and the like.
    pub(super) fn target(&self, aor: &Aor, places: &Places) -> Target {
        let Registration { text, .. } = &self.registration;
        Target {
            aor: aor.clone(),
            contact: Bytes::copy_from_slice(text.contact()),
            path: text.path().map(Bytes::copy_from_slice).collect(),
            flow: self.registration.flow(places),
            listener: places.listener(self.registration.place),
            nat: self.registration.nat,
            q: self.registration.q.unwrap_or(1_000),
            instance: text.instance().map(Bytes::copy_from_slice),
            reg_id: self.registration.reg_id,
        }
    }

    /// What it is in a 200 to REGISTER.
    pub(super) fn registered(&self, now: Now) -> RegisteredContact {
        let Registration { text, .. } = &self.registration;
        let left = self.registration.expires_at.since(now.instant);
        RegisteredContact {
            binding: self.id,
            uri: Bytes::copy_from_slice(text.contact()),
            // A binding that is there is never shown with 0 seconds, which would mean that it is not.
            expires: u32::try_from(left.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX),
            q: self.registration.q,
            instance: text.instance().map(Bytes::copy_from_slice),
            reg_id: self.registration.reg_id,
            gruus: None,
        }
    }

    /// The GRUUs of its phone.
    pub(super) fn gruus(&self, key: &Key, aor: &Aor) -> Option<Gruus> {
        let Registration { text, cseq, .. } = &self.registration;
        let instance = text.instance()?;
        gruu::make(key, &gruu::Registration { aor, instance, call_id: text.call_id(), cseq: *cseq })
    }

    /// What it is in the store.
    pub(super) fn stored(&self, now: Now, aor: &Aor, places: &Places) -> StoredBinding {
        let Registration { text, remote, place, response_hash, cseq, reg_id, q, nat, .. } =
            &self.registration;
        let copies = text.copies();
        StoredBinding {
            aor: aor.clone(),
            contact: copies.contact,
            listener: places.named(*place),
            received: *remote,
            path: text.path().map(Bytes::copy_from_slice).collect(),
            instance: copies.instance,
            reg_id: *reg_id,
            q: *q,
            call_id: copies.call_id,
            cseq: *cseq,
            user_agent: copies.user_agent,
            nat: *nat,
            response_hash: *response_hash,
            expires_at: now.wall + self.registration.expires_at.since(now.instant),
        }
    }

    /// What it is to the operator.
    pub(super) fn view(&self, now: Now, aor: &Aor, places: &Places) -> BindingView {
        let Registration { text, remote, place, reg_id, q, nat, .. } = &self.registration;
        BindingView {
            aor: aor.clone(),
            contact: Bytes::copy_from_slice(text.contact()),
            received: *remote,
            listener: places.named(*place),
            is_reachable: self.registration.flow(places).is_some(),
            expires: self.registration.expires_at.since(now.instant),
            q: *q,
            instance: text.instance().map(Bytes::copy_from_slice),
            reg_id: *reg_id,
            path: text.path().map(Bytes::copy_from_slice).collect(),
            user_agent: text.user_agent().map(Bytes::copy_from_slice),
            nat: *nat,
        }
    }
}

/// Since when a phone is registered, for comparison: the later one is greater, and what is known from before a restart
/// is less than all that came after it.
pub(super) type Since = (Option<Instant>, Instant);

impl Registration {
    /// Since when it is there. Not by its end alone: what is granted differs from what was asked for.
    pub(super) fn since(&self) -> Since {
        let lasts = |seconds: NonZeroU32| Duration::from_secs(seconds.get().into());
        let begun =
            |granted| Instant::START + self.expires_at.since(Instant::START).saturating_sub(lasts(granted));
        (self.granted.map(begun), self.expires_at)
    }

    /// The way to the phone, if it can be used.
    pub(super) fn flow(&self, places: &Places) -> Option<Flow> {
        let remote = RemoteAddr(self.remote);
        if places.named(self.place).0.is_reliable() {
            let id = **self.connection.as_ref()?;
            Some(Flow::Connection { id, remote })
        } else {
            let listener = places.listener(self.place)?;
            Some(Flow::Datagram { listener, remote })
        }
    }

    /// Whether nothing but its flow leads to the phone: behind NAT, or because the phone said so.
    // RFC 5626 §3.2: a binding with a reg-id stands for its flow, and the phone makes another when it fails. With a
    // Path the flow is that of a proxy, which can be connected to again.
    pub(super) fn is_bound_to_flow(&self) -> bool {
        (self.nat || self.reg_id.is_some()) && !self.text.has_path()
    }

    /// Whether both are one binding to the store, if they are of one address of record.
    pub(super) fn has_key_of(&self, other: &Self) -> bool {
        self.text.contact() == other.text.contact()
            && self.reg_id == other.reg_id
            && (self.reg_id.is_none() || self.text.instance() == other.text.instance())
    }

    /// Whether it has this key, among the bindings of the key's address of record.
    pub(super) fn is_of(&self, key: &BindingKey) -> bool {
        let flow = self.reg_id.map(|reg_id| (self.text.instance().unwrap_or_default(), reg_id));
        self.text.contact() == key.contact
            && flow == key.flow.as_ref().map(|(instance, reg_id)| (&instance[..], *reg_id))
    }

    /// What tells it from the other bindings in the store.
    pub(super) fn key(&self, aor: &Aor) -> BindingKey {
        let instance = || Bytes::copy_from_slice(self.text.instance().unwrap_or_default());
        BindingKey {
            aor: aor.clone(),
            contact: Bytes::copy_from_slice(self.text.contact()),
            flow: self.reg_id.map(|reg_id| (instance(), reg_id)),
        }
    }
}
