//! `tandem cluster`: the key that makes hosts members of a cluster, and which of them vote.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use anyhow::{Result, anyhow};
use clap::Subcommand;
use rustix::fs::{FileType, Mode};

use super::{Place, change, print};
use crate::cluster_key;

/// What is wanted of the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Print a new key: `tandem cluster key > /etc/tandem/cluster.key`, then copy that file to all nodes and the witness
    Key,
    /// Let the voter count that is heard for a member: its disk was emptied, or it was replaced
    Accept {
        /// A node's name, or `witness`
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Make those the voters that are configured, one change after the other; on the active node
    Apply {
        #[command(flatten)]
        place: Place,
    },
}

impl ClusterCommand {
    /// Does what was written.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Key => key(),
            Self::Accept { name, place } => change::accept(&place, &name),
            Self::Apply { place } => change::apply(&place),
        }
    }
}

fn key() -> Result<()> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        keep_from_others(out.as_fd())?;
    }
    print(&cluster_key::drawn().map_err(|error| anyhow!("no randomness: {error}"))?)
}

/// A shell makes files that others can read; nobody may read this one, not even for a moment.
fn keep_from_others(out: impl AsFd) -> Result<()> {
    let out = out.as_fd();
    if FileType::from_raw_mode(rustix::fs::fstat(out)?.st_mode) == FileType::RegularFile {
        rustix::fs::fchmod(out, Mode::RUSR | Mode::WUSR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_of_a_new_key_is_closed_to_others() {
        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).expect("it is ours");

        keep_from_others(file.as_file()).expect("it is ours");

        let mode = file.as_file().metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_pipe_is_left_alone() {
        let (_reader, writer) = std::io::pipe().expect("there are descriptors");

        keep_from_others(&writer).expect("it is no file");
    }
}
