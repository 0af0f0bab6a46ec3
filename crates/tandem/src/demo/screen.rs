//! The terminal: one picture that is drawn over the one before, and single keys.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::ink::{Colours, Line};

/// Rows and columns of a terminal that does not tell.
const SIZE_USUAL: (usize, usize) = (24, 80);

/// Ctrl-C, where it is a key like others.
const CONTROL_C: u8 = 3;

/// Into the other screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
/// Back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// How the terminal was, as long as it is not so.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal, taken. It is given back when this is dropped, and before the message of a panic.
#[derive(Debug)]
pub struct Screen {
    colours: Colours,
}

impl Screen {
    /// Takes the terminal.
    pub fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // Lines that others write would else be staircases.
        raw.output_modes = before.output_modes;
        *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            others(panic);
            // Whichever thread it was: all that was started dies with this process.
            std::process::exit(101);
        }));
        write(ENTER);
        let colours = if std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty()) {
            Colours::Off
        } else {
            Colours::On
        };
        Ok(Self { colours })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        size().0
    }

    /// Draws the rows from the upper left corner on, over what stood there: a screen that is first emptied flickers.
    pub fn draw(&self, lines: &[Line]) {
        let columns = size().1;
        let rows: Vec<String> =
            lines.iter().map(|line| line.render(columns, self.colours) + "\x1b[K").collect();
        // What stands between the first and the last is shown at once, by terminals that can.
        write(&format!("\x1b[?2026h\x1b[H{}\x1b[J\x1b[?2026l", rows.join("\n")));
    }

    /// The next key, if one was pressed.
    pub fn key(&self) -> Option<char> {
        let input = io::stdin();
        let mut set = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        if poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()? == 0 {
            return None;
        }
        let mut byte = [0];
        match rustix::io::read(input.as_fd(), &mut byte) {
            // The terminal is gone.
            Ok(0) => Some('q'),
            Ok(_) if byte[0] == CONTROL_C => Some('q'),
            Ok(_) => Some(char::from(byte[0])),
            Err(_) => None,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(before) = before {
        write(LEAVE);
        // There is nobody left to tell.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn size() -> (usize, usize) {
    let told = tcgetwinsize(io::stdout()).map(|size| (usize::from(size.ws_row), usize::from(size.ws_col)));
    told.ok().filter(|(rows, columns)| *rows > 0 && *columns > 0).unwrap_or(SIZE_USUAL)
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that is gone is seen by the next key.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
