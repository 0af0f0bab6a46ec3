//! Session descriptions and the bodies that they come in: what is read can be written, and is read as what was wanted.
//!
//! An input is a `Content-Type`, a line end and a body; without such a line it is a description alone.

use std::net::IpAddr;

use media::body::Body;
use media::sdp::{Address, Description, LinePorts, Origin, Rewrite};

/// Tries the bytes as a body.
pub fn run(data: &[u8]) {
    let (content_type, bytes) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) if data[..at].contains(&b'/') => (data[..at].trim_ascii_end(), &data[at + 1..]),
        _ => (&b"application/sdp"[..], data),
    };
    let body = Body { content_type: Some(content_type), bytes, ..Body::default() };
    let Ok(Some(place)) = body.find_description() else { return };
    let found = &bytes[place.clone()];
    assert!(!found.is_empty());
    assert_eq!(body.with_description(place, found), bytes, "a body that is not changed is another one");
    let Ok(description) = Description::read(found) else { return };
    for address in ["198.51.100.1", "2001:db8::1"] {
        rewrite(&description, address.parse().expect("an address"));
    }
}

fn rewrite(description: &Description<'_>, address: IpAddr) {
    let lines = description.media().len();
    let left = description.rewrite(&Rewrite {
        address,
        ports: &vec![LinePorts::Left; lines],
        origin: Origin::Replaced,
    });
    assert_eq!(left, description.bytes(), "a description that is not changed is another one");
    let ports: Vec<LinePorts> = (0..lines as u16)
        .map(|line| LinePorts::Relayed { rtp: 30_000 + 2 * line, rtcp: 30_001 + 2 * line })
        .collect();
    let rewrite = Rewrite { address, ports: &ports, origin: Origin::Replaced };
    let written = description.rewrite(&rewrite);
    let again = Description::read(&written).expect("what was written can be read");
    assert_eq!(again.media().len(), lines);
    for (line, (before, after)) in description.media().iter().zip(again.media()).enumerate() {
        assert_eq!(
            (before.carriage(), before.direction(), before.ports(), before.is_muxed(), before.clock_rates()),
            (after.carriage(), after.direction(), after.ports(), after.is_muxed(), after.clock_rates())
        );
        if before.is_relayed() {
            assert_eq!(after.port(), 30_000 + 2 * line as u16);
            match before.address() {
                Address::Nowhere => assert_eq!(after.address(), Address::Nowhere),
                Address::Ip(_) | Address::Name => assert_eq!(after.address(), Address::Ip(address)),
            }
        } else {
            assert_eq!(before.media_address(), after.media_address(), "what is not relayed leads elsewhere");
        }
    }
    assert_eq!(again.rewrite(&rewrite), written, "what was written is changed again");
}
