//! The terminal: one picture that is drawn over the one before, and single keys.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::ink::{Colours, Line};

/// Rows and columns of a terminal that does not tell.
const SIZE_USUAL: (usize, usize) = (24, 80);

/// The key that ends it.
pub const QUIT: char = 'q';

/// Ctrl-C, where it is a key like others.
const CONTROL_C: u8 = 3;

/// What a key of several bytes begins with.
const ESCAPE: u8 = 0x1b;

/// So many bytes are read at once: more than any key held down sends between two looks.
const READ_MAX: usize = 256;

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

    /// Draws as many rows as there are, of as many columns: what they are is asked for with both.
    pub fn draw(&self, rows_of: impl FnOnce(usize, usize) -> Vec<Line>) {
        let (rows, columns) = size();
        write(&drawn(&rows_of(rows, columns), columns, self.colours));
    }

    /// The keys that were pressed since: all of them, else a key that is held down delays those after it.
    pub fn keys(&self) -> Vec<char> {
        let input = io::stdin();
        let mut set = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
        if poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0) == 0 {
            return Vec::new();
        }
        let mut bytes = [0; READ_MAX];
        match rustix::io::read(input.as_fd(), &mut bytes) {
            // The terminal is gone.
            Ok(0) => vec![QUIT],
            Ok(count) => keys_in(&bytes[..count]),
            Err(_) => Vec::new(),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The keys that these bytes are. An arrow or an F4 is several bytes, of which the last one would else be a key.
fn keys_in(bytes: &[u8]) -> Vec<char> {
    let mut keys = Vec::new();
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            ESCAPE if bytes.next_if(|next| matches!(next, b'[' | b'O')).is_some() => {
                while bytes.next_if(|next| matches!(next, 0x20..=0x3f)).is_some() {}
                bytes.next();
            }
            CONTROL_C => keys.push(QUIT),
            byte => keys.push(char::from(byte)),
        }
    }
    keys
}

/// The rows from the upper left corner on, over what stood there: a screen that is first emptied flickers.
fn drawn(lines: &[Line], columns: usize, colours: Colours) -> String {
    let rows = lines.iter().map(|line| {
        // Behind a row's last column the cursor stands on it still, and would erase what was just drawn there.
        let rest = if line.columns() < columns { "\x1b[K" } else { "" };
        line.render(columns, colours) + rest
    });
    let rows: Vec<String> = rows.collect();
    // What stands between the first and the last is shown at once, by terminals that can.
    format!("\x1b[?2026h\x1b[H{}\x1b[?2026l", rows.join("\n"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ink::Ink;

    #[test]
    fn a_key_of_several_bytes_is_none_of_those_that_do_something() {
        assert_eq!(keys_in(b"kq"), ['k', 'q']);
        assert_eq!(keys_in(b"\x03"), ['q']);
        assert_eq!(keys_in(b"\x1b[K\x1bOc\x1b[1;5sh\x1b[15~"), ['h']);
        assert_eq!(keys_in(b"\x1bk\x1b["), ['\x1b', 'k']);
    }

    #[test]
    fn the_last_column_of_a_full_row_is_not_erased() {
        let lines = ["abc", "abcd", "abcde"].map(|text| Line::of(Ink::Plain, text));

        assert_eq!(drawn(&lines, 4, Colours::Off), "\x1b[?2026h\x1b[Habc\x1b[K\nabcd\nabcd\x1b[?2026l");
    }
}
