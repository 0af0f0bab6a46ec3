//! Servers of this machine for the tests: PostgreSQL and MariaDB in a folder of their own, on a socket.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{ServerSettings, ServerUrl, Tls};

/// What `cargo xtask test` sets: then a server that is not installed is an error.
const REQUIRED: &str = "TANDEM_TEST_SERVERS";
/// A user of every Debian, because a database server does not run as root.
const NOBODY: (u32, u32) = (65_534, 65_534);
/// How long a server may take to start on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// The password of the user `tandem`.
pub const PASSWORD: &str = "secret";

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// Both.
pub const KINDS: [Kind; 2] = [Kind::Postgres, Kind::MariaDb];

/// A server that runs until it is dropped.
pub struct Engine {
    kind: Kind,
    directory: TempDir,
    process: Mutex<Child>,
    databases: AtomicU32,
}

impl Engine {
    /// The server that the tests of this moment share; `None` where it is not installed.
    pub fn shared(kind: Kind) -> Option<Arc<Self>> {
        static RUNNING: [Mutex<Weak<Engine>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
        let mut running = RUNNING[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = running.upgrade() {
            return Some(engine);
        }
        let engine = Arc::new(Self::start(kind)?);
        *running = Arc::downgrade(&engine);
        Some(engine)
    }

    /// A server of one test's own.
    pub fn start(kind: Kind) -> Option<Self> {
        let Some(program) = program(kind) else {
            assert!(std::env::var_os(REQUIRED).is_none(), "{kind:?} is not installed");
            eprintln!("skipped: {kind:?} is not installed");
            return None;
        };
        let directory = TempDir::new().expect("there is a place for it");
        if is_root() {
            chown(directory.path(), Some(NOBODY.0), Some(NOBODY.1)).expect("root may");
        }
        prepare(kind, &program, directory.path());
        let process = Mutex::new(run(kind, &program, directory.path()));
        let engine = Self { kind, directory, process, databases: AtomicU32::new(0) };
        engine.wait_until_it_answers();
        Some(engine)
    }

    /// An empty database.
    pub fn database(&self) -> ServerSettings {
        self.database_with("")
    }

    /// An empty database, with these words behind its `CREATE DATABASE`.
    pub fn database_with(&self, options: &str) -> ServerSettings {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(self.administration(), &format!("CREATE DATABASE {name} {options}"));
        self.settings(&name)
    }

    /// Does what a script says, in a database.
    pub fn script(&self, settings: &ServerSettings, sql: &str) {
        self.sql(&settings.url.database, sql);
    }

    /// The rows of a query whose columns are texts.
    pub fn rows(&self, settings: &ServerSettings, sql: &str) -> Vec<Vec<String>> {
        use crate::server::session::reach;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
        runtime.block_on(async {
            let mut reached = reach(settings).await.expect("it is well");
            let rows = reached.link.rows(sql, &[]).await.expect("it is right");
            let width = sql.split(" FROM ").next().unwrap_or_default().split(", ").count();
            rows.iter().map(|row| (0..width).map(|at| row.text(at).trim_end().to_owned()).collect()).collect()
        })
    }

    /// What a date with a time is called.
    pub fn time(&self) -> &'static str {
        match self.kind() {
            Kind::Postgres => "TIMESTAMP WITHOUT TIME ZONE",
            Kind::MariaDb => "DATETIME",
        }
    }

    /// Which product it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// A user who may read the tables of a database of PostgreSQL, by name; its password is [`PASSWORD`].
    pub fn reader(&self, settings: &ServerSettings) -> String {
        let name = format!("reader_{}", settings.url.database);
        self.script(
            settings,
            &format!(
                "CREATE USER {name} PASSWORD '{PASSWORD}';\nGRANT SELECT ON ALL TABLES IN SCHEMA public TO {name};\n"
            ),
        );
        name
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.kill().expect("it is ours");
        process.wait().expect("it is ours");
        // PostgreSQL's children end when they miss it, and until then a new one does not start.
        let _ = std::fs::remove_file(self.directory.path().join("data/postmaster.pid"));
    }

    /// Starts it again.
    pub fn start_again(&self) {
        let program = program(self.kind).expect("it was there");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) =
            run(self.kind, &program, self.directory.path());
        self.wait_until_it_answers();
    }

    fn administration(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mysql",
        }
    }

    fn settings(&self, database: &str) -> ServerSettings {
        let (scheme, socket) = match self.kind {
            Kind::Postgres => ("postgres", self.directory.path().to_owned()),
            Kind::MariaDb => ("mysql", self.directory.path().join("socket")),
        };
        let socket = socket.display().to_string().replace('/', "%2F");
        let url = format!("{scheme}://tandem:{PASSWORD}@{socket}/{database}");
        ServerSettings {
            url: ServerUrl::parse(&url).expect("it is right"),
            password: None,
            tls: Tls::Auto,
            authorities: None,
            deadline: Duration::from_secs(10),
            realm: None,
            location: None,
        }
    }

    fn sql(&self, database: &str, sql: &str) {
        self.try_sql(database, sql).expect("the server does it");
    }

    fn try_sql(&self, database: &str, sql: &str) -> Result<(), String> {
        use crate::server::{fault::explain, session::reach};
        let settings = self.settings(database);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
        runtime.block_on(async {
            let mut reached = reach(&settings).await.map_err(|error| error.to_string())?;
            for statement in sql.split(";\n").filter(|statement| !statement.trim().is_empty()) {
                reached.link.plain(statement).await.map_err(|error| explain(&error))?;
            }
            Ok(())
        })
    }

    fn wait_until_it_answers(&self) {
        let end = Instant::now() + START_TIME_MAX;
        let select = "SELECT 1";
        while let Err(error) = self.try_sql(self.administration(), select) {
            assert!(Instant::now() < end, "{:?} does not start: {error}\n{}", self.kind, self.log());
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            // Children of the one that was killed hold its memory for a moment, and then it ends at once.
            if process.try_wait().expect("it is ours").is_some() {
                let program = program(self.kind).expect("it was there");
                *process = run(self.kind, &program, self.directory.path());
            }
            drop(process);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have been killed.
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn program(kind: Kind) -> Option<PathBuf> {
    let (name, folders): (_, &[&str]) = match kind {
        Kind::Postgres => ("postgres", &["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin"]),
        Kind::MariaDb => ("mariadbd", &["/usr/sbin", "/usr/bin"]),
    };
    folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Makes the files of a server, and the user `tandem`.
fn prepare(kind: Kind, program: &Path, directory: &Path) {
    let data = directory.join("data");
    let init = directory.join("init");
    let mut command = match kind {
        Kind::Postgres => {
            std::fs::write(&init, PASSWORD).expect("there is room");
            let mut command = as_nobody(&program.with_file_name("initdb"));
            command.arg("-D").arg(&data).arg("--pwfile").arg(&init);
            command.args(["-U", "tandem", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
            command
        }
        Kind::MariaDb => {
            let grant = format!(
                "CREATE USER tandem@localhost IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO tandem@localhost;\n"
            );
            std::fs::write(&init, grant).expect("there is room");
            let mut command = as_nobody(Path::new("/usr/bin/mariadb-install-db"));
            command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
            command.args(["--skip-test-db", "--auth-root-authentication-method=normal", "--skip-log-bin"]);
            command
        }
    };
    let output = command.current_dir(directory).env("TMPDIR", directory).output().expect("it can be run");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run(kind: Kind, program: &Path, directory: &Path) -> Child {
    let data = directory.join("data");
    let mut command = as_nobody(program);
    match kind {
        Kind::Postgres => {
            command.arg("-D").arg(&data).arg("-k").arg(directory);
            command.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"]);
        }
        Kind::MariaDb => {
            command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
            command.arg(format!("--socket={}", directory.join("socket").display()));
            command.arg("--skip-networking").arg("--innodb-flush-log-at-trx-commit=2");
            command.arg("--innodb-buffer-pool-size=16M").arg("--pid-file=pid");
            let made = directory.join("made");
            if !made.exists() {
                std::fs::write(&made, "").expect("there is room");
                command.arg(format!("--init-file={}", directory.join("init").display()));
            }
        }
    }
    let log = std::fs::File::options().create(true).append(true).open(directory.join("log"));
    let log = log.expect("there is room");
    let both = log.try_clone().expect("it is open");
    // A MariaDB that starts clears a folder that it shares of the tables of others.
    command.current_dir(directory).env("TMPDIR", directory);
    command.stdin(Stdio::null()).stdout(log).stderr(both);
    command.spawn().expect("it can be run")
}

fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let (user, group) = NOBODY;
    command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
