//! Who watches: at a terminal, or by reading lines.

use std::io::Write as _;

use super::ink::Line;
use super::picture::{Scene, picture};
use super::screen::Screen;

/// So many lines of what was said are kept for the picture.
const SAID_MAX: usize = 200;

/// How it is shown.
#[derive(Debug)]
pub enum Viewer {
    /// As a picture, with what was said.
    Picture {
        /// The terminal.
        screen: Screen,
        /// What was said.
        said: Vec<Line>,
    },
    /// As lines.
    Lines,
}

impl Viewer {
    /// Says something.
    pub fn say(&mut self, lines: Vec<Line>) {
        match self {
            Self::Picture { said, .. } => {
                said.extend(lines);
                said.drain(..said.len().saturating_sub(SAID_MAX));
            }
            Self::Lines => {
                let mut out = std::io::stdout().lock();
                let text: String = lines.iter().map(|line| line.text() + "\n").collect();
                // Nobody reads any more: it goes on and ends as it would.
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            }
        }
    }

    /// Shows how everything is, to whoever sees a picture.
    pub fn show(&self, scene: impl FnOnce() -> Scene) {
        if let Self::Picture { screen, said } = self {
            let scene = Scene { said: said.clone(), ..scene() };
            screen.draw(|rows, columns| picture(&scene, rows, columns));
        }
    }

    /// Whether somebody looks while it happens.
    pub fn is_watched(&self) -> bool {
        matches!(self, Self::Picture { .. })
    }

    /// The keys that were pressed since.
    pub fn keys(&self) -> Vec<char> {
        match self {
            Self::Picture { screen, .. } => screen.keys(),
            Self::Lines => Vec::new(),
        }
    }
}
