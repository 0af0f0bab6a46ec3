//! Every relative link in the documents leads somewhere.

use std::collections::BTreeMap;

use super::Finding;

/// The links of the pages that lead nowhere; `exists` knows paths from the root.
pub fn check(pages: &BTreeMap<String, String>, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in pages {
        for (line, target) in links(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let place = if file.is_empty() { path.clone() } else { resolve(path, file) };
            let what = if !exists(&place) {
                format!("the link {target} leads to {place}, which is not there")
            } else if let Some(page) = pages.get(&place).filter(|_| !anchor.is_empty())
                && !headings(page).any(|heading| heading == anchor)
            {
                format!("the link {target} leads to a heading that is not there")
            } else {
                continue;
            };
            findings.push(Finding { path: path.clone(), line, what });
        }
    }
    findings
}

/// The targets of `[text](target)` outside of code, with their lines; those with a scheme are
/// left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let target = after.split([')', ' ']).next().unwrap_or_default();
            let has_scheme = target.contains("://") || target.starts_with("mailto:");
            if !has_scheme && !target.is_empty() {
                found.push((number, target.to_owned()));
            }
            rest = after;
        }
    }
    found
}

/// The lines outside of fences, with what is between back-ticks removed.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            let outside: String = line.split('`').step_by(2).collect();
            found.push((index + 1, outside));
        }
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title
            .chars()
            .filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'))
            .map(|char| if char == ' ' { '-' } else { char })
            .collect()
    })
}

/// A path as seen from a page, from the root.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nowhere_is_found() {
        assert_eq!(found("see [it](gone.md)").len(), 1);
        assert_eq!(found("see [it](../gone/)").len(), 1);
        assert_eq!(found("see [it](other.md#no-such)").len(), 1);
        assert_eq!(found("# A\n[x](#b)").len(), 1);
    }

    #[test]
    fn a_good_link_is_not_found() {
        assert_eq!(found("[it](other.md), [up](../README.md) and [in](other.md#one--two)"), []);
        assert_eq!(found("[web](https://example.org/x) `[code](gone.md)`"), []);
        assert_eq!(found("```\n[code](gone.md)\n```"), []);
    }

    fn found(text: &str) -> Vec<Finding> {
        let pages = BTreeMap::from([
            ("docs/page.md".to_owned(), text.to_owned()),
            ("docs/other.md".to_owned(), "# One & two".to_owned()),
        ]);
        check(&pages, |path| ["docs/page.md", "docs/other.md", "README.md"].contains(&path))
    }
}
