//! Domains, trusted peers and gateways that tables of the database name, beside those of the configuration.
//!
//! They are read again every few seconds, and taken like a configuration that was loaded again. What was read last is in the
//! state directory, so that a start needs no database. Where the configuration says something else, it counts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use ipnet::IpNet;
use routing::{Settings, TrustedPeer};
use serde::{Deserialize, Serialize};
use store::{Lists, ServerSettings, WantedLists, read_lists};

use crate::config::Config;
use crate::control::TablesView;
use crate::database;
use crate::destinations::{self, Filled};
use crate::service::Service;
use crate::state_directory::{self, StateDirectory};

/// How often the tables are read.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often the file says anew when the tables were read, while they say the same.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a start without a copy waits for the tables: who has other nodes to start does not wait for a database.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(2);

/// What is said of a copy until the tables themselves were tried.
const NOT_READ: &str = "not read since the start";

/// The tables of a running server.
#[derive(Debug)]
pub struct Tables {
    settings: ServerSettings,
    wanted: WantedLists,
    file: PathBuf,
    known: Mutex<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    lists: Lists,
    /// Grows with each change of the lists.
    version: u64,
    /// When the tables said so last.
    at: Option<SystemTime>,
    error: Option<String>,
    /// Why the server did not take them.
    untaken: Option<String>,
    /// What of them the configuration in force leaves out.
    unused: Vec<String>,
    /// What time the file has.
    kept_at: Option<SystemTime>,
}

/// What the file has.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    at_s: u64,
    wanted: WantedLists,
    lists: Lists,
}

impl Tables {
    /// Those that the configuration wants read, with what was read last. Without a copy the database is waited for a moment.
    pub fn of(config: &Config, state: &StateDirectory) -> Result<Option<Arc<Self>>> {
        let wanted = config.database.lists.clone();
        let Some(settings) = database::server(config)?.filter(|_| !wanted.is_empty()) else {
            return Ok(None);
        };
        let file = state.tables();
        let kept = read_kept(&file);
        // What other settings wanted says nothing of what these want.
        let kept = kept.filter(|kept| kept.wanted == wanted);
        let at =
            kept.as_ref().and_then(|kept| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(kept.at_s)));
        let lists = kept.map(|kept| kept.lists).unwrap_or_default();
        let error = Some(NOT_READ.to_owned());
        let known = Known { lists, version: 0, at, error, untaken: None, unused: Vec::new(), kept_at: at };
        let tables = Arc::new(Self { settings, wanted, file, known: Mutex::new(known) });
        if at.is_none() {
            tables.look_first();
        }
        Ok(Some(tables))
    }

    /// Reads them, and waits for that a moment.
    fn look_first(self: &Arc<Self>) {
        let (done, is_done) = mpsc::sync_channel(1);
        let tables = Arc::clone(self);
        let work = move || {
            tables.look();
            // Who has waited too long is not there any more.
            let _ = done.try_send(());
        };
        let started = std::thread::Builder::new().name("tables-first".to_owned()).spawn(work);
        if started.is_err() || is_done.recv_timeout(FIRST_LOOK_MAX).is_err() {
            tracing::warn!(
                "the start does not wait for the tables of domains, peers and gateways: they count when they are read"
            );
        }
    }

    /// Reads them.
    fn look(&self) {
        let read = read_lists(&self.settings, &self.wanted);
        let mut known = self.known();
        match read {
            Ok(mut lists) => {
                lists.keep_good(&known.lists);
                if known.error.take().is_some() {
                    tracing::info!("the tables of domains, peers and gateways can be read");
                }
                let now = SystemTime::now();
                known.at = Some(now);
                let is_other = known.lists != lists;
                if is_other {
                    for remark in lists.remarks.iter().filter(|it| !known.lists.remarks.contains(it)) {
                        tracing::warn!("the database: {remark}");
                    }
                    known.lists = lists;
                    known.version += 1;
                }
                let age = known.kept_at.and_then(|at| now.duration_since(at).ok());
                if is_other || age.is_none_or(|age| age >= KEEP_EVERY) {
                    self.keep(&mut known, now);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if known.error.as_ref() != Some(&error) {
                    tracing::error!(
                        "domains, peers and gateways of tables are as they were read last: {error}"
                    );
                }
                known.error = Some(error);
            }
        }
    }

    /// Which state of them this is.
    pub fn version(&self) -> u64 {
        self.known().version
    }

    /// Looks again and again, as long as the server is there, which has taken them in the state of `taken`.
    pub fn follow(self: Arc<Self>, service: Weak<Service>, mut taken: u64) {
        let work = move || {
            while let Some(service) = service.upgrade() {
                self.look();
                let version = self.version();
                if version != taken {
                    let untaken = service.take_tables().err();
                    if untaken.is_none() {
                        taken = version;
                        tracing::info!(
                            "the tables of domains, peers and gateways have changed, and were taken"
                        );
                    }
                    let mut known = self.known();
                    if let Some(error) = &untaken
                        && known.untaken != untaken
                    {
                        tracing::error!("changes in the tables were not taken: {error}");
                    }
                    known.untaken = untaken;
                }
                drop(service);
                std::thread::sleep(INTERVAL);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("tables".to_owned()).spawn(work) {
            tracing::error!(%error, "changes in the tables are not followed");
        }
    }

    /// Adds what they say to the settings that were made of a configuration. Returns where that says something else.
    pub fn add_to(&self, settings: &mut Settings, config: &Config) -> Vec<String> {
        let mut known = self.known();
        let Added { differences, unused } = add(&known.lists, settings, config);
        known.unused.clone_from(&unused);
        differences.into_iter().chain(unused).collect()
    }

    /// How they are.
    pub fn view(&self) -> TablesView {
        let Known { lists, at, error, untaken, unused, .. } = self.known().clone();
        let untaken = untaken.map(|error| format!("they were read, and not taken: {error}"));
        TablesView {
            tables: lists.tables,
            dialect: lists.dialect,
            age_s: at.map(|at| at.elapsed().unwrap_or_default().as_secs()),
            error: error.or(untaken),
            remarks: lists.remarks.into_iter().chain(unused).collect(),
        }
    }

    fn keep(&self, known: &mut Known, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let kept = Kept { at_s: since.as_secs(), wanted: self.wanted.clone(), lists: known.lists.clone() };
        let written = serde_json::to_vec(&kept)
            .map_err(std::io::Error::from)
            .and_then(|bytes| state_directory::replace(&self.file, &bytes));
        match written {
            Ok(()) => known.kept_at = Some(now),
            Err(error) => {
                tracing::error!(file = %self.file.display(), %error, "the copy of the tables can not be written");
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_kept(file: &Path) -> Option<Kept> {
    let read = match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::from),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => Err(error),
    };
    read.inspect_err(|error| {
        tracing::warn!(file = %file.display(), %error, "the copy of the tables can not be read: it is made anew");
    })
    .ok()
}

/// What came of it.
#[derive(Debug)]
pub struct Added {
    /// Where the configuration says something else.
    pub differences: Vec<String>,
    /// What of the tables can not be used with it, and the mend.
    pub unused: Vec<String>,
}

/// What the tables of a configuration said when a server read them last; `None` if none did, or not for this user.
pub fn last_read(config: &Config) -> Option<Lists> {
    let file = StateDirectory::of(config).ok()?.tables();
    let kept: Kept = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (kept.wanted == config.database.lists).then_some(kept.lists)
}

/// Adds what tables say to the settings that were made of a configuration.
pub fn add(lists: &Lists, settings: &mut Settings, config: &Config) -> Added {
    let mut remarks = Vec::new();
    let Filled { plan, remarks: unused } =
        destinations::fill(&config.dial_plan, &lists.destinations, &settings.listeners);
    settings.dial_plan = plan;
    for domain in &lists.domains {
        if config.edges.iter().any(|edge| edge.domain == *domain) {
            remarks.push(format!(
                "the table domain names {domain}, which an [[edge]] of the configuration leads elsewhere: that counts; \
                 delete the row or the table"
            ));
        } else {
            settings.domains.insert(domain.clone());
        }
    }
    let listed = lists.peers.iter().filter_map(|peer| {
        let network = IpNet::new(peer.address, peer.prefix).ok()?.trunc();
        Some(TrustedPeer { network, name: peer.name.clone() })
    });
    for peer in listed {
        match settings.trusted.iter().find(|it| it.network == peer.network) {
            Some(told) if told.name != peer.name => remarks.push(format!(
                "{} is `{}` in the database and `{}` before: that counts",
                peer.network, peer.name, told.name
            )),
            Some(_) => {}
            None => settings.trusted.push(peer),
        }
    }
    Added { differences: remarks, unused }
}

#[cfg(test)]
mod tests {
    use store::ListedPeer;

    use super::*;

    #[test]
    fn the_tables_add_to_the_configuration_which_counts_where_both_speak() {
        let text = "[sip]\ndomains = ['example.org']\n[[trusted]]\naddress = '198.51.100.7'\nname = 'pbx'\n\
                    [[edge]]\ndomain = 'branch.example'\nto = 'sip:10.0.0.20'";
        let config = Config::parse(Path::new("a.toml"), text).expect("it is right");
        let mut settings =
            config.compile(&["192.0.2.5".parse().expect("an address")]).expect("it can be served");
        let peer = |address: &str, prefix, name: &str| ListedPeer {
            address: address.parse().expect("an address"),
            prefix,
            name: name.to_owned(),
        };
        let lists = Lists {
            domains: ["example.org", "example.com", "branch.example"].map(str::to_owned).into(),
            peers: [peer("198.51.100.7", 32, "carrier"), peer("203.0.113.9", 24, "office")].into(),
            ..Lists::default()
        };

        let remarks = add(&lists, &mut settings, &config).differences;

        assert_eq!(Vec::from_iter(&settings.domains), ["example.com", "example.org"]);
        let trusted: Vec<String> =
            settings.trusted.iter().map(|it| format!("{} {}", it.network, it.name)).collect();
        assert_eq!(trusted, ["198.51.100.7/32 pbx", "203.0.113.0/24 office"]);
        assert!(remarks.iter().any(|it| it.contains("branch.example")), "{remarks:?}");
        assert!(
            remarks.iter().any(|it| it.contains("`carrier` in the database and `pbx` before")),
            "{remarks:?}"
        );
        assert_eq!(remarks.len(), 2);
    }
}
