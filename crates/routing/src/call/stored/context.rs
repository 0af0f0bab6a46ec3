//! The response context: all branches, the rounds to come, and the best of the responses so far.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Message, Name};
use transaction::ClientKey;

use super::super::inbound::Inbound;
use super::super::response_context::{
    CHALLENGES_MAX, Candidate, ContextState, CurrentRound, ResponseContext,
};
use super::super::round::{Onward, ROUNDS_MAX, Round};
use super::super::suspended::Sought;
use super::aim::StoredAim;
use super::branch::{ReadBranch, StoredBranch};
use super::places::{
    Reader, Writer, aor, duration, final_status, micros, number_of, one_of, text, write_aor,
};
use super::request::{StoredSought, TEXT_BYTES_MAX};
use super::{at_most, bounded};
use crate::account::Unreadable;
use crate::{Account, CallRules, ForwardTarget, Forwards, Keyring};

/// Branches of one call. Breadth bounds those at a time to 60, and the others have failed before.
const BRANCHES_MAX: usize = 1_024;
/// Aims of one round: the contacts of an address of record, or one gateway.
const AIMS_MAX: usize = 512;

/// The states by their numbers, which stay.
const STATES: [ContextState; 4] =
    [ContextState::Open, ContextState::Closing, ContextState::Cancelled, ContextState::Answered];
/// The same of what a round says of the next one.
const ONWARDS: [Onward; 2] = [Onward::AnyFailure, Onward::Failover];

/// A response context.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredContext {
    #[prost(message, repeated, tag = "1")]
    branches: Vec<StoredBranch>,
    #[prost(uint32, tag = "2")]
    state: u32,
    /// Whom the location was asked for on behalf of an account that forwards the call.
    #[prost(message, optional, tag = "3")]
    diversion: Option<StoredSought>,
    #[prost(bool, tag = "4")]
    has_full_gateway: bool,
    #[prost(uint32, tag = "5")]
    round: u32,
    #[prost(uint64, optional, tag = "6")]
    ring_timeout: Option<u64>,
    #[prost(uint32, tag = "7")]
    onward: u32,
    #[prost(bool, tag = "8")]
    goes_on: bool,
    #[prost(message, repeated, tag = "9")]
    rounds: Vec<StoredRound>,
    #[prost(message, optional, tag = "10")]
    account: Option<StoredAccount>,
    #[prost(bool, tag = "11")]
    is_unanswered: bool,
    #[prost(message, optional, tag = "12")]
    best: Option<StoredCandidate>,
    #[prost(message, repeated, tag = "13")]
    challenges: Vec<StoredChallenge>,
    #[prost(bool, tag = "14")]
    has_no_ports: bool,
}

/// A round to come.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredRound {
    #[prost(message, repeated, tag = "1")]
    aims: Vec<StoredAim>,
    #[prost(uint64, optional, tag = "2")]
    ring_timeout: Option<u64>,
    #[prost(uint32, tag = "3")]
    onward: u32,
}

/// An account that may forward the call.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAccount {
    #[prost(bytes = "bytes", tag = "1")]
    aor: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    always: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    busy: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    no_answer: Option<Bytes>,
    #[prost(uint64, optional, tag = "5")]
    no_answer_after: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    not_registered: Option<Bytes>,
}

/// The best response.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredCandidate {
    #[prost(uint32, tag = "1")]
    status: u32,
    /// None for what a branch without a response counts as.
    #[prost(bytes = "bytes", optional, tag = "2")]
    message: Option<Bytes>,
}

/// A challenge that is to be merged.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredChallenge {
    #[prost(bool, tag = "1")]
    is_proxy: bool,
    #[prost(bytes = "bytes", tag = "2")]
    line: Bytes,
}

/// A context as it was read, but for its branches and what it waits for.
pub(super) struct ReadContext {
    pub(super) branches: Vec<ReadBranch>,
    pub(super) state: ContextState,
    pub(super) diversion: Option<Sought>,
    pub(super) round: CurrentRound,
    pub(super) rounds: VecDeque<Round>,
    pub(super) account: Option<Arc<Account>>,
    pub(super) best: Option<Candidate>,
    pub(super) challenges: Vec<(Name, Vec<u8>)>,
    pub(super) has_full_gateway: bool,
    pub(super) has_no_ports: bool,
    pub(super) is_unanswered: bool,
}

impl StoredContext {
    pub(super) fn of(
        context: &ResponseContext,
        diversion: Option<&Sought>,
        writer: Writer<'_>,
        keyring: &Keyring,
        is_live: impl Fn(ClientKey) -> bool,
    ) -> Self {
        let CurrentRound { number, ring_timeout, onward, goes_on } = context.round;
        let came = &context.inbound.bytes;
        let branch = |branch| StoredBranch::of(branch, came, writer, keyring, &is_live);
        Self {
            branches: context.branches.iter().map(branch).collect(),
            state: number_of(&STATES, &context.state),
            diversion: diversion.map(StoredSought::of),
            has_full_gateway: context.has_full_gateway,
            has_no_ports: context.has_no_ports,
            round: number.into(),
            ring_timeout: ring_timeout.map(micros),
            onward: number_of(&ONWARDS, &onward),
            goes_on,
            rounds: context.rounds.iter().map(|round| StoredRound::of(round, writer)).collect(),
            account: context.account.as_deref().map(StoredAccount::of),
            is_unanswered: context.is_unanswered,
            best: context.best.as_ref().map(StoredCandidate::of),
            challenges: context.challenges.iter().map(StoredChallenge::of).collect(),
        }
    }

    /// `came` is the request as it came; `search` is `None` where only the form is checked.
    pub(super) fn read(
        &self,
        came: &[u8],
        reader: Reader<'_>,
        search: Option<(&Keyring, &Inbound)>,
    ) -> Result<ReadContext, Unreadable> {
        at_most(&self.branches, BRANCHES_MAX)?;
        at_most(&self.challenges, CHALLENGES_MAX)?;
        let begun = usize::try_from(self.round).unwrap_or(usize::MAX);
        if begun.saturating_add(self.rounds.len()) > ROUNDS_MAX {
            return Err(Unreadable::Malformed);
        }
        let breadth: u64 = self.branches.iter().map(|branch| u64::from(branch.breadth)).sum();
        if u32::try_from(breadth).is_err() {
            return Err(Unreadable::Malformed);
        }
        Ok(ReadContext {
            branches: self
                .branches
                .iter()
                .map(|it| it.read(came, reader, search))
                .collect::<Result<_, _>>()?,
            state: one_of(&STATES, self.state)?,
            diversion: self.diversion.as_ref().map(StoredSought::read).transpose()?,
            round: CurrentRound {
                // Not more than there are rounds.
                number: begun as u8,
                ring_timeout: self.ring_timeout.map(duration),
                onward: one_of(&ONWARDS, self.onward)?,
                goes_on: self.goes_on,
            },
            rounds: self.rounds.iter().map(|it| it.read(reader, search)).collect::<Result<_, _>>()?,
            account: self.account.as_ref().map(StoredAccount::read).transpose()?.map(Arc::new),
            best: self.best.as_ref().map(StoredCandidate::read).transpose()?,
            challenges: self.challenges.iter().map(StoredChallenge::read).collect::<Result<_, _>>()?,
            has_full_gateway: self.has_full_gateway,
            has_no_ports: self.has_no_ports,
            is_unanswered: self.is_unanswered,
        })
    }

    pub(super) fn request_of(&self, came: &[u8], client: ClientKey) -> Option<Bytes> {
        self.branches.iter().find_map(|branch| branch.request_of(came, client))
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = ClientKey> {
        self.branches.iter().flat_map(StoredBranch::clients)
    }
}

impl StoredRound {
    fn of(round: &Round, writer: Writer<'_>) -> Self {
        Self {
            aims: round.aims.iter().map(|aim| StoredAim::of(aim, writer)).collect(),
            ring_timeout: round.ring_timeout.map(micros),
            onward: number_of(&ONWARDS, &round.onward),
        }
    }

    fn read(&self, reader: Reader<'_>, search: Option<(&Keyring, &Inbound)>) -> Result<Round, Unreadable> {
        at_most(&self.aims, AIMS_MAX)?;
        Ok(Round {
            aims: self.aims.iter().map(|aim| aim.read(reader, search)).collect::<Result<_, _>>()?,
            ring_timeout: self.ring_timeout.map(duration),
            onward: one_of(&ONWARDS, self.onward)?,
        })
    }
}

impl StoredAccount {
    fn of(account: &Account) -> Self {
        let Forwards { always, busy, no_answer, no_answer_after, not_registered } = &account.calls.forwards;
        let target = |target: &Option<ForwardTarget>| {
            target.as_ref().map(|target| Bytes::copy_from_slice(target.as_str().as_bytes()))
        };
        Self {
            aor: write_aor(&account.aor),
            always: target(always),
            busy: target(busy),
            no_answer: target(no_answer),
            no_answer_after: no_answer_after.map(micros),
            not_registered: target(not_registered),
        }
    }

    /// The account as far as a call that it may forward needs it.
    fn read(&self) -> Result<Account, Unreadable> {
        let target = |bytes: &Option<Bytes>| -> Result<_, Unreadable> {
            let Some(bytes) = bytes else { return Ok(None) };
            let text = text(bytes)?;
            let target = ForwardTarget::parse(text, "").filter(|target| target.as_str() == text);
            target.map(Some).ok_or(Unreadable::Malformed)
        };
        let forwards = Forwards {
            always: target(&self.always)?,
            busy: target(&self.busy)?,
            no_answer: target(&self.no_answer)?,
            no_answer_after: self.no_answer_after.map(duration),
            not_registered: target(&self.not_registered)?,
        };
        Ok(Account {
            aor: aor(&self.aor)?,
            ha1: Vec::new(),
            aliases: Vec::new(),
            may_use: Vec::new(),
            calls: CallRules { forwards, ..CallRules::default() },
        })
    }
}

impl StoredCandidate {
    fn of(candidate: &Candidate) -> Self {
        let message = match candidate {
            Candidate::Received(_, message) => Some(message.clone()),
            Candidate::Local(_) => None,
        };
        Self { status: candidate.status().0.into(), message }
    }

    fn read(&self) -> Result<Candidate, Unreadable> {
        let status = final_status(self.status)?;
        let Some(message) = &self.message else { return Ok(Candidate::Local(status)) };
        let is_it = Message::parse(message).is_ok_and(|message| message.status() == Some(status));
        match is_it && message.len() <= MESSAGE_BYTES_MAX {
            true => Ok(Candidate::Received(status, message.clone())),
            false => Err(Unreadable::Malformed),
        }
    }
}

impl StoredChallenge {
    fn of((name, line): &(Name, Vec<u8>)) -> Self {
        Self { is_proxy: *name == Name::ProxyAuthenticate, line: Bytes::copy_from_slice(line) }
    }

    fn read(&self) -> Result<(Name, Vec<u8>), Unreadable> {
        bounded(&self.line, TEXT_BYTES_MAX)?;
        let name = if self.is_proxy { Name::ProxyAuthenticate } else { Name::WwwAuthenticate };
        Ok((name, self.line.to_vec()))
    }
}
