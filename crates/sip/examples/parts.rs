#![allow(missing_docs, clippy::unwrap_used)]
#[path = "../tests/support/proxy_work.rs"]
mod proxy_work;
use proxy_work::INVITE;
use std::hint::black_box;
use std::time::Instant;
use sip::*;
fn m<T>(what: &str, mut f: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..3000 { let s = Instant::now(); for _ in 0..200 { black_box(f()); } best = best.min(s.elapsed().as_nanos() as f64 / 200.0); }
    println!("{what:30} {best:6.1}");
}
fn main() {
    let msg = Message::parse(INVITE).unwrap();
    let mut out = Vec::with_capacity(4096); let mut scratch = Vec::with_capacity(400);
    m("parse", || Message::parse(black_box(INVITE)));
    m("clone", || black_box(&msg).clone());
    m("start line alone", || Message::parse(black_box(b"INVITE sip:bob@example.com SIP/2.0\r\n\r\n")));
    for n in [&b"Via"[..], b"Max-Forwards", b"Route", b"From", b"To", b"Call-ID", b"CSeq", b"Contact", b"User-Agent", b"Allow", b"Content-Type", b"Content-Length"] { m(std::str::from_utf8(n).unwrap(), || Name::from_bytes(black_box(n))); }
    let m0 = &msg;
    m("values(Via).next", || black_box(m0).values(Name::Via).next());
    let v = m0.values(Name::Via).next().unwrap();
    m("Via::parse", || Via::parse(black_box(v)));
    let via = Via::parse(v).unwrap();
    m("stamp", || { scratch.clear(); black_box(&via).write_stamped([192,0,2,10].into(), Some(5060), &mut scratch); });
    m("from_tag", || black_box(m0).from_tag());
    m("to_tag", || black_box(m0).to_tag());
    m("call_id", || black_box(m0).call_id());
    m("cseq", || black_box(m0).cseq());
    m("mf", || black_box(m0).max_forwards());
    m("contact", || black_box(m0).addresses(Name::Contact).next());
    m("routes", || black_box(m0).routes().count());
    m("ruri", || SipUri::parse(black_box(m0.request_uri().unwrap())));
    m("contact uri", || SipUri::parse(black_box(b"sip:alice@192.0.2.10:5060;transport=udp")));
    m("Host v4", || Host::parse(black_box(b"192.0.2.10")));
    m("Host name", || Host::parse(black_box(b"example.com")));
    m("Editor::new+write none", || { out.clear(); Editor::new(black_box(m0)).write(&mut out) });
    m("Editor ruri", || { out.clear(); Editor::new(black_box(m0)).request_uri(b"sip:bob@198.51.100.7:5066;transport=udp").write(&mut out) });
    m("Editor replace_first via", || { out.clear(); Editor::new(black_box(m0)).replace_first(Name::Via, &scratch).write(&mut out) });
    m("Editor prepend via", || { out.clear(); Editor::new(black_box(m0)).prepend(Name::Via, &scratch).write(&mut out) });
    m("Editor remove_first route", || { out.clear(); Editor::new(black_box(m0)).remove_first(Name::Route).write(&mut out) });
    m("Editor set", || { out.clear(); Editor::new(black_box(m0)).set(Name::MaxForwards, b"69").write(&mut out) });
    m("forward", || { out.clear(); proxy_work::forward(black_box(m0), &via, &mut scratch, &mut out) });
    m("read", || proxy_work::read(black_box(m0)));
    m("parse+forward", || { let k = Message::parse(black_box(INVITE)).unwrap(); out.clear(); proxy_work::forward(black_box(&k), &via, &mut scratch, &mut out) });
    m("read+forward", || { out.clear(); black_box(proxy_work::read(black_box(m0))); proxy_work::forward(black_box(m0), &via, &mut scratch, &mut out) });
    m("read+forward own via", || { out.clear(); let (v, s) = proxy_work::read(black_box(m0)); black_box(s); proxy_work::forward(black_box(m0), &v, &mut scratch, &mut out) });
    m("all", || { let k = Message::parse(black_box(INVITE)).unwrap(); out.clear(); let (v, s) = proxy_work::read(black_box(&k)); black_box(s); proxy_work::forward(black_box(&k), &v, &mut scratch, &mut out) });
    m("stamp+editor", || { let mut e = Editor::new(black_box(m0)); out.clear(); scratch.clear(); black_box(&via).write_stamped([192,0,2,10].into(), Some(5060), &mut scratch); e.replace_first(Name::Via, &scratch).write(&mut out); });
    m("forward", || { out.clear(); proxy_work::forward(black_box(m0), &via, &mut scratch, &mut out) });
}
