//! Logs, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Crates of this project: their names are the targets of the log. All others speak from WARN on.
const TARGETS: &[&str] =
    &["engine", "media", "net", "routing", "sip", "store", "tandem", "transaction", "transport"];

/// Changes how much is logged while the program runs.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
}

impl Logs {
    /// Begins to log; called once.
    pub fn start(log: Log) -> Self {
        let (filter, handle) = reload::Layer::new(targets(log.level));
        let registry = tracing_subscriber::registry().with(filter);
        match log.format {
            LogFormat::Text => {
                let is_terminal = std::io::stderr().is_terminal();
                registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal)).init();
            }
            LogFormat::Json => {
                registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
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
