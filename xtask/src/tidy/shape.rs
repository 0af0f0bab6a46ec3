//! How a file looks: its length, and words that must not be in it.

use super::Finding;
use super::purity::words;
use super::source::Source;

/// A file with more lines of product code holds more than one idea.
const LINES_MAX: usize = 700;

/// The crates that may talk to the kernel past the compiler's checks.
const UNSAFE_CRATES: [&str; 2] = ["host", "net"];

/// Notes to self: what is missing is in docs/limitations.md.
const NOTES: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// What is wrong with the shape of a file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| {
        findings.push(Finding { path: source.path.clone(), line, what });
    };
    if source.path.ends_with("/mod.rs") {
        find(0, "a module with children is name.rs and name/".to_owned());
    }
    let count = source.product_lines().count();
    if count > LINES_MAX {
        find(0, format!("{count} lines without tests, more than {LINES_MAX}: cut it by idea"));
    }
    let is_crate = source.path.starts_with("crates/");
    for (line, code) in source.product_lines() {
        if is_crate && code.contains(".unwrap()") {
            find(line, "`.unwrap()` outside tests".to_owned());
        }
        if words(code).any(|word| word == "unsafe") && !UNSAFE_CRATES.contains(&source.crate_name()) {
            find(line, format!("`unsafe` outside of {}", UNSAFE_CRATES.join(" and ")));
        }
        let is_stub = ["todo!", "unimplemented!"].iter().any(|stub| code.contains(stub));
        if is_stub {
            find(line, "a stub".to_owned());
        }
    }
    for (index, text) in source.lines.iter().enumerate() {
        if let Some(note) = words(&text.comment).find(|word| NOTES.contains(word)) {
            find(index + 1, format!("{note}: what is missing is in docs/limitations.md"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwrap_is_for_tests() {
        assert_eq!(found("crates/sip/src/a.rs", "x.unwrap();"), ["`.unwrap()` outside tests"]);
        assert!(found("crates/sip/src/a.rs", "#[cfg(test)]\nmod t {\n x.unwrap();\n}").is_empty());
        assert!(found("crates/sip/tests/a.rs", "x.unwrap();").is_empty());
        assert!(found("crates/sip/src/a.rs", "x.unwrap_or(1); // .unwrap()").is_empty());
    }

    #[test]
    fn unsafe_is_for_net() {
        let code = "unsafe { f() }";

        assert_eq!(found("crates/sip/src/a.rs", code), ["`unsafe` outside of host and net"]);
        assert_eq!(found("xtask/src/a.rs", code), ["`unsafe` outside of host and net"]);
        assert!(found("crates/net/src/a.rs", code).is_empty());
        assert!(found("crates/sip/examples/a.rs", code).is_empty());
        assert!(found("crates/sip/src/a.rs", "#![forbid(unsafe_code)]").is_empty());
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let tests = "#[cfg(test)]\nmod tests {\nfn a() {}\n}\n";
        let fits = format!("{}{tests}", "f();\n".repeat(LINES_MAX - 1));
        let does_not = "f();\n".repeat(LINES_MAX + 1);

        assert!(found("crates/sip/src/a.rs", &fits).is_empty());
        assert_eq!(found("crates/sip/src/a.rs", &does_not).len(), 1);
    }

    #[test]
    fn notes_and_stubs_are_found() {
        assert_eq!(found("crates/sip/src/a.rs", "// TODO later").len(), 1);
        assert_eq!(found("crates/sip/src/a.rs", "todo!()"), ["a stub"]);
    }

    #[test]
    fn mod_rs_is_found() {
        assert_eq!(found("crates/sip/src/a/mod.rs", "").len(), 1);
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text)).into_iter().map(|finding| finding.what).collect()
    }
}
