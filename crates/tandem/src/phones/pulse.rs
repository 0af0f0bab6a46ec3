//! A phone's questions to the address: what a takeover looks like from outside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sip::{Message, Method};

use super::message::{Request, Speaker, text};

/// An answer that comes later than this counts as none.
const ANSWER_MAX: Duration = Duration::from_millis(300);

/// So many questions are remembered: two minutes of ten in a second.
const ASKED_MAX: usize = 1_200;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It was answered.
    Answered,
    /// It may still be.
    Open,
    /// It was not.
    Missed,
}

/// The questions.
#[derive(Clone, Debug)]
pub struct Pulse {
    call_id: String,
    asked: VecDeque<Asked>,
    number: u32,
    every: Duration,
    next: Instant,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    number: u32,
    /// When it was asked.
    pub at: Instant,
    /// When it was answered.
    pub answered: Option<Instant>,
}

impl Pulse {
    /// The first question is due at a moment.
    pub fn new(first: Instant, every: Duration, speaker: &mut Speaker) -> Self {
        Self { call_id: speaker.unique(), asked: VecDeque::new(), number: 0, every, next: first }
    }

    /// Takes a response to a question.
    pub fn handle(&mut self, now: Instant, response: &Message<'_>) {
        let Ok(cseq) = response.cseq() else { return };
        if text(response.call_id().ok()) != self.call_id || response.status().is_none_or(|it| it.0 != 200) {
            return;
        }
        let asked = self.asked.iter_mut().find(|asked| asked.number == cseq.number);
        if let Some(asked) = asked.filter(|asked| now.saturating_duration_since(asked.at) < ANSWER_MAX) {
            asked.answered.get_or_insert(now);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, speaker: &mut Speaker, out: &mut Vec<Vec<u8>>) {
        if now < self.next {
            return;
        }
        // Who was kept from asking does not make up for it in a burst.
        self.next = (self.next + self.every).max(now);
        self.number += 1;
        let request = Request {
            method: Method::Options,
            uri: format!("sip:{}", speaker.domain),
            routes: Vec::new(),
            from: format!("<{}>;tag={}", speaker.aor(), speaker.unique()),
            to: format!("<sip:{}>", speaker.domain),
            call_id: self.call_id.clone(),
            cseq: self.number,
            contact: None,
            lines: Vec::new(),
            body: b"",
        };
        let via = speaker.via();
        out.push(request.render(&via));
        self.asked.push_back(Asked { number: self.number, at: now, answered: None });
        if self.asked.len() > ASKED_MAX {
            self.asked.pop_front();
        }
    }

    /// Those that were asked after a moment, the newest last.
    pub fn asked_after(&self, moment: Instant) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(move |asked| asked.at > moment)
    }

    /// The last ones, the newest last.
    pub fn beats(&self, now: Instant, count: usize) -> Vec<Beat> {
        let first = self.asked.len().saturating_sub(count);
        let last = self.asked.iter().skip(first);
        last.map(|asked| match asked.answered {
            Some(_) => Beat::Answered,
            None if now.saturating_duration_since(asked.at) < ANSWER_MAX => Beat::Open,
            None => Beat::Missed,
        })
        .collect()
    }

    /// Whether a question that was asked after a moment was answered.
    pub fn is_answered_after(&self, moment: Instant) -> bool {
        self.asked.iter().rev().any(|asked| asked.at > moment && asked.answered.is_some())
    }

    /// The longest time without an answer since a moment; the last answer before it counts.
    pub fn longest_silence(&self, since: Instant, now: Instant) -> Duration {
        let mut last = since;
        let mut longest = Duration::ZERO;
        for at in self.asked.iter().filter_map(|asked| asked.answered).chain([now]) {
            if at > since {
                longest = longest.max(at.saturating_duration_since(last));
            }
            last = at;
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use sip::{ResponseBuilder, Status};

    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn what_was_not_answered_in_time_is_missed() {
        let begin = Instant::now();
        let mut speaker = Speaker::new("anna", "s", "demo.example", ([192, 0, 2, 21], 5060).into(), 1);
        let mut pulse = Pulse::new(begin, EVERY, &mut speaker);
        let mut asked = Vec::new();
        let at = |number: u32| begin + EVERY * number;
        for number in 0..10 {
            pulse.handle_timeout(at(number), &mut speaker, &mut asked);
        }
        let mut answer = |number: usize, when: Instant| {
            let request = Message::parse(&asked[number]).expect("it is SIP");
            let mut bytes = Vec::new();
            ResponseBuilder::new(&request, Status::OK).write(&mut bytes);
            pulse.handle(when, &Message::parse(&bytes).expect("it is SIP"));
        };
        answer(0, at(0));
        answer(1, at(1));
        answer(2, at(9));
        answer(7, at(7));

        let beats = pulse.beats(at(9), 9);

        use Beat::{Answered, Missed, Open};
        assert_eq!(beats, [Answered, Missed, Missed, Missed, Missed, Missed, Answered, Open, Open]);
        assert!(pulse.is_answered_after(at(6)) && !pulse.is_answered_after(at(7)));
        assert_eq!(pulse.longest_silence(at(3), at(9)), EVERY * 6, "from the answer before");
    }
}
