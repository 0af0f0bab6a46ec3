//! PostgreSQL and MariaDB of Debian on a host of the lab: with a database and a user `tandem`, in files of their own.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::{Host, Lab};
use crate::process::{self, Running, tree};
use crate::server::PASSWORD;

/// A user of every Debian, because a database server does not run as root.
const NOBODY: u32 = 65_534;
/// How long a start may take on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(120);
/// The database, and the user that owns it.
const NAME: &str = "tandem";
/// A disk of a server's own: several times what its files take.
const DISK_BYTES: u64 = 1 << 30;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// PostgreSQL 15.
    Postgres,
    /// MariaDB 10.11.
    MariaDb,
}

impl Product {
    /// What a URL begins with.
    pub fn scheme(self) -> &'static str {
        match self {
            Product::Postgres => "postgres",
            Product::MariaDb => "mysql",
        }
    }
}

/// Where the files of a server are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// With those of others.
    Shared,
    /// On a disk of their own, which can be filled.
    Own,
}

/// A database server; it runs or is stopped.
#[derive(Debug)]
pub struct DatabaseServer {
    product: Product,
    host: Host,
    directory: PathBuf,
    log: PathBuf,
    disk: Disk,
    running: Option<Running>,
}

impl DatabaseServer {
    /// Makes its files, starts it on a host, and makes the empty database.
    pub fn start(lab: &Lab, host: &Host, product: Product) -> Result<DatabaseServer> {
        DatabaseServer::start_on(lab, host, product, Disk::Shared)
    }

    /// As [`DatabaseServer::start`], on a disk of its own if so wanted.
    pub fn start_on(lab: &Lab, host: &Host, product: Product, disk: Disk) -> Result<DatabaseServer> {
        // Not in the folder of the logs, which may be closed to others than root; the lab's `/run` goes with it.
        let directory = PathBuf::from(format!("/run/database-{}", host.name));
        fs::create_dir_all(&directory)?;
        if disk == Disk::Own {
            let size = format!("size={DISK_BYTES}");
            process::quietly(
                Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&directory),
            )?;
        }
        chown(&directory, Some(NOBODY), Some(NOBODY))?;
        let log = lab.dir.join(format!("database-{}.log", host.name));
        let mut server = DatabaseServer { product, host: host.clone(), directory, log, disk, running: None };
        server.make_files()?;
        server.start_again()?;
        server.sql_in(server.administration(), &format!("CREATE DATABASE {NAME}"))?;
        Ok(server)
    }

    /// Where it is, for `database.url`.
    pub fn url(&self) -> String {
        self.url_of(&format!("{NAME}:{PASSWORD}"))
    }

    /// The same, for who keeps the password elsewhere.
    pub fn url_without_password(&self) -> String {
        self.url_of(NAME)
    }

    fn url_of(&self, user: &str) -> String {
        let scheme = self.product.scheme();
        format!("{scheme}://{user}@{}/{NAME}", self.address())
    }

    /// Where it is for a program that is outside of the lab's network.
    pub fn socket_url(&self) -> String {
        let (scheme, path) = match self.product {
            Product::Postgres => ("postgres", self.directory.clone()),
            Product::MariaDb => ("mysql", self.socket()),
        };
        let path = path.display().to_string().replace('/', "%2F");
        format!("{scheme}://{NAME}:{PASSWORD}@{path}/{NAME}")
    }

    /// Its first process.
    pub fn id(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("it does not run")?.id())
    }

    /// Where it takes connections.
    pub fn address(&self) -> SocketAddr {
        let port = match self.product {
            Product::Postgres => 5432,
            Product::MariaDb => 3306,
        };
        (self.host.v4, port).into()
    }

    /// Starts a hot standby of this PostgreSQL on another host. From here on the one commits what the other has.
    pub fn replica(&self, lab: &Lab, host: &Host) -> Result<DatabaseServer> {
        ensure!(self.product == Product::Postgres, "only PostgreSQL");
        let directory = PathBuf::from(format!("/run/database-{}", host.name));
        fs::create_dir_all(&directory)?;
        chown(&directory, Some(NOBODY), Some(NOBODY))?;
        let mut command = self.as_nobody(&self.program()?.with_file_name("pg_basebackup"));
        command.env("PGPASSWORD", PASSWORD).arg("-h").arg(&self.directory).args(["-U", NAME, "-R", "-N"]);
        command.args(["-c", "fast", "-D"]).arg(directory.join("data")).current_dir(&directory);
        process::quietly(&mut command)?;
        let log = lab.dir.join(format!("database-{}.log", host.name));
        let (product, host) = (self.product, host.clone());
        let mut replica = DatabaseServer { product, host, directory, log, disk: Disk::Shared, running: None };
        replica.start_again()?;
        for text in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            self.sql(text)?;
        }
        process::wait_until("a replica that follows", START_TIME_MAX, || {
            Ok(self
                .sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'")?
                .contains('1')
                .then_some(()))
        })?;
        Ok(replica)
    }

    /// Makes a replica the primary.
    pub fn promote(&self) -> Result<()> {
        self.sql_in(self.administration(), "SELECT pg_promote()").map(drop)
    }

    /// Does what SQL says in the database; the rows of a query, with a tab between columns.
    pub fn sql(&self, text: &str) -> Result<String> {
        self.sql_in(NAME, text)
    }

    /// Does what a file of Kamailio's package says.
    pub fn kamailio_file(&self, name: &str) -> Result<()> {
        let product = match self.product {
            Product::Postgres => "postgres",
            Product::MariaDb => "mysql",
        };
        let file = format!("/usr/share/kamailio/{product}/{name}-create.sql");
        let text = fs::read_to_string(&file).with_context(|| file.clone())?;
        self.sql(&text).map(drop)
    }

    /// From here on nothing that is sent to it arrives, and nobody is told so.
    pub fn cut_off(&self) -> Result<()> {
        self.host.cut_off()
    }

    /// Ends [`DatabaseServer::cut_off`].
    pub fn mend(&self) -> Result<()> {
        self.host.end_cut()
    }

    /// From here on there is no room on its disk.
    pub fn fill_disk(&self) -> Result<()> {
        ensure!(self.disk == Disk::Own, "the disk is that of others too");
        let mut filler = File::options().append(true).create(true).open(self.filler())?;
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Ends [`DatabaseServer::fill_disk`].
    pub fn make_room(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }

    /// Whether it was started, and not killed since.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it has not ended by itself.
    pub fn has_not_ended(&mut self) -> Result<bool> {
        self.running.as_mut().context("it does not run")?.is_running()
    }

    /// It hears and does not answer any more, or answers again.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let running = self.running.as_ref().context("it does not run")?;
        tree::signal(tree::of(running.id())?.into_keys(), signal)
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().context("it does not run")?.kill()?;
        // Its children end when they miss it, and until then another one does not start.
        let _ = fs::remove_file(self.directory.join("data/postmaster.pid"));
        Ok(())
    }

    /// Starts it, and waits until it serves.
    pub fn start_again(&mut self) -> Result<()> {
        self.running = Some(self.run()?);
        process::wait_until("a database server that serves", START_TIME_MAX, || {
            // Children of the one that was killed hold its memory for a moment, and then it ends at once.
            if !self.has_not_ended()? {
                self.running = Some(self.run()?);
            }
            Ok(self.sql_in(self.administration(), "SELECT 1").ok())
        })
        .with_context(|| process::tail(&process::read_lossy(&self.log), 20))?;
        Ok(())
    }

    fn run(&self) -> Result<Running> {
        let data = self.directory.join("data");
        let address = self.host.v4.to_string();
        let mut command = self.as_nobody(&self.program()?);
        match self.product {
            Product::Postgres => {
                command.arg("-D").arg(&data).arg("-k").arg(&self.directory).args(["-h", &address]);
                command.args(["-c", "fsync=off", "-c", "max_wal_size=128MB"]);
                // A replica that was away for a minute finds what it needs.
                command.args(["-c", "wal_keep_size=400MB"]);
                // A replica looks for its primary again so soon.
                command.args(["-c", "wal_retrieve_retry_interval=500ms"]);
            }
            Product::MariaDb => {
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", self.socket().display()));
                command.arg(format!("--bind-address={address}")).arg("--pid-file=pid");
                command.arg("--innodb-flush-log-at-trx-commit=2").arg("--innodb-buffer-pool-size=16M");
                command.arg(format!("--init-file={}", self.directory.join("init").display()));
            }
        }
        command.current_dir(&self.directory).env("TMPDIR", &self.directory);
        Running::start(&mut command, &self.log)
    }

    fn make_files(&self) -> Result<()> {
        let (data, init) = (self.directory.join("data"), self.directory.join("init"));
        let mut command = match self.product {
            Product::Postgres => {
                fs::write(&init, PASSWORD)?;
                let mut command = self.as_nobody(&self.program()?.with_file_name("initdb"));
                command.arg("-D").arg(&data).arg("--pwfile").arg(&init).args(["-U", NAME, "-E", "UTF8"]);
                command.args(["-A", "scram-sha-256", "--locale=C", "--no-sync"]);
                command
            }
            Product::MariaDb => {
                let users = ["localhost", "%"].map(|from| {
                    format!(
                        "CREATE USER IF NOT EXISTS {NAME}@'{from}' IDENTIFIED BY '{PASSWORD}';\n\
                         GRANT ALL ON *.* TO {NAME}@'{from}';\n"
                    )
                });
                fs::write(&init, users.concat())?;
                let mut command = self.as_nobody(Path::new("/usr/bin/mariadb-install-db"));
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.args([
                    "--skip-test-db",
                    "--auth-root-authentication-method=normal",
                    "--skip-log-bin",
                ]);
                command
            }
        };
        process::quietly(command.current_dir(&self.directory).env("TMPDIR", &self.directory))?;
        if self.product == Product::Postgres {
            let file = data.join("pg_hba.conf");
            let rules = fs::read_to_string(&file)?;
            fs::write(&file, format!("{rules}\nhost all all all scram-sha-256\n"))?;
        }
        Ok(())
    }

    fn sql_in(&self, database: &str, text: &str) -> Result<String> {
        let mut command = match self.product {
            Product::Postgres => {
                let mut command = self.host.command("psql");
                command
                    .env("PGPASSWORD", PASSWORD)
                    .arg("-h")
                    .arg(&self.directory)
                    .args(["-U", NAME, "-d", database]);
                command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", text]);
                command
            }
            Product::MariaDb => {
                let mut command = self.host.command("mariadb");
                command.arg("--no-defaults").arg("-S").arg(self.socket()).args(["-u", NAME]);
                command.arg(format!("-p{PASSWORD}")).args(["-N", "-B", "-D", database, "-e", text]);
                command
            }
        };
        process::output(&mut command)
    }

    fn administration(&self) -> &'static str {
        match self.product {
            Product::Postgres => "postgres",
            Product::MariaDb => "mysql",
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn program(&self) -> Result<PathBuf> {
        let (name, folders): (_, &[&str]) = match self.product {
            Product::Postgres => ("postgres", &["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin"]),
            Product::MariaDb => ("mariadbd", &["/usr/sbin", "/usr/bin"]),
        };
        let program = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let program = program.with_context(|| format!("{name} is not installed"))?;
        ensure!(program.is_absolute(), "it is named whole");
        Ok(program)
    }

    fn as_nobody(&self, program: &Path) -> Command {
        let mut command = self.host.command("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
        command.arg(program);
        command
    }
}
