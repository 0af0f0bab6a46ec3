//! A pair that has accounts, the table `location` and the records of calls on a database server, under load: phones that
//! register, and calls, all the time, whatever becomes of the database.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::calls::{self, Calls};
use crate::cluster::{Cluster, Digest, Settings};
use crate::database_server::{DatabaseServer, Disk, Product};
use crate::delay::Delay;
use crate::lab::pair::{Pair, SECOND_VIP, Side, VIP};
use crate::lab::{Host, Lab};
use crate::process;
use crate::registrants::{Plan, Registrants};
use crate::server::PASSWORD;

pub mod books;

use books::Books;

/// How long everything that is waited for may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long phones register for: longer than all of it.
const EXPIRES: Duration = Duration::from_secs(7_200);
/// One of so many REGISTERs ends a registration.
const REMOVAL_ONE_IN: u64 = 10;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which database.
    pub product: Product,
    /// Phones that register.
    pub phones: u32,
    /// REGISTERs that are begun in a second.
    pub registers: u32,
    /// Calls that are begun in a second.
    pub calls: u32,
    /// Which removals are drawn.
    pub seed: u64,
}

/// Whether the primary has a replica that may take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    /// It has.
    One,
    /// It has none.
    None,
}

/// All of it, running.
#[derive(Debug)]
pub struct Site<'l> {
    /// The lab.
    pub lab: &'l Lab,
    /// The hosts.
    pub pair: Pair,
    /// The nodes.
    pub cluster: Cluster,
    /// The server that is written.
    pub database: DatabaseServer,
    /// The one that follows it.
    pub replica: Option<DatabaseServer>,
    /// By which the nodes reach the server, until the replica takes its place.
    pub way: Delay,
    /// The host that this is on.
    pub way_host: Host,
    /// The phones.
    pub registrants: Registrants,
    calls: Calls,
    load: Load,
}

/// What a node has not yet written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Bindings that have changed.
    pub bindings: u64,
    /// Records of calls.
    pub calls: u64,
    /// What keeps bindings from being written.
    pub bindings_error: Option<String>,
    /// What keeps records from being written.
    pub calls_error: Option<String>,
    /// Whether the table is not known to say what is registered.
    pub is_comparing: bool,
}

impl<'l> Site<'l> {
    /// Starts the database, the pair and the calls. The phones know their accounts and do not register yet.
    pub fn start(lab: &'l Lab, load: Load, replica: Replica) -> Result<Site<'l>> {
        let pair = Pair::new(lab)?;
        let host = lab.host("database", 40)?;
        let database = DatabaseServer::start_on(lab, &host, load.product, Disk::Own)?;
        let replica = match replica {
            Replica::One => Some(database.replica(lab, &lab.host("replica", 41)?)?),
            Replica::None => None,
        };
        let port = database.address().port();
        let way_host = lab.host("way", 42)?;
        let way = Delay::start(&way_host, port, database.address())?;
        let mut hosts = way.address().to_string();
        if let Some(replica) = &replica {
            hosts += &format!(",{}", replica.address().ip());
        }
        let scheme = load.product.scheme();
        let settings = Settings {
            log_level: "info",
            digest: Digest::Off,
            toml: format!(
                "[auth]\nalgorithms = [\"MD5\"]\nnonce_lifetime = \"1d\"\n\
                 [database]\nurl = \"{scheme}://tandem:{PASSWORD}@{hosts}/tandem\"\ntls = \"off\"\ntimeout = \"1s\"\n\
                 location = \"own\"\ntime_zone = \"UTC\"\n[records]\nfiles = true\ndatabase = true\n"
            ),
            ..Settings::default()
        };
        let mut cluster = Cluster::prepare(lab, &pair, &settings)?;
        process::quietly(&mut cluster.command(&pair, Side::A, &["database", "init"]))?;
        add_accounts(&database, load.product, load.phones)?;
        cluster.start_all(&pair)?;
        calls::register(lab, &pair.far, VIP)?;
        cluster.wait_until_whole(LIMIT)?;
        let plan = Plan {
            phones: load.phones,
            domain: VIP.to_string(),
            // Here phones are asked for their password.
            registrar: (SECOND_VIP, 5060).into(),
            expires: EXPIRES,
            removal_one_in: REMOVAL_ONE_IN,
            seed: load.seed,
        };
        let registrants = Registrants::start(&pair.phone, &plan)?;
        let calls = Calls::begin(lab, &pair.phone, &pair.far, load.calls, "calls")?;
        Ok(Site { lab, pair, cluster, database, replica, way, way_host, registrants, calls, load })
    }

    /// Calls that were begun so far.
    pub fn calls_begun(&self) -> u64 {
        self.calls.begun()
    }

    /// Waits until so many more calls were begun and so many phones were answered.
    pub fn wait_for_service(&mut self, calls: u64, answers: usize) -> Result<()> {
        self.calls.wait_for(calls)?;
        self.registrants.wait_for_service(answers, LIMIT)
    }

    /// What both nodes have not written, as far as they tell.
    pub fn owed(&self) -> Owed {
        let mut both = Owed::default();
        for owed in Side::BOTH.into_iter().filter_map(|side| of(&self.cluster, side)) {
            both.bindings += owed.bindings;
            both.calls += owed.calls;
            both.bindings_error = both.bindings_error.or(owed.bindings_error);
            both.calls_error = both.calls_error.or(owed.calls_error);
            both.is_comparing |= owed.is_comparing;
        }
        both
    }

    /// Waits until that is so of what a node owes.
    pub fn wait_for_owed(&self, what: &str, is_so: impl Fn(&Owed) -> bool) -> Result<()> {
        wait_for(&self.cluster, what, |both| both.iter().flatten().any(&is_so))
    }

    /// Whether everything is written but for what has come in the last moments.
    pub fn is_written(&self) -> bool {
        let both = Side::BOTH.map(|side| of(&self.cluster, side));
        let Load { registers, calls, .. } = self.load;
        both.iter().all(|owed| {
            owed.as_ref().is_some_and(|owed| {
                owed.is_well() && owed.bindings <= u64::from(registers) && owed.calls <= u64::from(2 * calls)
            })
        })
    }

    /// Ends the load, waits until nothing is owed, and compares.
    pub fn close(self) -> Result<Books> {
        self.registrants.set_pace(0);
        self.registrants.wait_for_answers(LIMIT)?;
        // What is left keeps the way to the database open until the end.
        let Site { calls, registrants, cluster, database, way, .. } = self;
        let mut books = Books {
            registers: registrants.counts(),
            complaints: registrants.take_complaints(),
            ..Books::default()
        };
        let (call_books, begun) = calls.end_with_ids()?;
        books.calls = call_books;
        wait_for(&cluster, "nothing owed by both nodes", |both| {
            both.iter().all(|owed| *owed == Some(Owed::default()))
        })?;
        books::compare_bindings(&mut books, &database, &registrants)?;
        books::compare_calls(&mut books, &database, &begun)?;
        drop(way);
        Ok(books)
    }
}

impl Owed {
    fn read(status: &Value) -> Option<Owed> {
        let (location, calls) = (&status["publication"], &status["records"]["database"]);
        let error = |of: &Value| of["error"].as_str().map(str::to_owned);
        Some(Owed {
            bindings: location["owed"].as_u64()?,
            calls: calls["owed"].as_u64()?,
            bindings_error: error(location),
            calls_error: error(calls),
            is_comparing: location["state"] == "comparing",
        })
    }

    /// Whether nothing keeps it from being written.
    pub fn is_well(&self) -> bool {
        self.bindings_error.is_none() && self.calls_error.is_none() && !self.is_comparing
    }
}

fn of(cluster: &Cluster, side: Side) -> Option<Owed> {
    let status = cluster.control(side).and_then(|mut engine| engine.status()).ok()?;
    Owed::read(&status)
}

fn wait_for(cluster: &Cluster, what: &str, is_so: impl Fn(&[Option<Owed>; 2]) -> bool) -> Result<()> {
    let mut last = [None, None];
    process::wait_until(what, LIMIT, || {
        last = Side::BOTH.map(|side| of(cluster, side));
        Ok(is_so(&last).then_some(()))
    })
    .with_context(|| format!("{last:?}"))
}

/// The phones that register, and those that are called, with the same password.
fn add_accounts(database: &DatabaseServer, product: Product, phones: u32) -> Result<()> {
    let last = phones.saturating_sub(1);
    let (number, from) = match product {
        Product::Postgres => ("n", format!("generate_series(0, {last}) n")),
        Product::MariaDb => ("seq", format!("seq_0_to_{last}")),
    };
    let insert = "INSERT INTO subscriber (username, domain, realm, ha1)";
    let row = |user: &str| format!("{user}, '{VIP}', '{VIP}', md5(CONCAT({user}, ':{VIP}:{PASSWORD}'))");
    database.sql(&format!("{insert} SELECT {} FROM {from}", row(&format!("CONCAT('user', {number})"))))?;
    let others = calls::users().map(|user| format!("({})", row(&format!("'{user}'"))));
    database.sql(&format!("{insert} VALUES {}", others.collect::<Vec<_>>().join(", "))).map(drop)
}
