//! The disk of the database server is full: phones do not notice, the operator is told what to do, and when there is room again
//! everything is in the tables, once.

use anyhow::{Result, ensure};

use crate::database_server::Product;
use crate::lab::Lab;
use crate::outage::{Load, Owed, Replica, Site};
use crate::process;
use crate::scenario::{MEASURED, Scenario};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_full_disk_of_postgresql_costs_no_binding_and_no_record",
        run: |lab| full(lab, Product::Postgres),
    },
    Scenario {
        name: "a_full_disk_of_mariadb_costs_no_binding_and_no_record",
        run: |lab| full(lab, Product::MariaDb),
    },
];

/// New ones come all the time, so that both tables have to grow.
const LOAD: Load = Load { product: Product::Postgres, phones: 5_000, registers: 100, calls: 20, seed: 1 };
/// So many calls, and answers to phones, between what happens.
const CALLS: u64 = 20;
const ANSWERS: usize = 50;
/// What the operator reads.
const WORDS: &str = "the server's disk is full; make room, and writing goes on by itself";

fn full(lab: &Lab, product: Product) -> Result<()> {
    let mut site = Site::start(lab, Load { product, ..LOAD }, Replica::None)?;
    site.registrants.set_pace(LOAD.registers);
    site.wait_for_service(CALLS, ANSWERS)?;

    site.database.fill_disk()?;
    let says = |error: &Option<String>| error.as_ref().is_some_and(|error| error.contains(WORDS));
    // A file of MariaDB grows by a megabyte, which bindings need longer for.
    let both = product == Product::Postgres;
    site.wait_for_owed("bindings and records that find no room", |owed: &Owed| {
        says(&owed.calls_error) && (says(&owed.bindings_error) || !both)
    })?;
    site.wait_for_service(CALLS, ANSWERS)?;
    let active = site.cluster.wait_until_whole(crate::outage::LIMIT)?;
    let told = process::output(&mut site.cluster.command(&site.pair, active, &["status"]))?;
    ensure!(told.matches(WORDS).count() >= if both { 2 } else { 1 }, "status does not say it: {told}");
    let owed = site.owed();
    site.database.make_room()?;

    let books = site.close()?;
    let faults = books.faults(0);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(books.refused() == 0, "{:?}: {}", books.registers, books.complaints.join("\n"));
    ensure!(books.calls.hurt() == 0, "{}: {}", books.calls, books.calls.complaints().join("\n"));
    println!(
        "{MEASURED}{} bindings and {} records were owed, {} and {} rows are there",
        owed.bindings, owed.calls, books.bindings, books.records
    );
    Ok(())
}
