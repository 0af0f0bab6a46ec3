//! The exchange within one dialog: which offers are open, what was agreed on, which message is what.

use clock::Instant;

use super::message::{Branch, Kind, Method, Role, Side, Unanchored};
use super::plan::{Agreement, Legs};
use super::side::SideMedia;

/// Offers that are open at a time: RFC 3264 §4 allows one, and crossing ones meet here before one is refused (491).
pub(super) const OPEN_MAX: usize = 4;

/// The request that an offer or its answer goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) by: Side,
    pub(super) method: Method,
    pub(super) cseq: u32,
}

/// An offer without its final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) by: Side,
    pub(super) request: Request,
    /// `None` if it went on as it was, so that its answer has to, too.
    pub(super) offer: Option<SideMedia>,
    /// An answer that may still be another one: it came in a provisional response that nobody confirms.
    pub(super) early: Option<SideMedia>,
}

/// What stands in the place of an answer, once there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) by: Side,
    pub(super) request: Request,
    /// Whether the offer went on as it was.
    pub(super) is_unanchored: bool,
}

/// The last INVITE of the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invite {
    pub(super) request: Request,
    pub(super) has_offer: bool,
}

/// One dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialog {
    pub(super) branch: Branch,
    pub(super) is_confirmed: bool,
    pub(super) invite: Invite,
    pub(super) open: Vec<Open>,
    pub(super) settled: Option<Settled>,
    pub(super) agreed: Option<Agreement>,
    /// For each media line; `None` for one that is not relayed.
    pub(super) legs: Vec<Option<Legs>>,
    /// When media were last spoken of, from which the windows of the latches count.
    pub(super) signalled_at: Instant,
}

/// What a description is, and what becomes of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It opens an exchange.
    Open(Request),
    /// It answers the open offer at this place.
    Answer { open: usize, is_final: bool },
    /// It says once more, perhaps otherwise, what closed the last exchange.
    Again,
    /// It changes nothing.
    Nothing,
}

impl Step {
    pub(super) fn role(self) -> Role {
        match self {
            Self::Open(_) => Role::Offer,
            Self::Answer { .. } => Role::Answer,
            Self::Again | Self::Nothing => Role::Neither,
        }
    }
}

impl Dialog {
    /// A dialog that a response to the first INVITE makes.
    pub(super) fn new(now: Instant, branch: Branch, invite: Invite, offer: Option<SideMedia>) -> Self {
        let open = invite.has_offer.then_some(Open {
            by: Side::Caller,
            request: invite.request,
            offer,
            early: None,
        });
        Self {
            branch,
            is_confirmed: false,
            invite,
            open: open.into_iter().collect(),
            settled: None,
            agreed: None,
            legs: Vec::new(),
            signalled_at: now,
        }
    }

    /// What a description is that came with a message of `from`.
    // RFC 6337 §2.2, table 1: the six ways in which offers and answers go.
    pub(super) fn step(&self, kind: Kind, from: Side, cseq: u32) -> Step {
        let own = |method| Request { by: from, method, cseq };
        let answered = |method| Request { by: from.other(), method, cseq };
        match kind {
            Kind::Request(Method::Prack) => match self.find_late(from) {
                // RFC 3262 §5: a PRACK answers the offer in the response that it confirms.
                Some(open) => Step::Answer { open, is_final: true },
                None => self.offer(own(Method::Prack)),
            },
            Kind::Request(method) => self.offer(own(method)),
            Kind::Ack => match self.find(own(Method::Invite)) {
                Some(open) if self.open[open].by != from => Step::Answer { open, is_final: true },
                _ => self.again(own(Method::Invite), from),
            },
            Kind::Provisional { is_reliable } => self.response(answered(Method::Invite), from, is_reliable),
            Kind::Accepted(method) => self.response(answered(method), from, true),
            Kind::Refused(_) => Step::Nothing,
        }
    }

    fn offer(&self, request: Request) -> Step {
        let is_settled = self.settled.is_some_and(|settled| settled.request == request);
        // A request that comes again finds what it opened, or what has closed it.
        if self.find(request).is_some() || is_settled { Step::Nothing } else { Step::Open(request) }
    }

    fn response(&self, request: Request, from: Side, is_final: bool) -> Step {
        match self.find(request) {
            Some(open) if self.open[open].by == from => Step::Nothing,
            Some(open) => Step::Answer { open, is_final },
            None if self.settled.is_some_and(|settled| settled.request == request) => {
                self.again(request, from)
            }
            // RFC 3264 §4, RFC 3261 §13.2.1: an INVITE without an offer asks for one.
            None if self.invite.request == request && !self.invite.has_offer => Step::Open(request),
            None => Step::Nothing,
        }
    }

    /// Only who answered may say it again: an offer is not changed by saying it twice.
    fn again(&self, request: Request, from: Side) -> Step {
        let is_last = self.settled.is_some_and(|settled| settled.request == request && settled.by != from);
        if is_last && self.open.is_empty() { Step::Again } else { Step::Nothing }
    }

    /// The open offer that goes with a request.
    pub(super) fn find(&self, request: Request) -> Option<usize> {
        self.open.iter().position(|open| open.request == request)
    }

    /// The open offer of the other side that came in a response.
    fn find_late(&self, from: Side) -> Option<usize> {
        self.open.iter().position(|open| open.by != from && open.request.by == from)
    }

    /// The offer is answered.
    pub(super) fn answer(&mut self, open: usize, is_final: bool, answer: Option<SideMedia>) {
        if !is_final {
            self.open[open].early = answer;
            return;
        }
        let Open { by, request, offer, .. } = self.open.remove(open);
        self.settled = Some(Settled { by, request, is_unanchored: offer.is_none() });
        self.agreed = match (offer, answer) {
            (Some(offer), Some(answer)) => Some(Agreement::new(by, offer, answer)),
            // Media go past the relay.
            (None, _) | (_, None) => None,
        };
    }

    /// One side says again what closed the last exchange; whether it says something else.
    // RFC 6337 §3.1.1: it should be the same, but gateways answer early and late with different media.
    pub(super) fn say_again(&mut self, from: Side, said: SideMedia) -> bool {
        let Some(agreed) = &mut self.agreed else { return false };
        let place = match from {
            Side::Caller => &mut agreed.caller,
            Side::Callee => &mut agreed.callee,
        };
        let is_news = *place != said;
        *place = said;
        is_news
    }

    /// Whether what changes nothing belongs to an offer that went on as it was.
    pub(super) fn of_open(&self, kind: Kind, from: Side, cseq: u32) -> Result<(), Unanchored> {
        let by = match kind {
            Kind::Request(_) | Kind::Ack => from,
            Kind::Provisional { .. } | Kind::Accepted(_) | Kind::Refused(_) => from.other(),
        };
        let is_same = |request: Request| request.by == by && request.cseq == cseq;
        let mut open = self.open.iter().filter(|open| is_same(open.request));
        let is_settled = |settled: Settled| is_same(settled.request) && settled.is_unanchored;
        if open.any(|open| open.offer.is_none()) || self.settled.is_some_and(is_settled) {
            return Err(Unanchored::Offer);
        }
        Ok(())
    }

    /// A message without a description, which may end an exchange all the same.
    pub(super) fn handle_silence(&mut self, kind: Kind, from: Side, cseq: u32) {
        let request = match kind {
            Kind::Ack => Request { by: from, method: Method::Invite, cseq },
            Kind::Accepted(method) => Request { by: from.other(), method, cseq },
            Kind::Refused(method) => return self.refuse(Request { by: from.other(), method, cseq }),
            Kind::Request(_) | Kind::Provisional { .. } => return,
        };
        let Some(open) = self.find(request) else { return };
        let is_late = self.open[open].by != self.open[open].request.by;
        if is_late == (kind == Kind::Ack) {
            // What was said early stands; without it nothing was agreed on.
            match self.open[open].early.take() {
                Some(early) => self.answer(open, true, Some(early)),
                None => drop(self.open.remove(open)),
            }
        }
    }

    /// A request was refused: what it proposed is as if it had not been.
    // RFC 3261 §14.1, RFC 3311 §5.1.
    pub(super) fn refuse(&mut self, request: Request) {
        self.open.retain(|open| open.request != request);
    }

    /// What media do at this moment: what was said early, or else what was agreed on.
    pub(super) fn effective(&self) -> Option<Agreement> {
        let early = self.open.iter().rev().find_map(|open| {
            let (offer, early) = (open.offer.clone()?, open.early.clone()?);
            Some(Agreement::new(open.by, offer, early))
        });
        early.or_else(|| self.agreed.clone())
    }

    /// Lines that an agreement has no place for lose their ports.
    pub(super) fn drop_rejected(&mut self) {
        if !self.open.is_empty() {
            return;
        }
        let Some(agreed) = &self.agreed else { return };
        let is_relayed = |line: usize| {
            let has = |media: &SideMedia| media.lines.get(line).is_some_and(|line| line.ports > 0);
            has(&agreed.caller) && has(&agreed.callee)
        };
        for (line, legs) in self.legs.iter_mut().enumerate() {
            if !is_relayed(line) {
                *legs = None;
            }
        }
    }
}
