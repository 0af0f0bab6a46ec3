//! The page `bench/CALLS.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::kept::Kept;
use super::page::{quiet, text};
use super::work::{Setup, Work};
use crate::bench::report::{machine, spread};

/// What DESIGN asks for: processor time with the other node (0.6 of Kamailio's), as a part of that without it (0.45).
const TARGET: f64 = 0.6 / 0.45;
/// And so many milliseconds more from an INVITE to its 180.
const DELAY_MAX: f64 = 1.0;

/// The whole page but for what a person wrote.
pub fn page(kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench calls --runs {runs}");
    let mut page = format!(
        "# Calls at two nodes, measured\n\n\
         Written by `{command}`. The median of the runs, in brackets the least and the most.\n\n\
         Processor time of the active node's engine for each call (INVITE, 100, 180, 200, ACK, BYE, 200: 13 datagrams),\n\
         kernel and all threads included, in microseconds, and bytes on the link:\n\n\
         | | each call | calls a second | bytes on the link for each, and back | messages that did not wait for the other \
         node |\n|---|---|---|---|---|\n"
    );
    for work in Work::OF_CALLS {
        let of = |name: &str, digits| text(kept.numbers(work, name), digits);
        let (link, degraded) = match work {
            Work::Calls(Setup::Pair) => (format!("{}, {}", of("link", 0), of("back", 0)), of("degraded", 0)),
            _ => ("–".to_owned(), "–".to_owned()),
        };
        let (cost, pace) = (of("call_us", 1), of("calls_a_second", 0));
        writeln!(page, "| {} | {cost} | {pace} | {link} | {degraded} |", work.name())?;
    }
    page.push_str(
        "\nDelays at the phones, one call at a time, in milliseconds; and bytes that a call takes in memory while it rings:\n\n\
         | | INVITE to 100 | INVITE to 180 | a phone's answer to the caller's | memory of the active engine | of the \
         standby's |\n|---|---|---|---|---|---|\n",
    );
    for work in Work::OF_CALLS {
        let of = |name: &str, digits| text(kept.numbers(work, name), digits);
        let delays = ["trying_ms", "ringing_ms", "answer_ms"].map(|name| of(name, 2)).join(" | ");
        let (memory, standby) = (of("memory", 0), of("memory_of_standby", 0));
        writeln!(page, "| {} | {delays} | {memory} | {standby} |", work.name())?;
    }
    let median = |setup, name| spread(kept.numbers(Work::Calls(setup), name)).map(|it| it.0);
    let both = |name| Some((median(Setup::Pair, name)?, median(Setup::Alone, name)?));
    if let (Some(cost), Some(delay)) = (both("call_us"), both("ringing_ms")) {
        writeln!(
            page,
            "\nWith the other node to without it: **{:.2}** of the processor time; to reach: at most {TARGET:.2}; to one node without a \
             cluster:\n{:.2}. From an INVITE to its 180 **{:.2}** ms more; to reach: at most {DELAY_MAX:.0}.",
            cost.0 / cost.1,
            cost.0 / median(Setup::Single, "call_us").unwrap_or(f64::NAN),
            delay.0 - delay.1
        )?;
    }
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: as in [PAIR.md](PAIR.md): one host, the active node on one core and all others on the other one, a closed loop\n\
         with 64 calls under way. Nobody is asked for a password. The answer whose delay is taken is a 486: like a 200 it\n\
         leaves when the other node knows of it.\n\n{}\n\n| | |\n|---|---|\n",
        quiet(kept, &Work::OF_CALLS)
    )?;
    for (what, value) in machine(binary, &command)?.into_iter().filter(|(what, _)| *what != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}
