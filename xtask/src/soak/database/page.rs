//! What the soak has shown: the verdict, and the page that is kept.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::Options;
use super::record::{Life, Record};
use crate::bench::machine;
use crate::database_server::Product;

/// Whether each row was there once, in all lives.
pub fn is_good(lives: &[Life], failures: &[String]) -> bool {
    failures.is_empty() && !lives.is_empty() && lives.iter().all(|life| life.faults.is_empty())
}

/// The whole page.
pub fn page(record: &Record, options: &Options, binary: &Path) -> Result<String> {
    let lives = record.lives();
    let sum = |value: fn(&Life) -> u64| lives.iter().map(value).sum::<u64>();
    let seconds: f64 = lives.iter().map(|life| life.took.as_secs_f64()).sum();
    let a_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let product = match options.product {
        Product::Postgres => "PostgreSQL, which has a synchronous replica",
        Product::MariaDb => "MariaDB",
    };
    let mut page = format!(
        "# A pair whose database is in trouble\n\nWritten by `cargo xtask soak database`. Two nodes and a witness in network \
         namespaces; accounts, the table\n`location` (`\"own\"`) and the records of calls are in a {product}. Phones \
         register, refresh and leave by digest,\nand calls ring, talk, are cancelled and fork, all the time. The database gets \
         into each trouble for its share\nof the time, and in the middle of each the other node becomes active. Afterwards every \
         binding that was\nacknowledged and is valid must be in `location` once and nothing else, and every call in `tandem_cdr` once, and\nin \
         `acc` or `missed_calls`.\n\n"
    );
    let word = if is_good(lives, record.failures()) { "Each row was there once." } else { "Failed." };
    writeln!(
        page,
        "**{word}** {} lives of a pair, {} rows wrong, {} lives that did not come to their end.\n",
        lives.len(),
        lives.iter().map(|life| life.faults.len()).sum::<usize>(),
        record.failures().len()
    )?;
    writeln!(page, "| | |\n|---|---|")?;
    for (what, value) in [
        ("time", format!("{seconds:.0} s")),
        (
            "REGISTERs answered with 200",
            format!(
                "{}, {:.0} a second of {} wanted",
                sum(|life| life.registers),
                a_second(sum(|life| life.registers)),
                options.registers
            ),
        ),
        (
            "calls begun",
            format!(
                "{}, {:.0} a second of {} wanted",
                sum(|life| life.calls),
                a_second(sum(|life| life.calls)),
                options.calls
            ),
        ),
        ("calls that did not go as scripted", sum(|life| life.hurt).to_string()),
        ("rows of bindings at the end", sum(|life| life.bindings).to_string()),
        ("rows of calls at the end", sum(|life| life.records).to_string()),
        (
            "calls without a record at any node, which a killed node may take with it (docs/records.md)",
            sum(|life| life.unrecorded.len() as u64).to_string(),
        ),
    ] {
        writeln!(page, "| {what} | {value} |")?;
    }
    page.push_str(
        "\n| the database was | for, s | meanwhile | bindings owed at most | records owed at most | all written after, s |\n\
         |---|---|---|---|---|---|\n",
    );
    for outage in lives.iter().flat_map(|life| &life.outages) {
        let itself = if outage.ended_itself > 0 { ", and ended itself" } else { "" };
        writeln!(
            page,
            "| {}{itself} | {:.0} | {} | {} | {} | {:.1} |",
            outage.trouble.name(),
            outage.outage.as_secs_f64(),
            outage.trouble.change().name(),
            outage.bindings,
            outage.calls,
            outage.written_after.as_secs_f64()
        )?;
    }
    for life in lives {
        for fault in &life.faults {
            writeln!(page, "\nWrong in life {}: {fault}", life.number)?;
        }
        for id in &life.unrecorded {
            writeln!(page, "\nWithout a record in life {}: {id}", life.number)?;
        }
    }
    for failure in record.failures() {
        writeln!(page, "\nNot to its end: {failure}")?;
    }
    page.push_str("\n| | |\n|---|---|\n");
    for (what, value) in machine(binary, &options.command())?.into_iter().filter(|it| it.0 != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::life;
    use super::*;

    #[test]
    fn one_wrong_row_or_one_life_without_an_end_is_a_failure() {
        let bad = Life { faults: vec!["user7".to_owned()], ..life() };

        assert!(is_good(&[life()], &[]));
        assert!(!is_good(&[life(), bad], &[]));
        assert!(!is_good(&[life()], &["life 2: no end".to_owned()]));
        assert!(!is_good(&[], &[]), "nothing was done");
    }
}
