//! The stages of a request that begins something: whose is it, who sent it, where does it go.

use bytes::Bytes;
use sip::{Aor, Freshness, Message, Method, Status, Uri};

use super::admission::{self, Identity, Proof};
use super::carrier_call::CarrierCall;
use super::inbound::{Inbound, Sender, Turn};
use super::lead::Lead;
use super::own::is_own;
use super::reply::Reply;
use super::suspended::{Located as Look, Sought, Stage};
use super::user::TransactionUser;
use super::{Output, edge, nonce, register, session, target, validation};
use crate::gruu::Gruu;
use crate::{Authenticated, Count, Located, Question, Register, RegisterRefusal, RegisterRight, Registered};

/// What a Request-URI means to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// This server itself.
    Ourselves,
    /// A user of one of our domains.
    User(Aor),
    /// Somewhere else.
    Foreign,
    /// A number, to which no way leads.
    Number,
    /// A GRUU that is none.
    Nobody,
}

/// RFC 3261 §16.5: what a request is for, once Route is read. A Route that leads elsewhere goes first.
pub(super) fn resource(inbound: &Inbound) -> Resource {
    if inbound.routed.next.is_some() {
        return Resource::Foreign;
    }
    match &inbound.routed.gruu {
        Some(Gruu::Of(aor, _)) => return Resource::User(aor.clone()),
        Some(Gruu::Invalid) => return Resource::Nobody,
        None => {}
    }
    match Uri::parse(&inbound.routed.request_uri) {
        Ok(Uri::Sip(uri)) if is_own(&inbound.settings, &uri) => {
            Aor::of(&uri).map_or(Resource::Ourselves, Resource::User)
        }
        Ok(Uri::Tel(_)) => Resource::Number,
        _ => Resource::Foreign,
    }
}

impl TransactionUser {
    /// A request that passed the checks.
    pub(super) fn receive(&mut self, turn: Turn<'_, '_>, mut inbound: Inbound, out: &mut Vec<Output>) {
        let method = turn.request.method().unwrap_or(Method::Other(b""));
        let resource = resource(&inbound);
        tracing::debug!(call_id = %Inbound::call_id(turn.request), %method, "request");
        if turn.request.to_tag().is_none() || method == Method::Register {
            if let Some(token) = inbound.routed.flow.clone() {
                return self.receive_by_flow(turn, inbound, token, out);
            }
            if edge::of(&inbound, turn.request).is_some() {
                return self.receive_for_registrar(turn, inbound, out);
            }
        }
        let is_registration = method == Method::Register && is_for_registrar(&inbound, &resource);
        if resource == Resource::Ourselves && !is_registration {
            return self.refuse_stateless(turn, &target::for_ourselves(turn.request), out);
        }
        if !is_registration {
            let refusal = validation::check_forwarding(turn.request, &inbound.checked)
                .and_then(|()| session::check(&inbound.settings.proxy.session, turn.request));
            if let Err(reply) = refusal {
                return self.refuse_stateless(turn, &reply, out);
            }
            if turn.request.to_tag().is_some() {
                return self.receive_in_dialog(turn, inbound, out);
            }
        } else if let Some(reply) = foreign_registration(&inbound, turn.request) {
            return self.refuse_stateless(turn, &reply, out);
        }
        // A peer is trusted with calls, not with the bindings of our users.
        let sender = match is_registration {
            true => admission::by_open_listener(&inbound.settings, &inbound.source),
            false => admission::without_digest(&inbound.settings, &inbound.source),
        };
        if let Some(CarrierCall { trunk, called }) = self.carrier_call(&inbound, turn.request, &resource) {
            let uri = format!("sip:{called}");
            inbound.routed.request_uri = Bytes::from(uri);
            inbound.routed.gruu = None;
            return self.admitted(turn, inbound, Sender::Carrier(trunk), None, out);
        }
        match sender {
            Some(sender) => self.admitted(turn, inbound, sender, None, out),
            None => self.authenticate(turn, inbound, out),
        }
    }

    pub(super) fn authenticate(&mut self, turn: Turn<'_, '_>, inbound: Inbound, out: &mut Vec<Output>) {
        let realm = admission::realm(&inbound.settings, &inbound.source, turn.request);
        let owns = match admission::identity(&self.keyring, turn.request) {
            Identity::Of(aor) => Some(aor),
            Identity::Anonymous => None,
            Identity::Nobody => {
                let reply = Reply::new(Status::FORBIDDEN).because("Not An Address Of Record");
                return self.refuse_stateless(turn, &reply, out);
            }
        };
        let settings = &inbound.settings;
        let source = &inbound.source;
        match admission::proof(
            settings,
            &self.keyring,
            turn.now.wall,
            source,
            turn.request,
            &realm,
            owns.as_ref(),
        ) {
            Proof::None => self.challenge(turn, &inbound, Freshness::Wrong, out),
            Proof::Stale => {
                self.counts.add(Count::StaleNonce);
                self.challenge(turn, &inbound, Freshness::Stale, out);
            }
            Proof::Offered(_) if !self.waiting.has_room() => self.too_many(turn, &inbound, out),
            Proof::Offered(mut question) => {
                question.call = self.begun_call(turn.request);
                let partition_of = question.account.clone();
                let stage = Stage::Authenticate(turn.key, Box::new(inbound), partition_of.clone());
                let token = self.suspend(turn.now, stage);
                out.push(Output::Ask { partition_of, token, question: Question::Authenticate(question) });
            }
        }
    }

    /// The account has judged the credentials.
    pub(super) fn authenticated(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        account: Aor,
        verdict: Authenticated,
        out: &mut Vec<Output>,
    ) {
        match verdict {
            Authenticated::Yes => {
                let home = match admission::identity(&self.keyring, turn.request) {
                    Identity::Of(aor) => aor,
                    Identity::Anonymous | Identity::Nobody => account.clone(),
                };
                self.admitted(turn, inbound, Sender::Account { account, home }, None, out);
            }
            Authenticated::Alias(home) => {
                let sender = Sender::Account { account, home: home.clone() };
                self.admitted(turn, inbound, sender, Some(home), out);
            }
            Authenticated::Ruled { verdict, relay } => {
                inbound.relay = Some(relay);
                self.authenticated(turn, inbound, account, *verdict, out);
            }
            Authenticated::Counted { verdict, .. } => {
                self.call_begins(turn.now, turn.key, turn.request, &inbound, Some(account.clone()));
                self.authenticated(turn, inbound, account, *verdict, out);
            }
            Authenticated::No => {
                self.counts.add(Count::WrongCredentials);
                self.challenge(turn, &inbound, Freshness::Wrong, out);
            }
            Authenticated::Stale => self.stale(turn, inbound, out),
            Authenticated::NotOwner => {
                self.counts.add(Count::NotOwner);
                self.refuse_stateless(turn, &Reply::new(Status::FORBIDDEN), out);
            }
            Authenticated::Slowed => {
                self.counts.add(Count::Slowed);
                out.push(Output::Drop { key: turn.key });
            }
            Authenticated::TooManyCalls => {
                self.counts.add(Count::CallsLimited);
                let reply = Reply::new(Status::FORBIDDEN).because("Too Many Calls");
                self.refuse_stateless(turn, &reply, out);
            }
            Authenticated::Unavailable => {
                let reply = Reply::later(Status::SERVER_INTERNAL_ERROR);
                self.refuse_stateless(turn, &reply, out);
            }
        }
    }

    /// A request whose sender may send it. `registers` is the address of record that a REGISTER is for, if it is not
    /// the one in To.
    pub(super) fn admitted(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        sender: Sender,
        registers: Option<Aor>,
        out: &mut Vec<Output>,
    ) {
        inbound.sender = Some(sender);
        let resource = resource(&inbound);
        if turn.request.method() == Some(Method::Register) && is_for_registrar(&inbound, &resource) {
            return self.register(turn, inbound, registers, out);
        }
        self.trying(turn, &inbound, out);
        self.aim(turn, inbound, out);
    }

    /// RFC 3261 §16.2: an INVITE that was admitted gets its 100 at once.
    // RFC 4320 §4.1: no other request gets one, before or after.
    pub(super) fn trying(&mut self, turn: Turn<'_, '_>, inbound: &Inbound, out: &mut Vec<Output>) {
        if turn.request.method() == Some(Method::Invite) {
            self.call_begins(turn.now, turn.key, turn.request, inbound, None);
            self.respond(turn, inbound, &Reply::new(Status::TRYING), out);
        }
    }

    /// Finds out where an admitted request goes.
    pub(super) fn aim(&mut self, turn: Turn<'_, '_>, inbound: Inbound, out: &mut Vec<Output>) {
        let lead = self.lead(&inbound);
        self.follow(turn, inbound, lead, out);
    }

    fn follow(&mut self, turn: Turn<'_, '_>, inbound: Inbound, lead: Lead, out: &mut Vec<Output>) {
        match lead {
            Lead::Try(plan) => self.begin(turn, inbound, plan, out),
            Lead::Ask(aor, look) => self.locate(turn, inbound, aor, look, out),
            Lead::Refuse(reply) => self.respond(turn, &inbound, &reply, out),
        }
    }

    pub(super) fn locate(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        aor: Aor,
        look: Look,
        out: &mut Vec<Output>,
    ) {
        if !self.waiting.has_room() {
            return self.too_many(turn, &inbound, out);
        }
        let question = Self::question(&inbound, aor.clone());
        let sought = Sought { aor: aor.clone(), look };
        let token = self.suspend(turn.now, Stage::Locate(turn.key, Box::new(inbound), sought));
        out.push(Output::Ask { partition_of: aor, token, question });
    }

    /// The location has answered.
    pub(super) fn located(
        &mut self,
        turn: Turn<'_, '_>,
        mut inbound: Inbound,
        look: Look,
        found: Located,
        out: &mut Vec<Output>,
    ) {
        let lead = self.lead_of(&mut inbound, look, found);
        self.follow(turn, inbound, lead, out);
    }

    fn register(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        registers: Option<Aor>,
        out: &mut Vec<Output>,
    ) {
        let aor = match (registers, admission::identity(&self.keyring, turn.request)) {
            (Some(aor), _) | (None, Identity::Of(aor)) => aor,
            (None, Identity::Anonymous | Identity::Nobody) => {
                return self.respond(turn, &inbound, &Reply::new(Status::NOT_FOUND), out);
            }
        };
        self.ask_to_register(turn, inbound, aor, RegisterRight::Proved, out);
    }

    fn ask_to_register(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: Inbound,
        aor: Aor,
        right: RegisterRight,
        out: &mut Vec<Output>,
    ) {
        if !self.waiting.has_room() {
            return self.too_many(turn, &inbound, out);
        }
        match register::wish(&inbound.settings, &self.keyring, turn.request, inbound.source, aor.clone()) {
            Err(reply) => self.respond(turn, &inbound, &reply, out),
            Ok(wish) => {
                let token = self.suspend(turn.now, Stage::Register(turn.key, Box::new(inbound)));
                let question = Question::Register(Box::new(Register { right, ..wish }));
                out.push(Output::Ask { partition_of: aor, token, question });
            }
        }
    }

    /// The credentials were used before. A REGISTER may be one whose 200 was lost with the node that sent it.
    fn stale(&mut self, turn: Turn<'_, '_>, inbound: Inbound, out: &mut Vec<Output>) {
        let is_register = turn.request.method() == Some(Method::Register)
            && is_for_registrar(&inbound, &resource(&inbound));
        match admission::identity(&self.keyring, turn.request) {
            Identity::Of(aor) if is_register => {
                self.ask_to_register(turn, inbound, aor, RegisterRight::Repeats, out);
            }
            Identity::Of(_) | Identity::Anonymous | Identity::Nobody => {
                self.counts.add(Count::StaleNonce);
                self.challenge(turn, &inbound, Freshness::Stale, out);
            }
        }
    }

    /// The partition has judged a REGISTER.
    pub(super) fn registered(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: &Inbound,
        verdict: Result<Registered, RegisterRefusal>,
        out: &mut Vec<Output>,
    ) {
        let reply = match verdict {
            Ok(registered) => register::accepted(turn.now.wall, turn.request, inbound, &registered),
            Err(RegisterRefusal::NotRepeated) => {
                self.counts.add(Count::StaleNonce);
                return self.challenge(turn, inbound, Freshness::Stale, out);
            }
            Err(refusal) => register::refused(refusal),
        };
        self.respond(turn, inbound, &reply, out);
    }

    /// Answers a request for which there is no room.
    pub(super) fn too_many(&mut self, turn: Turn<'_, '_>, inbound: &Inbound, out: &mut Vec<Output>) {
        self.counts.add(Count::Full);
        self.answer(turn, inbound, &Reply::later(Status::SERVICE_UNAVAILABLE), out);
    }

    fn challenge(
        &mut self,
        turn: Turn<'_, '_>,
        inbound: &Inbound,
        freshness: Freshness,
        out: &mut Vec<Output>,
    ) {
        self.counts.add(Count::Challenged);
        let salt = self.next_salt();
        let settings = &inbound.settings;
        let realm = admission::realm(settings, &inbound.source, turn.request);
        let mut nonce = Vec::with_capacity(48);
        let (key, flow) = (&self.keyring.nonce, &inbound.source.flow);
        nonce::write(key, realm.text.as_bytes(), flow, turn.now.wall, salt, &mut nonce);
        let reply = admission::challenge(settings, &nonce, turn.request, &realm, freshness);
        self.refuse_stateless(turn, &reply, out);
    }
}

/// RFC 3261 §10.3 step 1: whether a REGISTER is for this registrar; every other one is proxied.
fn is_for_registrar(inbound: &Inbound, resource: &Resource) -> bool {
    inbound.routed.next.is_none() && matches!(resource, Resource::Ourselves | Resource::User(_))
}

/// RFC 3261 §10.3 step 5: an address of record that is not of our domains.
fn foreign_registration(inbound: &Inbound, request: &Message<'_>) -> Option<Reply> {
    let to = request.to().ok().and_then(|to| to.uri().ok());
    let Some(uri) = to.as_ref().and_then(|uri| uri.as_sip()) else {
        // RFC 3261 §10.2: the address of record must be a SIP URI.
        return Some(Reply::new(Status::BAD_REQUEST).because("Bad To"));
    };
    let is_ours = inbound.settings.is_own_domain(&uri.host);
    (!is_ours).then(|| Reply::new(Status::NOT_FOUND))
}
