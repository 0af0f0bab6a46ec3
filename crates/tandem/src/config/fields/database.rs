//! `[database]`

use std::path::PathBuf;
use std::time::Duration;

use store::{BadUrl, ServerUrl, Tls};

use super::{Field, Section};
use crate::config::problem::Wrong;
use crate::config::value::Value;

/// The shortest that a server in the next rack can be held to.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// A phone gives up after 32 seconds.
const TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// The table.
pub const SECTION: Section = Section {
    name: "database",
    meaning: &[
        "A database server that has the accounts: Tandem's own tables, or those of OpenSIPS or Kamailio. Changes here",
        "need a restart.",
    ],
    fields: &[
        Field {
            key: "url",
            default: "\"\"",
            meaning: &[
                "Where: \"postgres://USER:PASSWORD@HOST[:PORT][,HOST...]/DATABASE\" or \"mysql://...\". Of several hosts the",
                "one is used that can be written. A host that begins with %2F is a socket: for PostgreSQL its directory,",
                "for MySQL its file. Empty: accounts are in the state directory.",
            ],
            set: |config, value| {
                let text = value.text()?;
                let told = |BadUrl { what, mend }| value.wrong(what, mend);
                config.database.url =
                    (!text.is_empty()).then(|| ServerUrl::parse(text)).transpose().map_err(told)?;
                Ok(())
            },
        },
        Field {
            key: "password_file",
            default: "\"\"",
            meaning: &["A file whose first line is the password, instead of one in the URL."],
            set: |config, value| {
                config.database.password_file = path(value)?;
                Ok(())
            },
        },
        Field {
            key: "tls",
            default: "\"auto\"",
            meaning: &[
                "\"verify\": the server must have a certificate for the name that the URL calls it by; \"encrypt\": any",
                "certificate will do; \"off\": whoever is on the way can read all. \"auto\": off on this host, else verify.",
            ],
            set: |config, value| {
                config.database.tls = value.word(&[
                    ("auto", Tls::Auto),
                    ("verify", Tls::Verify),
                    ("encrypt", Tls::Encrypt),
                    ("off", Tls::Off),
                ])?;
                Ok(())
            },
        },
        Field {
            key: "ca",
            default: "\"\"",
            meaning: &["Certificates in PEM that sign the server's. Empty: the public authorities."],
            set: |config, value| {
                config.database.authorities = path(value)?;
                Ok(())
            },
        },
        Field {
            key: "timeout",
            default: "\"2s\"",
            meaning: &[
                "What connecting, and each statement, may take. After that the server counts as away.",
            ],
            set: |config, value| {
                config.database.timeout = value.duration(TIMEOUT_MIN..=TIMEOUT_MAX)?;
                Ok(())
            },
        },
    ],
};

fn path(value: &Value<'_>) -> Result<Option<PathBuf>, Wrong> {
    let text = value.text()?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(value.wrong("is not a whole path", "write a path that begins with /"));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
