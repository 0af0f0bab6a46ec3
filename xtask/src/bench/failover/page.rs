//! The page `bench/FAILOVER.md`.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::contestant::Contestant;
use super::fault::{Fault, Measure};
use super::figures::{Figures, Outcome};
use crate::bench::report;

/// The whole page but for what a person wrote.
pub fn page(figures: &Figures, failures: &[String], repeats: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench failover --repeats {repeats}");
    let mut page = format!(
        "# Failover, measured\n\n\
         Written by `{command}`. Milliseconds: the median of the repeats, in brackets the least and\n\
         the most; behind the arrow what we want to reach.\n\n\
         The longest gap in the answers at phones that ask by OPTIONS every 5 ms:\n\n"
    );
    table(&mut page, figures, Measure::Gap)?;
    page.push_str("\nHow long something answers that should not:\n\n");
    table(&mut page, figures, Measure::Both)?;
    page.push_str(
        "\nHow long both nodes spoke for the address during the other faults (the worst repeat):\n\n",
    );
    both(&mut page, figures)?;
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    page.push_str(
        "\nHow: each figure has a freshly made lab of network namespaces on one host: two nodes, a witness, a switch, a\n\
         router, a phone beside the nodes and one behind the router; the worse of the two phones counts, and\n\
         both believe what they hear of the address, as the router does. An observer on the switch writes down every\n\
         ARP, neighbour advertisement and packet of the virtual address with the time at which it came in, while a\n\
         prober asks for the address every 10 ms. *Host dead* is kill -9 of everything and the cable out; *cut off*: the\n\
         switch drops all of the node's frames and its carrier stays; *frozen*: SIGSTOP of everything. The switchover is\n\
         `tandem switchover`, or a SIGTERM to keepalived. The time of the fault within a second differs from repeat to\n\
         repeat.\n\n\
         Keepalived: both nodes BACKUP with `nopreempt`, a check by OPTIONS each second, of which two in a row must fail\n\
         (`xtask/src/keepalived.rs`). Tandem: `tandem witness` on a third host, all else as it comes.\n\n",
    );
    page.push_str("| | |\n|---|---|\n");
    for (what, value) in report::machine(binary, &command)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    writeln!(page, "| compared with | {} |", figures.peer())?;
    Ok(page)
}

fn table(page: &mut String, figures: &Figures, measure: Measure) -> Result<()> {
    head(page);
    let is_gap = measure == Measure::Gap;
    for fault in Fault::ALL.into_iter().filter(|fault| (fault.measure() == Measure::Gap) == is_gap) {
        write!(page, "| {} |", fault.name())?;
        for contestant in Contestant::ALL {
            let outcomes = figures.outcomes(contestant, fault);
            let reach = fault.reach(contestant).map_or_else(String::new, |reach| format!(" → {reach}"));
            write!(page, " {}{reach} |", spread(&outcomes))?;
        }
        page.push('\n');
    }
    Ok(())
}

fn both(page: &mut String, figures: &Figures) -> Result<()> {
    head(page);
    for fault in Fault::ALL.into_iter().filter(|fault| fault.measure() != Measure::Both) {
        let name = if fault == Fault::Killed { "everything killed" } else { fault.name() };
        write!(page, "| {name} |")?;
        for contestant in Contestant::ALL {
            let worst = figures.outcomes(contestant, fault).iter().map(|outcome| outcome.both).max();
            write!(page, " {} |", worst.map_or_else(|| "–".to_owned(), milliseconds))?;
        }
        page.push('\n');
    }
    Ok(())
}

fn head(page: &mut String) {
    *page += "|";
    for contestant in Contestant::ALL {
        *page += &format!(" | {}", contestant.name());
    }
    *page += " |\n|---|---|---|---|---|\n";
}

fn spread(outcomes: &[Outcome]) -> String {
    let mut times: Vec<Duration> = outcomes.iter().map(|outcome| outcome.time).collect();
    times.sort_unstable();
    let (Some(&least), Some(&most)) = (times.first(), times.last()) else { return "–".to_owned() };
    let median = (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2;
    let open = outcomes.iter().filter(|outcome| outcome.is_open).count();
    let open = if open > 0 { format!("; {open} of {} did not end", times.len()) } else { String::new() };
    format!("{} ({} – {}{open})", milliseconds(median), milliseconds(least), milliseconds(most))
}

fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_median_and_says_what_did_not_end() {
        let outcome =
            |ms, is_open| Outcome { time: Duration::from_millis(ms), is_open, both: Duration::ZERO };

        assert_eq!(spread(&[outcome(30, false), outcome(10, false)]), "20.0 (10.0 – 30.0)");
        assert_eq!(spread(&[outcome(8000, true)]), "8000 (8000 – 8000; 1 of 1 did not end)");
        assert_eq!(spread(&[]), "–");
    }
}
