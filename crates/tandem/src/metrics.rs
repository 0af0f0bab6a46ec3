//! Metrics for Prometheus: what a scrape gets, and who serves it.
//!
//! A server that is alone serves its own, see [`crate::service`]. In a cluster a process of its own does, the *exporter*: it
//! has no rights, speaks no SIP and holds no lease, so that a scrape reads how the cluster is while the engine is dead, and
//! a stranger's HTTP never comes near the guardian. It asks the engine by its control socket like any command, and the
//! guardian by a pair of sockets that it has inherited. One scrape a second at most asks both, however many come.

pub mod cluster;
pub mod exporter;
pub mod http;
pub mod process;
pub mod replication;
pub mod server;
pub mod text;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::control::MetricsView;
use crate::guardian::view::ClusterView;
use process::ProcessFigures;
use text::{Exposition, Form};

/// For how long an answer stands for the next one: the threads of the service are not to feel how often is asked.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What could be had for one scrape.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Whether this is a server alone or a node of a cluster.
    pub part: Part,
    /// What the server says; `None`: it does not answer.
    pub server: Option<MetricsView>,
    /// The processes of this node, by their names.
    pub processes: Vec<(&'static str, ProcessFigures)>,
}

/// Whether a server is alone.
#[derive(Clone, Debug, Default)]
pub enum Part {
    /// It is.
    #[default]
    Alone,
    /// It is a node; `None`: its guardian does not answer.
    Member(Option<Box<ClusterView>>),
}

impl Figures {
    /// As a scrape gets them.
    pub fn write(&self, form: Form) -> String {
        let mut out = Exposition::new(form);
        let is_active = match &self.part {
            Part::Alone => self.server.is_some(),
            Part::Member(view) => view.as_ref().is_some_and(|view| view.role == "active"),
        };
        out.gauge("tandem_build_info", "The program that answers this scrape; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
        out.gauge("tandem_active", "Whether this node answers for the service.").is(is_active);
        out.gauge("tandem_engine_up", "Whether the process that speaks SIP answers.")
            .is(self.server.is_some());
        if let Part::Member(view) = &self.part {
            cluster::write(view.as_deref(), &mut out);
        }
        if let Some(server) = &self.server {
            server::write(server, &mut out);
        }
        process::write(&self.processes, &mut out);
        out.finish()
    }
}

/// Figures that are gathered when they are asked for, and not again while they are fresh.
pub struct Gathered<G> {
    gather: G,
    latest: Mutex<Option<(Instant, Arc<Figures>)>>,
}

impl<G: Fn() -> Figures> Gathered<G> {
    /// Nothing is gathered yet.
    pub fn by(gather: G) -> Self {
        Self { gather, latest: Mutex::new(None) }
    }

    /// Fresh figures. Whoever asks while others gather waits for what they get.
    pub fn figures(&self) -> Arc<Figures> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, figures)) = latest.as_ref().filter(|(at, _)| at.elapsed() < FRESH_FOR) {
            return Arc::clone(figures);
        }
        let figures = Arc::new((self.gather)());
        *latest = Some((Instant::now(), Arc::clone(&figures)));
        figures
    }
}
