//! What was measured, kept in a file line by line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::work::Work;
use crate::process;

/// All figures of one program.
#[derive(Debug)]
pub struct Kept {
    file: File,
    program: String,
    figures: BTreeMap<(Work, usize), Value>,
}

impl Kept {
    /// Reads those that are there, of this very program.
    pub fn open(path: &Path, binary: &Path) -> Result<Kept> {
        let program = fs::read(binary).with_context(|| binary.display().to_string())?;
        let program: String =
            Sha256::digest(&program).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let text = process::read_lossy(path);
        // A line that was cut off by an interruption, or is of another program, is none.
        let read = |line: &str| {
            let value: Value = serde_json::from_str(line).ok()?;
            let work = Work::named(value["work"].as_str()?)?;
            let key = (work, value["run"].as_u64()? as usize);
            (value["program"].as_str()? == program).then(|| (key, value["figures"].clone()))
        };
        let figures = text.lines().filter_map(read).collect();
        Ok(Kept { file: File::options().create(true).append(true).open(path)?, program, figures })
    }

    /// Whether a work was done.
    pub fn has(&self, run: usize, work: Work) -> bool {
        self.figures.contains_key(&(work, run))
    }

    /// Writes figures down.
    pub fn keep(&mut self, run: usize, work: Work, figures: Value) -> Result<()> {
        let line = json!({ "work": work.word(), "run": run, "program": self.program, "figures": figures });
        writeln!(self.file, "{line}")?;
        self.figures.insert((work, run), figures);
        Ok(())
    }

    /// The figures of all runs of a work.
    pub fn of(&self, work: Work) -> Vec<&Value> {
        self.figures.range((work, 0)..=(work, usize::MAX)).map(|(_, figures)| figures).collect()
    }

    /// Numbers with this name: one of each run, or a list of each.
    pub fn numbers(&self, work: Work, name: &str) -> Vec<f64> {
        let all = self.of(work).into_iter().flat_map(|figures| match &figures[name] {
            Value::Array(list) => list.iter().filter_map(Value::as_f64).collect::<Vec<_>>(),
            one => one.as_f64().into_iter().collect(),
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::Setup;
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_but_not_for_another_program() {
        let dir = std::env::temp_dir().join(format!("xtask-kept-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let (path, binary) = (dir.join("figures.jsonl"), dir.join("binary"));
        fs::write(&binary, "one").expect("written");
        let work = Work::Cost(Setup::Pair);

        let mut kept = Kept::open(&path, &binary).expect("a file");
        kept.keep(1, work, json!({ "us": 7.5, "gaps": [1, 2] })).expect("kept");
        fs::write(&path, format!("{}{{\"work\"", process::read_lossy(&path))).expect("written");

        let again = Kept::open(&path, &binary).expect("a file");
        assert!(again.has(1, work) && !again.has(2, work));
        assert_eq!((again.numbers(work, "us"), again.numbers(work, "gaps")), (vec![7.5], vec![1.0, 2.0]));
        fs::write(&binary, "another").expect("written");
        assert!(!Kept::open(&path, &binary).expect("a file").has(1, work));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
