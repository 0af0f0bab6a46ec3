//! Offers and answers of one call (RFC 3264), and which of the relay's ports are told to whom.
//!
//! A [`Call`] is told each message that passes the proxy in either direction, from the first INVITE on. It says whether
//! its description is an offer, an answer or neither, gives back the body with the relay's addresses in it, and says by
//! [`Output`] what the forwarder of packets is to do.
//!
//! - **A port is named once.** What is told to the caller and to the callee of a dialog's media line stays until the line
//!   is rejected or the dialog ends, so a message that comes again gets the same ports.
//! - **Forks.** Each copy of the INVITE names ports of its own. The first dialog on a copy has them; a further one has the
//!   same towards its callee, because that is what its callee was told, and ports of its own towards the caller.
//! - **An offer changes nothing before its answer.** If the request is refused, as both of two crossing ones are (491),
//!   what was agreed on before holds. An answer in a provisional response that nobody confirms counts until another one comes.
//! - **All or nothing.** What is passed on without the relay's addresses is answered without them.
//!
//! Invariant: each port of a pool is in use by one call at most, and what [`Output`] has bound is what [`Call::ports`] has.

mod by_others;
mod capsule;
mod dialog;
mod message;
mod plan;
mod side;

use std::collections::{BTreeMap, BTreeSet};

use clock::Instant;

pub use capsule::{FORMAT, Malformed};
pub use message::{
    Branch, Broken, Counts, Kind, Message, Method, Role, Side, Tag, Unanchored, Verdict, Within,
};
pub use plan::{Face, Faces, Leg, Plan, StreamId};

use dialog::{Dialog, Invite, OPEN_MAX, Open, Request, Step};
use plan::Legs;
use side::SideMedia;

use crate::latch::Latched;
use crate::ports::{NoPorts, Pool, Ports};
use crate::sdp::{Description, LinePorts, Origin, Rewrite};

/// Copies of one INVITE, over all rounds of a search.
const FORKS_MAX: usize = 64;

/// Dialogs of one call.
const DIALOGS_MAX: usize = 64;

/// What the edge is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bind these ports at the relay's address towards this side; what comes is dropped until a stream has them.
    Bind(Side, Ports),
    /// A stream begins.
    Start(StreamId, Plan),
    /// The signalling has spoken of a stream: the windows of its latches begin anew.
    Change(StreamId, Plan),
    /// A stream ends.
    End(StreamId),
    /// Close these ports.
    Unbind(Side, Ports),
}

/// How a call's descriptions are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The relay's addresses.
    pub faces: Faces,
    /// What becomes of what can not be relayed.
    pub broken: Broken,
    /// What becomes of `o=`.
    pub origin: Origin,
}

/// One call, from its first INVITE to the end of its last dialog.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    terms: Terms,
    forks: BTreeMap<Branch, Fork>,
    dialogs: BTreeMap<Tag, Dialog>,
    /// Where packets of a stream's sides come from, as the forwarder has told.
    latches: BTreeMap<(StreamId, Side), Latched>,
    counts: Counts,
}

/// A copy of the first INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fork {
    invite: Invite,
    /// What the caller said; `None` if nothing, or if it went on as it was.
    offer: Option<SideMedia>,
    legs: Vec<Option<Legs>>,
    /// Whether a dialog has its ports towards the caller.
    is_taken: bool,
}

/// What became of a description that is relayed.
struct Taken {
    role: Role,
    legs: Vec<Option<Legs>>,
    /// The dialog whose media it speaks of.
    spoken: Option<Tag>,
}

/// What a call has of the relay.
struct Footprint {
    ports: BTreeSet<(Side, Ports)>,
    streams: BTreeMap<StreamId, Plan>,
}

impl Call {
    /// A call that nothing was heard of.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            forks: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            latches: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a message, and says what becomes of it.
    pub fn handle(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        pool: &mut Pool,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let before = self.footprint();
        let mut grants = Grants { now, pool, given: Vec::new() };
        let (verdict, spoken) = self.take(now, message, &mut grants);
        let given = grants.given;
        match &verdict {
            Verdict::NoDescription => {}
            Verdict::Rewritten { .. } => self.counts.rewritten += 1,
            Verdict::PassedOn(Unanchored::Ports(_)) | Verdict::Refused(Unanchored::Ports(_)) => {
                self.counts.no_ports += 1;
            }
            Verdict::PassedOn(_) => self.counts.passed_on += 1,
            Verdict::Refused(_) => self.counts.refused += 1,
        }
        // What was taken on the way and is not used was told to nobody.
        let used: BTreeSet<Ports> = self.ports().into_iter().map(|(_, ports)| ports).collect();
        given.into_iter().filter(|ports| !used.contains(ports)).for_each(|ports| pool.put_back(ports));
        self.tell(now, &before, spoken, pool, out);
        verdict
    }

    /// A copy of the INVITE has come to its end, and so have its dialogs that were not accepted.
    pub fn handle_branch_ended(
        &mut self,
        now: Instant,
        branch: Branch,
        pool: &mut Pool,
        out: &mut Vec<Output>,
    ) {
        let before = self.footprint();
        self.end_branch(branch);
        self.tell(now, &before, None, pool, out);
    }

    /// A dialog has ended.
    pub fn handle_dialog_ended(&mut self, now: Instant, tag: Tag, pool: &mut Pool, out: &mut Vec<Output>) {
        let before = self.footprint();
        self.dialogs.remove(&tag);
        self.tell(now, &before, None, pool, out);
    }

    /// The whole call has ended.
    pub fn handle_ended(&mut self, now: Instant, pool: &mut Pool, out: &mut Vec<Output>) {
        let before = self.footprint();
        self.forks.clear();
        self.dialogs.clear();
        self.tell(now, &before, None, pool, out);
    }

    /// The forwarder has found where a side's packets come from; what it says of a stream that is not there is dropped.
    pub fn handle_latched(&mut self, stream: StreamId, side: Side, latched: Latched) {
        if self.dialogs.contains_key(&stream.dialog) && self.streams().contains_key(&stream) {
            self.latches.insert((stream, side), latched);
        }
    }

    /// All its streams.
    pub fn streams(&self) -> BTreeMap<StreamId, Plan> {
        let mut streams = BTreeMap::new();
        for (&tag, dialog) in &self.dialogs {
            let Some(effective) = dialog.effective() else { continue };
            for (line, legs) in dialog.legs.iter().enumerate() {
                let Some(legs) = *legs else { continue };
                let plans = effective.plans(line, legs, &self.terms.faces, dialog.signalled_at);
                for (pair, mut plan) in plans.into_iter().enumerate() {
                    let stream = StreamId { dialog: tag, line: line as u16, pair: pair as u16 };
                    plan.caller.latched = self.latches.get(&(stream, Side::Caller)).copied();
                    plan.callee.latched = self.latches.get(&(stream, Side::Callee)).copied();
                    streams.insert(stream, plan);
                }
            }
        }
        streams
    }

    /// All its ports, and which side each faces.
    pub fn ports(&self) -> BTreeSet<(Side, Ports)> {
        let forks = self.forks.values().flat_map(|fork| &fork.legs);
        let dialogs = self.dialogs.values().flat_map(|dialog| &dialog.legs);
        let legs = forks.chain(dialogs).flatten();
        legs.flat_map(|legs| [(Side::Caller, legs.caller), (Side::Callee, legs.callee)]).collect()
    }

    /// The relay's addresses on both sides.
    pub fn faces(&self) -> Faces {
        self.terms.faces
    }

    /// The copies of its first INVITE that have not ended.
    pub fn branches(&self) -> impl Iterator<Item = Branch> {
        self.forks.keys().copied()
    }

    /// Whether somebody has accepted this dialog.
    pub fn is_confirmed(&self, tag: Tag) -> bool {
        self.dialogs.get(&tag).is_some_and(|dialog| dialog.is_confirmed)
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.forks.is_empty() && self.dialogs.is_empty()
    }

    /// How often what happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The verdict, and the dialog whose media were spoken of.
    fn take(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        grants: &mut Grants<'_>,
    ) -> (Verdict, Option<Tag>) {
        if let (Kind::Refused(Method::Invite), Within::Branch(branch) | Within::Fork(branch, _)) =
            (message.kind, message.within)
        {
            self.end_branch(branch);
            return (Verdict::NoDescription, None);
        }
        // RFC 3261 §21.4.26: a description in a refusal says what would do, and nobody sends by it.
        if matches!(message.kind, Kind::Refused(_)) {
            return (Verdict::NoDescription, self.take_silence(now, message));
        }
        let found = match message.body.find_description() {
            Ok(None) => return (Verdict::NoDescription, self.take_silence(now, message)),
            Ok(Some(place)) => match Description::read(&message.body.bytes[place.clone()]) {
                Ok(description) => Ok((place, description)),
                Err(malformed) => Err(Unanchored::Description(malformed)),
            },
            Err(unreadable) => Err(Unanchored::Body(unreadable)),
        };
        let description = found.as_ref().map(|(_, description)| description).map_err(|reason| *reason);
        let Taken { role, legs, spoken } = match self.take_description(now, message, description, grants) {
            Ok(taken) => taken,
            Err(reason) => return (self.unanchored(message.kind, reason), None),
        };
        let Ok((place, description)) = found else {
            unreachable!("what can not be read is passed on or refused")
        };
        let towards = message.from.other();
        let ports: Vec<LinePorts> = legs
            .iter()
            .map(|legs| match legs.map(|legs| legs.towards(towards)) {
                Some(ports) => LinePorts::Relayed { rtp: ports.rtp(), rtcp: ports.rtcp() },
                None => LinePorts::Left,
            })
            .collect();
        let address = self.terms.faces.towards(towards).named;
        let written = description.rewrite(&Rewrite { address, ports: &ports, origin: self.terms.origin });
        (Verdict::Rewritten { role, body: message.body.with_description(place, &written) }, spoken)
    }

    fn unanchored(&self, kind: Kind, reason: Unanchored) -> Verdict {
        if is_refused(self.terms.broken, kind, reason) {
            Verdict::Refused(reason)
        } else {
            Verdict::PassedOn(reason)
        }
    }

    fn take_silence(&mut self, now: Instant, message: &Message<'_>) -> Option<Tag> {
        let Message { kind, from, cseq, .. } = *message;
        match message.within {
            Within::Branch(branch) => {
                if kind == Kind::Request(Method::Invite) && self.forks.len() < FORKS_MAX {
                    let invite = Invite { request: invite(from, cseq), has_offer: false };
                    let fork = Fork { invite, offer: None, legs: Vec::new(), is_taken: false };
                    self.forks.entry(branch).or_insert(fork);
                }
                None
            }
            Within::Fork(branch, tag) => {
                let dialog = self.dialog_of(now, branch, tag)?;
                dialog.handle_silence(kind, from, cseq);
                dialog.is_confirmed |= kind == Kind::Accepted(Method::Invite);
                None
            }
            Within::Dialog(tag) => {
                let dialog = self.dialogs.get_mut(&tag)?;
                if kind == Kind::Request(Method::Invite) {
                    dialog.invite = Invite { request: invite(from, cseq), has_offer: false };
                }
                dialog.handle_silence(kind, from, cseq);
                dialog.drop_rejected();
                None
            }
        }
    }

    /// What the description is and the legs of its lines.
    fn take_description(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        description: Result<&Description<'_>, Unanchored>,
        grants: &mut Grants<'_>,
    ) -> Result<Taken, Unanchored> {
        let tag = match message.within {
            Within::Branch(branch) => {
                let legs = self.take_first_invite(branch, message, description, grants)?;
                return Ok(Taken { role: Role::Offer, legs, spoken: None });
            }
            Within::Fork(branch, tag) => {
                self.dialog_of(now, branch, tag).ok_or(Unanchored::TooMany)?;
                self.take_legs_of_fork(branch, tag, grants)?;
                tag
            }
            Within::Dialog(tag) => tag,
        };
        let dialog = self.dialogs.get_mut(&tag).ok_or(Unanchored::Dialog)?;
        let Message { kind, from, cseq, .. } = *message;
        let step = dialog.step(kind, from, cseq);
        if kind == Kind::Request(Method::Invite) && step != Step::Nothing {
            dialog.invite = Invite { request: invite(from, cseq), has_offer: true };
        }
        dialog.is_confirmed |= kind == Kind::Accepted(Method::Invite);
        let said = description.map(|read| SideMedia::of(read, message.source, message.is_behind_nat));
        let prepared = said.and_then(|said| {
            // Who only answers gets what the offer has: a line of its own has nobody to speak with.
            if matches!(step, Step::Open(_)) && kind != Kind::Ack {
                provide(&mut dialog.legs, &said, grants).map_err(Unanchored::Ports)?;
            }
            Ok(said)
        });
        let result = match step {
            Step::Open(request) => {
                if dialog.open.len() == OPEN_MAX {
                    return Err(Unanchored::TooMany);
                }
                // The other side never hears of what is refused here, and so answers nothing.
                if let Err(reason) = prepared
                    && is_refused(self.terms.broken, kind, reason)
                {
                    return Err(reason);
                }
                let offer = prepared.as_ref().ok().cloned();
                dialog.open.push(Open { by: from, request, offer, early: None });
                prepared.map(|_| None)
            }
            Step::Answer { open, is_final } => {
                let is_unanchored = dialog.open[open].offer.is_none();
                let answer = if is_unanchored { None } else { prepared.as_ref().ok().cloned() };
                dialog.answer(open, is_final, answer);
                dialog.drop_rejected();
                dialog.signalled_at = now;
                if is_unanchored { Err(Unanchored::Offer) } else { prepared.map(|_| Some(tag)) }
            }
            Step::Again if dialog.settled.is_some_and(|settled| settled.is_unanchored) => {
                Err(Unanchored::Offer)
            }
            Step::Again => prepared.map(|said| {
                let is_news = dialog.say_again(from, said);
                if is_news {
                    dialog.signalled_at = now;
                }
                is_news.then_some(tag)
            }),
            Step::Nothing => dialog.of_open(kind, from, cseq).and(prepared).map(|_| None),
        };
        result.map(|spoken| Taken { role: step.role(), legs: dialog.legs.clone(), spoken })
    }

    /// The first INVITE, on one of its branches.
    fn take_first_invite(
        &mut self,
        branch: Branch,
        message: &Message<'_>,
        description: Result<&Description<'_>, Unanchored>,
        grants: &mut Grants<'_>,
    ) -> Result<Vec<Option<Legs>>, Unanchored> {
        if let Some(fork) = self.forks.get(&branch) {
            let is_anchored = fork.offer.is_some();
            return description.and(if is_anchored { Ok(fork.legs.clone()) } else { Err(Unanchored::Offer) });
        }
        if self.forks.len() == FORKS_MAX {
            return Err(Unanchored::TooMany);
        }
        let mut legs = Vec::new();
        let said = description.map(|read| SideMedia::of(read, message.source, message.is_behind_nat));
        let prepared = said.and_then(|said| match provide(&mut legs, &said, grants) {
            Ok(()) => Ok(said),
            Err(no_ports) => Err(Unanchored::Ports(no_ports)),
        });
        let broken = self.terms.broken;
        if !prepared.as_ref().is_err_and(|reason| is_refused(broken, message.kind, *reason)) {
            let invite = Invite { request: invite(message.from, message.cseq), has_offer: true };
            let offer = prepared.as_ref().ok().cloned();
            self.forks.insert(branch, Fork { invite, offer, legs: legs.clone(), is_taken: false });
        }
        prepared.map(|_| legs)
    }

    /// The dialog that a response on a branch belongs to; `None` if there is no room, or no such branch.
    fn dialog_of(&mut self, now: Instant, branch: Branch, tag: Tag) -> Option<&mut Dialog> {
        if !self.dialogs.contains_key(&tag) {
            let fork = self.forks.get(&branch).filter(|_| self.dialogs.len() < DIALOGS_MAX)?;
            let dialog = Dialog::new(now, branch, fork.invite, fork.offer.clone());
            self.dialogs.insert(tag, dialog);
        }
        self.dialogs.get_mut(&tag)
    }

    /// A dialog that speaks of media for the first time gets the ports that its INVITE named.
    fn take_legs_of_fork(
        &mut self,
        branch: Branch,
        tag: Tag,
        grants: &mut Grants<'_>,
    ) -> Result<(), Unanchored> {
        let (Some(dialog), Some(fork)) = (self.dialogs.get_mut(&tag), self.forks.get_mut(&branch)) else {
            return Ok(());
        };
        if dialog.settled.is_some() || !dialog.legs.is_empty() || fork.legs.is_empty() {
            return Ok(());
        }
        let mut legs = fork.legs.clone();
        if fork.is_taken {
            for line in legs.iter_mut().flatten() {
                line.caller = grants.allocate(line.caller.pairs()).map_err(Unanchored::Ports)?;
            }
        }
        fork.is_taken = true;
        dialog.legs = legs;
        Ok(())
    }

    fn end_branch(&mut self, branch: Branch) {
        self.forks.remove(&branch);
        self.dialogs.retain(|_, dialog| dialog.branch != branch || dialog.is_confirmed);
    }

    fn footprint(&self) -> Footprint {
        Footprint { ports: self.ports(), streams: self.streams() }
    }

    /// Says what has changed since, and gives back the ports that nothing has any more.
    fn tell(
        &mut self,
        now: Instant,
        before: &Footprint,
        spoken: Option<Tag>,
        pool: &mut Pool,
        out: &mut Vec<Output>,
    ) {
        let Footprint { ports, streams } = before;
        let Footprint { ports: ports_now, streams: streams_now } = self.footprint();
        out.extend(ports_now.difference(ports).map(|(side, ports)| Output::Bind(*side, *ports)));
        for stream in streams.keys().filter(|stream| !streams_now.contains_key(stream)) {
            out.push(Output::End(*stream));
            self.latches.remove(&(*stream, Side::Caller));
            self.latches.remove(&(*stream, Side::Callee));
        }
        for (stream, plan) in streams_now {
            match streams.get(&stream) {
                None => out.push(Output::Start(stream, plan)),
                Some(before) if *before != plan || spoken == Some(stream.dialog) => {
                    out.push(Output::Change(stream, plan));
                }
                Some(_) => {}
            }
        }
        for &(side, gone) in ports.difference(&ports_now) {
            pool.release(now, gone);
            out.push(Output::Unbind(side, gone));
        }
    }
}

/// Whether a message that can not be relayed goes nowhere.
fn is_refused(broken: Broken, kind: Kind, reason: Unanchored) -> bool {
    // Without ports a call would be one without sound: better it goes elsewhere, or is tried again.
    let is_to_refuse = matches!(reason, Unanchored::Ports(_)) || broken == Broken::Refuse;
    // What answers or belongs to something unanchored is no fault of its own.
    let is_fault = !matches!(reason, Unanchored::Offer | Unanchored::Dialog);
    matches!(kind, Kind::Request(_)) && is_to_refuse && is_fault
}

fn invite(by: Side, cseq: u32) -> Request {
    Request { by, method: Method::Invite, cseq }
}

/// What is taken from the pool for one message.
struct Grants<'a> {
    now: Instant,
    pool: &'a mut Pool,
    given: Vec<Ports>,
}

impl Grants<'_> {
    fn allocate(&mut self, pairs: u16) -> Result<Ports, NoPorts> {
        let ports = self.pool.allocate(self.now, pairs)?;
        self.given.push(ports);
        Ok(ports)
    }
}

/// Gives each line that wants ports its own; all of them or none.
fn provide(legs: &mut Vec<Option<Legs>>, said: &SideMedia, grants: &mut Grants<'_>) -> Result<(), NoPorts> {
    let mut provided = legs.clone();
    provided.resize(provided.len().max(said.lines.len()), None);
    for (legs, line) in provided.iter_mut().zip(&said.lines) {
        match legs {
            _ if line.ports == 0 => {}
            // More ports than were told would be other ports, in mid-stream.
            Some(legs) if legs.caller.pairs() < line.ports => return Err(NoPorts::TooMany),
            Some(_) => {}
            None => {
                let (caller, callee) = (grants.allocate(line.ports)?, grants.allocate(line.ports)?);
                *legs = Some(Legs { caller, callee });
            }
        }
    }
    *legs = provided;
    Ok(())
}

#[cfg(test)]
mod tests;
