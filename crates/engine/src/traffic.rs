//! How many requests came and how they were answered, by method.

use sip::{MethodName, Status};

/// Classes of final responses: 2xx to 6xx.
const CLASSES: usize = 5;

/// Requests and their final responses since the start. Each request counts once, whoever repeats what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    requests: [u64; MethodName::ALL.len()],
    answers: [[u64; CLASSES]; MethodName::ALL.len()],
}

impl Traffic {
    pub(crate) fn came(&mut self, method: MethodName) {
        self.requests[method as usize] += 1;
    }

    pub(crate) fn answered(&mut self, method: MethodName, status: Status) {
        if let Some(class) = usize::from(status.class()).checked_sub(2).filter(|class| *class < CLASSES) {
            self.answers[method as usize][class] += 1;
        }
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.requests.iter_mut().zip(other.requests) {
            *mine += theirs;
        }
        for (mine, theirs) in self.answers.iter_mut().flatten().zip(other.answers.iter().flatten()) {
            *mine += theirs;
        }
    }

    /// Requests of each method, retransmissions left out.
    pub fn requests(&self) -> impl Iterator<Item = (MethodName, u64)> + '_ {
        MethodName::ALL.into_iter().zip(self.requests)
    }

    /// Final responses to requests of each method, by their class: 2 to 6.
    pub fn answers(&self) -> impl Iterator<Item = (MethodName, u8, u64)> + '_ {
        MethodName::ALL.into_iter().zip(self.answers).flat_map(|(method, classes)| {
            (2..).zip(classes).map(move |(class, figure)| (method, class, figure))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_final_responses_count_and_each_in_its_class() {
        let (mut one, mut other) = (Traffic::default(), Traffic::default());
        one.came(MethodName::Invite);
        for status in [100, 183, 200, 486, 603, 699, 999] {
            one.answered(MethodName::Invite, Status(status));
        }
        other.answered(MethodName::Invite, Status(299));
        other.came(MethodName::Other);

        one.merge(&other);

        let requests: Vec<_> = one.requests().filter(|(_, figure)| *figure > 0).collect();
        assert_eq!(requests, [(MethodName::Invite, 1), (MethodName::Other, 1)]);
        let answers: Vec<_> = one.answers().filter(|(.., figure)| *figure > 0).collect();
        assert_eq!(
            answers,
            [(MethodName::Invite, 2, 2), (MethodName::Invite, 4, 1), (MethodName::Invite, 6, 2)]
        );
    }
}
