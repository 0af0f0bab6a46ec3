//! Floors 0 to 3 take time and input as arguments: no clock, socket, file, environment, thread,
//! randomness, task or lock.

use super::Finding;
use super::floors::{PURE_FLOOR_MAX, floor};
use super::source::Source;

/// Paths that pure code does not use, also not what is below them.
const FORBIDDEN_PATHS: &[&str] = &[
    "getrandom",
    "libc",
    "parking_lot",
    "rand",
    "rustix",
    "socket2",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::sync::Barrier",
    "std::sync::Condvar",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "tokio",
];

/// Words that pure code does not have.
const FORBIDDEN_WORDS: &[&str] =
    &["async", "await", "thread_local", "println", "eprintln", "print", "eprint", "dbg"];

/// What a file of a pure crate must not have.
pub fn check(source: &Source) -> Vec<Finding> {
    let is_pure = floor(source.crate_name()).is_some_and(|floor| floor <= PURE_FLOOR_MAX);
    if !is_pure {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (line, path) in paths(source) {
        if let Some(forbidden) = FORBIDDEN_PATHS.iter().find(|known| is_within(&path, known)) {
            findings.push(finding(source, line, &format!("{forbidden} is for floor 4 and up")));
        }
    }
    for (line, code) in source.product_lines() {
        for word in words(code).filter(|word| FORBIDDEN_WORDS.contains(word)) {
            findings.push(finding(source, line, &format!("`{word}` is for floor 4 and up")));
        }
    }
    findings
}

fn finding(source: &Source, line: usize, what: &str) -> Finding {
    Finding { path: source.path.clone(), line, what: what.to_owned() }
}

/// A glob of a module could bring anything in it.
fn is_within(path: &str, forbidden: &str) -> bool {
    let path = path.strip_prefix("::").unwrap_or(path);
    let below = |whole: &str, part: &str| {
        whole.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    match path.strip_suffix("::*") {
        Some(module) => below(path, forbidden) || below(forbidden, module),
        None => below(path, forbidden),
    }
}

/// The words of a piece of code.
pub fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// Every path in the code, those in braces written out, with the line where it begins.
fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut import: Option<(usize, String)> = None;
    for (line, code) in source.product_lines() {
        if let Some((_, text)) = &mut import {
            text.push_str(code);
        } else if is_import(code) {
            import = Some((line, code.to_owned()));
        } else {
            found.extend(inline_paths(code).map(|path| (line, path)));
        }
        if let Some((start, text)) = import.take_if(|(_, text)| text.contains(';')) {
            let tree = text.split_once("use ").map_or("", |(_, tree)| tree);
            let tree = tree.split(';').next().unwrap_or_default();
            let mut written_out = Vec::new();
            expand("", tree, &mut written_out);
            found.extend(written_out.into_iter().map(|path| (start, path)));
        }
    }
    found
}

fn is_import(code: &str) -> bool {
    let code = code.trim_start();
    code.starts_with("use ") || (code.starts_with("pub") && code.contains(" use "))
}

fn inline_paths(code: &str) -> impl Iterator<Item = String> + '_ {
    code.split(|char: char| !char.is_alphanumeric() && char != '_' && char != ':')
        .filter(|piece| piece.contains("::"))
        .map(|piece| piece.trim_end_matches(':').to_owned())
}

/// `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = path.strip_suffix("::self").unwrap_or(path);
        let whole =
            if path == "self" { prefix.trim_end_matches(':').to_owned() } else { format!("{prefix}{path}") };
        found.push(whole);
        return;
    };
    let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let mut depth = 0;
    let mut start = 0;
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &inner[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        expand(&prefix, &inner[start..], found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_forbidden_thing_is_found() {
        for code in [
            "use std::time::Instant;",
            "use std::time::{Duration, Instant};",
            "use std::{fmt, time::{Duration, SystemTime as Wall}};",
            "use std::time::*;",
            "let now = std::time::Instant::now();",
            "use std::net::{IpAddr, UdpSocket};",
            "let text = std::fs::read(path);",
            "use std::fs::File;",
            "use std::{\n    fmt,\n    thread,\n};",
            "use std::sync::{Arc, Mutex};",
            "pub(crate) use std::env;",
            "use ::tokio::net::UdpSocket;",
            "let n: u64 = rand::random();",
            "async fn f() {}",
            "f().await;",
            "println!(\"x\");",
        ] {
            assert_eq!(found("routing", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn what_is_allowed_is_not_found() {
        for code in [
            "use std::time::Duration;",
            "use std::net::{IpAddr, SocketAddr};",
            "use std::sync::Arc;",
            "use clock::Instant;",
            "use std::io::Write;",
            "// std::fs is not for us, async neither",
            "let random = \"rand::random\";",
            "let operand = 1; let branded::Thing = x;",
            "#[cfg(test)]\nmod tests {\n    use std::time::Instant;\n}",
        ] {
            assert_eq!(found("routing", code), [], "{code}");
        }
    }

    #[test]
    fn floor_4_may_do_all_that() {
        assert_eq!(found("net", "use std::time::Instant;\nasync fn f() {}"), []);
    }

    fn found(name: &str, code: &str) -> Vec<Finding> {
        check(&Source::new(format!("crates/{name}/src/lib.rs"), code))
    }
}
