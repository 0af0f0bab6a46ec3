//! The password of the witness's user, in a file.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

/// No password is longer.
const FILE_BYTES_MAX: u64 = 4_096;

/// Reads the first line of a file that nobody else can read.
pub fn read(file: &Path) -> Result<Zeroizing<String>> {
    let name = file.display();
    let mend = || format!("cluster.witness_password_file names {name}, which can not be read");
    let opened = File::open(file).with_context(mend)?;
    let mode = opened.metadata().with_context(mend)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{name} is open to others (mode {mode:o}): `chmod 600 {name}`");
    }
    let mut text = Zeroizing::new(String::new());
    opened.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(mend)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Zeroizing::new(line.to_owned())),
        None => bail!("{name} has no password on its first line"),
    }
}
