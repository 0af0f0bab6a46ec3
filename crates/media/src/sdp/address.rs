//! Where a description says that media is wanted: the value of `c=`, and what stands in `a=rtcp`.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::line::words;

/// What a description gives as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address of one host.
    Ip(IpAddr),
    /// Nothing is to be sent: `0.0.0.0`, `::` or a name below `.invalid`.
    // RFC 3264 §8.4: the old way of hold. RFC 6157 has the name, for IPv6.
    Nowhere,
    /// A name, or something that is no address: only the packets can tell.
    Name,
}

/// Why a value has no address that could be relayed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// Not three words, or another network than the Internet.
    Malformed,
    /// A group of receivers.
    Multicast,
}

/// An address in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// From the network type to the end of the address.
    pub(super) span: Range<usize>,
    pub(super) address: Address,
}

/// Reads `IN IP4 192.0.2.1`, as it stands in `c=`, `o=` and `a=rtcp`.
// RFC 8866 §5.7.
pub(super) fn read(bytes: &[u8], within: Range<usize>) -> Result<Place, NoAddress> {
    let mut words = words(bytes, within);
    let (Some(network), Some(family), Some(address), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(NoAddress::Malformed);
    };
    let is_family =
        ["IP4", "IP6"].iter().any(|known| bytes[family.clone()].eq_ignore_ascii_case(known.as_bytes()));
    if !bytes[network.clone()].eq_ignore_ascii_case(b"IN") || !is_family {
        return Err(NoAddress::Malformed);
    }
    let text = bytes[address.clone()].split(|byte| *byte == b'/').next().unwrap_or_default();
    let place = |address_value| Place { span: network.start..address.end, address: address_value };
    let address_value = std::str::from_utf8(text).map_or(Address::Name, classify);
    match address_value {
        Address::Ip(ip) if ip.is_multicast() => Err(NoAddress::Multicast),
        other => Ok(place(other)),
    }
}

fn classify(text: &str) -> Address {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Address::Nowhere,
        // Nobody has it; the packets tell where the sender is.
        Ok(IpAddr::V4(Ipv4Addr::BROADCAST)) => Address::Name,
        Ok(ip) => Address::Ip(ip.to_canonical()),
        Err(_) if is_below_invalid(text) => Address::Nowhere,
        Err(_) => Address::Name,
    }
}

fn is_below_invalid(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|last| last.eq_ignore_ascii_case("invalid"))
}

/// `IN IP4 192.0.2.1`.
pub(super) fn write(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("IN IP4 {ip}"),
        IpAddr::V6(ip) => format!("IN IP6 {ip}"),
    }
}

/// What says that nothing is to be sent, in the family of `ip`.
// RFC 6157: in IPv6 it is a name below `.invalid`, not the unspecified address.
pub(super) fn write_nowhere(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(_) => format!("IN IP4 {}", Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => "IN IP6 hold.invalid".to_owned(),
    }
}

/// Whether the address at `span` is written in the family of `ip`.
pub(super) fn is_of_family(bytes: &[u8], span: Range<usize>, ip: IpAddr) -> bool {
    let family = words(bytes, span).nth(1).map(|family| &bytes[family]);
    let wanted: &[u8] = if ip.is_ipv4() { b"IP4" } else { b"IP6" };
    family.is_some_and(|family| family.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_from_hold_and_from_a_name() {
        for (text, wanted) in [
            ("IN IP4 192.0.2.1", Ok(Address::Ip("192.0.2.1".parse().unwrap()))),
            ("IN IP6 2001:db8::1", Ok(Address::Ip("2001:db8::1".parse().unwrap()))),
            ("in ip4 192.0.2.1 ", Ok(Address::Ip("192.0.2.1".parse().unwrap()))),
            ("IN IP4 192.0.2.1/127", Ok(Address::Ip("192.0.2.1".parse().unwrap()))),
            ("IN IP6 ::ffff:192.0.2.1", Ok(Address::Ip("192.0.2.1".parse().unwrap()))),
            ("IN IP4 0.0.0.0", Ok(Address::Nowhere)),
            ("IN IP6 ::", Ok(Address::Nowhere)),
            ("IN IP6 x.Invalid.", Ok(Address::Nowhere)),
            ("IN IP4 phone.example.org", Ok(Address::Name)),
            ("IN IP4 010.0.0.1", Ok(Address::Name)),
            ("IN IP6 fe80::1%eth0", Ok(Address::Name)),
            ("IN IP4 233.252.0.1/127", Err(NoAddress::Multicast)),
            ("IN IP6 ff15::101/3", Err(NoAddress::Multicast)),
            ("ATM NSAP x", Err(NoAddress::Malformed)),
            ("IN IP4", Err(NoAddress::Malformed)),
            ("IN IP4 192.0.2.1 x", Err(NoAddress::Malformed)),
            ("", Err(NoAddress::Malformed)),
        ] {
            let place = read(text.as_bytes(), 0..text.len());
            assert_eq!(place.map(|place| place.address), wanted, "{text}");
        }
    }
}
