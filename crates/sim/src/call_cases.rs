//! `sim --calls`: calls over takeovers, and what became of them.

use std::process::ExitCode;

use sim::Table;
use sim::calls::{Case, Depth, Kind, Report, run_call, run_calls};

/// So many failures of a kind are shown with their reasons.
const SHOWN_MAX: usize = 3;
/// So many reasons of each.
const REASONS_MAX: usize = 4;

struct Wish {
    kind: Option<Kind>,
    case: Option<Case>,
    depth: Depth,
    jobs: usize,
}

/// Does what the words after `--calls` say.
pub(super) fn main(words: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let wish = wish(words)?;
    match (wish.kind, wish.case) {
        (Some(kind), Some(case)) => Ok(one(kind, case)),
        (None, Some(case)) => Err(format!("--case {case} wants the kind of call before it")),
        _ => Ok(many(&wish)),
    }
}

fn wish(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish { kind: None, case: None, depth: Depth::Whole, jobs: 1 };
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let number = |value: String| {
            value.parse::<usize>().map_err(|_| format!("{word} wants a number, not '{value}'"))
        };
        match word.as_str() {
            "--case" => {
                let value = value();
                let case = Case::parse(&value);
                wish.case = Some(case.ok_or_else(|| format!("'{value}' is no case, as before:17:power is"))?);
            }
            "--every" => wish.depth = Depth::Every(number(value())?.max(1)),
            "--jobs" => wish.jobs = number(value())?.clamp(1, 64),
            word => {
                let kinds = || Kind::ALL.map(Kind::name).join(", ");
                let kind = Kind::parse(word);
                wish.kind =
                    Some(kind.ok_or_else(|| format!("'{word}' is no kind of call, as {} are", kinds()))?);
            }
        }
    }
    Ok(wish)
}

fn one(kind: Kind, case: Case) -> ExitCode {
    let verdict = run_call(kind, case);
    print!("{}", verdict.text);
    for violation in &verdict.violations {
        println!("broken: {}", violation.seen);
    }
    for error in &verdict.errors {
        println!("ERROR {error}");
    }
    println!("{} {case}: {} happenings, hash {:016x}", kind.name(), verdict.happenings, verdict.hash);
    println!("{} passed, {} failed", u8::from(verdict.is_good()), u8::from(!verdict.is_good()));
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(wish: &Wish) -> ExitCode {
    let kinds = wish.kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    let mut events = Table::default();
    let (mut cases, mut failed) = (0, 0);
    let mut rows = Vec::new();
    for kind in kinds {
        let report = run_calls(kind, wish.depth, wish.jobs);
        show(&report);
        rows.push(format!("{:>8} {:>8}  {}", report.cases, report.failed.len(), kind.name()));
        events.merge(&report.events);
        cases += report.cases;
        failed += report.failed.len();
    }
    let mut never = Vec::new();
    for (name, times) in events.rows() {
        println!("{times:>8}  {name}");
        if *times == 0 {
            never.push(name.as_str());
        }
    }
    println!("   cases   failed  kind");
    rows.iter().for_each(|row| println!("{row}"));
    // One kind alone, or a part of the cases, does not have to see everything.
    let is_silent = !never.is_empty() && wish.kind.is_none();
    if is_silent {
        println!("never happened: {}", never.join(", "));
    }
    println!("{} passed, {failed} failed", cases - failed);
    if failed == 0 && !is_silent { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(report: &Report) {
    for (case, why) in report.failed.iter().take(SHOWN_MAX) {
        println!("{} {case} failed:", report.kind.name());
        for reason in why.iter().take(REASONS_MAX) {
            println!("    {reason}");
        }
        println!(
            "    repeat: cargo run --profile checked -p sim -- --calls {} --case {case}",
            report.kind.name()
        );
    }
}
