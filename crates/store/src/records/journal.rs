//! The files that records are appended to: one begins with each day, and when the one before is large enough.
//!
//! Their names sort as they were written: `calls-2026-11-27.001.jsonl`. A clock that was set back begins no file before
//! those that are there. A line that could not be written whole is taken back; where even that fails, as after a loss of
//! power, the next line begins on a line of its own.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use clock::WallTime;

use super::RecordSettings;
use super::bounds::Bounds;
use super::calendar::Day;

/// The files of one directory.
#[derive(Debug)]
pub struct Journal {
    settings: RecordSettings,
    bounds: Arc<Bounds>,
    open: Option<Open>,
    is_dirty: bool,
}

/// The file that is being written.
#[derive(Debug)]
struct Open {
    name: Name,
    file: File,
    /// Without what could not be written whole.
    bytes: u64,
}

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    day: Day,
    number: u32,
}

impl Journal {
    /// None of them is open. The bounds are for who reads the files meanwhile.
    pub fn new(settings: RecordSettings, bounds: Arc<Bounds>) -> Self {
        Self { settings, bounds, open: None, is_dirty: false }
    }

    /// Whether something was written that may not be on the disk.
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Appends whole lines. After an error none of them is there.
    pub fn append(&mut self, now: WallTime, lines: &[u8]) -> io::Result<()> {
        let mut open = self.file_for(now)?;
        let written = open.file.write_all(lines);
        match written {
            Ok(()) => {
                open.bytes += lines.len() as u64;
                self.bounds.written_to(open.name, open.bytes);
                self.is_dirty = true;
                self.open = Some(open);
                Ok(())
            }
            Err(error) => {
                // If this fails too the next one to open the file sees that a line has no end. What went before is still to
                // be forced to the disk.
                if open.file.set_len(open.bytes).is_ok() {
                    self.open = Some(open);
                } else if self.is_dirty && open.file.sync_data().is_ok() {
                    self.is_dirty = false;
                }
                Err(error)
            }
        }
    }

    /// Forces what was written to the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.as_ref().filter(|_| self.is_dirty) {
            open.file.sync_data()?;
        }
        self.is_dirty = false;
        Ok(())
    }

    fn file_for(&mut self, now: WallTime) -> io::Result<Open> {
        let day = Day::of(now);
        if let Some(open) = self.open.take() {
            if open.name.day >= day && open.bytes < self.settings.file_bytes_max && self.is_there(&open) {
                return Ok(open);
            }
            if self.is_dirty {
                if let Err(error) = open.file.sync_data() {
                    self.open = Some(open);
                    return Err(error);
                }
                self.is_dirty = false;
            }
        }
        let names = self.names()?;
        let first = Name { day, number: 1 };
        if let Some(last) = names.last().filter(|last| last.day >= day) {
            let open = self.open_to_append(*last)?;
            if open.bytes < self.settings.file_bytes_max {
                return Ok(open);
            }
        }
        let next = match names.last() {
            Some(last) if last.day >= day => Name { day: last.day, number: last.number.saturating_add(1) },
            _ => first,
        };
        let open = self.open_to_append(next)?;
        self.remove_oldest(&names, next);
        Ok(open)
    }

    /// Whether the file is still the one of its name: what is written to one that was removed is lost without a word.
    fn is_there(&self, open: &Open) -> bool {
        let (found, mine) = (std::fs::metadata(self.path(open.name)), open.file.metadata());
        let identity = |it: &std::fs::Metadata| (it.dev(), it.ino());
        found.is_ok_and(|found| mine.is_ok_and(|mine| identity(&found) == identity(&mine)))
    }

    fn open_to_append(&self, name: Name) -> io::Result<Open> {
        let mut options = OpenOptions::new();
        // What calls whom is not for everybody on the host.
        let mut file = options.read(true).append(true).create(true).mode(0o640).open(self.path(name))?;
        let mut bytes = file.metadata()?.len();
        // Before anything is written, so that who reads never takes what may be taken back.
        self.bounds.written_to(name, bytes);
        if bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(bytes - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Open { name, file, bytes })
    }

    /// So many as are to stay, and those that somebody has still to read.
    fn remove_oldest(&self, names: &[Name], next: Name) {
        let before = names.iter().filter(|name| **name != next);
        let surplus = (before.clone().count() + 1).saturating_sub(self.settings.files_max.max(1));
        for name in before.take(surplus).filter(|name| self.bounds.is_read(**name)) {
            match std::fs::remove_file(self.path(*name)) {
                Ok(()) => tracing::info!(file = %name, "an old file of records was removed"),
                Err(error) => {
                    tracing::warn!(file = %name, %error, "an old file of records could not be removed")
                }
            }
        }
    }

    /// The files that are there, the oldest first.
    fn names(&self) -> io::Result<Vec<Name>> {
        names_in(&self.settings.directory)
    }

    fn path(&self, name: Name) -> PathBuf {
        self.settings.directory.join(name.to_string())
    }
}

/// The files of records in a directory, the oldest first.
pub fn names_in(directory: &std::path::Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(Name::read(&entry?.file_name()));
    }
    names.sort_unstable();
    Ok(names)
}

impl Name {
    /// `None`: it is no file of records.
    pub fn read(name: &OsStr) -> Option<Self> {
        let text = name.to_str()?.strip_prefix("calls-")?.strip_suffix(".jsonl")?;
        let (day, number) = text.split_once('.')?;
        let mut parts = day.split('-').map(|part| part.parse().ok());
        let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
        let name = Self { day: Day { year, month, day }, number: number.parse().ok()? };
        // Only what this writes: `001`, not `1`.
        (name.to_string() == format!("calls-{text}.jsonl")).then_some(name)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "calls-{}.{:03}.jsonl", self.day, self.number)
    }
}
