//! `tandem run` on a node of a cluster: from the configuration to a guardian that turns, and to its clean end.
//!
//! The order is the guarantee: the directory is taken first, so that no second guardian of this node is alive; then the
//! kernel is cleaned of what a dead one left; and only then anything is said to others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::host::child::User;
use ::host::{Interface, Routes, Signals, Watch};
use anyhow::{Context, Result, anyhow, bail};
use cluster::guardian::{Guardian, Input, Settings, Start, Wish};
use cluster::link::Link;
use cluster::{Holder, LeasePlan, MemberId, NodeId, ServiceId};
use transport::Transport;

use super::checks::{self, Checks, EngineAt};
use super::control::Asker;
use super::engine_process::{EngineProcess, Recipe};
use super::event_loop::{About, End, EventLoop, Parts};
use super::exporter::{self, Exporter, Listening};
use super::follower::Follower;
use super::hands::{Hands, KernelHands, NoHands};
use super::hooks::{self, Event, Hooks, Occasion};
use super::inbox::{Sender, inbox};
use super::keeper::Keeper;
use super::links::{Links, Place, Reached};
use super::memory::{Memory, chance, incarnation};
use super::notify::Notifier;
use super::poll::{Poll, now};
use super::reload::{Reload, Reloading};
use super::routes::ManagedRoutes;
use super::row_witness::{self, RowWitness};
use super::segments::Segments;
use super::standing::Standing;
use crate::cluster_key::ClusterKey;
use crate::config::cluster::{GatewayCheck, Here, ManageRoutes, Unfit, Vip};
use crate::config::{Cluster, Config, Metrics};
use crate::control::server::Control;
use crate::host;
use crate::logs::Logs;
use crate::port_owner;
use crate::service::node_name;
use crate::state_directory::StateDirectory;

/// Below the guardian's directory: what the voter of a node keeps that follows addresses which others move.
const ALONE_DIRECTORY: &str = "external";

/// Below the guardian's directory: what of the host's settings was before the guardian raised it.
const ROUTES: &str = "routes";

/// What a node is started with.
pub struct NodeStart {
    /// The file that all nodes share.
    pub config_file: PathBuf,
    /// What it says.
    pub config: Config,
    /// What it says of the cluster.
    pub cluster: Cluster,
    /// Signals, which were taken before the first thread was started.
    pub signals: Signals,
    /// What a reload changes of the log.
    pub logs: Logs,
}

/// Guards until a signal ends it.
pub fn run(start: NodeStart) -> Result<End> {
    let NodeStart { config_file, config, cluster, signals, logs } = start;
    let here = fit(&config_file, &config, &cluster)?;
    let key = ClusterKey::read(&cluster.key_file).map_err(|error| unfit(&config_file, vec![error.into()]))?;
    let state = StateDirectory::of(&config)?;
    state.create()?;
    let user = config.node.user.as_deref().map(user_of).transpose()?;
    if let Some(user) = user {
        give(&state, user)?;
    }
    let as_in_file = here.clone();
    let (cluster, here) = voting(cluster, here);
    let memory = Memory::open(&state.guardian())?;
    // What a node that is alone has granted itself is nothing that the voters of a cluster may know.
    let alone = (cluster.vip == Vip::External)
        .then(|| Memory::open(&memory.directory().join(ALONE_DIRECTORY)))
        .transpose()?;
    let kept = alone.as_ref().unwrap_or(&memory);
    let record = kept.record()?;
    let known = kept.members()?;
    let (sender, inbox) = inbox()?;
    let (hands, watch) = hands(&cluster, &here, &sender)?;
    let routes = routes(&cluster, &here, &memory.directory().join(ROUTES))?;

    let at = now();
    let me = MemberId(u8::try_from(here.me).context("there are more nodes than a cluster may have")?);
    let poll = Poll::new()?;
    let links = links(&cluster, me, key.link(), &poll)?;
    let row = cluster.row.is_some().then(|| RowWitness::start(row_recipe(&config_file, &key, user)));
    let row = row.transpose().context("the thread of the witness's process can not be started")?;
    let keeper = Keeper::start(kept.directory(), memory.directory(), sender.clone())?;
    let segments = Segments::start(here.interface.as_deref(), &cluster.addresses)?;
    let recipe = Recipe {
        program: "/proc/self/exe".into(),
        arguments: vec!["engine".into(), "--config".into(), config_file.clone().into()],
        user,
        key: *key.engine().as_bytes(),
        segments: segments.for_engines(),
        relay: hands.relay_map(),
        silence_max: cluster.engine_silence,
    };
    let engine = EngineProcess::new(at.instant, recipe, sender.clone())?;
    let mut guardian = Guardian::new(
        at.instant,
        Start {
            service: ServiceId(0),
            me: Holder { node: NodeId(me.0), incarnation: incarnation()? },
            nodes: (0..cluster.nodes.len()).map(|place| NodeId(place as u8)).collect(),
            has_witness: cluster.has_witness(),
            known: known.clone(),
            record,
            settings: settings(&cluster, here.me),
        },
    );
    if let Some(address) = hands.admits_at() {
        guardian.admits_at(address);
    }
    let standing = Arc::new(Standing::default());
    let hooks = Hooks::start(hooks_plan(&cluster, &here), sender.clone())?;
    // Whatever the node was before, it is not active.
    let reason = "start".to_owned();
    hooks.tell(Event { occasion: Occasion::Standby, epoch: record.highest().0, reason });
    let follower = match cluster.vip {
        Vip::External => {
            // Until the addresses are seen here. It has nothing to say yet that others would have to be told.
            guardian.handle(at, Input::Wish(Wish::Away), &mut Vec::new());
            Some(Follower::start(cluster.addresses.clone(), sender.clone())?)
        }
        Vip::Tandem | Vip::Hooks => None,
    };
    let checks = Checks::start(&checks_plan(&config, &cluster, &here, &state)?, &standing, &sender)?;
    let exporter = Exporter::start(exporter_recipe(&config_file, &state, user), Asker::new(sender.clone()))?;
    serve_metrics(&exporter.listening(), config.metrics);
    let control = Control::open(&state.guardian_socket(), Arc::new(Asker::new(sender.clone())))
        .with_context(|| state.guardian_socket().display().to_string())?;
    // The last threads were started: what is tried for this one they do not have.
    let refused = privileges();
    tracing::info!(
        node = cluster.nodes[here.me].name,
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        gate = ?hands.view().gate,
        state_directory = %state.path().display(),
        "the guardian begins"
    );
    let parts = Parts {
        guardian,
        known,
        links,
        row,
        hands,
        engine,
        keeper,
        poll,
        inbox,
        signals: Some(signals),
        watch,
        hooks,
        standing,
        about: About {
            interface: here.interface.clone(),
            me: here.me,
            cluster,
            no_priority: refused.priority,
            no_locked_memory: refused.locked_memory,
        },
        reload: reload(sender, config_file, config, as_in_file, logs, exporter.listening()),
        notifier: Notifier::from_environment(at.instant),
    };
    let (Parts { row, hands, keeper, inbox, hooks, .. }, end) = EventLoop::new(parts)?.run()?;
    drop(control);
    // Nobody may wait for room in an inbox that nobody reads, or for an answer from it.
    drop(inbox);
    exporter.finish();
    if let Some(row) = row {
        row.finish();
    }
    hands.finish();
    segments.finish();
    checks.finish();
    keeper.finish();
    match end {
        End::Stopped => hooks.finish(),
        // Its vote is missed until it is back, and then it begins with `on_standby`.
        End::StoodStill => hooks.abandon(),
    }
    if let Some(follower) = follower {
        follower.finish();
    }
    if let Some(routes) = routes {
        routes.restore();
    }
    tracing::info!("stopped");
    drop((alone, memory));
    Ok(end)
}

fn exporter_recipe(config_file: &Path, state: &StateDirectory, user: Option<User>) -> exporter::Recipe {
    exporter::Recipe {
        program: "/proc/self/exe".into(),
        config_file: config_file.to_owned(),
        control_socket: state.control_socket(),
        user,
    }
}

fn row_recipe(config_file: &Path, key: &ClusterKey, user: Option<User>) -> row_witness::Recipe {
    row_witness::Recipe {
        program: "/proc/self/exe".into(),
        config_file: config_file.to_owned(),
        name: key.row_name(),
        user,
    }
}

/// A vote is more than figures: a port that is taken ends nothing.
fn serve_metrics(listening: &Listening, metrics: Metrics) {
    let Some(address) = metrics.listen else { return };
    if let Err(error) = listening.at(address) {
        tracing::error!("{}; then `tandem reload`", port_owner::explain_metrics(address, &error));
    }
}

/// The cluster in which this node votes: where others move the addresses it is alone.
fn voting(mut cluster: Cluster, here: Here) -> (Cluster, Here) {
    if cluster.vip != Vip::External {
        return (cluster, here);
    }
    cluster.nodes = vec![cluster.nodes.swap_remove(here.me)];
    cluster.witness.clear();
    cluster.row = None;
    cluster.preferred = None;
    (cluster, Here { me: 0, ..here })
}

fn routes(cluster: &Cluster, here: &Here, kept: &Path) -> Result<Option<ManagedRoutes>> {
    if cluster.manage_routes == ManageRoutes::No && kept.exists() {
        // They were managed until a crash.
        Routes::clean(kept)?;
    }
    let wanted = here.interface.as_deref().filter(|_| cluster.manage_routes == ManageRoutes::Yes);
    let Some(name) = wanted else { return Ok(None) };
    let named = cluster.gateways.iter().filter_map(|gateway| match gateway {
        GatewayCheck::At(address) => Some(*address),
        GatewayCheck::Default => None,
    });
    let interface = Interface::find(name)?;
    Ok(Some(ManagedRoutes::set(interface, cluster.addresses.clone(), named.collect(), kept)?))
}

/// What this host has refused a thread that must not be kept waiting, each with the reason.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Real-time priority.
    pub priority: Option<String>,
    /// Memory that is never paged out.
    pub locked_memory: Option<String>,
}

/// Tries to have for the calling thread what keeps a busy host from costing the lease.
pub fn privileges() -> Refused {
    let priority = ::host::be_real_time().err().map(|error| {
        tracing::warn!(
            %error,
            "no real-time priority: a busy host can cost the lease; give CAP_SYS_NICE or LimitRTPRIO=10"
        );
        error.to_string()
    });
    let locked_memory = ::host::lock_memory().err().map(|error| {
        tracing::warn!(
            %error,
            "memory can not be locked: a host that swaps can cost the lease; give CAP_IPC_LOCK or LimitMEMLOCK=infinity"
        );
        error.to_string()
    });
    Refused { priority, locked_memory }
}

fn fit(file: &Path, config: &Config, cluster: &Cluster) -> Result<Here> {
    cluster.here(&node_name(config), &host::interfaces()?).map_err(|wrong| unfit(file, wrong))
}

fn unfit(file: &Path, wrong: Vec<Unfit>) -> anyhow::Error {
    Config::unfit(file, wrong).into()
}

fn hands(cluster: &Cluster, here: &Here, inbox: &Sender) -> Result<(Box<dyn Hands>, Option<Watch>)> {
    let name = match (cluster.vip, here.interface.as_deref()) {
        (Vip::Tandem | Vip::Hooks, Some(name)) => name,
        (Vip::Tandem, None) => bail!("no interface is known for the virtual addresses"),
        (Vip::Hooks, None) => {
            tracing::warn!(
                "vip = \"hooks\" without an interface: there is no gate, and a node that is frozen while it sends may send \
                 once more when it goes on"
            );
            return Ok((Box::new(NoHands), None));
        }
        (Vip::External, _) => {
            tracing::warn!(
                "another program moves the addresses: that they are on one host alone is its promise"
            );
            return Ok((Box::new(NoHands), None));
        }
    };
    let interface = Interface::find(name)?;
    let hands = match cluster.vip {
        Vip::Hooks => KernelHands::guard(&interface, &cluster.addresses, inbox.clone())?,
        Vip::Tandem | Vip::External => KernelHands::take(&interface, &cluster.addresses, inbox.clone())?,
    };
    let view = hands.view();
    for refusal in &view.refusals {
        tracing::warn!("{refusal}");
    }
    // Without it nobody sees a stranger that claims the address; the service does not need it.
    let watch = Watch::open(interface, cluster.addresses.clone());
    let watch =
        watch.inspect_err(|error| tracing::warn!(%error, "claims of the virtual addresses are not seen"));
    Ok((Box::new(hands), watch.ok()))
}

fn hooks_plan(cluster: &Cluster, here: &Here) -> hooks::Plan {
    hooks::Plan {
        commands: cluster.hooks.clone(),
        limit: cluster.hook_timeout,
        node: cluster.nodes[here.me].name.clone(),
        interface: here.interface.clone(),
        addresses: cluster.addresses.clone(),
    }
}

fn checks_plan(
    config: &Config,
    cluster: &Cluster,
    here: &Here,
    state: &StateDirectory,
) -> Result<checks::Plan> {
    let settings = config.compile(&host::addresses()?)?;
    let is_virtual = |address: IpAddr| cluster.addresses.contains(&address);
    let listener = |wanted: bool| {
        let udp = settings.listeners.iter().filter(|listener| listener.transport == Transport::Udp);
        let mut addresses = udp.map(|listener| listener.local.0);
        addresses.find(|address| is_virtual(address.ip()) == wanted)
    };
    Ok(checks::Plan {
        node: cluster.nodes[here.me].name.clone(),
        interface: here.interface.clone(),
        addresses: cluster.addresses.clone(),
        gateways: cluster.gateways.clone(),
        commands: cluster.checks.clone(),
        directory: state.guardian(),
        engine: EngineAt {
            virtual_listener: listener(true),
            own_listener: listener(false),
            control_socket: state.control_socket(),
        },
    })
}

fn links(cluster: &Cluster, me: MemberId, key: [u8; 32], poll: &Poll) -> Result<Links> {
    let at = now().instant;
    let mut chances = [0; 32];
    getrandom::fill(&mut chances).map_err(|error| anyhow!("no randomness: {error}"))?;
    let members = (0..cluster.members()).map(|place| MemberId(place as u8));
    let link = Link::new(at, me, members, key, chance()?, chances);
    let nodes = cluster.nodes.iter().enumerate().map(|(place, node)| Place {
        member: MemberId(place as u8),
        addresses: node.paths.clone(),
        reached: Reached::InOrder,
    });
    let witness = (!cluster.witness.is_empty()).then(|| Place {
        member: MemberId(cluster.nodes.len() as u8),
        addresses: cluster.witness.clone(),
        reached: Reached::FromEach,
    });
    let others: Vec<Place> = nodes.filter(|place| place.member != me).chain(witness).collect();
    let own: &[SocketAddr] = &cluster.nodes[usize::from(me.0)].paths;
    Ok(Links::open(at, link, own, &others, poll))
}

fn settings(cluster: &Cluster, me: usize) -> Settings {
    let preferred = cluster.preferred.filter(|(node, _)| *node == me).map(|(_, after)| after);
    Settings { plan: LeasePlan { lease: cluster.lease }, preferred, digest: cluster.digest() }
}

/// Reads the file again; what needs a restart of the node is said and not taken.
fn reload(
    inbox: Sender,
    file: PathBuf,
    in_force: Config,
    here: Here,
    logs: Logs,
    metrics: Listening,
) -> Reload {
    Reload::new(inbox, move || {
        let config = Config::read(&file).map_err(|error| error.to_string())?;
        let missing = "[cluster] is gone from the file: that needs a restart of this node";
        let cluster = config.cluster.as_ref().ok_or(missing)?;
        let old = in_force.cluster.as_ref().ok_or(missing)?;
        let again = fit(&file, &config, cluster).map_err(|error| format!("{error:#}"))?;
        if again.me != here.me {
            return Err("this host is another node by the file: that needs a restart".to_owned());
        }
        if let Some(address) = config.metrics.listen {
            metrics.at(address).map_err(|error| port_owner::explain_metrics(address, &error))?;
        } else {
            metrics.nowhere();
        }
        let remarks = needing_restart(old, cluster)
            .into_iter()
            .map(|key| format!("{key} has changed: that is in force after a restart of this node"))
            .collect();
        logs.set_level(config.log.level);
        Ok(Reloading {
            settings: settings(cluster, here.me),
            engine_silence: cluster.engine_silence,
            remarks,
        })
    })
}

/// What of a changed `[cluster]` is not in force until a restart.
fn needing_restart(old: &Cluster, new: &Cluster) -> Vec<&'static str> {
    let changed: BTreeMap<&str, bool> = BTreeMap::from([
        ("cluster.node", old.nodes != new.nodes),
        ("cluster.witness", (&old.witness, &old.row) != (&new.witness, &new.row)),
        ("cluster.addresses", old.addresses != new.addresses),
        ("cluster.interface", old.interface != new.interface),
        ("cluster.vip", old.vip != new.vip),
        ("cluster.key", old.key_file != new.key_file),
        ("cluster.port", old.port != new.port),
        ("cluster.gateways", old.gateways != new.gateways),
        ("cluster.check", old.checks != new.checks),
        ("cluster.manage_routes", old.manage_routes != new.manage_routes),
        (
            "cluster.on_active, .on_standby, .on_fault or .hook_timeout",
            (&old.hooks, old.hook_timeout) != (&new.hooks, new.hook_timeout),
        ),
    ]);
    changed.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
}

/// Finds a user of this host.
fn user_of(name: &str) -> Result<User> {
    let text = std::fs::read_to_string("/etc/passwd").context("/etc/passwd can not be read")?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(name);
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        is_it.then_some(User { user, group })
    });
    found.with_context(|| {
        format!("node.user names `{name}`, which /etc/passwd has not: make it by `useradd --system {name}`, or leave it out")
    })
}

/// Gives the engine's files to its user. What is the guardian's own stays.
fn give(state: &StateDirectory, user: User) -> Result<()> {
    let name = || format!("{} can not be given to the engine's user", state.path().display());
    let entries = std::fs::read_dir(state.path()).with_context(name)?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files = files.filter(|path| *path != state.guardian());
    for path in files.chain([state.path().to_owned()]) {
        let owner = std::fs::symlink_metadata(&path).with_context(name)?;
        if (owner.uid(), owner.gid()) != (user.user, user.group) {
            std::os::unix::fs::lchown(&path, Some(user.user), Some(user.group)).with_context(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_others_move_the_addresses_a_node_is_alone_in_its_cluster() {
        let names = |vip: &str| {
            let text = format!(
                "[sip]\nlisten = [\"udp://192.0.2.10:5060\"]\n\
                 [cluster]\naddresses = [\"192.0.2.10\"]\nvip = \"{vip}\"\npreferred = \"a\"\n\
                 witness = [\"tandem://192.0.2.9\"]\non_active = [\"/bin/true\"]\non_standby = [\"/bin/true\"]\n\
                 [[cluster.node]]\nname = \"a\"\npaths = [\"192.0.2.1\"]\n\
                 [[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\"]\n"
            );
            let config = Config::parse(Path::new("a.toml"), &text).expect("it is right");
            let here = Here { me: 1, interface: None, missing_paths: Vec::new() };
            let (cluster, here) = voting(config.cluster.expect("it has one"), here);
            let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
            (names.join(" "), here.me, cluster.members())
        };

        assert_eq!(names("external"), ("b".to_owned(), 0, 1));
        assert_eq!(names("hooks"), ("a b".to_owned(), 1, 3));
    }
}
