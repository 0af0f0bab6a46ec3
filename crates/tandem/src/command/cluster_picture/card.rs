//! Boxes of text, side by side.

/// Columns of a card, its border included: two and what is between them fit a terminal of 80.
const WIDTH: usize = 34;
/// Columns between two cards.
const GAP: usize = 12;

/// How a card's border looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// The active node.
    Double,
    /// A member that is there.
    Single,
    /// One that is not.
    Dashed,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Card {
    /// On the left of its upper edge.
    pub title: String,
    /// On the right of it.
    pub state: String,
    /// Its border.
    pub border: Border,
    /// Inside.
    pub lines: Vec<String>,
}

impl Card {
    /// Its rows, with so many lines inside.
    pub fn draw(&self, height: usize) -> Vec<String> {
        let (edge, side, [upper_left, upper_right, lower_left, lower_right]) = match self.border {
            Border::Double => ('═', '║', ['╔', '╗', '╚', '╝']),
            Border::Single => ('─', '│', ['┌', '┐', '└', '┘']),
            Border::Dashed => ('╌', '┆', ['┌', '┐', '└', '┘']),
        };
        let room = WIDTH - 8;
        let state = cut(&self.state, room / 2);
        let title = cut(&self.title, room - width(&state));
        let fill: String = std::iter::repeat_n(edge, room - width(&state) - width(&title)).collect();
        let mut rows = vec![format!("{upper_left}{edge} {title} {fill} {state} {edge}{upper_right}")];
        rows.extend((0..height).map(|row| {
            let line = cut(self.lines.get(row).map_or("", String::as_str), WIDTH - 4);
            let blank = " ".repeat(WIDTH - 4 - width(&line));
            format!("{side} {line}{blank} {side}")
        }));
        let bottom: String = std::iter::repeat_n(edge, WIDTH - 2).collect();
        rows.push(format!("{lower_left}{bottom}{lower_right}"));
        rows
    }
}

/// Two cards, with something between their rows.
pub fn beside(left: &Card, between: &[String], right: &Card) -> String {
    let height = left.lines.len().max(right.lines.len()).max(between.len().saturating_sub(1));
    let rows = left.draw(height).into_iter().zip(right.draw(height));
    rows.enumerate()
        .map(|(row, (left, right))| {
            let wire = between.get(row).map_or("", String::as_str);
            format!("{left}{wire:^GAP$}{right}\n")
        })
        .collect()
}

/// One card in the middle below two.
pub fn centred(card: &Card) -> String {
    let indent = " ".repeat((2 * WIDTH + GAP - WIDTH) / 2);
    card.draw(card.lines.len()).iter().map(|row| format!("{indent}{row}\n")).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width_max: usize) -> String {
    let clean = text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter });
    match width(text) <= width_max {
        true => clean.collect(),
        false => clean.take(width_max.saturating_sub(1)).chain(['…']).collect(),
    }
}
