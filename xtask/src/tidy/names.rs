//! Names that say nothing are refused for files, modules and types.

use super::Finding;
use super::source::Source;

/// As a word of a name, also in the plural.
const EMPTY_WORDS: &[&str] = &[
    "util",
    "utility",
    "helper",
    "common",
    "misc",
    "manager",
    "handler",
    "processor",
    "data",
    "info",
    "ctx",
    "mgr",
    "hdr",
    "tsx",
];

/// What declares a name that is looked at.
const DECLARATIONS: &[&str] = &["mod", "struct", "enum", "trait", "type", "union"];

/// The empty names in a file, its own included.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, name: &str, word: &str| {
        let what = format!("the name {name} has {word:?} in it, which says nothing");
        findings.push(Finding { path: source.path.clone(), line, what });
    };
    for part in source.path.trim_end_matches(".rs").split('/') {
        if let Some(word) = empty_word(part) {
            find(0, part, word);
        }
    }
    for (index, line) in source.lines.iter().enumerate() {
        for name in declared(&line.code) {
            if let Some(word) = empty_word(name) {
                find(index + 1, name, word);
            }
        }
    }
    findings
}

/// The names that a line of code declares.
fn declared(code: &str) -> Vec<&str> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let words: Vec<&str> = code.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| DECLARATIONS.contains(&pair[0]));
    pairs.map(|pair| pair[1].split(|char| !is_word(char)).next().unwrap_or_default()).collect()
}

fn empty_word(name: &str) -> Option<&'static str> {
    let words = split_words(name);
    EMPTY_WORDS.iter().copied().find(|empty| {
        words.iter().any(|word| word == empty || word.strip_suffix('s') == Some(empty) || word == "utilities")
    })
}

/// `CallData` and `call_data` are `call` and `data`.
fn split_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for char in name.chars() {
        if char == '_' || char == '-' || char.is_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| char.is_alphanumeric()) {
            word.extend(char.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_name_is_found_wherever_it_is_declared() {
        for (path, code) in [
            ("crates/sip/src/utils.rs", ""),
            ("crates/sip/src/call_data.rs", ""),
            ("crates/sip/src/helpers/a.rs", ""),
            ("crates/sip/src/a.rs", "pub struct CallManager<T> {"),
            ("crates/sip/src/a.rs", "pub(crate) enum EventHandler {"),
            ("crates/sip/src/a.rs", "mod misc;"),
            ("crates/sip/src/a.rs", "type Ctx = u8;"),
        ] {
            assert_eq!(found(path, code), 1, "{path} {code}");
        }
    }

    #[test]
    fn other_names_are_not_found() {
        for code in [
            "pub struct Datagram {",
            "enum Method { Info }",
            "fn handle(&mut self) {}",
            "let data = 1;",
            "struct Processed;",
            "// struct Manager",
        ] {
            assert_eq!(found("crates/sip/src/information.rs", code), 0, "{code}");
        }
    }

    fn found(path: &str, code: &str) -> usize {
        check(&Source::new(path, code)).len()
    }
}
