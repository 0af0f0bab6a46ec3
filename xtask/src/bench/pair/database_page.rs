//! The page `bench/DATABASE.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::database::{Kind, Mode};
use super::kept::Kept;
use super::page::{quiet, text};
use super::work::Work;
use crate::bench::load::OUTSTANDING;
use crate::bench::report::{machine, spread};

/// What we mean to reach, as a part of what Kamailio takes that writes before it answers.
const TARGET: f64 = 0.25;

/// The whole page but for what a person wrote.
pub fn page(kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench database --runs {runs}");
    let mut page = format!(
        "# With a database, measured\n\n\
         Written by `{command}`. The median of the runs, in brackets the least and the most.\n\n\
         Processor time for each REGISTER with a challenge (401, then 200) of 10,000 accounts that are registered, in microseconds, \
         kernel\nincluded:\n\n\
         | | of the server | of the database | registrations a second | answered after, ms |\n|---|---|---|---|---|\n"
    );
    for kind in Kind::ALL {
        let of = |name: &str, digits| text(kept.numbers(Work::Database(kind), name), digits);
        let rates = kept.numbers(Work::Database(kind), "a_second");
        let times = rates.iter().map(|a_second| OUTSTANDING as f64 * 1e3 / a_second).collect();
        let (rate, time) = (of("a_second", 0), text(times, 1));
        writeln!(page, "| {} | {} | {} | {rate} | {time} |", kind.name(), of("us", 1), of("database_us", 1))?;
    }
    let median = |kind, name: &str| spread(kept.numbers(Work::Database(kind), name)).map(|it| it.0);
    let through = Kind::Kamailio(Mode::WriteThrough);
    if let (Some(ours), Some(theirs)) = (median(Kind::Tandem, "us"), median(through, "us")) {
        writeln!(
            page,
            "\nTandem to Kamailio with `db_mode` 1: **{:.2}**; to reach: at most {TARGET}.",
            ours / theirs
        )?;
    }
    let ours = |name| text(kept.numbers(Work::Database(Kind::Tandem), name), 1);
    writeln!(
        page,
        "\nThen, without a REGISTER, Tandem takes {} ms of processor time each second, and the database {} ms: it looks at accounts that \
         it\nknows again, whatever phones do. That is in the figures above, for as long as it had bindings to write.",
        ours("rest_ms"),
        ours("database_rest_ms"),
    )?;
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: a lab of network namespaces on one host. The server has one core (of Tandem the active node's engine counts, with \
         `threads = 1`);\nthe load (`crates/net/examples/load`, a closed loop of {OUTSTANDING} exchanges), the database and Tandem's \
         other node share the\nother one. PostgreSQL has `fsync = off`, so that the disk of this host is no part of it: with a real one \
         whoever writes\nbefore the answer waits longer. All use Kamailio's tables. Kamailio has 8 workers, `-x fm`, and asks the \
         database for each\npassword; Tandem knows accounts that were used before. What is put off (`db_mode` 2, Tandem) is waited \
         for and counts.\nEach account registers five times in half a minute or less, and who puts off writes what it is by then, so less often \
         than that.\n\n{}\n\n| | |\n|---|---|\n",
        quiet(kept, &Work::OF_DATABASE)
    )?;
    for (what, value) in machine(binary, &command)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}
