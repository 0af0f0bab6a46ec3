//! A witness whose memory is a row on a server: `cluster.witness` that names etcd.

use std::path::PathBuf;

use super::super::problem::Wrong;
use super::super::value::Value;

/// What kind of server has the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A key of etcd.
    Etcd,
}

impl RowKind {
    const ALL: [Self; 1] = [Self::Etcd];

    /// How an operator names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Etcd => 2379,
        }
    }

    fn of_scheme(scheme: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == scheme)
    }
}

/// The servers that have the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWitness {
    /// What they are.
    pub kind: RowKind,
    /// Each by its name or address, and its port. Never empty.
    pub servers: Vec<(String, u16)>,
    /// As whom they are spoken to; empty: nobody in particular.
    pub user: String,
    /// The file that has the user's password.
    pub password_file: Option<PathBuf>,
    /// The file with the certificates that are believed; with it the servers are spoken to by TLS.
    pub ca_file: Option<PathBuf>,
}

/// One server, as an entry of the list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowServer {
    pub(super) kind: RowKind,
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
}

impl RowServer {
    /// Reads `etcd://user@host:port`.
    pub(super) fn read(value: &Value<'_>, scheme: &str, rest: &str) -> Result<Self, Wrong> {
        const FORM: &str =
            "write \"etcd://10.0.0.5:2379\", or \"etcd://tandem@etcd1.example.org:2379\" with a user";
        let Some(kind) = RowKind::of_scheme(scheme) else {
            let what = format!("names a witness by `{scheme}`, which this version does not know");
            let mend = "write \"tandem://192.0.2.9:7950\" for `tandem witness` on a third host, or \"etcd://10.0.0.5:2379\"";
            return Err(value.wrong(what, mend));
        };
        let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        if user.contains(':') {
            let mend = "leave it out here; write it alone into a file and name that in witness_password_file";
            return Err(value.wrong("has a password in it, which everybody would see", mend));
        }
        let place = place.trim_end_matches('/');
        let is_ipv6 = place.starts_with('[');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !is_ipv6 || host.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(|| value.wrong("has no port that can be read", FORM))?)
            }
            _ => (place, kind.port()),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
        if host.is_empty() || !is_address && (is_ipv6 || !host.chars().all(is_letter)) {
            return Err(value.wrong("has no host that can be read", FORM));
        }
        let is_plain = |letter: char| letter.is_ascii_graphic() && letter != '/';
        if !user.chars().all(is_plain) {
            return Err(value.wrong("has a user that can not be read", FORM));
        }
        Ok(Self { kind, user: user.to_owned(), host: host.to_owned(), port })
    }
}
