//! The registrar: what a REGISTER does to the bindings of an address of record (RFC 3261 §10.3,
//! RFC 5626 §6).
//!
//! It first makes a plan against the bindings as they are and refuses what can not be; then it carries
//! the plan out, which can not fail. So a request changes all that it asks for, or nothing.
//!
//! Invariants: an address of record never gets more than `contacts_max` bindings by a request that
//! adds one; no two of its bindings have one key; the sender's order (Call-ID and CSeq) is kept for
//! each binding.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use keys::Key;
use lease::ActiveLease;
use sip::Uri;
use smallvec::SmallVec;
use transport::Flow;

use super::binding::{Binding, Registration};
use super::binding_text::{BindingText, Parts};
use super::keepalive::{self, Score};
use super::location::Location;
use super::places::PlaceId;
use super::{AOR_BYTES_MAX, Change, Output};
use crate::{
    Authority, BindingId, ContactUpdate, Contacts, Count, Counts, Register, RegisterRefusal, RegisterRight,
    Registered, RegisteredContact, Settings,
};

/// Contacts that one request may name. Comparing them costs the square of their number.
const UPDATES_MAX: usize = 32;

/// Below this a registrar may not call an interval too brief (RFC 3261 §10.3).
const BRIEF: Duration = Duration::from_secs(3_600);

/// No registrar behind this edge is believed to keep a phone for longer without hearing of it.
const ELSEWHERE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Phones of one address of record that are noted for a registrar behind this edge: its limit is its own, and what
/// is not noted only lacks keepalives.
const ELSEWHERE_CONTACTS_MAX: usize = 100;

/// Nearly every request names one contact, and that one fits one binding.
type Updates<'a> = SmallVec<[Update<'a>; 1]>;
type Steps<'a> = SmallVec<[Step<'a>; 1]>;
type Found = SmallVec<[BindingId; 2]>;

/// All that the registrar works with.
pub(super) struct Registrar<'a> {
    /// The bindings.
    pub location: &'a mut Location,
    /// The operator's rules.
    pub settings: &'a Settings,
    /// For the phases of keepalives and the spread of what is granted.
    pub key: &'a Key,
    /// For temporary GRUUs.
    pub gruu_key: &'a Key,
    /// What happened.
    pub counts: &'a mut Counts,
}

impl Registrar<'_> {
    /// Does what a REGISTER asks for, or nothing.
    pub(super) fn register(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        register: &Register,
        out: &mut Vec<Output>,
    ) -> Result<Registered, RegisterRefusal> {
        if register.aor.as_str().len() > AOR_BYTES_MAX {
            return Err(RegisterRefusal::Malformed);
        }
        if register.right == RegisterRight::Repeats && !self.is_repetition(now, register) {
            return Err(RegisterRefusal::NotRepeated);
        }
        self.end_overdue(now, lease, register, out);
        let is_outbound = match &register.contacts {
            Contacts::Query => false,
            Contacts::RemoveAll => {
                self.remove_all(register, out)?;
                false
            }
            Contacts::Update(wishes) => self.update(now, register, wishes, out)?,
        };
        let bindings = self.location.of(&register.aor).iter();
        let contacts = bindings
            .map(|binding| RegisteredContact {
                gruus: register.gruu.then(|| binding.gruus(self.gruu_key, &register.aor)).flatten(),
                ..binding.registered(now)
            })
            .collect();
        Ok(Registered { contacts, is_outbound })
    }

    /// Whether a request was carried out before: each of its contacts is still bound just as it says, by the same proof, and
    /// it comes from where it came from then. It may be sent by anybody who has seen it, and so must change nothing, add
    /// nothing, and tell nobody else.
    fn is_repetition(&self, now: Now, register: &Register) -> bool {
        let Contacts::Update(wishes) = &register.contacts else { return false };
        let Ok(updates) = self.updates(register, wishes) else { return false };
        let (bindings, remote) = (self.location.of(&register.aor), register.source.flow.remote().0);
        let is_meant = |it: &&Binding| updates.iter().any(|update| update.is_done(it, register));
        let is_as_it_was = |it: &Binding| it.is_live(now) && it.registration.remote == remote;
        register.response_hash != 0
            && matches!(plan(bindings, &updates, register), Ok(Plan::Repetition))
            && bindings.iter().filter(is_meant).all(is_as_it_was)
    }

    /// A binding that has run out is gone, also if nobody has looked yet.
    fn end_overdue(
        &mut self,
        now: Now,
        _lease: &ActiveLease<'_>,
        register: &Register,
        out: &mut Vec<Output>,
    ) {
        let bindings = self.location.of(&register.aor).iter();
        let overdue: Vec<BindingId> = bindings.filter(|it| !it.is_live(now)).map(|it| it.id).collect();
        for id in overdue {
            self.end(id, Count::BindingExpired, out);
        }
    }

    // RFC 3261 §10.3: step 6: `*` removes all bindings, but none if the request came out of order for one.
    fn remove_all(&mut self, register: &Register, out: &mut Vec<Output>) -> Result<(), RegisterRefusal> {
        if register.expires != Some(0) {
            return Err(RegisterRefusal::Malformed);
        }
        let bindings = self.location.of(&register.aor);
        let is_late = |it: &Binding| {
            it.registration.text.call_id() == register.call_id && register.cseq <= it.registration.cseq
        };
        if bindings.iter().any(is_late) {
            return Err(RegisterRefusal::OutOfOrder);
        }
        for id in bindings.iter().map(|it| it.id).collect::<Vec<_>>() {
            self.end(id, Count::BindingRemoved, out);
        }
        Ok(())
    }

    /// Whether a binding of the request is an RFC 5626 flow.
    fn update(
        &mut self,
        now: Now,
        register: &Register,
        wishes: &[ContactUpdate],
        out: &mut Vec<Output>,
    ) -> Result<bool, RegisterRefusal> {
        let updates = self.updates(register, wishes)?;
        let is_outbound = updates.iter().any(|update| !update.is_removal() && update.flow.is_some());
        match plan(self.location.of(&register.aor), &updates, register)? {
            Plan::Repetition => {}
            Plan::Steps(steps) => {
                let before = self.location.of(&register.aor).len();
                self.check_room(register, before, &steps)?;
                let texts = texts(register, &steps)?;
                let place = self.place(register)?;
                for (step, text) in steps.iter().zip(texts) {
                    self.carry_out(now, place, register, step, text, out);
                }
            }
        }
        Ok(is_outbound)
    }

    /// Reads the Contact values. Of two for one contact the last counts.
    fn updates<'a>(
        &self,
        register: &Register,
        wishes: &'a [ContactUpdate],
    ) -> Result<Updates<'a>, RegisterRefusal> {
        if wishes.len() > self.settings.registrar.contacts_max.max(UPDATES_MAX) {
            return Err(RegisterRefusal::TooManyContacts);
        }
        let mut updates: Updates<'a> = SmallVec::new();
        for wish in wishes {
            let uri = Uri::parse(&wish.uri).map_err(|_| RegisterRefusal::Malformed)?;
            let lasts = match register.authority {
                Authority::Here => self.lasts(wish.expires.or(register.expires))?,
                Authority::Elsewhere => {
                    let seconds = wish.expires.or(register.expires).unwrap_or_default();
                    Duration::from_secs(seconds.into()).min(ELSEWHERE_MAX)
                }
            };
            let update = Update { wish, uri, flow: flow(register, wish), lasts };
            updates.retain(|earlier: &mut Update<'_>| !earlier.names_what(&update));
            updates.push(update);
        }
        // RFC 5626 §6: a request that registers a flow registers nothing else; it may end others.
        let made = || updates.iter().filter(|update| !update.is_removal());
        if made().count() > 1 && made().any(|update| update.flow.is_some()) {
            return Err(RegisterRefusal::Malformed);
        }
        Ok(updates)
    }

    // RFC 3261 §10.3: step 7: the `expires` parameter counts, else the header field, else a default. Zero ends a
    // binding; what is wished but too brief and below an hour is refused; what is too long is cut.
    fn lasts(&self, wish: Option<u32>) -> Result<Duration, RegisterRefusal> {
        let rules = &self.settings.registrar;
        let Some(seconds) = wish else { return Ok(rules.default_expires.min(rules.max_expires)) };
        let wish = Duration::from_secs(seconds.into());
        if !wish.is_zero() && wish < rules.min_expires && wish < BRIEF {
            let min = u32::try_from(rules.min_expires.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
            return Err(RegisterRefusal::IntervalTooBrief { min });
        }
        Ok(wish.min(rules.max_expires))
    }

    // RFC 3261 §10.3: step 7: a registrar may grant less than was asked for. What it grants is spread, so that phones
    // that registered in one moment do not all come back in one. The same request is granted the same, here and on the
    // other node; the next one of the same phone is granted something else.
    fn granted(&self, register: &Register, update: &Update<'_>, before: Option<NonZeroU32>) -> Duration {
        let rules = &self.settings.registrar;
        let wish = update.lasts.as_secs();
        // Deviation: some phones ask the next time for what they were granted. Cut again and again, that would shrink to
        // the minimum. No other phone asks for just that, because a second at least was cut.
        let is_echo = before.is_some_and(|before| u64::from(before.get()) == wish);
        let cut_max = (wish * u64::from(rules.expires_spread_percent) / 100)
            .min(wish.saturating_sub(rules.min_expires.as_secs()));
        if is_echo || cut_max == 0 || register.authority == Authority::Elsewhere {
            return update.lasts;
        }
        let parts = [
            &b"expires"[..],
            register.aor.as_str().as_bytes(),
            &update.wish.uri,
            &register.call_id,
            &register.cseq.to_be_bytes(),
        ];
        update.lasts - Duration::from_secs(1 + self.key.mac(&parts).short() % cut_max)
    }

    fn check_room(
        &mut self,
        register: &Register,
        before: usize,
        steps: &[Step<'_>],
    ) -> Result<(), RegisterRefusal> {
        let added = steps.iter().filter(|step| step.put.is_some() && step.replaced.is_none()).count();
        let ended: usize = steps.iter().map(|step| step.ended.len()).sum();
        let after = before + added - ended;
        let limit = match register.authority {
            Authority::Here => self.settings.registrar.contacts_max,
            Authority::Elsewhere => self.settings.registrar.contacts_max.max(ELSEWHERE_CONTACTS_MAX),
        };
        // A limit that was lowered by a reload stops no refresh.
        if after > before && after > limit {
            return Err(RegisterRefusal::TooManyContacts);
        }
        if added > self.location.room() {
            self.counts.add(Count::Full);
            return Err(RegisterRefusal::Unavailable);
        }
        Ok(())
    }

    fn place(&mut self, register: &Register) -> Result<PlaceId, RegisterRefusal> {
        let listeners = &self.settings.listeners;
        // The listener may have gone by a reload while the request was on its way.
        let listener = listeners.get(register.source.flow.listener()).ok_or(RegisterRefusal::Unavailable)?;
        let named = (listener.transport, listener.local);
        self.location.place(named, listeners).ok_or(RegisterRefusal::Unavailable)
    }

    fn carry_out(
        &mut self,
        now: Now,
        place: PlaceId,
        register: &Register,
        step: &Step<'_>,
        text: Option<BindingText>,
        out: &mut Vec<Output>,
    ) {
        for &id in &step.ended {
            self.end(id, Count::BindingRemoved, out);
        }
        let (Some(update), Some(text)) = (step.put, text) else { return };
        let before = step.replaced.and_then(|id| self.location.find(id));
        let before = before.and_then(|(_, binding)| binding.registration.granted);
        let granted = self.granted(register, update, before);
        let registration = registration(now, place, register, update, granted, text);
        let id = match step.replaced {
            Some(id) => {
                self.replace(now, id, register, registration, out);
                Some(id)
            }
            None => {
                self.counts.add(Count::BindingAdded);
                let score = Score::new(self.next_turn(now, register, &registration));
                self.location.add(&register.aor, registration, score)
            }
        };
        if let Some((aor, binding)) = id.and_then(|id| self.location.find(id)) {
            out.push(Output::Save(Change::Put(Box::new(binding.stored(now, aor, self.location.places())))));
        }
    }

    fn replace(
        &mut self,
        now: Now,
        id: BindingId,
        register: &Register,
        registration: Registration,
        out: &mut Vec<Output>,
    ) {
        self.counts.add(Count::BindingRefreshed);
        let next_at = self.next_turn(now, register, &registration);
        let flow = registration.flow(self.location.places());
        let Some((aor, before)) = self.location.find(id) else { return };
        let flow_before = before.registration.flow(self.location.places());
        if !before.registration.has_key_of(&registration) {
            out.push(Output::Save(Change::Remove(before.registration.key(aor))));
        }
        self.location.change(id, |binding| {
            if flow_before == flow {
                binding.score.refresh();
            } else {
                binding.score.change_flow();
            }
            binding.score.next_at = next_at;
            binding.registration = registration;
        });
    }

    fn next_turn(&self, now: Now, register: &Register, registration: &Registration) -> Instant {
        let (nat, places) = (&self.settings.nat, self.location.places());
        keepalive::next_turn(self.key, nat, places, now.instant, &register.aor, registration)
    }

    fn end(&mut self, id: BindingId, count: Count, out: &mut Vec<Output>) {
        if let Some((aor, binding)) = self.location.remove(id) {
            self.counts.add(count);
            out.push(Output::Save(Change::Remove(binding.registration.key(&aor))));
        }
    }
}

/// One Contact value, read.
struct Update<'a> {
    wish: &'a ContactUpdate,
    uri: Uri<'a>,
    /// `+sip.instance` and `reg-id`, if RFC 5626 is in force for it.
    flow: Option<(&'a Bytes, u32)>,
    /// Zero ends the binding.
    lasts: Duration,
}

impl Update<'_> {
    fn is_removal(&self) -> bool {
        self.lasts.is_zero()
    }

    /// Whether both are about one binding.
    fn names_what(&self, other: &Update<'_>) -> bool {
        match (self.flow, other.flow) {
            (Some(flow), Some(other)) => is_same_flow(flow.0, flow.1, other.0, other.1),
            _ => self.wish.uri == other.wish.uri || self.uri.equivalent(&other.uri),
        }
    }

    /// Whether the binding is the one that this is about.
    fn fits(&self, binding: &Binding) -> bool {
        let Registration { text, reg_id, .. } = &binding.registration;
        // RFC 5626 §6: a flow is known by instance and reg-id, whatever its URI.
        if let (Some((instance, number)), Some(reg_id)) = (self.flow, *reg_id) {
            return is_same_flow(instance, number, text.instance().unwrap_or_default(), reg_id);
        }
        // RFC 3261 §10.3: step 7: all others are known by their URI, compared as RFC 3261 §19.1.4 says. That also finds
        // the same phone where it was registered as a flow before, or will be one.
        self.wish.uri == text.contact()
            || Uri::parse(text.contact()).is_ok_and(|contact| self.uri.equivalent(&contact))
    }

    /// Whether the binding is just what this would make of it.
    fn is_done(&self, binding: &Binding, register: &Register) -> bool {
        let Registration { text, response_hash, reg_id, q, .. } = &binding.registration;
        !self.is_removal()
            && self.wish.uri == text.contact()
            && register.response_hash == *response_hash
            && self.wish.q == *q
            && self.flow.map(|(_, reg_id)| reg_id) == *reg_id
    }
}

/// What a request amounts to.
enum Plan<'a> {
    /// It was carried out before.
    Repetition,
    /// This is to be done.
    Steps(Steps<'a>),
}

/// What one Contact value amounts to.
struct Step<'a> {
    /// These end.
    ended: Found,
    /// This one is kept, and becomes what is `put`.
    replaced: Option<BindingId>,
    /// This is registered.
    put: Option<&'a Update<'a>>,
}

fn plan<'a>(
    bindings: &[Binding],
    updates: &'a [Update<'a>],
    register: &Register,
) -> Result<Plan<'a>, RegisterRefusal> {
    let mut steps = Steps::new();
    let mut claimed = Found::new();
    let mut repeated = 0;
    for update in updates {
        let mut found = Found::new();
        let mut is_repeated = false;
        for binding in bindings {
            // Comparison of URIs is not transitive: two updates may fit one binding.
            if claimed.contains(&binding.id) || !update.fits(binding) {
                continue;
            }
            claimed.push(binding.id);
            match order(binding, update, register)? {
                Order::Follows => found.push(binding.id),
                Order::Repeats => is_repeated = true,
            }
        }
        if is_repeated {
            repeated += 1;
            if !found.is_empty() {
                return Err(RegisterRefusal::OutOfOrder);
            }
        } else if update.is_removal() {
            if !found.is_empty() {
                steps.push(Step { ended: found, replaced: None, put: None });
            }
        } else {
            let replaced = (!found.is_empty()).then(|| found.remove(0));
            steps.push(Step { ended: found, replaced, put: Some(update) });
        }
    }
    match (repeated, steps.is_empty()) {
        (0, _) => Ok(Plan::Steps(steps)),
        (_, true) => Ok(Plan::Repetition),
        // One CSeq stands for one request: this one says something else than the first did.
        (_, false) => Err(RegisterRefusal::OutOfOrder),
    }
}

enum Order {
    Follows,
    Repeats,
}

// RFC 3261 §10.3: step 7: within one Call-ID only a higher CSeq changes a binding; another Call-ID is a phone
// that has started anew. A request whose binding is there already, with the same proof of the password, is a
// retransmission that outlived its transaction: it is answered and changes nothing.
fn order(binding: &Binding, update: &Update<'_>, register: &Register) -> Result<Order, RegisterRefusal> {
    let Registration { text, cseq, .. } = &binding.registration;
    if text.call_id() != register.call_id || register.cseq > *cseq {
        Ok(Order::Follows)
    } else if register.cseq == *cseq && update.is_done(binding, register) {
        Ok(Order::Repeats)
    } else {
        Err(RegisterRefusal::OutOfOrder)
    }
}

/// The texts of what is put, made before anything is changed.
fn texts(
    register: &Register,
    steps: &[Step<'_>],
) -> Result<SmallVec<[Option<BindingText>; 1]>, RegisterRefusal> {
    let text = |step: &Step<'_>| {
        let Some(update) = step.put else { return Ok(None) };
        let parts = Parts {
            contact: &update.wish.uri,
            call_id: &register.call_id,
            instance: update.wish.instance.as_deref(),
            user_agent: register.user_agent.as_deref(),
            path: &register.path,
        };
        BindingText::new(&parts).map(Some).ok_or(RegisterRefusal::Malformed)
    };
    steps.iter().map(text).collect()
}

fn registration(
    now: Now,
    place: PlaceId,
    register: &Register,
    update: &Update<'_>,
    granted: Duration,
    text: BindingText,
) -> Registration {
    let connection = match register.source.flow {
        Flow::Datagram { .. } => None,
        Flow::Connection { id, .. } => Some(Box::new(id)),
    };
    Registration {
        text,
        remote: register.source.flow.remote().0,
        place,
        connection,
        expires_at: now.instant + granted,
        granted: u32::try_from(granted.as_secs()).ok().and_then(NonZeroU32::new),
        response_hash: register.response_hash,
        cseq: register.cseq,
        reg_id: update.flow.map(|(_, reg_id)| reg_id),
        q: update.wish.q,
        nat: register.nat,
    }
}

// RFC 5626 §6: `reg-id` without an instance is ignored. So is 0, which numbers no flow.
fn flow<'a>(register: &Register, wish: &'a ContactUpdate) -> Option<(&'a Bytes, u32)> {
    let reg_id = wish.reg_id.filter(|&reg_id| register.outbound && reg_id > 0)?;
    Some((wish.instance.as_ref()?, reg_id))
}

/// Instances are URNs, mostly UUIDs, whose case makes no difference.
fn is_same_flow(instance: &[u8], reg_id: u32, other: &[u8], other_reg_id: u32) -> bool {
    reg_id == other_reg_id && instance.eq_ignore_ascii_case(other)
}
