//! The row of the third vote on real servers: what is written over it, and what never is.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use store::{Durability, LeaseRow, Outcome, RowChange, ServerSettings, ServerUrl, Tls, init_lease};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_row_of_a_witness_in_postgresql_is_written_only_over_what_was_read",
        run: |lab| written_over_what_was_read(lab, Product::Postgres),
    },
    Scenario {
        name: "a_row_of_a_witness_in_mariadb_is_written_only_over_what_was_read",
        run: |lab| written_over_what_was_read(lab, Product::MariaDb),
    },
];

const PATIENCE: Duration = Duration::from_millis(500);
/// Whoever waits for more than a lock does.
const TIME_MAX: Duration = Duration::from_secs(20);
/// What the operator is told when the table was not made.
const NO_TABLE: &str = "has no table tandem_lease: run `tandem database init`";

/// A node's connection.
struct Node<'r> {
    runtime: &'r Runtime,
    row: LeaseRow,
}

impl<'r> Node<'r> {
    fn new(runtime: &'r Runtime, settings: &ServerSettings, name: &str) -> Node<'r> {
        Node { runtime, row: LeaseRow::new(settings.clone(), name, PATIENCE) }
    }

    fn read(&mut self) -> Result<(Option<String>, u64)> {
        let seen = self.runtime.block_on(async { timeout(TIME_MAX, self.row.read()).await });
        let seen = seen.context("a read did not end")?.map_err(|error| {
            self.row.disconnect();
            anyhow::anyhow!("{}", error.reason)
        })?;
        Ok((seen.text, seen.history))
    }

    fn write(&mut self, before: Option<&str>, history: u64, after: &str) -> Result<Outcome> {
        self.write_as(before, history, after, Durability::Durable)
    }

    fn write_as(
        &mut self,
        before: Option<&str>,
        history: u64,
        after: &str,
        durability: Durability,
    ) -> Result<Outcome> {
        let change = RowChange { before, history, after, durability };
        let written = self.runtime.block_on(async { timeout(TIME_MAX, self.row.write(change)).await });
        written.context("a write did not end")?.map_err(|error| {
            self.row.disconnect();
            anyhow::anyhow!("{}", error.reason)
        })
    }

    fn remarks(&mut self) -> Result<String> {
        let remarks = self.runtime.block_on(async { timeout(TIME_MAX, self.row.remarks()).await });
        Ok(remarks
            .context("it did not end")?
            .map_err(|error| anyhow::anyhow!("{}", error.reason))?
            .join("\n"))
    }
}

fn written_over_what_was_read(lab: &Lab, product: Product) -> Result<()> {
    let mut server = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    let url = ServerUrl::parse(&server.socket_url()).map_err(|bad| anyhow::anyhow!("{bad:?}"))?;
    let settings = ServerSettings {
        url,
        password: None,
        tls: Tls::Auto,
        authorities: None,
        deadline: TIME_MAX,
        realm: None,
        location: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut a = Node::new(&runtime, &settings, "one");
    let mut b = Node::new(&runtime, &settings, "one");
    let mut stranger = Node::new(&runtime, &settings, "two");

    refused(a.read(), NO_TABLE)?;
    init_lease(&settings)?;
    ensure!(init_lease(&settings)?.is_empty(), "the table was made twice");

    // Two that find nothing: one of them makes the row, also where another cluster has one.
    let (found, history) = a.read()?;
    ensure!(found.is_none(), "an empty table has a row");
    let (_, of_stranger) = stranger.read()?;
    ensure!(stranger.write(None, of_stranger, "other")? == Outcome::Done, "the first row is not written");
    let (_, of_b) = b.read()?;
    ensure!(a.write(None, history, "1")? == Outcome::Done, "the first row is not written");
    ensure!(b.write(None, of_b, "x")? == Outcome::Lost, "a row was written where one was");

    // Whoever has seen the row as it is writes it, and nobody else.
    for durability in [Durability::Renewal, Durability::Durable] {
        let (Some(text), of_b) = b.read()? else { bail!("the row is gone") };
        let next = format!("{text}1");
        let written = a.write_as(Some(&text), history, &next, durability)?;
        ensure!(written == Outcome::Done, "what was read is not written over");
        ensure!(b.write(Some(&text), of_b, "x")? == Outcome::Lost, "it was written over another text");
        ensure!(b.write(Some("X"), of_b, "x")? == Outcome::Lost, "it was written over any text");
        ensure!(b.read()?.0 == Some(next), "another text is there than was written");
    }
    ensure!(stranger.read()?.0.as_deref() == Some("other"), "the row of another cluster was written");

    locked(&server, product, &mut a)?;
    read_only(&server, product, &mut a, &mut b)?;
    let told = a.remarks()?;
    let expected = match product {
        Product::Postgres => "fsync is off",
        Product::MariaDb => "innodb_flush_log_at_trx_commit is not 1",
    };
    ensure!(told.contains(expected) && !told.contains("denied"), "the remarks are: {told}");

    // Who answers after a restart is another one, and what was meant for the one before is written by neither.
    let (text, history) = a.read()?;
    server.kill()?;
    ensure!(a.read().is_err(), "a server that is dead shows its row");
    server.start_again()?;
    let (after, anew) = a.read()?;
    ensure!(after == text, "the row is not kept");
    ensure!(anew != history, "after a restart it has the same history");
    ensure!(a.write(text.as_deref(), history, "x").is_err(), "it was written for the server of before");
    ensure!(a.read()?.0 == text, "it was written");
    Ok(())
}

/// Somebody has the row locked in an open transaction: a write is given up, and what was given up is not done later.
fn locked(server: &DatabaseServer, product: Product, node: &mut Node<'_>) -> Result<()> {
    let (text, history) = node.read()?;
    let (lock, wait) = match product {
        Product::Postgres => ("BEGIN; SELECT 1 FROM tandem_lease FOR UPDATE", "SELECT pg_sleep(5); COMMIT"),
        Product::MariaDb => ("BEGIN; SELECT 1 FROM tandem_lease FOR UPDATE", "SELECT SLEEP(5); COMMIT"),
    };
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| server.sql(&format!("{lock}; {wait}")));
        // Until the lock is held a write is one more text.
        let mut text = text;
        let refused = process::wait_until("a write that the lock keeps out", TIME_MAX, || {
            let next = format!("{}2", text.clone().unwrap_or_default());
            match node.write(text.as_deref(), history, &next) {
                Ok(Outcome::Done) => {
                    text = Some(next);
                    Ok(None)
                }
                Ok(Outcome::Lost) => bail!("nobody else writes"),
                Err(error) => Ok(Some(error)),
            }
        })?;
        ensure!(!holder.is_finished(), "it waited for whoever has the lock: {refused:#}");
        holder.join().map_err(|_| anyhow::anyhow!("the thread died"))??;
        ensure!(node.read()?.0 == text, "what was given up was written later");
        Ok(())
    })
}

/// A server that became a replica is told from one that has a row, by reading, and by a write of whoever has read before.
fn read_only(server: &DatabaseServer, product: Product, a: &mut Node<'_>, b: &mut Node<'_>) -> Result<()> {
    let (text, history) = a.read()?;
    match product {
        Product::Postgres => {
            server.sql("ALTER DATABASE tandem SET default_transaction_read_only = on")?;
            // A setting of the database holds for connections that come later; a promotion cuts all of them.
            b.row.disconnect();
        }
        Product::MariaDb => {
            server.sql("SET GLOBAL read_only = 1")?;
            let written = a.write(text.as_deref(), history, "x");
            ensure!(!matches!(written, Ok(Outcome::Done)), "a server that is read only was written");
        }
    }
    refused(b.read(), "it can only be read: name the primary")?;
    match product {
        Product::Postgres => server
            .sql("BEGIN READ WRITE; ALTER DATABASE tandem RESET default_transaction_read_only; COMMIT")?,
        Product::MariaDb => server.sql("SET GLOBAL read_only = 0")?,
    };
    ensure!(b.read()?.0 == text, "it was written");
    Ok(())
}

fn refused<T>(result: Result<T>, words: &str) -> Result<()> {
    match result {
        Ok(_) => bail!("it was not refused with `{words}`"),
        Err(error) => ensure!(format!("{error:#}").contains(words), "it was refused otherwise: {error:#}"),
    }
    Ok(())
}
