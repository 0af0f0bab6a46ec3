//! What a guardian does with what its machines say.

use cluster::{ContenderOutput, HandoverAnswer, Release, VoterOutput};

use super::{Event, GateWrite, Loss, MS, Message, PLACES, World};

impl World {
    pub(super) fn carry_voter(&mut self, place: usize, out: Vec<VoterOutput>) {
        let boot = self.places[place].boot;
        for output in out {
            match output {
                VoterOutput::Keep(write, record) => {
                    self.count("write to disk");
                    // Writes are done in order.
                    let slowest = if self.rng.chance(100) { 80 * MS } else { 4 * MS };
                    let after = self.rng.between(MS / 5, slowest);
                    let last = self.queue.iter().rev().find_map(|((at, _), event)| match event {
                        Event::Kept { place: of, boot: start, .. } if *of == place && *start == boot => {
                            Some(*at)
                        }
                        _ => None,
                    });
                    let after = after.max(last.map_or(0, |last| last.saturating_sub(self.now) + 1));
                    self.push(after, Event::Kept { place, boot, write, record });
                }
                VoterOutput::Answer(node, answer) => {
                    let is_granted = matches!(answer.verdict, cluster::Verdict::Granted(_));
                    if is_granted && answer.epoch <= self.places[place].released {
                        self.violation = Some(format!("{:?} was granted after its release", answer.epoch));
                    }
                    let what = match answer.verdict {
                        cluster::Verdict::Granted(_) => "vote granted",
                        cluster::Verdict::Refused(refusal) => match refusal.cause {
                            cluster::RefusalCause::Held => "refused: held",
                            cluster::RefusalCause::EpochUsed => "refused: epoch used",
                            cluster::RefusalCause::Restarted => "refused: restarted",
                            cluster::RefusalCause::OldList => "refused: old list",
                            _ => "refused: other",
                        },
                    };
                    self.count(what);
                    self.send(place, usize::from(node.0), Message::Answer(answer));
                }
                VoterOutput::Tell(node, list) => self.send(place, usize::from(node.0), Message::List(list)),
                VoterOutput::Alarm(_) => self.count("alarm"),
            }
        }
    }

    pub(super) fn carry_contender(&mut self, place: usize, out: Vec<ContenderOutput>) {
        let boot = self.places[place].boot;
        // The process may freeze after it has read its clock and before it acts.
        let lag =
            if self.is_hostile && self.rng.chance(5) { self.rng.between(100 * MS, 900 * MS) } else { 0 };
        if lag > 0 && !out.is_empty() {
            self.count("frozen before acting");
            self.places[place].frozen_until = self.now + lag;
        }
        for output in out {
            match output {
                ContenderOutput::Ask(voter, ask) => {
                    let to = voter.0 as usize - 1;
                    self.send_late(place, to, Message::Ask(ask), lag);
                }
                ContenderOutput::Release(release) => {
                    self.count("release");
                    for to in 0..PLACES {
                        self.send_late(place, to, Message::Release(release), lag);
                    }
                }
                ContenderOutput::Activate(epoch, until) => {
                    self.count("became active");
                    self.last_active = (place, boot);
                    self.push(
                        lag + 1,
                        Event::GateWritten { place, boot, write: GateWrite::Open(epoch, until) },
                    );
                }
                ContenderOutput::Extend(epoch, until) => {
                    // What it has begun is still true, also under an epoch that it has raised.
                    if self.last_active != (place, boot) {
                        self.violation = Some(format!("place {place} goes on after another was active"));
                    }
                    self.push(
                        lag + 1,
                        Event::GateWritten { place, boot, write: GateWrite::Open(epoch, until) },
                    );
                }
                ContenderOutput::Deactivate(epoch, cause) => {
                    self.count(match cause {
                        cluster::Cause::Expired => "lease expired",
                        cluster::Cause::GivenUp => "gave up",
                        cluster::Cause::HandedOver => "handed over",
                    });
                    let slowest = if self.rng.chance(200) { 200 * MS } else { 5 * MS };
                    let slow = self.rng.between(MS / 10, slowest);
                    self.push(lag + slow, Event::GateWritten { place, boot, write: GateWrite::Close(epoch) });
                }
                ContenderOutput::ListUnchanged => self.count("list unchanged"),
                ContenderOutput::AskHandover(ask) => {
                    self.count("hand-over asked");
                    self.send_late(place, 1 - place, Message::HandoverAsk(ask), lag);
                }
                ContenderOutput::Reserve(epoch) => {
                    let mut out = Vec::new();
                    if let Some(voter) = &mut self.places[place].voter {
                        voter.reserve(epoch, &mut out);
                    }
                    self.carry_voter(place, out);
                }
                ContenderOutput::Drain => {
                    let after = self.rng.between(MS, 60 * MS);
                    self.push(lag + after, Event::Drained { place, boot });
                }
                ContenderOutput::HandOver(answer) => self.hand_over(place, answer, lag),
                ContenderOutput::RepeatHandOver(answer) => {
                    self.send_late(place, 1 - place, Message::HandoverAnswer(answer), lag);
                }
                ContenderOutput::VoteForSelf(release, epoch, lease) => {
                    let now = self.local(place);
                    let mut by_voter = Vec::new();
                    let mut out = Vec::new();
                    let this = &mut self.places[place];
                    if let (Some(voter), Some(contender)) = (&mut this.voter, &mut this.contender) {
                        let me = contender.me();
                        let granted = voter.grant_reserved(now, release, me, epoch, lease, &mut by_voter);
                        contender.own_vote(now, granted, &mut out);
                    }
                    self.carry_voter(place, by_voter);
                    self.carry_contender(place, out);
                }
            }
        }
    }

    fn hand_over(&mut self, place: usize, answer: HandoverAnswer, lag: u64) {
        let now = self.local(place);
        let mut by_voter = Vec::new();
        let mut out = Vec::new();
        let HandoverAnswer { service, from, to, epoch, next, lease, .. } = answer;
        let released = Release { service, holder: from, epoch };
        let this = &mut self.places[place];
        let granted = this
            .voter
            .as_mut()
            .and_then(|voter| voter.grant_reserved(now, released, to, next, lease, &mut by_voter));
        match (granted, &mut this.contender) {
            (None, Some(contender)) => contender.handover_failed(&mut out),
            _ => self.send_late(place, 1 - place, Message::HandoverAnswer(answer), lag),
        }
        self.carry_voter(place, by_voter);
        self.carry_contender(place, out);
    }

    fn send_late(&mut self, from: usize, to: usize, message: Message, lag: u64) {
        if lag == 0 {
            return self.send(from, to, message);
        }
        let now = self.now;
        self.now += lag;
        self.send(from, to, message);
        self.now = now;
    }

    pub(super) fn write_gate(&mut self, place: usize, write: GateWrite) {
        match write {
            GateWrite::Open(epoch, until) => {
                let until = self.at_local(place, until);
                let gate = &mut self.places[place].gate;
                // The program in the kernel drops what is of a closed epoch or past its deadline.
                gate.epoch = epoch.0;
                gate.until = until;
                let tenure = (place, self.places[place].boot);
                let is_sound = self.server.as_ref().is_none_or(|server| server.loss() == Loss::Renewals);
                if *self.tenures.entry(epoch).or_insert(tenure) != tenure && is_sound {
                    self.violation = Some(format!("{epoch:?} had two holders"));
                }
                let other = 1 - place;
                let both = self.gate_until(place).min(self.gate_until(other));
                if both > self.now {
                    self.violation = Some(format!(
                        "at {} ms both gates are open until {} ms: epochs {} and {}",
                        self.now / MS,
                        both / MS,
                        self.places[place].gate.epoch,
                        self.places[other].gate.epoch
                    ));
                }
            }
            GateWrite::Close(epoch) => {
                let gate = &mut self.places[place].gate;
                gate.closed = gate.closed.max(epoch.0);
                let mut out = Vec::new();
                if let Some(contender) = &mut self.places[place].contender {
                    contender.gate_closed(&mut out);
                }
                self.carry_contender(place, out);
            }
        }
    }
}
