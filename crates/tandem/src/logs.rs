//! Logs, to standard error.

mod apart;

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};
use apart::Apart;

/// Crates of this project: their names are the targets of the log. All others speak from WARN on.
const TARGETS: &[&str] = &[
    "cluster",
    "engine",
    "host",
    "media",
    "net",
    "routing",
    "sip",
    "store",
    "tandem",
    "transaction",
    "transport",
];

/// Changes how much is logged while the program runs.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Begins to log; called once.
    pub fn start(log: Log) -> Self {
        Self::start_on(log, io::stderr, std::io::stderr().is_terminal())
    }

    /// Begins to log by a thread, so that a reader who stands still keeps nobody waiting; called once.
    pub fn start_apart(log: Log) -> io::Result<(Self, Apart)> {
        let apart = Apart::start(io::stderr())?;
        Ok((Self::start_on(log, apart.clone(), io::stderr().is_terminal()), apart))
    }

    fn start_on<W>(log: Log, writer: W, is_terminal: bool) -> Self
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, handle) = reload::Layer::new(targets(log.level));
        let registry = tracing_subscriber::registry().with(filter);
        match log.format {
            LogFormat::Text => {
                registry.with(fmt::layer().with_writer(writer).with_ansi(is_terminal)).init();
            }
            LogFormat::Json => {
                registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).init();
            }
        }
        Self { filter: handle }
    }

    /// Logs from another level on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only where there is no logging any more.
        let _ = self.filter.reload(targets(level));
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(TARGETS.iter().map(|name| (*name, level)))
}
