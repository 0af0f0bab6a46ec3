//! How the guardian is spoken to: its own socket, by the lines of [`crate::control`].
//!
//! The threads of the connections are ordinary ones. They put what is asked into the inbox and wait for the answer; the
//! guardian's thread never waits for them. While a change is under way they send how the cluster looks, so that whoever
//! asked sees what it waits for.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::inbox::{Inward, Sender};
use super::question::Question;
use crate::control::server::Answer;

/// The guardian answers from memory: it is never silent for longer while it is well.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// A hand-over may wait for a drain, and a change of the list for several answers of each voter.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);
/// How often whoever waits for a change is shown how it stands.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Asks the guardian's thread for whoever is connected.
#[derive(Clone, Debug)]
pub struct Asker {
    inbox: Sender,
}

impl Asker {
    /// Asks by this inbox.
    pub fn new(inbox: Sender) -> Self {
        Self { inbox }
    }

    fn ask(&self, question: Question) -> Result<Receiver<Result<Value, String>>, String> {
        let (reply, answer) = sync_channel(1);
        let sent = self.inbox.send(Inward::Question(question, reply));
        sent.map_err(|_| "the guardian has ended".to_owned())?;
        Ok(answer)
    }

    /// How the cluster looks from here.
    pub fn status(&self) -> Result<Value, String> {
        let answer = self.ask(Question::ClusterStatus {})?;
        answer.recv_timeout(ANSWER_TIME_MAX).unwrap_or_else(|error| Err(silence(error)))
    }
}

impl Answer for Asker {
    type Request = Question;

    fn answer(
        &self,
        question: Question,
        item: &mut dyn FnMut(Value) -> io::Result<()>,
    ) -> Result<Value, String> {
        if question == (Question::ClusterStatus {}) {
            return self.status();
        }
        let began = Instant::now();
        let answer = self.ask(question)?;
        loop {
            match answer.recv_timeout(PROGRESS_EVERY) {
                Ok(ended) => return ended,
                Err(RecvTimeoutError::Timeout) if began.elapsed() < CHANGE_TIME_MAX => {
                    item(self.status()?).map_err(|error| format!("the client went away: {error}"))?;
                }
                Err(error) => return Err(silence(error)),
            }
        }
    }
}

fn silence(error: RecvTimeoutError) -> String {
    match error {
        RecvTimeoutError::Timeout => {
            "the guardian does not answer; `tandem status` shows what came of it".to_owned()
        }
        RecvTimeoutError::Disconnected => "the guardian gave no answer; it may be ending".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use serde_json::json;

    use super::super::inbox::{Inbox, inbox};
    use super::*;

    #[test]
    fn a_question_is_answered_by_who_reads_the_inbox() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let guardian = std::thread::spawn(move || {
            let (question, reply) = next(&inbox);
            reply.send(Ok(json!({ "node": "a" }))).expect("somebody waits");
            question
        });

        let ended = Asker::new(sender).answer(Question::ClusterStatus {}, &mut |_| Ok(()));

        assert_eq!(ended, Ok(json!({ "node": "a" })));
        assert_eq!(guardian.join().expect("it does not panic"), Question::ClusterStatus {});
    }

    #[test]
    fn whoever_waits_for_a_change_is_shown_how_it_stands_and_then_its_end() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let guardian = std::thread::spawn(move || {
            let (question, change) = next(&inbox);
            let (progress, reply) = next(&inbox);
            reply.send(Ok(json!("under way"))).expect("somebody waits");
            change.send(Err("the other node is not heard".to_owned())).expect("somebody waits");
            (question, progress)
        });

        let mut shown = Vec::new();
        let ended = Asker::new(sender).answer(Question::Switchover { force: true }, &mut |item| {
            shown.push(item);
            Ok(())
        });

        assert_eq!(ended, Err("the other node is not heard".to_owned()));
        assert_eq!(shown, ["under way"]);
        let asked = guardian.join().expect("it does not panic");
        assert_eq!(asked, (Question::Switchover { force: true }, Question::ClusterStatus {}));
    }

    #[test]
    fn a_guardian_that_has_ended_or_forgets_the_question_is_no_endless_wait() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let forgetful = std::thread::spawn(move || drop(next(&inbox)));

        let forgotten = Asker::new(sender.clone()).answer(Question::Reload {}, &mut |_| Ok(()));
        forgetful.join().expect("it does not panic");
        let ended = Asker::new(sender).answer(Question::Reload {}, &mut |_| Ok(()));

        assert!(forgotten.is_err_and(|error| error.contains("gave no answer")));
        assert_eq!(ended, Err("the guardian has ended".to_owned()));
    }

    fn next(inbox: &Inbox) -> (Question, super::super::question::Reply) {
        let mut taken = Vec::new();
        while taken.is_empty() {
            poll(&mut [PollFd::new(inbox, PollFlags::IN)], None).expect("it can be polled");
            inbox.take(1, &mut taken);
        }
        match taken.pop() {
            Some(Inward::Question(question, reply)) => (question, reply),
            other => unreachable!("{other:?} was not put in"),
        }
    }
}
