//! `cargo xtask gate`: builds the program of the gate in the kernel from its source. The object is in the tree, so that
//! nobody needs clang to build Tandem; the test command builds it again and compares.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{process, workspace};

/// The compiler of Debian 12. Another version writes other bytes for the same program.
const CLANG: &str = "clang-14";
const STRIP: &str = "llvm-strip-14";

/// Writes the object.
pub fn write() -> Result<()> {
    let object = folder().join("gate.o");
    fs::write(&object, build()?).with_context(|| object.display().to_string())?;
    println!("{} is written", object.display());
    Ok(())
}

/// Fails if the tree's object is not what its source gives.
pub fn check() -> Result<()> {
    let kept = fs::read(folder().join("gate.o"))?;
    ensure!(
        build()? == kept,
        "crates/host/bpf/gate.o is not what gate.c gives: run `cargo xtask gate` and commit it with the source"
    );
    Ok(())
}

fn build() -> Result<Vec<u8>> {
    let object = workspace::target().join("gate.o");
    fs::create_dir_all(workspace::target())?;
    let mut clang = Command::new(CLANG);
    clang.current_dir(folder());
    // Maps are described by BTF, which -g writes; the rest of what it writes is stripped. No path of this machine stays.
    clang.args([
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-Wall",
        "-Werror",
        "-fdebug-compilation-dir=.",
        "-c",
        "gate.c",
    ]);
    clang.arg("-o").arg(&object);
    process::loudly(&mut clang).with_context(|| format!("{CLANG} (Debian package clang-14)"))?;
    process::loudly(Command::new(STRIP).arg("-g").arg(&object))
        .with_context(|| format!("{STRIP} (Debian package llvm-14)"))?;
    fs::read(&object).with_context(|| object.display().to_string())
}

fn folder() -> PathBuf {
    workspace::root().join("crates/host/bpf")
}
