//! What stands in the files and not yet in the database: the files are the queue, and a cursor says how far it is served.
//!
//! The cursor moves only when what lies before it is in the database, and it is on the disk before anything is removed. One
//! that is lost, or behind, costs nothing but time: what is offered twice is written once. A file that was taken away
//! and made anew under the same name is known by how it begins.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bounds::Bounds;
use super::journal::{Name, names_in};
use super::line::Line;

/// What is read of a file at a time, and the longest line: a record has some 1,000 bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// What is counted at a time of lines that nobody has offered yet.
const COUNT_BYTES_MAX: u64 = 64 << 20;
/// By these first bytes a file is known. A line begins with its id.
const HEAD_BYTES: usize = 64;

/// A place in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// In this file.
    pub name: Name,
    /// So many bytes are before it.
    pub offset: u64,
    /// A hash of how the file begins, as far as it is before this place.
    head: u64,
}

/// One line, and the place behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub said: Said,
    /// Behind it.
    pub end: Place,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A record.
    Record(Box<Line>),
    /// Nothing that can be read: the bytes.
    Nothing(Vec<u8>),
}

/// The queue.
#[derive(Debug)]
pub struct Owed {
    directory: PathBuf,
    cursor_file: PathBuf,
    bounds: Arc<Bounds>,
    at: Option<Place>,
    counted: Counted,
}

/// Lines behind the cursor.
#[derive(Debug, Default)]
struct Counted {
    lines: u64,
    /// Counted up to here; `None`: nothing yet.
    to: Option<Place>,
}

/// The file of the cursor.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    file: String,
    offset: u64,
    head: String,
}

/// What was read of a file.
struct Chunk {
    from: Place,
    bytes: Vec<u8>,
    head: Vec<u8>,
    /// Whether this is all that the file will ever have, and there is another one behind it.
    is_last: bool,
}

impl Owed {
    /// Reads the cursor. Without one that can be read everything in the files is owed.
    pub fn open(directory: &Path, cursor_file: &Path, bounds: Arc<Bounds>) -> Self {
        let mut at = match read_cursor(cursor_file) {
            Ok(at) => at,
            Err(error) => {
                let file = cursor_file.display();
                tracing::warn!(%file, %error, "how far records are in the database can not be read: all in the files are offered again");
                None
            }
        };
        // Before anything is written to it: what is in the place of lines that a loss of power took is not in the database.
        if let Some(at) = at.as_mut()
            && std::fs::metadata(directory.join(at.name.to_string())).is_ok_and(|file| file.len() < at.offset)
        {
            tracing::warn!(file = %at.name, "a file of records is shorter than what was read of it: it is offered again");
            (at.offset, at.head) = (0, hash(&[], 0));
        }
        if let Some(at) = at {
            bounds.read_to(at.name);
        }
        Self {
            directory: directory.to_owned(),
            cursor_file: cursor_file.to_owned(),
            bounds,
            at,
            counted: Counted { lines: 0, to: at },
        }
    }

    /// Everything before it is in the database; `None`: nothing is.
    pub fn at(&self) -> Option<Place> {
        self.at
    }

    /// The next lines, so many at most.
    pub fn next(&self, lines_max: usize) -> io::Result<Vec<Entry>> {
        self.lines_from(self.at, lines_max)
    }

    /// The lines from a place on.
    pub fn lines_from(&self, mut from: Option<Place>, lines_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while let Some(chunk) = self.chunk(from)? {
            entries.extend(chunk.entries().take(lines_max));
            if !entries.is_empty() || !chunk.is_last {
                break;
            }
            from = self.first_of_file(|name| chunk.from.name < name)?;
            if from.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    /// All before this place is in the database.
    pub fn advance(&mut self, to: Place, lines: u64) -> io::Result<()> {
        let saved = Saved { file: to.name.to_string(), offset: to.offset, head: format!("{:016x}", to.head) };
        save(&self.cursor_file, &serde_json::to_vec(&saved)?)?;
        self.at = Some(to);
        self.bounds.read_to(to.name);
        match self.counted.to {
            Some(counted) if to < counted => self.counted.lines = self.counted.lines.saturating_sub(lines),
            _ => self.counted = Counted { lines: 0, to: Some(to) },
        }
        Ok(())
    }

    /// How many lines are owed. What nobody has looked at yet is counted, in steps if it is much.
    pub fn count(&mut self) -> io::Result<u64> {
        let (mut bytes, mut from) = (0, self.counted.to);
        while let Some(chunk) = self.chunk(from)?.filter(|_| bytes < COUNT_BYTES_MAX) {
            let whole = chunk.whole();
            let lines = whole.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.counted.lines += lines;
            bytes += whole.len() as u64;
            from = match whole.len() {
                0 if chunk.is_last => match self.first_of_file(|name| chunk.from.name < name)? {
                    Some(next) => Some(next),
                    None => break,
                },
                0 => break,
                length => Some(chunk.place_at(length)),
            };
            self.counted.to = from;
        }
        Ok(self.counted.lines)
    }

    /// A place so many bytes before the cursor; not farther back than in the file before the cursor's.
    pub fn before_cursor(&self, bytes: u64) -> io::Result<Option<Place>> {
        let Some(at) = self.at else { return Ok(None) };
        let (name, offset) = match at.offset.checked_sub(bytes) {
            Some(offset) => (at.name, offset),
            None => {
                let before = names_in(&self.directory)?.into_iter().rfind(|name| *name < at.name);
                let Some(name) = before else { return self.place(at.name, 0) };
                let length = std::fs::metadata(self.path(name))?.len();
                (name, length.saturating_sub(bytes - at.offset))
            }
        };
        self.place(name, offset)
    }

    /// Removes the files that are in the database, but for the last of them, of which some may be offered again.
    pub fn remove_written(&self) -> io::Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        let written: Vec<Name> =
            names_in(&self.directory)?.into_iter().filter(|name| *name < at.name).collect();
        for name in written.iter().rev().skip(1) {
            std::fs::remove_file(self.path(*name))?;
        }
        Ok(())
    }

    /// A place in a file; `None`: somebody took it away.
    fn place(&self, name: Name, offset: u64) -> io::Result<Option<Place>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let head = read_at(&file, 0, HEAD_BYTES)?;
        Ok(Some(Place { name, offset, head: hash(&head, offset) }))
    }

    fn first_of_file(&self, is_wanted: impl Fn(Name) -> bool) -> io::Result<Option<Place>> {
        let name = names_in(&self.directory)?.into_iter().find(|name| is_wanted(*name));
        Ok(name.map(|name| Place { name, offset: 0, head: hash(&[], 0) }))
    }

    /// What follows a place; `None`: there is no file.
    fn chunk(&self, from: Option<Place>) -> io::Result<Option<Chunk>> {
        let names = names_in(&self.directory)?;
        let wanted = from.map(|from| from.name);
        let Some(name) = names.iter().copied().find(|name| wanted.is_none_or(|wanted| wanted <= *name))
        else {
            return Ok(None);
        };
        let file = File::open(self.path(name))?;
        let head = read_at(&file, 0, HEAD_BYTES)?;
        let length = file.metadata()?.len();
        let beginning = Place { name, offset: 0, head: hash(&[], 0) };
        let from = match from.filter(|from| from.name == name) {
            None => beginning,
            Some(from) if from.offset <= length && hash(&head, from.offset) == from.head => from,
            Some(_) => {
                tracing::warn!(file = %name, "a file of records is another one than before: it is read from its beginning");
                beginning
            }
        };
        let mut bytes = read_at(&file, from.offset, CHUNK_BYTES)?;
        // Looked at after the reading: what was there then and is not below this end may be taken back.
        let end = self.bounds.end_of(name);
        if let Some(end) = end {
            bytes.truncate(usize::try_from(end.saturating_sub(from.offset)).unwrap_or(usize::MAX));
        }
        let is_read_whole = bytes.len() < CHUNK_BYTES;
        let is_last = is_read_whole && end.is_none() && names.last() != Some(&name);
        Ok(Some(Chunk { from, bytes, head, is_last }))
    }

    fn path(&self, name: Name) -> PathBuf {
        self.directory.join(name.to_string())
    }
}

impl Chunk {
    /// Lines with their ends; of a file that gets no more also what has none, and what is too long for a line.
    fn whole(&self) -> &[u8] {
        let has_all = self.is_last || (self.bytes.len() == CHUNK_BYTES && !self.bytes.contains(&b'\n'));
        if has_all {
            return &self.bytes;
        }
        let end = self.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        &self.bytes[..end]
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut length = 0;
        self.whole().split_inclusive(|byte| *byte == b'\n').map(move |line| {
            length += line.len();
            let said = serde_json::from_slice(line).map(|line| Said::Record(Box::new(line)));
            Entry {
                said: said.unwrap_or_else(|_| Said::Nothing(line.to_owned())),
                end: self.place_at(length),
            }
        })
    }

    fn place_at(&self, length: usize) -> Place {
        let offset = self.from.offset + length as u64;
        Place { name: self.from.name, offset, head: hash(&self.head, offset) }
    }
}

fn hash(head: &[u8], offset: u64) -> u64 {
    let length = usize::try_from(offset).unwrap_or(usize::MAX).min(head.len()).min(HEAD_BYTES);
    let digest = Sha256::digest(&head[..length]);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

fn read_at(file: &File, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; bytes_max];
    let mut length = 0;
    while length < bytes_max {
        match file.read_at(&mut bytes[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn read_cursor(file: &Path) -> io::Result<Option<Place>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Saved { file, offset, head } = serde_json::from_slice(&bytes)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it names no file of records");
    let name = Name::read(file.as_ref()).ok_or_else(wrong)?;
    Ok(Some(Place { name, offset, head: u64::from_str_radix(&head, 16).map_err(|_| wrong())? }))
}

/// After a loss of power there is the old text or the new one.
fn save(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_data()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
