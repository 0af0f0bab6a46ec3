//! Hostile sizes cost no more than their bytes. Work is measured against a message of the same size without the
//! hostile part, with room enough for a busy machine; what is quadratic would take hundreds of times as long.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use sip::{Editor, Message, Name, NameAddr, Params, Uri};

/// A quadratic reader takes more than a second for the smallest of these in a test build.
const ENOUGH: Duration = Duration::from_millis(250);

#[test]
fn ten_thousand_parameters_are_read_in_linear_time() {
    let params: String = (0..10_000).map(|number| format!(";p{number}")).collect();
    let value = format!("<sip:a@b{}>{params}", &params[..50_000]);

    within("name-addr", || {
        let address = NameAddr::parse(value.as_bytes()).unwrap();
        assert_eq!(address.tag(), None);
        let uri = address.uri().unwrap();
        assert!(!uri.as_sip().unwrap().lr());
        assert!(uri.equivalent(&uri));
        assert_eq!(Params::new(params.as_bytes()).iter().count(), 10_000);
    });
    within("different URIs", || {
        let other = format!("sip:A@b{params}");
        let this = format!("sip:a@b{params}");
        assert!(!Uri::parse(this.as_bytes()).unwrap().equivalent(&Uri::parse(other.as_bytes()).unwrap()));
    });
}

#[test]
fn thousands_of_vias_are_read_and_edited_in_linear_time() {
    let vias = ["SIP/2.0/UDP a"; 4_000].join(",");
    let bytes = message(&format!("Via: {vias}\r\n"));

    within("one line", || {
        let message = Message::parse(&bytes).unwrap();
        message.validate().unwrap();
        assert_eq!(message.vias().filter(|via| via.is_ok()).count(), 4_000);
        let mut out = Vec::new();
        let mut editor = Editor::new(&message);
        editor.prepend(Name::Via, b"p").replace_first(Name::Via, b"q").remove_last(Name::Via).write(&mut out);
        assert_eq!(Message::parse(&out).unwrap().values(Name::Via).count(), 4_000);
    });
}

#[test]
fn as_many_lines_as_are_allowed_are_edited_in_linear_time() {
    let bytes = message(&"v: SIP/2.0/UDP a\r\n".repeat(500));

    within("many lines", || {
        let message = Message::parse(&bytes).unwrap();
        message.validate().unwrap();
        let mut editor = Editor::new(&message);
        for index in 0..message.headers().len() {
            editor.remove_line(index);
        }
        let mut out = Vec::new();
        editor.write(&mut out);
        assert_eq!(Message::parse(&out).unwrap().headers().len(), 0);
    });
}

#[test]
fn open_quotes_brackets_and_folds_are_read_in_linear_time() {
    for filling in ["\"", "<", "\\", "\"\\", ";", "=", ",", "\r\n ", "<>", "\"\",", "%", "a;\"", "(", "*"] {
        let filling = filling.repeat(60_000 / filling.len());
        for name in ["Via", "Contact", "Route", "To", "Authorization", "X-Other"] {
            let bytes = message(&format!("{name}: a{filling}\r\n"));
            within(&filling[..3.min(filling.len())], || {
                let Ok(message) = Message::parse(&bytes) else { return };
                let _ = message.validate();
                let _ = message.contacts().is_ok();
                let _ = (message.vias().count(), message.routes().count(), message.to_tag());
                let _ =
                    message.header(Name::Authorization).map(|value| sip::Credentials::parse(value).is_ok());
                let mut out = Vec::new();
                let mut editor = Editor::new(&message);
                editor.remove_first(Name::Via).replace_first(Name::Contact, b"x").remove_last(Name::Route);
                editor.write(&mut out);
            });
        }
    }
}

fn message(lines: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:a SIP/2.0\r\n{lines}From: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    .into_bytes()
}

/// The best of three, so that a busy machine is no failure.
fn within(what: &str, work: impl Fn()) {
    let took = (0..3)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(took < ENOUGH, "{what:?} took {took:?}");
}
