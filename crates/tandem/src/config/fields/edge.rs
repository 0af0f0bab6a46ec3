//! The keys of `[[edge]]`: domains whose registrar stands behind this server.

use routing::EdgeContact;
use sip::SipUri;

use super::{Field, List, domain};
use crate::config::EdgeDraft;
use crate::config::problem::Wrong;
use crate::config::value::Value;

/// `[[edge]]`.
pub const EDGES: List<EdgeDraft> = List {
    name: "edge",
    meaning: &[
        "Domains whose registrar stands behind this server: Asterisk, FreeSWITCH, Kamailio. Phones register through here,",
        "and that registrar asks for their passwords. Repeat the table for each domain. There is none by default.",
    ],
    example: "domain = \"example.org\" and to = \"sip:10.0.0.20:5060\"",
    // Each request is compared with all of them.
    entries_max: 100,
    fields: EDGE,
};

const EDGE: &[Field<EdgeDraft>] = &[
    Field {
        key: "domain",
        default: "\"example.org\"",
        meaning: &["A domain, or an address of this server if phones know nothing else. It must be given."],
        set: |draft, value| {
            draft.domain = Some(domain_or_address(value)?);
            Ok(())
        },
    },
    Field {
        key: "to",
        default: "\"sip:10.0.0.20:5060\"",
        meaning: &[
            "The registrar. `;transport=udp` or `tcp` may follow; else what is large goes by TCP. Only requests from its",
            "address find back to the phones; if it has a name here, or other addresses, put them into [[trusted]].",
            "It must be given.",
        ],
        set: |draft, value| {
            draft.to = Some(registrar(value)?);
            Ok(())
        },
    },
    Field {
        key: "from",
        default: "\"\"",
        meaning: &[
            "This server's address that the registrar sees. Empty: the one that the phone has reached.",
        ],
        set: |draft, value| {
            draft.from = match value.text()? {
                "" => None,
                text => Some(text.parse().map_err(|_| {
                    value.wrong("is no address", "write one of this server's: \"10.0.0.10\"")
                })?),
            };
            Ok(())
        },
    },
    Field {
        key: "contact",
        default: "\"keep\"",
        meaning: &[
            "How the registrar is told the way to a phone: \"keep\" by Path (RFC 3327), \"rewrite\" by a Contact that",
            "leads here, for registrars that do not know Path.",
        ],
        set: |draft, value| {
            draft.contact = value.word(&[("keep", EdgeContact::Keep), ("rewrite", EdgeContact::Rewrite)])?;
            Ok(())
        },
    },
];

fn domain_or_address(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    match text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => Ok(address.to_string()),
        Ok(std::net::IpAddr::V6(address)) => Ok(format!("[{address}]")),
        Err(_) => domain(value),
    }
}

/// A registrar: a SIP URI of a host.
fn registrar(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    let mend = "write \"sip:10.0.0.20:5060\", perhaps with \";transport=tcp\"";
    let Ok(uri) = SipUri::parse(text.as_bytes()) else {
        return Err(value.wrong("is no SIP URI", mend));
    };
    if uri.user.is_some() || uri.headers.is_some() || uri.maddr().is_some() {
        return Err(value.wrong("is more than a host", mend));
    }
    match transport::next_hop(&uri) {
        Ok(_) => Ok(text.to_owned()),
        Err(transport::Unsupported::Secure | transport::Unsupported::Transport) => {
            Err(value.wrong("has a transport that this server does not speak", mend))
        }
        Err(transport::Unsupported::Address) => Err(value.wrong("leads to no host", mend)),
    }
}
