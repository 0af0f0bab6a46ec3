use proptest::prelude::*;

use super::*;

#[test]
fn a_body_that_is_a_description_is_found_whole() {
    for content_type in ["application/sdp", "Application/SDP ; charset=utf-8", " application / sdp"] {
        assert_eq!(find(content_type, "v=0\r\n"), Ok(Some("v=0\r\n")), "{content_type}");
    }
}

#[test]
fn other_bodies_have_none() {
    for (content_type, body) in [
        ("text/plain", "v=0\r\n"),
        ("application/sdpx", "v=0\r\n"),
        ("application", "v=0\r\n"),
        ("", "v=0\r\n"),
        ("application/sdp", ""),
        ("message/sipfrag", "SIP/2.0 200 OK"),
    ] {
        assert_eq!(find(content_type, body), Ok(None), "{content_type}");
    }
    let untyped = Body { bytes: b"v=0\r\n", ..Body::default() };
    assert_eq!(untyped.find_description(), Ok(None));
}

#[test]
fn a_description_among_other_parts_is_found_without_the_delimiters_line_end() {
    // RFC 5621 §3.2: preamble, two parts, epilogue.
    let body = "preamble\r\n--b\r\nContent-Type: application/pidf+xml\r\nContent-ID: <a@b>\r\n\r\n<xml/>\r\n\
                --b\r\nContent-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\n\
                v=0\r\ns=x\r\n--b--\r\nepilogue --b";

    assert_eq!(find("multipart/mixed;boundary=b", body), Ok(Some("v=0\r\ns=x")));
    assert_eq!(find("multipart/mixed; x=\"a;boundary=c\"; Boundary = \"b\"", body), Ok(Some("v=0\r\ns=x")));
    assert_eq!(find("multipart/mixed;boundary=\"\\b\"", body), Ok(Some("v=0\r\ns=x")));
}

#[test]
fn a_part_within_a_part_is_found() {
    let body = "--out\r\nContent-Type: multipart/alternative;\r\n boundary=in\r\n\r\n--in\r\n\r\ntext\r\n--in\r\n\
                C: application/sdp\r\n\r\nv=0\r\n\r\n--in--\r\n--out \r\nContent-Type: text/plain\r\n\r\nx\r\n--out--";

    assert_eq!(find("multipart/mixed;boundary=out", body), Ok(Some("v=0\r\n")));
}

#[test]
fn a_part_that_is_not_for_the_session_is_left_alone() {
    let part = |disposition: &str| {
        format!(
            "--b\r\nContent-Type: application/sdp\r\nContent-Disposition: {disposition}\r\n\r\nv=0\r\n--b--"
        )
    };

    assert_eq!(find("multipart/mixed;boundary=b", &part("early-session")), Ok(None));
    assert_eq!(find("multipart/mixed;boundary=b", &part("render")), Ok(None));
    assert_eq!(find("multipart/mixed;boundary=b", &part(" Session ; x=y")), Ok(Some("v=0")));
}

#[test]
fn what_can_not_be_got_at_is_told() {
    let encoded = |encoding: &str| {
        format!(
            "--b\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: {encoding}\r\n\r\nv=0\r\n--b--"
        )
    };
    let two = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--";
    let many = format!("{}--b--", "--b\r\n\r\n".repeat(40));

    assert_eq!(find("multipart/mixed;boundary=b", &encoded("base64")), Err(Unreadable::Encoded));
    assert_eq!(find("multipart/mixed;boundary=b", &encoded("Binary")), Ok(Some("v=0")));
    assert_eq!(find("multipart/mixed;boundary=b", two), Err(Unreadable::Ambiguous));
    assert_eq!(find("multipart/mixed;boundary=b", &many), Err(Unreadable::TooManyParts));
    assert_eq!(find("multipart/mixed", two), Err(Unreadable::Parts));
    assert_eq!(find("multipart/mixed;boundary=\"\"", two), Err(Unreadable::Parts));
    assert_eq!(find("multipart/mixed;boundary=c", two), Err(Unreadable::Parts));
    assert_eq!(find("multipart/mixed;boundary=b", &two[..two.len() - 5]), Err(Unreadable::Parts));
    let gzip = Body {
        content_type: Some(b"application/sdp"),
        encoding: Some(b"gzip"),
        bytes: b"\x1f\x8b",
        ..Body::default()
    };
    assert_eq!(gzip.find_description(), Err(Unreadable::Encoded));
}

#[test]
fn parts_deep_within_each_other_are_refused() {
    let wrap = |body: String, level: usize| {
        format!(
            "--b{level}\r\nContent-Type: multipart/mixed;boundary=b{}\r\n\r\n{body}\r\n--b{level}--",
            level + 1
        )
    };
    let deep = (0..8).rev().fold(String::new(), wrap);

    assert_eq!(find("multipart/mixed;boundary=b0", &deep), Err(Unreadable::TooManyParts));
}

#[test]
fn the_other_parts_stay_byte_for_byte() {
    let bytes = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\n\r\n \0x\r\n--b--\r\n";
    let body = body("multipart/mixed;boundary=b", bytes);
    let place = body.find_description().unwrap().unwrap();

    assert_eq!(body.with_description(place.clone(), b"v=0"), bytes.as_bytes());
    assert_eq!(
        body.with_description(place, b"v=0\r\ns=much longer"),
        bytes.replace("v=0", "v=0\r\ns=much longer").as_bytes()
    );
}

proptest! {
    #[test]
    fn any_bytes_are_looked_into(content_type in ".{0,60}", bytes in "(--b|--b--|\r\n|content-type:|application/sdp|multipart/mixed;boundary=b|[ -~]|\n){0,60}") {
        let _ = find(&content_type, &bytes);
        if let Ok(Some(found)) = find("multipart/mixed;boundary=b", &bytes) {
            prop_assert!(!found.is_empty());
            prop_assert!(!found.lines().any(|line| line == "--b"));
        }
    }
}

fn body<'a>(content_type: &'a str, bytes: &'a str) -> Body<'a> {
    Body { content_type: Some(content_type.as_bytes()), bytes: bytes.as_bytes(), ..Body::default() }
}

fn find<'a>(content_type: &str, bytes: &'a str) -> Result<Option<&'a str>, Unreadable> {
    body(content_type, bytes).find_description().map(|place| place.map(|place| &bytes[place]))
}
