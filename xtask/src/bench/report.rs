//! The table in `bench/RESULTS.md`.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::REPEATS;
use super::contestant::Kind;
use super::load::{ACCOUNTS, Work};
use crate::process;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Processor time per piece of work.
    pub microseconds: f64,
}

/// All runs of one work with one server.
#[derive(Clone, Debug)]
pub struct Series {
    /// The work.
    pub work: Work,
    /// The server.
    pub kind: Kind,
    /// In the order in which they were made.
    pub measurements: Vec<Measurement>,
}

impl Series {
    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.measurements.iter().map(|one| one.microseconds).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self) -> f64 {
        let values = self.sorted();
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        }
    }

    /// `12.3 (11.9 – 13.0)`
    fn text(&self) -> String {
        let values = self.sorted();
        let (Some(least), Some(most)) = (values.first(), values.last()) else {
            return "–".to_owned();
        };
        format!("{:.1} ({least:.1} – {most:.1})", self.median())
    }
}

/// The whole page.
pub fn page(series: &[Series], binary: &Path) -> Result<String> {
    let mut page = String::from(
        "# Processor time, measured\n\n\
         Written by `cargo xtask bench sip`. Microseconds of processor time of the server, kernel\n\
         included: the median of the runs, in brackets the least and the most.\n\n",
    );
    page.push_str(&table(series));
    let (registers, calls) = (Work::Register.size(), Work::Call.size());
    write!(
        page,
        "\nHow: both servers in turn, {REPEATS} runs of each, every run with a freshly started server.\n\
         The server has one core, SIPp another; all on one host over the loopback interface, UDP.\n\
         A run is {} registrations at {} a second, or {} calls at {} a second, over {ACCOUNTS}\n\
         accounts. A registration is two REGISTER, one 401 (MD5) and one 200. A call is 13 datagrams,\n\
         through Record-Route, and its caller needs no digest. A run in which more than one call of a\n\
         thousand fails, or as many messages are sent again, ends the whole.\n\n\
         Kamailio has `bench/kamailio.cfg` and `-x fm`: everything in memory, no database. Tandem has\n\
         its defaults but for `algorithms = [\"MD5\"]`, and writes every binding to its database.\n\n",
        registers.0, registers.1, calls.0, calls.1
    )?;
    page.push_str("| | |\n|---|---|\n");
    for (what, value) in machine(binary)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

fn table(series: &[Series]) -> String {
    let mut table = String::from("| what | Kamailio | Tandem | ratio |\n|---|---|---|---|\n");
    for work in Work::ALL {
        let of = |kind| series.iter().find(|one| one.work == work && one.kind == kind);
        let (Some(peer), Some(ours)) = (of(Kind::Kamailio), of(Kind::Tandem)) else { continue };
        let ratio = ours.median() / peer.median();
        let (name, peer, ours) = (work.name(), peer.text(), ours.text());
        table.push_str(&format!("| {name} | {peer} | {ours} | {ratio:.2} |\n"));
    }
    table
}

fn machine(binary: &Path) -> Result<Vec<(&'static str, String)>> {
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
        ("command", "`cargo xtask bench sip`".to_owned()),
    ])
}

fn first_words(path: &str, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_median_the_spread_and_the_ratio() {
        let series = [
            made(Work::Register, Kind::Kamailio, &[30.0, 34.0, 32.0]),
            made(Work::Register, Kind::Tandem, &[16.0, 15.0]),
        ];

        let table = table(&series);

        let line = "| REGISTER, digest with 401 | 32.0 (30.0 – 34.0) | 15.5 (15.0 – 16.0) | 0.48 |";
        assert_eq!(table.lines().nth(2), Some(line));
        assert_eq!(table.lines().count(), 3);
    }

    fn made(work: Work, kind: Kind, values: &[f64]) -> Series {
        let measurements = values.iter().map(|value| Measurement { microseconds: *value });
        Series { work, kind, measurements: measurements.collect() }
    }
}
