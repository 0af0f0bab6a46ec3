//! `tandem witness`: from the command line or the nodes' configuration to a voter that votes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use cluster::peer::PATHS_MAX;

use crate::cluster_key::ClusterKey;
use crate::config::Config;
use crate::guardian::witness::{WitnessStart, address_of, node_of, run};
use crate::logs::Logs;
use crate::state_directory::StateDirectory;

/// The port of the link, if nothing says otherwise.
const PORT_DEFAULT: u16 = 7950;

/// What a witness is told.
#[derive(Debug, Args)]
pub struct WitnessOptions {
    /// The configuration that the nodes have: its key, its nodes, and where the witness listens
    #[arg(long, value_name = "FILE", conflicts_with = "nodes")]
    config: Option<PathBuf>,
    /// The cluster's key; as the configuration says if there is one
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    key: Option<PathBuf>,
    /// Where to listen, ADDRESS or ADDRESS:PORT; may be given several times
    #[arg(long, value_name = "ADDRESS", required_unless_present = "config")]
    listen: Vec<String>,
    /// A node and the addresses of its paths, NAME=ADDRESS,ADDRESS; in the order of the nodes' configuration
    #[arg(long = "node", value_name = "NODE", required_unless_present = "config")]
    nodes: Vec<String>,
    /// Where what it has granted is kept
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

impl WitnessOptions {
    /// Votes until a signal ends it.
    pub fn run(self) -> Result<()> {
        // Before the first thread: each has the mask of the one that started it.
        let signals = ::host::Signals::take()?;
        let config = Config::load(self.config.as_deref())?;
        let (_, log) = Logs::start_apart(config.log)?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let state = match &self.state_directory {
            Some(directory) => StateDirectory::at(directory),
            None => StateDirectory::of(&config)?,
        };
        let start = self.start(&config, &state.witness())?;
        let ended = run(start, &state.witness_socket(), Some(signals));
        log.flush();
        ended
    }

    fn start(&self, config: &Config, directory: &Path) -> Result<WitnessStart> {
        let port = config.cluster.as_ref().map_or(PORT_DEFAULT, |cluster| cluster.port);
        let listen = self.listen.iter().map(|text| address_of(text, port)).collect::<Result<Vec<_>>>()?;
        let Some(file) = &self.config else {
            let nodes =
                self.nodes.iter().map(|text| node_of(text, PORT_DEFAULT)).collect::<Result<Vec<_>>>()?;
            let key = self.key.as_deref().context("--key is missing")?;
            return started(key, listen, nodes, directory);
        };
        let Some(cluster) = &config.cluster else { bail!("{} has no [cluster]", file.display()) };
        if let Some(row) = &cluster.row {
            let kind = row.name();
            bail!("{} names {kind} as cluster.witness: it votes without `tandem witness`", file.display());
        }
        let listen = if listen.is_empty() { cluster.witness.clone() } else { listen };
        if listen.is_empty() {
            bail!("{} names no cluster.witness: the nodes would not ask this one", file.display());
        }
        let key = self.key.as_deref().unwrap_or(&cluster.key_file);
        let nodes = cluster.nodes.iter().map(|node| (node.name.clone(), node.paths.clone())).collect();
        started(key, listen, nodes, directory)
    }
}

fn started(
    key: &Path,
    listen: Vec<SocketAddr>,
    nodes: Vec<(String, Vec<SocketAddr>)>,
    directory: &Path,
) -> Result<WitnessStart> {
    if nodes.len() < 2 {
        bail!("a witness is for two nodes at the least: name each by --node NAME=ADDRESS");
    }
    for addresses in std::iter::once(&listen).chain(nodes.iter().map(|(_, paths)| paths)) {
        if addresses.len() > PATHS_MAX {
            bail!("a member has at most {PATHS_MAX} addresses, and here are {}", addresses.len());
        }
    }
    let key = ClusterKey::read(key)?.link();
    Ok(WitnessStart { key, listen, nodes, directory: directory.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cluster_key::drawn;

    #[test]
    fn it_listens_at_the_port_that_the_nodes_ask() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let key = place.path().join("key");
        std::fs::write(&key, drawn().expect("there is chance").as_bytes()).expect("it can be written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        let text = format!(
            "[cluster]\nkey = '{}'\nport = 7000\naddresses = ['192.0.2.10']\nwitness = ['tandem://192.0.2.9']\n\
             [[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n[[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n",
            key.display()
        );
        let file = place.path().join("tandem.toml");
        let config = Config::parse(&file, &text).expect("it is right");
        let at = |listen: &[&str]| {
            let listen = listen.iter().map(|&text| text.to_owned()).collect();
            let options = WitnessOptions {
                config: Some(file.clone()),
                key: None,
                listen,
                nodes: Vec::new(),
                state_directory: None,
            };
            options.start(&config, place.path()).expect("it can be started").listen
        };

        assert_eq!(at(&["192.0.2.9"]), at(&[]));
        assert_eq!(at(&["192.0.2.9", "10.0.0.9:7001"])[1].port(), 7_001);
    }
}
