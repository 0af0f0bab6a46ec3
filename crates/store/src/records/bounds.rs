//! What the thread that writes files of records and who reads them meanwhile tell each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::journal::Name;

/// How far the files are written, and from which one on they are still to be read.
#[derive(Debug)]
pub struct Bounds {
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug)]
struct State {
    written: Option<(Name, u64)>,
    unread: Unread,
}

#[derive(Clone, Copy, Debug)]
enum Unread {
    /// Nobody reads.
    None,
    /// Nobody knows yet.
    All,
    From(Name),
}

impl Bounds {
    /// Nobody reads the files.
    pub fn without_reader() -> Self {
        Self::with(Unread::None)
    }

    /// Somebody will say what is read.
    pub fn with_reader() -> Self {
        Self::with(Unread::All)
    }

    fn with(unread: Unread) -> Self {
        Self { state: Mutex::new(State { written: None, unread }), more: Notify::new() }
    }

    /// So many bytes of a file will not be taken back; it is the one that is written.
    pub fn written_to(&self, name: Name, bytes: u64) {
        self.state().written = Some((name, bytes));
        self.more.notify_one();
    }

    /// How many bytes of a file will not be taken back, if it is the one that is written.
    pub fn end_of(&self, name: Name) -> Option<u64> {
        self.state().written.filter(|(written, _)| *written == name).map(|(_, bytes)| bytes)
    }

    /// Everything before this file is read.
    pub fn read_to(&self, name: Name) {
        self.state().unread = Unread::From(name);
    }

    /// Whether nobody needs a file any more.
    pub fn is_read(&self, name: Name) -> bool {
        match self.state().unread {
            Unread::None => true,
            Unread::All => false,
            Unread::From(first) => name < first,
        }
    }

    /// Until something more is written, or may be.
    pub async fn more(&self) {
        self.more.notified().await;
    }

    /// Whoever waits looks again.
    pub fn wake(&self) {
        self.more.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
