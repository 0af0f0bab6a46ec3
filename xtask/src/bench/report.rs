//! The page `bench/RESULTS.md`: what was measured, how, and on which machine.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::contestant::Kind;
use super::load::{Cost, OUTSTANDING};
use super::row::{ACCOUNTS, BINDINGS, Row};
use crate::process;

/// What all runs of one row with one server cost, in the order in which they were made.
pub type Measured = BTreeMap<(Row, Kind), Vec<Cost>>;

/// What DESIGN asks for, as a part of Kamailio's best.
fn target(row: Row) -> Option<f64> {
    match row {
        Row::Refresh | Row::Challenge | Row::Reuse | Row::RefreshMany => Some(0.5),
        Row::Call | Row::CallMany => Some(0.45),
        _ => None,
    }
}

/// The whole page but for what a person wrote below [`EXPLAINED`].
pub fn page(
    measured: &Measured,
    failures: &[String],
    runs: usize,
    binary: &Path,
    command: &str,
) -> Result<String> {
    let mut page = format!(
        "# Processor time, measured\n\n\
         Written by `{command}`. Microseconds of processor time of the server for each\n\
         registration or call, kernel and all threads included: the median of the runs, in brackets the least and the\n\
         most.\n\n"
    );
    page.push_str(&times(measured));
    page.push_str("\nHow many a second, with the server on one core and the load on the other (median):\n\n");
    page.push_str(&rates(measured));
    page.push_str("\nMemory, in bytes, that the server's processes grew by (median):\n\n");
    page.push_str(&memory(measured));
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: all servers in turn, {runs} runs of each (3 with a million bindings), each run with a freshly started\n\
         server. The server has one core, the load (`crates/net/examples/load`) the other; one host, loopback,\n\
         UDP. The load is a closed loop with {OUTSTANDING} exchanges under way, so the server is never idle and takes\n\
         what waits in batches; each answer is looked at. Registrations go round all users, {BINDINGS} of them ({ACCOUNTS} with\n\
         digest), so each binding is refreshed once in a run, and the time counts until the server is at rest\n\
         again: what it writes behind is its work too. Digest is MD5. A call is 13 datagrams through Record-Route,\n\
         its caller needs no digest. The ratio is to the better of Kamailio's two.\n\n\
         Kamailio has `bench/kamailio.cfg`: everything in memory, no database. Tandem has its defaults but for\n\
         `algorithms = [\"MD5\"]` and `threads = 1`, and writes every binding to its database, in memory as all\n\
         state of a run is. The floor is `bench/floor/floor.c`: it receives and sends the same datagrams and reads\n\
         none of them.\n\n"
    )?;
    page.push_str("| | |\n|---|---|\n");
    for (what, value) in machine(binary, command)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

/// What stands below this line is kept when the page is written anew.
pub const EXPLAINED: &str = "## What the figures mean";

/// What a person wrote about earlier figures.
pub fn explanation(old: &str) -> &str {
    old.find(EXPLAINED).map_or("", |start| &old[start..])
}

fn times(measured: &Measured) -> String {
    let mut table = String::from("| what |");
    for kind in Kind::ALL {
        table += &format!(" {} |", kind.name());
    }
    table += " ratio | to reach |\n|---|---|---|---|---|---|---|\n";
    for row in rows(measured) {
        table += &format!("| {} |", row.name());
        for kind in Kind::ALL {
            let times = values(measured, row, kind, |cost| cost.microseconds);
            table += &match spread(times) {
                Some((median, least, most)) => format!(" {median:.1} ({least:.1} – {most:.1}) |"),
                None => " – |".to_owned(),
            };
        }
        let ratio = ratio(measured, row).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let target = target(row).map_or("–".to_owned(), |target| format!("{target:.2}"));
        table += &format!(" {ratio} | {target} |\n");
    }
    table
}

fn rates(measured: &Measured) -> String {
    let mut table = String::from("| what |");
    for kind in Kind::ALL {
        table += &format!(" {} |", kind.name());
    }
    table += "\n|---|---|---|---|---|\n";
    for row in rows(measured) {
        table += &format!("| {} |", row.name());
        for kind in Kind::ALL {
            let rates = values(measured, row, kind, |cost| cost.a_second);
            table += &spread(rates).map_or(" – |".to_owned(), |(median, ..)| format!(" {median:.0} |"));
        }
        table.push('\n');
    }
    table
}

fn memory(measured: &Measured) -> String {
    let mut table =
        String::from("| what | Kamailio -x fm | Kamailio -x tlsf | Tandem |\n|---|---|---|---|\n");
    let rows = [
        (Row::Memory, "each of 100 thousand bindings"),
        (Row::FirstLarge, "each of a million bindings"),
        (Row::Call, "each call whose transactions are still kept (4 of them)"),
    ];
    for (row, name) in rows.into_iter().filter(|(row, _)| is_measured(measured, *row)) {
        table += &format!("| {name} |");
        for kind in [Kind::KamailioFm, Kind::KamailioTlsf, Kind::Tandem] {
            let bytes = values(measured, row, kind, |cost| cost.bytes);
            table += &spread(bytes).map_or(" – |".to_owned(), |(median, ..)| format!(" {median:.0} |"));
        }
        table.push('\n');
    }
    table
}

/// The rows of the tables of times.
fn rows(measured: &Measured) -> impl Iterator<Item = Row> {
    Row::ALL.into_iter().filter(|row| *row != Row::Memory && is_measured(measured, *row))
}

fn is_measured(measured: &Measured, row: Row) -> bool {
    Kind::ALL.into_iter().any(|kind| measured.contains_key(&(row, kind)))
}

fn values(measured: &Measured, row: Row, kind: Kind, of: impl Fn(&Cost) -> f64) -> Vec<f64> {
    measured.get(&(row, kind)).map_or_else(Vec::new, |costs| costs.iter().map(of).collect())
}

/// Ours to the better of Kamailio's two.
fn ratio(measured: &Measured, row: Row) -> Option<f64> {
    let median = |kind| spread(values(measured, row, kind, |cost| cost.microseconds)).map(|it| it.0);
    let peer = [Kind::KamailioFm, Kind::KamailioTlsf].into_iter().filter_map(median).reduce(f64::min)?;
    Some(median(Kind::Tandem)? / peer)
}

/// The median, the least and the most.
pub fn spread(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = match values.len() {
        0 => return None,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    };
    Some((median, values[0], values[values.len() - 1]))
}

/// The machine and the programs, for the end of a page.
pub fn machine(binary: &Path, command: &str) -> Result<Vec<(&'static str, String)>> {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once([':', '=']).map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let said = |command: &mut Command| -> String {
        let text = process::output(command).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    let unknown = || "unknown".to_owned();
    let cores = std::thread::available_parallelism()?.get();
    let date = said(Command::new("date").args(["-u", "+%Y-%m-%d"]));
    let ours = said(Command::new(binary).arg("--version"));
    Ok(vec![
        ("date", date),
        ("load of the machine at the end", first_words("/proc/loadavg", 3)),
        ("processor", first("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("cores", cores.to_string()),
        ("memory", first("/proc/meminfo", "MemTotal").unwrap_or_else(unknown)),
        ("system", first("/etc/os-release", "PRETTY_NAME").unwrap_or_else(unknown)),
        ("kernel", said(Command::new("uname").arg("-r"))),
        ("Tandem", ours),
        ("Kamailio", said(Command::new("kamailio").arg("-v"))),
        ("command", format!("`{command}`")),
    ])
}

fn first_words(path: &str, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

/// Which rtpengine it is.
pub fn rtpengine_version() -> String {
    // It says this to standard error.
    let said =
        Command::new("rtpengine").arg("--version").output().map(|said| [said.stdout, said.stderr].concat());
    process::tail(String::from_utf8_lossy(&said.unwrap_or_default()).trim(), 1).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_median_the_spread_and_the_ratio_to_the_better_peer() {
        let measured = Measured::from([
            ((Row::Refresh, Kind::KamailioFm), costs(&[30.0, 34.0, 32.0])),
            ((Row::Refresh, Kind::KamailioTlsf), costs(&[40.0])),
            ((Row::Refresh, Kind::Tandem), costs(&[16.0, 15.0])),
        ]);

        let table = times(&measured);

        let line = "| REGISTER, refresh, no digest | – | 32.0 (30.0 – 34.0) | 40.0 (40.0 – 40.0) | \
                    15.5 (15.0 – 16.0) | 0.48 | 0.50 |";
        assert_eq!(table.lines().nth(2), Some(line));
        assert_eq!(table.lines().count(), 3);
    }

    #[test]
    fn what_a_person_wrote_outlives_new_figures() {
        assert_eq!(
            explanation("figures\n## What the figures mean\nmuch\n"),
            "## What the figures mean\nmuch\n"
        );
        assert_eq!(explanation("figures\n"), "");
    }

    fn costs(microseconds: &[f64]) -> Vec<Cost> {
        let cost = |&microseconds: &f64| Cost { microseconds, a_second: 1.0, bytes: 1.0 };
        microseconds.iter().map(cost).collect()
    }
}
