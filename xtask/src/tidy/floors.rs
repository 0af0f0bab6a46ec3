//! Crates stand on floors and use lower ones only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Finding;

/// The floors. Two crates of one floor do not know each other, but for [`NEIGHBOURS`].
const FLOORS: &[(&str, u8)] = &[
    ("clock", 0),
    ("keys", 0),
    ("lease", 0),
    ("sip", 0),
    ("stun", 0),
    ("cluster", 1),
    ("media", 1),
    ("replica", 1),
    ("transaction", 1),
    ("transport", 1),
    ("routing", 2),
    ("engine", 3),
    ("admin", 4),
    ("host", 4),
    ("net", 4),
    ("peer", 4),
    ("store", 4),
    ("sim", 4),
    ("tandem", 5),
    ("xtask", 5),
];

/// The uses within a floor: a lease is a proof about time.
const NEIGHBOURS: &[(&str, &str)] = &[("lease", "clock")];

/// What a crate must not use, though it stands lower.
const STRANGERS: &[(&str, &str)] =
    &[("media", "sip"), ("cluster", "sip"), ("replica", "sip"), ("routing", "replica"), ("tandem", "sim")];

/// Up to this floor there is no I/O, no clock, no randomness, no task and no lock.
pub const PURE_FLOOR_MAX: u8 = 3;

/// Foreign crates that would bring those.
const IMPURE: &[&str] = &[
    "async-trait",
    "futures",
    "getrandom",
    "hickory-resolver",
    "libc",
    "mio",
    "nix",
    "parking_lot",
    "rand",
    "rusqlite",
    "rustix",
    "socket2",
    "sqlx",
    "tokio",
];

/// The floor of a crate.
pub fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// A crate's folder and what its Cargo.toml says.
#[derive(Clone, Debug)]
pub struct Manifest {
    folder: String,
    toml: toml::Table,
}

/// Reads all Cargo.toml of the workspace's crates.
pub fn read_manifests(root: &Path) -> Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut folders = vec![root.join("xtask")];
    for entry in fs::read_dir(root.join("crates"))? {
        folders.push(entry?.path());
    }
    for folder in folders {
        let file = folder.join("Cargo.toml");
        if !file.exists() {
            continue;
        }
        let text = fs::read_to_string(&file)?;
        let folder = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        manifests.push(Manifest::new(&folder, &text).with_context(|| file.display().to_string())?);
    }
    Ok(manifests)
}

impl Manifest {
    fn new(folder: &str, text: &str) -> Result<Manifest> {
        Ok(Manifest { folder: folder.to_owned(), toml: text.parse()? })
    }

    fn path(&self) -> String {
        match self.folder.as_str() {
            "xtask" => "xtask/Cargo.toml".to_owned(),
            folder => format!("crates/{folder}/Cargo.toml"),
        }
    }

    fn name(&self) -> &str {
        let package = self.toml.get("package");
        package.and_then(|package| package.get("name")?.as_str()).unwrap_or_default()
    }

    /// The names of what it uses, from the tables whose name ends so.
    fn uses(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let mut found = Vec::new();
        collect(&self.toml, &is_wanted, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn collect<'a>(table: &'a toml::Table, is_wanted: &impl Fn(&str) -> bool, found: &mut Vec<&'a str>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if is_wanted(key) {
            for (name, value) in inner {
                let renamed = value.get("package").and_then(|package| package.as_str());
                found.push(renamed.unwrap_or(name));
            }
        } else if key == "target" {
            for value in inner.values().filter_map(|value| value.as_table()) {
                collect(value, is_wanted, found);
            }
        }
    }
}

/// What stands wrong.
pub fn check(manifests: &[Manifest]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests {
        let mut find = |what: String| {
            findings.push(Finding { path: manifest.path(), line: 0, what });
        };
        let name = manifest.name();
        if name != manifest.folder {
            find(format!("the crate {name} is in the folder {}", manifest.folder));
        }
        let Some(own) = floor(name) else {
            find(format!("the crate {name} stands on no floor (xtask/src/tidy/floors.rs)"));
            continue;
        };
        for used in manifest.uses(|key| key.ends_with("dependencies")) {
            let Some(other) = floor(used) else { continue };
            let is_neighbour = NEIGHBOURS.contains(&(name, used));
            if other >= own && !is_neighbour {
                find(format!("{name} (floor {own}) must not use {used} (floor {other})"));
            }
            if STRANGERS.contains(&(name, used)) {
                find(format!("{name} must not know {used}"));
            }
        }
        if own <= PURE_FLOOR_MAX {
            for used in manifest.uses(|key| key == "dependencies") {
                if IMPURE.contains(&used) {
                    find(format!("{name} (floor {own}) must not use {used}: no I/O below floor 4"));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_floors_may_be_used() {
        assert_eq!(found("routing", "[dependencies]\nsip.workspace = true\nclock = {}"), "");
        assert_eq!(found("lease", "[dependencies]\nclock.workspace = true"), "");
    }

    #[test]
    fn a_crate_above_or_beside_is_refused() {
        assert_eq!(
            found("sip", "[dependencies]\nclock.workspace = true"),
            "sip (floor 0) must not use clock (floor 0)"
        );
        assert_eq!(
            found("transport", "[dev-dependencies]\nengine = { path = \"../engine\" }"),
            "transport (floor 1) must not use engine (floor 3)"
        );
        assert_eq!(
            found("transport", "[target.'cfg(unix)'.dependencies]\nnet = {}"),
            "transport (floor 1) must not use net (floor 4)"
        );
    }

    #[test]
    fn a_renamed_crate_is_seen() {
        assert_eq!(
            found("sip", "[dependencies]\ntime = { package = \"clock\", path = \"x\" }"),
            "sip (floor 0) must not use clock (floor 0)"
        );
    }

    #[test]
    fn media_does_not_know_sip() {
        assert_eq!(found("media", "[dependencies]\nsip = {}"), "media must not know sip");
    }

    #[test]
    fn tokio_is_refused_below_floor_4() {
        let uses_tokio = "[dependencies]\ntokio = \"1\"";

        assert!(found("engine", uses_tokio).contains("no I/O below floor 4"));
        assert_eq!(found("net", uses_tokio), "");
    }

    #[test]
    fn a_crate_without_a_floor_is_refused() {
        assert!(found("util", "").contains("stands on no floor"));
    }

    #[test]
    fn the_folder_has_the_crates_name() {
        let text = "[package]\nname = \"sip\"";
        let manifest = Manifest::new("syntax", text).expect("TOML");

        let findings = check(&[manifest]);

        assert_eq!(findings[0].what, "the crate sip is in the folder syntax");
    }

    fn found(name: &str, rest: &str) -> String {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        let manifest = Manifest::new(name, &text).expect("TOML");
        check(&[manifest]).into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("; ")
    }
}
