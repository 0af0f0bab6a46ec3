//! What must hold for any description, and for any bytes.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Description::read(&bytes);
        let mut begun = b"v=0\r\n".to_vec();
        begun.extend(bytes);
        let _ = Description::read(&begun);
    }

    #[test]
    fn an_unchanged_description_is_the_same_bytes(text in description()) {
        let description = Description::read(text.as_bytes()).unwrap();
        let ports = vec![LinePorts::Left; description.media().len()];
        let rewrite = Rewrite { address: ip(V4), ports: &ports, origin: Origin::Replaced };
        let written = description.rewrite(&rewrite);

        prop_assert_eq!(String::from_utf8(written).unwrap(), text);
    }

    #[test]
    fn a_changed_description_says_what_was_wanted_and_all_else_stays(text in description(), six: bool) {
        let address = if six { V6 } else { V4 };
        let read = Description::read(text.as_bytes()).unwrap();
        let written = relayed(&text, address);
        let again = Description::read(written.as_bytes()).unwrap();

        prop_assert_eq!(read.media().len(), again.media().len());
        for (index, (before, after)) in read.media().iter().zip(again.media()).enumerate() {
            if before.is_relayed() {
                prop_assert_eq!(after.port(), 30_000 + index as u16 * 10);
                let wanted = match before.address() {
                    Address::Nowhere => Address::Nowhere,
                    Address::Ip(_) | Address::Name => Address::Ip(ip(address)),
                };
                prop_assert_eq!(after.address(), wanted);
            } else if before.port() != 0 {
                prop_assert_eq!(before.media_address(), after.media_address());
            }
            prop_assert_eq!(before.direction(), after.direction());
            prop_assert_eq!(before.ports(), after.ports());
            prop_assert_eq!(before.carriage(), after.carriage());
        }
        // Lines of no concern are there, in their order.
        let kept = |text: &str| text.lines().filter(|line| line.starts_with("a=keep")).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(kept(&text), kept(&written));
        let is_any_relayed = read.media().iter().any(Media::is_relayed);
        let candidates = again.media().iter().filter(|media| media.is_relayed() && !media.detours.is_empty());
        prop_assert!(!is_any_relayed || candidates.count() == 0);
        // A second relay changes the first one's addresses and nothing else.
        prop_assert_eq!(relayed(&written, address), written);
    }
}

fn description() -> impl Strategy<Value = String> {
    let media = (line(), prop::collection::vec(attribute(), 0..6), prop::option::of(connection()));
    (
        connection(),
        prop::collection::vec(attribute(), 0..4),
        prop::collection::vec(media, 0..5),
        0usize..3,
        any::<bool>(),
    )
        .prop_map(|(connection, attributes, media, end, ends)| {
            let mut lines = vec!["v=0".to_owned(), "o=- 1 2 IN IP4 10.0.0.1".to_owned(), "s=é".to_owned()];
            lines.push(connection);
            lines.extend(attributes.into_iter().filter(|line| !line.starts_with("a=rtcp:")));
            for (line, mut attributes, connection) in media {
                lines.push(line);
                lines.extend(connection);
                let mut has_rtcp = false;
                attributes
                    .retain(|line| !line.starts_with("a=rtcp:") || !std::mem::replace(&mut has_rtcp, true));
                lines.extend(attributes);
            }
            let end = ["\r\n", "\n", "\r\n"][end];
            let text = lines.join(end);
            if ends { text + end } else { text }
        })
}

fn line() -> impl Strategy<Value = String> {
    let protocol =
        prop::sample::select(vec!["RTP/AVP", "RTP/SAVPF", "udptl", "TCP/MSRP", "UDP/TLS/RTP/SAVP", "x-y"]);
    let port = prop_oneof![
        Just("0".to_owned()),
        (10u16..60_000).prop_map(|port| port.to_string()),
        Just("5000/2".to_owned())
    ];
    (port, protocol).prop_map(|(port, protocol)| format!("m=audio {port} {protocol} 0 8"))
}

fn connection() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "IN IP4 10.1.2.3",
        "IN IP4 0.0.0.0",
        "IN IP6 2001:db8::9",
        "IN IP4 a.example",
        "IN IP6 x.invalid",
    ])
    .prop_map(|place| format!("c={place}"))
}

fn attribute() -> impl Strategy<Value = String> {
    prop_oneof![
        "a=keep:[ -~]{0,20}",
        prop::sample::select(vec![
            "a=sendonly",
            "a=inactive",
            "a=rtcp-mux",
            "a=rtcp:700",
            "a=rtcp:701 IN IP6 2001:db8::9",
            "a=ice-ufrag:x",
            "a=candidate:1 1 UDP 1 10.0.0.1 5000 typ host",
            "a=group:BUNDLE 0 1",
            "a=group:LS 0 1",
            "a=rtpmap:0 PCMU/8000",
            "b=AS:64",
            "k=prompt",
            "",
        ])
        .prop_map(str::to_owned),
    ]
}
