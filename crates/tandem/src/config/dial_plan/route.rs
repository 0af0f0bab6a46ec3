//! The keys of `[[route]]`.

use std::ops::Range;

use ipnet::IpNet;
use routing::dial_plan::{CallerName, Fits, HeaderEdits, ListenerName, Pattern, PatternError, Rewrite};
use sip::{Aor, Status};

use super::{Named, parts};
use crate::config::fields::{Field, List, domain, line_of_text, network};
use crate::config::problem::Wrong;
use crate::config::value::Value;

/// A `[[route]]` that is being read.
#[derive(Clone, Debug, Default)]
pub struct RouteDraft {
    pub(super) name: String,
    numbers: Vec<Pattern>,
    domains: Vec<Box<str>>,
    pub(super) listeners: Vec<(ListenerName, Range<usize>)>,
    sources: Vec<IpNet>,
    pub(super) from: Vec<Named>,
    pub(super) callers: Vec<CallerName>,
    pub(super) to: Vec<Named>,
    pub(super) to_user: Option<(Option<Box<str>>, Box<str>)>,
    pub(super) reject: Option<Status>,
    strip: usize,
    prefix: String,
    caller_number: String,
    headers: HeaderEdits,
}

/// What stands for the number in `to_user`.
const NUMBER: &str = "{number}";

/// `[[route]]`.
pub const ROUTES: List<RouteDraft> = List {
    name: "route",
    meaning: &[
        "Where numbers go that are none of our accounts, `tel:` URIs among them. The first route that fits is",
        "taken: all of its criteria must fit, and one that is empty fits everything. A user of ours needs a",
        "password as always; whoever is trusted without one gets to a gateway only by a route that names its",
        "listener, source or from. Repeat the table for each route. There is none by default.",
    ],
    example: "number = [\"+49.\"] and to = [\"carrier-a\"]",
    // They are compared one after the other.
    entries_max: 500,
    fields: FIELDS,
};

const FIELDS: &[Field<RouteDraft>] = &[
    Field {
        key: "name",
        default: "\"national\"",
        meaning: &["How logs and `tandem route` name it. Empty or absent: its place in the list."],
        set: |draft, value| {
            draft.name = line_of_text(value)?;
            Ok(())
        },
    },
    Field {
        key: "number",
        default: "[\"0Z.\", \"+49.\"]",
        meaning: &[
            "Patterns of the whole number. X is a digit, Z one from 1 to 9, N one from 2 to 9, [2-57] one of these;",
            "at the end . is one or more characters and ! none or more. All else stands for itself.",
        ],
        set: |draft, value| {
            draft.numbers = value.list(pattern)?;
            Ok(())
        },
    },
    Field {
        key: "domain",
        default: "[]",
        meaning: &["Domains of the Request-URI. Empty: those of this server, and `tel:`."],
        set: |draft, value| {
            draft.domains = value.list(|entry| Ok(domain(entry)?.into()))?;
            Ok(())
        },
    },
    Field {
        key: "listener",
        default: "[]",
        meaning: &["Listeners that the call came in on, as in sip.listen: [\"udp://10.0.0.5:5060\"]."],
        set: |draft, value| {
            draft.listeners = value.list(|entry| Ok((parts::listener(entry)?, entry.span())))?;
            Ok(())
        },
    },
    Field {
        key: "source",
        default: "[]",
        meaning: &["Addresses and networks that the call came from: [\"10.1.0.0/16\"]."],
        set: |draft, value| {
            draft.sources = value.list(network)?;
            Ok(())
        },
    },
    Field {
        key: "from",
        default: "[]",
        meaning: &[
            "Gateways, or groups of them, that the call came from; they need sources or a registration.",
        ],
        set: |draft, value| {
            draft.from = value.list(named)?;
            Ok(())
        },
    },
    Field {
        key: "callers",
        default: "[]",
        meaning: &[
            "Users of ours who call: \"alice@example.org\", \"*@example.org\", or \"*\" for all of them.",
        ],
        set: |draft, value| {
            draft.callers = value.list(caller)?;
            Ok(())
        },
    },
    Field {
        key: "to",
        default: "[\"carrier-a\"]",
        meaning: &["Gateways and groups that are tried, one after the other, where one fails at the call."],
        set: |draft, value| {
            draft.to = value.list(named)?;
            Ok(())
        },
    },
    Field {
        key: "to_user",
        default: "\"\"",
        meaning: &[
            "Instead of `to`: a user of ours, \"alice@example.org\"; {number} is the number after strip and prefix.",
        ],
        set: |draft, value| {
            draft.to_user = if value.text()?.is_empty() { None } else { Some(user(value)?) };
            Ok(())
        },
    },
    Field {
        key: "reject",
        default: "0",
        meaning: &["Instead of `to`: the call is answered with this status, such as 603. 0: it is not."],
        set: |draft, value| {
            draft.reject = match value.number(0..=699)? {
                0 => None,
                status @ 400..=699 if status != 401 && status != 407 => Some(Status(status as u16)),
                _ => {
                    return Err(value
                        .wrong("refuses nothing", "write a status such as 403, 404 or 603")
                        .into());
                }
            };
            Ok(())
        },
    },
    Field {
        key: "strip",
        default: "0",
        meaning: &["So many digits go off the front of the number."],
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
        key: "caller_number",
        default: "\"\"",
        meaning: &["The number that calls are made under. Empty: the gateway's caller_ keys say."],
        set: |draft, value| {
            draft.caller_number = parts::digits(value)?;
            Ok(())
        },
    },
    Field {
        key: "set_headers",
        default: "[]",
        meaning: &["Header fields that each call gets, besides those of the gateway."],
        set: |draft, value| parts::set_headers(value, &mut draft.headers),
    },
    Field {
        key: "remove_headers",
        default: "[]",
        meaning: &["Header fields that are taken out."],
        set: |draft, value| parts::remove_headers(value, &mut draft.headers),
    },
];

impl RouteDraft {
    /// The criteria, without the gateways.
    pub(super) fn fits(&self) -> Fits {
        Fits {
            numbers: self.numbers.clone(),
            domains: self.domains.clone(),
            listeners: self.listeners.iter().map(|(name, _)| *name).collect(),
            sources: self.sources.clone(),
            gateways: Vec::new(),
            callers: self.callers.clone(),
        }
    }

    pub(super) fn rewrite(&self) -> Rewrite {
        Rewrite { strip: self.strip, prefix: self.prefix.as_str().into() }
    }

    pub(super) fn caller(&self) -> Option<Box<str>> {
        (!self.caller_number.is_empty()).then(|| self.caller_number.as_str().into())
    }

    pub(super) fn headers(&self) -> HeaderEdits {
        self.headers.clone()
    }
}

fn named(value: &Value<'_>) -> Result<Named, Wrong> {
    Ok((value.text()?.to_owned(), value.span()))
}

fn pattern(value: &Value<'_>) -> Result<Pattern, Wrong> {
    let text = value.text()?;
    Pattern::parse(text).map_err(|error| match error {
        PatternError::Empty => value.wrong("is empty", "write a number such as \"110\", or \".\" for all"),
        PatternError::TooLong => {
            value.wrong("is longer than a number can be", "shorten it, with . at the end")
        }
        PatternError::NotAtEnd(sign) => value
            .wrong(format!("has {sign} before its end"), "write X for one digit, and . or ! only at the end"),
        PatternError::Set => value.wrong("has brackets that name no digits", "write [13] or [2-57]"),
        PatternError::Sign('^' | '$' | '\\' | '(' | '?') => value.wrong(
            "is a regular expression, not a pattern",
            "write \"00X.\" for 00, a digit and more; it always means the whole number",
        ),
        PatternError::Sign(sign) => value.wrong(
            format!("has the character {sign:?}"),
            "write digits, + * #, X Z N, [2-57], and . or ! last",
        ),
    })
}

fn caller(value: &Value<'_>) -> Result<CallerName, Wrong> {
    let text = value.text()?;
    if text == "*" {
        return Ok(CallerName::Everybody);
    }
    let aor = Aor::parse(text).ok_or_else(|| {
        value.wrong("is no address of record", "write \"alice@example.org\", \"*@example.org\" or \"*\"")
    })?;
    Ok(if aor.user() == "*" { CallerName::Domain(aor.domain().into()) } else { CallerName::User(aor) })
}

fn user(value: &Value<'_>) -> Result<(Option<Box<str>>, Box<str>), Wrong> {
    let mend = "write \"alice@example.org\" or \"{number}@example.org\"";
    let text = value.text()?;
    if let Some(domain) = text.strip_prefix(NUMBER).and_then(|rest| rest.strip_prefix('@')) {
        let aor = Aor::parse(&format!("x@{domain}")).ok_or_else(|| value.wrong("has no domain", mend))?;
        return Ok((None, aor.domain().into()));
    }
    if text.contains(['{', '}']) {
        return Err(value.wrong("has braces around something else than number", mend));
    }
    let aor = Aor::parse(text).ok_or_else(|| value.wrong("is no address of record", mend))?;
    Ok((Some(aor.user().into()), aor.domain().into()))
}
