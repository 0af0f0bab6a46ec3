//! `cargo xtask bench flames`: where the server's processor time goes, as a picture.
//!
//! `perf` looks at the server some hundred times in each second of processor time and notes the functions that it is in.
//! The picture has a box for each function, as wide as the part of the time that was spent in it and in what it
//! called; callers stand below.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::contestant::{Contestant, FloorKind, Kind, Programs};
use super::row::Row;
use crate::process::{self, Running};
use crate::workspace;

/// Pixels of the picture.
const WIDTH: f64 = 1200.0;
/// Pixels of a box.
const HEIGHT: usize = 16;
/// A box that is narrower shows nothing.
const WIDTH_MIN: f64 = 3.0;
/// Pixels of a character.
const LETTER: f64 = 6.6;
/// How deep the picture goes: what is deeper belongs to the last box.
const DEPTH_MAX: usize = 60;

/// What is pictured, and the file's name in `bench/`.
const PICTURES: [(Row, &str); 2] = [(Row::Challenge, "flame-register.svg"), (Row::Call, "flame-call.svg")];

/// A function with all that it called.
#[derive(Debug, Default)]
struct Frame {
    samples: u64,
    called: BTreeMap<String, Frame>,
}

/// Makes all pictures.
pub fn draw(programs: &Programs) -> Result<()> {
    for (row, name) in PICTURES {
        let server = Contestant::start(Kind::Tandem, FloorKind::Answer, programs)?;
        Row::First.load().run(&server, programs, Row::First.settles(Kind::Tandem))?;
        let data = programs.dir.join("perf.data");
        let mut record = Command::new("perf");
        record
            .args(["record", "-e", "cpu-clock", "-F", "997", "--call-graph", "dwarf,8192", "-o"])
            .arg(&data);
        record.arg("-p").arg(server.id().to_string());
        let mut record = Running::start(&mut record, &programs.dir.join("perf.log"))?;
        let cost = row.load().run(&server, programs, row.settles(Kind::Tandem))?;
        record.signal(Signal::INT)?;
        record.wait(std::time::Duration::from_secs(60))?;
        server.stop()?;
        let mut script = Command::new("perf");
        script.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(&data);
        let root = fold(&process::output(&mut script)?);
        ensure!(root.samples > 0, "perf saw nothing: {}", record.log());
        let title =
            format!("{}, {} samples, {:.1} µs each under perf", row.name(), root.samples, cost.microseconds);
        let place = workspace::root().join("bench").join(name);
        fs::write(&place, picture(&root, &title))?;
        println!("{}", place.display());
    }
    Ok(())
}

/// Reads what `perf script` says: for each sample the thread's name, then its functions, innermost first.
fn fold(script: &str) -> Frame {
    let mut root = Frame::default();
    for sample in script.split("\n\n") {
        let mut lines = sample.trim_start_matches('\n').lines();
        let Some(thread) = lines.next().map(str::trim).filter(|name| !name.is_empty()) else { continue };
        let mut stack: Vec<String> = lines
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(_, symbol)| short(symbol))
            .filter(|symbol| symbol != "[unknown]")
            .collect();
        stack.push(thread.trim_end_matches(':').to_owned());
        root.add(stack.iter().rev().take(DEPTH_MAX));
    }
    root
}

impl Frame {
    fn add<'s>(&mut self, stack: impl Iterator<Item = &'s String>) {
        self.samples += 1;
        let mut frame = self;
        for name in stack {
            frame = frame.called.entry(name.clone()).or_default();
            frame.samples += 1;
        }
    }

    fn depth(&self) -> usize {
        1 + self.called.values().map(Frame::depth).max().unwrap_or(0)
    }
}

/// A function's name without its generics, its crate's hash and what is the same for all of a thread.
fn short(symbol: &str) -> String {
    let mut name = String::new();
    let mut depth = 0u32;
    let text = symbol.replace("->", "→");
    for (at, letter) in text.char_indices() {
        match letter {
            // `<impl a>::b` is a path, and keeps what it is of.
            '<' if at > 0 => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    name.trim_end_matches("::").replace("::::", "::")
}

fn picture(root: &Frame, title: &str) -> String {
    let height = (root.depth() + 2) * HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<text x=\"4\" y=\"12\">{}</text>\n",
        escaped(title)
    );
    let scale = WIDTH / root.samples as f64;
    let mut left = 0.0;
    for (name, frame) in &root.called {
        boxes(frame, name, left, height - HEIGHT, scale, root.samples, &mut svg);
        left += frame.samples as f64 * scale;
    }
    svg.push_str("</svg>\n");
    svg
}

fn boxes(frame: &Frame, name: &str, left: f64, top: usize, scale: f64, all: u64, svg: &mut String) {
    let width = frame.samples as f64 * scale;
    if width < WIDTH_MIN {
        return;
    }
    let part = frame.samples as f64 * 100.0 / all as f64;
    let warmth = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 100;
    let letters = (width / LETTER) as usize;
    let shown: String = if letters < 4 { String::new() } else { name.chars().take(letters - 1).collect() };
    // A String takes all that is written to it.
    let _ = writeln!(
        svg,
        "<g><title>{name}, {part:.1} %</title><rect x=\"{left:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"15\" \
         fill=\"rgb({},{},60)\"/><text x=\"{:.1}\" y=\"{}\">{shown}</text></g>",
        width - 0.3,
        205 + warmth / 2,
        90 + warmth,
        left + 2.0,
        top + 11,
        name = escaped(name),
        shown = escaped(&shown),
    );
    let mut inner = left;
    for (name, called) in &frame.called {
        boxes(called, name, inner, top.saturating_sub(HEIGHT), scale, all, svg);
        inner += called.samples as f64 * scale;
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "net-udp-0 \n\t  55aa sip::parse<u8>\n\t  55ab main\n\nnet-udp-0 \n\t  55ab main\n\n\
                          store-write \n\t  55ac [unknown]\n\t  55ad <a::B as c::D>::run\n\n";

    #[test]
    fn samples_are_added_up_from_the_outermost_function() {
        let root = fold(SCRIPT);

        assert_eq!((root.samples, root.depth()), (3, 4));
        let main = &root.called["net-udp-0"].called["main"];
        assert_eq!((main.samples, main.called["sip::parse"].samples), (2, 1));
        assert_eq!(root.called["store-write"].called["<a::B as c::D>::run"].samples, 1);
    }

    #[test]
    fn the_picture_has_each_function_with_its_part() {
        let picture = picture(&fold(SCRIPT), "a title");

        assert!(picture.contains("<title>main, 66.7 %</title>"), "{picture}");
        assert!(picture.contains("&lt;a::B as c::D&gt;::run"), "{picture}");
    }
}
