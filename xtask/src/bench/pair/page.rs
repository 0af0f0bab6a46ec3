//! The page `bench/PAIR.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::kept::Kept;
use super::work::{Setup, Work};
use crate::bench::report::{machine, spread};

/// More other work than this, in percent of the machine, and the figures say little.
const QUIET_MAX: f64 = 15.0;
/// What DESIGN asks for: processor time with the other node, as a part of that without it.
const TARGET: f64 = 1.3;

/// The whole page but for what a person wrote.
pub fn page(kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench pair --runs {runs}");
    let mut page = format!(
        "# A pair, measured\n\n\
         Written by `{command}`. The median of the runs, in brackets the least and the most.\n\n\
         Processor time of the active node's engine for each REGISTER, kernel and all threads included, with 100\n\
         thousand bindings and without digest, in microseconds:\n\n"
    );
    costs(&mut page, kept)?;
    page.push_str(
        "\nThe longest time without an answer at phones that ask by OPTIONS every 5 ms, in milliseconds:\n\n",
    );
    takeovers(&mut page, kept)?;
    page.push_str("\nA standby that starts without a database, until it holds everything:\n\n");
    syncs(&mut page, kept)?;
    if let Some(seen) = kept.of(Work::Takeover(1_000_000)).iter().find_map(|figures| figures["seen"].as_str())
    {
        write!(page, "\nWhat `tandem status` shows in the middle of it:\n\n```\n{}\n```\n", seen.trim_end())?;
    }
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: each figure has a freshly made lab of network namespaces on one host: two nodes, a witness, a switch, a\n\
         router, phones. The active node has one core, the load (`crates/net/examples/load`, a closed loop) and all others\n\
         share the other one. Each node has `threads = 1`. Processor time counts until the engine is at rest again. Bytes on\n\
         the link are those of all TCP packets between the nodes, headers included.\n\n{}\n\n",
        quiet(kept, &Work::OF_PAIR)
    )?;
    page.push_str("| | |\n|---|---|\n");
    for (what, value) in machine(binary, &command)?.into_iter().filter(|(what, _)| *what != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

fn costs(page: &mut String, kept: &Kept) -> Result<()> {
    page.push_str(
        "| | new binding | refresh | refreshes a second | bytes on the link for a new binding, and back | for a refresh, and \
         back | refreshes that did not wait for the other node |\n|---|---|---|---|---|---|---|\n",
    );
    for setup in [Setup::Single, Setup::Alone, Setup::Pair] {
        let work = Work::Cost(setup);
        let of = |name: &str, digits| text(kept.numbers(work, name), digits);
        let link = |name: &str, back: &str| match setup {
            Setup::Pair => format!("{}, {}", of(name, 0), of(back, 0)),
            _ => "–".to_owned(),
        };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} |",
            work.name(),
            of("first_us", 1),
            of("refresh_us", 1),
            of("refresh_a_second", 0),
            link("first_link", "first_back"),
            link("refresh_link", "refresh_back"),
            if setup == Setup::Pair { of("refresh_degraded", 0) } else { "–".to_owned() },
        )?;
    }
    let ratio = |name| {
        let of = |setup| spread(kept.numbers(Work::Cost(setup), name)).map(|it| it.0);
        Some(of(Setup::Pair)? / of(Setup::Alone)?)
    };
    if let (Some(first), Some(refresh)) = (ratio("first_us"), ratio("refresh_us")) {
        writeln!(
            page,
            "\nWith the other node to without it: **{first:.2}** for a new binding, **{refresh:.2}** for a refresh; to reach: \
             at most {TARGET}."
        )?;
    }
    Ok(())
}

fn takeovers(page: &mut String, kept: &Kept) -> Result<()> {
    page.push_str("| | engine killed | everything killed |\n|---|---|---|\n");
    for work in Work::OF_PAIR.into_iter().filter(|work| matches!(work, Work::Takeover(_))) {
        let of = |name| text(kept.numbers(work, name), 1);
        writeln!(page, "| {} | {} | {} |", work.name(), of("engine_killed_ms"), of("all_killed_ms"))?;
    }
    Ok(())
}

fn syncs(page: &mut String, kept: &Kept) -> Result<()> {
    page.push_str("| | seconds | bytes on the link for each |\n|---|---|---|\n");
    for work in Work::OF_PAIR {
        let Work::Takeover(bindings) = work else { continue };
        let each =
            kept.numbers(work, "sync_bytes").into_iter().map(|bytes| bytes / bindings as f64).collect();
        writeln!(
            page,
            "| {} | {} | {} |",
            work.name(),
            text(kept.numbers(work, "sync_s"), 1),
            text(each, 0)
        )?;
    }
    Ok(())
}

pub(in crate::bench) fn quiet(kept: &Kept, works: &[Work]) -> String {
    let most = works.iter().copied().flat_map(|work| kept.numbers(work, "busy")).fold(0.0, f64::max);
    let word = if most <= QUIET_MAX {
        "the machine was quiet"
    } else {
        "**the machine was busy with other work, and the times are too long**"
    };
    format!("Before each figure others used at most {most:.0} % of the processors: {word}.")
}

pub(in crate::bench) fn text(values: Vec<f64>, digits: usize) -> String {
    spread(values).map_or_else(
        || "–".to_owned(),
        |(median, least, most)| format!("{median:.digits$} ({least:.digits$} – {most:.digits$})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_the_median_and_the_spread_or_is_missing() {
        assert_eq!(text(vec![3.0, 1.0, 2.0], 1), "2.0 (1.0 – 3.0)");
        assert_eq!(text(Vec::new(), 1), "–");
    }
}
