//! What a configuration of the media relay means on this host.

use std::fs;
use std::sync::Arc;

use media::offer_answer::Face;
use routing::{Gateway, Settings};
use rustix::process::{Resource, getrlimit};

use crate::config::relay::{Anchoring, Relay};

/// Descriptors that a server has beside those of media: sockets, database, connections.
const OTHER_DESCRIPTORS: u64 = 1_000;

/// What of the kernel stands in the way of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// The ports that it gives to whoever asks for none.
    given: Option<(u16, u16)>,
    /// Those of them that it keeps.
    reserved: Vec<(u16, u16)>,
    /// How many files a process may have open.
    files_max: Option<u64>,
}

impl Kernel {
    /// As it is on this host.
    pub fn here() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        let reserved = read("ip_local_reserved_ports");
        Self {
            given: read_pair(&read("ip_local_port_range"), char::is_whitespace),
            reserved: reserved.trim().split(',').filter_map(|part| read_pair(part, |it| it == '-')).collect(),
            files_max: getrlimit(Resource::Nofile).maximum,
        }
    }
}

fn read_pair(text: &str, between: impl Fn(char) -> bool) -> Option<(u16, u16)> {
    let mut numbers = text.trim().split(between).filter(|part| !part.is_empty());
    let first = numbers.next()?.parse().ok()?;
    Some((first, numbers.next().map_or(Some(first), |last| last.parse().ok())?))
}

/// Which calls are relayed and where, and what to do about the host; empty if none are.
pub fn text(relay: &Relay, settings: &Settings, kernel: &Kernel, connections_max: usize) -> String {
    let calls = match relay.anchoring {
        Anchoring::Never if !relay.named => return String::new(),
        Anchoring::Never => "calls of gateways and accounts that have a rule",
        Anchoring::Nat => "calls with a phone behind NAT",
        Anchoring::Always => "all calls",
    };
    if relay.is_elsewhere() {
        return format!("Media of {calls} pass\n");
    }
    let (first, last) = relay.ports;
    let mut text = format!("Media of {calls} pass here, by UDP ports {first} to {last} of\n");
    for Face { local, named } in relay.settings(&settings.listeners).faces {
        match local == named {
            true => text.push_str(&format!("  {local}\n")),
            false => text.push_str(&format!("  {local}, told as {named}\n")),
        }
    }
    if kernel.given.is_some_and(|given| relay.is_within(given, &kernel.reserved)) {
        let (from, to) = kernel.given.unwrap_or_default();
        text.push_str(&format!(
            "note: the kernel gives ports {from} to {to} to other programs, and some of them are media's: write \
             net.ipv4.ip_local_reserved_ports = {first}-{last} into /etc/sysctl.d/tandem.conf, and run `sysctl --system`\n"
        ));
    }
    let wanted = u64::from(relay.count_of_ports()) + connections_max as u64 + OTHER_DESCRIPTORS;
    if let Some(files_max) = kernel.files_max.filter(|files_max| *files_max < wanted) {
        text.push_str(&format!(
            "note: a process may have {files_max} open files, and media on all ports with all connections want {wanted}: \
             raise the hard limit (LimitNOFILE={wanted} in the unit, or `ulimit -Hn`), or lower relay.ports\n"
        ));
    }
    text
}

/// Gateways, and a number of accounts, whose rules count for nothing because there is no relay.
pub fn unheeded(relay: &Relay, gateways: &[Arc<Gateway>], accounts: u64) -> String {
    let is_unheeded = |it: &&Arc<Gateway>| it.relay.is_some_and(|rule| relay.remark_on(rule).is_some());
    let mut whose: Vec<String> =
        gateways.iter().filter(is_unheeded).map(|gateway| format!("gateway {}", gateway.name)).collect();
    let why = relay.remark_on(Anchoring::Always);
    match accounts {
        0 => {}
        1 => whose.push("1 account".to_owned()),
        accounts => whose.push(format!("{accounts} accounts")),
    }
    match why {
        Some(why) if !whose.is_empty() => {
            format!("note: a rule for the relay of {} counts for nothing: {why}\n", whose.join(", "))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::config::relay::RelayAddress;

    #[test]
    fn what_is_relayed_and_where_is_told() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let relay = Relay {
            listen: vec![
                RelayAddress { local: address("10.0.0.5"), named: address("203.0.113.10") },
                RelayAddress { local: address("2001:db8::5"), named: address("2001:db8::5") },
            ],
            ..relay()
        };

        assert_eq!(
            text(&relay, &Settings::default(), &Kernel::default(), 10),
            "Media of calls with a phone behind NAT pass here, by UDP ports 30000 to 39999 of\n  \
             10.0.0.5, told as 203.0.113.10\n  2001:db8::5\n"
        );
        let never = Relay { anchoring: Anchoring::Never, ..relay };
        assert_eq!(text(&never, &Settings::default(), &Kernel::default(), 10), "");
    }

    #[test]
    fn a_rule_that_counts_for_nothing_without_a_relay_is_told_and_others_are_not() {
        let told = |relay: &str, accounts| {
            let file = format!(
                "[relay]\nrelay = '{relay}'\n[[gateway]]\nname = 'a'\nuri = 'sip:a.example'\nrelay = 'nat'\n\
                 [[gateway]]\nname = 'b'\nuri = 'sip:b.example'\nrelay = 'never'\n\
                 [[gateway]]\nname = 'c'\nuri = 'sip:c.example'\n"
            );
            let config = Config::parse(Path::new("a.toml"), &file).unwrap_or_else(|error| panic!("{error}"));
            unheeded(&config.relay, &config.dial_plan.gateways, accounts)
        };

        let text = told("never", 2);
        assert!(
            text.starts_with("note: a rule for the relay of gateway a, 2 accounts counts for nothing: "),
            "{text}"
        );
        assert!(text.contains("write relay = \"named\""), "{text}");
        for relay in ["named", "nat", "always"] {
            assert_eq!(told(relay, 2), "");
        }
        assert_eq!(unheeded(&Relay { anchoring: Anchoring::Never, named: false, ..relay() }, &[], 0), "");
    }

    #[test]
    fn a_kernel_that_gives_the_ports_away_is_told_of_with_the_mend() {
        let told = |kernel: Kernel| text(&relay(), &Settings::default(), &kernel, 10_000);
        let usual = Kernel { given: read_pair("32768\t60999\n", char::is_whitespace), ..Kernel::default() };

        assert!(told(usual.clone()).contains("ip_local_reserved_ports = 30000-39999"));
        let reserved = vec![(30_000, 39_999)];
        assert!(!told(Kernel { reserved, ..usual }).contains("note:"));
        let few = told(Kernel { files_max: Some(4_096), ..Kernel::default() });
        assert!(few.contains("LimitNOFILE=21000"), "{few}");
        assert!(!told(Kernel { files_max: Some(21_000), ..Kernel::default() }).contains("note:"));
    }

    fn relay() -> Relay {
        Relay { anchoring: Anchoring::Nat, ports: (30_000, 39_999), ..Relay::default() }
    }
}
