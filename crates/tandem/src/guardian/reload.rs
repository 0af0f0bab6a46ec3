//! Reading the configuration again while the guardian runs.
//!
//! A thread reads the file, because a disk may be slow; what came of it goes to the inbox.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cluster::guardian::Settings;

use super::inbox::{Inward, Sender};
use crate::small_thread::spawn;

/// What a reload changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloading {
    /// For the pure guardian.
    pub settings: Settings,
    /// For how long the engine may be silent.
    pub engine_silence: Duration,
    /// What is in the file and not in force, and what to do about it.
    pub remarks: Vec<String>,
}

/// Reads the file, in a thread.
type Read = Box<dyn Fn() -> Result<Reloading, String> + Send + Sync>;

/// Who reads the configuration again.
pub struct Reload {
    read: Arc<Read>,
    inbox: Sender,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The file is being read; what changes meanwhile may be missed.
    Reading,
    /// As before, and it was asked for once more.
    Again,
}

impl Reload {
    /// `read` reads the file and says what it changes.
    pub fn new(inbox: Sender, read: impl Fn() -> Result<Reloading, String> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(Box::new(read)), inbox, state: State::Idle }
    }

    /// Begins to read. While it is being read another wish is remembered.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.state != State::Idle {
            self.state = State::Again;
            return Ok(());
        }
        let (read, inbox) = (Arc::clone(&self.read), self.inbox.clone());
        spawn("reload", move || {
            // A guardian that has ended needs no settings.
            let _ = inbox.send(Inward::Reloaded(read()));
        })?;
        self.state = State::Reading;
        Ok(())
    }

    /// The outcome has come. Whether it is the one that all who asked have waited for: if not, the file is read again.
    pub fn ended(&mut self) -> io::Result<bool> {
        let was = std::mem::replace(&mut self.state, State::Idle);
        if was == State::Again {
            self.begin()?;
        }
        Ok(was != State::Again)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::super::inbox::{Inbox, inbox};
    use super::*;

    #[test]
    fn who_asks_while_the_file_is_read_is_told_of_a_later_reading() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let mut reload = Reload::new(sender, || Err("it is wrong".to_owned()));

        reload.begin().expect("a thread can be started");
        reload.begin().expect("it is remembered");

        outcome(&inbox);
        assert!(
            !reload.ended().expect("a thread can be started"),
            "what was read may be older than the question"
        );
        outcome(&inbox);
        assert!(reload.ended().expect("nothing is begun"));
    }

    fn outcome(inbox: &Inbox) {
        poll(&mut [PollFd::new(inbox, PollFlags::IN)], None).expect("it can be polled");
        let mut taken = Vec::new();
        inbox.take(1, &mut taken);
        assert!(matches!(taken.pop(), Some(Inward::Reloaded(Err(_)))));
    }
}
