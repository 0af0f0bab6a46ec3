//! `[relay]`: media that pass this server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::RelaySettings;
use media::latch::Policy;
use media::ng::{NODES_MAX, Node};
use media::offer_answer::{Broken, Face};
use media::ports::PortRange;
use media::sdp::Origin;
use net::RelayRules;
pub use routing::Anchoring;
use transport::{Listeners, Transport};

use super::problem::Wrong;
use super::reader::Reading;
use super::value::Value;
use super::{Config, Listen, Place};

/// Ports below are those of known services.
const PORT_MIN: u16 = 1_024;
/// Two calls of two phones; less is no relay.
const PORTS_MIN: u32 = 8;
/// Shares are small numbers.
const WEIGHT_MAX: u16 = 1_000;
/// What the silence of a call that may be silent for ever is measured with.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What `[relay]` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Which calls.
    pub anchoring: Anchoring,
    /// Whether gateways and accounts may have another rule.
    pub named: bool,
    /// The first port, which is even, and the last one.
    pub ports: (u16, u16),
    /// The addresses; empty: those of the listeners.
    pub listen: Vec<RelayAddress>,
    /// What becomes of what can not be relayed.
    pub broken: Broken,
    /// What becomes of `o=`.
    pub origin: Origin,
    /// How long a latch may be set.
    pub window: Duration,
    /// After how long a call is silent; `None`: never.
    pub silence: Option<Duration>,
    /// The class of packets.
    pub dscp: u8,
    /// Whether the kernel sends on what it can.
    pub fast_path: bool,
    /// The rtpengines that relay in the place of this server; empty: it does so itself.
    pub rtpengines: Vec<Node>,
}

/// One address of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Where packets come.
    pub local: IpAddr,
    /// What phones are told.
    pub named: IpAddr,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            anchoring: Anchoring::Never,
            named: false,
            ports: (0, 0),
            listen: Vec::new(),
            broken: Broken::default(),
            origin: Origin::Kept,
            window: Duration::ZERO,
            silence: None,
            dscp: 0,
            fast_path: false,
            rtpengines: Vec::new(),
        }
    }
}

impl RelayAddress {
    /// Reads an entry of `relay.listen`.
    pub fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        const FORM: &str = "write \"203.0.113.10\" or \"10.0.0.5 advertise 203.0.113.10\"";
        let words: Vec<&str> = value.text()?.split_ascii_whitespace().collect();
        let address = |text: &str| match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => {
                Err(value.wrong("names no address that a phone could be told", FORM))
            }
            Ok(address) if address.is_multicast() => Err(value.wrong("is a multicast address", FORM)),
            Ok(address) => Ok(address.to_canonical()),
            Err(_) => Err(value.wrong(format!("has no address: `{text}` is none"), FORM)),
        };
        match words[..] {
            [local] => address(local).map(|local| Self { local, named: local }),
            [local, "advertise", named] => {
                let face = Self { local: address(local)?, named: address(named)? };
                if face.local.is_ipv4() != face.named.is_ipv4() {
                    return Err(value.wrong("advertises an address of the other family", FORM));
                }
                Ok(face)
            }
            [] => Err(value.wrong("is empty", FORM)),
            _ => Err(value.wrong("is not one address, or one and what is told instead", FORM)),
        }
    }
}

/// Reads an entry of `relay.rtpengine`.
pub fn read_rtpengine(value: &Value<'_>) -> Result<Node, Wrong> {
    const FORM: &str =
        "write \"udp://10.0.0.7:2223\" or \"udp://10.0.0.7:2223 weight 2\": where it has listen-ng";
    let words: Vec<&str> = value.text()?.split_ascii_whitespace().collect();
    let (place, weight) = match words[..] {
        [place] => (place, 1),
        [place, "weight", weight] => match weight.parse::<u16>() {
            Ok(weight) if weight <= WEIGHT_MAX => (place, weight),
            _ => return Err(value.wrong(format!("has no weight from 0 to {WEIGHT_MAX}: `{weight}`"), FORM)),
        },
        _ => return Err(value.wrong("is no place of an rtpengine", FORM)),
    };
    let Some(address) = place.strip_prefix("udp://") else {
        return Err(value.wrong("does not begin with udp://, and commands go by nothing else", FORM));
    };
    match address.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(value.wrong("has the port 0", FORM)),
        Ok(address) if address.ip().is_unspecified() || address.ip().is_multicast() => {
            Err(value.wrong("has an address that is not one host's", FORM))
        }
        Ok(address) => Ok(Node { address, weight }),
        Err(_) => Err(value.wrong(format!("has no address and port: `{address}` is none"), FORM)),
    }
}

/// Reads `"30000-39999"`.
pub fn read_range(value: &Value<'_>) -> Result<(u16, u16), Wrong> {
    const FORM: &str = "write the first port and the last one: \"30000-39999\"";
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let Some((first, last)) = value.text()?.split_once('-') else {
        return Err(value.wrong("is no range of ports", FORM));
    };
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(value.wrong("is no range of ports", FORM));
    };
    if first > last {
        return Err(value.wrong("ends before it begins", format!("write \"{last}-{first}\"")));
    }
    if first < PORT_MIN {
        return Err(value.wrong(format!("has ports below {PORT_MIN}, which known services have"), FORM));
    }
    if !first.is_multiple_of(2) {
        let even = first.saturating_add(1);
        let what = "begins with an odd port: media have an even one, and RTCP the next";
        return Err(value.wrong(what, format!("write \"{even}-{last}\"")));
    }
    if u32::from(last - first) + 1 < PORTS_MIN {
        let what = format!("has fewer than {PORTS_MIN} ports: a call has four");
        return Err(value.wrong(what, "write a wider range; \"30000-39999\" is enough for 2,500 calls"));
    }
    Ok((first, last))
}

impl Relay {
    /// Whether any call may be relayed.
    pub fn is_on(&self) -> bool {
        self.named || self.anchoring != Anchoring::Never
    }

    /// What is to be said of a rule that counts for nothing, because there is no relay.
    pub fn remark_on(&self, rule: Anchoring) -> Option<&'static str> {
        (rule != Anchoring::Never && !self.is_on()).then_some(
            "relay.relay is \"never\", so that no call goes by the relay: write relay = \"named\" into [relay], and \
             who has a rule has it",
        )
    }

    /// How many ports there are.
    pub fn count_of_ports(&self) -> u32 {
        u32::from(self.ports.1 - self.ports.0) + 1
    }

    /// What the machines are told.
    pub fn settings(&self, listeners: &Listeners) -> RelaySettings {
        let mut faces: Vec<Face> =
            self.listen.iter().map(|it| Face { local: it.local, named: it.named }).collect();
        if faces.is_empty() {
            for listener in listeners.iter() {
                let local = listener.local.0.ip();
                let told = listener.advertise.as_ref().and_then(|advertise| {
                    advertise.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()
                });
                let named = told.filter(|named| named.is_ipv4() == local.is_ipv4()).unwrap_or(local);
                match faces.iter_mut().find(|face| face.local == local) {
                    Some(face) if face.named == local => face.named = named,
                    Some(_) => {}
                    None => faces.push(Face { local, named }),
                }
            }
        }
        RelaySettings {
            ports: PortRange::new(self.ports.0, self.ports.1),
            faces,
            broken: self.broken,
            origin: self.origin,
            is_elsewhere: self.is_elsewhere(),
            silence: self.silence,
        }
    }

    /// What the server is told.
    pub fn rules(&self, listeners: &Listeners) -> RelayRules {
        RelayRules {
            settings: self.is_on().then(|| Arc::new(self.settings(listeners))),
            policy: Policy { window: self.window, ..Policy::default() },
            silence: self.silence.unwrap_or(FOREVER),
            dscp: self.dscp,
            fast_path: self.fast_path,
            rtpengines: if self.is_on() { self.rtpengines.clone() } else { Vec::new() },
        }
    }

    /// Whether rtpengines relay, and not this server.
    pub fn is_elsewhere(&self) -> bool {
        !self.rtpengines.is_empty()
    }

    /// Finds what does not fit the other tables.
    pub(super) fn check(&self, config: &Config, reading: &mut Reading<'_>) {
        let key = if reading.has("relay.ports") { "relay.ports" } else { "relay.relay" };
        let has = |port: u16| (self.ports.0..=self.ports.1).contains(&port);
        let taken = |listen: &&Listen| {
            let port = match listen.place {
                Place::At(local) => local.port(),
                Place::EveryAddress { port } => port,
            };
            listen.transport == Transport::Udp && has(port)
        };
        let is_twice = |(at, node): &(usize, &Node)| {
            self.rtpengines[..*at].iter().any(|other| other.address == node.address)
        };
        if let Some((_, node)) = self.rtpengines.iter().enumerate().find(is_twice) {
            let what = format!("names udp://{} twice", node.address);
            reading.conflict("relay.rtpengine", what, "write it once, with the sum of both weights");
        }
        if self.rtpengines.len() > NODES_MAX {
            let what = format!("has more than {NODES_MAX} entries");
            reading.conflict("relay.rtpengine", what, "write fewer");
        }
        if !self.rtpengines.is_empty() && self.rtpengines.iter().all(|node| node.weight == 0) {
            let what = "conflicts: no call would have a relay, since every weight is 0";
            reading.conflict("relay.rtpengine", what, "give one of them a weight, or write `rtpengine = []`");
        }
        // The ports are the other relays'.
        if !self.is_on() || self.is_elsewhere() {
            return;
        }
        if let Some(listen) = config.sip.listen.iter().find(taken) {
            let what = format!(
                "conflicts: SIP is served within the ports of media, sip.listen has {}",
                listen.name()
            );
            reading.conflict(key, what, "write a range without that port");
        }
        if let Some(cluster) = config.cluster.as_ref().filter(|cluster| has(cluster.port)) {
            let what = format!("conflicts: the cluster's link has port {}", cluster.port);
            reading.conflict(key, what, "write a range without that port");
        }
    }

    /// Whether the kernel may give one of the ports to others, because it is in their range and not reserved.
    pub fn is_within(&self, kernel: (u16, u16), reserved: &[(u16, u16)]) -> bool {
        let (first, last) = (self.ports.0.max(kernel.0), self.ports.1.min(kernel.1));
        first <= last
            && !(first..=last).all(|port| reserved.iter().any(|(from, to)| (*from..=*to).contains(&port)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_whole_table_is_read() {
        let config = parse(
            "[relay]\nports = '40000-40999'\nlisten = ['10.0.0.5 advertise 203.0.113.10', \
             '2001:db8::5']\nbroken = 'refuse'\nhide_origin = true\nwindow = '10s'\nsilence = 'off'\ndscp = 34\n\
             fast_path = 'off'",
        )
        .expect("it is right");

        let Relay { anchoring, ports, .. } = config.relay;
        assert_eq!((anchoring, ports), (Anchoring::Never, (40_000, 40_999)));
        let settings = config.relay.settings(&Listeners::default());
        let face = |local: &str, named: &str| Face {
            local: local.parse().expect("an address"),
            named: named.parse().expect("an address"),
        };
        assert_eq!(settings.faces, [face("10.0.0.5", "203.0.113.10"), face("2001:db8::5", "2001:db8::5")]);
        assert_eq!((settings.broken, settings.origin), (Broken::Refuse, Origin::Replaced));
        let rules = config.relay.rules(&Listeners::default());
        assert_eq!((rules.policy.window, rules.dscp), (Duration::from_secs(10), 34));
        assert!(!rules.fast_path);
        assert!(rules.silence > Duration::from_secs(365 * 86_400));
    }

    #[test]
    fn where_rtpengines_relay_their_shares_are_read_and_no_port_conflicts() {
        let text = "[relay]\nrelay = 'always'\nports = '5000-6999'\n\
                    rtpengine = ['udp://10.0.0.7:2223 weight 2', 'udp://[2001:db8::7]:2223']";
        let config = parse(text).expect("it is right");

        let rules = config.relay.rules(&Listeners::default());

        let node = |address: &str, weight| Node { address: address.parse().expect("an address"), weight };
        assert_eq!(rules.rtpengines, [node("10.0.0.7:2223", 2), node("[2001:db8::7]:2223", 1)]);
        assert!(rules.settings.is_some_and(|settings| settings.is_elsewhere));
    }

    #[test]
    fn without_addresses_of_its_own_the_relay_has_those_of_the_listeners() {
        let text = "[sip]\nlisten = ['udp://10.0.0.5:5060 advertise 203.0.113.10', 'tcp://10.0.0.5:5060', \
                    'udp://[2001:db8::5]:5060', 'udp://10.0.0.6:5060 advertise sip.example.org']";
        let config = parse(text).expect("it is right");
        let listeners = config.compile(&[]).expect("it can be served").listeners;

        let faces = config.relay.settings(&listeners).faces;

        let faces: Vec<_> = faces.iter().map(|face| format!("{} {}", face.local, face.named)).collect();
        assert_eq!(faces, ["10.0.0.5 203.0.113.10", "2001:db8::5 2001:db8::5", "10.0.0.6 10.0.0.6"]);
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_mend() {
        for (line, what, mend) in [
            ("ports = '30000'", "is no range of ports", "30000-39999"),
            ("ports = '39999-30000'", "ends before it begins", "30000-39999"),
            ("ports = '30001-39999'", "odd port", "30002-39999"),
            ("ports = '80-39999'", "below 1024", "30000-39999"),
            ("ports = '30000-30003'", "fewer than 8", "wider"),
            ("ports = '5000-6999'\nrelay = 'nat'", "sip.listen has udp://*:5060", "without that port"),
            ("listen = ['0.0.0.0']", "no address that a phone", "203.0.113.10"),
            ("listen = ['eth0']", "`eth0` is none", "203.0.113.10"),
            ("listen = ['10.0.0.5 advertise 2001:db8::1']", "other family", "advertise 203.0.113.10"),
            ("relay = 'on'", "relay.relay = 'on'", "\"nat\""),
            ("dscp = 64", "relay.dscp = 64", "63"),
            ("rtpengine = ['10.0.0.7:2223']", "does not begin with udp://", "udp://10.0.0.7:2223"),
            (
                "rtpengine = ['udp://relay.example:2223']",
                "`relay.example:2223` is none",
                "udp://10.0.0.7:2223",
            ),
            ("rtpengine = ['udp://10.0.0.7:0']", "port 0", "udp://10.0.0.7:2223"),
            ("rtpengine = ['udp://10.0.0.7:1 weight -1']", "no weight from 0", "weight 2"),
            ("rtpengine = ['udp://10.0.0.7:1 2']", "no place of an rtpengine", "weight 2"),
            (
                "rtpengine = ['udp://10.0.0.7:1', 'udp://10.0.0.7:1 weight 3']",
                "udp://10.0.0.7:1 twice",
                "once",
            ),
            ("rtpengine = ['udp://10.0.0.7:1 weight 0']", "every weight is 0", "give one of them"),
            ("silence = '1s'", "relay.silence = '1s'", "10s"),
        ] {
            let error = parse(&format!("[relay]\n{line}")).expect_err(line).to_string();
            assert!(error.contains("a.toml:2:"), "{error}");
            assert!(error.contains(what) && error.contains(mend), "{line}: {error}");
        }
    }

    #[test]
    fn a_range_that_the_kernel_gives_away_is_found_unless_it_is_reserved() {
        let relay = Relay { ports: (30_000, 39_999), ..Relay::default() };
        assert!(relay.is_within((32_768, 60_999), &[]));
        assert!(relay.is_within((32_768, 60_999), &[(30_000, 39_998)]));
        assert!(!relay.is_within((32_768, 60_999), &[(30_000, 35_000), (35_001, 39_999)]));
        assert!(!relay.is_within((40_000, 60_999), &[]));
    }

    fn parse(text: &str) -> Result<Config, super::super::Problems> {
        Config::parse(Path::new("a.toml"), text)
    }
}
