//! `tandem report`: the last takeovers of this node, each with its cause and what took how long.
//!
//! The guardian's file is read, so that a node that is down can be asked too. What another version has written is shown by
//! the names that it uses.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};

use serde::{Deserialize, Serialize};

use super::{Place, print};
use crate::calendar::utc;
use crate::guardian::keeper::REPORTS;

/// Columns of the longest bar.
const BAR_WIDTH: usize = 36;

/// A line of the guardian's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    epoch: u64,
    event: String,
    /// In the order of time. Empty when the service was given away.
    #[serde(default)]
    phases: Vec<PhaseEnd>,
}

/// A phase of a takeover that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PhaseEnd {
    phase: String,
    /// After the beginning.
    after_ms: f64,
}

/// Shows the last reports, the latest last.
pub fn report(place: &Place, count: usize, json: bool) -> Result<()> {
    let file = place.state_directory()?.guardian().join(REPORTS);
    let reports = last(&file, count).with_context(|| file.display().to_string())?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&reports)?));
    }
    print(&reports_text(&reports))
}

/// The last lines that can be understood: one may be torn, another is of a later version.
fn last(file: &Path, count: usize) -> io::Result<Vec<Report>> {
    let file = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let mut reports: Vec<Report> = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    Ok(reports.split_off(reports.len().saturating_sub(count)))
}

fn reports_text(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "This node has neither taken the service over nor given it up yet.\n".to_owned();
    }
    let mut text = String::new();
    for report in reports {
        text.push_str(&format!(
            "{}  epoch {}  {}\n",
            utc(report.at_ms),
            report.epoch,
            event_text(&report.event)
        ));
        let whole = report.phases.last().map_or(0.0, |end| end.after_ms);
        let mut before = 0.0;
        for end in &report.phases {
            let name = end.phase.replace('_', " ");
            let row = format!("    {name:<14}{:>9.1} ms  {}", end.after_ms, bar(before, end.after_ms, whole));
            text.push_str(&format!("{}\n", row.trim_end()));
            before = end.after_ms;
        }
    }
    text
}

fn event_text(event: &str) -> String {
    let text = match event {
        "started" => "ACTIVE: nobody was, at the start",
        "peer_silent" => "ACTIVE: the active node fell silent",
        "peer_released" => "ACTIVE: the active node gave the service up",
        "switchover" => "ACTIVE: a planned switchover",
        "expired" => "standby: no majority voted in time",
        "gave_up" => "standby: it gave the service up",
        "handed_over" => "standby: it handed the service over as planned",
        other => return other.replace('_', " "),
    };
    text.to_owned()
}

/// From when to when, drawn to scale.
fn bar(from: f64, to: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return String::new();
    }
    let column = |at: f64| ((at / whole * BAR_WIDTH as f64).round() as usize).min(BAR_WIDTH);
    let (begin, end) = (column(from), column(to));
    let drawn = if end > begin { "█".repeat(end - begin) } else { "▏".to_owned() };
    format!("{}{drawn}", " ".repeat(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_drawn_to_scale() {
        let end = |phase: &str, after_ms| PhaseEnd { phase: phase.to_owned(), after_ms };
        let takeover = Report {
            at_ms: 1_800_000_000_123,
            epoch: 42,
            event: "peer_silent".to_owned(),
            phases: vec![
                end("detected", 150.0),
                end("majority", 460.3),
                end("gate", 460.9),
                end("first_answer", 480.0),
            ],
        };
        let given_up = Report { event: "gave_up".to_owned(), phases: Vec::new(), ..takeover.clone() };

        assert_eq!(
            reports_text(&[takeover, given_up]),
            "2027-01-15 08:00:00.123 UTC  epoch 42  ACTIVE: the active node fell silent\n    \
                 detected          150.0 ms  ███████████\n    \
                 majority          460.3 ms             ████████████████████████\n    \
                 gate              460.9 ms                                     ▏\n    \
                 first answer      480.0 ms                                     █\n\
             2027-01-15 08:00:00.123 UTC  epoch 42  standby: it gave the service up\n"
        );
    }

    #[test]
    fn whatever_a_guardian_writes_is_told_in_words() {
        use crate::guardian::report::{Event, Phase, PhaseEnd, Report};

        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        let phases = vec![PhaseEnd { phase: Phase::FirstAnswer, after_ms: 1.5 }];
        let events = [
            Event::Started,
            Event::PeerSilent,
            Event::PeerReleased,
            Event::Switchover,
            Event::Expired,
            Event::GaveUp,
            Event::HandedOver,
        ];
        let line = |event| {
            let report = Report { at_ms: 1, epoch: 2, event, phases: phases.clone() };
            serde_json::to_string(&report).expect("it is plain") + "\n"
        };
        std::fs::write(file.path(), events.map(line).concat()).expect("it can be written");

        let reports = last(file.path(), events.len()).expect("it can be read");

        assert_eq!(reports.len(), events.len());
        for report in reports {
            let text = event_text(&report.event);
            assert!(text.starts_with("ACTIVE: ") || text.starts_with("standby: "), "{text}");
            assert_eq!((report.phases[0].phase.as_str(), report.phases[0].after_ms), ("first_answer", 1.5));
        }
    }

    #[test]
    fn the_last_lines_are_read_and_a_torn_one_is_left_out() {
        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        let line = |epoch| format!("{{\"at_ms\":1,\"epoch\":{epoch},\"event\":\"expired\"}}\n");
        let text = line(1) + &line(2) + "{\"at_ms\":1,\"ep\n" + &line(3) + "{\"at_ms\"";
        std::fs::write(file.path(), text).expect("it can be written");

        let epochs = |count| -> Vec<u64> {
            let reports = last(file.path(), count).expect("it can be read");
            reports.iter().map(|report| report.epoch).collect()
        };

        assert_eq!(epochs(2), [2, 3]);
        assert_eq!(epochs(10), [1, 2, 3]);
        assert_eq!(last(Path::new("/nowhere/reports"), 3).expect("there are none yet"), []);
    }
}
