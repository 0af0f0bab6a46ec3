//! `[database]`

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use store::{BadUrl, ServerUrl, Tls};

use super::{Field, Section};
use crate::config::problem::Wrong;
use crate::config::value::Value;
use crate::database::Location;

/// The shortest that a server in the next rack can be held to.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// A phone gives up after 32 seconds.
const TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// What Kamailio's column can hold.
const GROUP_MAX: u64 = 4_294_967_295;

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
        Field {
            key: "location",
            default: "\"off\"",
            meaning: &[
                "\"own\": the table location of the database has what is registered here, for servers beside this one; rows",
                "of others are REMOVED from it, those that were there first after `tandem import`. \"off\": it is not",
                "touched. \"shared\": servers beside this one write it too, and each finds the phones of the others there.",
                "See docs/database.md.",
            ],
            set: |config, value| {
                config.database.location = value.word(&[
                    ("off", Location::Off),
                    ("own", Location::Own),
                    ("shared", Location::Shared),
                ])?;
                Ok(())
            },
        },
        Field {
            key: "location_peers",
            default: "[]",
            meaning: &[
                "With location = \"shared\": the addresses of the servers that write the table too: [\"192.0.2.30\"]. A call for",
                "a phone that is registered at one of them goes to it; rows of all others are passed over.",
            ],
            set: |config, value| {
                config.database.location_peers = value.list(address)?.into_iter().collect();
                Ok(())
            },
        },
        Field {
            key: "time_zone",
            default: "\"\"",
            meaning: &[
                "The time zone of dates in the table location, as Kamailio's host has it: \"Europe/Berlin\". Empty: this host's.",
            ],
            set: |config, value| {
                config.database.time_zone = value.text()?.to_owned();
                Ok(())
            },
        },
        Field {
            key: "domain",
            default: "false",
            meaning: &["Whether the table `domain` names domains of this server, beside sip.domains."],
            set: |config, value| {
                config.database.lists.domains = value.truth()?;
                Ok(())
            },
        },
        Field {
            key: "address_groups",
            default: "[]",
            meaning: &[
                "Groups of the table `address` whose addresses are trusted, like those of [[trusted]]: [1]. What a group",
                "means, the script of your server says; some keep strangers out. Empty: the table is not read.",
            ],
            set: |config, value| {
                let groups = value.list(|group| group.number(0..=GROUP_MAX))?;
                config.database.lists.groups = groups.into_iter().collect();
                Ok(())
            },
        },
        Field {
            key: "trusted",
            default: "false",
            meaning: &[
                "Whether the addresses of the table `trusted` are trusted, like those of [[trusted]].",
            ],
            set: |config, value| {
                config.database.lists.trusted = value.truth()?;
                Ok(())
            },
        },
        Field {
            key: "dispatcher",
            default: "false",
            meaning: &[
                "Whether gateways are read from the table `dispatcher`: a [[gateway]] with uri = \"dispatcher:1\" stands for set 1.",
            ],
            set: |config, value| {
                config.database.lists.dispatcher = value.truth()?;
                Ok(())
            },
        },
    ],
};

fn address(value: &Value<'_>) -> Result<IpAddr, Wrong> {
    let address = value.text()?.parse::<IpAddr>();
    let mend = "write an address without a port: \"192.0.2.30\"";
    address.map(|address| address.to_canonical()).map_err(|_| value.wrong("is no address", mend))
}

fn path(value: &Value<'_>) -> Result<Option<PathBuf>, Wrong> {
    let text = value.text()?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(value.wrong("is not a whole path", "write a path that begins with /"));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
