//! Lines that the database can not take, kept beside the files for somebody who looks at them.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is kept: 60,000 lines or so. If there are more something is wrong that each of them would say again.
const BYTES_MAX: u64 = 64 << 20;
/// Its name in the directory of the records.
const NAME: &str = "not-in-database.jsonl";

/// The file.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
}

impl Aside {
    /// In a directory. It is made when the first line comes.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(NAME) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line; one for which there is no room is only logged by who calls.
    pub fn add(&self, line: &[u8]) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).mode(0o640).open(&self.path)?;
        if file.metadata()?.len() + line.len() as u64 > BYTES_MAX {
            return Ok(());
        }
        let mut whole = line.to_owned();
        if whole.last() != Some(&b'\n') {
            whole.push(b'\n');
        }
        file.write_all(&whole)?;
        file.sync_data()
    }
}
