//! What a server notes in the top Via of a request, and where it sends the responses by it.

use std::net::IpAddr;

use sip::{Editor, Message, Name, Via};

use crate::{Destination, Flow, RemoteAddr, Source, Transport};

/// Appends the request with its top Via stamped: `received` if sent-by is not the address it came
/// from or `rport` asks for it, `rport` with the port it came from. What a client itself claims in
/// either is dropped. A message without a top Via that can be read is appended as it is.
pub fn stamp(message: &Message<'_>, source: &Source, out: &mut Vec<u8>) {
    let Ok(via) = message.top_via() else {
        out.extend_from_slice(message.bytes());
        return;
    };
    let Some(mark) = Mark::of(&via, source) else {
        out.extend_from_slice(message.bytes());
        return;
    };
    let mut value = Vec::with_capacity(via.as_bytes().len() + MARK_BYTES_MAX);
    via.write_stamped(mark.received, mark.rport, &mut value);
    let mut editor = Editor::new(message);
    editor.replace_first(Name::Via, &value);
    editor.write(out);
}

/// Where the responses go to a request with this top Via, before or after it was stamped.
///
/// Over a stream back by the connection. Else by the listener that the request came to, to the
/// address that it came from: to its port if `rport` says so, else to the port of sent-by.
pub fn response_destination(via: &Via<'_>, source: &Source) -> Destination {
    let Flow::Datagram { listener, remote } = source.flow else {
        // RFC 3261 §18.2.2: over a reliable transport the response takes the connection of its request.
        return Destination::Flow(source.flow);
    };
    // RFC 3261 §18.2.2: the address is `received` if it is there, else that of sent-by, which then is the source's
    // as well. Deviation: `maddr` is not followed. It serves multicast, and would let a stranger aim our responses
    // at a third host.
    let mut address = remote.0;
    if !answers_to_source_port(via, remote) {
        // RFC 3261 §18.2.2: without rport to the port of sent-by, and to 5060 if there is none.
        address.set_port(via.port.unwrap_or(Transport::Udp.default_port()));
    }
    Destination::Flow(Flow::Datagram { listener, remote: RemoteAddr(address) })
}

/// `;received=`, an address of 45 characters, `;rport=` and a port.
const MARK_BYTES_MAX: usize = 10 + 45 + 7 + 5;

struct Mark {
    received: IpAddr,
    rport: Option<u16>,
}

impl Mark {
    /// `None` if the Via says all by itself.
    fn of(via: &Via<'_>, source: &Source) -> Option<Self> {
        let remote = source.flow.remote();
        let received = remote.0.ip().to_canonical();
        let has_rport = answers_to_source_port(via, remote);
        // RFC 3261 §18.2.1: `received` is added if sent-by is a name or another address.
        let is_elsewhere = is_sent_from_elsewhere(via, received) || matches!(via.host, sip::Host::Name(_));
        // RFC 3581 §4: where rport is filled in, `received` is added even if it says nothing else.
        let is_due = has_rport || is_elsewhere || via.params.has(b"received");
        is_due.then_some(Self { received, rport: has_rport.then_some(remote.0.port()) })
    }
}

/// RFC 3581 §4: a client that asks by `rport` gets its responses at the port that it sent from.
///
/// Deviation: so does a client whose sent-by is not the address that it sends from, without asking:
/// it is behind a NAT, which lets nothing else pass.
fn answers_to_source_port(via: &Via<'_>, remote: RemoteAddr) -> bool {
    via.params.has(b"rport") || is_sent_from_elsewhere(via, remote.0.ip().to_canonical())
}

fn is_sent_from_elsewhere(via: &Via<'_>, source: IpAddr) -> bool {
    via.host.ip().is_some_and(|sent_by| sent_by.to_canonical() != source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionId, ListenerId};

    /// RFC 3581 §4: `received` is there too, though sent-by is the very address.
    #[test]
    fn rport_is_filled_in_together_with_received() {
        let stamped = stamped("192.0.2.7:5060;branch=z9hG4bKa;rport", "192.0.2.7:40000");

        assert_eq!(stamped, "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa;received=192.0.2.7;rport=40000");
    }

    /// RFC 3261 §18.2.1: a request whose sent-by is its source needs no mark.
    #[test]
    fn a_via_that_tells_the_truth_is_left_alone() {
        assert_eq!(
            stamped("192.0.2.7:5070;branch=z9hG4bKa", "192.0.2.7:40000"),
            "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKa"
        );
    }

    /// RFC 3261 §18.2.1: a name is never what the packet's source shows.
    #[test]
    fn a_name_in_sent_by_gets_received() {
        assert_eq!(
            stamped("phone.example.org;branch=z9hG4bKa", "192.0.2.7:40000"),
            "SIP/2.0/UDP phone.example.org;branch=z9hG4bKa;received=192.0.2.7"
        );
    }

    #[test]
    fn a_client_behind_a_nat_gets_rport_without_asking() {
        assert_eq!(
            stamped("10.0.0.7:5060;branch=z9hG4bKa", "192.0.2.7:40000"),
            "SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bKa;received=192.0.2.7;rport=40000"
        );
    }

    #[test]
    fn what_a_client_claims_of_its_address_is_dropped() {
        for claim in
            ["received=198.51.100.1", "received=198.51.100.1;rport=9", "Received=198.51.100.1;RPORT=9"]
        {
            let stamped = stamped(&format!("10.0.0.7;{claim};branch=z9hG4bKa"), "192.0.2.7:40000");

            assert_eq!(
                stamped, "SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKa;received=192.0.2.7;rport=40000",
                "{claim}"
            );
        }
    }

    #[test]
    fn a_claim_of_received_is_dropped_where_nothing_else_is_due() {
        assert_eq!(
            stamped("192.0.2.7:5070;received=198.51.100.1;branch=z9hG4bKa", "192.0.2.7:40000"),
            "SIP/2.0/UDP 192.0.2.7:5070;branch=z9hG4bKa;received=192.0.2.7"
        );
    }

    /// RFC 5118 §4.5: the grammar has no brackets in `received`.
    #[test]
    fn an_ipv6_address_is_received_without_brackets() {
        assert_eq!(
            stamped("[2001:db8::7]:5060;branch=z9hG4bKa;rport", "[2001:db8::8]:40000"),
            "SIP/2.0/UDP [2001:db8::7]:5060;branch=z9hG4bKa;received=2001:db8::8;rport=40000"
        );
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_the_ipv4_address() {
        assert_eq!(
            stamped("192.0.2.7:5060;branch=z9hG4bKa", "[::ffff:192.0.2.7]:5060"),
            "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa"
        );
    }

    #[test]
    fn only_the_top_via_is_stamped_and_nothing_else_changes() {
        let request = "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.7 ;rport;branch=z9hG4bKa , \
                       SIP/2.0/UDP 10.9.9.9;rport;branch=z9hG4bKb\r\nX-Odd :  kept, as it is \r\n\
                       Via: SIP/2.0/UDP 10.8.8.8;rport;branch=z9hG4bKc\r\nContent-Length: 2\r\n\r\nhi";
        let message = Message::parse(request.as_bytes()).unwrap();
        let mut out = Vec::new();

        stamp(&message, &datagram("192.0.2.7:40000"), &mut out);

        let stamped = String::from_utf8(out).unwrap();
        assert!(stamped.contains("10.0.0.7 ;branch=z9hG4bKa;received=192.0.2.7;rport=40000"), "{stamped}");
        assert!(stamped.contains("SIP/2.0/UDP 10.9.9.9;rport;branch=z9hG4bKb\r\n"), "{stamped}");
        assert!(stamped.contains("X-Odd :  kept, as it is \r\n"), "{stamped}");
        assert!(stamped.contains("Via: SIP/2.0/UDP 10.8.8.8;rport;branch=z9hG4bKc\r\n"), "{stamped}");
        assert!(stamped.ends_with("\r\n\r\nhi"), "{stamped}");
        let vias: Vec<_> =
            Message::parse(stamped.as_bytes()).unwrap().vias().map(|via| via.is_ok()).collect();
        assert_eq!(vias, [true, true, true]);
    }

    #[test]
    fn a_message_without_a_readable_via_stays_as_it_is() {
        for request in ["OPTIONS sip:a@b SIP/2.0\r\n\r\n", "OPTIONS sip:a@b SIP/2.0\r\nVia: ;;,;\r\n\r\n"] {
            let message = Message::parse(request.as_bytes()).unwrap();
            let mut out = Vec::new();

            stamp(&message, &datagram("192.0.2.7:40000"), &mut out);

            assert_eq!(out, request.as_bytes());
        }
    }

    /// RFC 3261 §18.2.2, RFC 3581 §4.
    #[test]
    fn a_response_goes_to_the_port_that_the_via_names() {
        for (via, source, expected) in [
            ("192.0.2.7:5070;branch=z9hG4bKa", "192.0.2.7:40000", "192.0.2.7:5070"),
            ("192.0.2.7;branch=z9hG4bKa", "192.0.2.7:40000", "192.0.2.7:5060"),
            ("192.0.2.7:5070;branch=z9hG4bKa;rport", "192.0.2.7:40000", "192.0.2.7:40000"),
            (
                "192.0.2.7:5070;branch=z9hG4bKa;received=192.0.2.7;rport=40000",
                "192.0.2.7:40000",
                "192.0.2.7:40000",
            ),
            ("phone.example.org:5070;branch=z9hG4bKa", "192.0.2.7:40000", "192.0.2.7:5070"),
            ("10.0.0.7:5070;branch=z9hG4bKa", "192.0.2.7:40000", "192.0.2.7:40000"),
            ("[2001:db8::7]:5070;branch=z9hG4bKa", "[2001:db8::7]:40000", "[2001:db8::7]:5070"),
        ] {
            let text = format!("SIP/2.0/UDP {via}");
            let via = Via::parse(text.as_bytes()).unwrap();

            let Destination::Flow(Flow::Datagram { listener, remote }) =
                response_destination(&via, &datagram(source))
            else {
                panic!("a datagram is answered by a datagram")
            };

            assert_eq!((listener, remote.0), (ListenerId(3), expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_stamp_does_not_change_where_a_response_goes() {
        for via in [
            "10.0.0.7:5070",
            "192.0.2.7:5070",
            "192.0.2.7:5070;rport",
            "a.example;received=1.2.3.4",
            "a;rport=7",
        ] {
            let source = datagram("192.0.2.7:40000");
            let before = format!("SIP/2.0/UDP {via};branch=z9hG4bKa");
            let after = stamped(&format!("{via};branch=z9hG4bKa"), "192.0.2.7:40000");
            let destination =
                |text: &str| response_destination(&Via::parse(text.as_bytes()).unwrap(), &source);

            assert_eq!(destination(&before), destination(&after), "{via}");
        }
    }

    /// A request could else make us send to whom it likes.
    #[test]
    fn no_parameter_leads_a_response_to_another_host() {
        for claim in
            ["maddr=198.51.100.1", "received=198.51.100.1", "received=198.51.100.1;rport=9;maddr=a.example"]
        {
            let text = format!("SIP/2.0/UDP 192.0.2.7:5070;{claim};branch=z9hG4bKa");
            let via = Via::parse(text.as_bytes()).unwrap();

            let destination = response_destination(&via, &datagram("192.0.2.7:40000"));

            assert_eq!(destination.remote().0.ip().to_string(), "192.0.2.7", "{claim}");
        }
    }

    /// RFC 3261 §18.2.2: whatever the Via says, the connection is the way back.
    #[test]
    fn a_response_over_a_stream_takes_the_connection_of_its_request() {
        let id = ConnectionId { node: 0, boot: 1, listener: ListenerId(3), number: 9 };
        let flow = Flow::Connection { id, remote: RemoteAddr("192.0.2.7:40000".parse().unwrap()) };
        let via = Via::parse(b"SIP/2.0/TCP 10.0.0.7:5070;branch=z9hG4bKa").unwrap();

        let destination = response_destination(&via, &Source { flow, transport: Transport::Tcp });

        assert_eq!(destination, Destination::Flow(flow));
    }

    fn stamped(via: &str, source: &str) -> String {
        let request =
            format!("OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP {via}\r\nMax-Forwards: 70\r\n\r\n");
        let message = Message::parse(request.as_bytes()).unwrap();
        let mut out = Vec::new();
        stamp(&message, &datagram(source), &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Via: ")).unwrap();
        line.to_owned()
    }

    fn datagram(remote: &str) -> Source {
        let remote = RemoteAddr(remote.parse().unwrap());
        Source { flow: Flow::Datagram { listener: ListenerId(3), remote }, transport: Transport::Udp }
    }
}
