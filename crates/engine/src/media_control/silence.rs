//! The silence of calls whose media pass an rtpengine: it is asked from time to time how many packets have come.
//!
//! What does not answer says nothing of a call. One that has forgotten the call, because it was started anew, says that
//! nothing has come.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::{Deadlines, Instant};
use media::ng::{Ask, Command, Failure, Reply};
use routing::{CallName, SessionName};

use super::{MediaControl, QuestionToken};

/// A call is asked about four times before it is ended, but neither more nor less often than this.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// Which sessions are looked at when.
#[derive(Debug, Default)]
pub(super) struct SilenceWatch {
    due: Deadlines<SessionName>,
    questions: BTreeMap<QuestionToken, SessionName>,
}

/// When packets of a session came last, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    at: Instant,
    packets: Option<u64>,
    /// What was asked last. Its answer may have been lost.
    asked: Option<QuestionToken>,
}

impl MediaControl {
    /// The signalling has spoken of a session's media.
    pub(super) fn watch(&mut self, now: Instant, name: SessionName) {
        let Some(every) = self.look_every() else { return };
        let session = self.sessions.get_mut(&name);
        let Some(elsewhere) = session.and_then(|session| session.elsewhere.as_mut()) else { return };
        if let Some(asked) = elsewhere.heard.and_then(|heard| heard.asked) {
            self.silence.questions.remove(&asked);
        }
        let before = elsewhere.heard.replace(Heard { at: now, packets: None, asked: None });
        if before.is_none() {
            self.silence.due.push(now + every, name);
        }
    }

    /// The node has become active: from here on it asks.
    pub(super) fn watch_all(&mut self, now: Instant) {
        self.silence = SilenceWatch::default();
        let names: Vec<SessionName> = self.sessions.keys().copied().collect();
        for name in names {
            if let Some(elsewhere) = self.sessions.get_mut(&name).and_then(|it| it.elsewhere.as_mut()) {
                elsewhere.heard = None;
            }
            self.watch(now, name);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.silence.due.next().filter(|_| !self.stands_by)
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, name)) = self.silence.due.pop_due(now) {
            let Some(session) = self.sessions.get_mut(&name) else { continue };
            let sounds = session.call.sounding_dialogs().next().is_some();
            let Some(elsewhere) = session.elsewhere.as_mut() else { continue };
            let (call_id, node) = (elsewhere.call_id.clone(), elsewhere.node);
            // On hold nothing is to be heard.
            if let Some(heard) = elsewhere.heard.as_mut().filter(|_| !sounds) {
                heard.at = now;
            }
            if let Some(every) = self.look_every() {
                self.silence.due.push(now + every, name);
            }
            if sounds && node.is_some() {
                let token = self.next_token();
                if let Some(before) = self.note_looked(name, token) {
                    self.silence.questions.remove(&before);
                }
                self.silence.questions.insert(token, name);
                let command = Command::Query { call_id };
                let session = name.as_u64();
                self.questions.push(Ask { waiter: Some(token), session, node, may_move: false, command });
            }
        }
    }

    /// Takes the answer if it is one to what is asked here. Gives the dialogs that are to be ended because nothing comes.
    pub(crate) fn handle_looked(
        &mut self,
        now: Instant,
        token: QuestionToken,
        result: &Result<Reply, Failure>,
    ) -> Vec<(CallName, u64)> {
        let name = self.silence.questions.remove(&token);
        let Some(session) = name.and_then(|name| self.sessions.get_mut(&name)) else { return Vec::new() };
        let silence = self.settings.as_ref().and_then(|settings| settings.silence);
        let (Some(elsewhere), Some(silence)) = (session.elsewhere.as_mut(), silence) else {
            return Vec::new();
        };
        let Some(heard) = &mut elsewhere.heard else { return Vec::new() };
        match result {
            Ok(Reply::Done { packets: Some(packets), .. }) if heard.packets != Some(*packets) => {
                // How many there were before the first look is not known.
                let is_first = heard.packets.replace(*packets).is_none();
                if !is_first || *packets > 0 {
                    heard.at = now;
                }
            }
            Ok(Reply::Done { packets: Some(_), .. }) => {}
            Ok(reply) if reply.is_unknown_call() => {}
            // It is not known whether something comes.
            Ok(_) | Err(_) => return Vec::new(),
        }
        if now.since(heard.at) < silence {
            return Vec::new();
        }
        heard.at = now;
        let silent: Vec<_> = session.call.sounding_dialogs().map(|tag| (session.name, tag.0)).collect();
        self.counts.silent += silent.len() as u64;
        silent
    }

    /// What a session was asked about before; gives the question before that.
    fn note_looked(&mut self, name: SessionName, token: QuestionToken) -> Option<QuestionToken> {
        let elsewhere = self.sessions.get_mut(&name)?.elsewhere.as_mut()?;
        elsewhere.heard.as_mut()?.asked.replace(token)
    }

    /// A session is gone.
    pub(super) fn look_no_more(&mut self, heard: Option<Heard>) {
        if let Some(asked) = heard.and_then(|heard| heard.asked) {
            self.silence.questions.remove(&asked);
        }
    }

    fn look_every(&self) -> Option<Duration> {
        let silence = self.settings.as_ref()?.silence?;
        Some((silence / 4).clamp(LOOK_EVERY.0, LOOK_EVERY.1))
    }
}
