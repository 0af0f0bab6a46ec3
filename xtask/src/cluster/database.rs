//! What the nodes' files say of their third vote.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};

use super::{WitnessKind, etcd};
use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::lab::pair::Pair;
use crate::server::PASSWORD;

/// Lines of a configuration.
#[derive(Debug, Default)]
pub struct Witness {
    /// Of `[cluster]`.
    pub lines: String,
    /// Of the file.
    pub toml: String,
}

/// What is to be written of this kind of witness.
pub fn witness(
    lab: &Lab,
    pair: &Pair,
    kind: WitnessKind,
    database: Option<&DatabaseServer>,
) -> Result<Witness> {
    let host = pair.witness.v4;
    let of = |lines: String| Ok(Witness { lines, ..Witness::default() });
    match kind {
        WitnessKind::Host => of(format!("witness = [\"tandem://{host}:7950\"]")),
        WitnessKind::Etcd => of(format!("witness = [\"etcd://{host}:{}\"]", etcd::PORT)),
        WitnessKind::Database(product) => {
            let database = database.context("there is no database")?;
            match product {
                Product::Postgres => Ok(Witness {
                    lines: "witness = \"database\"".to_owned(),
                    toml: format!("[database]\nurl = \"{}\"\ntls = \"off\"\n", database.url()),
                }),
                Product::MariaDb => {
                    let file = lab.dir.join("witness.password");
                    fs::write(&file, PASSWORD)?;
                    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
                    Ok(Witness {
                        lines: format!(
                            "witness = [\"{}\"]\nwitness_password_file = \"{}\"",
                            database.url_without_password(),
                            file.display()
                        ),
                        toml: "[database]\ntls = \"off\"\n".to_owned(),
                    })
                }
            }
        }
    }
}
