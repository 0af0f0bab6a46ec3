//! What a member remembers across its starts: its voter's record, and which voters it has heard of others.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cluster::{Incarnation, MemberId, Record, VoterId};
use rustix::fs::FlockOperation;

/// Nobody but the guardian has a business in it.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Bytes of a file that is read: longer than any that is written.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The guardian's own directory, held for life: two guardians with one memory would be one voter that votes twice.
#[derive(Debug)]
pub struct Memory {
    directory: PathBuf,
    /// It holds the lock while it is open.
    _lock: File,
}

impl Memory {
    /// Makes the directory if it is not there, and takes it.
    pub fn open(directory: &Path) -> Result<Self> {
        let name = directory.display();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder.create(directory).with_context(|| format!("the directory {name} can not be made"))?;
        let lock = directory.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(&lock).with_context(|| format!("{} can not be opened", lock.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                bail!("{name} is in use: this node's guardian, or this witness, runs already")
            }
            Err(error) => bail!("{} can not be locked: {error}", lock.display()),
        }
        Ok(Self { directory: directory.to_owned(), _lock: file })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The voter's record; at the first start a voter is made and is on disk when this returns.
    pub fn record(&self) -> Result<Record> {
        let path = self.directory.join(RECORD);
        let name = path.display();
        let Some(bytes) = read(&path).with_context(|| format!("{name} can not be read"))? else {
            let record = Record::first(VoterId(chance()?));
            replace(&path, &record.to_bytes()).with_context(|| format!("{name} can not be written"))?;
            tracing::info!(voter = %voter_text(record.voter), "first start: this voter was made");
            return Ok(record);
        };
        match Record::from_bytes(&bytes) {
            Ok(record) => Ok(record),
            Err(error) => bail!(
                "{name} is {error}. What this voter has granted is lost. Remove the file to begin with a new voter: the other \
                 members do not count it until `tandem cluster accept` is given on each"
            ),
        }
    }

    /// The voters that were heard of other members at earlier starts.
    pub fn members(&self) -> Result<BTreeMap<MemberId, VoterId>> {
        let path = self.directory.join(MEMBERS);
        let name = path.display();
        let bytes = read(&path).with_context(|| format!("{name} can not be read"))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .map(|line| {
                let (member, voter) = line.split_once(' ')?;
                Some((MemberId(member.parse().ok()?), VoterId(u64::from_str_radix(voter, 16).ok()?)))
            })
            .collect::<Option<_>>()
            .with_context(|| {
                format!("{name} is damaged; remove it, and the voters of all members are learnt anew")
            })
    }
}

pub(super) const RECORD: &str = "voter";
pub(super) const MEMBERS: &str = "members";

/// The text of the file of learnt voters.
pub fn members_text(members: &BTreeMap<MemberId, VoterId>) -> String {
    members.iter().map(|(member, voter)| format!("{} {}\n", member.0, voter_text(*voter))).collect()
}

/// A voter as an operator sees it.
pub fn voter_text(voter: VoterId) -> String {
    format!("{:016x}", voter.0)
}

/// This start of a guardian.
pub fn incarnation() -> Result<Incarnation> {
    Ok(Incarnation(chance()?))
}

/// A random number.
pub fn chance() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Writes a file so that after a crash it is the old one or the new one, and is on disk when this returns.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_is_made_once_and_is_the_same_ever_after() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let first = Memory::open(place.path()).and_then(|memory| memory.record()).expect("it can be made");

        let again = Memory::open(place.path()).and_then(|memory| memory.record()).expect("it is there");

        assert_eq!(again, first);
    }

    #[test]
    fn a_second_guardian_is_kept_out() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let _first = Memory::open(place.path()).expect("it is free");

        let error = Memory::open(place.path()).expect_err("it is in use");

        assert!(error.to_string().contains("runs already"), "{error}");
    }

    #[test]
    fn a_damaged_record_is_refused_with_what_to_do() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let memory = Memory::open(place.path()).expect("it is free");
        let mut bytes = memory.record().expect("it can be made").to_bytes();
        bytes[20] ^= 1;
        std::fs::write(place.path().join(RECORD), bytes).expect("it can be written");

        let error = memory.record().expect_err("it is damaged").to_string();

        assert!(error.contains("checksum") && error.contains("tandem cluster accept"), "{error}");
    }

    #[test]
    fn learnt_voters_are_read_as_they_were_written() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let memory = Memory::open(place.path()).expect("it is free");
        let members = BTreeMap::from([(MemberId(0), VoterId(7)), (MemberId(2), VoterId(u64::MAX))]);
        assert_eq!(memory.members().expect("none is none"), BTreeMap::new());

        replace(&place.path().join(MEMBERS), members_text(&members).as_bytes()).expect("it can be written");
        assert_eq!(memory.members().expect("it is there"), members);

        std::fs::write(place.path().join(MEMBERS), "0 zz\n").expect("it can be written");
        assert!(memory.members().is_err(), "a member whose voter is unknown would be learnt anew");
    }
}
