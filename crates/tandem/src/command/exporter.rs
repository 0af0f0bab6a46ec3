//! `tandem exporter`: serves the metrics of a node. Its guardian starts it, and nobody else.

use std::path::PathBuf;
use std::thread::park;

use ::host::{ExporterInheritance, Signals};
use anyhow::{Context, Result};

use crate::config::Config;
use crate::logs::Logs;
use crate::metrics::exporter::{Sources, serve};

/// Serves until the guardian kills it or is dead.
pub fn run(config_file: &std::path::Path, control_socket: PathBuf) -> Result<()> {
    // Before anything else is opened: the descriptors have the numbers that come first.
    let ExporterInheritance { guardian, listener } = ExporterInheritance::take()
        .context("the exporter of a cluster's node is started by `tandem run`, and not by hand")?;
    // Whoever stops a node signals all of its processes, and it is the guardian who ends this one.
    let _unread = Signals::take().context("signals can not be set aside")?;
    // How the log looks is all that is wanted of it: metrics are served whatever has become of the file.
    let config = Config::load(Some(config_file)).unwrap_or_default();
    let _logs = Logs::start(config.log);
    let _server = serve(Sources::new(guardian, control_socket), listener)?;
    loop {
        park();
    }
}
