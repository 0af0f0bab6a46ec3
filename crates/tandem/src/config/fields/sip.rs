//! The keys of `[sip]` and `[sip.tcp]`: where and how SIP is served.

use std::time::Duration;

use super::{DAY, Field, HOUR, MINUTE, SECOND, Section, domain, line_of_text};
use crate::config::listen::Listen;

/// Connections: a process may have about a million open files.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// More calls than one account ever makes.
const CALLS_PER_ACCOUNT_MAX: u64 = 100_000;
/// RFC 5393 §5.3.3 recommends 60; more only helps an amplifier.
const MAX_BREADTH_MAX: u64 = 1_000;

/// `[sip]`.
pub const SECTION: Section = Section {
    name: "sip",
    meaning: &["Where and how SIP is served."],
    fields: &[
        Field {
            key: "listen",
            default: "[\"udp://*:5060\", \"tcp://*:5060\"]",
            meaning: &[
                "Where SIP is served. `*` is every address of the host, except link-local ones. An address may",
                "be named that the host does not have now. After the address may stand:",
                "  advertise HOST[:PORT]  what others are told instead, behind a 1:1 NAT or in a cloud",
                "  digest off             nobody needs a password here: for a trusted network only",
            ],
            set: |config, value| {
                config.sip.listen = value.list(Listen::read)?;
                if config.sip.listen.is_empty() {
                    return Err(value
                        .wrong("is empty", "name at least one listener: [\"udp://*:5060\"]")
                        .into());
                }
                Ok(())
            },
        },
        Field {
            key: "domains",
            default: "[]",
            meaning: &[
                "Domains of this server, such as \"example.org\". The listeners' addresses always are.",
            ],
            set: |config, value| {
                config.sip.domains = value.list(domain)?;
                Ok(())
            },
        },
        Field {
            key: "server",
            default: concat!("\"Tandem/", env!("CARGO_PKG_VERSION"), "\""),
            meaning: &["The Server header field of our responses. Empty: none is sent."],
            set: |config, value| {
                let text = line_of_text(value)?;
                config.sip.server = (!text.is_empty()).then_some(text);
                Ok(())
            },
        },
        Field {
            key: "ring_timeout",
            default: "\"2m\"",
            meaning: &["How long one phone may ring; then it is cancelled."],
            set: |config, value| {
                config.sip.proxy.ring_timeout = value.duration(SECOND..=HOUR)?;
                Ok(())
            },
        },
        Field {
            key: "serial_ring_timeout",
            default: "\"30s\"",
            meaning: &[
                "The same for a phone after which others are tried, because they registered with a lower q.",
            ],
            set: |config, value| {
                config.sip.proxy.serial_ring_timeout = value.duration(SECOND..=HOUR)?;
                Ok(())
            },
        },
        Field {
            key: "calls_per_account",
            default: "0",
            meaning: &[
                "How many calls one account may make at a time, unless `tandem subscriber limit` says another",
                "number for it. 0: as many as it likes.",
            ],
            set: |config, value| {
                let calls = value.number(0..=CALLS_PER_ACCOUNT_MAX)? as u32;
                config.sip.proxy.calls_per_account = (calls > 0).then_some(calls);
                Ok(())
            },
        },
        Field {
            key: "longest_call",
            default: "\"12h\"",
            meaning: &["A call whose end nobody told counts no longer than this."],
            set: |config, value| {
                config.sip.proxy.longest_call = value.duration(MINUTE..=7 * DAY)?;
                Ok(())
            },
        },
        Field {
            key: "session_expires",
            default: "\"off\"",
            meaning: &[
                "Session timers (RFC 4028): after how long a call counts as over that its phones have not refreshed,",
                "\"30m\", and phones are asked to. \"off\": what phones agree on among themselves is followed.",
            ],
            set: |config, value| {
                config.sip.proxy.session.expires = value.duration_or_off(90 * SECOND..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "session_expires_min",
            default: "\"90s\"",
            meaning: &["With session_expires: who asks for less is told this (422), or gets it."],
            set: |config, value| {
                config.sip.proxy.session.min = value.duration(90 * SECOND..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "long_call_check",
            default: "\"off\"",
            meaning: &[
                "\"1h\": each hour both phones of a call without a session timer get an OPTIONS within the call. If one of",
                "them knows no such call (481), or is silent, the other one gets a BYE, and the call counts no more.",
            ],
            set: |config, value| {
                config.sip.proxy.long_call_check = value.duration_or_off(MINUTE..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "timer_c",
            default: "\"3m10s\"",
            meaning: &["How long a call may go without any news while nobody answers; more than 3 minutes."],
            set: |config, value| {
                // RFC 3261 §16.6: item 11, timer C is larger than 3 minutes.
                config.sip.proxy.timer_c = value.duration(3 * MINUTE + SECOND..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "timer_t1",
            default: "\"500ms\"",
            meaning: &["The round-trip time that retransmissions begin with."],
            set: |config, value| {
                config.sip.timer_t1 = value.duration(Duration::from_millis(10)..=10 * SECOND)?;
                Ok(())
            },
        },
        Field {
            key: "timer_t2",
            default: "\"4s\"",
            meaning: &["The longest interval between retransmissions."],
            set: |config, value| {
                config.sip.timer_t2 = value.duration(Duration::from_millis(10)..=MINUTE)?;
                Ok(())
            },
        },
        Field {
            key: "timer_t4",
            default: "\"5s\"",
            meaning: &["How long a message may stay in the network."],
            set: |config, value| {
                config.sip.timer_t4 = value.duration(Duration::from_millis(10)..=MINUTE)?;
                Ok(())
            },
        },
        Field {
            key: "max_breadth",
            default: "60",
            meaning: &["How many phones one call may reach at once, over all proxies on its way."],
            set: |config, value| {
                config.sip.proxy.max_breadth = value.number(1..=MAX_BREADTH_MAX)? as u32;
                Ok(())
            },
        },
    ],
};

/// `[sip.tcp]`.
pub const TCP: Section = Section {
    name: "sip.tcp",
    meaning: &["Limits of TCP connections."],
    fields: &[
        Field {
            key: "connections_max",
            default: "10000",
            meaning: &["All together."],
            set: |config, value| {
                config.tcp.connections_max = value.number(1..=CONNECTIONS_MAX)? as usize;
                Ok(())
            },
        },
        Field {
            key: "connections_per_source_max",
            default: "1000",
            meaning: &["From one address."],
            set: |config, value| {
                config.tcp.connections_per_source_max = value.number(1..=CONNECTIONS_MAX)? as usize;
                Ok(())
            },
        },
        Field {
            key: "idle_timeout",
            default: "\"1h\"",
            meaning: &[
                "A connection that is silent so long is closed, unless a phone is registered over it.",
            ],
            set: |config, value| {
                config.tcp.idle_timeout = value.duration(10 * SECOND..=7 * DAY)?;
                Ok(())
            },
        },
        Field {
            key: "message_timeout",
            default: "\"10s\"",
            meaning: &["A message that has begun must be whole within this time."],
            set: |config, value| {
                config.tcp.message_timeout = value.duration(SECOND..=5 * MINUTE)?;
                Ok(())
            },
        },
    ],
};
