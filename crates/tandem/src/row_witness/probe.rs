//! `tandem check` looks at the servers of the witness's row: each is asked once, and nothing is written.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::timeout;

use super::CONNECT_MAX;
use super::server::{Server, Trouble};
use crate::config::cluster::RowWitness;

/// What is told of the servers.
pub struct Probed {
    /// One line for each.
    pub lines: Vec<String>,
    /// What an operator should look at.
    pub remarks: Vec<String>,
}

/// Asks each server how it is. An error is one of what is configured.
pub fn probe(row: &RowWitness, name: &str, lease: Duration) -> Result<Probed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut probed = Probed { lines: Vec::new(), remarks: Vec::new() };
    for (place, alone) in each(row).iter().enumerate() {
        let mut server = Server::new(alone, name, lease)?;
        runtime.block_on(look(&mut server, row, lease, place == 0, &mut probed));
    }
    Ok(probed)
}

/// The servers, each of them in turn as the first; of a database only the primary can be asked.
fn each(row: &RowWitness) -> Vec<RowWitness> {
    match row {
        RowWitness::Etcd(etcd) => (0..etcd.servers.len())
            .map(|place| {
                let mut alone = etcd.clone();
                alone.servers.swap(0, place);
                RowWitness::Etcd(alone)
            })
            .collect(),
        RowWitness::Database(_) => vec![row.clone()],
    }
}

async fn look(server: &mut Server, row: &RowWitness, lease: Duration, is_first: bool, probed: &mut Probed) {
    // The first one connects, and the second one is how long it takes from then on.
    let mut seen = asked(server).await;
    let (kind, address) = (row.name(), server.address());
    let begun = Instant::now();
    if seen.is_ok() {
        seen = asked(server).await;
    }
    let took = begun.elapsed();
    match seen {
        Ok(seen) => {
            let epoch = seen.row.map(|row| row.record.highest().0);
            let row =
                epoch.map_or("has no row yet".to_owned(), |epoch| format!("has the row, epoch {epoch}"));
            let took_ms = took.as_secs_f64() * 1e3;
            probed.lines.push(format!("{kind} at {address} {row}, and answers in {took_ms:.1} ms"));
            if took > lease / 5 {
                probed.remarks.push(format!(
                    "{kind} at {address} took {took_ms:.0} ms: with more than a fifth of the lease its vote comes late; let the \
                     lease be longer"
                ));
            }
            if is_first {
                let remarks = timeout(CONNECT_MAX, server.remarks()).await;
                probed.remarks.extend(remarks.unwrap_or_else(|_| vec![Trouble::silent(CONNECT_MAX).0]));
            }
        }
        Err(Trouble(trouble)) => {
            probed.lines.push(format!("{kind} at {address} DOES NOT ANSWER"));
            probed.remarks.push(format!("{kind} at {address}: {trouble}"));
        }
    }
}

async fn asked(server: &mut Server) -> Result<cluster::row::Seen, Trouble> {
    timeout(CONNECT_MAX, server.read()).await.unwrap_or_else(|_| Err(Trouble::silent(CONNECT_MAX)))
}
