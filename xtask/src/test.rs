//! `cargo xtask test`: everything that shows the program right, in one command.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::scenario::{self, Place, Tally};
use crate::{checked, gate, process, soak, tidy, workspace};

/// The seeds of the short simulation.
const SEEDS: &str = "200";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    consent: Consent,
    program: Program,
    filter: String,
}

/// Which program the scenarios run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Program {
    Release,
    Debug,
    Built(PathBuf),
}

impl Options {
    /// Reads the words after `test`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options { consent: Consent::Ask, program: Program::Release, filter: String::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--yes" => options.consent = Consent::Given,
                "--debug" => options.program = Program::Debug,
                "--program" => {
                    let path = words.next().context("--program wants a path")?;
                    options.program = Program::Built(std::path::absolute(path)?);
                }
                unknown if unknown.starts_with('-') => bail!("{unknown} is not known"),
                filter => {
                    ensure!(options.filter.is_empty(), "more than one filter");
                    options.filter = filter.to_owned();
                }
            }
        }
        Ok(options)
    }
}

/// A step before the scenarios; it counts as one test.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "tidy", run: || tidy::run(tidy::Index::Check).and_then(succeeded) },
    Step { name: "formatting", run: || cargo(&["fmt", "--all", "--check"]) },
    Step {
        name: "lints",
        run: || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    },
    Step { name: "unit_tests", run: unit_tests },
    Step { name: "gate_object", run: gate::check },
    // Every order of events in the small, and many by chance: never two holders.
    Step { name: "lease", run: || cargo(&[LEASE, &["--", "--skip", "planted", "--nocapture"]].concat()) },
    // A fault for each rule of the lease, of the replica and of what joins them, planted in turn: model and simulated worlds
    // must find every one.
    Step {
        name: "planted_faults",
        run: || {
            cargo(&[LEASE, &["--", "--test-threads", "1", "planted"]].concat())?;
            checked::planted_faults()
        },
    },
    Step { name: "fuzz", run: soak::fuzz::once },
    Step { name: "simulation", run: || checked::simulate(&["--seeds", SEEDS]) },
    Step { name: "simulated_pair", run: || checked::simulate(&["--pair", "--seeds", SEEDS]) },
    Step { name: "simulated_talk", run: || checked::simulate(&["--talk", "--seeds", SEEDS, "--jobs", "2"]) },
    Step { name: "simulated_calls", run: || checked::simulate(&["--calls", "--jobs", "2"]) },
];

/// The lease's proofs, as `cargo xtask soak lease` builds them too.
const LEASE: &[&str] = soak::lease::TESTS;

/// Runs what the options ask for; the last line says how it went.
pub fn run(options: &Options) -> Result<ExitCode> {
    let filter = options.filter.as_str();
    let steps: Vec<_> = STEPS.iter().filter(|step| step.name.contains(filter)).collect();
    let scenarios = scenario::all().iter().filter(|one| one.name.contains(filter)).count();
    ensure!(!steps.is_empty() || scenarios > 0, "nothing has {filter:?} in its name");
    if scenarios > 0 {
        packages::ensure_installed(packages::FOR_TESTS, packages::WISHED_FOR_TESTS, options.consent)?;
    }
    let mut tally = Tally::default();
    for step in steps {
        println!("== {}", step.name);
        count(step.name, step.run, &mut tally);
    }
    if scenarios > 0 {
        println!("== scenarios with the program");
        run_scenarios(options, scenarios, &mut tally)?;
    }
    let Tally { passed, failed, skipped, remarks } = tally;
    for remark in remarks {
        println!("{remark}");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_scenarios(options: &Options, scenarios: usize, tally: &mut Tally) -> Result<()> {
    let (build, folder): (fn() -> Result<()>, _) = match options.program {
        Program::Debug => (build_debug, "debug"),
        Program::Release | Program::Built(_) => (build_release, "release"),
    };
    let binary = match &options.program {
        Program::Built(path) => path.clone(),
        Program::Release | Program::Debug => {
            if !count("build", build, tally) {
                tally.skipped += scenarios;
                return Ok(());
            }
            workspace::target().join(folder).join("tandem")
        }
    };
    let place = Place { binary, dir: workspace::target().join("scenarios") };
    let found = scenario::run_all(&options.filter, &place)?;
    tally.passed += found.passed;
    tally.failed += found.failed;
    tally.skipped += found.skipped;
    tally.remarks.extend(found.remarks);
    Ok(())
}

/// The faults that scenarios need are in the program only with this feature.
const BUILD: [&str; 5] = ["build", "-p", "tandem", "--features", "tandem/test-faults"];

fn build_debug() -> Result<()> {
    cargo(&BUILD)
}

fn build_release() -> Result<()> {
    cargo(&[&BUILD[..], &["--release"]].concat())
}

/// Runs one step and says how it went; whether it passed.
fn count(name: &str, run: fn() -> Result<()>, tally: &mut Tally) -> bool {
    let start = Instant::now();
    let end = run();
    let seconds = start.elapsed().as_secs_f32();
    match end {
        Ok(()) => {
            tally.passed += 1;
            println!("step {name} ... ok ({seconds:.1} s)");
            true
        }
        Err(error) => {
            println!("step {name} ... FAILED ({seconds:.1} s)\n  {error:#}");
            tally.fail(name, &format!("{error:#}"));
            false
        }
    }
}

/// The database servers are installed, so that no test may skip them.
fn unit_tests() -> Result<()> {
    let mut command = workspace::cargo(&["test", "--workspace", "--no-fail-fast"]);
    process::loudly(command.env("TANDEM_TEST_SERVERS", "required"))
}

fn cargo(words: &[&str]) -> Result<()> {
    process::loudly(&mut workspace::cargo(words))
}

fn succeeded(code: ExitCode) -> Result<()> {
    ensure!(code == ExitCode::SUCCESS, "see above");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--yes", "nonce", "--debug"]).expect("known words");

        assert_eq!(options.consent, Consent::Given);
        assert_eq!(options.program, Program::Debug);
        assert_eq!(options.filter, "nonce");
    }

    #[test]
    fn an_unknown_option_and_a_second_filter_are_refused() {
        assert!(Options::parse(&["--no"]).is_err());
        assert!(Options::parse(&["one", "two"]).is_err());
    }
}
