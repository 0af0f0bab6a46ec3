//! One branch, and each of its requests as it left.

use bytes::Bytes;
use sip::{Message, Method, Name};
use transaction::ClientKey;

use super::super::client_branch::{BranchState, Cause, ClientBranch, GatewayCalls, Phase, Sent};
use super::super::inbound::Inbound;
use super::super::media::MediaWay;
use super::aim::StoredAim;
use super::delta::StoredDelta;
use super::places::{Reader, StoredDestination, Writer, aor, final_status, number_of, one_of, write_aor};
use super::request::TEXT_BYTES_MAX;
use super::{at_most, bounded};
use crate::Keyring;
use crate::account::Unreadable;
use crate::trunk::{Origin, Proof, Proofs};

/// Servers that one branch has passed over: as many as a search names, for each flow of a phone.
const PASSED_OVER_MAX: usize = 64;
/// Realms that one branch has proved something to.
const PROVED_MAX: usize = 16;
/// Branch parameters of ours have a tenth of that.
const BRANCH_BYTES_MAX: usize = 512;

/// The causes by their numbers, which stay.
const CAUSES: [Cause; 4] = [Cause::CallerGone, Cause::Answered, Cause::Declined, Cause::TimedOut];

/// The ways of media by their numbers, which stay.
const MEDIA_WAYS: [MediaWay; 3] = [MediaWay::Undecided, MediaWay::Direct, MediaWay::Relayed];

const IDLE: u32 = 0;
const WAITS: u32 = 1;
const SENT: u32 = 2;
const ENDED: u32 = 3;

/// One branch.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredBranch {
    #[prost(message, optional, tag = "1")]
    aim: Option<StoredAim>,
    #[prost(uint32, tag = "2")]
    round: u32,
    #[prost(uint32, tag = "3")]
    pub(super) breadth: u32,
    #[prost(uint32, tag = "4")]
    attempts: u32,
    #[prost(uint32, tag = "5")]
    failure: u32,
    #[prost(uint32, tag = "6")]
    answers: u32,
    #[prost(message, repeated, tag = "7")]
    proved: Vec<StoredProof>,
    /// 0 idle, 1 waits for DNS or a place, 2 sent, 3 ended.
    #[prost(uint32, tag = "8")]
    state: u32,
    #[prost(message, optional, tag = "9")]
    sent: Option<StoredSent>,
    #[prost(message, optional, tag = "10")]
    client: Option<StoredClientOf>,
    #[prost(message, repeated, tag = "11")]
    passed_over: Vec<StoredSent>,
    /// Whether its gateway's outcome is still to be told.
    #[prost(bool, tag = "12")]
    is_untold: bool,
    /// The key under which its gateway counts the call.
    #[prost(bytes = "bytes", optional, tag = "13")]
    counted: Option<Bytes>,
    /// Whether its media pass the relay: 0 undecided, 1 no, 2 yes.
    #[prost(uint32, tag = "14")]
    media: u32,
}

/// A client transaction.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredClientOf {
    /// 16 bytes, the highest first.
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    /// Whether its transaction has ended.
    #[prost(bool, tag = "2")]
    has_ended: bool,
}

/// A request that has left.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredSent {
    #[prost(bytes = "bytes", tag = "1")]
    branch: Bytes,
    /// With respect to the request as it came.
    #[prost(message, optional, tag = "2")]
    request: Option<StoredDelta>,
    #[prost(message, optional, tag = "3")]
    to: Option<StoredDestination>,
    /// 0 calling, 1 proceeding, 2 to be cancelled, 3 cancelled.
    #[prost(uint32, tag = "4")]
    phase: u32,
    #[prost(uint32, tag = "5")]
    cause: u32,
    #[prost(uint64, tag = "6")]
    freed_left: u64,
    #[prost(uint64, optional, tag = "7")]
    timer_c_left: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    ring_left: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    silent_left: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    answer_left: Option<u64>,
    /// The client transaction of its CANCEL, if it was sent.
    #[prost(bytes = "bytes", optional, tag = "11")]
    cancel: Option<Bytes>,
    /// The client transaction of one that was passed over.
    #[prost(message, optional, tag = "12")]
    client: Option<StoredClientOf>,
}

/// What was proved to a realm.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredProof {
    #[prost(bool, tag = "1")]
    is_proxy: bool,
    #[prost(bytes = "bytes", tag = "2")]
    realm: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    nonce: Bytes,
    #[prost(bool, tag = "4")]
    was_asked: bool,
}

/// A branch as it was read.
pub(super) struct ReadBranch {
    /// Itself; one that waited is idle.
    pub(super) branch: ClientBranch,
    /// What is to become of it.
    pub(super) next: Next,
    /// Its client transactions that live.
    pub(super) clients: Vec<ClientKey>,
}

/// What is to become of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays as it is.
    Stay,
    /// It waited, and asks again.
    Ask,
    /// It left by a listener that is gone.
    Fail,
}

impl StoredBranch {
    pub(super) fn of(
        branch: &ClientBranch,
        came: &[u8],
        writer: Writer<'_>,
        keyring: &Keyring,
        is_live: impl Fn(ClientKey) -> bool,
    ) -> Self {
        let client = |key: ClientKey| StoredClientOf { key: write_key(key), has_ended: !is_live(key) };
        let sent = |sent: &Sent| StoredSent::of(sent, came, writer, keyring);
        let proof = |proof: &Proof| StoredProof {
            is_proxy: proof.name == Name::ProxyAuthorization,
            realm: proof.realm.clone(),
            nonce: proof.nonce.clone(),
            was_asked: proof.origin == Origin::Asked,
        };
        Self {
            aim: Some(StoredAim::of(&branch.aim, writer)),
            round: branch.round.into(),
            breadth: branch.breadth,
            attempts: branch.attempts.into(),
            failure: branch.failure.0.into(),
            answers: branch.proofs.answers.into(),
            proved: branch.proofs.proved.iter().map(proof).collect(),
            state: match &branch.state {
                BranchState::Idle => IDLE,
                BranchState::Resolving(_) => WAITS,
                BranchState::Sent(_) => SENT,
                BranchState::Ended => ENDED,
            },
            sent: branch.sent().map(sent),
            client: branch.client.map(client),
            passed_over: branch
                .passed_over
                .iter()
                .map(|(key, passed)| StoredSent { client: Some(client(*key)), ..sent(passed) })
                .collect(),
            is_untold: branch.untold.is_some(),
            media: number_of(&MEDIA_WAYS, &branch.media),
            counted: match &branch.gateway_calls {
                GatewayCalls::NotCounted => None,
                GatewayCalls::Counted(gateway) => Some(write_aor(gateway)),
            },
        }
    }

    pub(super) fn read(
        &self,
        came: &[u8],
        reader: Reader<'_>,
        search: Option<(&Keyring, &Inbound)>,
    ) -> Result<ReadBranch, Unreadable> {
        let malformed = |_| Unreadable::Malformed;
        at_most(&self.passed_over, PASSED_OVER_MAX)?;
        let aim = self.aim.as_ref().ok_or(Unreadable::Malformed)?.read(reader, search)?;
        let sent = self.sent.as_ref().map(|sent| sent.read(came, reader)).transpose()?;
        let mut next = Next::Stay;
        let state = match (self.state, sent) {
            (IDLE, None) => BranchState::Idle,
            (WAITS, None) => {
                next = Next::Ask;
                BranchState::Idle
            }
            (SENT, Some(Some(sent))) => BranchState::Sent(sent),
            (SENT, Some(None)) => {
                next = Next::Fail;
                BranchState::Ended
            }
            (ENDED, None) => BranchState::Ended,
            _ => return Err(Unreadable::Malformed),
        };
        let client = self.client.as_ref().map(StoredClientOf::read).transpose()?;
        if client.is_none() && matches!(state, BranchState::Sent(_)) {
            return Err(Unreadable::Malformed);
        }
        let mut clients: Vec<ClientKey> = Vec::new();
        if next != Next::Fail {
            clients.extend(client.filter(|(_, is_live)| *is_live).map(|(key, _)| key));
        }
        let mut passed_over = Vec::with_capacity(self.passed_over.len());
        for stored in &self.passed_over {
            let (key, is_live) = stored.client.as_ref().ok_or(Unreadable::Malformed)?.read()?;
            let Some(sent) = stored.read(came, reader)? else { continue };
            clients.extend(is_live.then_some(key));
            passed_over.push((key, sent));
        }
        let branch = ClientBranch {
            round: u8::try_from(self.round).map_err(malformed)?,
            breadth: self.breadth,
            attempts: u8::try_from(self.attempts).map_err(malformed)?,
            failure: final_status(self.failure)?,
            proofs: self.proofs()?,
            state,
            client: client.map(|(key, _)| key),
            passed_over,
            untold: aim.leg.as_ref().filter(|_| self.is_untold).map(|leg| leg.gateway.clone()),
            gateway_calls: match &self.counted {
                Some(gateway) => GatewayCalls::Counted(aor(gateway)?),
                None => GatewayCalls::NotCounted,
            },
            media: one_of(&MEDIA_WAYS, self.media)?,
            reminder_at: None,
            aim,
        };
        Ok(ReadBranch { branch, next, clients })
    }

    /// The client transactions of its requests and their CANCELs that have not ended.
    pub(super) fn clients(&self) -> impl Iterator<Item = ClientKey> {
        let of_sent = |sent: &StoredSent| {
            let cancel = sent.cancel.as_ref().and_then(|key| read_key(key).ok());
            [sent.client.as_ref().and_then(StoredClientOf::live), cancel]
        };
        let own = self.client.as_ref().and_then(StoredClientOf::live);
        own.into_iter().chain(self.sent.iter().chain(&self.passed_over).flat_map(of_sent).flatten())
    }

    /// The request of one of its client transactions, as it left.
    pub(super) fn request_of(&self, came: &[u8], client: ClientKey) -> Option<Bytes> {
        let is_it = |stored: &Option<StoredClientOf>| {
            stored.as_ref().is_some_and(|stored| stored.live() == Some(client))
        };
        let own = self.sent.as_ref().filter(|_| is_it(&self.client));
        own.or_else(|| self.passed_over.iter().find(|sent| is_it(&sent.client)))?.request(came).ok()
    }

    fn proofs(&self) -> Result<Proofs, Unreadable> {
        at_most(&self.proved, PROVED_MAX)?;
        let proof = |stored: &StoredProof| {
            bounded(&stored.realm, TEXT_BYTES_MAX)?;
            bounded(&stored.nonce, TEXT_BYTES_MAX)?;
            Ok(Proof {
                name: if stored.is_proxy { Name::ProxyAuthorization } else { Name::Authorization },
                realm: stored.realm.clone(),
                nonce: stored.nonce.clone(),
                origin: if stored.was_asked { Origin::Asked } else { Origin::Unasked },
            })
        };
        Ok(Proofs {
            // So many that no other challenge is answered.
            answers: u8::try_from(self.answers).unwrap_or(u8::MAX),
            proved: self.proved.iter().map(proof).collect::<Result<_, Unreadable>>()?,
        })
    }
}

impl StoredSent {
    fn of(sent: &Sent, came: &[u8], writer: Writer<'_>, keyring: &Keyring) -> Self {
        let left = |at: Option<clock::Instant>| at.map(|at| writer.left(at));
        let (phase, cause, freed_at) = match sent.phase {
            Phase::Calling => (0, None, None),
            Phase::Proceeding => (1, None, None),
            Phase::CancelWanted(cause) => (2, Some(cause), None),
            Phase::Cancelling(cause, freed_at) => (3, Some(cause), Some(freed_at)),
        };
        let cancel = || ClientKey::of(&keyring.transaction, &sent.branch, Method::Cancel);
        Self {
            branch: sent.branch.clone(),
            request: Some(StoredDelta::of(came, &sent.request)),
            to: Some(writer.destination(sent.to)),
            phase,
            cause: cause.map_or(0, |cause| number_of(&CAUSES, &cause)),
            freed_left: left(freed_at).unwrap_or_default(),
            timer_c_left: left(sent.timer_c),
            ring_left: left(sent.ring_until),
            silent_left: left(sent.silent_until),
            answer_left: left(sent.answer_until),
            cancel: freed_at.map(|_| write_key(cancel())),
            client: None,
        }
    }

    /// `None` if it left by a listener that is gone.
    fn read(&self, came: &[u8], reader: Reader<'_>) -> Result<Option<Sent>, Unreadable> {
        bounded(&self.branch, BRANCH_BYTES_MAX)?;
        let request = self.request(came)?;
        let is_invite = Message::parse(&request)
            .is_ok_and(|message| message.method() == Some(Method::Invite) && message.top_via().is_ok());
        if !is_invite {
            return Err(Unreadable::Malformed);
        }
        let at = |left: Option<u64>| left.map(|left| reader.at(left));
        let cause = one_of(&CAUSES, self.cause)?;
        let phase = match self.phase {
            0 => Phase::Calling,
            1 => Phase::Proceeding,
            2 => Phase::CancelWanted(cause),
            3 => Phase::Cancelling(cause, reader.at(self.freed_left)),
            _ => return Err(Unreadable::Malformed),
        };
        let to = reader.destination(self.to.as_ref().ok_or(Unreadable::Malformed)?)?;
        Ok(to.map(|to| Sent {
            branch: self.branch.clone(),
            request,
            to,
            phase,
            timer_c: at(self.timer_c_left),
            ring_until: at(self.ring_left),
            silent_until: at(self.silent_left),
            answer_until: at(self.answer_left),
        }))
    }
}

impl StoredSent {
    fn request(&self, came: &[u8]) -> Result<Bytes, Unreadable> {
        self.request.as_ref().ok_or(Unreadable::Malformed)?.read(came)
    }
}

impl StoredClientOf {
    fn read(&self) -> Result<(ClientKey, bool), Unreadable> {
        Ok((read_key(&self.key)?, !self.has_ended))
    }

    fn live(&self) -> Option<ClientKey> {
        read_key(&self.key).ok().filter(|_| !self.has_ended)
    }
}

fn write_key(key: ClientKey) -> Bytes {
    Bytes::copy_from_slice(&key.as_u128().to_be_bytes())
}

fn read_key(bytes: &[u8]) -> Result<ClientKey, Unreadable> {
    let bytes = bytes.try_into().map_err(|_| Unreadable::Malformed)?;
    Ok(ClientKey::from_u128(u128::from_be_bytes(bytes)))
}
