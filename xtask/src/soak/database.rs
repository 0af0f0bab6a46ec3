//! `cargo xtask soak database`: a pair under load whose database is stopped, cut off, slow, full, restarted in the middle of batches
//! and moved to another host, while nodes of the pair die and change places. Afterwards the books are closed.
//!
//! One life takes five minutes at most and has all of it, each for its share. What was done is in a file, so that it can be
//! stopped and goes on with the next life. While a file named `pause` stands beside it no life begins.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::database_server::Product;
use crate::outage::Load;
use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod life;
mod page;
mod record;
mod trouble;

use record::Record;

/// Unless told otherwise.
const MINUTES: u64 = 5;
const REGISTERS: u32 = 500;
const CALLS: u32 = 200;
/// Phones come round so often.
const ROUND: u32 = 20;
/// The longest life.
const LIFE_MAX: Duration = Duration::from_secs(300);
/// While this file is there, no life begins.
const PAUSE: &str = "pause";
/// Where the result is written.
const PAGE: &str = "bench/SOAK-DATABASE.md";
/// After so many lives that have failed somebody must look.
const FAILURES_MAX: usize = 5;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    minutes: u64,
    registers: u32,
    calls: u32,
    product: Product,
    dir: PathBuf,
    program: Option<PathBuf>,
    consent: Consent,
}

impl Options {
    /// Reads the words after `database`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            minutes: MINUTES,
            registers: REGISTERS,
            calls: CALLS,
            product: Product::Postgres,
            dir: workspace::target().join("soak-database"),
            program: None,
            consent: Consent::Ask,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--minutes" => options.minutes = value()?.parse().context("--minutes wants a number")?,
                "--registers-per-second" => {
                    options.registers = value()?.parse().context("--registers-per-second wants a number")?;
                }
                "--calls-per-second" => {
                    options.calls = value()?.parse().context("--calls-per-second wants a number")?;
                }
                "--mariadb" => options.product = Product::MariaDb,
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--yes" => options.consent = Consent::Given,
                unknown => bail!("{unknown} is not known"),
            }
        }
        ensure!(options.minutes > 0, "--minutes wants at least 1");
        ensure!(options.registers >= 20, "--registers-per-second wants at least 20");
        // Each kind of call is at least one in a second.
        ensure!(options.calls >= 10, "--calls-per-second wants at least 10");
        Ok(options)
    }

    /// How long each life takes, but for its end.
    fn lives(&self) -> Vec<Duration> {
        let whole = Duration::from_secs(60 * self.minutes);
        let count = whole.as_secs().div_ceil(LIFE_MAX.as_secs());
        vec![whole / count as u32; count as usize]
    }

    fn load(&self, life: u64) -> Load {
        Load {
            product: self.product,
            phones: self.registers * ROUND,
            registers: self.registers,
            calls: self.calls,
            seed: life,
        }
    }

    /// As somebody would type it.
    fn command(&self) -> String {
        let mut command = format!(
            "cargo xtask soak database --minutes {} --registers-per-second {} --calls-per-second {}",
            self.minutes, self.registers, self.calls
        );
        if self.product == Product::MariaDb {
            command += " --mariadb";
        }
        command
    }
}

/// The lives that are left, each in namespaces of its own, and the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { dir, program, consent, .. } = options;
    packages::ensure_installed(packages::FOR_SOAK_DATABASE, &[], *consent)?;
    let binary = match program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    let lives = options.lives();
    println!(
        "{} of {} lives are done. To pause: touch {}. To stop: Ctrl-C; the same command goes on.",
        Record::open(dir, &options.command())?.lives().len(),
        lives.len(),
        dir.join(PAUSE).display()
    );
    loop {
        let record = Record::open(dir, &options.command())?;
        let number = record.lives().len();
        let Some(length) = lives.get(number) else {
            println!("{} says that all is done; remove it to begin again.", record.path().display());
            break;
        };
        if record.failures().len() >= FAILURES_MAX {
            println!("{FAILURES_MAX} lives have failed.");
            break;
        }
        while dir.join(PAUSE).exists() {
            std::thread::sleep(Duration::from_secs(1));
        }
        let Load { phones, registers, calls, seed, .. } = options.load(number as u64 + 1);
        let product = options.product.scheme();
        let mut command = lab::alone();
        command.arg(std::env::current_exe()?).arg("soak-database-here").arg(dir).arg(&binary);
        command.arg(options.command()).arg(length.as_secs().to_string()).arg(product);
        command.args([phones, registers, calls].map(|number| number.to_string())).arg(seed.to_string());
        process::loudly(&mut command)?;
    }
    let record = Record::open(dir, &options.command())?;
    let page = page::page(&record, options, &binary)?;
    println!("\n{page}");
    let place = workspace::root().join(PAGE);
    let old = std::fs::read_to_string(&place).unwrap_or_default();
    let page = format!("{page}\n{}", crate::bench::explanation(&old));
    std::fs::write(&place, page).with_context(|| place.display().to_string())?;
    println!("written to {PAGE}");
    Ok(if page::is_good(record.lives(), record.failures()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One life; the process is alone in its namespaces. What is wrong with it is written down, and another one goes on.
pub fn run_here(words: &[&str]) -> Result<ExitCode> {
    let [dir, binary, command, seconds, product, phones, registers, calls, seed] = words else {
        bail!("nine words are wanted")
    };
    let (dir, binary) = (Path::new(dir), Path::new(binary));
    let product = [Product::Postgres, Product::MariaDb].into_iter().find(|it| it.scheme() == *product);
    let load = Load {
        product: product.context("no such product")?,
        phones: phones.parse()?,
        registers: registers.parse()?,
        calls: calls.parse()?,
        seed: seed.parse()?,
    };
    let mut record = Record::open(dir, command)?;
    // What a life that has failed left behind tells why; the next one is beside it.
    let place = dir.join(format!("life-{seed}-{}", record.failures().len()));
    std::fs::create_dir_all(&place)?;
    let start = Instant::now();
    match life::live(&lab::Lab::new(&place, binary)?, load, Duration::from_secs(seconds.parse()?)) {
        Ok(life) => {
            println!("life {seed}, {} s: {}", start.elapsed().as_secs(), life.verdict());
            if life.faults.is_empty() {
                std::fs::remove_dir_all(&place)?;
            }
            record.append(life)?;
        }
        Err(error) => {
            println!("life {seed} did not come to its end: {error:#}");
            let why: Vec<String> = error.chain().take(2).map(ToString::to_string).collect();
            record.fail(&format!("life {seed}: {}", why.join(": ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options_and_an_hour_is_twelve_lives() {
        let options = |words: &[&str]| Options::parse(words);
        let hour =
            options(&["--minutes", "60", "--mariadb", "--calls-per-second", "30"]).expect("known words");

        assert_eq!(hour.lives(), vec![LIFE_MAX; 12]);
        assert_eq!((hour.product, hour.load(1).calls), (Product::MariaDb, 30));
        assert_eq!(options(&["--minutes", "1"]).expect("known words").lives(), [Duration::from_secs(60)]);
        assert!(options(&["--minutes"]).is_err());
        assert!(options(&["--minutes", "0"]).is_err());
        assert!(options(&["--calls-per-second", "1"]).is_err());
        assert!(options(&["--kills", "2"]).is_err());
    }
}
