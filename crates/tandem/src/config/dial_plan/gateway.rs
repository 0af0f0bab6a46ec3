//! The keys of `[[gateway]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use routing::dial_plan::{CallerPlace, CallerRules, HeaderEdits, ListenerName, Rewrite, Watch};
use routing::{Anchoring, Gateway};
use sip::{SipUri, Status};

use super::parts;
use crate::config::fields::{Field, List, domain, network};
use crate::config::problem::Wrong;
use crate::config::value::Value;

/// A `[[gateway]]` that is being read.
#[derive(Clone, Debug)]
pub struct GatewayDraft {
    pub(super) name: String,
    pub(super) uri: String,
    pub(super) group: String,
    pub(super) registration: String,
    pub(super) via: Option<ListenerName>,
    priority: u16,
    weight: u16,
    calls_max: Option<u32>,
    interval: Option<Duration>,
    failures: u32,
    successes: u32,
    refusals: Vec<Status>,
    answer_timeout: Duration,
    sources: Vec<IpNet>,
    strip: usize,
    prefix: String,
    caller_in: CallerPlace,
    caller_strip: usize,
    caller_prefix: String,
    caller_number: String,
    caller_domain: Option<String>,
    headers: HeaderEdits,
    relay: Option<Anchoring>,
}

const SECOND: Duration = Duration::from_secs(1);
/// Calls fail over in the order of their answers: nobody waits longer for a gateway.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// More than a server has.
const CALLS_MAX: u64 = 100_000;

/// What stands before the number of a set in the place of a URI.
const SET_SCHEME: &str = "dispatcher:";

/// The set of the table `dispatcher` that a gateway of the configuration stands for.
pub fn set_of(gateway: &Gateway) -> Option<u32> {
    std::str::from_utf8(&gateway.uri).ok()?.strip_prefix(SET_SCHEME)?.parse().ok()
}

/// `[[gateway]]`.
pub const GATEWAYS: List<GatewayDraft> = List {
    name: "gateway",
    meaning: &[
        "Other servers that take calls: carriers, telephone systems. Routes below lead to them.",
        "Repeat the table for each of them. There is none by default; what is shown are examples and defaults.",
    ],
    example: "name = \"carrier-a\" and uri = \"sip:sbc.carrier.example\"",
    // Each of them is probed, and each request is compared with all their sources.
    entries_max: 200,
    fields: FIELDS,
};

const FIELDS: &[Field<GatewayDraft>] = &[
    Field {
        key: "name",
        default: "\"carrier-a\"",
        meaning: &["What routes, logs and commands call it. It must be given."],
        set: |draft, value| {
            draft.name = parts::name(value)?;
            Ok(())
        },
    },
    Field {
        key: "uri",
        default: "\"sip:sbc.carrier.example\"",
        meaning: &[
            "Where it is: sip:HOST, sip:HOST:PORT, also with ;transport=tcp. It must be given.",
            "A name is looked up as RFC 3263 says. \"dispatcher:1\": it stands for all destinations of set 1 of the table",
            "`dispatcher`, which also says their priority and weight (docs/routes.md); needs database.dispatcher.",
        ],
        set: |draft, value| {
            draft.uri = uri(value)?;
            Ok(())
        },
    },
    Field {
        key: "group",
        default: "\"\"",
        meaning: &["A name for several gateways, which routes may name in their place."],
        set: |draft, value| {
            draft.group = if value.text()?.is_empty() { String::new() } else { parts::name(value)? };
            Ok(())
        },
    },
    Field {
        key: "registration",
        default: "\"\"",
        meaning: &["The [[registration]] whose account answers when the gateway asks for a password."],
        set: |draft, value| {
            draft.registration = value.text()?.to_owned();
            Ok(())
        },
    },
    Field {
        key: "via",
        default: "\"\"",
        meaning: &[
            "The listener that sends to it, as in sip.listen: \"udp://10.0.0.5:5060\".",
            "Empty: the one that the call came in on, if that can reach it.",
        ],
        set: |draft, value| {
            draft.via = if value.text()?.is_empty() { None } else { Some(parts::listener(value)?) };
            Ok(())
        },
    },
    Field {
        key: "priority",
        default: "0",
        meaning: &["Of a group, those with the lowest are tried first."],
        set: |draft, value| {
            draft.priority = value.number(0..=65_535)? as u16;
            Ok(())
        },
    },
    Field {
        key: "weight",
        default: "1",
        meaning: &["Its share of the calls among those of equal priority. 0: only when the others fail."],
        set: |draft, value| {
            draft.weight = value.number(0..=65_535)? as u16;
            Ok(())
        },
    },
    Field {
        key: "calls_max",
        default: "0",
        meaning: &[
            "How many calls it gets at a time; with so many it is left out, and the next gateway is tried.",
            "0: as many as come.",
        ],
        set: |draft, value| {
            let calls = value.number(0..=CALLS_MAX)? as u32;
            draft.calls_max = (calls > 0).then_some(calls);
            Ok(())
        },
    },
    Field {
        key: "relay",
        default: "\"default\"",
        meaning: &[
            "Whether voice of calls to it goes by the media relay: \"never\", \"nat\", \"always\"; \"default\": as relay.relay says.",
            "Where an account has a rule too, the later of the three holds. Needs another relay.relay than \"never\".",
        ],
        set: |draft, value| {
            draft.relay = value.word(&[
                ("default", None),
                ("never", Some(Anchoring::Never)),
                ("nat", Some(Anchoring::Nat)),
                ("always", Some(Anchoring::Always)),
            ])?;
            Ok(())
        },
    },
    Field {
        key: "probe",
        default: "\"30s\"",
        meaning: &["How often it is asked by OPTIONS whether it is there; \"off\": never."],
        set: |draft, value| {
            let is_off = value.text().is_ok_and(|text| text == "off");
            draft.interval = if is_off { None } else { Some(value.duration(SECOND..=3_600 * SECOND)?) };
            Ok(())
        },
    },
    Field {
        key: "probe_failures",
        default: "3",
        meaning: &["After so many failures in a row, of probes or of calls, it is down: tried last."],
        set: |draft, value| {
            draft.failures = value.number(1..=100)? as u32;
            Ok(())
        },
    },
    Field {
        key: "probe_successes",
        default: "1",
        meaning: &["After so many answers in a row it is up again."],
        set: |draft, value| {
            draft.successes = value.number(1..=100)? as u32;
            Ok(())
        },
    },
    Field {
        key: "probe_refusals",
        default: "[408, 503]",
        meaning: &["Answers to OPTIONS that count as failures. Any other shows that somebody is there."],
        set: |draft, value| {
            draft.refusals = value.list(|entry| Ok(Status(entry.number(300..=699)? as u16)))?;
            Ok(())
        },
    },
    Field {
        key: "answer_timeout",
        default: "\"4s\"",
        meaning: &[
            "How long it may be silent after an INVITE, until the next gateway of the route is tried.",
        ],
        set: |draft, value| {
            draft.answer_timeout = value.duration(Duration::from_millis(500)..=ANSWER_TIMEOUT_MAX)?;
            Ok(())
        },
    },
    Field {
        key: "sources",
        default: "[]",
        meaning: &[
            "Addresses and networks that its calls come from: [\"198.51.100.0/24\"]. They are [[trusted]].",
            "Empty: it sends no calls here.",
        ],
        set: |draft, value| {
            draft.sources = value.list(network)?;
            Ok(())
        },
    },
    Field {
        key: "strip",
        default: "0",
        meaning: &["So many digits go off the front of the number, after the route's own rewriting."],
        set: |draft, value| {
            draft.strip = parts::strip(value)?;
            Ok(())
        },
    },
    Field {
        key: "prefix",
        default: "\"\"",
        meaning: &["Then these come in front."],
        set: |draft, value| {
            draft.prefix = parts::digits(value)?;
            Ok(())
        },
    },
    Field {
        key: "caller_in",
        default: "\"P-Asserted-Identity\"",
        meaning: &[
            "Where it wants the caller's number: \"P-Asserted-Identity\", \"P-Preferred-Identity\",",
            "\"Remote-Party-ID\", \"From\", or \"none\".",
        ],
        set: |draft, value| {
            draft.caller_in = value.word(PLACES)?;
            Ok(())
        },
    },
    Field {
        key: "caller_strip",
        default: "0",
        meaning: &["So many digits go off the front of the caller's number."],
        set: |draft, value| {
            draft.caller_strip = parts::strip(value)?;
            Ok(())
        },
    },
    Field {
        key: "caller_prefix",
        default: "\"\"",
        meaning: &["Then these come in front: \"+4930123\" makes an extension a whole number."],
        set: |draft, value| {
            draft.caller_prefix = parts::digits(value)?;
            Ok(())
        },
    },
    Field {
        key: "caller_number",
        default: "\"\"",
        meaning: &["The number of callers whose name is none. Empty: they are named as they are."],
        set: |draft, value| {
            draft.caller_number = parts::digits(value)?;
            Ok(())
        },
    },
    Field {
        key: "caller_domain",
        default: "\"\"",
        meaning: &["The domain behind the caller's number. Empty: the one in From."],
        set: |draft, value| {
            draft.caller_domain =
                if value.text()?.is_empty() { None } else { Some(domain_or_address(value)?) };
            Ok(())
        },
    },
    Field {
        key: "set_headers",
        default: "[]",
        meaning: &["Header fields that each call gets: [\"X-Trunk: 7\"]."],
        set: |draft, value| parts::set_headers(value, &mut draft.headers),
    },
    Field {
        key: "remove_headers",
        default: "[]",
        meaning: &["Header fields that are taken out: [\"X-Internal\"]."],
        set: |draft, value| parts::remove_headers(value, &mut draft.headers),
    },
];

const PLACES: &[(&str, CallerPlace)] = &[
    ("P-Asserted-Identity", CallerPlace::Asserted),
    ("P-Preferred-Identity", CallerPlace::Preferred),
    ("Remote-Party-ID", CallerPlace::RemoteParty),
    ("From", CallerPlace::From),
    ("none", CallerPlace::Nowhere),
];

/// How the file names a place.
pub fn place_name(place: CallerPlace) -> &'static str {
    PLACES.iter().find(|(_, known)| *known == place).map_or("", |(name, _)| name)
}

impl GatewayDraft {
    /// What the routing takes.
    pub(super) fn build(&self) -> Gateway {
        let text = |text: &String| (!text.is_empty()).then(|| text.as_str().into());
        let rewrite = Rewrite { strip: self.caller_strip, prefix: self.caller_prefix.as_str().into() };
        Gateway {
            name: self.name.as_str().into(),
            group: text(&self.group),
            uri: self.uri.clone().into(),
            registration: text(&self.registration),
            via: self.via,
            priority: self.priority,
            weight: self.weight,
            calls_max: self.calls_max,
            watch: Watch {
                interval: self.interval,
                failures: self.failures,
                successes: self.successes,
                refusals: BTreeSet::from_iter(self.refusals.iter().copied()),
            },
            answer_timeout: self.answer_timeout,
            sources: self.sources.clone(),
            rewrite: Rewrite { strip: self.strip, prefix: self.prefix.as_str().into() },
            caller: CallerRules {
                rewrite,
                otherwise: text(&self.caller_number),
                domain: self.caller_domain.as_ref().and_then(text),
                place: self.caller_in,
            },
            headers: self.headers.clone(),
            relay: self.relay,
        }
    }
}

impl Default for GatewayDraft {
    fn default() -> Self {
        Self {
            name: String::new(),
            uri: String::new(),
            group: String::new(),
            registration: String::new(),
            via: None,
            priority: 0,
            weight: 1,
            calls_max: None,
            interval: Some(30 * SECOND),
            failures: 3,
            successes: 1,
            refusals: vec![Status::REQUEST_TIMEOUT, Status::SERVICE_UNAVAILABLE],
            answer_timeout: 4 * SECOND,
            sources: Vec::new(),
            strip: 0,
            prefix: String::new(),
            caller_in: CallerPlace::Asserted,
            caller_strip: 0,
            caller_prefix: String::new(),
            caller_number: String::new(),
            caller_domain: None,
            headers: HeaderEdits::default(),
            relay: None,
        }
    }
}

fn uri(value: &Value<'_>) -> Result<String, Wrong> {
    const FORM: &str =
        "write \"sip:sbc.carrier.example\", \"sip:198.51.100.1:5060\" or \"sip:HOST;transport=tcp\"";
    let text = value.text()?;
    if let Some(set) = text.strip_prefix(SET_SCHEME) {
        return match set.parse::<u32>() {
            Ok(set) => Ok(format!("{SET_SCHEME}{set}")),
            Err(_) => Err(value.wrong("names no set", "write the number that setid has: \"dispatcher:1\"")),
        };
    }
    let Ok(uri) = SipUri::parse(text.as_bytes()) else {
        return Err(value.wrong("is no SIP URI", FORM));
    };
    if uri.user.is_some() {
        return Err(value.wrong("names a user", format!("the number comes with each call: {FORM}")));
    }
    if uri.headers.is_some() {
        return Err(value.wrong("has header fields", FORM));
    }
    if transport::next_hop(&uri).is_err() {
        return Err(value.wrong("asks for what this version does not speak", "write sip: with udp or tcp"));
    }
    Ok(text.to_owned())
}

fn domain_or_address(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Ok(text.to_owned());
    }
    domain(value)
}
