//! Whether the guardian's directory can be written to: a small file, synced, with a deadline.
//!
//! A disk that hangs hangs whoever writes to it. So one thread writes, and another waits for it with a limit; while a
//! write hangs no other is begun.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use cluster::health::{Check, Patience};

use super::Told;
use crate::small_thread;

/// Between two writes.
const EVERY: Duration = Duration::from_secs(5);

/// A voter whose disk takes longer is not one that anybody can wait for.
const LIMIT: Duration = Duration::from_secs(5);

/// One slow write is no broken disk.
const PATIENCE: Patience = Patience { failures: 2, successes: 2 };

/// How often it is looked whether the check is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Writes to this file again and again.
pub(super) fn run(file: &Path, told: &Told) {
    let (orders, ordered) = sync_channel(1);
    let (results, done) = sync_channel(1);
    let path = file.to_owned();
    let writer = small_thread::spawn("disk-writer", move || write_all(&ordered, &results, || write(&path)));
    if let Err(error) = writer {
        tracing::warn!(%error, "the disk can not be checked");
        return;
    }
    watch(&orders, &done, LIMIT, told);
}

/// Orders writes and tells how they end, until the check is not wanted.
fn watch(orders: &SyncSender<()>, done: &Receiver<io::Result<()>>, limit: Duration, told: &Told) {
    while orders.send(()).is_ok() {
        let begun = Instant::now();
        let mut told_of = 0;
        let result = loop {
            match done.recv_timeout(LOOK_EVERY.min(limit)) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) if told.halt.is_set() => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let limits = begun.elapsed().as_nanos() / limit.as_nanos().max(1);
            if limits > told_of {
                told_of = limits;
                let reason = format!("a write has not ended for {} s", begun.elapsed().as_secs());
                told.result(Check::Disk, PATIENCE, Err(reason));
            }
        };
        told.result(Check::Disk, PATIENCE, result.map_err(|error| error.to_string()));
        if told.halt.is_set_within(EVERY) {
            return;
        }
    }
}

fn write_all(
    ordered: &Receiver<()>,
    results: &SyncSender<io::Result<()>>,
    mut write: impl FnMut() -> io::Result<()>,
) {
    while ordered.recv().is_ok() {
        if results.send(write()).is_err() {
            return;
        }
    }
}

/// Anew each time: also a directory without room for another file is one that the voter can not use.
fn write(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"written and synced every few seconds, to see whether the disk works\n")?;
    file.sync_all()?;
    drop(file);
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::guardian::checks::tests::{Heard, hear};

    #[test]
    fn a_directory_that_is_there_passes_and_one_that_is_not_fails() {
        let place = tempfile::tempdir().expect("a place");
        let mut heard = hear();
        let (told, file) = (heard.told(), place.path().join("probe"));
        let running = std::thread::spawn(move || run(&file, &told));
        assert_eq!(heard.next_result(), (Check::Disk, Ok(())));
        heard.end(running);
        assert_eq!(fs::read_dir(place.path()).expect("it is there").count(), 0, "nothing is left");

        let mut heard = hear();
        let (told, file) = (heard.told(), place.path().join("none/probe"));
        let running = std::thread::spawn(move || run(&file, &told));
        let (_, result) = heard.next_result();
        assert!(result.is_err_and(|reason| reason.contains("No such file")));
        heard.end(running);
    }

    #[test]
    fn a_write_that_hangs_fails_again_and_again_and_no_other_is_begun() {
        let mut heard: Heard = hear();
        let (orders, ordered) = sync_channel(1);
        let (results, done) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let writes = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&writes);
        std::thread::spawn(move || {
            write_all(&ordered, &results, || {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                released.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())
            });
        });
        let told = heard.told();
        let running = std::thread::spawn(move || watch(&orders, &done, Duration::from_millis(5), &told));

        for _ in 0..3 {
            let (_, result) = heard.next_result();
            assert!(result.is_err_and(|reason| reason.contains("has not ended")));
        }
        assert_eq!(writes.load(std::sync::atomic::Ordering::SeqCst), 1);
        release.send(()).expect("it waits");
        while let (_, Err(_)) = heard.next_result() {}

        heard.end(running);
    }
}
