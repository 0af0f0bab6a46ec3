//! `cargo xtask tidy`: what a machine can check of the architecture.
//!
//! Each check is a function from texts to findings, so that its tests need no repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace;

mod floors;
mod links;
mod names;
mod purity;
mod references;
mod shape;
mod source;

use source::Source;

/// Where the index of the standards is.
const INDEX: &str = "docs/rfc.md";

/// What to do with `docs/rfc.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// It must be as the code says.
    Check,
    /// Write it.
    Write,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root of the repository.
    pub path: String,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Checks the repository and prints what it finds.
pub fn run(index: Index) -> Result<ExitCode> {
    let root = workspace::root();
    let sources = read_sources(&root)?;
    let pages = read_pages(&root)?;
    let manifests = floors::read_manifests(&root)?;
    let mut findings = floors::check(&manifests);
    for source in &sources {
        findings.extend(purity::check(source));
        findings.extend(shape::check(source));
        findings.extend(names::check(source));
        findings.extend(references::check(source));
    }
    let wanted = references::index(&sources);
    match index {
        Index::Write => {
            fs::create_dir_all(root.join("docs"))?;
            fs::write(root.join(INDEX), wanted).context("cannot write docs/rfc.md")?;
        }
        Index::Check => {
            if fs::read_to_string(root.join(INDEX)).unwrap_or_default() != wanted {
                let what = "is not as the code says; `cargo xtask tidy --write` makes it so";
                findings.push(Finding { path: INDEX.into(), line: 0, what: what.into() });
            }
        }
    }
    findings.extend(links::check(&pages, |path| root.join(path).exists()));
    findings.sort();
    findings.dedup();
    for Finding { path, line, what } in &findings {
        match line {
            0 => println!("{path}: {what}"),
            _ => println!("{path}:{line}: {what}"),
        }
    }
    let count = sources.len();
    println!("tidy: {} findings in {count} source files", findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_sources(root: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in workspace::files(&root.join(folder), "rs")? {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            sources.push(Source::new(relative(root, &path), &text));
        }
    }
    source::mark_test_modules(&mut sources);
    Ok(sources)
}

fn read_pages(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    for path in workspace::files(root, "md")? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        pages.insert(relative(root, &path), text);
    }
    Ok(pages)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}
