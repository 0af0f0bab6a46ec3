//! Lines of coloured text.

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// As the terminal has it.
    Plain,
    /// What is read first.
    Strong,
    /// As it should be.
    Good,
    /// Not as it should be, and expected.
    Odd,
    /// Not as it should be.
    Bad,
    /// What need not be read.
    Faint,
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// They are.
    On,
    /// The environment says NO_COLOR.
    Off,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pieces: Vec<(Ink, String)>,
}

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one piece.
    pub fn of(ink: Ink, text: impl Into<String>) -> Self {
        Self::new().with(ink, text)
    }

    /// The line with one more piece at its end.
    pub fn with(mut self, ink: Ink, text: impl Into<String>) -> Self {
        self.pieces.push((ink, text.into()));
        self
    }

    /// What can be read of it.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The line with another one behind it.
    fn and(mut self, other: &Self) -> Self {
        self.pieces.extend(other.pieces.iter().cloned());
        self
    }

    /// How many columns it fills.
    pub fn columns(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// What a terminal of so many columns is sent.
    pub fn render(&self, columns: usize, colours: Colours) -> String {
        let mut left = columns;
        let mut out = String::new();
        for (ink, text) in &self.pieces {
            // What others call themselves must not reach the terminal as it is.
            let clean = text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter });
            let part: String = clean.take(left).collect();
            left -= part.chars().count();
            let code = match (ink, colours) {
                (Ink::Plain, _) | (_, Colours::Off) => "",
                (Ink::Strong, _) => "1",
                (Ink::Good, _) => "32",
                (Ink::Odd, _) => "33",
                (Ink::Bad, _) => "31",
                (Ink::Faint, _) => "2",
            };
            match code {
                "" => out.push_str(&part),
                code => out.push_str(&format!("\x1b[{code}m{part}\x1b[0m")),
            }
        }
        out
    }
}

/// The lines of a text that is folded at its spaces.
pub fn folded(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let length = lines.last().map_or(0, |line| line.chars().count());
        if length > 0 && length + 1 + word.chars().count() > columns {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The pieces beside each other, and below where there is no room for one.
pub fn beside(pieces: &[Line], columns: usize) -> Vec<Line> {
    let mut rows: Vec<Line> = Vec::new();
    for piece in pieces {
        match rows.pop_if(|row| row.columns() + piece.columns() <= columns) {
            Some(row) => rows.push(row.and(piece)),
            None => rows.push(piece.clone()),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_edge_and_not_in_a_colour() {
        let line = Line::of(Ink::Good, "abc").with(Ink::Plain, "d\x1be").with(Ink::Bad, "f");

        assert_eq!(line.render(4, Colours::On), "\x1b[32mabc\x1b[0md\x1b[31m\x1b[0m");
        assert_eq!(line.render(80, Colours::Off), "abcd\u{fffd}ef");
    }

    #[test]
    fn a_text_is_folded_at_its_spaces() {
        assert_eq!(folded("one two three", 7), ["one two", "three"]);
        assert_eq!(folded("unbreakable x", 3), ["unbreakable", "x"]);
        assert_eq!(folded("", 3), [""]);
    }

    #[test]
    fn what_has_no_room_beside_stands_below() {
        let pieces = ["one ", "two", "three", "x"].map(|text| Line::of(Ink::Plain, text));
        let rows = |columns| beside(&pieces, columns).iter().map(Line::text).collect::<Vec<_>>();

        assert_eq!(rows(7), ["one two", "threex"]);
        assert_eq!(rows(80), ["one twothreex"]);
        assert_eq!(rows(1), ["one ", "two", "three", "x"]);
    }
}
