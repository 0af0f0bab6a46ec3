//! The page `bench/SOAK-CALLS.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::bench::machine;
use crate::calls::Kind;
use crate::calls::books::{Book, Books};
use crate::soak::trials::event::Event;
use crate::soak::trials::is_good;
use crate::soak::trials::pairs::Contestant;
use crate::soak::trials::record::{Done, Record};

/// The whole page but for what a person wrote.
pub fn page(record: &Record<Books>, command: &str, a_second: u32, binary: &Path) -> Result<String> {
    let of_ours = |failure: &&String| failure.starts_with(Contestant::Tandem.name());
    let open = record.failures().iter().filter(of_ours).count();
    let verdict = if is_good(record) { "No call of ours was hurt." } else { "Failed, or not all is known." };
    let hurt: u64 = record.of(Contestant::Tandem).iter().map(|done| done.outcome.hurt()).sum();
    let mut page = format!(
        "# Calls under faults\n\n\
         **{verdict}** Of ours {hurt} calls were hurt in the trials that came to their end, and {open} trials did not: those were begun \
         again,\nand their calls are not in the table.\n\n\
         Written by `{command}`. Two nodes in network namespaces, SIPp on both sides, {a_second} calls a second over UDP: half of\n\
         them ring for 2.5 s and are answered, three tenths are answered at once and talk for 2.5 s, a tenth is cancelled, and\n\
         a tenth rings at three phones of which one answers. Then something happens to the node that serves, and 6 s later it\n\
         is mended. A call is hurt when its caller or one of its phones has not seen it go as scripted: answered once, ACK,\n\
         BYE and 200; or CANCEL, 200, 487 and ACK; at a fork one answer, and a CANCEL at the other phones.\n\n\
         | | trials | calls | hurt | ringing | talking | cancelled | forked | messages sent again in a trial |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    for event in Event::ALL {
        for who in Contestant::ALL {
            let done: Vec<_> = record.of(who).into_iter().filter(|done| done.event == event).collect();
            if !done.is_empty() {
                row(&mut page, &format!("{}, {}", event.name(), who.name()), &done)?;
            }
        }
    }
    for who in Contestant::ALL {
        row(&mut page, &format!("**all, {}**", who.name()), &record.of(who))?;
    }
    page.push_str(
        "\nA message is sent again because its answer did not come within 500 ms: while nobody serves, all that is sent is sent \
         again.\nIn a planned switchover it is one that was lost, or the machine was late.\n",
    );
    for failure in record.failures() {
        writeln!(page, "\nNot brought to its end: {failure}")?;
    }
    page.push_str(
        "\nOurs goes through one trial after the other without being started anew; the other pair is fresh for each, because some \
         of\nthem leave it broken. Kamailio is a stateful proxy with Record-Route, and phones have registered at both of its nodes\n\
         before (`xtask/src/keepalived.rs`); keepalived sends an advert each tenth of a second.\n\n| | |\n|---|---|\n",
    );
    for (what, value) in machine(binary, command)? {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

fn row(page: &mut String, name: &str, done: &[&Done<Books>]) -> Result<()> {
    let sum = |of: &dyn Fn(&Done<Books>) -> u64| done.iter().map(|done| of(done)).sum::<u64>();
    let kind = |kind: Kind| {
        let of = |value: fn(Book) -> u64| sum(&|done| value(done.outcome.of(kind)));
        format!("{} of {}", of(|book| book.hurt), of(|book| book.calls))
    };
    let mut again: Vec<u64> = done.iter().map(|done| done.outcome.sent_again()).collect();
    again.sort_unstable();
    let again = match again.as_slice() {
        [] => "–".to_owned(),
        all => format!("{} ({} – {})", all[all.len() / 2], all[0], all[all.len() - 1]),
    };
    let hurt = sum(&|done| done.outcome.hurt());
    write!(page, "| {name} | {} | {} | **{hurt}** |", done.len(), sum(&|done| done.outcome.calls()))?;
    for one in Kind::ALL {
        write!(page, " {} |", kind(one))?;
    }
    writeln!(page, " {again} |")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_what_was_hurt_by_kind() {
        let book = |hurt| json!({ "calls": 5, "hurt": hurt, "sent_again": 2 });
        let books = |hurt| json!({ "ringing": book(hurt), "talking": book(0), "cancelled": book(1), "forked": book(0) });
        let done = |hurt| Done {
            round: hurt,
            who: Contestant::Kamailio,
            event: Event::Switchover,
            outcome: Books::read(&books(hurt)).expect("books"),
        };
        let mut page = String::new();

        row(&mut page, "it", &[&done(1), &done(3)]).expect("written");

        let line = "| it | 2 | 40 | **6** | 4 of 10 | 0 of 10 | 2 of 10 | 0 of 10 | 8 (8 – 8) |\n";
        assert_eq!(page, line);
    }
}
