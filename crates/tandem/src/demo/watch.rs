//! What a guardian says of itself and the others, asked all the time.
//!
//! A thread asks, because a guardian that is frozen does not answer, and whoever draws must not wait for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::client::Client;
use crate::guardian::question::Question;
use crate::guardian::view::ClusterView;

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(50);

/// What was said longer ago says nothing.
const SAID_MAX: Duration = Duration::from_millis(500);

/// A guardian, watched.
#[derive(Debug)]
pub struct Watch {
    said: Arc<Mutex<Option<(Instant, ClusterView)>>>,
    is_over: Arc<AtomicBool>,
}

impl Watch {
    /// Watches whoever will answer at a socket.
    pub fn start(socket: PathBuf) -> io::Result<Self> {
        let said = Arc::new(Mutex::new(None));
        let is_over = Arc::new(AtomicBool::new(false));
        let (keep, until) = (said.clone(), is_over.clone());
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Some(view) = ask(&socket) {
                    let now = Instant::now();
                    *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, view));
                }
                std::thread::sleep(EVERY);
            }
        })?;
        Ok(Self { said, is_over })
    }

    /// What it said last, if that is not long ago.
    pub fn latest(&self) -> Option<ClusterView> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.as_ref().filter(|(at, _)| at.elapsed() <= SAID_MAX).map(|(_, view)| view.clone())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn ask(socket: &Path) -> Option<ClusterView> {
    Client::open(socket).ok()??.ask(&Question::ClusterStatus {}).ok()
}
