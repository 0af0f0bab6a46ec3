//! Who calls whom in a crowd, and what becomes of it.

use std::time::Duration;

use crate::phone::{Answering, Behaviour, CallOrder};
use crate::rng::Rng;

/// A phone rings at least so long, and less than twice that.
const RING: Duration = Duration::from_millis(400);
/// A caller that gives up does so within this time.
const PATIENCE: Duration = Duration::from_millis(900);

/// One call of a crowd.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Who calls.
    pub(super) caller: usize,
    /// What the caller does.
    pub(super) order: CallOrder,
    /// What the phones that ring do.
    pub(super) answers: Vec<(usize, Answering)>,
    /// How long all of it takes where nothing is lost.
    pub(super) lasts: Duration,
}

/// Writes call `number`: somebody calls another user, whose phones all ring. One phone decides, the others are
/// busy or ring on until they are cancelled.
pub(super) fn write(
    rng: &mut Rng,
    number: u32,
    users: &[Vec<usize>],
    talk_max: Duration,
    domain: &str,
) -> Part {
    let callee = rng.index(users.len());
    let others = (callee + 1 + rng.index(users.len() - 1)) % users.len();
    let caller = rng.pick(&users[others]);
    let phones = &users[callee];
    let mut order = CallOrder::new(number, format!("sip:{}@{domain}", super::account(callee)));
    let ring = rng.between(RING, RING * 2);
    let talk = rng.between(talk_max / 4, talk_max);
    let decides = rng.index(phones.len());
    let mut answers: Vec<_> = phones
        .iter()
        .enumerate()
        .map(|(place, &phone)| {
            let behaviour = match place == decides {
                true => Behaviour::Answer { status: rng.pick(&[180, 183]), after: ring },
                false if rng.chance(300) => Behaviour::Refuse { status: 486, after: ring / 2 },
                false => Behaviour::Ring,
            };
            (phone, Answering::of(behaviour))
        })
        .collect();
    order.hang_up_after = Some(talk);
    match rng.below(10) {
        0 | 1 => {
            answers.iter_mut().for_each(|(_, answering)| answering.behaviour = Behaviour::Ring);
            order.cancel_after = Some(rng.between(PATIENCE / 3, PATIENCE));
        }
        2 => {
            let refuses = Behaviour::Refuse { status: rng.pick(&[486, 480]), after: ring };
            answers.iter_mut().for_each(|(_, answering)| answering.behaviour = refuses.clone());
        }
        3 => order.reinvite_after = Some(talk / 2),
        4..=6 => {
            order.hang_up_after = None;
            answers[decides].1.hang_up_after = Some(talk);
        }
        _ => {}
    }
    Part { caller, order, answers, lasts: ring + PATIENCE + talk }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_cancelled_refused_changed_and_ended_by_either_side() {
        let mut rng = Rng::new(1);
        let users = [vec![0], vec![1, 2], vec![3, 4, 5, 6]];
        let parts: Vec<_> = (1..200)
            .map(|number| write(&mut rng, number, &users, Duration::from_secs(4), "example.org"))
            .collect();

        let has = |is_it: fn(&Part) -> bool| parts.iter().any(is_it);
        assert!(has(|part| part.order.cancel_after.is_some()));
        assert!(has(|part| part.order.reinvite_after.is_some()));
        assert!(has(|part| part.order.hang_up_after.is_none()));
        assert!(has(|part| part.answers.len() == 4));
        assert!(has(|part| matches!(part.answers[0].1.behaviour, Behaviour::Refuse { .. })));
        let to_itself = |part: &Part| part.answers.iter().any(|(phone, _)| *phone == part.caller);
        assert!(!parts.iter().any(to_itself));
    }
}
