//! `tandem drill`, and the hand that it has on each node.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::Place;
use crate::drill::fault::Fault;
use crate::drill::{self, Consent, NotDone, Plan, hand};
use crate::service::read_aor;

#[derive(Debug, Args)]
pub struct DrillOptions {
    /// What is done, in this order, each to the node that is active then: switchover, kill-engine, kill-node,
    /// freeze-engine[=TIME], freeze-node[=TIME], cut-link[=TIME]
    #[arg(value_name = "FAULT", default_values = ["switchover", "kill-engine"])]
    faults: Vec<Fault>,
    /// An account for the phones of the drill, which nobody else uses; at least two
    #[arg(long = "phone", value_name = "USER@DOMAIN", required = true)]
    phones: Vec<String>,
    /// A file whose first line is the password of all of them
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// A command that leads to a node, such as "ssh root@b tandem drill-hand"; may be repeated. Without it: this host
    #[arg(long = "hand", value_name = "COMMAND")]
    hands: Vec<String>,
    /// Where the phones send to; without it the first virtual address with UDP
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// The address of this host that the phones speak from
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// What starts this host's node again after kill-node, if no supervisor does
    #[arg(long, value_name = "COMMAND", conflicts_with = "hands")]
    restart: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The report as a page for a browser too, into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub struct HandOptions {
    /// What starts the node again after kill-node, if no supervisor does
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl DrillOptions {
    /// Does the drill.
    pub fn run(self) -> Result<()> {
        let own_hand = self.own_hand();
        let phones = self.phones.iter().map(|phone| read_aor(phone).map_err(|error| anyhow!(error)));
        let plan = phones.collect::<Result<Vec<_>>>().map(|accounts| Plan {
            faults: self.faults,
            accounts,
            password_file: self.password_file,
            hands: self.hands,
            own_hand,
            server: self.server,
            from: self.from,
            consent: if self.yes { Consent::Given } else { Consent::Ask },
            html: self.html,
        });
        drill::drill(&plan.context(NotDone)?)
    }

    /// The hand on this host is told which server is meant, as the drill was.
    fn own_hand(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        let mut add = |name: &str, value: Option<&std::ffi::OsStr>| {
            if let Some(value) = value {
                words.extend([OsString::from(name), value.to_owned()]);
            }
        };
        add("--config", self.place.config.as_ref().map(|path| path.as_os_str()));
        add("--state-directory", self.place.state_directory.as_ref().map(|path| path.as_os_str()));
        add("--restart", self.restart.as_ref().map(|command| command.as_ref()));
        words
    }
}

impl HandOptions {
    /// Serves a drill.
    pub fn run(self) -> Result<()> {
        hand::serve(&self.place.config()?, self.place.state_directory()?, self.restart)
    }
}
