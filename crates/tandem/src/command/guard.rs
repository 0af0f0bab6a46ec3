//! `tandem run` with `[cluster]`: this process is the guardian, and the server is its child.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::run::raise_descriptor_limit;
use crate::config::{Cluster, Config};
use crate::guardian::event_loop::End;
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
    match ended? {
        End::Stopped => Ok(()),
        // As a process that knows nothing of before; its supervisor sees the same one.
        End::StoodStill => {
            let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).exec();
            Err(error).context("the guardian can not start anew")
        }
    }
}
