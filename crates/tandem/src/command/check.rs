//! `tandem check`: every mistake of a configuration, and what a right one means on this host.

mod relay;
mod rtpengine;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ::host::{Interface, remarks as remarks_of_host};
use anyhow::Result;
use routing::{DialPlan, Settings};
use store::{
    CallInspection, Inspection, Lists, RecordSettings, Trial, WrittenFiles, inspect, inspect_calls,
    read_lists,
};

use super::print;
use crate::cluster_key::ClusterKey;
use crate::config::cluster::{GatewayCheck, Here, ManageRoutes, Unfit, Vip};
use crate::config::{Cluster, Config, set_of, write_duration};
use crate::database;
use crate::host;
use crate::records;
use crate::row_witness::{Probed, probe};
use crate::service::node_name;
use crate::state_directory::StateDirectory;
use crate::tables::{self, Added};

/// Reads the file and tells what it means here.
pub fn check(file: &Path) -> Result<()> {
    let config = Config::read(file)?;
    let served = config.compile(&host::addresses()?)?;
    let mut text =
        format!("{} is right. On this host it serves:\n{}", file.display(), listeners_text(&served));
    let kernel = relay::Kernel::here();
    text.push_str(&relay::text(&config.relay, &served, &kernel, config.tcp.connections_max));
    text.push_str(&rtpengine::text(&config.relay));
    text.push_str(&metrics_text(&config));
    let state = StateDirectory::of(&config)?;
    let records = records::settings(&config, &state)?;
    if let Some(settings) = &records {
        text.push_str(&records_text(settings));
    }
    let mut relay_rules = None;
    if let Some(settings) = database::server(&config)? {
        let found = inspect(&settings)?;
        relay_rules = Some(found.relay_rules);
        text.push_str(&database_text(&found));
        let wanted = &config.database.lists;
        if !wanted.is_empty() {
            let lists = read_lists(&settings, wanted)?;
            text.push_str(&lists_text(&lists));
            let mut served = served.clone();
            let Added { differences, unused } = tables::add(&lists, &mut served, &config);
            text.push_str(&sets_text(&config.dial_plan, &served.dial_plan));
            for remark in differences.iter().chain(&unused) {
                text.push_str(&format!("note: {remark}\n"));
            }
        }
    }
    // Without a server they are in a file, which is not there before the first start.
    let accounts = relay_rules.or_else(|| store::relay_rules(&state.database())).unwrap_or_default();
    text.push_str(&relay::unheeded(&config.relay, &config.dial_plan.gateways, accounts));
    if let Some(database) = records.and_then(|records| records.database) {
        text.push_str(&calls_text(&inspect_calls(&database)?));
    }
    if let Some(cluster) = &config.cluster {
        let here = cluster.here(&node_name(&config), &host::interfaces()?);
        let key = ClusterKey::read(&cluster.key_file).map_err(Unfit::from);
        match (here.and_then(|here| Ok((interface_of(&here)?, here))), key) {
            (Ok((interface, here)), Ok(key)) => {
                text.push_str(&cluster_text(cluster, &here, &served));
                if let Some(row) = &cluster.row {
                    let probed = probe(row, &key.row_name(), cluster.lease);
                    let probed = probed.map_err(|error| {
                        let what = format!("can not be used: {error:#}");
                        let mend = "see docs/witness.md".to_owned();
                        Config::unfit(file, vec![Unfit { key: "cluster.witness", what, mend }])
                    })?;
                    text.push_str(&row_text(&probed));
                }
                if let Some(interface) = interface.filter(|_| cluster.manage_routes == ManageRoutes::No) {
                    text.push_str(&host_text(cluster, &interface));
                }
            }
            (here, key) => {
                let unfit = here.err().into_iter().flatten().chain(key.err()).collect();
                return Err(Config::unfit(file, unfit).into());
            }
        }
    }
    print(&text)
}

/// The interface as it is on this host.
fn interface_of(here: &Here) -> Result<Option<Interface>, Vec<Unfit>> {
    let found = here.interface.as_deref().map(Interface::find).transpose();
    found.map_err(|error| {
        let mend = "write the name of one that is there, or leave it out".to_owned();
        vec![Unfit { key: "cluster.interface", what: format!("can not be used: {error}"), mend }]
    })
}

/// The servers of the witness's row, as they answer from this host.
fn row_text(probed: &Probed) -> String {
    let lines = probed.lines.iter().map(|line| format!("  {:<11}{line}\n", "witness"));
    lines.chain(probed.remarks.iter().map(|remark| format!("note: {remark}\n"))).collect()
}

/// What of the host's own settings stands in the way of the virtual addresses.
fn host_text(cluster: &Cluster, interface: &Interface) -> String {
    let gateways: Vec<IpAddr> = cluster
        .gateways
        .iter()
        .filter_map(|gateway| match gateway {
            GatewayCheck::At(address) => Some(*address),
            GatewayCheck::Default => None,
        })
        .collect();
    match remarks_of_host(interface, &cluster.addresses, &gateways) {
        Ok(remarks) => {
            remarks.iter().map(|remark| format!("note: {}: {}\n", remark.what, remark.mend)).collect()
        }
        Err(error) => format!("note: the host's routes can not be looked at: {error}\n"),
    }
}

fn listeners_text(settings: &Settings) -> String {
    let mut text = String::new();
    for listener in settings.listeners.iter() {
        text.push_str(&format!("  {}:{}", listener.transport, listener.local));
        if listener.advertise.is_some() {
            text.push_str(&format!(", advertised as {}", listener.sent_by()));
        }
        if !listener.digest {
            text.push_str(", where NOBODY needs a password (digest off)");
        }
        text.push('\n');
    }
    text
}

fn metrics_text(config: &Config) -> String {
    let Some(address) = config.metrics.listen else { return String::new() };
    let mut text = format!("Metrics are at http://{address}/metrics\n");
    if !address.ip().to_canonical().is_loopback() {
        text.push_str(&format!(
            "note: whoever reaches {address} can read them: there is no password; let a firewall keep others out\n"
        ));
    }
    text
}

fn records_text(settings: &RecordSettings) -> String {
    let RecordSettings { directory, file_bytes_max, files_max, .. } = settings;
    let mebibytes = file_bytes_max >> 20;
    let place = directory.display();
    let is_way = settings.database.as_ref().is_some_and(|database| database.files == WrittenFiles::Go);
    let mut text = if is_way {
        format!("Records of calls wait in {place} until they are in the database\n")
    } else {
        format!(
            "Records of calls are written to {place}: {files_max} files of {mebibytes} MiB at most, {} GiB in all\n",
            (mebibytes * *files_max as u64).div_ceil(1_024)
        )
    };
    match std::fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            text.push_str(&format!(
                "note: {place} is no directory: move it away, or name another one in records.directory\n"
            ));
        }
        Ok(_) => {
            if let Ok(disk) = rustix::fs::statvfs(directory)
                && disk.f_bavail.saturating_mul(disk.f_frsize) < *file_bytes_max
            {
                text.push_str(&format!(
                    "note: the disk of {place} has no room for one more file: make room, or records wait in memory and are lost\n"
                ));
            }
        }
        Err(_) => text.push_str(&format!("note: {place} is not there yet: it is made at the start\n")),
    }
    text
}

fn database_text(found: &Inspection) -> String {
    let tables: Vec<String> =
        found.tables.iter().map(|(table, version)| format!("{table} {version}")).collect();
    let mut text = format!(
        "Accounts are in the database at {}: tables of {}, {}\n",
        found.place,
        found.dialect,
        tables.join(", ")
    );
    for what in &found.wanting {
        text.push_str(&format!("note: the database has no place for {what}: it is done without\n"));
    }
    for obstacle in &found.obstacles {
        text.push_str(&format!("note: bindings can not be published in the table location: {obstacle}\n"));
    }
    if found.rows_of_others > 0 {
        text.push_str(&format!(
            "note: the table location has {} rows that another server wrote: nothing is written there before `tandem import` \
             has taken them over, or `tandem import --nothing` lets them be removed\n",
            found.rows_of_others
        ));
    }
    for what in &found.shortcomings {
        text.push_str(&format!("note: the database: {what}\n"));
    }
    if let Some(why) = found.read_only {
        text.push_str(&format!("note: the database: {why}\n"));
    }
    text
}

fn lists_text(found: &Lists) -> String {
    let mut text = String::new();
    for (table, version, rows) in &found.tables {
        let dialect = &found.dialect;
        text.push_str(&format!(
            "The table {table} {version} of {dialect} is read: {rows} rows can be used\n"
        ));
    }
    for remark in &found.remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    text
}

/// The gateways that stand for sets, with what became of them.
fn sets_text(written: &DialPlan, filled: &DialPlan) -> String {
    let mut text = String::new();
    for (gateway, set) in written.gateways.iter().filter_map(|it| Some((it, set_of(it)?))) {
        text.push_str(&format!("Gateway {} is set {set} of the table dispatcher:\n", gateway.name));
        let start = format!("{}/", gateway.name);
        for member in filled.gateways.iter().filter(|it| it.name.starts_with(&start)) {
            let uri = String::from_utf8_lossy(&member.uri);
            let (priority, weight) = (member.priority, member.weight);
            text.push_str(&format!("  {}: {uri}, priority {priority}, weight {weight}\n", member.name));
        }
    }
    text
}

fn calls_text(found: &CallInspection) -> String {
    let table = |(name, version): &(&str, Option<u32>)| match version {
        Some(version) => format!("{name} {version} of {}", found.dialect),
        None => (*name).to_owned(),
    };
    let tables: Vec<String> = found.tables.iter().map(table).collect();
    let mut text = format!(
        "Records of calls are written to the database at {}: {}{}\n",
        found.place,
        tables.join(", "),
        if found.trial == Trial::Undone { "; a call was written for trial, and undone" } else { "" }
    );
    for note in &found.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn cluster_text(cluster: &Cluster, here: &Here, settings: &Settings) -> String {
    let me = &cluster.nodes[here.me];
    let mut text = format!(
        "\nIn the cluster it is node {}, number {} of {}:\n",
        me.name,
        here.me + 1,
        cluster.nodes.len()
    );
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<11}{value}\n"));
    let addresses = list(&cluster.addresses);
    line(
        "addresses",
        match (cluster.vip, &here.interface) {
            (Vip::Tandem, Some(interface)) => format!("{addresses}, added to {interface} while it is active"),
            (Vip::Tandem, None) => addresses,
            (Vip::External, _) => format!("{addresses}, moved by others; Tandem follows"),
            (Vip::Hooks, _) => format!("{addresses}, moved by on_active and on_standby"),
        },
    );
    line("key", format!("{} is readable, and by nobody else", cluster.key_file.display()));
    let lease = cluster.lease;
    line(
        "lease",
        format!(
            "{}: renewed every {}, counted for {}; a dead node is replaced after about {}",
            write_duration(lease),
            write_duration(lease / 5),
            write_duration(lease * 4 / 5),
            write_duration(lease + lease / 10),
        ),
    );
    for (_, peer) in cluster.nodes.iter().enumerate().filter(|(place, _)| *place != here.me) {
        for (ours, theirs) in me.paths.iter().zip(&peer.paths) {
            line("path", format!("{ours} to node {} at {theirs}", peer.name));
        }
    }
    for witness in &cluster.witness {
        line("witness", witness.to_string());
    }
    let gateways = cluster.gateways.iter().map(|gateway| match gateway {
        GatewayCheck::Default => "the default gateways".to_owned(),
        GatewayCheck::At(address) => address.to_string(),
    });
    let own = cluster.checks.iter().map(|check| format!("check {}", check.name));
    let checks: Vec<String> =
        ["engine", "carrier", "disk"].map(str::to_owned).into_iter().chain(gateways).chain(own).collect();
    line("health", checks.join(", "));
    if let Some((place, after)) = cluster.preferred {
        line(
            "preferred",
            format!("node {}, when it was well for {}", cluster.nodes[place].name, write_duration(after)),
        );
    }
    if cluster.manage_routes == ManageRoutes::Yes {
        line("routes", "set while the guardian runs, restored at its end".to_owned());
    }
    for remark in remarks(cluster, here, settings) {
        text.push_str(&format!("note: {remark}\n"));
    }
    text
}

/// What is allowed, but hardly meant.
fn remarks(cluster: &Cluster, here: &Here, settings: &Settings) -> Vec<String> {
    let mut remarks = Vec::new();
    let members = cluster.members();
    if !cluster.has_witness() && members == 2 {
        remarks.push(
            "two nodes without a witness: neither takes over from the other when that one dies, because it could not \
             tell it from a cut cable; run `tandem witness` on a third host"
                .to_owned(),
        );
    } else if members.is_multiple_of(2) {
        remarks.push(format!(
            "{members} hosts vote: an even number survives the loss of no more than {} does",
            members - 1
        ));
    }
    if let [_] = cluster.nodes[here.me].paths.as_slice() {
        remarks.push(
            "there is one path between the nodes: a second one, by another cable and switch, keeps the standby from \
             taking a cut path for a dead node"
                .to_owned(),
        );
    }
    if !here.missing_paths.is_empty() {
        remarks
            .push(format!("this host does not have its path's address now: {}", list(&here.missing_paths)));
    }
    let is_unserved = |address: &&IpAddr| !settings.listeners.iter().any(|it| it.local.0.ip() == **address);
    let unserved: Vec<IpAddr> = cluster.addresses.iter().filter(is_unserved).copied().collect();
    for address in unserved {
        let place = SocketAddr::new(address, 5060);
        remarks.push(format!("no SIP is served on {address}: name it in sip.listen, \"udp://{place}\""));
    }
    if cluster.vip == Vip::External {
        remarks.push(
            "vip = \"external\": that two hosts never answer for the address at once is up to what moves it"
                .to_owned(),
        );
    }
    remarks
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "[[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1', '10.9.0.1']\n\
                         [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2', '10.9.0.2']\n";

    #[test]
    fn the_meaning_of_a_cluster_on_this_host_is_shown() {
        let text = told(
            "witness = ['tandem://192.0.2.9']\npreferred = 'a'\ninterface = 'eth0'",
            &["192.0.2.2", "10.9.0.2"],
        );

        assert_eq!(
            text,
            "\nIn the cluster it is node b, number 2 of 2:\n  \
               addresses  192.0.2.10, 2001:db8::10, added to eth0 while it is active\n  \
               key        /etc/tandem/cluster.key is readable, and by nobody else\n  \
               lease      500ms: renewed every 100ms, counted for 400ms; a dead node is replaced after about 550ms\n  \
               path       192.0.2.2:7950 to node a at 192.0.2.1:7950\n  \
               path       10.9.0.2:7950 to node a at 10.9.0.1:7950\n  \
               witness    192.0.2.9:7950\n  \
               health     engine, carrier, disk, the default gateways\n  \
               preferred  node a, when it was well for 5m\n"
        );
    }

    #[test]
    fn where_metrics_are_is_told_and_that_strangers_could_read_them() {
        let told = |listen: &str| {
            let text = format!("[metrics]\nlisten = '{listen}'");
            metrics_text(&Config::parse(Path::new("a.toml"), &text).expect("it is right"))
        };

        assert_eq!(told(""), "");
        assert_eq!(told("[::1]:9760"), "Metrics are at http://[::1]:9760/metrics\n");
        assert!(told("192.0.2.1:9760").contains("note: whoever reaches 192.0.2.1:9760 can read them"));
    }

    #[test]
    fn what_is_hardly_meant_is_remarked() {
        let text = told("interface = 'eth0'", &["192.0.2.2"]);

        for part in ["two nodes without a witness", "does not have its path's address now: 10.9.0.2"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("one path between"), "{text}");
    }

    #[test]
    fn a_virtual_address_without_a_listener_is_remarked() {
        let config = Config::parse(
            Path::new("a.toml"),
            &format!("[sip]\nlisten = ['udp://192.0.2.10']\n[cluster]\naddresses = ['192.0.2.10', '2001:db8::10']\n{NODES}"),
        )
        .expect("it is right");
        let here = Here { me: 0, interface: Some("eth0".to_owned()), missing_paths: Vec::new() };

        let remarks = remarks(
            config.cluster.as_ref().expect("it has one"),
            &here,
            &config.compile(&[]).expect("it can be served"),
        );

        assert!(remarks.iter().any(|it| it.contains("\"udp://[2001:db8::10]:5060\"")), "{remarks:?}");
        assert!(!remarks.iter().any(|it| it.contains("served on 192.0.2.10")), "{remarks:?}");
    }

    #[test]
    fn what_does_not_fit_the_host_is_told_with_its_line() {
        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        let text = format!(
            "[cluster]\nkey = '/nowhere/key'\naddresses = ['192.0.2.10']\n{NODES}[node]\nname = 'x'\n"
        );
        std::fs::write(file.path(), text).expect("it can be written");

        let error = check(file.path()).expect_err("it does not fit").to_string();

        let name = file.path().display();
        assert!(error.contains(&format!("{name}:2:7: cluster.key = '/nowhere/key' is not there")), "{error}");
        assert!(
            error.contains(&format!("{name}:11:8: node.name = 'x' makes this host `x`, which is none")),
            "{error}"
        );
    }

    fn told(more: &str, has: &[&str]) -> String {
        let text = format!("[cluster]\naddresses = ['192.0.2.10', '2001:db8::10']\n{more}\n{NODES}");
        let config = Config::parse(Path::new("a.toml"), &text).expect("it is right");
        let cluster = config.cluster.as_ref().expect("it has one");
        let interfaces: Vec<_> = has
            .iter()
            .map(|it| ("eth0".to_owned(), format!("{it}/24").parse().expect("a network")))
            .collect();
        let here = cluster.here("b", &interfaces).expect("it fits");
        cluster_text(cluster, &here, &config.compile(&[]).expect("it can be served"))
    }
}
