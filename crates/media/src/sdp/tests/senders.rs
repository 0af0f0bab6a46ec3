//! What known senders send, with the whole of what a relay makes of it.

use super::*;

#[test]
fn a_phone_with_avpf_and_rtcp_on_a_port_of_its_own() {
    // Baresip.
    let text = "v=0\r\no=- 3892 1 IN IP4 192.168.1.23\r\ns=-\r\nc=IN IP4 192.168.1.23\r\nt=0 0\r\na=tool:baresip 1.0.0\r\n\
        m=audio 16742 RTP/AVP 96 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=1;sprop-stereo=1\r\n\
        a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
        a=rtcp:16743\r\na=sendrecv\r\na=label:1\r\na=ptime:20\r\n";

    same_but_for(
        text,
        &[
            ("c=IN IP4 192.168.1.23", "c=IN IP4 198.51.100.1"),
            ("m=audio 16742", "m=audio 30000"),
            ("a=rtcp:16743", "a=rtcp:30001"),
        ],
    );
    let read = Description::read(text.as_bytes()).unwrap();
    assert_eq!(read.media()[0].clock_rates(), [(96, 48_000), (8, 8_000), (0, 8_000), (101, 8_000)]);
}

#[test]
fn a_phone_with_ice_and_video() {
    // Linphone.
    let text = "v=0\r\no=alice 2745 2611 IN IP4 192.168.1.40\r\ns=Talk\r\nc=IN IP4 192.168.1.40\r\nt=0 0\r\n\
        a=ice-pwd:3cbc1aa06e4ba1ea9fb2a0a8\r\na=ice-ufrag:e2f91a3d\r\na=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics\r\n\
        a=record:off\r\nm=audio 7078 RTP/AVPF 96 97 98 0 8\r\na=rtpmap:96 opus/48000/2\r\n\
        a=candidate:1 1 UDP 2130706303 192.168.1.40 7078 typ host\r\na=candidate:1 2 UDP 2130706302 192.168.1.40 7079 typ host\r\n\
        a=rtcp-fb:* trr-int 5000\r\nm=video 9078 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\n\
        a=candidate:1 1 UDP 2130706303 192.168.1.40 9078 typ host\r\na=rtcp-fb:* ccm fir\r\n";

    same_but_for(
        text,
        &[
            ("c=IN IP4 192.168.1.40", "c=IN IP4 198.51.100.1"),
            ("a=ice-pwd:3cbc1aa06e4ba1ea9fb2a0a8\r\na=ice-ufrag:e2f91a3d\r\n", ""),
            ("m=audio 7078", "m=audio 30000"),
            (
                "a=candidate:1 1 UDP 2130706303 192.168.1.40 7078 typ host\r\na=candidate:1 2 UDP 2130706302 192.168.1.40 7079 typ host\r\n",
                "",
            ),
            ("m=video 9078", "m=video 30010"),
            ("a=candidate:1 1 UDP 2130706303 192.168.1.40 9078 typ host\r\n", ""),
        ],
    );
}

#[test]
fn a_pbx_that_rejects_video() {
    // Asterisk.
    let text = "v=0\r\no=- 1497 1499 IN IP4 203.0.113.5\r\ns=Asterisk\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
        m=audio 11858 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
        a=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\nm=video 0 RTP/AVP 99\r\n";

    same_but_for(
        text,
        &[("c=IN IP4 203.0.113.5", "c=IN IP4 198.51.100.1"), ("m=audio 11858", "m=audio 30000")],
    );
}

#[test]
fn a_pbx_with_rtcp_at_an_address_and_session_level_hold() {
    // FreeSWITCH.
    let text = "v=0\r\no=FreeSWITCH 1700000000 1700000001 IN IP4 203.0.113.8\r\ns=FreeSWITCH\r\nc=IN IP4 203.0.113.8\r\nt=0 0\r\n\
        a=sendonly\r\nm=audio 24680 RTP/AVP 9 0 8 101 13\r\na=rtpmap:9 G722/8000\r\na=rtpmap:13 CN/8000\r\n\
        a=rtcp:24681 IN IP4 203.0.113.8\r\na=ptime:20\r\n";

    same_but_for(
        text,
        &[
            ("c=IN IP4 203.0.113.8", "c=IN IP4 198.51.100.1"),
            ("m=audio 24680", "m=audio 30000"),
            ("a=rtcp:24681 IN IP4 203.0.113.8", "a=rtcp:30001 IN IP4 198.51.100.1"),
        ],
    );
    let read = Description::read(text.as_bytes()).unwrap();
    assert_eq!(read.media()[0].direction(), Direction::SendOnly);
}

#[test]
fn a_browser_with_candidates() {
    let text = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
        m=audio 51472 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 203.0.113.77\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
        a=candidate:842163049 1 udp 1677729535 203.0.113.77 51472 typ srflx raddr 0.0.0.0 rport 0 generation 0\r\n\
        a=ice-ufrag:Yx3k\r\na=ice-pwd:aBcDeFgHiJkLmNoPqRsTuVwX\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 D2:FA:0E\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
        m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=bundle-only\r\na=mid:1\r\n";

    same_but_for(
        text,
        &[
            ("a=group:BUNDLE 0 1\r\n", ""),
            ("m=audio 51472", "m=audio 30000"),
            ("c=IN IP4 203.0.113.77", "c=IN IP4 198.51.100.1"),
            ("a=rtcp:9 IN", "a=rtcp:30001 IN"),
            (
                "a=candidate:842163049 1 udp 1677729535 203.0.113.77 51472 typ srflx raddr 0.0.0.0 rport 0 generation 0\r\n\
             a=ice-ufrag:Yx3k\r\na=ice-pwd:aBcDeFgHiJkLmNoPqRsTuVwX\r\na=ice-options:trickle\r\n",
                "",
            ),
        ],
    );
}

#[test]
fn a_browser_that_trickles_can_not_be_relayed() {
    let text = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
        a=ice-ufrag:Yx3k\r\na=ice-pwd:aBcDeFgHiJkLmNoPqRsTuVwX\r\na=ice-options:trickle\r\na=rtcp-mux\r\n";

    assert_eq!(Description::read(text.as_bytes()).err(), Some(Malformed::NeedsIce));
}

#[test]
fn a_fax_gateway() {
    let text = "v=0\r\no=CiscoSystemsSIP-GW-UserAgent 1787 3464 IN IP4 203.0.113.20\r\ns=SIP Call\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\n\
        m=image 18224 udptl t38\r\nc=IN IP4 203.0.113.21\r\na=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n\
        a=T38FaxRateManagement:transferredTCF\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n";

    same_but_for(
        text,
        &[
            ("c=IN IP4 203.0.113.20", "c=IN IP4 198.51.100.1"),
            ("m=image 18224", "m=image 30000"),
            ("c=IN IP4 203.0.113.21", "c=IN IP4 198.51.100.1"),
        ],
    );
    let read = Description::read(text.as_bytes()).unwrap();
    assert_eq!(read.media()[0].carriage(), Carriage::Datagrams);
    assert_eq!(read.media()[0].rtcp_address(), None);
}

#[test]
fn a_phone_with_keys_in_the_description() {
    // Two crypto lines, as Snom, Grandstream and Yealink send them.
    let text = "v=0\r\no=root 6 6 IN IP4 10.9.8.7\r\ns=call\r\nc=IN IP4 10.9.8.7\r\nt=0 0\r\n\
        m=audio 62034 RTP/SAVP 9 0 8 101\r\n\
        a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20|1:4\r\n\
        a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n\
        a=rtpmap:9 G722/8000\r\na=ptime:20\r\na=sendrecv\r\n";

    same_but_for(text, &[("c=IN IP4 10.9.8.7", "c=IN IP4 198.51.100.1"), ("m=audio 62034", "m=audio 30000")]);
    assert_eq!(Description::read(text.as_bytes()).unwrap().media()[0].carriage(), Carriage::SecureRtp);
}

/// The relay changes these pieces, each of which is there once, and not one byte else.
#[track_caller]
fn same_but_for(text: &str, changes: &[(&str, &str)]) {
    let mut wanted = text.to_owned();
    for (from, to) in changes {
        assert_eq!(wanted.matches(from).count(), 1, "{from}");
        wanted = wanted.replace(from, to);
    }
    assert_eq!(relayed(text, V4), wanted);
}
