//! Descriptions in the shape of what phones and servers send.

mod properties;
mod senders;

use std::net::IpAddr;

use super::*;

#[test]
fn what_is_no_description_is_refused_with_its_line() {
    for (text, wanted) in [
        ("", Malformed::NoVersion),
        ("o=x\r\nv=0\r\n", Malformed::NoVersion),
        ("v=1\r\n", Malformed::NoVersion),
        ("v=0\r\nnonsense\r\n", Malformed::Line(2)),
        ("v=0\r\n m=audio 1 RTP/AVP 0\r\n", Malformed::Line(2)),
        ("v=0\r\na=x\rm=audio 1 RTP/AVP 0\r\n", Malformed::Line(2)),
        ("v=0\r\na=x\0\r\n", Malformed::Line(2)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio\r\n", Malformed::Media(3)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 70000 RTP/AVP 0\r\n", Malformed::Media(3)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio +5 RTP/AVP 0\r\n", Malformed::Media(3)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000/0 RTP/AVP 0\r\n", Malformed::Media(3)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000/999 RTP/AVP 0\r\n", Malformed::Media(3)),
        ("v=0\r\nc=IN IP4\r\n", Malformed::Connection(2)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.2\r\n", Malformed::Connection(3)),
        ("v=0\r\nc=IN IP4 233.252.0.1/127\r\n", Malformed::Multicast(2)),
        ("v=0\r\nm=audio 5000 RTP/AVP 0\r\n", Malformed::NoConnection(2)),
        ("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\na=rtcp:x\r\n", Malformed::Rtcp(4)),
        (
            "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\na=rtcp:1\r\na=rtcp:2\r\n",
            Malformed::Rtcp(5),
        ),
    ] {
        assert_eq!(Description::read(text.as_bytes()).err(), Some(wanted), "{text:?}");
    }
}

#[test]
fn each_limit_is_kept() {
    let lines = format!("v=0\r\n{}", "a=x\r\n".repeat(LINES_MAX));
    let media = format!("v=0\r\nc=IN IP4 192.0.2.1\r\n{}", "m=audio 2 RTP/AVP 0\r\n".repeat(MEDIA_MAX + 1));
    let bytes = format!("v=0\r\ns={}\r\n", "x".repeat(BYTES_MAX));

    assert_eq!(Description::read(lines.as_bytes()).err(), Some(Malformed::TooManyLines));
    assert_eq!(Description::read(media.as_bytes()).err(), Some(Malformed::TooManyMedia));
    assert_eq!(Description::read(bytes.as_bytes()).err(), Some(Malformed::TooLarge));
}

#[test]
fn what_misleads_nobody_is_read() {
    for text in [
        "v=0\nc=IN IP4 192.0.2.1\nm=audio 5000 RTP/AVP 0\n",
        "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0",
        "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\n\r\n",
        "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\n\0",
        "v=0\r\nc=IN IP4 192.0.2.1 \r\nm=audio  5000 RTP/AVP\r\n",
        "v=0\r\nX=unknown\r\nm=audio 5000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n",
    ] {
        let description = Description::read(text.as_bytes()).unwrap();
        assert_eq!(
            description.media()[0].media_address(),
            Some("192.0.2.1:5000".parse().unwrap()),
            "{text:?}"
        );
    }
}

#[test]
fn rtcp_goes_where_it_is_wanted() {
    let with = |attribute: &str| {
        let text = format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 5000 RTP/AVP 0\r\n{attribute}");
        Description::read(text.as_bytes()).unwrap().media()[0].rtcp_address()
    };

    assert_eq!(with(""), Some("192.0.2.1:5001".parse().unwrap()));
    assert_eq!(with("a=rtcp:6000\r\n"), Some("192.0.2.1:6000".parse().unwrap()));
    assert_eq!(with("a=rtcp:6000 IN IP4 192.0.2.9\r\n"), Some("192.0.2.9:6000".parse().unwrap()));
    assert_eq!(with("a=rtcp:6000 IN IP4 0.0.0.0\r\n"), None);
    assert_eq!(with("a=rtcp:0\r\n"), None);
}

#[test]
fn a_direction_of_the_session_counts_for_media_without_one() {
    let text = "v=0\r\nc=IN IP4 192.0.2.1\r\na=sendonly\r\nm=audio 2 RTP/AVP 0\r\nm=video 4 RTP/AVP 9\r\na=inactive\r\n";
    let description = Description::read(text.as_bytes()).unwrap();
    let directions: Vec<_> = description.media().iter().map(Media::direction).collect();

    assert_eq!(directions, [Direction::SendOnly, Direction::Inactive]);
}

#[test]
fn hold_by_address_stays_hold() {
    let old = "v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\nc=IN IP4 0.0.0.0\r\nm=audio 5000 RTP/AVP 0\r\n";

    assert_eq!(relayed(old, V4), old.replace("5000", "30000"));
    assert_eq!(
        relayed(old, V6),
        "v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\nc=IN IP6 hold.invalid\r\nm=audio 30000 RTP/AVP 0\r\n"
    );
    let six = "v=0\r\nc=IN IP6 x.invalid\r\nm=audio 5000 RTP/AVP 0\r\n";
    assert_eq!(relayed(six, V6), six.replace("5000", "30000"));
    assert_eq!(relayed(six, V4), "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 30000 RTP/AVP 0\r\n");
}

#[test]
fn the_other_family_is_written_whole() {
    let text = "v=0\r\nc=IN IP6 2001:db8::7\r\nm=audio 5000 RTP/AVP 0\r\na=rtcp:5001 IN IP6 2001:db8::7\r\n";

    assert_eq!(
        relayed(text, V4),
        "v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 30000 RTP/AVP 0\r\na=rtcp:30001 IN IP4 198.51.100.1\r\n"
    );
}

#[test]
fn the_origin_is_replaced_only_where_wanted() {
    let text = "v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\nc=IN IP4 10.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\n";
    let description = Description::read(text.as_bytes()).unwrap();
    let ports = [LinePorts::Relayed { rtp: 30_000, rtcp: 30_001 }];
    let rewrite = Rewrite { address: ip(V6), ports: &ports, origin: Origin::Replaced };

    assert_eq!(
        String::from_utf8(description.rewrite(&rewrite)).unwrap(),
        "v=0\r\no=- 1 2 IN IP6 2001:db8::1\r\nc=IN IP6 2001:db8::1\r\nm=audio 30000 RTP/AVP 0\r\n"
    );
    assert!(relayed(text, V6).contains("o=- 1 2 IN IP4 10.0.0.1\r\n"));
}

#[test]
fn a_line_that_is_not_relayed_leads_where_it_led() {
    let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\n\
                m=message 2855 TCP/MSRP *\r\ni=chat\r\na=path:msrp://10.0.0.1:2855/x;tcp\r\nm=video 0 RTP/AVP 99\r\n";

    assert_eq!(
        relayed(text, V4),
        "v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 30000 RTP/AVP 0\r\n\
         m=message 2855 TCP/MSRP *\r\ni=chat\r\nc=IN IP4 10.0.0.1\r\na=path:msrp://10.0.0.1:2855/x;tcp\r\n\
         m=video 0 RTP/AVP 99\r\n"
    );
    let last = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\nm=message 2855 TCP/MSRP *";
    assert!(relayed(last, V4).ends_with("m=message 2855 TCP/MSRP *\r\nc=IN IP4 10.0.0.1"));
}

#[test]
fn nothing_changes_where_nothing_is_relayed() {
    for text in [
        "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 0 RTP/AVP 0\r\na=candidate:1 1 UDP 1 10.0.0.1 5000 typ host\r\n",
        "v=0\r\nc=IN IP4 10.0.0.1\r\nm=message 2855 TCP/MSRP *\r\n",
        "v=0\r\nc=IN IP4 10.0.0.1\r\ns=-\r\n",
    ] {
        assert_eq!(relayed(text, V6), text);
    }
}

#[test]
fn removed_lines_at_an_end_without_a_line_end_leave_none() {
    let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\na=ice-lite\r\na=ice-pwd:x";

    assert_eq!(relayed(text, V4), "v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 30000 RTP/AVP 0");
}

#[test]
fn several_ports_of_one_line_stay_several() {
    let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=video 5000/2 RTP/AVP 99\r\n";

    assert_eq!(Description::read(text.as_bytes()).unwrap().media()[0].ports(), 2);
    assert_eq!(relayed(text, V4), "v=0\r\nc=IN IP4 198.51.100.1\r\nm=video 30000/2 RTP/AVP 99\r\n");
}

#[test]
fn rtcp_on_the_port_of_rtp_stays_there() {
    let text = "v=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 5000 RTP/AVP 0\r\na=rtcp:5000\r\na=rtcp-mux\r\n";

    assert_eq!(
        relayed(text, V4),
        "v=0\r\nc=IN IP4 198.51.100.1\r\nm=audio 30000 RTP/AVP 0\r\na=rtcp:30000\r\na=rtcp-mux\r\n"
    );
}

const V4: &str = "198.51.100.1";
const V6: &str = "2001:db8::1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The description with the ports 30000, 30010 … in it.
fn relayed(text: &str, address: &str) -> String {
    let description = Description::read(text.as_bytes()).unwrap();
    let ports: Vec<_> = (0..description.media().len() as u16)
        .map(|index| LinePorts::Relayed { rtp: 30_000 + index * 10, rtcp: 30_001 + index * 10 })
        .collect();
    let rewrite = Rewrite { address: ip(address), ports: &ports, origin: Origin::Kept };
    String::from_utf8(description.rewrite(&rewrite)).unwrap()
}
