//! What a proxy does with an INVITE: frame it, read what it needs, write it out with its own lines.

use sip::{Editor, Message, Name, SipUri, Via};

/// An INVITE of a phone behind a proxy: 12 header lines and a body of SDP.
pub const INVITE: &[u8] = b"INVITE sip:bob@example.com SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds;rport\r\n\
Max-Forwards: 70\r\n\
Route: <sip:proxy.example.com;lr>\r\n\
From: \"Alice\" <sip:alice@example.com>;tag=1928301774\r\n\
To: Bob <sip:bob@example.com>\r\n\
Call-ID: a84b4c76e66710@pc33.example.com\r\n\
CSeq: 314159 INVITE\r\n\
Contact: <sip:alice@192.0.2.10:5060;transport=udp>\r\n\
User-Agent: Phone/1.2.3\r\n\
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, UPDATE, PRACK\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 236\r\n\
\r\n\
v=0\r\n\
o=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\n\
s=-\r\n\
c=IN IP4 192.0.2.10\r\n\
t=0 0\r\n\
m=audio 49170 RTP/AVP 0 8 9 101\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:9 G722/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=sendrecv\r\n\
a=ptime:20\r\n\r\n";

/// Reads what a proxy reads of every request; the sum keeps the compiler from leaving it out.
pub fn read<'a>(message: &Message<'a>) -> (Via<'a>, usize) {
    let via = message.top_via().unwrap();
    let cseq = message.cseq().unwrap();
    let uri = SipUri::parse(message.request_uri().unwrap()).unwrap();
    let contact = message.addresses(Name::Contact).next().unwrap().unwrap();
    let sum = via.branch().unwrap().len()
        + usize::from(via.port.unwrap())
        + usize::from(via.rport().is_some())
        + message.from_tag().unwrap().len()
        + message.to_tag().map_or(0, <[u8]>::len)
        + message.call_id().unwrap().len()
        + cseq.number as usize
        + message.max_forwards().unwrap().unwrap() as usize
        + uri.user.unwrap().len()
        + contact.uri.len()
        + message.routes().count();
    (via, sum)
}

/// Writes the request as it is forwarded.
pub fn forward(message: &Message<'_>, top_via: &Via<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut editor = Editor::new(message);
    scratch.clear();
    top_via.write_stamped([192, 0, 2, 10].into(), Some(5060), scratch);
    editor
        .request_uri(b"sip:bob@198.51.100.7:5066;transport=udp")
        .replace_first(Name::Via, scratch)
        .prepend(Name::Via, b"SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK1a0123456789abcdef0123456789abcdef")
        .remove_first(Name::Route)
        .prepend(Name::RecordRoute, b"<sip:203.0.113.1:5060;lr;t=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd>")
        .set(Name::MaxForwards, b"69")
        .write(out);
}
