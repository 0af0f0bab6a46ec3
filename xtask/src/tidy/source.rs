//! A Rust file, line by line, as code without comments and strings, and as comments.
//!
//! It is no parser: it knows just what is comment, string, character or code, which is enough for
//! rules about words, and it never fails.

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// From the root of the repository.
    pub path: String,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Whether all of it is test code.
    pub is_test: bool,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The code; strings and characters are there as `""`.
    pub code: String,
    /// The text of comments, without the slashes.
    pub comment: String,
    /// Whether the line is in a test module.
    pub is_test: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

impl Source {
    /// Reads a file's text.
    pub fn new(path: impl Into<String>, text: &str) -> Source {
        let path = path.into();
        let mut lines = split(text);
        mark_tests(&mut lines);
        let is_test = ["/tests/", "/examples/", "/benches/"].iter().any(|f| path.contains(f));
        Source { path, lines, is_test }
    }

    /// The crate's folder: `crates/NAME` gives NAME.
    pub fn crate_name(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            first => first.unwrap_or_default(),
        }
    }

    /// The lines of code that are no test, with their numbers from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, line)| !self.is_test && !line.is_test)
            .map(|(index, line)| (index + 1, line.code.as_str()))
    }

    /// The comments. One that goes over several lines is one text, as a reference may be broken
    /// there.
    pub fn comments(&self) -> Vec<Comment> {
        let mut found: Vec<Comment> = Vec::new();
        let mut last = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let text = line.comment.trim();
            if text.is_empty() {
                continue;
            }
            let continues = last == index && index > 0 && line.code.trim().is_empty();
            if !continues {
                found.push(Comment { first_line: index + 1, text: String::new() });
            }
            if let Some(comment) = found.last_mut() {
                if continues {
                    comment.text.push('\n');
                }
                comment.text.push_str(text);
            }
            last = index + 1;
        }
        found
    }
}

/// A comment of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    first_line: usize,
    /// Its lines, each without slashes and spaces around it.
    pub text: String,
}

impl Comment {
    /// The line of the file in which a place of the text is.
    pub fn line(&self, at: usize) -> usize {
        self.first_line + self.text[..at].matches('\n').count()
    }
}

/// Files that are named by a `#[cfg(test)] mod name;` are test code as a whole.
pub fn mark_test_modules(sources: &mut [Source]) {
    let mut folders = Vec::new();
    for source in sources.iter() {
        let parent = module_folder(&source.path);
        for pair in source.lines.windows(2) {
            let declared = pair[1].code.trim().strip_suffix(';');
            let name = declared.and_then(|code| code.rsplit_once("mod ")).map(|(_, name)| name);
            if let Some(name) = name.filter(|_| pair[0].code.trim() == "#[cfg(test)]") {
                folders.push(format!("{parent}/{name}"));
            }
        }
    }
    for source in sources {
        source.is_test |= folders.iter().any(|folder| {
            source
                .path
                .strip_prefix(folder.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
    }
}

/// Where the children of a module's file are.
fn module_folder(path: &str) -> &str {
    let is_root = path.ends_with("/lib.rs") || path.ends_with("/main.rs");
    if is_root {
        path.rsplit_once('/').map_or(path, |(folder, _)| folder)
    } else {
        path.strip_suffix(".rs").unwrap_or(path)
    }
}

fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        if char == '\n' {
            if state == State::LineComment {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let last = lines.len() - 1;
        let line = &mut lines[last];
        at += match state {
            State::Code => read_code(&chars[at..], line, &mut state),
            State::LineComment => {
                line.comment.push(char);
                1
            }
            State::BlockComment { depth } => read_block(&chars[at..], line, depth, &mut state),
            State::Text => match char {
                '\\' if chars.get(at + 1) != Some(&'\n') => 2,
                '"' => {
                    state = State::Code;
                    1
                }
                _ => 1,
            },
            State::RawText { hashes } => {
                let ends = char == '"' && starts_with_hashes(&chars[at + 1..], hashes);
                if ends {
                    state = State::Code;
                    1 + hashes
                } else {
                    1
                }
            }
        };
    }
    lines
}

/// Reads one piece of code; gives how many characters it took.
fn read_code(rest: &[char], line: &mut Line, state: &mut State) -> usize {
    match rest {
        ['/', '/', ..] => {
            *state = State::LineComment;
            rest.iter().take_while(|char| matches!(char, '/' | '!')).count()
        }
        ['/', '*', ..] => {
            *state = State::BlockComment { depth: 1 };
            2
        }
        ['"', ..] => {
            line.code.push_str("\"\"");
            *state = State::Text;
            1
        }
        ['r', after @ ..] if !ends_in_word(&line.code) || line.code.ends_with('b') => {
            let hashes = after.iter().take_while(|char| **char == '#').count();
            if after.get(hashes) == Some(&'"') {
                line.code.push_str("\"\"");
                *state = State::RawText { hashes };
                2 + hashes
            } else {
                line.code.push('r');
                1
            }
        }
        // A lifetime has no closing quote after its first character.
        ['\'', '\\', _, after @ ..] => {
            line.code.push_str("\"\"");
            3 + after.iter().take_while(|char| **char != '\'').count() + 1
        }
        ['\'', _, '\'', ..] => {
            line.code.push_str("\"\"");
            3
        }
        [char, ..] => {
            line.code.push(*char);
            1
        }
        [] => 1,
    }
}

fn read_block(rest: &[char], line: &mut Line, depth: usize, state: &mut State) -> usize {
    match rest {
        ['*', '/', ..] => {
            *state = match depth {
                1 => State::Code,
                _ => State::BlockComment { depth: depth - 1 },
            };
            2
        }
        ['/', '*', ..] => {
            *state = State::BlockComment { depth: depth + 1 };
            2
        }
        [char, ..] => {
            line.comment.push(*char);
            1
        }
        [] => 1,
    }
}

fn starts_with_hashes(rest: &[char], count: usize) -> bool {
    rest.len() >= count && rest[..count].iter().all(|char| *char == '#')
}

fn ends_in_word(code: &str) -> bool {
    code.chars().next_back().is_some_and(|char| char.is_alphanumeric() || char == '_')
}

/// Marks what a `#[cfg(test)]` stands before: to the end of the block that follows it.
fn mark_tests(lines: &mut [Line]) {
    let mut depth: Option<usize> = None;
    for line in lines {
        let code = line.code.trim();
        if depth.is_none() && (code == "#[cfg(test)]" || code.starts_with("#[cfg(all(test")) {
            depth = Some(0);
        }
        let Some(inside) = depth else { continue };
        line.is_test = true;
        let opened = code.matches('{').count();
        let closed = code.matches('}').count();
        let now = (inside + opened).saturating_sub(closed);
        // A block has ended, or an item without one.
        let is_over = now == 0 && (closed > 0 || code.ends_with(';'));
        depth = if is_over { None } else { Some(now) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_no_code() {
        let text = "let a = \"unsafe // no\"; // why\nlet b = r#\"a \" unsafe\"#; /* x\ny */ c();";

        let source = Source::new("crates/a/src/lib.rs", text);

        let code: Vec<_> = source.lines.iter().map(|line| line.code.trim()).collect();
        assert_eq!(code, ["let a = \"\";", "let b = \"\";", "c();"]);
        let comments: Vec<_> = source.lines.iter().map(|line| line.comment.trim()).collect();
        assert_eq!(comments, ["why", "x", "y"]);
    }

    #[test]
    fn a_quote_as_character_or_lifetime_opens_no_string() {
        let text = "f('\"', '\\'', b'\\\\', 'x'); fn g<'a>(x: &'a str) {} // end";

        let source = Source::new("crates/a/src/lib.rs", text);

        assert_eq!(source.lines[0].comment.trim(), "end");
        assert!(source.lines[0].code.contains("fn g<'a>(x: &'a str) {}"));
    }

    #[test]
    fn what_follows_a_test_module_is_product_again() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}";

        let source = Source::new("crates/a/src/lib.rs", text);

        let product: Vec<_> = source.product_lines().map(|(number, _)| number).collect();
        assert_eq!(product, [1, 6]);
    }

    #[test]
    fn a_test_module_in_its_own_file_is_test_code() {
        let mut sources = vec![
            Source::new("crates/a/src/lib.rs", "#[cfg(test)]\nmod world;\nmod real;"),
            Source::new("crates/a/src/world.rs", "fn a() {}"),
            Source::new("crates/a/src/world/part.rs", "fn a() {}"),
            Source::new("crates/a/src/real.rs", "fn a() {}"),
        ];

        mark_test_modules(&mut sources);

        let tests: Vec<_> = sources.iter().map(|source| source.is_test).collect();
        assert_eq!(tests, [false, true, true, false]);
    }

    #[test]
    fn a_comment_over_two_lines_is_one_text() {
        let source = Source::new("crates/a/src/lib.rs", "// RFC 3261\n// §16.7: so\nf();\n// other");

        let comments: Vec<_> = source.comments();
        let texts: Vec<_> = comments.iter().map(|comment| comment.text.as_str()).collect();
        assert_eq!(texts, ["RFC 3261\n§16.7: so", "other"]);
        assert_eq!((comments[0].line(0), comments[0].line(9), comments[1].line(0)), (1, 2, 4));
    }
}
