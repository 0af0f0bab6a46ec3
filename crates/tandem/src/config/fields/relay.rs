//! The keys of `[relay]`: media that pass this server.

use std::time::Duration;

use media::offer_answer::Broken;
use media::sdp::Origin;

use super::{DAY, Field, HOUR, SECOND, Section};
use crate::config::relay::{Anchoring, RelayAddress, read_range, read_rtpengine};

/// DSCP has six bits (RFC 2474 §3).
const DSCP_MAX: u64 = 63;

/// The table.
pub const SECTION: Section = Section {
    name: "relay",
    meaning: &[
        "The media relay: voice goes through this server, so that phones behind NAT, or of IPv4 and IPv6, hear each other.",
        "The range of ports must be open for UDP in firewalls. docs/media.md tells more.",
    ],
    fields: &[
        Field {
            key: "relay",
            default: "\"never\"",
            meaning: &[
                "Which calls: \"never\", \"nat\" (those in which one of the phones sits behind NAT), \"always\", or \"named\": those",
                "alone whose gateway (`relay`) or account (`tandem subscriber relay`) has a rule of its own. Such a rule takes",
                "the place of this one, but for \"never\" here.",
            ],
            set: |config, value| {
                (config.relay.anchoring, config.relay.named) = value.word(&[
                    ("never", (Anchoring::Never, false)),
                    ("nat", (Anchoring::Nat, true)),
                    ("always", (Anchoring::Always, true)),
                    ("named", (Anchoring::Never, true)),
                ])?;
                Ok(())
            },
        },
        Field {
            key: "ports",
            default: "\"30000-39999\"",
            meaning: &[
                "UDP ports of media. A call of two phones has four: two towards each of them. Keep them out of the range",
                "that the kernel gives to others; `tandem check` tells how.",
            ],
            set: |config, value| {
                config.relay.ports = read_range(value)?;
                Ok(())
            },
        },
        Field {
            key: "listen",
            default: "[]",
            meaning: &[
                "The addresses of media; empty: those of sip.listen. A phone is told the address at which it speaks SIP if",
                "that is among them, else the first of its family. After an address may stand `advertise ADDRESS`: what",
                "phones are told instead, behind a 1:1 NAT or in a cloud.",
            ],
            set: |config, value| {
                config.relay.listen = value.list(RelayAddress::read)?;
                Ok(())
            },
        },
        Field {
            key: "rtpengine",
            default: "[]",
            meaning: &[
                "Have rtpengines relay in the place of this server: \"udp://10.0.0.7:2223 weight 2\" for each, where it has",
                "listen-ng. New calls are shared out by weight (1 if none is given; 0: no new ones) among those that answer.",
                "`ports`, `listen`, `window` and `dscp` mean nothing then: the rtpengines have their own.",
            ],
            set: |config, value| {
                config.relay.rtpengines = value.list(read_rtpengine)?;
                Ok(())
            },
        },
        Field {
            key: "broken",
            default: "\"pass\"",
            meaning: &[
                "What becomes of a description of media that can not be understood: \"pass\" (it goes on as it is, and so do",
                "the media) or \"refuse\" (488).",
            ],
            set: |config, value| {
                config.relay.broken = value.word(&[("pass", Broken::PassOn), ("refuse", Broken::Refuse)])?;
                Ok(())
            },
        },
        Field {
            key: "hide_origin",
            default: "false",
            meaning: &[
                "Whether the relay's address stands in `o=` too, which else tells the other phone the caller's own address.",
            ],
            set: |config, value| {
                config.relay.origin = if value.truth()? { Origin::Replaced } else { Origin::Kept };
                Ok(())
            },
        },
        Field {
            key: "window",
            default: "\"30s\"",
            meaning: &[
                "How long after a message about media the first packets of a phone may show where it is. Later ones from",
                "elsewhere are a stranger's.",
            ],
            set: |config, value| {
                config.relay.window = value.duration(SECOND..=HOUR)?;
                Ok(())
            },
        },
        Field {
            key: "silence",
            default: "\"5m\"",
            meaning: &[
                "A call of which nothing comes from either phone for so long is ended, unless it is on hold. \"off\": never.",
            ],
            set: |config, value| {
                config.relay.silence = value.duration_or_off(Duration::from_secs(10)..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "dscp",
            default: "46",
            meaning: &[
                "The class of packets that routers go by; 46 is the one of voice (expedited forwarding).",
            ],
            set: |config, value| {
                config.relay.dscp = value.number(0..=DSCP_MAX)? as u8;
                Ok(())
            },
        },
        Field {
            key: "fast_path",
            default: "\"auto\"",
            meaning: &[
                "Whether the kernel sends on media by itself where it can: on a node of a cluster, once both phones have shown",
                "where they are. \"auto\" or \"off\"; `tandem status` says what is in force. Such packets do not pass the rules",
                "of the host's firewall.",
            ],
            set: |config, value| {
                config.relay.fast_path = value.word(&[("auto", true), ("off", false)])?;
                Ok(())
            },
        },
    ],
};
