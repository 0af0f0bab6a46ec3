//! Standards are cited in one form, `RFC 3261 §16.7`, from which `docs/rfc.md` is built.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::source::Source;

/// The crate that holds no rule of a protocol.
const WIRING: &str = "engine";

/// Titles, for the index.
const TITLES: &[(u32, &str)] = &[
    (2045, "MIME: Format of Message Bodies"),
    (2046, "MIME: Media Types"),
    (2617, "HTTP Digest Authentication"),
    (3261, "SIP: Session Initiation Protocol"),
    (3262, "Reliability of Provisional Responses (PRACK)"),
    (3263, "Locating SIP Servers"),
    (3264, "Offer/Answer Model with SDP"),
    (3311, "UPDATE Method"),
    (3323, "Privacy Mechanism"),
    (3325, "Asserted Identity within Trusted Networks"),
    (3326, "Reason Header Field"),
    (3327, "Path"),
    (3515, "REFER Method"),
    (3550, "RTP"),
    (3551, "RTP Audio and Video Profile"),
    (3581, "Symmetric Response Routing (rport)"),
    (3605, "RTCP Attribute in SDP"),
    (3665, "Basic Call Flow Examples"),
    (3891, "Replaces Header"),
    (3959, "Early Session Disposition"),
    (3966, "The tel URI"),
    (3986, "URI: Generic Syntax"),
    (4028, "Session Timers"),
    (4145, "Connection-Oriented Media in SDP"),
    (4320, "Non-INVITE Transaction Issues"),
    (4475, "SIP Torture Test Messages"),
    (4570, "SDP Source Filters"),
    (4787, "NAT Behavioral Requirements for UDP"),
    (4961, "Symmetric RTP and RTCP"),
    (5118, "SIP Torture Test Messages for IPv6"),
    (5389, "STUN"),
    (5393, "Amplification in Forking Proxies"),
    (5621, "Message Body Handling in SIP"),
    (5626, "Client-Initiated Connections (Outbound)"),
    (5658, "Record-Route Issues"),
    (5761, "RTP and RTCP on One Port"),
    (5764, "DTLS-SRTP"),
    (5769, "Test Vectors for STUN"),
    (5954, "IPv6 ABNF and URI Comparison"),
    (6026, "Correct Transaction Handling for 2xx Responses"),
    (6157, "IPv6 Transition in SIP"),
    (6223, "Keep-Alive"),
    (6337, "Use of Offer/Answer in SIP"),
    (6665, "Event Notification"),
    (6947, "SDP Alternate Connectivity"),
    (7345, "UDPTL over DTLS"),
    (7362, "Latching: Hosted NAT Traversal for Media"),
    (7616, "HTTP Digest Access Authentication"),
    (7983, "Multiplexing STUN, DTLS and RTP"),
    (8489, "STUN"),
    (8760, "SIP Digest with SHA-256 and SHA-512/256"),
    (8839, "SDP for ICE"),
    (8840, "Trickle ICE in SIP"),
    (8841, "SCTP over DTLS in SDP"),
    (8856, "BFCP in SDP"),
    (8866, "SDP: Session Description Protocol"),
    (9143, "BUNDLE"),
];

/// One well-formed reference to a section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    rfc: u32,
    section: String,
}

/// References that are not in the one form, and any in `engine`.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for comment in source.comments() {
        // A line's end is as good as a space, and as long.
        let text = comment.text.replace('\n', " ");
        let mut find = |at: usize, what: String| {
            findings.push(Finding { path: source.path.clone(), line: comment.line(at), what });
        };
        for at in wrong_forms(&text) {
            let wrong: String = text[at..].chars().take(24).collect();
            find(at, format!("{wrong:?}: the one form is `RFC 3261 §16.7`"));
        }
        if let Some(at) = citation(&text).filter(|_| source.crate_name() == WIRING) {
            find(at, format!("{WIRING} holds no rule of a protocol, so it cites no RFC"));
        }
    }
    findings
}

/// The page that says which section is where in the code.
pub fn index(sources: &[Source]) -> String {
    let mut places: BTreeMap<u32, BTreeMap<SectionKey, BTreeSet<&str>>> = BTreeMap::new();
    for source in sources {
        for comment in source.comments() {
            let text = comment.text.replace('\n', " ");
            for Reference { rfc, section } in references(&text) {
                let sections = places.entry(rfc).or_default();
                sections.entry(SectionKey::new(&section)).or_default().insert(&source.path);
            }
        }
    }
    let mut page = String::from(
        "# Where the standards are in the code\n\n\
         Built by `cargo xtask tidy --write` from the comments that cite a section.\n",
    );
    for (rfc, sections) in places {
        let title = TITLES.iter().find(|(number, _)| *number == rfc);
        let title = title.map(|(_, title)| format!(": {title}")).unwrap_or_default();
        page.push_str(&format!("\n## RFC {rfc}{title}\n\n| section | files |\n|---|---|\n"));
        for (key, files) in sections {
            let links: Vec<_> = files.iter().map(|file| format!("[{file}](../{file})")).collect();
            page.push_str(&format!("| §{} | {} |\n", key.text, links.join(", ")));
        }
    }
    page
}

/// Sorts section 9 before section 10.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SectionKey {
    numbers: Vec<u32>,
    text: String,
}

impl SectionKey {
    fn new(section: &str) -> SectionKey {
        // An appendix comes after all numbers.
        let numbers = section.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect();
        SectionKey { numbers, text: section.to_owned() }
    }
}

/// The well-formed references of a text.
fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('§') {
        if let Some(rfc) = rfc_before(&text[..at]) {
            let section = section_after(&text[at + '§'.len_utf8()..]);
            if !section.is_empty() {
                found.push(Reference { rfc, section: section.to_owned() });
            }
        }
    }
    found
}

/// The number when the text ends in `RFC 3261 `.
fn rfc_before(text: &str) -> Option<u32> {
    let text = text.strip_suffix(' ')?;
    let digits = text.len() - text.trim_end_matches(|char: char| char.is_ascii_digit()).len();
    let (before, number) = text.split_at(text.len() - digits);
    let before = before.strip_suffix("RFC ")?;
    let is_word_before = before.ends_with(|char: char| char.is_alphanumeric());
    if is_word_before { None } else { number.parse().ok() }
}

/// `16.7.1`, without the full stop of a sentence.
fn section_after(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '.');
    text[..end.unwrap_or(text.len())].trim_end_matches('.')
}

/// Where a text first names an RFC.
fn citation(text: &str) -> Option<usize> {
    let is_named = |at: &usize| {
        let after = text[at + 3..].trim_start_matches([' ', '-']);
        after.starts_with(|char: char| char.is_ascii_digit())
    };
    text.match_indices("RFC").map(|(at, _)| at).find(is_named)
}

/// The places where a standard is cited in another way.
fn wrong_forms(text: &str) -> Vec<usize> {
    let mut wrong = Vec::new();
    for (at, _) in text.match_indices('§') {
        let section = section_after(&text[at + '§'.len_utf8()..]);
        if rfc_before(&text[..at]).is_none() || section.is_empty() {
            wrong.push(at);
        }
    }
    for (at, _) in text.to_ascii_lowercase().match_indices("rfc") {
        if !is_number_of_rfc(text, at) {
            continue;
        }
        let written = &text[at..];
        let is_spaced =
            written.starts_with("RFC ") && written[4..].starts_with(|char: char| char.is_ascii_digit());
        let rest = written.trim_start_matches(|char: char| char.is_ascii_alphabetic() || char == ' ');
        let rest = rest.trim_start_matches(|char: char| char.is_ascii_digit());
        let rest = rest.trim_start_matches([',', ' ', '(', ':', '-']).to_ascii_lowercase();
        let says_section = ["section", "sect.", "sec.", "chapter", "appendix", "paragraph"]
            .iter()
            .any(|word| rest.starts_with(word));
        let before = text[..at].to_ascii_lowercase();
        let comes_after_section = before.trim_end().ends_with(" of")
            && before.split_whitespace().rev().take(4).any(|word| word.starts_with("section"));
        if !is_spaced || says_section || comes_after_section {
            wrong.push(at);
        }
    }
    wrong
}

/// Whether what begins here is a word like `RFC 3261`, and not part of a link or another word.
fn is_number_of_rfc(text: &str, at: usize) -> bool {
    let is_inside_word =
        text[..at].ends_with(|char: char| char.is_alphanumeric() || matches!(char, '/' | '_'));
    let after = text[at + 3..].trim_start_matches([' ', '-', '_']);
    let digits = after.chars().take_while(char::is_ascii_digit).count();
    !is_inside_word && (3..=5).contains(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_form_is_accepted() {
        for comment in [
            "RFC 3261 §16.7: reason in our words",
            "(RFC 3261 §8.2.7).",
            "as in RFC 3261 and RFC 6026",
            "RFC 3261 §16.6 item 8, RFC 5393 §4.",
            "RFC 3261\n// §16.7: broken over two lines",
            "the section of RFCs that we like",
        ] {
            assert_eq!(found("routing", comment), 0, "{comment}");
        }
    }

    #[test]
    fn another_form_is_found() {
        for comment in [
            "RFC3261 §16.7",
            "rfc 3261 says",
            "RFC-3261",
            "RFC 3261 section 16.7",
            "RFC 3261, Section 16.7",
            "§16.7 says",
            "RFC 3261 § 16.7",
            "section 16.7 of RFC 3261",
            "see RFC 3261 §16.7 and §16.8",
        ] {
            assert_ne!(found("routing", comment), 0, "{comment}");
        }
    }

    #[test]
    fn engine_cites_no_rfc() {
        assert_eq!(found("engine", "RFC 3261 §16.7: so"), 1);
        assert_eq!(found("engine", "as RFC 6026 says"), 1);
        assert_eq!(found("engine", "asks routing"), 0);
    }

    #[test]
    fn the_index_is_sorted_by_number_and_names_each_file_once() {
        let sources = [
            Source::new("crates/b/src/lib.rs", "// RFC 3261 §10.3: x\nf();\n// RFC 3261 §9: y"),
            Source::new("crates/a/src/lib.rs", "// RFC 3261 §9.\n// RFC 3261 §9, RFC 2617 §3"),
        ];

        let page = index(&sources);

        let lines: Vec<_> = page.lines().filter(|line| line.starts_with(['#', '|'])).collect();
        assert_eq!(
            lines[1..],
            [
                "## RFC 2617: HTTP Digest Authentication",
                "| section | files |",
                "|---|---|",
                "| §3 | [crates/a/src/lib.rs](../crates/a/src/lib.rs) |",
                "## RFC 3261: SIP: Session Initiation Protocol",
                "| section | files |",
                "|---|---|",
                "| §9 | [crates/a/src/lib.rs](../crates/a/src/lib.rs), [crates/b/src/lib.rs](../crates/b/src/lib.rs) |",
                "| §10.3 | [crates/b/src/lib.rs](../crates/b/src/lib.rs) |",
            ]
        );
    }

    fn found(name: &str, comment: &str) -> usize {
        check(&Source::new(format!("crates/{name}/src/lib.rs"), &format!("// {comment}"))).len()
    }
}
