//! What the entries of `cluster.witness` say of each other: a host, the members of an etcd, or one database.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use store::ServerUrl;

use super::super::reader::{Entry, Reading};
use super::build::wrong;
use super::draft::{CLUSTER_NAME, ClusterDraft, WitnessAt};
use super::row::{DatabaseServer, EtcdServers, NamedBy, RowWitness, host_that_dies_with_a_node};
use crate::database::Server;

const OF_TWO_KINDS: &str = "is of another kind than the one before";
const ONE_KIND: &str = "name one witness: a fourth vote would not help";

/// The addresses of a witness on a host, or the servers that have its row.
pub fn build(
    reading: &mut Reading<'_>,
    entry: &Entry<ClusterDraft>,
    taken: &BTreeMap<IpAddr, String>,
    database: &Server,
    with_port: impl Fn((IpAddr, Option<u16>)) -> SocketAddr,
) -> (Vec<SocketAddr>, Option<RowWitness>) {
    let draft = &entry.draft;
    let owner_of = |host: &str| host.parse::<IpAddr>().ok().and_then(|address| taken.get(&address)).cloned();
    // Whoever has to mend that URL is told so once.
    let is_url_wrong = reading.problems.iter().any(|problem| problem.key == "database.url");
    let mut hosts = Vec::new();
    let mut row: Option<RowWitness> = None;
    for (place, span) in &draft.witness {
        let mut wrong = |what: String, mend: &str| wrong(reading, "witness", span, what, mend);
        match place {
            WitnessAt::Host(address, port) => {
                let at = with_port((*address, *port));
                const MEND: &str = "name addresses of a third host, each once";
                match taken.get(&at.ip()) {
                    _ if row.is_some() => wrong(OF_TWO_KINDS.to_owned(), ONE_KIND),
                    Some(other) => wrong(format!("is the {other}: a witness on a node dies with it"), MEND),
                    None if hosts.contains(&at) => wrong("names one address twice".to_owned(), MEND),
                    None => hosts.push(at),
                }
            }
            WitnessAt::Etcd(server) => {
                let at = (server.host.clone(), server.port);
                let known = row.get_or_insert_with(|| {
                    RowWitness::Etcd(EtcdServers {
                        servers: Vec::new(),
                        user: server.user.clone(),
                        password_file: named(&draft.witness_password_file),
                        ca_file: named(&draft.witness_ca),
                    })
                });
                match known {
                    RowWitness::Etcd(known) if hosts.is_empty() => {
                        let owner = owner_of(&server.host).filter(|_| draft.witness.len() < 3);
                        if known.user != server.user {
                            wrong(
                                "has another user than the one before".to_owned(),
                                "name the same user for all servers",
                            );
                        } else if known.servers.contains(&at) {
                            wrong("names one server twice".to_owned(), "name each server once");
                        } else if let Some(owner) = owner {
                            wrong(
                                format!("is the {owner}: a witness on a node dies with it"),
                                "name servers on other hosts, or three and more of which a majority is elsewhere",
                            );
                        } else {
                            known.servers.push(at);
                        }
                    }
                    _ => wrong(OF_TWO_KINDS.to_owned(), ONE_KIND),
                }
            }
            WitnessAt::Database | WitnessAt::Url(_) => match &row {
                Some(RowWitness::Database(_)) => wrong(
                    "names a second database".to_owned(),
                    "name one, with all its hosts: \"postgres://tandem@10.0.0.5,10.0.0.6/tandem\"",
                ),
                _ if row.is_some() || !hosts.is_empty() => wrong(OF_TWO_KINDS.to_owned(), ONE_KIND),
                _ => match of_database(draft, place, database) {
                    Some(found) => {
                        if let Some(owner) = host_that_dies_with_a_node(&found.url, owner_of) {
                            wrong(
                                format!("is on the {owner}: a witness on a node dies with it"),
                                "name a database on other hosts by their own addresses, or another witness",
                            );
                        }
                        row = Some(RowWitness::Database(found));
                    }
                    None if is_url_wrong => {}
                    None => wrong(
                        "is a database, and none is configured".to_owned(),
                        "write database.url, or here \"postgres://tandem@10.0.0.5/tandem\"",
                    ),
                },
            },
        }
    }
    check_files(reading, entry, row.as_ref());
    (hosts, row)
}

fn of_database(draft: &ClusterDraft, place: &WitnessAt, database: &Server) -> Option<DatabaseServer> {
    let ca = named(&draft.witness_ca);
    let of = |url: &ServerUrl, password_file, named_by| DatabaseServer {
        url: url.clone(),
        password_file,
        tls: database.tls,
        authorities: ca.or_else(|| database.authorities.clone()),
        named_by,
    };
    match place {
        WitnessAt::Url(url) => Some(of(url, named(&draft.witness_password_file), NamedBy::Witness)),
        _ => {
            let url = database.url.as_ref()?;
            Some(of(url, database.password_file.clone(), NamedBy::Database))
        }
    }
}

/// The files beside `witness` must have what they are for.
fn check_files(reading: &mut Reading<'_>, entry: &Entry<ClusterDraft>, row: Option<&RowWitness>) {
    let draft = &entry.draft;
    let password_file = named(&draft.witness_password_file);
    let mut wrong =
        |key: &str, what: &str, mend: &str| reading.wrong_entry(CLUSTER_NAME, entry, key, what, mend);
    match row {
        Some(RowWitness::Etcd(etcd)) if etcd.user.is_empty() && password_file.is_some() => {
            let mend = "name the user in each entry of witness: \"etcd://tandem@10.0.0.5:2379\"";
            wrong("witness_password_file", "is there, but no user", mend);
        }
        Some(RowWitness::Etcd(etcd)) if !etcd.user.is_empty() && password_file.is_none() => {
            let mend = "name the file with the user's password: witness_password_file = \"/etc/tandem/witness.password\"";
            wrong("witness", "has a user, but no password", mend);
        }
        Some(RowWitness::Database(found))
            if found.named_by == NamedBy::Database && password_file.is_some() =>
        {
            let mend = "leave it out; \"database\" is spoken to by the user and the password of [database]";
            wrong("witness_password_file", "is for a server that witness names itself", mend);
        }
        Some(_) => {}
        None if draft.witness.iter().any(|(place, _)| !matches!(place, WitnessAt::Host(..))) => {}
        None => {
            for (key, path) in
                [("witness_password_file", &draft.witness_password_file), ("witness_ca", &draft.witness_ca)]
            {
                if named(path).is_some() {
                    let mend = "leave it out: `tandem witness` has the key of the cluster";
                    wrong(key, "is for a witness in etcd or a database alone", mend);
                }
            }
        }
    }
}

fn named(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}
