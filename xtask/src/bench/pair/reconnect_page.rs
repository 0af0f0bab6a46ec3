//! The page `bench/RECONNECT.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::kept::Kept;
use super::page::{quiet, text};
use super::reconnect::{BEHIND_NAT, CALLS, DIRECT, HABITS};
use super::work::Work;
use crate::bench::report::machine;

/// The whole page but for what a person wrote.
pub fn page(kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench reconnect --runs {runs}");
    let all = DIRECT + BEHIND_NAT;
    let mut page = format!(
        "# {all} phones on TCP whose node is lost, measured\n\n\
         Written by `{command}`. The median of the runs, in brackets the least and the most.\n\n\
         A phone is *back* when its REGISTER by a new connection was answered by 200. Milliseconds from the loss of the node until\n\
         so many of the phones knew that their connection was gone, and were back:\n\n\
         | | | 50 % know | 99 % | all | 50 % back | 99 % | **all** |\n|---|---|---|---|---|---|---|---|\n"
    );
    for work in Work::OF_RECONNECT {
        for (word, name) in [
            ("all", "all phones"),
            ("direct", "without NAT"),
            ("nat", "behind one NAT"),
            ("call", "those in a call"),
        ] {
            let of = |part: &str, percent: u32| {
                text(kept.numbers(work, &format!("{word}_{part}_{percent}_ms")), 0)
            };
            writeln!(
                page,
                "| {} | {name} | {} | {} | {} | {} | {} | {} |",
                work.name(),
                of("lost", 50),
                of("lost", 99),
                of("lost", 100),
                of("back", 50),
                of("back", 99),
                of("back", 100)
            )?;
        }
    }
    write!(
        page,
        "\nWhat else was seen, of {all} phones and {} calls:\n\n\
         | | longest time without an answer over UDP, ms | asked by a keepalive before they knew | REGISTERs refused | answered \
         an OPTIONS of another phone afterwards | calls whose BYE was answered 200 |\n|---|---|---|---|---|---|\n",
        2 * CALLS
    )?;
    for work in Work::OF_RECONNECT {
        let of = |name: &str| text(kept.numbers(work, name), 0);
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            work.name(),
            of("gap_ms"),
            of("missed"),
            of("refusals"),
            of("reached"),
            of("calls_ended")
        )?;
    }
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: a lab of network namespaces on one host: two nodes, a witness, a switch; {DIRECT} phones on a host beside\n\
         the nodes, {BEHIND_NAT} on one behind an nftables router with masquerade. *Everything killed* is kill -9 of all processes\n\
         of the active node: its kernel still ends some connections; *cut off*: the switch drops all of its frames, so that nobody hears of\n\
         the end but from the new node. Each phone connects again {} ms later at most (drawn), and 200 ms later than that when it was refused. It\n\
         asks by an empty line every {} s at most whether its connection is there. Every second phone registers without credentials\n\
         first and answers the 401, the others use their last nonce. Bans spare the hosts of the phones; `sip.tcp` has room for 20,000\n\
         connections, 10,000 from one address. Phones, nodes and all else share the same cores.\n\n{}\n\n| | |\n|---|---|\n",
        HABITS.jitter.as_millis(),
        HABITS.keepalive.as_secs(),
        quiet(kept, &Work::OF_RECONNECT)
    )?;
    for (what, value) in machine(binary, &command)?.into_iter().filter(|(what, _)| *what != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}
