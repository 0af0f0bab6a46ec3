//! The page `bench/RELAY.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::SESSIONS;
use super::contestant::{Kind, SESSIONS_MAX};
use crate::bench::pair::kept::Kept;
use crate::bench::pair::page::{quiet, text};
use crate::bench::pair::work::Work;
use crate::bench::report::{machine, rtpengine_version, spread};

/// What we mean to reach, as parts of what rtpengine takes: in user space, and in the kernel.
const TARGETS: [(Kind, &str, f64); 2] = [
    (Kind::Tandem, "Tandem to rtpengine", 0.55),
    (Kind::TandemKernel, "in the kernel to rtpengine in user space", 0.2),
];

/// The whole page but for what a person wrote.
pub fn page(kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
    let command = format!("cargo xtask bench relay --runs {runs}");
    let mut page = format!(
        "# The media relay, measured\n\n\
         Written by `{command}`. The median of the runs, in brackets the least and the most.\n\n\
         Processor time for each RTP packet that was relayed, in microseconds, the kernel's receive path included; behind it\n\
         the part before the socket:\n\n"
    );
    times(&mut page, kept)?;
    page.push_str(
        "\nThe delay of the middle packet, in milliseconds, and what was lost of a thousand, with so many sessions:\n\n",
    );
    delays(&mut page, kept)?;
    page.push_str(
        "\nThe most sessions that one core bears with a median delay under 10 ms and less than 0.1 % lost:\n\n\
         | | sessions | packets a second |\n|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let most = kept.numbers(Work::Relay(kind), "most");
        let packets = most.iter().map(|sessions| sessions * 100.0).collect();
        writeln!(page, "| {} | {} | {} |", kind.name(), text(most, 0), text(packets, 0))?;
    }
    for failure in failures {
        write!(page, "\nFailed: {failure}\n")?;
    }
    write!(
        page,
        "\nHow: a session is two phones that talk both ways: a packet of 172 bytes every 20 ms each. Two network namespaces\n\
         with a cable of two virtual cards; the relay and all that the kernel does for what arrives at its card have one core, the\n\
         phones (`bench/floor/media_load.c`) and their card the other. Each card has a thread for what arrives (threaded NAPI, TSO\n\
         off), with real-time priority; the time of the relay's one is added to that of the relay's process. Relays and phones have\n\
         `nice -20`. Tandem has `threads = 1` and `relay = \"always\"`, and each of its sessions is a SIP call. rtpengine has\n\
         one worker, no module for the kernel, and is told of its sessions by the ng protocol. In the kernel Tandem is the\n\
         active node of a cluster, and all of its processes count. The floor is\n\
         `bench/floor/relay.c`: a socket for each port, epoll, one receive and one send for each packet. A number of sessions\n\
         is tried up to {} times before it counts as too many; so it does where the phones' core has no time to read what\n\
         arrives. More than {} are not tried.\n\n{}\n\n| | |\n|---|---|\n",
        super::TRIES,
        SESSIONS_MAX,
        quiet(kept, &Work::OF_RELAY)
    )?;
    for (what, value) in machine(binary, &command)?.into_iter().filter(|(what, _)| *what != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    writeln!(page, "| rtpengine | {} |", rtpengine_version())?;
    Ok(page)
}

fn times(page: &mut String, kept: &Kept) -> Result<()> {
    page.push_str("| sessions |");
    for kind in Kind::ALL {
        write!(page, " {} |", kind.name())?;
    }
    for (_, name, _) in TARGETS {
        write!(page, " {name} | to reach |")?;
    }
    writeln!(page, "\n|---|{}", "---|".repeat(Kind::ALL.len() + 2 * TARGETS.len()))?;
    for sessions in SESSIONS {
        write!(page, "| {sessions} |")?;
        let numbers = |kind, name: &str| kept.numbers(Work::Relay(kind), &format!("{name}_{sessions}"));
        for kind in Kind::ALL {
            let receive = spread(numbers(kind, "receive_us")).map_or(0.0, |it| it.0);
            write!(page, " {}; {receive:.1} |", text(numbers(kind, "us"), 1))?;
        }
        let median = |kind| spread(numbers(kind, "us")).map(|it| it.0);
        for (kind, _, target) in TARGETS {
            let ratio = median(kind).zip(median(Kind::Rtpengine)).map(|(ours, theirs)| ours / theirs);
            let ratio = ratio.map_or("–".to_owned(), |ratio| format!("**{ratio:.2}**"));
            write!(page, " {ratio} | {target} |")?;
        }
        page.push('\n');
    }
    Ok(())
}

fn delays(page: &mut String, kept: &Kept) -> Result<()> {
    page.push_str("| sessions |");
    for kind in Kind::ALL {
        write!(page, " {} |", kind.name())?;
    }
    writeln!(page, "\n|---|{}", "---|".repeat(Kind::ALL.len()))?;
    for sessions in SESSIONS {
        write!(page, "| {sessions} |")?;
        for kind in Kind::ALL {
            let numbers = |name: &str| kept.numbers(Work::Relay(kind), &format!("{name}_{sessions}"));
            let delays = numbers("median_us").into_iter().map(|delay| delay / 1e3).collect();
            let lost = spread(numbers("lost_per_mille")).map_or(0.0, |it| it.0);
            write!(page, " {}; {lost:.1} ‰ |", text(delays, 1))?;
        }
        page.push('\n');
    }
    Ok(())
}
