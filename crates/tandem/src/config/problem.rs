//! A mistake in the configuration, told so that it can be mended without the manual.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

/// What is wrong with one value, where it stands, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Bytes of the file that are meant.
    pub span: Range<usize>,
    /// What is wrong, as the end of a sentence that begins with the key and its value.
    pub what: String,
    /// What to do about it.
    pub mend: String,
}

impl Wrong {
    /// Says what is wrong at `span` and how to mend it.
    pub fn new(span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { span, what: what.into(), mend: mend.into() }
    }
}

/// One mistake with everything that is printed about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// The whole key: `sip.tcp.idle_timeout`; empty for a mistake of TOML itself.
    pub key: String,
    /// The value as it stands in the file.
    pub value: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub mend: String,
    source_line: String,
    marked: usize,
}

impl Problem {
    /// Finds the place of a mistake in the file's text.
    pub fn locate(text: &str, key: impl Into<String>, wrong: Wrong) -> Self {
        let start = floor_boundary(text, wrong.span.start);
        let end = floor_boundary(text, wrong.span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let marked = text[start..end.min(line_end).max(start)].chars().count().max(1);
        let key = key.into();
        let shown = &text[line_start..line_end];
        let secret = secret_in(shown);
        let value = if secret.is_some() { String::new() } else { shorten(text[start..end].trim_end()) };
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key,
            value,
            what: wrong.what,
            mend: wrong.mend,
            source_line: shown[..secret.unwrap_or(shown.len())].trim_end_matches('\r').replace('\t', " "),
            marked: if secret.is_some() { 1 } else { marked },
        }
    }
}

/// All mistakes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// In the order of the file; never empty.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Takes the mistakes of a file and sorts them by place.
    pub fn new(file: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| (problem.line, problem.column));
        list.dedup();
        Self { file: file.to_owned(), list }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            let Problem { line, column, key, value, what, mend, source_line, marked } = problem;
            let subject = match (key.is_empty(), value.is_empty() || value.contains('\n')) {
                (true, _) => String::new(),
                (false, true) => format!("{key} "),
                (false, false) if key.ends_with(value.as_str()) => format!("{key} "),
                (false, false) => format!("{key} = {value} "),
            };
            let gutter = line.to_string().len() + 1;
            writeln!(formatter, "{}:{line}:{column}: {subject}{what}", self.file.display())?;
            writeln!(formatter, " {line:>gutter$} | {source_line}")?;
            writeln!(
                formatter,
                " {:>gutter$} | {:indent$}{}",
                "",
                "",
                "^".repeat(*marked),
                indent = column - 1
            )?;
            writeln!(formatter, " {:>gutter$} = {mend}", "")?;
            writeln!(formatter)?;
        }
        match self.list.len() {
            1 => write!(formatter, "1 mistake in {}", self.file.display()),
            number => write!(formatter, "{number} mistakes in {}", self.file.display()),
        }
    }
}

impl std::error::Error for Problems {}

/// Where the secret of a line begins, if it has one: nothing from there on is shown to anybody.
fn secret_in(line: &str) -> Option<usize> {
    // A URL has the password of its user in it.
    ["password", "url"].into_iter().find_map(|key| {
        let at = line.find(key)? + key.len();
        let rest = line[at..].trim_start_matches(['"', '\'']).trim_start();
        rest.starts_with('=').then(|| line.len() - rest.len() + 1)
    })
}

fn shorten(value: &str) -> String {
    if value.chars().count() <= VALUE_CHARS_MAX {
        return value.to_owned();
    }
    value.chars().take(VALUE_CHARS_MAX - 1).chain(['…']).collect()
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_underlined_where_it_stands() {
        let text = "[sip]\nring_timeout = \"2x\"\n";
        let wrong = Wrong::new(21..25, "is not a duration", "write \"2m\"");

        let problems =
            Problems::new(Path::new("a.toml"), vec![Problem::locate(text, "sip.ring_timeout", wrong)]);

        assert_eq!(
            problems.to_string(),
            "a.toml:2:16: sip.ring_timeout = \"2x\" is not a duration\n  \
              2 | ring_timeout = \"2x\"\n    \
                |                ^^^^\n    \
                = write \"2m\"\n\n\
             1 mistake in a.toml"
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in ["password = 12345\n", " \"password\"= \"12345\n", "{ name = \"a\", password='12345' }\n"]
        {
            let start = text.find("12345").unwrap_or_default();
            let wrong = Wrong::new(start..start + 5, "is wrong", "mend it");
            let problem = Problem::locate(text, "registration.password", wrong);
            let shown = Problems::new(Path::new("a.toml"), vec![problem]).to_string();

            assert!(!shown.contains("12345"), "{shown}");
        }
        let file = "password_file = \"/etc/x\"\n";
        let problem =
            Problem::locate(file, "registration.password_file", Wrong::new(16..24, "is wrong", "mend"));
        assert_eq!(problem.value, "\"/etc/x\"");
    }

    #[test]
    fn a_place_beyond_the_end_or_within_a_letter_does_no_harm() {
        let problem = Problem::locate("ä", "key", Wrong::new(1..99, "is wrong", "mend it"));

        assert_eq!((problem.line, problem.column), (1, 1));
    }
}
