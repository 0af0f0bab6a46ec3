//! What the operator set for admission.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::bucket::Rate;

/// Whether admission has an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Sources are slowed and banned.
    On,
    /// Nobody is.
    Off,
}

/// Rules for sources and accounts: who is slowed, who is banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whether they are in force.
    pub enforcement: Enforcement,
    /// Sources that are never slowed or banned, besides trusted peers.
    pub never: Vec<IpNet>,
    /// How `User-Agent` begins in scanners; in any case of letters.
    pub scanners: Vec<String>,
    /// Wrong passwords of one name from one source before that name is slowed there.
    pub failures_free: u32,
    /// Wrong passwords of one source within `window` that ban it, and of one name that block the name there.
    pub failures_max: u32,
    /// How long a wrong password counts.
    pub window: Duration,
    /// The first ban; each further one of the same source doubles.
    pub ban: Duration,
    /// The longest ban.
    pub ban_max: Duration,
    /// Requests of one source that prove nothing.
    pub unproven: Rate,
    /// Calls that one account may begin in a minute; 0: as many as it likes.
    pub calls_per_minute: u32,
    /// Whether requests are refused under overload.
    pub overload: Enforcement,
    /// Numbers whose calls are never refused for it, without what is there for the eye only.
    pub emergency: Vec<String>,
}

impl Default for Admission {
    fn default() -> Self {
        let scanners = [
            "friendly-scanner",
            "friendly-request",
            "sipvicious",
            "sipcli",
            "sundayddr",
            "VaxSIPUserAgent",
            "pplsip",
        ];
        Self {
            enforcement: Enforcement::On,
            never: Vec::new(),
            scanners: scanners.map(str::to_owned).into(),
            failures_free: 3,
            failures_max: 20,
            window: Duration::from_secs(300),
            ban: Duration::from_secs(600),
            ban_max: Duration::from_secs(24 * 3_600),
            unproven: Rate::per_second(50, 1_000),
            calls_per_minute: 300,
            overload: Enforcement::On,
            emergency: ["112", "911", "999", "000", "110", "111", "113", "118", "119"]
                .map(str::to_owned)
                .into(),
        }
    }
}

impl Admission {
    /// Whether the operator has named this address as one that is never slowed or banned.
    pub(crate) fn is_named_never(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.never.iter().any(|network| network.contains(&address))
    }

    /// Whether a `User-Agent` is that of a scanner.
    pub(crate) fn is_scanner(&self, agent: &[u8]) -> bool {
        self.enforcement == Enforcement::On
            && self.scanners.iter().any(|known| {
                agent.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
            })
    }
}
