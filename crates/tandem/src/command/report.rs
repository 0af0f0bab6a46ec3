//! `tandem report`: the last takeovers of this node, each with its cause, what took how long and what was kept.
//!
//! The guardian's file is read, so that a node that is down can be asked too. What another version has written is shown by
//! the names that it uses.

pub mod page;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use serde::{Deserialize, Serialize};

use super::{Place, print};
use crate::calendar::utc;
use crate::guardian::keeper::REPORTS;
use crate::host;
use crate::service::node_name;

/// Columns of the longest bar.
const BAR_WIDTH: usize = 36;

/// A line of the guardian's file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    epoch: u64,
    /// What, and why.
    pub event: String,
    /// In the order of time. Empty when the service was given away.
    #[serde(default)]
    pub phases: Vec<PhaseEnd>,
    /// What was here when it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
    /// By cause, how often something was answered in this tenure that no other node held; absent: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    degraded: Option<BTreeMap<String, u64>>,
}

/// What a node had when it took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Registrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bindings: Option<u64>,
    /// How much of the active node's state that was, as far as it was compared: 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ready: Option<u8>,
}

/// Something that is told of a takeover besides its phases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub text: String,
    /// Whether something may be lost.
    pub is_bad: bool,
}

/// A phase of a takeover that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// Which.
    pub phase: String,
    /// After the beginning.
    pub after_ms: f64,
}

/// How reports are shown.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// For people, in the terminal.
    Text,
    /// For programs.
    Json,
    /// For people, as a file for a browser.
    Html(&'a Path),
}

/// Shows the last reports: the latest last, but on a page first.
pub fn report(place: &Place, count: usize, shape: Shape<'_>) -> Result<()> {
    let file = place.state_directory()?.guardian().join(REPORTS);
    let count = match shape {
        Shape::Text | Shape::Json => count,
        Shape::Html(_) => count.min(page::TAKEOVERS_MAX),
    };
    let reports = last(&file, count).with_context(|| file.display().to_string())?;
    match shape {
        Shape::Text => print(&reports_text(&reports)),
        Shape::Json => print(&format!("{}\n", serde_json::to_string_pretty(&reports)?)),
        Shape::Html(html) => {
            let node = place.config().map_or_else(|_| host::name(), |config| node_name(&config));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            std::fs::write(html, page::page(&node, now_ms, &reports))
                .with_context(|| format!("{} can not be written", html.display()))?;
            print(&format!("{} has {} reports of {node}.\n", html.display(), reports.len()))
        }
    }
}

impl Report {
    /// Whether the node has taken the service over.
    pub fn is_takeover(&self) -> bool {
        !self.phases.is_empty()
    }

    /// Whether it has done so under this epoch.
    pub fn is_takeover_of(&self, epoch: u64) -> bool {
        self.is_takeover() && self.epoch == epoch
    }

    /// What was kept and what was not.
    pub fn facts(&self) -> Vec<Fact> {
        let kept = self.kept.unwrap_or_default();
        let bindings = kept.bindings.map(|bindings| Fact {
            name: "phones",
            text: format!("{bindings} were registered here when it took over"),
            is_bad: false,
        });
        // Who is the first has nothing to learn from anybody.
        let ready = kept.ready.filter(|_| self.event != "started").map(|ready| Fact {
            name: "ready",
            text: format!("{ready} % of the state was here, as far as it was compared"),
            is_bad: ready < 100,
        });
        let degraded = self.degraded.as_ref().map(|causes| {
            let causes: Vec<String> = causes
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(cause, count)| format!("{count} {}", cause.replace('_', " ")))
                .collect();
            let text = if causes.is_empty() {
                "nothing was answered that no other node held".to_owned()
            } else {
                format!("answered though no other node held it: {}", causes.join(", "))
            };
            Fact { name: "degraded", text, is_bad: !causes.is_empty() }
        });
        [bindings, ready, degraded].into_iter().flatten().collect()
    }
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
            let name = phase_text(&end.phase);
            let row = format!("    {name:<14}{:>9.1} ms  {}", end.after_ms, bar(before, end.after_ms, whole));
            text.push_str(&format!("{}\n", row.trim_end()));
            before = end.after_ms;
        }
        for Fact { name, text: told, is_bad } in report.facts() {
            let mark = if is_bad { "  !" } else { "" };
            text.push_str(&format!("    {name:<14}{told}{mark}\n"));
        }
    }
    text
}

/// The name of a phase in words.
pub fn phase_text(phase: &str) -> String {
    phase.replace('_', " ")
}

/// What happened, in words.
pub fn event_text(event: &str) -> String {
    let text = match event {
        "started" => "ACTIVE: nobody was, at the start",
        "peer_silent" => "ACTIVE: the active node fell silent",
        "peer_released" => "ACTIVE: the active node gave the service up",
        "peer_ill" => "ACTIVE: the active node was less well and asked to be relieved",
        "switchover" => "ACTIVE: a planned switchover",
        "expired" => "standby: no majority voted in time",
        "gave_up" => "standby: it gave the service up",
        "handed_over" => "standby: it handed the service over",
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
        let kept = Some(Kept { bindings: Some(412), ready: Some(99) });
        let takeover = Report { kept, ..takeover() };
        let given_up = Report {
            event: "gave_up".to_owned(),
            phases: Vec::new(),
            kept: None,
            degraded: Some(BTreeMap::from([("no_peer".to_owned(), 3), ("late".to_owned(), 0)])),
            ..takeover.clone()
        };

        assert_eq!(
            reports_text(&[takeover, given_up]),
            "2027-01-15 08:00:00.123 UTC  epoch 42  ACTIVE: the active node fell silent\n    \
                 detected          150.0 ms  ███████████\n    \
                 majority          460.3 ms             ████████████████████████\n    \
                 gate              460.9 ms                                     ▏\n    \
                 address           461.0 ms                                     ▏\n    \
                 announced         462.0 ms                                     ▏\n    \
                 engine told       463.0 ms                                     ▏\n    \
                 first answer      480.0 ms                                     █\n    \
                 phones        412 were registered here when it took over\n    \
                 ready         99 % of the state was here, as far as it was compared  !\n\
             2027-01-15 08:00:00.123 UTC  epoch 42  standby: it gave the service up\n    \
                 degraded      answered though no other node held it: 3 no peer  !\n"
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
            Event::PeerIll,
            Event::Switchover,
            Event::Expired,
            Event::GaveUp,
            Event::HandedOver,
        ];
        let line = |event| {
            let kept = Some(crate::guardian::report::Kept { bindings: Some(7), ready: 100 });
            let degraded = Some(BTreeMap::from([("late".to_owned(), 2)]));
            let report = Report { at_ms: 1, epoch: 2, event, phases: phases.clone(), kept, degraded };
            serde_json::to_string(&report).expect("it is plain") + "\n"
        };
        std::fs::write(file.path(), events.map(line).concat()).expect("it can be written");

        let reports = last(file.path(), events.len()).expect("it can be read");

        assert_eq!(reports.len(), events.len());
        for report in reports {
            let text = event_text(&report.event);
            assert!(text.starts_with("ACTIVE: ") || text.starts_with("standby: "), "{text}");
            assert_eq!(report.kept, Some(Kept { bindings: Some(7), ready: Some(100) }));
            assert_eq!(report.degraded, Some(BTreeMap::from([("late".to_owned(), 2)])));
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

    pub(super) fn takeover() -> Report {
        Report {
            at_ms: 1_800_000_000_123,
            epoch: 42,
            event: "peer_silent".to_owned(),
            phases: vec![
                end("detected", 150.0),
                end("majority", 460.3),
                end("gate", 460.9),
                end("address", 461.0),
                end("announced", 462.0),
                end("engine_told", 463.0),
                end("first_answer", 480.0),
            ],
            ..Report::default()
        }
    }

    pub(super) fn end(phase: &str, after_ms: f64) -> PhaseEnd {
        PhaseEnd { phase: phase.to_owned(), after_ms }
    }
}
