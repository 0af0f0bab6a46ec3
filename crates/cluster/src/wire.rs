//! Messages as bytes: what is sealed in a datagram between members.
//!
//! Every message has a fixed layout behind one byte that names it. Nodes of two versions that do not understand each other
//! say so (the link's header carries [`VERSION`]); within one version bytes behind a known layout are skipped.

use std::time::Duration;

use crate::heartbeat::{Heartbeat, Stance};
use crate::{
    Answer, Ask, Epoch, HandoverAnswer, HandoverAsk, HardwareAddress, Here, Holder, Incarnation, ListVersion,
    MemberId, Message, NodeId, Refusal, RefusalCause, Release, RequestNumber, Seat, ServiceId, Verdict,
    VoterId, VoterList,
};

/// The version of all layouts.
pub const VERSION: u8 = 1;

/// The longest message.
pub const MESSAGE_BYTES_MAX: usize = 128;

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Appends the bytes of a message.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    let mut to = Writer(out);
    match message {
        Message::Ask(ask) => {
            to.byte(1);
            to.head(ask.service, ask.holder, ask.number, ask.epoch);
            to.duration(ask.lease);
            to.list(&ask.list);
        }
        Message::Answer(answer) => {
            to.byte(2);
            to.head(answer.service, answer.holder, answer.number, answer.epoch);
            to.number(answer.voter.0);
            match answer.verdict {
                Verdict::Granted(lease) => {
                    to.byte(0);
                    to.duration(lease);
                }
                Verdict::Refused(refusal) => {
                    to.byte(1 + cause_to_byte(refusal.cause));
                    to.duration(refusal.left);
                    to.number(refusal.highest.0);
                }
            }
        }
        Message::Release(release) => {
            to.byte(3);
            to.byte(release.service.0);
            to.holder(release.holder);
            to.number(release.epoch.0);
        }
        Message::Heartbeat(heartbeat) => {
            to.byte(4);
            to.byte(heartbeat.service.0);
            to.holder(heartbeat.from);
            to.number(heartbeat.voter.0);
            to.byte(stance_to_byte(heartbeat.stance));
            to.number(heartbeat.epoch.0);
            to.byte(heartbeat.ailment);
            to.byte(heartbeat.ready);
            to.byte(
                u8::from(heartbeat.wants_relief)
                    | u8::from(heartbeat.hears_you) << 1
                    | u8::from(heartbeat.has_witness) << 2
                    | u8::from(heartbeat.admits_at.is_some()) << 3,
            );
            to.number(heartbeat.list.0);
            to.number(heartbeat.settings);
            to.number(heartbeat.wall_ms);
            if let Some(HardwareAddress(bytes)) = heartbeat.admits_at {
                bytes.into_iter().for_each(|byte| to.byte(byte));
            }
        }
        Message::HandoverAsk(ask) => {
            to.byte(5);
            to.head(ask.service, ask.to, ask.number, ask.epoch);
            to.number(ask.next.0);
            to.duration(ask.lease);
            to.number(ask.list.0);
        }
        Message::HandoverAnswer(answer) => {
            to.byte(6);
            to.head(answer.service, answer.to, answer.number, answer.epoch);
            to.holder(answer.from);
            to.number(answer.voter.0);
            to.number(answer.next.0);
            to.duration(answer.lease);
        }
        Message::Hello(service) => {
            to.byte(7);
            to.byte(service.0);
        }
        Message::Here(here) => {
            to.byte(8);
            to.byte(here.service.0);
            to.number(here.voter.0);
            to.number(here.highest.0);
            to.byte(u8::from(here.votes) | u8::from(here.granted.is_some()) << 1);
            if let Some((holder, left)) = here.granted {
                to.holder(holder);
                to.duration(left);
            }
        }
        Message::List(service, list) => {
            to.byte(9);
            to.byte(service.0);
            to.list(list);
        }
    }
}

/// Reads what [`write`] wrote.
pub fn read(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut from = Reader(bytes);
    Ok(match from.byte()? {
        1 => {
            let (service, holder, number, epoch) = from.head()?;
            let lease = from.duration()?;
            Message::Ask(Ask { service, holder, number, epoch, lease, list: from.list()? })
        }
        2 => {
            let (service, holder, number, epoch) = from.head()?;
            let voter = VoterId(from.number()?);
            let verdict = match from.byte()? {
                0 => Verdict::Granted(from.duration()?),
                cause => {
                    let cause = cause_of_byte(cause - 1)?;
                    let left = from.duration()?;
                    Verdict::Refused(Refusal { cause, left, highest: Epoch(from.number()?) })
                }
            };
            Message::Answer(Answer { voter, service, holder, number, epoch, verdict })
        }
        3 => Message::Release(Release {
            service: ServiceId(from.byte()?),
            holder: from.holder()?,
            epoch: Epoch(from.number()?),
        }),
        4 => {
            let service = ServiceId(from.byte()?);
            let holder = from.holder()?;
            let voter = VoterId(from.number()?);
            let stance = stance_of_byte(from.byte()?)?;
            let epoch = Epoch(from.number()?);
            let (ailment, ready, flags) = (from.byte()?, from.byte()?, from.byte()?);
            Message::Heartbeat(Heartbeat {
                service,
                from: holder,
                voter,
                stance,
                epoch,
                ailment,
                ready: ready.min(100),
                wants_relief: flags & 1 != 0,
                hears_you: flags & 2 != 0,
                has_witness: flags & 4 != 0,
                list: ListVersion(from.number()?),
                settings: from.number()?,
                wall_ms: from.number()?,
                admits_at: if flags & 8 != 0 { Some(from.hardware_address()?) } else { None },
            })
        }
        5 => {
            let (service, to, number, epoch) = from.head()?;
            let next = Epoch(from.number()?);
            let (lease, list) = (from.duration()?, ListVersion(from.number()?));
            Message::HandoverAsk(HandoverAsk { service, to, number, epoch, next, lease, list })
        }
        6 => {
            let (service, to, number, epoch) = from.head()?;
            let holder = from.holder()?;
            let voter = VoterId(from.number()?);
            let next = Epoch(from.number()?);
            let lease = from.duration()?;
            Message::HandoverAnswer(HandoverAnswer {
                service,
                voter,
                from: holder,
                to,
                number,
                epoch,
                next,
                lease,
            })
        }
        7 => Message::Hello(ServiceId(from.byte()?)),
        8 => {
            let service = ServiceId(from.byte()?);
            let (voter, highest) = (VoterId(from.number()?), Epoch(from.number()?));
            let flags = from.byte()?;
            let granted = match flags & 2 {
                0 => None,
                _ => Some((from.holder()?, from.duration()?)),
            };
            Message::Here(Here { service, voter, highest, granted, votes: flags & 1 != 0 })
        }
        9 => Message::List(ServiceId(from.byte()?), from.list()?),
        _ => return Err(Malformed),
    })
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn holder(&mut self, holder: Holder) {
        self.byte(holder.node.0);
        self.number(holder.incarnation.0);
    }

    fn seat(&mut self, seat: Seat) {
        self.byte(seat.member.0);
        self.number(seat.voter.map_or(0, |voter| voter.0));
    }

    fn list(&mut self, list: &VoterList) {
        self.number(list.version().0);
        self.byte(list.seats().count() as u8 | u8::from(list.change().is_some()) << 7);
        list.seats().chain(list.change()).for_each(|seat| self.seat(seat));
    }

    fn head(&mut self, service: ServiceId, holder: Holder, number: RequestNumber, epoch: Epoch) {
        self.byte(service.0);
        self.holder(holder);
        self.number(number.0);
        self.number(epoch.0);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let (first, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_be_bytes(*first))
    }

    fn hardware_address(&mut self) -> Result<HardwareAddress, Malformed> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(HardwareAddress(*first))
    }

    fn duration(&mut self) -> Result<Duration, Malformed> {
        self.number().map(Duration::from_nanos)
    }

    fn holder(&mut self) -> Result<Holder, Malformed> {
        Ok(Holder { node: NodeId(self.byte()?), incarnation: Incarnation(self.number()?) })
    }

    fn seat(&mut self) -> Result<Seat, Malformed> {
        let (member, voter) = (MemberId(self.byte()?), self.number()?);
        Ok(Seat { member, voter: (voter != 0).then_some(VoterId(voter)) })
    }

    fn list(&mut self) -> Result<VoterList, Malformed> {
        let (version, counts) = (ListVersion(self.number()?), self.byte()?);
        let mut seats = Vec::new();
        for _ in 0..counts & 127 {
            seats.push(self.seat()?);
        }
        let change = if counts & 128 != 0 { Some(self.seat()?) } else { None };
        Ok(VoterList::new(version, seats, change))
    }

    fn head(&mut self) -> Result<(ServiceId, Holder, RequestNumber, Epoch), Malformed> {
        Ok((ServiceId(self.byte()?), self.holder()?, RequestNumber(self.number()?), Epoch(self.number()?)))
    }
}

const CAUSES: [RefusalCause; 7] = [
    RefusalCause::Held,
    RefusalCause::EpochUsed,
    RefusalCause::Restarted,
    RefusalCause::OldList,
    RefusalCause::LeaseUnfit,
    RefusalCause::NotVoting,
    RefusalCause::Cloned,
];

const STANCES: [Stance; 4] = [Stance::Active, Stance::Standby, Stance::Unable, Stance::Away];

fn cause_to_byte(cause: RefusalCause) -> u8 {
    CAUSES.iter().position(|known| *known == cause).unwrap_or_default() as u8
}

fn cause_of_byte(byte: u8) -> Result<RefusalCause, Malformed> {
    CAUSES.get(usize::from(byte)).copied().ok_or(Malformed)
}

fn stance_to_byte(stance: Stance) -> u8 {
    STANCES.iter().position(|known| *known == stance).unwrap_or_default() as u8
}

fn stance_of_byte(byte: u8) -> Result<Stance, Malformed> {
    STANCES.get(usize::from(byte)).copied().ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use crate::SEATS_MAX;

    use super::*;

    #[test]
    fn each_message_is_read_as_it_was_written() {
        for message in messages() {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            assert!(bytes.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(read(&bytes), Ok(message));
        }
    }

    #[test]
    fn what_follows_a_known_layout_is_skipped() {
        for message in messages() {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            bytes.extend_from_slice(b"of a later version");
            assert_eq!(read(&bytes), Ok(message));
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_refused() {
        for message in messages() {
            let mut bytes = Vec::new();
            write(&message, &mut bytes);
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length]), Err(Malformed), "{message:?} cut to {length}");
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        for first in 0..=255 {
            for fill in [0, 1, 3, 127, 255] {
                for length in 0..MESSAGE_BYTES_MAX {
                    let mut bytes = vec![fill; length];
                    bytes.insert(0, first);
                    let _ = read(&bytes);
                }
            }
        }
    }

    fn messages() -> Vec<Message> {
        let service = ServiceId(3);
        let holder = Holder { node: NodeId(1), incarnation: Incarnation(u64::MAX - 5) };
        let (number, epoch, lease) = (RequestNumber(77), Epoch(1 << 40), Duration::from_millis(500));
        let voter = VoterId(0xdead_beef);
        let seat = |member| Seat { member: MemberId(member), voter: Some(VoterId(u64::from(member))) };
        let list = VoterList::of_members([0, 1].map(MemberId));
        let longest = VoterList::new(ListVersion(u64::MAX), (1..=SEATS_MAX as u8).map(seat), Some(seat(9)));
        let answer = |verdict| Message::Answer(Answer { voter, service, holder, number, epoch, verdict });
        let refusal = |cause| Refusal { cause, highest: Epoch(9), left: Duration::from_micros(1) };
        let heartbeat = |stance| {
            Message::Heartbeat(Heartbeat {
                service,
                from: holder,
                voter,
                stance,
                epoch,
                ailment: 40,
                ready: 99,
                wants_relief: true,
                hears_you: false,
                has_witness: true,
                list: ListVersion(77),
                settings: 5,
                wall_ms: 1_700_000_000_000,
                admits_at: (stance != Stance::Away).then_some(HardwareAddress([2, 0, 0, 0, 0, 1])),
            })
        };
        let mut messages = vec![
            Message::Ask(Ask { service, holder, number, epoch, lease, list }),
            Message::List(service, longest),
            answer(Verdict::Granted(lease)),
            Message::Release(Release { service, holder, epoch }),
            Message::HandoverAsk(HandoverAsk {
                service,
                to: holder,
                number,
                epoch,
                next: Epoch(5),
                lease,
                list: ListVersion(4),
            }),
            Message::HandoverAnswer(HandoverAnswer {
                service,
                voter,
                from: holder,
                to: holder,
                number,
                epoch,
                next: Epoch(5),
                lease,
            }),
            Message::Hello(service),
            Message::Here(Here { service, voter, highest: epoch, granted: None, votes: true }),
            Message::Here(Here {
                service,
                voter,
                highest: epoch,
                granted: Some((holder, lease)),
                votes: false,
            }),
        ];
        messages.extend(CAUSES.map(|cause| answer(Verdict::Refused(refusal(cause)))));
        messages.extend(STANCES.map(heartbeat));
        messages
    }
}
