//! Plays seeds and prints what became of them.
//!
//! `sim --seeds 200 [--start N] [--jobs N]` plays many; `sim --seed N [--trace]` repeats one. With `--pair` the world has two
//! nodes, with `--talk` two phones talk through the media relay. `sim --calls [KIND] [--every N]` plays calls over takeovers, `sim --calls KIND --case CASE` one of them with its trace.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

mod call_cases;

use sim::{Table, Telling, Verdict, run, run_pair, run_talk};

const USAGE: &str = "usage: sim [--pair | --talk] [--seeds N] [--start N] [--jobs N] | sim [--pair | --talk] --seed N [--trace]
     | sim --calls [KIND] [--every N] [--jobs N] | sim --calls KIND --case CASE";
/// With fewer seeds some events may not happen, and a zero says nothing.
const SEEDS_TELLING_MIN: u64 = 100;
/// So many failures are shown in full.
const SHOWN_MAX: usize = 5;

struct Wish {
    world: World,
    seeds: u64,
    start: u64,
    jobs: u64,
    one: Option<u64>,
    trace: bool,
}

/// Which world is played.
#[derive(Clone, Copy)]
enum World {
    Single,
    Pair,
    Talk,
}

impl World {
    fn run(self, seed: u64, telling: Telling) -> Verdict {
        match self {
            Self::Single => run(seed, telling),
            Self::Pair => run_pair(seed, telling),
            Self::Talk => run_talk(seed, telling),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Single => "",
            Self::Pair => "--pair ",
            Self::Talk => "--talk ",
        }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().is_some_and(|word| word == "--calls") {
        return call_cases::main(words).unwrap_or_else(|problem| {
            eprintln!("{problem}\n{USAGE}");
            ExitCode::from(2)
        });
    }
    let wish = match wish(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match wish.one {
        Some(seed) => one(wish.world, seed, wish.trace),
        None => many(&wish),
    }
}

fn wish(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish { world: World::Single, seeds: 200, start: 1, jobs: 1, one: None, trace: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().unwrap_or_default();
            value.parse::<u64>().map_err(|_| format!("{word} wants a number, not '{value}'"))
        };
        match word.as_str() {
            "--seeds" => wish.seeds = number()?,
            "--start" => wish.start = number()?,
            "--jobs" => wish.jobs = number()?.clamp(1, 64),
            "--seed" => wish.one = Some(number()?),
            "--pair" => wish.world = World::Pair,
            "--talk" => wish.world = World::Talk,
            "--trace" => wish.trace = true,
            _ => return Err(format!("unknown option '{word}'")),
        }
    }
    Ok(wish)
}

fn one(world: World, seed: u64, trace: bool) -> ExitCode {
    let verdict = world.run(seed, if trace { Telling::Everything } else { Telling::Verdict });
    print!("{}", verdict.text);
    show(&verdict);
    println!("seed {seed}: {} happenings, hash {:016x}", verdict.happenings, verdict.hash);
    println!("{} passed, {} failed", u8::from(verdict.is_good()), u8::from(!verdict.is_good()));
    if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn many(wish: &Wish) -> ExitCode {
    let next = AtomicU64::new(0);
    let done: Mutex<(Table, Vec<Verdict>, u64)> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= wish.seeds {
                        return;
                    }
                    let verdict = wish.world.run(wish.start + number, Telling::Verdict);
                    let Ok(mut done) = done.lock() else { return };
                    done.0.merge(&verdict.events);
                    done.2 += 1;
                    if done.2 % 20 == 0 {
                        println!("{} of {} seeds, {} failed", done.2, wish.seeds, done.1.len());
                    }
                    if !verdict.is_good() {
                        done.1.push(verdict);
                    }
                }
            });
        }
    });
    let Ok((events, mut failed, ran)) = done.into_inner() else { return ExitCode::FAILURE };
    failed.sort_by_key(|verdict| verdict.seed);
    let silent = table(&events, ran);
    for verdict in failed.iter().take(SHOWN_MAX) {
        show(verdict);
    }
    for verdict in &failed {
        for violation in &verdict.violations {
            println!("seed {}: broken: {}", verdict.seed, violation.rule);
        }
        println!(
            "repeat: cargo run --profile checked -p sim -- {}--seed {} --trace",
            wish.world.word(),
            verdict.seed
        );
    }
    println!("{} passed, {} failed", ran - failed.len() as u64, failed.len());
    if failed.is_empty() && !silent && ran == wish.seeds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the table; `true`: something that matters never happened.
fn table(events: &Table, ran: u64) -> bool {
    let mut never = Vec::new();
    for (name, times) in events.rows() {
        println!("{times:>10}  {name}");
        if *times == 0 {
            never.push(name.as_str());
        }
    }
    if never.is_empty() || ran < SEEDS_TELLING_MIN {
        return false;
    }
    println!("never happened: {}", never.join(", "));
    true
}

fn show(verdict: &Verdict) {
    for error in &verdict.errors {
        println!("seed {}: ERROR {error}", verdict.seed);
    }
    for violation in &verdict.violations {
        println!("seed {} at {}: broken: {}\n{}", verdict.seed, violation.at, violation.rule, violation.seen);
    }
}
