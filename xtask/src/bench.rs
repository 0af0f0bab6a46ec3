//! `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;

/// Measures.
pub fn run() -> Result<ExitCode> {
    crate::packages::ensure_installed(crate::packages::FOR_BENCH, crate::packages::Consent::Ask)?;
    Ok(ExitCode::SUCCESS)
}
