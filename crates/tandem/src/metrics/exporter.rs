//! The process that serves a node's metrics: what it has inherited, and whom it asks.
//!
//! Guardian and exporter speak by a pair of datagram sockets: a question is a number of eight bytes, and the reply is that
//! number with the view behind it. So an answer that comes too late is known as such, and neither waits for the other.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::http::{HttpServer, Page};
use super::process::ProcessFigures;
use super::{Figures, Gathered, Part};
use crate::control::client::Client;
use crate::control::{MetricsView, Request};
use crate::guardian::view::ClusterView;

/// Bytes of a question.
pub const QUESTION_BYTES: usize = 8;
/// Bytes of a reply: a view of a large cluster is a tenth of it.
const REPLY_BYTES_MAX: usize = 128 * 1024;
/// How long the guardian, and how long the engine, may take. A scraper waits ten seconds for both.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The reply to a question; without a view it says that there is none.
pub fn reply_to(question: &[u8], view: Option<&[u8]>) -> Vec<u8> {
    let view = view.filter(|view| QUESTION_BYTES + view.len() <= REPLY_BYTES_MAX);
    [question, view.unwrap_or_default()].concat()
}

/// Asks both processes of a node.
#[derive(Debug)]
pub struct Sources {
    guardian: UnixDatagram,
    asked: AtomicU64,
    control_socket: PathBuf,
}

impl Sources {
    /// The guardian at the other end, and the engine at its socket.
    pub fn new(guardian: UnixDatagram, control_socket: PathBuf) -> Self {
        Self { guardian, asked: AtomicU64::new(0), control_socket }
    }

    /// What both say now.
    fn figures(&self) -> Figures {
        let view = self.cluster();
        let server = server(&self.control_socket);
        let guardian = view.as_ref().map(|view| ("guardian", view.pid));
        let engine = server.as_ref().map(|server| ("engine", server.status.pid));
        let pids = [guardian, engine, Some(("exporter", std::process::id()))];
        let figures = |(name, pid)| Some((name, ProcessFigures::of(pid)?));
        Figures {
            part: Part::Member(view.map(Box::new)),
            server,
            processes: pids.into_iter().flatten().filter_map(figures).collect(),
        }
    }

    /// How the cluster looks; `None`: the guardian does not answer in time.
    fn cluster(&self) -> Option<ClusterView> {
        let question = self.asked.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let until = Instant::now() + ANSWER_TIME_MAX;
        self.guardian.set_write_timeout(Some(ANSWER_TIME_MAX)).ok()?;
        self.guardian.send(&question).ok()?;
        let mut reply = vec![0; REPLY_BYTES_MAX];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.guardian.set_read_timeout(Some(left).filter(|left| !left.is_zero())?.into()).ok()?;
            match self.guardian.recv(&mut reply) {
                Ok(length) => match reply[..length].split_at_checked(QUESTION_BYTES) {
                    Some((number, view)) if number == question => return serde_json::from_slice(view).ok(),
                    // It was asked before, and nobody waits for it any more.
                    _ => {}
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// What an engine says; `None`: none answers in time.
fn server(control_socket: &Path) -> Option<MetricsView> {
    let mut client = Client::open_within(control_socket, ANSWER_TIME_MAX).ok()??;
    client.ask(&Request::Metrics {}).ok()
}

/// Serves until the process ends.
pub fn serve(sources: Sources, listener: TcpListener) -> io::Result<HttpServer> {
    let gathered = Gathered::by(move || sources.figures());
    let page: Page = Arc::new(move |form| gathered.figures().write(form));
    HttpServer::start(listener, page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_came_too_late_is_no_answer_to_the_next_question() {
        let (guardian, ours) = UnixDatagram::pair().expect("a pair");
        let sources = Sources::new(ours, "/nowhere/control.sock".into());
        let late = view("late");
        guardian.send(&reply_to(&99_u64.to_be_bytes(), Some(&late))).expect("room");
        let answers = std::thread::spawn(move || {
            let mut question = [0; QUESTION_BYTES];
            guardian.recv(&mut question).expect("it is asked");
            guardian.send(&reply_to(&question, Some(&view("right")))).expect("room");
        });

        let figures = sources.figures();

        answers.join().expect("it does not panic");
        let Part::Member(Some(view)) = &figures.part else { unreachable!("{figures:?}") };
        assert_eq!(view.node, "right");
        assert!(figures.server.is_none());
    }

    #[test]
    fn a_view_that_is_too_large_is_left_out() {
        assert_eq!(reply_to(&[1; QUESTION_BYTES], Some(&[b' '; REPLY_BYTES_MAX])), [1; QUESTION_BYTES]);
    }

    fn view(node: &str) -> Vec<u8> {
        let view = ClusterView { node: node.to_owned(), ..ClusterView::default() };
        serde_json::to_vec(&view).expect("it can be written")
    }
}
