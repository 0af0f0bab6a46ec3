//! The state directory: the database, the node's key, the control socket, and the lock that keeps a
//! second server out.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use keys::RootKey;
use rustix::fs::FlockOperation;
use zeroize::Zeroize;

use crate::config::Config;

/// Nobody but the server's user has a business in it.
const DIRECTORY_MODE: u32 = 0o700;
/// As for each file in it.
const FILE_MODE: u32 = 0o600;
const KEY_BYTES: usize = 32;

/// Where a server keeps what survives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory {
    path: PathBuf,
}

/// Shows others that the directory is in use. The kernel ends it with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it holds the lock while it is open")] File);

impl StateDirectory {
    /// The directory that the configuration names, or the usual one.
    pub fn of(config: &Config) -> Result<Self> {
        if let Some(path) = &config.node.state_directory {
            return Ok(Self::at(path));
        }
        Self::usual(|name| std::env::var(name).ok(), rustix::process::geteuid().is_root())
    }

    /// This very directory.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn usual(environment: impl Fn(&str) -> Option<String>, is_root: bool) -> Result<Self> {
        let path_in = |name| environment(name).filter(|path| path.starts_with('/')).map(PathBuf::from);
        // systemd may name several, separated by colons.
        if let Some(path) = path_in("STATE_DIRECTORY") {
            let first = path.to_string_lossy().split(':').next().map(PathBuf::from);
            return Ok(Self { path: first.unwrap_or(path) });
        }
        if is_root {
            return Ok(Self::at(Path::new("/var/lib/tandem")));
        }
        let local =
            path_in("XDG_STATE_HOME").or_else(|| path_in("HOME").map(|home| home.join(".local/state")));
        match local {
            Some(local) => Ok(Self { path: local.join("tandem") }),
            None => bail!("no place for the state: set node.state_directory in the configuration, or HOME"),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path.join("tandem.sqlite")
    }

    /// Where the records of calls are, if nothing else is said.
    pub fn records(&self) -> PathBuf {
        self.path.join("records")
    }

    /// How far the records are in the database.
    pub fn records_cursor(&self) -> PathBuf {
        self.path.join("records.cursor")
    }

    /// What tables of domains, peers and gateways said last.
    pub fn tables(&self) -> PathBuf {
        self.path.join("tables.json")
    }

    /// Where a running server is spoken to.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// What the guardian of a cluster's node keeps: of root alone.
    pub fn guardian(&self) -> PathBuf {
        self.path.join("guardian")
    }

    /// Where a running guardian is spoken to.
    pub fn guardian_socket(&self) -> PathBuf {
        self.guardian().join("control.sock")
    }

    /// What a witness keeps.
    pub fn witness(&self) -> PathBuf {
        self.path.join("witness")
    }

    /// Where a running witness is spoken to.
    pub fn witness_socket(&self) -> PathBuf {
        self.witness().join("control.sock")
    }

    /// Makes the directory and an empty database file, if they are not there. Root makes the file for the
    /// directory's owner, so that a server without rights can write what root has prepared.
    pub fn create(&self) -> Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        builder.create(&self.path).with_context(|| {
            let path = self.path.display();
            format!("the state directory {path} can not be made; name another by node.state_directory")
        })?;
        let database = self.database();
        match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&database) {
            Ok(file) => self.give_to_owner(&file).with_context(|| database.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "{} can not be written; run this as the user of the state directory",
                    database.display()
                )
            }),
        }
    }

    fn give_to_owner(&self, file: &File) -> io::Result<()> {
        let directory = fs::metadata(&self.path)?;
        if rustix::process::geteuid().is_root() && directory.uid() != 0 {
            std::os::unix::fs::fchown(file, Some(directory.uid()), Some(directory.gid()))?;
        }
        Ok(())
    }

    /// Takes the directory for this process, for life.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .with_context(|| format!("{} can not be opened", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only a hint for the reader.
                let _ = (&mut file).take(16).read_to_string(&mut pid);
                let pid = pid.trim();
                let who = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
                bail!(
                    "a server runs with the state directory {}{who}; stop it, or give this one another \
                     node.state_directory",
                    self.path.display()
                );
            }
            Err(error) => return Err(error).with_context(|| format!("{} can not be locked", path.display())),
        }
        // Only a hint for who comes second: on a full disk the server serves without it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock(file))
    }

    /// The node's secret; it is drawn at the first start.
    pub fn root_key(&self, _lock: &Lock) -> Result<RootKey> {
        let path = self.path.join("node.key");
        let name = || path.display().to_string();
        if !path.exists() {
            let mut bytes = [0; KEY_BYTES];
            getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            replace(&path, &bytes).with_context(name)?;
            bytes.zeroize();
        }
        let mut bytes = [0; KEY_BYTES];
        let mut file = File::open(&path).with_context(name)?;
        let mode = file.metadata().with_context(name)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!(
                "{0} can be read by others (mode {mode:o}); `chmod 600 {0}`, and remove it if it was read",
                name()
            );
        }
        let is_whole = file.read_exact(&mut bytes).is_ok() && file.read(&mut [0]).is_ok_and(|more| more == 0);
        if !is_whole || bytes == [0; KEY_BYTES] {
            bail!(
                "{0} is damaged: it must be {KEY_BYTES} random bytes; restore it, or remove it to get another",
                name()
            );
        }
        let key = RootKey::new(bytes);
        bytes.zeroize();
        Ok(key)
    }

    /// The number of this start: no other start with this directory has it.
    pub fn next_boot(&self, _lock: &Lock) -> Result<u32> {
        let path = self.path.join("boot");
        let name = || path.display().to_string();
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u32>().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
            Err(error) => return Err(error).with_context(name),
        };
        let boot = match last.and_then(|last| last.checked_add(1)) {
            Some(boot) => boot,
            // The file is damaged. What was given before is unlikely to be drawn.
            None => drawn_boot()?,
        };
        match replace(&path, format!("{boot}\n").as_bytes()) {
            Ok(()) => Ok(boot),
            // A full disk keeps nobody from serving. The number can not be given again if it was drawn.
            Err(error) => {
                tracing::error!(
                    file = name(),
                    %error,
                    "the state directory can not be written; make room, or give it to the user that runs the server"
                );
                drawn_boot()
            }
        }
    }
}

fn drawn_boot() -> Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u32::from_ne_bytes(bytes) / 2)
}

/// Writes a file whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_usual_place_depends_on_who_asks() {
        let usual = |variables: &[(&str, &str)], is_root| {
            let find = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            StateDirectory::usual(find, is_root).map(|directory| directory.path.display().to_string()).ok()
        };

        assert_eq!(
            usual(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], true).as_deref(),
            Some("/var/lib/a")
        );
        assert_eq!(usual(&[("HOME", "/root")], true).as_deref(), Some("/var/lib/tandem"));
        assert_eq!(usual(&[("HOME", "/home/x")], false).as_deref(), Some("/home/x/.local/state/tandem"));
        assert_eq!(usual(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")], false).as_deref(), Some("/s/tandem"));
        assert_eq!(
            usual(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")], false).as_deref(),
            Some("/h/.local/state/tandem")
        );
        assert_eq!(usual(&[], false), None);
    }

    #[test]
    fn a_second_server_is_told_who_has_the_directory() {
        let (_temporary, state) = made();
        let lock = state.lock().expect("it is free");

        let error = state.lock().expect_err("it is taken").to_string();

        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(lock);
        state.lock().expect("it is free again");
    }

    #[test]
    fn the_key_is_drawn_once_and_for_its_owner_alone() {
        let (_temporary, state) = made();
        let lock = state.lock().expect("it is free");
        let mac = |key: RootKey| key.subkey("test", 0).mac(&[b"x"]);

        let first = mac(state.root_key(&lock).expect("it is drawn"));

        assert_eq!(mac(state.root_key(&lock).expect("it is read")), first);
        let mode = fs::metadata(state.path.join("node.key")).expect("it is there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let (_temporary, other) = made();
        let lock = other.lock().expect("it is free");
        assert_ne!(mac(other.root_key(&lock).expect("it is drawn")), first);
    }

    #[test]
    fn a_key_that_is_damaged_or_open_to_others_is_refused() {
        let (_temporary, state) = made();
        let lock = state.lock().expect("it is free");
        let path = state.path.join("node.key");
        for bytes in [&[7; 31][..], &[7; 33], &[0; 32], &[]] {
            replace(&path, bytes).expect("written");
            let error = state.root_key(&lock).expect_err("it is damaged").to_string();
            assert!(error.contains("is damaged"), "{error}");
        }

        replace(&path, &[7; 32]).expect("written");
        state.root_key(&lock).expect("it is right");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is ours");
        let error = state.root_key(&lock).expect_err("others can read it").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn no_two_starts_have_one_number() {
        let (_temporary, state) = made();
        let lock = state.lock().expect("it is free");

        assert_eq!(state.next_boot(&lock).expect("it is written"), 1);
        assert_eq!(state.next_boot(&lock).expect("it is written"), 2);
        fs::write(state.path.join("boot"), "rubbish").expect("written");
        let drawn = state.next_boot(&lock).expect("it is written");
        assert_eq!(state.next_boot(&lock).expect("it is written"), drawn + 1);
    }

    #[test]
    fn others_can_not_enter_the_directory_or_read_the_database() {
        let temporary = tempfile::TempDir::new().expect("there is a place for it");
        let state = StateDirectory::at(&temporary.path().join("a/b"));

        state.create().expect("it can be made");
        state.create().expect("doing it twice is no error");

        assert_eq!(fs::metadata(&state.path).expect("it is there").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.database()).expect("it is there").mode() & 0o777, 0o600);
    }

    fn made() -> (tempfile::TempDir, StateDirectory) {
        let temporary = tempfile::TempDir::new().expect("there is a place for it");
        let state = StateDirectory::at(temporary.path());
        state.create().expect("it can be made");
        (temporary, state)
    }
}
