//! The page `bench/SOAK-TALK.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::heard::Heard;
use super::{Subject, UnderTalk};
use crate::bench::{machine, rtpengine_version};
use crate::soak::trials::pairs::Contestant;
use crate::soak::trials::record::{Done, Record};
use crate::soak::trials::{Outcome, is_good};

/// The whole page but for what a person wrote.
pub fn page(record: &Record<Heard>, command: &str, sessions: u32, binary: &Path) -> Result<String> {
    let verdict = if is_good(record) { "No talk of ours was hurt." } else { "Failed, or not all is known." };
    let mut page = format!(
        "# Talk under faults\n\n\
         **{verdict}**\n\n\
         Written by `{command}`. Two nodes in network namespaces, {sessions} calls, each side of which says a packet of RTP every\n\
         20 ms by the relay. Then something happens to the node that serves, and 6 s later it is mended. A talk is hurt when\n\
         one of its sides hears nothing at the end or somebody else at any time, when no BYE could end it, or when a planned\n\
         switchover lost one of its packets. A packet is late that is under way for more than 200 ms: phones have given it up.\n\n\
         | | trials | talks | hurt | silent at the end | not to be ended | nothing heard for, ms: middle side | worst side | \
         packets lost in a trial | late in a trial |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for event in UnderTalk::EVENTS {
        for who in Contestant::ALL {
            let done: Vec<_> = record.of(who).into_iter().filter(|done| done.event == *event).collect();
            if !done.is_empty() {
                row(&mut page, &format!("{}, {}", event.name(), who.name()), &done)?;
            }
        }
    }
    for who in Contestant::ALL {
        row(&mut page, &format!("**all, {}**", who.name()), &record.of(who))?;
    }
    page.push_str(
        "\nOf three numbers the first is that of the middle trial, in brackets the least and the most. In a planned switchover the\n\
         time without a packet can not be under 20 ms, which is that between two packets.\n",
    );
    for failure in record.failures() {
        writeln!(page, "\nNot brought to its end: {failure}")?;
    }
    page.push_str(
        "\nOurs goes through the trials of a round without being started anew, unless one does not come to its end; the other pair is\n\
         fresh for each. It is Kamailio,\n\
         keepalived with an advert each tenth of a second, and rtpengine in user space on both nodes, which write their calls to\n\
         one Redis on a third host and read those of each other (`xtask/src/keepalived.rs`).\n\n| | |\n|---|---|\n",
    );
    for (what, value) in machine(binary, command)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    writeln!(page, "| rtpengine | {} |", rtpengine_version())?;
    Ok(page)
}

fn row(page: &mut String, name: &str, done: &[&Done<Heard>]) -> Result<()> {
    let sum = |of: fn(&Heard) -> u64| done.iter().map(|done| of(&done.outcome)).sum::<u64>();
    let spread = |of: fn(&Heard) -> u64| {
        let mut all: Vec<u64> = done.iter().map(|done| of(&done.outcome)).collect();
        all.sort_unstable();
        match all.as_slice() {
            [] => "–".to_owned(),
            all => format!("{} ({} – {})", all[all.len() / 2], all[0], all[all.len() - 1]),
        }
    };
    writeln!(
        page,
        "| {name} | {} | {} | **{}** | {} | {} | {} | {} | {} | {} |",
        done.len(),
        sum(|it| it.calls),
        sum(Heard::hurt),
        sum(|it| it.silent),
        sum(|it| it.open),
        spread(|it| it.gap_ms[0]),
        spread(|it| it.gap_ms[1]),
        spread(|it| it.lost),
        spread(|it| it.late)
    )?;
    Ok(())
}
