//! Processor time for each REGISTER with a challenge where accounts and bindings are in a PostgreSQL: of the server, and of the
//! database.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cost::pin;
use super::load::{self, ACTIVE_CORE, OTHER_CORE};
use crate::bench::cpu_time;
use crate::cluster::{self, Cluster};
use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side, VIP, write_for};
use crate::process::{Running, wait_until};
use crate::server::PASSWORD;

/// Accounts, each of which registers once before and several times while it is measured.
const USERS: u64 = 10_000;
const REGISTRATIONS: u64 = 50_000;
/// All must be ready within this time.
const LIMIT: Duration = Duration::from_secs(60);
/// Work that was put off belongs to what was done before; longer than Kamailio's timer, which is 5 s here.
const REST: Duration = Duration::from_secs(6);
/// It must be done within this time.
const REST_MAX: Duration = Duration::from_secs(120);

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Ours, the active node of two, with accounts in each one's own file.
    TandemAlone,
    /// Ours, the active node of two, with accounts and the table `location` in the database.
    Tandem,
    /// Kamailio that has accounts there, and writes its bindings in this way.
    Kamailio(Mode),
}

/// `db_mode` of Kamailio's usrloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// 1: bindings are in memory, and written before the 200.
    WriteThrough,
    /// 2: bindings are in memory, and written by a timer.
    WriteBack,
    /// 3: bindings are in the database alone.
    DatabaseOnly,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Kind; 5] = [
        Kind::TandemAlone,
        Kind::Tandem,
        Kind::Kamailio(Mode::WriteThrough),
        Kind::Kamailio(Mode::WriteBack),
        Kind::Kamailio(Mode::DatabaseOnly),
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::TandemAlone => "Tandem's active node, no database",
            Kind::Tandem => "Tandem's active node, `location = \"own\"`",
            Kind::Kamailio(Mode::WriteThrough) => "Kamailio, `db_mode` 1",
            Kind::Kamailio(Mode::WriteBack) => "Kamailio, `db_mode` 2",
            Kind::Kamailio(Mode::DatabaseOnly) => "Kamailio, `db_mode` 3",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::TandemAlone => "database-none",
            Kind::Tandem => "database-own",
            Kind::Kamailio(Mode::WriteThrough) => "database-kamailio-1",
            Kind::Kamailio(Mode::WriteBack) => "database-kamailio-2",
            Kind::Kamailio(Mode::DatabaseOnly) => "database-kamailio-3",
        }
    }
}

/// Kamailio with accounts and bindings in the database. It has one core; with one worker it would wait for the database while
/// nobody is answered.
const KAMAILIO: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=8
disable_tcp=yes
auto_aliases=no
listen=udp:VIP:5060
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "db_postgres.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "auth_db.so"
modparam("usrloc", "db_url", "URL")
modparam("usrloc", "db_mode", MODE)
modparam("usrloc", "timer_interval", 5)
modparam("usrloc", "hash_size", 14)
modparam("auth_db", "db_url", "URL")
modparam("auth_db", "calculate_ha1", 0)
modparam("auth_db", "password_column", "ha1")
modparam("auth_db", "load_credentials", "")
modparam("auth", "nonce_expire", 300)
request_route {
    force_rport();
    if (!www_authenticate("$td", "subscriber")) { www_challenge("$td", "1"); exit; }
    save("location");
}
"#;

/// Measures one of them.
pub fn measure(lab: &Lab, kind: Kind) -> Result<Value> {
    let busy = load::others()?;
    let pair = Pair::new(lab)?;
    let database = (kind != Kind::TandemAlone).then(|| database(lab)).transpose()?;
    let server = Server::start(lab, &pair, kind, database.as_ref())?;
    let ids = [Some(server.id()?), database.as_ref().map(DatabaseServer::id).transpose()?];
    load::register_with_challenge(&pair, USERS, USERS, || Ok(())).context("first registrations")?;
    let mut before = [Duration::ZERO; 2];
    let a_second = load::register_with_challenge(&pair, USERS, REGISTRATIONS, || {
        before = server.done(ids)?;
        Ok(())
    })?;
    let after = server.done(ids)?;
    std::thread::sleep(REST);
    let rested = times(ids)?;
    let rows = database.as_ref().map(|it| it.sql("SELECT count(*) FROM location")).transpose()?;
    if let Some(rows) = rows {
        ensure!(rows.trim() == USERS.to_string(), "the table has {rows} rows for {USERS} bindings");
    }
    let each = |number: usize| (after[number] - before[number]).as_secs_f64() * 1e6 / REGISTRATIONS as f64;
    let at_rest = |number: usize| (rested[number] - after[number]).as_secs_f64() * 1e3 / REST.as_secs_f64();
    Ok(json!({
        "busy": busy, "us": each(0), "database_us": each(1), "a_second": a_second,
        "rest_ms": at_rest(0), "database_rest_ms": at_rest(1),
    }))
}

/// Kamailio's tables, with accounts.
fn database(lab: &Lab) -> Result<DatabaseServer> {
    let database = DatabaseServer::start(lab, &lab.host("database", 40)?, Product::Postgres)?;
    for file in ["standard", "auth_db", "usrloc"] {
        database.kamailio_file(file)?;
    }
    let last = USERS - 1;
    database.sql(&format!(
        "INSERT INTO subscriber (username, domain, ha1) SELECT 'user' || n, '{VIP}', \
         md5('user' || n || ':{VIP}:{PASSWORD}') FROM generate_series(0, {last}) n; ANALYZE subscriber"
    ))?;
    pin(&[database.id()?], OTHER_CORE)?;
    Ok(database)
}

/// Who answers for the virtual address.
enum Server {
    Tandem(Cluster),
    Kamailio(Running),
}

impl Server {
    /// Starts it, on a core of its own.
    fn start(lab: &Lab, pair: &Pair, kind: Kind, database: Option<&DatabaseServer>) -> Result<Server> {
        let url = database.map(DatabaseServer::url).unwrap_or_default();
        if let Kind::Kamailio(mode) = kind {
            return Server::kamailio(lab, pair, mode, &url);
        }
        let mut settings = cluster::Settings {
            log_level: "warn",
            node: "threads = 1\n".to_owned(),
            toml: "[auth]\nalgorithms = [\"MD5\"]\n".to_owned(),
            ..cluster::Settings::default()
        };
        if database.is_some() {
            settings.toml += &format!(
                "[database]\nurl = \"{url}\"\ntls = \"off\"\nlocation = \"own\"\ntime_zone = \"UTC\"\n"
            );
        }
        let mut cluster = Cluster::prepare(lab, pair, &settings)?;
        match database {
            None => cluster.prepare_accounts(USERS as u32, &[])?,
            Some(_) => crate::process::quietly(&mut cluster.command(pair, Side::A, &["database", "init"]))?,
        }
        cluster.start_all(pair)?;
        cluster.wait_until_whole(LIMIT)?;
        for (side, core) in [(Side::A, ACTIVE_CORE), (Side::B, OTHER_CORE)] {
            pin(&cluster.processes(side)?, core)?;
        }
        Ok(Server::Tandem(cluster))
    }

    fn kamailio(lab: &Lab, pair: &Pair, mode: Mode, url: &str) -> Result<Server> {
        pair.a.ip(&["addr", "add", &format!("{VIP}/32"), "dev", "eth0"])?;
        let mode = (mode as u8 + 1).to_string();
        let text = KAMAILIO.replace("VIP", &VIP.to_string()).replace("MODE", &mode).replace("URL", url);
        let config = write_for(lab, &pair.a, "kamailio.cfg", &text)?;
        let mut command = pair.a.command("taskset");
        command.args(["-c", ACTIVE_CORE, "kamailio", "-f"]).arg(&config);
        // Its default allocator takes half its time.
        command.args(["-x", "fm", "-X", "fm", "-DD", "-E", "-m", "512", "-M", "32", "-Y", "/run"]);
        let mut running = Running::start(&mut command, &lab.dir.join("kamailio.log"))?;
        wait_until("Kamailio", LIMIT, || {
            ensure!(running.is_running()?, "Kamailio has ended:\n{}", running.log());
            let sockets = crate::process::output(pair.a.command("ss").args(["-Hlun"]))?;
            Ok(sockets.contains(&format!("{VIP}:5060")).then_some(()))
        })?;
        Ok(Server::Kamailio(running))
    }

    /// Processor time of these, when all that was put off is done.
    fn done(&self, ids: [Option<u32>; 2]) -> Result<[Duration; 2]> {
        // It looks at its accounts all the time, so the database never rests.
        if let (Server::Tandem(cluster), [_, Some(_)]) = (self, ids) {
            let mut control = cluster.control(Side::A)?;
            wait_until("a table that has every binding", REST_MAX, || {
                let publication = control.status()?["publication"].take();
                Ok((publication["state"] == "writing" && publication["owed"] == 0).then_some(()))
            })?;
            return times(ids);
        }
        rested(ids)
    }

    /// The process whose time counts, with all its children: of ours the engine.
    fn id(&self) -> Result<u32> {
        match self {
            Server::Tandem(cluster) => cluster.engine(Side::A),
            Server::Kamailio(running) => Ok(running.id()),
        }
    }
}

/// Processor time of these, when they have come to rest.
fn rested(ids: [Option<u32>; 2]) -> Result<[Duration; 2]> {
    let (start, mut before) = (Instant::now(), times(ids)?);
    loop {
        std::thread::sleep(REST);
        let after = times(ids)?;
        let used = |number: usize| after[number].saturating_sub(before[number]);
        // Timers and heartbeats still cost some ticks.
        if used(0).max(used(1)) <= Duration::from_millis(150) {
            return Ok(after);
        }
        ensure!(start.elapsed() < REST_MAX, "server and database do not come to rest");
        before = after;
    }
}

fn times(ids: [Option<u32>; 2]) -> Result<[Duration; 2]> {
    let [server, database] = ids.map(|id| id.map_or(Ok(Duration::ZERO), cpu_time::of_tree));
    Ok([server?, database?])
}
