//! The table of all keys: the one place that knows their names, defaults, limits and meaning. The
//! reader, the defaults and the printed reference are made from it, so they can not differ.

mod admission;
mod database;
mod edge;
mod records;
mod relay;
mod sip;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use routing::{Algorithm, Keepalive, ServiceRoute};

use super::listen::is_host_name;
use super::problem::Wrong;
use super::value::{Value, Wrongs};
use super::{Config, LogFormat, LogLevel, TrustedDraft};

pub use edge::EDGES;

/// One key of a table whose values go into a `T`.
pub struct Field<T> {
    /// Its name.
    pub key: &'static str,
    /// Its default, in TOML; for a key that must be given, an example.
    pub default: &'static str,
    /// What it means, in lines.
    pub meaning: &'static [&'static str],
    /// Reads a value.
    pub set: fn(&mut T, &Value<'_>) -> Result<(), Wrongs>,
}

/// One table of the file.
pub struct Section {
    /// Its name: `sip.tcp`.
    pub name: &'static str,
    /// What it is for, in lines.
    pub meaning: &'static [&'static str],
    /// Its keys.
    pub fields: &'static [Field<Config>],
}

/// A table that may stand several times.
pub struct List<T: 'static> {
    /// Its name: `trusted`.
    pub name: &'static str,
    /// What it is for, in lines.
    pub meaning: &'static [&'static str],
    /// What must stand in it, for mends.
    pub example: &'static str,
    /// How many there may be.
    pub entries_max: usize,
    /// Its keys.
    pub fields: &'static [Field<T>],
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Threads: the server takes no more.
const THREADS_MAX: u64 = 256;
/// Half of what a phone asks for; more only makes work.
const EXPIRES_SPREAD_MAX: u64 = 50;
/// Contacts of one address of record: each of them rings at every call.
const CONTACTS_MAX: u64 = 1_000;
/// Longer than any name that `useradd` takes.
const USER_BYTES_MAX: usize = 64;
/// Characters of one text.
const TEXT_BYTES_MAX: usize = 255;

/// All tables that stand once, in the order of the reference.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "node",
        meaning: &["This host."],
        fields: &[
            Field {
                key: "name",
                default: "\"\"",
                meaning: &["How logs and status name this node. Empty: the host's name."],
                set: |config, value| {
                    config.node.name = line_of_text(value)?;
                    Ok(())
                },
            },
            Field {
                key: "state_directory",
                default: "\"\"",
                meaning: &[
                    "Where the database, the node's key and the control socket are. Empty: what systemd gives,",
                    "else /var/lib/tandem for root, else ~/.local/state/tandem.",
                ],
                set: |config, value| {
                    let text = value.text()?;
                    if !text.is_empty() && !text.starts_with('/') {
                        return Err(value
                            .wrong("is not a whole path", "write a path that begins with /")
                            .into());
                    }
                    config.node.state_directory = (!text.is_empty()).then(|| PathBuf::from(text));
                    Ok(())
                },
            },
            Field {
                key: "threads",
                default: "0",
                meaning: &["Threads that serve SIP. 0: one for each core."],
                set: |config, value| {
                    config.node.threads = value.number(0..=THREADS_MAX)? as usize;
                    Ok(())
                },
            },
            Field {
                key: "user",
                default: "\"\"",
                meaning: &[
                    "With [cluster]: the user that the part which speaks SIP runs as; it owns the state directory.",
                    "Empty: the user of the whole, without its rights. Needs a restart.",
                ],
                set: |config, value| {
                    config.node.user = user(value)?;
                    Ok(())
                },
            },
        ],
    },
    sip::SECTION,
    sip::TCP,
    Section {
        name: "registrar",
        meaning: &["Registrations of phones."],
        fields: &[
            Field {
                key: "min_expires",
                default: "\"60s\"",
                meaning: &["Phones that wish less are told to ask for more."],
                set: |config, value| {
                    config.registrar.min_expires = whole_seconds(value)?;
                    Ok(())
                },
            },
            Field {
                key: "max_expires",
                default: "\"1h\"",
                meaning: &["Phones that wish more get this."],
                set: |config, value| {
                    config.registrar.max_expires = whole_seconds(value)?;
                    Ok(())
                },
            },
            Field {
                key: "default_expires",
                default: "\"1h\"",
                meaning: &[
                    "For phones that wish nothing. If it is not written, as near to this as the two above allow.",
                ],
                set: |config, value| {
                    config.registrar.default_expires = whole_seconds(value)?;
                    Ok(())
                },
            },
            Field {
                key: "expires_spread",
                default: "10",
                meaning: &[
                    "Each registration is granted up to so many percent less than the phone asks for, but never less than",
                    "min_expires, so that phones that came all at once do not come back all at once. The phone goes by",
                    "what it is granted. 0: what it asks for.",
                ],
                set: |config, value| {
                    config.registrar.expires_spread_percent = value.number(0..=EXPIRES_SPREAD_MAX)? as u8;
                    Ok(())
                },
            },
            Field {
                key: "contacts_max",
                default: "10",
                meaning: &["How many phones may be registered for one address."],
                set: |config, value| {
                    config.registrar.contacts_max = value.number(1..=CONTACTS_MAX)? as usize;
                    Ok(())
                },
            },
            Field {
                key: "service_route",
                default: "\"off\"",
                meaning: &[
                    "Which phones are told to send their requests by this server (Service-Route): \"off\", \"path\"",
                    "(those that register through a proxy before this one, which must let such requests pass), \"always\".",
                ],
                set: |config, value| {
                    config.registrar.service_route = value.word(&[
                        ("off", ServiceRoute::Off),
                        ("path", ServiceRoute::WithPath),
                        ("always", ServiceRoute::Always),
                    ])?;
                    Ok(())
                },
            },
        ],
    },
    Section {
        name: "auth",
        meaning: &["How phones prove who they are."],
        fields: &[
            Field {
                key: "algorithms",
                default: "[\"SHA-256\", \"MD5\"]",
                meaning: &[
                    "Digest algorithms, offered in this order: \"SHA-512-256\", \"SHA-256\", \"MD5\".",
                    "Old phones refuse to register when any other than MD5 is offered: name them below,",
                    "or write [\"MD5\"].",
                ],
                set: |config, value| {
                    let algorithms = value.list(|entry| entry.word(ALGORITHMS))?;
                    if algorithms.is_empty() {
                        return Err(value
                            .wrong("is empty", "name at least one: [\"SHA-256\", \"MD5\"]")
                            .into());
                    }
                    if (1..algorithms.len()).any(|at| algorithms[..at].contains(&algorithms[at])) {
                        return Err(value
                            .wrong("names an algorithm twice", "name each algorithm once")
                            .into());
                    }
                    config.digest.algorithms = algorithms;
                    Ok(())
                },
            },
            Field {
                key: "md5_only_agents",
                default: "[\"baresip v0\", \"baresip v1\", \"sipp\", \"sipsak\"]",
                meaning: &[
                    "Clients whose User-Agent begins so are offered MD5 alone, if it is among the algorithms.",
                ],
                set: |config, value| {
                    config.digest.md5_only_agents = value.list(agent)?;
                    Ok(())
                },
            },
            Field {
                key: "realm",
                default: "\"\"",
                meaning: &[
                    "The realm of all domains. Empty: the domain of the request. Passwords are kept as hashes that",
                    "hold the realm: after a change of it each subscriber needs `tandem subscriber password`.",
                ],
                set: |config, value| {
                    let text = line_of_text(value)?;
                    if text.contains(['"', '\\']) {
                        let mend = "leave out quotes and backslashes";
                        return Err(value.wrong("has a character that no realm may have", mend).into());
                    }
                    config.digest.realm = (!text.is_empty()).then_some(text);
                    Ok(())
                },
            },
            Field {
                key: "nonce_lifetime",
                default: "\"5m\"",
                meaning: &[
                    "How long a challenge may be used; then the phone gets a new one without asking its user.",
                ],
                set: |config, value| {
                    config.digest.nonce_lifetime = value.duration(10 * SECOND..=DAY)?;
                    Ok(())
                },
            },
        ],
    },
    Section {
        name: "nat",
        meaning: &["Phones behind NAT."],
        fields: &[
            Field {
                key: "keepalive",
                default: "\"options\"",
                meaning: &[
                    "What keeps the NAT open: \"options\" (also shows that the phone lives), \"crlf\" or \"off\".",
                ],
                set: |config, value| {
                    config.nat.keepalive = value.word(&[
                        ("options", Keepalive::Options),
                        ("crlf", Keepalive::Crlf),
                        ("off", Keepalive::Off),
                    ])?;
                    Ok(())
                },
            },
            Field {
                key: "keepalive_interval",
                default: "\"25s\"",
                meaning: &["How often. Many NATs forget a flow after 30 seconds."],
                set: |config, value| {
                    config.nat.interval = value.duration(SECOND..=HOUR)?;
                    Ok(())
                },
            },
            Field {
                key: "keepalive_failures",
                default: "3",
                meaning: &[
                    "After so many unanswered OPTIONS in a row the phone's registration ends. 0: never.",
                ],
                set: |config, value| {
                    config.nat.failures = value.number(0..=1_000)? as u32;
                    Ok(())
                },
            },
        ],
    },
    relay::SECTION,
    admission::SECTION,
    database::SECTION,
    records::SECTION,
    Section {
        name: "metrics",
        meaning: &["What Prometheus asks for, over HTTP."],
        fields: &[Field {
            key: "listen",
            default: "\"\"",
            meaning: &[
                "Where: \"127.0.0.1:9760\", then http://127.0.0.1:9760/metrics is served. Empty: nowhere. There is no",
                "password: let it be an address that only your Prometheus reaches. Nodes may have different ones.",
            ],
            set: |config, value| {
                config.metrics.listen = metrics_address(value)?;
                Ok(())
            },
        }],
    },
    Section {
        name: "log",
        meaning: &["What is logged, to standard error."],
        fields: &[
            Field {
                key: "level",
                default: "\"info\"",
                meaning: &["\"error\", \"warn\", \"info\", \"debug\" or \"trace\"."],
                set: |config, value| {
                    config.log.level = value.word(&[
                        ("error", LogLevel::Error),
                        ("warn", LogLevel::Warn),
                        ("info", LogLevel::Info),
                        ("debug", LogLevel::Debug),
                        ("trace", LogLevel::Trace),
                    ])?;
                    Ok(())
                },
            },
            Field {
                key: "format",
                default: "\"text\"",
                meaning: &["\"text\" or \"json\". Needs a restart."],
                set: |config, value| {
                    config.log.format =
                        value.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
                    Ok(())
                },
            },
        ],
    },
];

/// `[[trusted]]`.
pub const TRUSTED: List<TrustedDraft> = List {
    name: "trusted",
    meaning: &[
        "Peers that are believed by their address: they need no password, and their P-Asserted-Identity is kept.",
        "Repeat the table for each of them. There is none by default.",
    ],
    example: "address = \"198.51.100.0/24\"",
    // Each request is compared with all of them.
    entries_max: 1_000,
    fields: &[
        Field {
            key: "address",
            default: "\"198.51.100.0/24\"",
            meaning: &["An address or a network. It must be given."],
            set: |draft, value| {
                draft.network = Some(network(value)?);
                Ok(())
            },
        },
        Field {
            key: "name",
            default: "\"carrier\"",
            meaning: &["How logs name it. Empty or absent: its address."],
            set: |draft, value| {
                draft.name = line_of_text(value)?;
                Ok(())
            },
        },
    ],
};

const ALGORITHMS: &[(&str, Algorithm)] =
    &[("SHA-512-256", Algorithm::Sha512_256), ("SHA-256", Algorithm::Sha256), ("MD5", Algorithm::Md5)];

/// A network of somebody who is believed.
pub fn network(value: &Value<'_>) -> Result<IpNet, Wrong> {
    let text = value.text()?;
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_| {
            value.wrong("is no address", "write \"198.51.100.7\", \"198.51.100.0/24\" or \"2001:db8::/32\"")
        })?,
    };
    if network.prefix_len() == 0 {
        let mend = "name the peer's own network; who trusts everybody is an open relay";
        return Err(value.wrong("trusts the whole Internet", mend));
    }
    if network.trunc() != network {
        let mend = format!("write \"{}\" or a longer prefix", network.trunc());
        return Err(value.wrong("has bits after its prefix", mend));
    }
    Ok(network)
}

/// A text that can stand in a header field.
pub fn line_of_text(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(value.wrong("is too long", format!("write at most {TEXT_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(value.wrong("has a control character", "write one line of plain text"));
    }
    Ok(text.trim().to_owned())
}

fn metrics_address(value: &Value<'_>) -> Result<Option<SocketAddr>, Wrong> {
    const MEND: &str = "write an address with its port: \"127.0.0.1:9760\" or \"[::1]:9760\"";
    let text = value.text()?;
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(value.wrong("has no port", MEND)),
        Ok(address) => Ok(Some(address)),
        Err(_) if text.is_empty() => Ok(None),
        Err(_) => Err(value.wrong("is no address with a port", MEND)),
    }
}

fn user(value: &Value<'_>) -> Result<Option<String>, Wrong> {
    let text = value.text()?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !text.bytes().all(is_name) || text.len() > USER_BYTES_MAX {
        return Err(value.wrong("is no user", "write the name of a user of this host: \"tandem\""));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn agent(value: &Value<'_>) -> Result<String, Wrong> {
    match value.text()?.trim() {
        "" => Err(value.wrong("names every client", "write how its User-Agent begins: \"baresip v1\"")),
        text => Ok(text.to_owned()),
    }
}

/// A domain, in lower case.
pub fn domain(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    if text.parse::<std::net::IpAddr>().is_ok() || text.starts_with('[') {
        let mend =
            "leave it out: listeners' addresses are domains by themselves, others need `advertise` in listen";
        return Err(value.wrong("is an address, not a domain", mend));
    }
    if text.contains('@') || text.contains(':') {
        return Err(value.wrong("is more than a domain", "write the name alone: \"example.org\""));
    }
    if !is_host_name(text) {
        return Err(value.wrong("is no domain", "write a name such as \"example.org\""));
    }
    Ok(text.trim_end_matches('.').to_ascii_lowercase())
}

/// A time of life of a binding. On the wire it is a number of seconds.
fn whole_seconds(value: &Value<'_>) -> Result<Duration, Wrong> {
    let duration = value.duration(SECOND..=7 * DAY)?;
    if duration.subsec_nanos() != 0 {
        return Err(value.wrong("has parts of a second", "write whole seconds"));
    }
    Ok(duration)
}
