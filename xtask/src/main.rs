//! The project's own tool: `cargo xtask test`, `tidy`, `bench` and `soak`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use bench::pair::Subject::{Bindings, Calls, Connections, Database, Media};

mod baresip;
mod bench;
mod calls;
mod chance;
mod checked;
mod cluster;
mod control;
mod database_server;
mod delay;
mod dns;
mod gate;
mod kamailio;
mod keepalived;
mod lab;
mod outage;
mod packages;
mod phone;
mod process;
mod registrants;
mod rtpengine;
mod scenario;
mod server;
mod sessions;
mod sipp;
mod soak;
mod sound;
mod standstill;
mod stream_phones;
mod talker;
mod test;
mod tidy;
mod workspace;

const HELP: &str = "\
cargo xtask test [--yes] [--debug | --program PATH] [FILTER]
    Installs what the tests need (asks first, but with --yes), then runs all of them: architecture
    checks, formatting, lints, unit tests, simulation, and scenarios with real phones.
    --debug         the scenarios run the debug build
    --program PATH  the scenarios run a program that was built before, with `test-faults`
    FILTER          only the steps and scenarios whose name contains it
cargo xtask tidy [--write]
    Checks the architecture; --write also writes docs/rfc.md.
cargo xtask gate
    Builds the gate's program for the kernel, crates/host/bpf/gate.o, from gate.c.
cargo xtask bench [sip [--yes] [--runs N] [--server NAME] [FILTER]]
    Measures processor time per REGISTER and per call beside Kamailio, into bench/RESULTS.md.
    --runs N        how often each server does each work; 5 without it
    --server NAME   only servers whose name contains it; then nothing is written
    FILTER          only rows whose name contains it; then nothing is written
cargo xtask bench failover [--yes] [--repeats N] [FILTER]
    Measures how long nobody and how long two answer for the virtual address, beside Kamailio with
    keepalived, into bench/FAILOVER.md. It continues where it was stopped.
    --repeats N     how often each figure is measured; 10 without it
    FILTER          only figures whose name contains it; then nothing is written
cargo xtask bench pair [--yes] [--runs N] [--program PATH] [FILTER]
    Measures what it costs to hold every binding at two nodes, and takeovers with up to a million of
    them, into bench/PAIR.md. It continues where it was stopped.
cargo xtask bench calls [--yes] [--runs N] [--program PATH] [FILTER]
    Measures what it costs to hold every call at two nodes: processor time, delay, bytes on the link and
    in memory, into bench/CALLS.md. It continues where it was stopped.
cargo xtask bench reconnect [--yes] [--runs N] [--program PATH] [FILTER]
    Measures how soon 10,000 phones on TCP are back after their node is lost, into bench/RECONNECT.md.
    It continues where it was stopped.
cargo xtask bench relay [--yes] [--runs N] [--program PATH] [FILTER]
    Measures processor time per relayed RTP packet and the most sessions that one core bears, beside
    rtpengine and a bare forwarder in C, into bench/RELAY.md. It continues where it was stopped.
cargo xtask bench database [--yes] [--runs N] [--program PATH] [FILTER]
    Measures processor time per REGISTER with accounts and bindings in a PostgreSQL, of the server and of the
    database, beside Kamailio with each db_mode, into bench/DATABASE.md. It continues where it was stopped.
cargo xtask bench flames [--yes]
    Draws where the server's time goes, into bench/flame-register.svg and bench/flame-call.svg.
cargo xtask soak [worlds]
    The long simulation. Each soak continues where it was stopped.
cargo xtask soak pair-worlds
    The long simulation of a pair of nodes.
cargo xtask soak talk-worlds
    The long simulation of talk through the media relay, behind every kind of NAT.
cargo xtask soak fuzz [--at-once N]
    An hour of hostile input for each fuzz target.
cargo xtask soak internet [--minutes N] [--dir DIR] [--program PATH] [--yes]
    Calls, registrations, scans and floods against the real server, 120 minutes, into bench/SOAK.md.
    DIR keeps its figures; nothing runs while it has a file `pause`.
cargo xtask soak lease
    100,000 seeds of the pair in a hostile world, and the large exhaustive searches, into bench/SOAK-LEASE.md.
cargo xtask soak pair [--kills N] [--phones N] [--dir DIR] [--program PATH] [--yes]
    1,000 faults of a pair with 100,000 registered phones, at moments that are drawn, into bench/SOAK-PAIR.md.
    DIR keeps what was done; nothing happens while it has a file `pause`.
cargo xtask soak calls [--rounds N] [--rate N] [--dir DIR] [--program PATH] [--yes] [FILTER]
    50 rounds of each fault and a switchover under 100 calls a second, beside Kamailio with keepalived:
    how many calls were hurt, into bench/SOAK-CALLS.md. DIR as above.
    FILTER          only trials whose name contains it; then nothing is written
cargo xtask soak talk [--rounds N] [--sessions N] [--dir DIR] [--program PATH] [--yes] [FILTER]
    50 rounds of faults and a switchover while 200 calls talk, beside Kamailio with keepalived, rtpengine
    and Redis: how long nothing was heard, into bench/SOAK-TALK.md. DIR and FILTER as above.
cargo xtask soak long-talk [--minutes N] [--program PATH] [--yes]
    One talk of 10 minutes behind routers that forget, and in each minute a fault or a switchover: for how
    long each heard the other one, into bench/SOAK-LONG-TALK.md.
cargo xtask soak database [--minutes N] [--registers-per-second N] [--calls-per-second N] [--mariadb] [--dir DIR]
        [--program PATH] [--yes]
    Five minutes of registrations and calls at a pair whose PostgreSQL is stopped, cut off, slow, full,
    restarted and moved, and then what is in its tables, into bench/SOAK-DATABASE.md. DIR as above.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["test", options @ ..] => test::run(&test::Options::parse(options)?),
        ["tidy"] => tidy::run(tidy::Index::Check),
        ["tidy", "--write"] => tidy::run(tidy::Index::Write),
        ["gate"] => gate::write().map(|()| ExitCode::SUCCESS),
        ["bench"] => bench::run(&bench::Options::parse(&[])?),
        ["bench", "sip", options @ ..] => bench::run(&bench::Options::parse(options)?),
        ["bench", "flames"] => bench::run_flames(packages::Consent::Ask),
        ["bench", "flames", "--yes"] => bench::run_flames(packages::Consent::Given),
        ["bench-here", runs, filter, server, dir] => bench::run_here(runs, filter, server, Path::new(dir)),
        ["bench", "failover", options @ ..] => {
            bench::failover::run(&bench::failover::Options::parse(options)?)
        }
        ["bench", "pair", options @ ..] => bench::pair::run(Bindings, &bench::pair::Options::parse(options)?),
        ["bench", "calls", options @ ..] => bench::pair::run(Calls, &bench::pair::Options::parse(options)?),
        ["bench", "reconnect", options @ ..] => {
            bench::pair::run(Connections, &bench::pair::Options::parse(options)?)
        }
        ["bench", "database", options @ ..] => {
            bench::pair::run(Database, &bench::pair::Options::parse(options)?)
        }
        ["bench", "relay", options @ ..] => bench::pair::run(Media, &bench::pair::Options::parse(options)?),
        ["pair-here", words @ ..] => bench::pair::run_here(words),
        ["failover-here", words @ ..] => bench::failover::run_here(words),
        ["flames-here", dir] => bench::run_flames_here(Path::new(dir)),
        ["soak", part @ ..] => soak::run(part),
        ["soak-here", dir, binary, minutes] => {
            soak::internet::run_here(Path::new(dir), Path::new(binary), minutes)
        }
        ["soak-long-talk-here", dir, binary, minutes] => {
            soak::long_talk::run_here(Path::new(dir), Path::new(binary), minutes)
        }
        ["soak-trials-here", words @ ..] => soak::run_trials_here(words),
        ["soak-database-here", words @ ..] => soak::database::run_here(words),
        ["soak-pair-here", words @ ..] => soak::pair::run_here(words),
        ["scenario", name, dir, binary] => {
            scenario::run_here(name, Path::new(dir), Path::new(binary)).map(ExitCode::from)
        }
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{HELP}");
            Ok(ExitCode::from(2))
        }
    }
}
