//! One entry of `sip.listen`: where SIP is served, in the operator's words.

use std::net::{IpAddr, SocketAddr};

use transport::{Advertise, Transport};

use super::problem::Wrong;
use super::suggest::nearest;
use super::value::Value;

/// What an entry looks like, for every mend.
const FORM: &str = "write \"udp://*:5060\", \"udp://203.0.113.10:5060\" or \"tcp://[2001:db8::1]:5060\"";

/// One entry, read but not yet spread over the host's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The scheme.
    pub transport: Transport,
    /// The address.
    pub place: Place,
    /// What others are told instead of the address.
    pub advertise: Option<Advertise>,
    /// Whether requests must prove who sends them.
    pub digest: DigestRule,
}

/// Which addresses an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Each address of the host, with this port.
    EveryAddress {
        /// The port.
        port: u16,
    },
    /// This one, whether the host has it now or not.
    At(SocketAddr),
}

/// Whether a listener asks for digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestRule {
    /// It does.
    On,
    /// It does not: everybody who can reach it is believed.
    Off,
}

impl Listen {
    /// As the file names it, but for what stands after the address.
    pub fn name(&self) -> String {
        match self.place {
            Place::EveryAddress { port } => format!("{}://*:{port}", self.transport.uri_name()),
            Place::At(address) => format!("{}://{address}", self.transport.uri_name()),
        }
    }

    /// Reads one entry.
    pub fn read(value: &Value<'_>) -> Result<Self, Wrong> {
        let text = value.text()?;
        let mut words = text.split_ascii_whitespace();
        let Some(url) = words.next() else { return Err(value.wrong("is empty", FORM)) };
        let Some((scheme, authority)) = url.split_once("://") else {
            return Err(
                value.wrong("has no transport before the address", format!("{FORM}, with udp:// or tcp://"))
            );
        };
        let transport = read_transport(value, scheme)?;
        let place = read_place(value, transport, authority)?;
        let mut listen = Self { transport, place, advertise: None, digest: DigestRule::On };
        while let Some(word) = words.next() {
            match (word, words.next()) {
                ("advertise", Some(address)) if listen.advertise.is_none() => {
                    listen.advertise = Some(read_advertise(value, address)?);
                }
                ("advertise", None) => {
                    return Err(value.wrong(
                        "has no address after `advertise`",
                        "write the address that others see: \"udp://10.0.0.5:5060 advertise 203.0.113.10:5060\"",
                    ));
                }
                ("digest", Some("off")) => listen.digest = DigestRule::Off,
                ("digest", Some("on")) => listen.digest = DigestRule::On,
                ("digest", _) => {
                    return Err(
                        value.wrong("has a wrong word after `digest`", "write `digest off` or leave it out")
                    );
                }
                ("advertise", Some(_)) => {
                    return Err(value.wrong("says `advertise` twice", "name one address that others see"));
                }
                (word, _) => {
                    let mend = match nearest(word, ["advertise", "digest"]) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "after the address only `advertise HOST:PORT` and `digest off` may stand"
                            .to_owned(),
                    };
                    return Err(value.wrong(format!("has an unknown word `{word}`"), mend));
                }
            }
        }
        listen.check_everywhere(value)?;
        Ok(listen)
    }

    fn check_everywhere(&self, value: &Value<'_>) -> Result<(), Wrong> {
        let Place::EveryAddress { port } = self.place else { return Ok(()) };
        let scheme = self.transport.uri_name();
        if self.advertise.is_some() {
            return Err(value.wrong(
                "advertises one address for all addresses of the host",
                format!("name the address behind the NAT: \"{scheme}://10.0.0.5:{port} advertise …\""),
            ));
        }
        if self.digest == DigestRule::Off {
            return Err(value.wrong(
                "switches digest off on all addresses of the host",
                format!("name the address of the trusted network: \"{scheme}://10.1.0.5:{port} digest off\""),
            ));
        }
        Ok(())
    }
}

fn read_transport(value: &Value<'_>, scheme: &str) -> Result<Transport, Wrong> {
    if let Some(transport) = Transport::of_name(scheme.as_bytes()) {
        return Ok(transport);
    }
    let what = match scheme {
        "tls" | "sips" | "ws" | "wss" => format!("asks for {scheme}, which this version does not serve"),
        "sip" => "names no transport".to_owned(),
        _ => format!("names an unknown transport `{scheme}`"),
    };
    Err(value.wrong(what, "write udp:// or tcp://"))
}

fn read_place(value: &Value<'_>, transport: Transport, authority: &str) -> Result<Place, Wrong> {
    if authority == "*" {
        return Ok(Place::EveryAddress { port: transport.default_port() });
    }
    if let Some(port) = authority.strip_prefix("*:") {
        return Ok(Place::EveryAddress { port: read_port(value, port)? });
    }
    if !authority.starts_with('[') && authority.matches(':').count() > 1 {
        let mend = format!("put an IPv6 address in brackets: \"{transport}://[2001:db8::1]:5060\"");
        return Err(value.wrong("has no address that can be read", mend));
    }
    let (host, port) = split_port(authority);
    let port = match port {
        Some(port) => read_port(value, port)?,
        None => transport.default_port(),
    };
    let Some(address) = read_address(host) else {
        return Err(value
            .wrong(format!("has no address: `{host}` is none"), format!("{FORM}; names are not resolved")));
    };
    if address.is_unspecified() {
        let mend = format!("write \"{transport}://*:{port}\" for every address of the host");
        return Err(value.wrong("names no address that a phone could be told", mend));
    }
    if address.is_multicast() {
        return Err(value.wrong("is a multicast address", "name an address of this host"));
    }
    if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        return Err(value.wrong(
            "is a link-local address, which has no meaning beyond one interface",
            "name a global or unique local address",
        ));
    }
    if address.to_canonical() != address {
        let mend = format!("write \"{transport}://{}:{port}\"", address.to_canonical());
        return Err(value.wrong("is an IPv4 address in the form of IPv6", mend));
    }
    Ok(Place::At(SocketAddr::new(address, port)))
}

fn read_advertise(value: &Value<'_>, text: &str) -> Result<Advertise, Wrong> {
    let (host, port) = split_port(text);
    let port = port.map(|port| read_port(value, port)).transpose()?;
    let is_good = match read_address(host) {
        Some(address) => !address.is_unspecified() && (host.starts_with('[') || address.is_ipv4()),
        None => is_host_name(host),
    };
    if !is_good {
        let mend = "write an address or a name that others can reach: `advertise 203.0.113.10:5060`";
        return Err(value.wrong(format!("advertises `{text}`, which is no host"), mend));
    }
    Ok(Advertise { host: host.to_ascii_lowercase(), port })
}

fn read_port(value: &Value<'_>, text: &str) -> Result<u16, Wrong> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(value
            .wrong(format!("has no port: `{text}` is none"), "write a port from 1 to 65535, such as 5060")),
    }
}

/// The host, with its brackets, and what stands after the colon.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_brackets..].find(':') {
        Some(at) => (&authority[..after_brackets + at], Some(&authority[after_brackets + at + 1..])),
        None => (authority, None),
    }
}

fn read_address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Whether a text can be a name in DNS (RFC 3261 §25.1 `hostname`), not an address.
pub fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_numeric =
        text.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(is_label) && !last_is_numeric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let at = |text: &str| Place::At(text.parse().expect("an address"));
        for (text, transport, place) in [
            ("udp://*:5060", Transport::Udp, Place::EveryAddress { port: 5060 }),
            ("tcp://*", Transport::Tcp, Place::EveryAddress { port: 5060 }),
            ("UDP://203.0.113.10:5080", Transport::Udp, at("203.0.113.10:5080")),
            ("tcp://[2001:db8::1]:5060", Transport::Tcp, at("[2001:db8::1]:5060")),
            ("tcp://[2001:db8::1]", Transport::Tcp, at("[2001:db8::1]:5060")),
        ] {
            let listen = read(text).expect(text);
            assert_eq!((listen.transport, listen.place), (transport, place), "{text}");
            assert_eq!((listen.advertise, listen.digest), (None, DigestRule::On), "{text}");
        }
    }

    #[test]
    fn words_after_the_address_are_read_in_any_order() {
        let advertise = Some(Advertise { host: "203.0.113.10".to_owned(), port: Some(5070) });

        let listen = read("udp://10.0.0.5:5060 digest off advertise 203.0.113.10:5070").expect("it is right");

        assert_eq!((listen.advertise, listen.digest), (advertise, DigestRule::Off));
        let listen = read("udp://10.0.0.5 advertise SIP.example.org").expect("it is right");
        assert_eq!(listen.advertise, Some(Advertise { host: "sip.example.org".to_owned(), port: None }));
    }

    #[test]
    fn each_mistake_is_told_with_its_mend() {
        for (text, what, mend) in [
            ("", "is empty", "udp://*:5060"),
            ("10.0.0.5:5060", "no transport", "udp:// or tcp://"),
            ("tls://10.0.0.5:5061", "does not serve", "udp:// or tcp://"),
            ("sctp://10.0.0.5", "unknown transport `sctp`", "udp:// or tcp://"),
            ("udp://0.0.0.0:5060", "names no address", "\"udp://*:5060\""),
            ("udp://[::]:5070", "names no address", "\"udp://*:5070\""),
            ("udp://224.0.0.1:5060", "multicast", "address of this host"),
            ("udp://[fe80::1]:5060", "link-local", "global"),
            ("udp://[::ffff:192.0.2.1]:5060", "in the form of IPv6", "\"udp://192.0.2.1:5060\""),
            ("udp://2001:db8::1", "no address", "[2001:db8::1]"),
            ("udp://sip.example.org:5060", "no address", "names are not resolved"),
            ("udp://10.0.0.5:0", "has no port", "1 to 65535"),
            ("udp://10.0.0.5:65536", "has no port", "1 to 65535"),
            ("udp://10.0.0.5:+80", "has no port", "1 to 65535"),
            ("udp://10.0.0.5:", "has no port", "1 to 65535"),
            ("udp://10.0.0.5 advertize 1.2.3.4", "unknown word `advertize`", "did you mean `advertise`"),
            ("udp://10.0.0.5 advertise", "has no address after", "203.0.113.10:5060"),
            ("udp://10.0.0.5 advertise 1.2.3.4 advertise 1.2.3.5", "twice", "one address"),
            ("udp://10.0.0.5 advertise 1.2.3", "is no host", "203.0.113.10:5060"),
            ("udp://10.0.0.5 advertise 0.0.0.0", "is no host", "203.0.113.10:5060"),
            ("udp://10.0.0.5 digest of", "wrong word after `digest`", "`digest off`"),
            ("udp://*:5060 digest off", "on all addresses", "10.1.0.5:5060 digest off"),
            ("udp://*:5060 advertise 1.2.3.4", "for all addresses", "10.0.0.5:5060 advertise"),
        ] {
            let wrong = read(text).expect_err(text);
            assert!(wrong.what.contains(what), "{text}: {}", wrong.what);
            assert!(wrong.mend.contains(mend), "{text}: {}", wrong.mend);
        }
    }

    #[test]
    fn names_are_told_from_addresses() {
        for name in ["example.org", "sip-1.example.org.", "localhost", "_sip.example.org"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a.org", "a-.org", "192.0.2.1", "exa mple.org", "[::1]", "ex:5060"] {
            assert!(!is_host_name(name), "{name}");
        }
    }

    fn read(text: &str) -> Result<Listen, Wrong> {
        let source = format!("'{text}'");
        let value = toml::de::DeValue::parse(&source).expect("it is TOML");
        Listen::read(&Value::new(&value))
    }
}
