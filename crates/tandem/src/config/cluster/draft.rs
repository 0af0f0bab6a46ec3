//! The keys of `[cluster]`, `[[cluster.node]]` and `[[cluster.check]]`.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use cluster::LEASE_MAX;
use cluster::peer::PATHS_MAX;
use store::ServerUrl;
use toml::de::DeValue;

use super::super::fields::{Field, List, line_of_text};
use super::super::problem::Wrong;
use super::super::reader::Entry;
use super::super::value::{Value, Wrongs};
use super::row::{EtcdServer, read_url};
use super::{GatewayCheck, Hooks, ManageRoutes, Vip};

/// The table's name.
pub const CLUSTER_NAME: &str = "cluster";

/// Virtual addresses: each is announced by itself, all at once.
const ADDRESSES_MAX: usize = 16;
/// Hosts that vote: seven survive the loss of three.
pub const MEMBERS_MAX: usize = cluster::SEATS_MAX;
/// Checks of the operator: each has a process now and then. The guardian's own have room beside them.
const CHECKS_MAX: usize = 16;
/// Words of a command.
const WORDS_MAX: usize = 64;
/// Gateways that are asked.
const GATEWAYS_MAX: usize = 8;
/// With a shorter one a host that is busy for a moment loses the service.
const LEASE_MIN: Duration = Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What of a file is about the cluster.
#[derive(Debug, Default)]
pub struct Read {
    /// `[cluster]`.
    pub cluster: Option<Entry<ClusterDraft>>,
    /// `[[cluster.node]]`.
    pub nodes: Vec<Entry<NodeDraft>>,
    /// `[[cluster.check]]`.
    pub checks: Vec<Entry<CheckDraft>>,
    /// See [`super::digest_of`].
    pub digest: u64,
}

/// A value of a list and where it stands.
type Placed<T> = (T, Range<usize>);

/// `[cluster]` that is being read.
#[derive(Clone, Debug)]
pub struct ClusterDraft {
    pub(super) key_file: PathBuf,
    pub(super) addresses: Vec<Placed<IpAddr>>,
    pub(super) interface: Option<String>,
    pub(super) vip: Vip,
    pub(super) lease: Duration,
    pub(super) port: u16,
    pub(super) witness: Vec<Placed<WitnessAt>>,
    pub(super) witness_password_file: PathBuf,
    pub(super) witness_ca: PathBuf,
    pub(super) preferred: String,
    pub(super) preferred_after: Duration,
    pub(super) gateways: Vec<GatewayCheck>,
    pub(super) manage_routes: ManageRoutes,
    pub(super) hooks: Hooks,
    pub(super) hook_timeout: Duration,
    pub(super) engine_silence: Duration,
}

/// Where a witness is.
#[derive(Clone, Debug)]
pub enum WitnessAt {
    /// `tandem witness`; without a port it is the link's.
    Host(IpAddr, Option<u16>),
    /// A member of etcd.
    Etcd(EtcdServer),
    /// A row of the database that has the accounts.
    Database,
    /// A row of a database of its own.
    Url(ServerUrl),
}

/// A `[[cluster.node]]` that is being read.
#[derive(Clone, Debug, Default)]
pub struct NodeDraft {
    pub(super) name: String,
    pub(super) paths: Vec<Placed<(IpAddr, Option<u16>)>>,
}

/// A `[[cluster.check]]` that is being read.
#[derive(Clone, Debug)]
pub struct CheckDraft {
    pub(super) name: String,
    pub(super) command: Vec<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) failures: u8,
}

/// `[cluster]`. It is a list of at most one only in how it is printed: it has no default.
pub const CLUSTER: List<ClusterDraft> = List {
    name: CLUSTER_NAME,
    meaning: &[
        "Two nodes that hold virtual addresses between them, so that one of them always answers. Without this table the",
        "server is alone. All nodes have the same file, but for [node], [log], and cluster.key and .interface. See",
        "docs/cluster.md.",
    ],
    example: "addresses = [\"192.0.2.10\"]",
    entries_max: 1,
    fields: FIELDS,
};

/// `[[cluster.node]]`.
pub const NODES: List<NodeDraft> = List {
    name: "cluster.node",
    meaning: &[
        "The nodes, in the same order in each node's file. A node finds itself by node.name, or by its host's name.",
    ],
    example: "name = \"a\" and paths = [\"192.0.2.1\"]",
    entries_max: MEMBERS_MAX,
    fields: &[
        Field {
            key: "name",
            default: "\"a\"",
            meaning: &["Its name. It must be given."],
            set: |draft, value| {
                draft.name = line_of_text(value)?;
                if draft.name.is_empty() {
                    return Err(value.wrong("is empty", "write the node's name: \"a\"").into());
                }
                Ok(())
            },
        },
        Field {
            key: "paths",
            default: "[\"192.0.2.1\"]",
            meaning: &[
                "Its own addresses by which the nodes speak to each other; the first addresses of all nodes are one path, the",
                "second ones another. All are used at once. A port may follow: \"192.0.2.1:7951\". They must be given.",
            ],
            set: |draft, value| {
                draft.paths = placed_list(value, PATHS_MAX, |value| {
                    let mend = "write addresses of the node: [\"192.0.2.1\", \"10.9.0.1\"]";
                    let path = address_and_port(value, value.text()?, mend)?;
                    own_address(value, path.0)?;
                    Ok(path)
                })?;
                if draft.paths.is_empty() {
                    let mend = "name an address of the node: [\"192.0.2.1\"]";
                    return Err(value.wrong("is empty", mend).into());
                }
                Ok(())
            },
        },
    ],
};

/// `[[cluster.check]]`.
pub const CHECKS: List<CheckDraft> = List {
    name: "cluster.check",
    meaning: &[
        "Checks of your own, on every node: one that fails on the active node gives the service to a node where it does",
        "not. Repeat the table for each. There is none by default.",
    ],
    example: "name = \"upstream\" and command = [\"/usr/local/bin/check-upstream\"]",
    entries_max: CHECKS_MAX,
    fields: &[
        Field {
            key: "name",
            default: "\"upstream\"",
            meaning: &["How `tandem status` names it. It must be given."],
            set: |draft, value| {
                draft.name = line_of_text(value)?;
                Ok(())
            },
        },
        Field {
            key: "command",
            default: "[\"/usr/local/bin/check-upstream\", \"192.0.2.1\"]",
            meaning: &[
                "The program and its words; no shell reads them. Status 0: all is well. Else the last line that it prints",
                "is the reason. It must be given.",
            ],
            set: |draft, value| {
                draft.command = command(value)?;
                Ok(())
            },
        },
        Field {
            key: "interval",
            default: "\"5s\"",
            meaning: &["From the end of one run to the beginning of the next."],
            set: |draft, value| {
                draft.interval = value.duration(SECOND..=HOUR)?;
                Ok(())
            },
        },
        Field {
            key: "timeout",
            default: "\"3s\"",
            meaning: &["A run that lasts longer is ended and has failed."],
            set: |draft, value| {
                draft.timeout = value.duration(SECOND / 10..=MINUTE)?;
                Ok(())
            },
        },
        Field {
            key: "failures",
            default: "3",
            meaning: &["So many failures in a row count; and so many successes end that."],
            set: |draft, value| {
                draft.failures = value.number(1..=100)? as u8;
                Ok(())
            },
        },
    ],
};

const FIELDS: &[Field<ClusterDraft>] = &[
    Field {
        key: "key",
        default: "\"/etc/tandem/cluster.key\"",
        meaning: &[
            "The secret of the cluster, the same file on all nodes and the witness: who has it is a member, and nobody",
            "else. Made once by `tandem cluster key`; it must not be open to others.",
        ],
        set: |draft, value| {
            let text = value.text()?;
            if !text.starts_with('/') {
                return Err(value.wrong("is not a whole path", "write a path that begins with /").into());
            }
            draft.key_file = PathBuf::from(text);
            Ok(())
        },
    },
    Field {
        key: "addresses",
        default: "[\"192.0.2.10\"]",
        meaning: &["The virtual addresses, IPv4 and IPv6. They move together. They must be given."],
        set: |draft, value| {
            draft.addresses = placed_list(value, ADDRESSES_MAX, |value| {
                let text = value.text()?;
                let address = text.parse::<IpAddr>().map_err(|_| {
                    let mend = "write an address without a prefix: \"192.0.2.10\" or \"2001:db8::10\"";
                    value.wrong("is no address", mend)
                })?;
                own_address(value, address)?;
                Ok(address)
            })?;
            if draft.addresses.is_empty() {
                return Err(value.wrong("is empty", "name a virtual address: [\"192.0.2.10\"]").into());
            }
            Ok(())
        },
    },
    Field {
        key: "interface",
        default: "\"\"",
        meaning: &["Where they are added. Empty: the interface whose network has the first one."],
        set: |draft, value| {
            let text = value.text()?;
            // The kernel's IFNAMSIZ is 16 with its zero.
            if text.len() > 15 || text.contains(|letter: char| letter == '/' || letter.is_whitespace()) {
                return Err(value.wrong("is no interface", "write its name: `ip link` lists them").into());
            }
            draft.interface = (!text.is_empty()).then(|| text.to_owned());
            Ok(())
        },
    },
    Field {
        key: "vip",
        default: "\"tandem\"",
        meaning: &[
            "Who moves them: \"tandem\"; \"hooks\", by on_active and on_standby, where there is no common network (clouds);",
            "\"external\", keepalived or Pacemaker, whom Tandem follows: then it is theirs that two never answer at once.",
        ],
        set: |draft, value| {
            draft.vip =
                value.word(&[("tandem", Vip::Tandem), ("hooks", Vip::Hooks), ("external", Vip::External)])?;
            Ok(())
        },
    },
    Field {
        key: "lease",
        default: "\"500ms\"",
        meaning: &[
            "How long the votes for the active node last. A node that dies is replaced after about so long. Renewed five",
            "times as often. 100 ms to 10 s.",
        ],
        set: |draft, value| {
            draft.lease = value.duration(LEASE_MIN..=LEASE_MAX)?;
            Ok(())
        },
    },
    Field {
        key: "port",
        default: "7950",
        meaning: &["The UDP port of the link between nodes and witness, and the TCP port between the nodes."],
        set: |draft, value| {
            draft.port = value.number(1..=u64::from(u16::MAX))? as u16;
            Ok(())
        },
    },
    Field {
        key: "witness",
        default: "[]",
        meaning: &[
            "The third vote. `tandem witness` on a third host, at each of its addresses: [\"tandem://192.0.2.9:7950\"]; or a key in",
            "etcd, with all its servers: [\"etcd://10.0.0.5:2379\", \"etcd://10.0.0.6:2379\"], and a user: \"etcd://tandem@10.0.0.5\";",
            "or a row in the database of database.url: \"database\", or in one of its own: \"postgres://tandem@10.0.0.5/tandem\".",
            "See docs/witness.md. Two nodes without a witness can not tell a dead node from a cut cable: neither takes over.",
        ],
        set: |draft, value| {
            draft.witness = if value.text().is_ok() {
                // One that has no parts needs no list.
                vec![(witness(value)?, value.span())]
            } else {
                placed_list(value, PATHS_MAX, witness)?
            };
            Ok(())
        },
    },
    Field {
        key: "witness_password_file",
        default: "\"\"",
        meaning: &[
            "The file with the password of the user that `witness` names, alone on its first line. node.user must be able to",
            "read it, and nobody else.",
        ],
        set: |draft, value| {
            draft.witness_password_file = PathBuf::from(line_of_text(value)?);
            Ok(())
        },
    },
    Field {
        key: "witness_ca",
        default: "\"\"",
        meaning: &[
            "The file with the certificates (PEM) that the servers of the witness's row are believed by. With it etcd is spoken",
            "to by TLS, without it in the clear. A database is spoken to as database.tls says; this is in place of database.ca.",
        ],
        set: |draft, value| {
            draft.witness_ca = PathBuf::from(line_of_text(value)?);
            Ok(())
        },
    },
    Field {
        key: "preferred",
        default: "\"\"",
        meaning: &[
            "The node that takes the service back when it has been well for preferred_after. Empty: none; who is active",
            "stays so.",
        ],
        set: |draft, value| {
            draft.preferred = line_of_text(value)?;
            Ok(())
        },
    },
    Field {
        key: "preferred_after",
        default: "\"5m\"",
        meaning: &["See preferred."],
        set: |draft, value| {
            draft.preferred_after = value.duration(SECOND..=DAY)?;
            Ok(())
        },
    },
    Field {
        key: "gateways",
        default: "[\"auto\"]",
        meaning: &[
            "Routers that must answer ARP or neighbour discovery, else the node counts as cut off. \"auto\": the default",
            "gateways of the interface. []: none.",
        ],
        set: |draft, value| {
            let gateways = placed_list(value, GATEWAYS_MAX, |value| match value.text()? {
                "auto" => Ok(GatewayCheck::Default),
                text => text.parse().map(GatewayCheck::At).map_err(|_| {
                    value.wrong("is no address", "write \"auto\", or a router's address: \"192.0.2.254\"")
                }),
            })?;
            draft.gateways = gateways.into_iter().map(|(gateway, _)| gateway).collect();
            Ok(())
        },
    },
    Field {
        key: "manage_routes",
        default: "false",
        meaning: &[
            "Whether arp_ignore, arp_announce and the routes by which the virtual addresses answer are set while the",
            "guardian runs, and restored at its end. false: `tandem check` tells what is wrong with them.",
        ],
        set: |draft, value| {
            draft.manage_routes = if value.truth()? { ManageRoutes::Yes } else { ManageRoutes::No };
            Ok(())
        },
    },
    Field {
        key: "on_active",
        default: "[]",
        meaning: &[
            "A program and its words, run when this node has become active: [\"/usr/local/bin/move-address\", \"here\"].",
        ],
        set: |draft, value| {
            draft.hooks.on_active = command(value)?;
            Ok(())
        },
    },
    Field {
        key: "on_standby",
        default: "[]",
        meaning: &["The same when it is active no more, and at the start."],
        set: |draft, value| {
            draft.hooks.on_standby = command(value)?;
            Ok(())
        },
    },
    Field {
        key: "on_fault",
        default: "[]",
        meaning: &["The same when something is wrong with this node."],
        set: |draft, value| {
            draft.hooks.on_fault = command(value)?;
            Ok(())
        },
    },
    Field {
        key: "hook_timeout",
        default: "\"10s\"",
        meaning: &["A hook that runs longer is ended."],
        set: |draft, value| {
            draft.hook_timeout = value.duration(SECOND..=10 * MINUTE)?;
            Ok(())
        },
    },
    Field {
        key: "engine_silence",
        default: "\"250ms\"",
        meaning: &[
            "A server that gives no sign of life for so long hangs, and its node gives the service away.",
        ],
        set: |draft, value| {
            draft.engine_silence = value.duration(Duration::from_millis(100)..=MINUTE)?;
            Ok(())
        },
    },
];

impl Default for ClusterDraft {
    fn default() -> Self {
        let mut draft = Self {
            key_file: PathBuf::new(),
            addresses: Vec::new(),
            interface: None,
            vip: Vip::Tandem,
            lease: LEASE_MAX,
            port: 0,
            witness: Vec::new(),
            witness_password_file: PathBuf::new(),
            witness_ca: PathBuf::new(),
            preferred: String::new(),
            preferred_after: Duration::ZERO,
            gateways: Vec::new(),
            manage_routes: ManageRoutes::No,
            hooks: Hooks::default(),
            hook_timeout: Duration::ZERO,
            engine_silence: Duration::ZERO,
        };
        set_defaults(&mut draft, FIELDS, &["addresses"]);
        draft
    }
}

impl Default for CheckDraft {
    fn default() -> Self {
        let mut draft = Self {
            name: String::new(),
            command: Vec::new(),
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            failures: 1,
        };
        set_defaults(&mut draft, CHECKS.fields, &["name", "command"]);
        draft
    }
}

/// Sets what the table says, but for `examples`, which are no defaults.
fn set_defaults<T>(draft: &mut T, fields: &[Field<T>], examples: &[&str]) {
    for field in fields.iter().filter(|field| !examples.contains(&field.key)) {
        let value = DeValue::parse(field.default).expect("a test reads every default");
        (field.set)(draft, &Value::new(&value)).expect("a test reads every default");
    }
}

/// One place of the third vote.
fn witness(value: &Value<'_>) -> Result<WitnessAt, Wrong> {
    const FORM: &str = "write \"tandem://192.0.2.9:7950\" or \"tandem://[2001:db8::9]:7950\"";
    let text = value.text()?;
    if text == "database" {
        return Ok(WitnessAt::Database);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(value.wrong("does not say what kind of witness it is", FORM));
    };
    match scheme {
        "tandem" => {
            let (address, port) = address_and_port(value, rest.trim_end_matches('/'), FORM)?;
            own_address(value, address)?;
            Ok(WitnessAt::Host(address, port))
        }
        "etcd" => EtcdServer::read(value, rest).map(WitnessAt::Etcd),
        "postgres" | "postgresql" | "mysql" | "mariadb" => read_url(value).map(WitnessAt::Url),
        scheme => {
            let what = format!("names a witness by `{scheme}`, which this version does not know");
            let mend = "write \"tandem://192.0.2.9:7950\" for `tandem witness` on a third host, \"etcd://10.0.0.5:2379\", or \
                        \"database\"";
            Err(value.wrong(what, mend))
        }
    }
}

/// A list whose entries are kept with their places.
fn placed_list<T>(
    value: &Value<'_>,
    entries_max: usize,
    read: impl Fn(&Value<'_>) -> Result<T, Wrong>,
) -> Result<Vec<Placed<T>>, Wrongs> {
    let list = value.list(|entry| Ok((read(entry)?, entry.span())))?;
    if list.len() > entries_max {
        let mend = format!("write at most {entries_max}");
        return Err(value.wrong("has too many entries", mend).into());
    }
    Ok(list)
}

/// A program and its words.
fn command(value: &Value<'_>) -> Result<Vec<String>, Wrongs> {
    let words = value.list(|word| {
        let text = word.text()?;
        if text.contains('\0') {
            return Err(word.wrong("has a zero byte", "write plain text"));
        }
        Ok(text.to_owned())
    })?;
    match words.first() {
        Some(program) if !program.starts_with('/') => {
            let what = format!("begins with `{program}`, which is no whole path");
            let mend = "name the program by a path that begins with /: no PATH and no shell is asked";
            Err(value.wrong(what, mend).into())
        }
        _ if words.len() > WORDS_MAX => {
            Err(value.wrong("has too many words", format!("write at most {WORDS_MAX}")).into())
        }
        _ => Ok(words),
    }
}

fn address_and_port(value: &Value<'_>, text: &str, mend: &str) -> Result<(IpAddr, Option<u16>), Wrong> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((address, None));
    }
    match text.parse::<SocketAddr>() {
        Ok(place) if place.port() != 0 => Ok((place.ip(), Some(place.port()))),
        _ => Err(value.wrong("has no address that can be read", format!("{mend}; names are not resolved"))),
    }
}

/// An address that a host of a cluster can have on a network with others.
fn own_address(value: &Value<'_>, address: IpAddr) -> Result<(), Wrong> {
    let what = match address {
        _ if address.is_unspecified() => "is no address of a host",
        _ if address.is_multicast() => "is a multicast address",
        IpAddr::V4(address) if address.is_broadcast() => "is no address of a host",
        IpAddr::V4(address) if address.is_link_local() => "is a link-local address",
        IpAddr::V6(address) if address.is_unicast_link_local() => "is a link-local address",
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => "is an IPv4 address in the form of IPv6",
        _ => return Ok(()),
    };
    Err(value.wrong(what, "name an address of one host: \"192.0.2.10\" or \"2001:db8::10\""))
}
