//! The command line.

mod bans;
mod change;
mod check;
mod cluster;
pub mod cluster_picture;
mod database;
mod drill;
mod engine;
mod exporter;
mod gateways;
mod guard;
mod import;
pub mod report;
mod route;
mod run;
mod show;
mod status;
mod subscriber;
mod witness;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, FILE_DEFAULT, reference};
use crate::control::Request;
use crate::control::client::Client;
use crate::demo::{Course, demo};
use crate::guardian::question::Question;
use crate::row_witness;
use crate::state_directory::StateDirectory;
use bans::BansCommand;
use cluster::ClusterCommand;
use database::DatabaseCommand;
use subscriber::SubscriberCommand;
use witness::WitnessOptions;

/// A highly available SIP service.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve SIP until SIGTERM; SIGHUP reads the configuration again
    Run {
        /// The configuration; without it /etc/tandem/tandem.toml if that is there, else all defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Speak SIP for a node of a cluster; its guardian starts this
    #[command(hide = true)]
    Engine {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Serve the metrics of a node of a cluster; its guardian starts this
    #[command(hide = true)]
    Exporter {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The engine's control socket
        #[arg(long, value_name = "SOCKET")]
        engine: PathBuf,
    },
    /// Speak to the server that has the witness's row; the guardian starts this
    #[command(hide = true)]
    RowWitness {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What tells the rows of clusters apart
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Show a failover: two nodes, a witness and phones inside this machine, which are broken and mended
    Demo {
        /// Without keys: one failure after the other
        #[arg(long)]
        auto: bool,
    },
    /// Break the running pair on purpose, and tell what phones of its own kept and lost by it
    Drill(drill::DrillOptions),
    /// Do what a drill wants on a node of a cluster, and undo it; a drill starts this
    #[command(hide = true)]
    DrillHand(drill::HandOptions),
    /// Tell all mistakes of a configuration
    Check {
        /// The configuration
        #[arg(value_name = "FILE", default_value = FILE_DEFAULT)]
        file: PathBuf,
    },
    /// Print the configuration with all keys, their meaning and their defaults
    Reference,
    /// Add, change, list and remove the accounts of phones
    #[command(subcommand)]
    Subscriber(SubscriberCommand),
    /// Make the tables of Tandem on the database server that the configuration names
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Take over which phones are registered from the table location of your OpenSIPS or Kamailio; the server must run
    Import(import::Options),
    /// Show which phones are registered
    Contacts {
        /// Only those of this address of record, USER@DOMAIN
        aor: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the calls that ring or are up
    Calls {
        /// How many, the oldest first
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show how our own registrations at carriers stand
    Registrations {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the gateways and how they are; `down NAME` takes one out of service, `up NAME` puts it back
    Gateways {
        #[command(subcommand)]
        change: Option<gateways::Change>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Tell where a number would go by the configuration, and why; nothing is called
    Route(route::Question),
    /// Show how the running server is, and the cluster that it belongs to
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Again each second, until Ctrl-C
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show who is banned or slowed down, and change it
    #[command(subcommand)]
    Bans(BansCommand),
    /// Make the other node of the cluster the active one, and wait until it is
    Switchover {
        /// Also if it lacks part of the state, or is less well
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
    /// For maintenance of the other nodes: let their votes not count, until `--end`
    Solo {
        /// Let all configured hosts vote again
        #[arg(long)]
        end: bool,
        /// Make this node the only voter, although the others do not agree: they must be off
        #[arg(long, conflicts_with = "end")]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the last takeovers of this node of a cluster: why they were, and what took how long
    Report {
        /// How many
        #[arg(default_value_t = 5)]
        count: usize,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// As a page for a browser, into this file
        #[arg(long, value_name = "FILE", conflicts_with = "json")]
        html: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Make the key of a cluster, or change who votes in it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Be the third vote of a cluster, on a host that is no node, until SIGTERM
    Witness(WitnessOptions),
    /// Let the running server read its configuration again
    Reload {
        #[command(flatten)]
        place: Place,
    },
}

/// Which server is meant.
#[derive(Debug, Args)]
pub struct Place {
    /// The server's configuration, which names its state directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's state directory
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

impl Place {
    /// The configuration of the server.
    fn config(&self) -> Result<Config> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// The state directory of the server.
    fn state_directory(&self) -> Result<StateDirectory> {
        match &self.state_directory {
            Some(directory) => Ok(StateDirectory::at(directory)),
            None => StateDirectory::of(&self.config()?),
        }
    }

    /// A connection to the server, which must run.
    fn server(&self) -> Result<Client> {
        Client::connect_to_running(&self.state_directory()?)
    }
}

impl CommandLine {
    /// Does what was written.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run { config } => run::run(config),
            Command::Engine { config } => engine::run(config),
            Command::Exporter { config, engine } => exporter::run(&config, engine),
            Command::RowWitness { config, name } => row_witness::run(&config, &name),
            Command::Demo { auto: false } => demo(Course::ByKeys),
            Command::Demo { auto: true } => demo(Course::ByItself),
            Command::Drill(options) => options.run(),
            Command::DrillHand(options) => options.run(),
            Command::Check { file } => check::check(&file),
            Command::Reference => print(&reference()),
            Command::Subscriber(command) => command.run(),
            Command::Database(command) => command.run(),
            Command::Import(options) => options.run(),
            Command::Contacts { aor, json, place } => show::contacts(&mut place.server()?, aor, json),
            Command::Calls { count, json, place } => show::calls(&mut place.server()?, count, json),
            Command::Registrations { json, place } => show::registrations(&mut place.server()?, json),
            Command::Gateways { change: None, json, place } => gateways::show(&mut place.server()?, json),
            Command::Gateways { change: Some(change), .. } => change.run(),
            Command::Route(question) => question.run(),
            Command::Status { json, watch: false, place } => status::status(&place, json),
            Command::Status { json, watch: true, place } => status::watch(&place, json),
            Command::Bans(command) => command.run(),
            Command::Switchover { force, place } => change::switchover(&place, force),
            Command::Solo { end, force, place } => change::solo(&place, end, force),
            Command::Report { count, json, html, place } => {
                let shape = match &html {
                    Some(file) => report::Shape::Html(file),
                    None if json => report::Shape::Json,
                    None => report::Shape::Text,
                };
                report::report(&place, count, shape)
            }
            Command::Cluster(command) => command.run(),
            Command::Reload { place } => reload(&place),
            Command::Witness(options) => options.run(),
        }
    }
}

/// A guardian lets its engine read the configuration too.
fn reload(place: &Place) -> Result<()> {
    let remarks: Vec<String> = match Client::open(&place.state_directory()?.guardian_socket())? {
        Some(mut guardian) => guardian.ask(&Question::Reload {})?,
        None => place.server()?.ask(&Request::Reload {})?,
    };
    let mut text = String::from("The configuration was read again and is in force.\n");
    for remark in remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    print(&text)
}

/// Writes to standard output; unlike `print!` it does not panic when nobody reads.
fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_documented_command_is_understood() {
        for words in [
            "run",
            "run --config a.toml",
            "engine --config a.toml",
            "exporter --config a.toml --engine /s/control.sock",
            "row-witness --config a.toml --name 0011",
            "demo",
            "demo --auto",
            "drill --phone d1@example.org --phone d2@example.org --password-file p",
            "drill switchover kill-engine freeze-engine=2s --phone d1@b.c --phone d2@b.c --password-file p --yes --html f",
            "drill kill-node --phone d1@b.c --phone d2@b.c --password-file p --hand x --server 192.0.2.1:5060 --from 192.0.2.9",
            "drill-hand --config a.toml --restart x",
            "check a.toml",
            "reference",
            "route 030123456",
            "route +49301 --from alice@example.org --listener udp://10.0.0.5:5060 --source 10.1.2.3 --config a",
            "subscriber add alice@example.org --password-stdin --may-use sales@example.org --may-use b@c --config a",
            "subscriber password alice@example.org --state-directory /s",
            "subscriber forward alice@example.org --busy *98 --no-answer tel:+4930123 --after 20s",
            "subscriber forward alice@example.org --clear --always bob@example.org --not-registered off",
            "subscriber show alice@example.org --json",
            "subscriber alias add alice@example.org 2001@example.com --config a.toml",
            "subscriber alias remove 2001@example.com",
            "subscriber alias list alice@example.org",
            "subscriber limit alice@example.org 2",
            "subscriber limit alice@example.org default",
            "subscriber remove alice@example.org",
            "subscriber list",
            "database init --config a.toml",
            "subscriber list example.org --json",
            "import",
            "import --dry-run --domain example.org --json --config a.toml",
            "import --nothing",
            "import --from postgres://opensips@db/opensips --password-file p --time-zone Europe/Berlin",
            "contacts",
            "contacts alice@example.org --json --config a.toml",
            "calls --count 5 --json --config a.toml",
            "registrations --json --config a.toml",
            "status --json",
            "status --watch --config a.toml",
            "bans list --json",
            "bans add 203.0.113.9",
            "bans add 2001:db8::9 --for 1h30m --config a.toml",
            "bans remove 2001:db8::/64",
            "bans remove all --state-directory /s",
            "gateways",
            "gateways --json --config a",
            "gateways down carrier-a",
            "gateways up carrier-a --state-directory /s",
            "switchover --force --config a.toml",
            "solo",
            "solo --force",
            "solo --end --state-directory /s",
            "report",
            "report 20 --json --config a.toml",
            "report 100 --html takeovers.html",
            "cluster key",
            "cluster accept witness --config a.toml",
            "cluster apply",
            "witness --config /etc/tandem/tandem.toml",
            "witness --key k --listen 192.0.2.9 --listen 10.9.0.9:99 --node a=192.0.2.1,10.9.0.1 --node b=192.0.2.2",
            "reload --state-directory /s",
        ] {
            let line = std::iter::once("tandem").chain(words.split(' '));
            assert!(CommandLine::try_parse_from(line).is_ok(), "{words}");
        }
    }
}
