//! Tries the targets with stable Rust: first every input of the committed corpus, then changes of them.
//!
//! ```text
//! cargo run --profile checked -p fuzz -- [--seconds N] [--seed N] [--target NAME]
//! cargo run --profile checked -p fuzz -- --target NAME --input FILE
//! cargo run --profile checked -p fuzz -- --list
//! ```
//!
//! `--seconds` is the time that each target gets for changed inputs. An input that fails is kept below
//! `fuzz/artifacts`, and the way to try it again is printed. Built without `--release` it is slow, but as strict.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use fuzz::rng::Rng;
use fuzz::{TARGETS, Target, call_capsule, dialog_capsule, engine_inputs, mutator, replication};

/// An input that takes longer, three times, is a finding: what is linear takes a hundredth of it.
const INPUT_TIME_MAX: Duration = Duration::from_secs(1);

/// Changed inputs that are kept, to be changed further.
const KEPT_MAX: usize = 64;

/// Findings of one target that are reported before the next target comes.
const FINDINGS_MAX: usize = 5;

/// Bytes of an input that is a whole corpus file; nothing larger is committed.
const FILE_BYTES_MAX: u64 = 1 << 20;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What the command line asks for.
struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    input: Option<PathBuf>,
    programs: Option<PathBuf>,
    list: bool,
}

/// How many tests went how.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    panic::set_hook(Box::new(|info| LAST_PANIC.with_borrow_mut(|last| *last = info.to_string())));
    if options.list {
        TARGETS.iter().for_each(|target| println!("{}", target.name));
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(tally) => {
            println!("{} passed, {} failed", tally.passed, tally.failed);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { seconds: 10, seed: 1, target: None, input: None, programs: None, list: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--seconds" => options.seconds = number(&value()?)?,
                "--seed" => options.seed = number(&value()?)?,
                "--target" => options.target = Some(value()?),
                "--input" => options.input = Some(value()?.into()),
                "--list" => options.list = true,
                "--write-programs" => options.programs = Some(value()?.into()),
                _ => return Err(format!("{word} is not known")),
            }
        }
        match &options.target {
            Some(name) if !TARGETS.iter().any(|target| target.name == name) => {
                Err(format!("{name} is no target; there are {:?}", TARGETS.map(|target| target.name)))
            }
            None if options.input.is_some() => Err("--input wants --target".to_owned()),
            _ => Ok(options),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn run(options: &Options) -> io::Result<Tally> {
    let mut tally = Tally::default();
    if let Some(folder) = &options.programs {
        return write_programs(folder);
    }
    for target in TARGETS {
        if options.target.as_ref().is_some_and(|name| name != target.name) {
            continue;
        }
        match &options.input {
            Some(file) => try_corpus(
                &target,
                &BTreeMap::from([(file.display().to_string(), fs::read(file)?)]),
                &mut tally,
            )?,
            None => {
                let corpus = corpus(&target)?;
                try_corpus(&target, &corpus, &mut tally)?;
                try_changed(&target, corpus.into_values().collect(), options, &mut tally)?;
            }
        }
    }
    Ok(tally)
}

/// Every committed input by its name, and those that the crate makes itself.
fn corpus(target: &Target) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![here.join("corpus").join(target.name)];
    if matches!(target.name, "message" | "framing") {
        let torture = here.join("../crates/sip/tests/corpora");
        folders.extend([torture.join("rfc4475"), torture.join("rfc5118")]);
    }
    let mut corpus = BTreeMap::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let is_input = path.extension().is_none_or(|extension| extension != "json");
            if is_input && fs::metadata(&path)?.len() <= FILE_BYTES_MAX {
                corpus.insert(path.display().to_string(), fs::read(&path)?);
            }
        }
    }
    if target.name == "engine" {
        corpus.extend(engine_inputs::programs().map(|(name, program)| (format!("program {name}"), program)));
    }
    if target.name == "call" {
        corpus.extend(
            call_capsule::capsules().into_iter().map(|(name, bytes)| (format!("call {name}"), bytes)),
        );
    }
    if target.name == "dialog" {
        corpus.extend(
            dialog_capsule::capsules().into_iter().map(|(name, bytes)| (format!("dialog {name}"), bytes)),
        );
    }
    if target.name == "replica" {
        corpus.extend(replication::conversations().map(|(name, words)| (format!("words {name}"), words)));
    }
    corpus.insert("nothing".to_owned(), Vec::new());
    Ok(corpus)
}

fn try_corpus(target: &Target, corpus: &BTreeMap<String, Vec<u8>>, tally: &mut Tally) -> io::Result<()> {
    for (name, input) in corpus {
        match attempt(target, input) {
            Ok(_) => tally.passed += 1,
            Err(problem) => {
                tally.failed += 1;
                println!("{}: {name}: {problem}", target.name);
            }
        }
    }
    println!("{}: {} inputs of the corpus tried", target.name, corpus.len());
    Ok(())
}

fn try_changed(
    target: &Target,
    corpus: Vec<Vec<u8>>,
    options: &Options,
    tally: &mut Tally,
) -> io::Result<()> {
    let mut rng = Rng::new(options.seed);
    let (mut kept, mut tried, mut findings) = (Vec::<Vec<u8>>::new(), 0u64, BTreeSet::new());
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(options.seconds) && findings.len() < FINDINGS_MAX {
        let from = if kept.is_empty() || rng.once_in(2) { &corpus } else { &kept };
        let mut input = from[rng.below(from.len())].clone();
        let other = &corpus[rng.below(corpus.len())];
        mutator::mutate(&mut rng, &mut input, other, target.bytes_max);
        tried += 1;
        match attempt(target, &input) {
            Ok(time) => slowest = slowest.max(time),
            // Of findings that read the same one is enough.
            Err(problem) => {
                if !findings.contains(&problem) {
                    let file = keep(target, &input)?;
                    println!("{}: {problem}", target.name);
                    println!(
                        "  again: cargo run --profile checked -p fuzz -- --target {} --input {}",
                        target.name,
                        file.display()
                    );
                    findings.insert(problem);
                }
                continue;
            }
        }
        if kept.len() < KEPT_MAX {
            kept.push(input);
        } else if rng.once_in(8) {
            let place = rng.below(KEPT_MAX);
            kept[place] = input;
        }
    }
    let seconds = start.elapsed().as_secs_f32();
    println!("{}: {tried} changed inputs in {seconds:.0} s, the slowest took {slowest:.1?}", target.name);
    match findings.len() {
        0 => tally.passed += 1,
        count => tally.failed += count,
    }
    Ok(())
}

/// Tries one input: how long it took, or what is wrong.
fn attempt(target: &Target, input: &[u8]) -> Result<Duration, String> {
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let start = processor_time();
        if panic::catch_unwind(|| target.run(input)).is_err() {
            return Err(LAST_PANIC.with_borrow(Clone::clone));
        }
        shortest = shortest.min(processor_time().saturating_sub(start));
        if shortest <= INPUT_TIME_MAX {
            return Ok(shortest);
        }
    }
    Err(format!("{} bytes took more than {INPUT_TIME_MAX:?} of the processor", input.len()))
}

/// What this thread has used: a busy machine makes no input slow.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Writes an input down where it can be tried again.
fn keep(target: &Target, input: &[u8]) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
    fs::create_dir_all(&folder)?;
    let hash = input.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let file = folder.join(format!("{hash:016x}"));
    fs::write(&file, input)?;
    Ok(file)
}

/// Writes the programs of this crate to files, for libFuzzer to begin with.
fn write_programs(folder: &Path) -> io::Result<Tally> {
    fs::create_dir_all(folder)?;
    let mut tally = Tally::default();
    for (name, program) in engine_inputs::programs() {
        fs::write(folder.join(name), program)?;
        tally.passed += 1;
    }
    Ok(tally)
}
