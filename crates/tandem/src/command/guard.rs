//! `tandem run` with `[cluster]`: this process is the guardian, and the server is its child.

use std::path::PathBuf;

use anyhow::Result;

use super::run::raise_descriptor_limit;
use crate::config::{Cluster, Config};
use crate::guardian::start::{NodeStart, run};
use crate::logs::Logs;

/// Guards until a signal ends it.
pub fn guard(config_file: PathBuf, config: Config, cluster: Cluster) -> Result<()> {
    // Before the first thread: each has the mask of the one that started it.
    let signals = ::host::Signals::take()?;
    ::host::keep_descriptors()?;
    let (logs, log) = Logs::start_apart(config.log)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    let ended = run(NodeStart { config_file, config, cluster, signals, logs });
    log.flush();
    ended
}
