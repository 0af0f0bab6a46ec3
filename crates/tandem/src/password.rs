//! Asking for a password, without showing it.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Bytes of a password.
const PASSWORD_BYTES_MAX: usize = 1_024;
/// What a terminal sends for Control-C.
const INTERRUPT: u8 = 0x03;
/// Control-D.
const END: u8 = 0x04;
/// Control-U.
const KILL: u8 = 0x15;
/// What a shell ends with after Control-C.
const STATUS_INTERRUPTED: i32 = 130;

/// Gets a password from the first line of standard input or from the person at the terminal.
pub fn password(prompt: &str, from_stdin: bool) -> Result<Zeroizing<String>> {
    if from_stdin {
        return first_line(io::stdin().lock());
    }
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context("there is no terminal to ask for the password; give it with --password-stdin")?;
    let password = ask(&terminal, &format!("{prompt}: "))?;
    if *ask(&terminal, "Once more: ")? != *password {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(password)
}

fn first_line(input: impl BufRead) -> Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 2));
    input
        .take(PASSWORD_BYTES_MAX as u64 + 2)
        .read_until(b'\n', &mut line)
        .context("standard input can not be read")?;
    let bare = line.strip_suffix(b"\n").unwrap_or(&line);
    read(bare.strip_suffix(b"\r").unwrap_or(bare))
}

fn ask(terminal: &File, prompt: &str) -> Result<Zeroizing<String>> {
    let mut terminal = Quiet::new(terminal)?;
    terminal.write(prompt)?;
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 1));
    loop {
        match terminal.read_byte()? {
            Some(b'\r' | b'\n') => break,
            None | Some(END) if line.is_empty() => break,
            None | Some(END) => {}
            Some(INTERRUPT) => {
                terminal.write("\n")?;
                drop(terminal);
                std::process::exit(STATUS_INTERRUPTED);
            }
            Some(KILL) => line.clear(),
            Some(0x7f | 0x08) => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            Some(byte) if line.len() <= PASSWORD_BYTES_MAX => line.push(byte),
            Some(_) => {}
        }
    }
    terminal.write("\n")?;
    read(&line)
}

fn read(bytes: &[u8]) -> Result<Zeroizing<String>> {
    if bytes.is_empty() {
        bail!("the password is empty; nothing was changed");
    }
    if bytes.len() > PASSWORD_BYTES_MAX {
        bail!("the password is longer than {PASSWORD_BYTES_MAX} bytes; nothing was changed");
    }
    match str::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => bail!("the password is not UTF-8; nothing was changed"),
    }
}

/// A terminal that neither shows what is typed nor turns Control-C into a signal, which would leave it
/// so. It is as before when this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal).context("the terminal can not be asked")?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(terminal, OptionalActions::Flush, &quiet).context("the terminal can not be made quiet")?;
        Ok(Self { terminal, before })
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.terminal.write_all(text.as_bytes())
    }

    fn read_byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.terminal.read(&mut byte)? == 1).then_some(byte[0]))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // There is nothing else that could be tried.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_password_without_its_end() {
        for (input, password) in [
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret", "secret"),
            (" a b \nnext\n", " a b "),
        ] {
            assert_eq!(*first_line(input.as_bytes()).expect("it is right"), password);
        }
    }

    #[test]
    fn what_can_not_be_a_password_is_refused() {
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        for input in [&b""[..], b"\n", b"\xff\n", long.as_bytes()] {
            assert!(first_line(input).is_err());
        }
        assert!(first_line(&long.as_bytes()[1..]).is_ok());
    }
}
