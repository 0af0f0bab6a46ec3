//! Reading the configuration again while the guardian runs.
//!
//! A thread reads the file, because a disk may be slow; what came of it goes to the inbox.

use std::sync::Arc;
use std::time::Duration;

use cluster::guardian::Settings;

use super::hands::spawn;
use super::inbox::{Inward, Sender};

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
    pub fn begin(&mut self) {
        if self.state != State::Idle {
            self.state = State::Again;
            return;
        }
        let (read, inbox) = (Arc::clone(&self.read), self.inbox.clone());
        let spawned = spawn("reload", move || {
            // A guardian that has ended needs no settings.
            let _ = inbox.send(Inward::Reloaded(read()));
        });
        match spawned {
            Ok(_) => self.state = State::Reading,
            Err(error) => tracing::error!(%error, "the configuration can not be read again"),
        }
    }

    /// The outcome has come.
    pub fn is_done(&mut self) {
        if std::mem::replace(&mut self.state, State::Idle) == State::Again {
            self.begin();
        }
    }
}
