//! The machine: takes questions, the store's word, keepalive answers and time, and lets the parts
//! work together.
//!
//! It never sends but keepalives, and never without the lease; it never waits: a question that memory
//! can not answer stands in `accounts` until the store has spoken or the time limit is reached. Every
//! question gets exactly one answer.

use std::sync::Arc;
use std::time::Duration;

use clock::{Instant, Now};
use lease::{ActiveLease, Tenure};
use sip::Aor;
use transport::ConnectionId;

use super::accounts::{Accounts, Asked, Knowledge, Settled, Waiter, Wants};
use super::binding::Binding;
use super::call_rate::{Allowance, CallRates};
use super::calls::Calls;
use super::failures::{Failures, Pace, SlowedName};
use super::location::Location;
use super::nonce_counts::{NonceCounts, Use};
use super::registrar::Registrar;
use super::returns::Returns;
use super::{Asker, BindingView, Change, Loaded, Output, StoredNonce, preference, verify};
use crate::bans::{Admission, Deed, Enforcement, Evidence, SourceNetwork};
use crate::gruu;
use crate::{
    Account, Answer, Authenticate, Authenticated, BindingId, Count, Counts, KeepaliveMark, Keyring, Located,
    Phone, Question, Register, Report, Settings, Target,
};

mod copies;

/// Bindings that one call looks after, so that it stays short when very many are due.
const TURN_MAX: usize = 1_024;

/// Whether credentials are slowed down because others were wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The operator says never.
    NeverHeld,
    /// Not this sender, which was right before.
    Known,
    /// They are.
    Unknown,
}

/// One partition of all addresses of record.
#[derive(Debug)]
pub struct AccountPartition {
    pub(super) settings: Arc<Settings>,
    pub(super) keyring: Keyring,
    pub(super) number: u16,
    pub(super) accounts: Accounts,
    pub(super) nonces: NonceCounts,
    failures: Failures,
    call_rates: CallRates,
    pub(super) location: Location,
    pub(super) calls: Calls,
    pub(super) gateway_calls: Calls,
    pub(super) returns: Returns,
    pub(super) counts: Counts,
    pub(super) tenure: Tenure,
    /// Turns of bindings before this were not this node's to take.
    pub(super) active_since: Instant,
}

impl AccountPartition {
    /// A partition that knows nothing. `partition` is its number.
    pub fn new(settings: Arc<Settings>, keyring: Keyring, partition: u16) -> Self {
        Self {
            accounts: Accounts::new(&keyring.partition),
            nonces: NonceCounts::new(&keyring.nonce),
            failures: Failures::new(),
            call_rates: CallRates::new(),
            location: Location::new(&keyring.partition),
            calls: Calls::default(),
            gateway_calls: Calls::default(),
            returns: Returns::default(),
            counts: Counts::default(),
            tenure: Tenure::default(),
            active_since: Instant::START,
            number: partition,
            settings,
            keyring,
        }
    }

    /// Takes other settings. Bindings of a listener that is gone stay, and are reached again when it is back.
    pub fn reload(&mut self, settings: Arc<Settings>) {
        let is_other =
            self.settings.nat != settings.nat || !Arc::ptr_eq(&self.settings.listeners, &settings.listeners);
        self.settings = settings;
        if is_other {
            self.location.reload(&self.settings.listeners);
        }
    }

    /// How many calls a gateway has, of those that are counted.
    pub fn gateway_calls(&self, now: Instant, gateway: &Aor) -> usize {
        self.gateway_calls.count_of(now, gateway)
    }

    /// Takes a question. It is answered at once if memory knows the answer, else when the store has spoken.
    pub fn handle_question(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        asker: Asker,
        question: Question,
        out: &mut Vec<Output>,
    ) {
        self.enter(now.instant, lease);
        match question {
            Question::Authenticate(authenticate) => self.authenticate(now, asker, authenticate, out),
            Question::Register(register) => self.register(now, lease, asker, &register, out),
            Question::Locate(aor) => self.locate(now, asker, aor, out),
            Question::Call(aor) => self.call(now, asker, aor, out),
            Question::AwaitReturn(aor, time) => self.returns.wait(now.instant, aor, asker, time),
            Question::LocatePhone(aor, phone) => self.locate_phone(now, asker, aor, &phone, out),
            Question::EnterGateway(gateway, call, max) => {
                let until = now.instant + self.settings.proxy.longest_call;
                let answer = self.gateway_calls.enter_gateway(now.instant, gateway, call, max, until);
                out.push(Output::Answer { asker, answer });
            }
            Question::LeaveGateway(gateway, call) => {
                self.gateway_calls.leave(&gateway, call);
                out.push(Output::Answer { asker, answer: Answer::Noted });
            }
            Question::CallGoesOn(aor, call) => {
                let until = now.instant + self.settings.proxy.longest_call;
                // It was admitted when it began.
                self.calls.admit(now.instant, &aor, call, u32::MAX, until);
                out.push(Output::Answer { asker, answer: Answer::Noted });
            }
            Question::CallEnded(aor, call) => {
                self.calls.leave(&aor, call);
                out.push(Output::Answer { asker, answer: Answer::Noted });
            }
        }
    }

    /// Takes the store's answer to [`Output::LoadAccount`]; all that wait for it are answered. A late one, or
    /// one that nobody waits for, is learnt.
    pub fn handle_account(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        aor: &Aor,
        loaded: Loaded,
        out: &mut Vec<Output>,
    ) {
        self.enter(now.instant, lease);
        match self.accounts.loaded(now.instant, aor, &loaded) {
            Settled::AskAgain => out.push(Output::LoadAccount(aor.clone())),
            Settled::Wake(waiters) => self.wake(now, aor, waiters, out),
        }
    }

    /// Forgets an account that was added, changed or removed in the store by this program. Its bindings
    /// stay until they run out.
    pub fn handle_account_changed(&mut self, _now: Now, aor: &Aor) {
        self.accounts.forget(aor);
    }

    /// Takes the news that a keepalive was answered, however.
    pub fn handle_keepalive_answered(&mut self, _now: Now, mark: KeepaliveMark, _out: &mut Vec<Output>) {
        let is_ours = mark.partition == self.number;
        let answered = |binding: &mut Binding| binding.score.answered(mark.number);
        if is_ours && self.location.change(mark.binding, answered) == Some(true) {
            self.counts.add(Count::KeepaliveAnswered);
        }
    }

    /// Takes the news that a connection is gone. Bindings that only it could reach end; to the others a
    /// connection can be opened.
    pub fn handle_connection_closed(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        id: ConnectionId,
        out: &mut Vec<Output>,
    ) {
        self.enter(now.instant, lease);
        for binding in self.location.on_connection(id) {
            let is_lost = self.location.change(binding, |binding| {
                binding.registration.connection = None;
                binding.registration.is_bound_to_flow()
            });
            if is_lost == Some(true) {
                self.end(lease, binding, Count::BindingDead, out);
            }
        }
    }

    /// Every connection that a binding depends on, once, in order: the edge closes no such one for being idle.
    pub fn bound_connections(&self) -> Vec<ConnectionId> {
        self.location.connections()
    }

    /// Takes the counts of a nonce from the store at the start, or from the active node. Gives the nonce's number; `None` if
    /// it has ended.
    pub fn restore_nonce(&mut self, now: Now, nonce: StoredNonce) -> Option<u64> {
        self.nonces.restore(now, nonce)
    }

    /// Lets time pass: bindings run out, keepalives are sent, who waited too long is answered.
    pub fn handle_timeout(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        self.enter(now.instant, lease);
        self.nonces.handle_timeout(now.instant);
        for (aor, waiters) in self.accounts.handle_timeout(now.instant) {
            self.wake(now, &aor, waiters, out);
        }
        for _ in 0..TURN_MAX {
            let Some(id) = self.location.due(now.instant) else { break };
            match self.location.find(id) {
                Some((_, binding)) if binding.is_live(now) => self.take_turn(now, lease, id, out),
                _ => self.end(lease, id, Count::BindingExpired, out),
            }
        }
    }

    /// When time should next pass; it may lie in the past if there was too much for one call. For a standby none passes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.tenure.is_standby() {
            return None;
        }
        let nexts = [self.accounts.poll_timeout(), self.nonces.poll_timeout(), self.location.next()];
        nexts.into_iter().flatten().filter(|&at| at != Instant::FAR).min()
    }

    /// The bindings of one or all addresses of record, in their order.
    pub fn bindings(&self, aor: Option<&Aor>, now: Now) -> Vec<BindingView> {
        let places = self.location.places();
        let view = |aor: &Aor, bindings: &[Binding]| -> Vec<BindingView> {
            bindings.iter().filter(|it| it.is_live(now)).map(|it| it.view(now, aor, places)).collect()
        };
        match aor {
            Some(aor) => view(aor, self.location.of(aor)),
            None => {
                let mut all: Vec<_> =
                    self.location.iter().flat_map(|(aor, bindings)| view(aor, bindings)).collect();
                all.sort_by(|one, other| one.aor.cmp(&other.aor));
                all
            }
        }
    }

    /// The nonces in use, to be kept over a stop.
    pub fn stored_nonces(&self, now: Now) -> Vec<StoredNonce> {
        self.nonces.stored(now)
    }

    /// The names that are slowed down now, in order.
    pub fn slowed_names(&self, now: Now) -> Vec<SlowedName> {
        self.failures.slowed(now.instant)
    }

    /// Forgets the wrong passwords of one source, or of all.
    pub fn forgive(&mut self, network: Option<SourceNetwork>) {
        self.failures.forgive(network);
    }

    /// What has happened.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many bindings there are.
    pub fn binding_count(&self) -> usize {
        self.location.len()
    }

    /// How many accounts are remembered.
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    fn authenticate(
        &mut self,
        now: Now,
        asker: Asker,
        authenticate: Box<Authenticate>,
        out: &mut Vec<Output>,
    ) {
        let aor = authenticate.account.clone();
        let wait = |authenticate| Waiter { asker, wants: Wants::Verdict(authenticate) };
        let standing = self.standing(now, &authenticate);
        if let Some(verdict) = self.unchecked(now, &authenticate, standing) {
            return self.judged(now, asker, &authenticate, standing, verdict, out);
        }
        match self.accounts.find(now.instant, &aor) {
            Knowledge::Known(known) => {
                let verdict = self.verdict(now, Some(&known.account), &authenticate);
                if verdict == Authenticated::No && known.is_old {
                    return self.wait(now, &aor, wait(authenticate), Answer::Authenticated(verdict), out);
                }
                if known.is_due && self.accounts.refresh(now.instant, &aor) == Asked::First {
                    out.push(Output::LoadAccount(aor));
                }
                self.judged(now, asker, &authenticate, standing, verdict, out);
            }
            Knowledge::Unknown => {
                let verdict = self.verdict(now, None, &authenticate);
                self.judged(now, asker, &authenticate, standing, verdict, out);
            }
            Knowledge::Nothing => {
                let unavailable = Answer::Authenticated(Authenticated::Unavailable);
                self.wait(now, &aor, wait(authenticate), unavailable, out);
            }
        }
    }

    fn register(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        asker: Asker,
        register: &Register,
        out: &mut Vec<Output>,
    ) {
        let mut registrar = Registrar {
            location: &mut self.location,
            settings: &self.settings,
            key: &self.keyring.keepalive,
            gruu_key: &self.keyring.gruu,
            counts: &mut self.counts,
        };
        let answer = Answer::Registered(registrar.register(now, lease, register, out));
        out.push(Output::Answer { asker, answer });
        let waiting = self.returns.take(&register.aor);
        if !waiting.is_empty() {
            let targets = self.targets(now, &register.aor);
            for asker in waiting {
                located(asker, Located::Targets(targets.clone()), out);
            }
        }
    }

    fn locate(&mut self, now: Now, asker: Asker, aor: Aor, out: &mut Vec<Output>) {
        let targets = self.targets(now, &aor);
        if !targets.is_empty() {
            return located(asker, Located::Targets(targets), out);
        }
        match self.accounts.find(now.instant, &aor) {
            Knowledge::Known(known) => {
                if known.is_due && self.accounts.refresh(now.instant, &aor) == Asked::First {
                    out.push(Output::LoadAccount(aor.clone()));
                }
                located(asker, nowhere(&aor, &known.account), out);
            }
            Knowledge::Unknown => located(asker, Located::UnknownAor, out),
            Knowledge::Nothing => {
                let waiter = Waiter { asker, wants: Wants::Existence };
                self.wait(now, &aor, waiter, Answer::Located(Located::Unavailable), out);
            }
        }
    }

    /// As [`Self::locate`], but what the account wants has to be known before, if that can be.
    fn call(&mut self, now: Now, asker: Asker, aor: Aor, out: &mut Vec<Output>) {
        let targets = self.targets(now, &aor);
        match self.accounts.find(now.instant, &aor) {
            Knowledge::Nothing if targets.is_empty() => {
                let waiter = Waiter { asker, wants: Wants::Call };
                self.wait(now, &aor, waiter, Answer::Located(Located::Unavailable), out);
            }
            Knowledge::Nothing => {
                let waiter = Waiter { asker, wants: Wants::Rules };
                self.wait(now, &aor, waiter, Answer::Located(Located::Targets(targets)), out);
            }
            knowledge => {
                let is_due = matches!(&knowledge, Knowledge::Known(known) if known.is_due);
                if is_due && self.accounts.refresh(now.instant, &aor) == Asked::First {
                    out.push(Output::LoadAccount(aor.clone()));
                }
                located(asker, ruled(&aor, &knowledge, targets), out);
            }
        }
    }

    // RFC 5627 §6.1: a request for a GRUU goes to that phone alone, by the flow that was registered last.
    fn locate_phone(&mut self, now: Now, asker: Asker, aor: Aor, phone: &Phone, out: &mut Vec<Output>) {
        let key = &self.keyring.gruu;
        let is_meant = |binding: &&Binding| {
            let text = &binding.registration.text;
            let instance = text.instance().unwrap_or_default();
            binding.is_live(now) && gruu::is_meant(key, phone, instance, text.call_id())
        };
        let mut found: Vec<&Binding> = self.location.of(&aor).iter().filter(is_meant).collect();
        found.sort_by_key(|binding| std::cmp::Reverse((binding.registration.since(), binding.id)));
        // Contacts that are no flows (RFC 5626) of one phone: only the last one is where it is.
        if found.first().is_some_and(|binding| binding.registration.reg_id.is_none()) {
            found.truncate(1);
        }
        let places = self.location.places();
        let targets: Vec<_> = found.iter().map(|binding| binding.target(&aor, places)).collect();
        match phone {
            _ if !targets.is_empty() => located(asker, Located::Targets(targets), out),
            // RFC 5627 §5.3: a temporary one ends with the registration, and is nobody's then.
            Phone::Temporary { .. } => located(asker, Located::UnknownAor, out),
            Phone::Instance(_) if !self.location.of(&aor).is_empty() => {
                located(asker, Located::Targets(Vec::new()), out);
            }
            Phone::Instance(_) => self.locate(now, asker, aor, out),
        }
    }

    /// Lets a request wait for the store; `otherwise` is its answer if too many wait.
    fn wait(&mut self, now: Now, aor: &Aor, waiter: Waiter, otherwise: Answer, out: &mut Vec<Output>) {
        let asker = waiter.asker;
        match self.accounts.wait(now.instant, aor, waiter) {
            Asked::First => out.push(Output::LoadAccount(aor.clone())),
            Asked::Already => {}
            Asked::Full => {
                self.counts.add(Count::Full);
                out.push(Output::Answer { asker, answer: otherwise });
            }
        }
    }

    /// Answers those who waited, by what is known at last.
    fn wake(&mut self, now: Now, aor: &Aor, waiters: Vec<Waiter>, out: &mut Vec<Output>) {
        let knowledge = self.accounts.find(now.instant, aor);
        for Waiter { asker, wants } in waiters {
            match (wants, &knowledge) {
                (Wants::Verdict(authenticate), knowledge) => {
                    // Those that waited with it may have been wrong meanwhile.
                    let standing = self.standing(now, &authenticate);
                    let verdict = match (self.unchecked(now, &authenticate, standing), knowledge) {
                        (Some(verdict), _) => verdict,
                        (None, Knowledge::Known(known)) => {
                            self.verdict(now, Some(&known.account), &authenticate)
                        }
                        (None, Knowledge::Unknown) => self.verdict(now, None, &authenticate),
                        (None, Knowledge::Nothing) => Authenticated::Unavailable,
                    };
                    self.judged(now, asker, &authenticate, standing, verdict, out);
                }
                (Wants::Existence, knowledge) => {
                    let targets = self.targets(now, aor);
                    located(asker, bare(aor, knowledge, targets), out);
                }
                (Wants::Rules | Wants::Call, knowledge) => {
                    let targets = self.targets(now, aor);
                    located(asker, ruled(aor, knowledge, targets), out);
                }
            }
        }
    }

    /// Whether the wrong passwords of others are laid to the sender.
    // A phone whose password somebody behind the same NAT guesses: its own flow, and a nonce that it has answered
    // rightly, are known to nobody else.
    fn standing(&self, now: Now, authenticate: &Authenticate) -> Standing {
        let Authenticate { account, source, evidence, nonce, .. } = authenticate;
        let remote = source.flow.remote().0;
        let is_from = |binding: &Binding| binding.is_live(now) && binding.registration.remote == remote;
        let is_own_flow = || *evidence == Evidence::Shown && self.location.of(account).iter().any(is_from);
        if self.settings.is_never_held(remote.ip()) {
            Standing::NeverHeld
        } else if is_own_flow() || self.nonces.is_known(account, nonce) {
            Standing::Known
        } else {
            Standing::Unknown
        }
    }

    /// The verdict over credentials that are not checked, because others were wrong before.
    fn unchecked(&self, now: Now, authenticate: &Authenticate, standing: Standing) -> Option<Authenticated> {
        if standing != Standing::Unknown {
            return None;
        }
        let Authenticate { account, source, evidence, .. } = authenticate;
        let network = SourceNetwork::of(source.flow.remote().0.ip());
        match self.failures.pace(now.instant, &self.settings.admission, network, account, *evidence) {
            Pace::Free => None,
            Pace::Slow => Some(Authenticated::Slowed),
            Pace::Afresh => Some(Authenticated::Stale),
        }
    }

    /// Gives a verdict, and tells what it says of the source.
    fn judged(
        &mut self,
        now: Now,
        asker: Asker,
        authenticate: &Authenticate,
        standing: Standing,
        verdict: Authenticated,
        out: &mut Vec<Output>,
    ) {
        let Authenticate { account, source, evidence, .. } = authenticate;
        let network = SourceNetwork::of(source.flow.remote().0.ip());
        let deed = match verdict {
            Authenticated::No => {
                if standing != Standing::NeverHeld {
                    let rules = &self.settings.admission;
                    self.failures.wrong(now.instant, rules, network, account, *evidence);
                }
                Some(Deed::WrongCredentials)
            }
            Authenticated::Slowed => Some(Deed::Persisted),
            Authenticated::Yes | Authenticated::Alias(_) | Authenticated::NotOwner => {
                // Who guesses behind the same NAT is not forgiven because the phone is right.
                if standing == Standing::Unknown {
                    self.failures.right(network, account);
                }
                Some(Deed::Authenticated)
            }
            Authenticated::Stale
            | Authenticated::TooManyCalls
            | Authenticated::Counted { .. }
            | Authenticated::Ruled { .. }
            | Authenticated::Unavailable => None,
        };
        if let Some(deed) = deed {
            out.push(Output::Report(Report { flow: source.flow, evidence: *evidence, deed }));
        }
        let verdict = self.within_rate(now, authenticate, verdict);
        let verdict = self.with_rule(now, authenticate, verdict);
        let verdict = self.within_limit(now, authenticate, verdict);
        out.push(Output::Answer { asker, answer: Answer::Authenticated(verdict) });
    }

    /// The verdict over a call that would be let in: its account may have begun too many.
    fn within_rate(
        &mut self,
        now: Now,
        authenticate: &Authenticate,
        verdict: Authenticated,
    ) -> Authenticated {
        let is_in = matches!(verdict, Authenticated::Yes | Authenticated::Alias(_));
        if !is_in || authenticate.method != "INVITE" {
            return verdict;
        }
        let Admission { calls_per_minute, enforcement, .. } = self.settings.admission;
        let per_minute = if enforcement == Enforcement::On { calls_per_minute } else { 0 };
        let account = &authenticate.account;
        match self.call_rates.begin(now.instant, per_minute, account) {
            Allowance::Granted => return verdict,
            Allowance::SpentNow => tracing::warn!(
                %account,
                per_minute,
                "an account begins more calls than it may; its password may be stolen"
            ),
            Allowance::Spent => {}
        }
        Authenticated::TooManyCalls
    }

    fn verdict(&mut self, now: Now, account: Option<&Account>, authenticate: &Authenticate) -> Authenticated {
        let is_right = verify::is_right(account, authenticate);
        let Some(account) = account.filter(|_| is_right) else { return Authenticated::No };
        let count = authenticate.quality.as_ref().map(|quality| quality.count);
        let Authenticate { nonce, nonce_left, owns, .. } = authenticate;
        let used = self.nonces.use_count(now.instant, &authenticate.account, nonce, count, *nonce_left);
        if used == Use::Used {
            Authenticated::Stale
        } else if *owns == account.aor {
            Authenticated::Yes
        } else if account.aliases.contains(owns) {
            Authenticated::Alias(account.aor.clone())
        } else if account.may_use.contains(owns) {
            Authenticated::Yes
        } else {
            Authenticated::NotOwner
        }
    }

    /// The verdict over a call that would be let in: its account may have as many as it may have.
    fn within_limit(
        &mut self,
        now: Now,
        authenticate: &Authenticate,
        verdict: Authenticated,
    ) -> Authenticated {
        let is_in =
            matches!(verdict, Authenticated::Yes | Authenticated::Alias(_) | Authenticated::Ruled { .. });
        let Some(call) = authenticate.call.filter(|_| is_in) else { return verdict };
        let account = &authenticate.account;
        let own = match self.accounts.find(now.instant, account) {
            Knowledge::Known(known) => known.account.calls.limit,
            Knowledge::Unknown | Knowledge::Nothing => None,
        };
        let proxy = &self.settings.proxy;
        let Some(max) = own.or(proxy.calls_per_account) else { return verdict };
        if self.calls.admit(now.instant, account, call, max, now.instant + proxy.longest_call) {
            Authenticated::Counted { verdict: Box::new(verdict), account: account.clone(), call }
        } else {
            Authenticated::TooManyCalls
        }
    }

    /// The verdict over a call that is let in, with what its account says of media.
    fn with_rule(&mut self, now: Now, authenticate: &Authenticate, verdict: Authenticated) -> Authenticated {
        let is_in = matches!(verdict, Authenticated::Yes | Authenticated::Alias(_));
        if !is_in || authenticate.call.is_none() {
            return verdict;
        }
        match self.accounts.find(now.instant, &authenticate.account) {
            Knowledge::Known(known) => match known.account.calls.relay {
                Some(relay) => Authenticated::Ruled { verdict: Box::new(verdict), relay },
                None => verdict,
            },
            Knowledge::Unknown | Knowledge::Nothing => verdict,
        }
    }

    pub(super) fn targets(&self, now: Now, aor: &Aor) -> Vec<crate::Target> {
        let live = self.location.of(aor).iter().filter(|binding| binding.is_live(now));
        let places = self.location.places();
        let targets = live.map(|it| (it.registration.since(), it.target(aor, places)));
        preference::in_order(targets.collect())
    }

    pub(super) fn end(
        &mut self,
        _lease: &ActiveLease<'_>,
        id: BindingId,
        count: Count,
        out: &mut Vec<Output>,
    ) {
        if let Some((aor, binding)) = self.location.remove(id) {
            self.counts.add(count);
            out.push(Output::Save(Change::Remove(binding.registration.key(&aor))));
        }
    }
}

#[cfg(test)]
impl AccountPartition {
    /// Stops the test if an invariant is broken.
    pub(super) fn check(&self) {
        self.location.check();
    }
}

/// The answer of what is known of an address of record and its bindings.
fn bare(aor: &Aor, knowledge: &Knowledge, targets: Vec<Target>) -> Located {
    match knowledge {
        _ if !targets.is_empty() => Located::Targets(targets),
        Knowledge::Known(known) => nowhere(aor, &known.account),
        Knowledge::Unknown => Located::UnknownAor,
        Knowledge::Nothing => Located::Unavailable,
    }
}

/// The same with the rules of the account, if it has any.
fn ruled(aor: &Aor, knowledge: &Knowledge, targets: Vec<Target>) -> Located {
    match knowledge {
        Knowledge::Known(known) if known.account.aor == *aor && !known.account.calls.is_default() => {
            Located::Ruled(targets, Arc::clone(&known.account))
        }
        _ => bare(aor, knowledge, targets),
    }
}

/// The answer for an address of record that exists but has no binding of its own.
fn nowhere(aor: &Aor, account: &Account) -> Located {
    if account.aor == *aor { Located::Targets(Vec::new()) } else { Located::Alias(account.aor.clone()) }
}

fn located(asker: Asker, located: Located, out: &mut Vec<Output>) {
    out.push(Output::Answer { asker, answer: Answer::Located(located) });
}
