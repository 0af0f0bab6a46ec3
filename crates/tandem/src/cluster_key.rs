//! The cluster's key: one file, the same on all nodes and the witness. Who has it is a member.
//!
//! Nothing is done with the secret itself; each purpose has a key that is derived from it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use keys::RootKey;
use zeroize::Zeroizing;

use crate::config::cluster::Unfit;

const KEY_BYTES: usize = 32;
/// A file with a page of comments is no longer than this.
const FILE_BYTES_MAX: u64 = 4_096;
/// Seals what members say to each other.
const LINK_LABEL: &str = "link of the cluster";
/// Root of the keys for nonces and tokens: a phone that one node has challenged may answer the other.
const ENGINE_LABEL: &str = "engines of the cluster";
const ROW_LABEL: &str = "name of the witness's row";

/// The secret of a cluster.
#[derive(Debug)]
pub struct ClusterKey(RootKey);

/// A file is no key of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFileError {
    file: PathBuf,
    what: String,
    mend: String,
}

impl ClusterKey {
    /// Reads the key's file, which nobody else may be able to read.
    pub fn read(file: &Path) -> Result<Self, KeyFileError> {
        let name = file.display();
        let wrong = |what: String, mend: String| KeyFileError { file: file.to_owned(), what, mend };
        let make = format!("copy it from another node, or make it: `tandem cluster key > {name}`");
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => wrong("is not there".to_owned(), make.clone()),
            io::ErrorKind::PermissionDenied => {
                wrong("can not be read".to_owned(), format!("run this as root, or as the owner of {name}"))
            }
            _ => wrong(format!("can not be read: {error}"), make.clone()),
        };
        let opened = File::open(file).map_err(unreadable)?;
        let mode = opened.metadata().map_err(unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let what = format!("is open to others (mode {mode:o})");
            return Err(wrong(
                what,
                format!("`chmod 600 {name}`; if somebody may have read it, make another"),
            ));
        }
        let mut text = Zeroizing::new(String::new());
        opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        let is_whole = text.len() as u64 <= FILE_BYTES_MAX;
        parse(&text).filter(|_| is_whole).map(|bytes| Self(RootKey::new(*bytes))).ok_or_else(|| {
            let what = format!("is no key: it must have one line of {} hexadecimal digits", 2 * KEY_BYTES);
            wrong(what, make.clone())
        })
    }

    /// What seals the link.
    pub fn link(&self) -> [u8; KEY_BYTES] {
        *self.0.derived(LINK_LABEL).as_bytes()
    }

    /// The root of what engines make: the same on all nodes.
    pub fn engine(&self) -> RootKey {
        self.0.derived(ENGINE_LABEL)
    }

    /// What tells the row of this cluster's witness from those of others on the same server. It is no secret.
    pub fn row_name(&self) -> String {
        format!("{:016x}", self.0.subkey(ROW_LABEL, 0).mac(&[]).short())
    }
}

/// A key that nobody has had before, as the text of its file.
pub fn drawn() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes)?;
    let mut digits = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES));
    keys::hex(&*bytes, &mut digits);
    let digits = Zeroizing::new(String::from_utf8_lossy(&digits).into_owned());
    Ok(Zeroizing::new(format!(
        "# The key of a Tandem cluster: the same file on all nodes and the witness, mode 600, and nowhere else.\n{}\n",
        *digits
    )))
}

fn parse(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (line, rest) = (lines.next()?, lines.next());
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let is_key = rest.is_none() && keys::hex_decode(line.as_bytes(), &mut *bytes) && *bytes != [0; KEY_BYTES];
    is_key.then_some(bytes)
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.file.display(), self.what, self.mend)
    }
}

impl std::error::Error for KeyFileError {}

impl From<KeyFileError> for Unfit {
    fn from(error: KeyFileError) -> Self {
        Self { key: "cluster.key", what: error.what, mend: error.mend }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_was_drawn_is_read_and_no_two_are_the_same() {
        let (first, second) = (drawn().expect("there is chance"), drawn().expect("there is chance"));

        let key = read(&first, 0o600).expect("it is a key");
        assert_eq!(key.link(), read(&first, 0o400).expect("it is a key").link());
        assert_ne!(key.link(), read(&second, 0o600).expect("it is a key").link());
    }

    #[test]
    fn the_link_and_the_engines_have_keys_of_their_own() {
        let key = read(&drawn().expect("there is chance"), 0o600).expect("it is a key");
        let mac = |root: RootKey| root.subkey("test", 0).mac(&[b"x"]);

        assert_eq!(mac(key.engine()), mac(key.engine()));
        assert_ne!(mac(key.engine()), mac(RootKey::new(key.link())));
    }

    #[test]
    fn a_file_that_is_open_to_others_is_refused() {
        let text = drawn().expect("there is chance");
        for mode in [0o640, 0o604, 0o620, 0o644, 0o666] {
            let error = read(&text, mode).expect_err("others can read it").to_string();
            assert!(error.contains(&format!("(mode {mode:o})")) && error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let key = "ab".repeat(KEY_BYTES);
        for text in [
            String::new(),
            "# a comment\n".to_owned(),
            "00".repeat(KEY_BYTES),
            key[2..].to_owned(),
            format!("{key}ab"),
            format!("{key}\n{key}\n"),
            format!("x{}", &key[1..]),
            format!("{key}{}", "\n".repeat(FILE_BYTES_MAX as usize)),
        ] {
            let error = read(&text, 0o600).expect_err("it is no key").to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
            assert!(!error.contains("abab"), "{error}");
        }
        read(&format!("\n  {}  \r\n\n# end", key.to_uppercase()), 0o600)
            .expect("spaces and case do not count");
    }

    #[test]
    fn a_file_that_is_not_there_is_told_how_to_be_made() {
        let error = ClusterKey::read(Path::new("/nowhere/key")).expect_err("it is not there").to_string();

        assert!(
            error.contains("/nowhere/key is not there") && error.contains("tandem cluster key >"),
            "{error}"
        );
    }

    fn read(text: &str, mode: u32) -> Result<ClusterKey, KeyFileError> {
        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        std::fs::write(file.path(), text).expect("it can be written");
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("it is ours");
        ClusterKey::read(file.path())
    }
}
