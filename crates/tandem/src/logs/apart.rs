//! Lines of the log on their way to standard error by a thread of its own: a reader that stands still must not keep the
//! guardian waiting. What finds no room is lost, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::outbox::{self, Outbox, Taking};

/// Lines that wait.
const WAITING_MAX: usize = 1_024;

/// How long the end waits for the last lines to be read.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Apart {
    lines: Outbox<Line>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before it is written.
    Flush(SyncSender<()>),
}

impl Apart {
    /// Starts the thread, which writes there.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let (lines, _) = outbox::start("logs", WAITING_MAX, move |waiting| write(&waiting, &counted, out))?;
        Ok(Self { lines, lost })
    }

    /// Waits until what was logged is written, but not for ever.
    pub fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        if self.lines.give(Line::Flush(done)).is_ok() {
            // A reader that stands still has what it has.
            let _ = waiting.recv_timeout(FLUSH_MAX);
        }
    }
}

impl Write for &Apart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.lines.give(Line::Text(bytes.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Apart {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

fn write(waiting: &Taking<Line>, lost: &AtomicU64, mut out: impl Write) {
    while let Ok(line) = waiting.next() {
        match line {
            Line::Text(bytes) => {
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(out, "{lost} lines of the log were lost: nobody read them in time");
                }
                // Who reads the log may be gone.
                let _ = out.write_all(&bytes);
            }
            Line::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn lines_come_out_in_order() {
        let (mut reader, writer) = io::pipe().expect("a descriptor is left");
        let apart = Apart::start(writer).expect("a thread can be started");

        (&apart).write_all(b"one\n").expect("it never fails");
        (&apart).write_all(b"two\n").expect("it never fails");
        apart.flush();

        let mut text = [0; 8];
        reader.read_exact(&mut text).expect("it is there");
        assert_eq!(&text, b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_is_told_what_it_missed() {
        let (reader, writer) = io::pipe().expect("a descriptor is left");
        let apart = Apart::start(writer).expect("a thread can be started");
        let line = [b'x'; 4_096];

        // Far more than a pipe and the queue hold.
        for _ in 0..3 * WAITING_MAX {
            (&apart).write_all(&line).expect("it never fails");
        }

        drop(apart);
        let mut text = Vec::new();
        { reader }.read_to_end(&mut text).expect("the writer ends");
        assert!(String::from_utf8_lossy(&text).contains("lines of the log were lost"));
    }
}
