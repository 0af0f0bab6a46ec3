//! What a takeover was like: told by the new node's own report and by the phones.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use super::ink::{Ink, Line, folded};
use crate::guardian::keeper::REPORTS;
use crate::guardian::report::{Event, Phase, Report};
use crate::phones::caller::Standing;
use crate::state_directory::StateDirectory;

/// Columns of what is said.
const COLUMNS: usize = 76;

/// A takeover, when it is over.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The node that was active.
    pub from: String,
    /// The node that is: the same, if it was well again before the other one had the votes.
    pub to: String,
    /// Under which epoch.
    pub epoch: u64,
    /// What its guardian wrote about it.
    pub report: Option<Report>,
    /// The longest time for which a phone was not answered.
    pub silence: Duration,
    /// REGISTERs that phones sent since.
    pub registers: u32,
    /// The phone whose call was up before, and what became of it.
    pub held: (String, Standing),
    /// The calls made after it.
    pub calls: Vec<(String, Standing)>,
}

impl Takeover {
    /// Whether no phone had to do anything for it, and each call came through.
    pub fn is_harmless(&self) -> bool {
        let all = self.calls.iter().chain([&self.held]);
        self.registers == 0 && all.into_iter().all(|(_, standing)| matches!(standing, Standing::Ended(_)))
    }

    /// It in words.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let is_same = self.from == self.to;
        let again = if is_same { " again" } else { "" };
        let head = format!("{} is active{again}, epoch {}", self.to, self.epoch);
        let told = match &self.report {
            None => format!("{head}; its report is not written yet"),
            Some(report) => {
                let kept = report.kept.and_then(|kept| kept.bindings);
                let kept = kept.map_or_else(String::new, |count| format!("; it held {count} registrations"));
                // Who comes back to itself has nothing to say of the other one.
                let why = if is_same {
                    "it was back before the other one had the votes"
                } else {
                    why(report.event)
                };
                format!("{head}: {why}; {}{kept}", phases(report))
            }
        };
        push(&mut lines, Ink::Good, &told);
        let silence =
            format!("longest silence for a phone: {} ms; REGISTERs since: ", self.silence.as_millis());
        match self.registers {
            0 => push(&mut lines, Ink::Good, &format!("{silence}none")),
            count => push(&mut lines, Ink::Bad, &format!("{silence}{count}")),
        }
        let (held, standing) = &self.held;
        let call = match standing {
            Standing::Failed(reason) => format!("the call with {held} did not end well ({reason})"),
            _ => format!("the call with {held} went on"),
        };
        let lost: Vec<&str> = unreached(&self.calls).collect();
        let reached = self.calls.len() - lost.len();
        let ink = match (standing, lost.len()) {
            (Standing::Failed(_), _) | (_, 1..) => Ink::Bad,
            _ => Ink::Good,
        };
        push(&mut lines, ink, &format!("{call}; calls since: {reached} of {} reached", self.calls.len()));
        if !lost.is_empty() {
            let each = self.calls.iter().filter_map(|(name, standing)| told_of(name, standing));
            push(&mut lines, Ink::Bad, &format!("not reached: {}", each.collect::<Vec<_>>().join(", ")));
        }
        lines
    }
}

/// The phones that were not reached.
pub fn unreached(calls: &[(String, Standing)]) -> impl Iterator<Item = &str> {
    let failed = calls.iter().filter(|(_, standing)| !matches!(standing, Standing::Ended(_)));
    failed.map(|(name, _)| name.as_str())
}

/// What the guardian of a node wrote about its taking over with this epoch.
pub fn report_of(state: &StateDirectory, epoch: u64) -> Option<Report> {
    let file = File::open(state.guardian().join(REPORTS)).ok()?;
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let reports = lines.filter_map(|line| serde_json::from_str::<Report>(&line).ok());
    reports.filter(|report| report.epoch == epoch && !report.phases.is_empty()).last()
}

/// Indented lines of a text.
pub fn push(lines: &mut Vec<Line>, ink: Ink, text: &str) {
    lines.extend(folded(text, COLUMNS).into_iter().map(|line| Line::of(ink, format!("   {line}"))));
}

fn why(event: Event) -> &'static str {
    match event {
        Event::Started => "nobody was",
        Event::PeerSilent => "the other one fell silent",
        Event::PeerReleased => "the other one gave up",
        Event::PeerIll => "the other one was less well",
        Event::Switchover => "as planned",
        Event::Expired | Event::GaveUp | Event::HandedOver => "and not any more",
    }
}

fn phases(report: &Report) -> String {
    let named = report.phases.iter().filter_map(|end| {
        let name = match end.phase {
            Phase::Detected => "seen",
            Phase::Majority => "votes",
            Phase::Address => "address",
            Phase::Announced => "announced",
            Phase::FirstAnswer => "first answer",
            Phase::Gate | Phase::EngineTold => return None,
        };
        Some(format!("{name} {:.0}", end.after_ms))
    });
    format!("{} ms", named.collect::<Vec<_>>().join(", "))
}

fn told_of(name: &str, standing: &Standing) -> Option<String> {
    match standing {
        Standing::Ended(_) => None,
        Standing::Failed(reason) => Some(format!("{name} ({reason})")),
        Standing::Cancelled => Some(format!("{name} (it was cancelled)")),
        Standing::Up(_) | Standing::Calling | Standing::Ringing | Standing::Cancelling => {
            Some(format!("{name} (it is not over)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::report::{Kept, PhaseEnd};

    #[test]
    fn a_takeover_that_cost_nothing_is_told() {
        let takeover = takeover();

        assert!(takeover.is_harmless());
        assert_eq!(
            text(&takeover),
            "   b is active, epoch 3: the other one fell silent; seen 150, votes 461, first\n   \
                answer 470 ms; it held 4 registrations\n   \
                longest silence for a phone: 512 ms; REGISTERs since: none\n   \
                the call with anna went on; calls since: 1 of 1 reached"
        );
    }

    #[test]
    fn a_node_that_was_back_first_is_not_said_to_have_missed_the_other_one() {
        let mut takeover = takeover();
        takeover.from = takeover.to.clone();

        let text = text(&takeover);

        assert!(
            text.starts_with("   b is active again, epoch 3: it was back before the other one"),
            "{text}"
        );
        assert!(!text.contains("silent;"), "{text}");
    }

    #[test]
    fn what_was_lost_is_told() {
        let mut takeover = takeover();
        takeover.registers = 2;
        takeover.calls.push(("cleo".to_owned(), Standing::Failed("480".to_owned())));

        let text = text(&takeover);

        assert!(!takeover.is_harmless());
        assert_eq!(unreached(&takeover.calls).collect::<Vec<_>>(), ["cleo"]);
        assert!(text.contains("REGISTERs since: 2\n"), "{text}");
        assert!(text.ends_with("1 of 2 reached\n   not reached: cleo (480)"), "{text}");
    }

    #[test]
    fn the_report_of_an_epoch_is_found() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let state = StateDirectory::at(place.path());
        assert!(report_of(&state, 3).is_none());
        std::fs::create_dir_all(state.guardian()).expect("it can be made");
        let report = takeover().report.expect("it has one");
        let line = serde_json::to_string(&report).expect("it has a form");
        let end = Report { event: Event::Expired, phases: Vec::new(), kept: None, ..report.clone() };
        let end = serde_json::to_string(&end).expect("it has a form");
        std::fs::write(state.guardian().join(REPORTS), format!("{line}\n{end}\ntorn")).expect("room");

        assert_eq!(report_of(&state, 3), Some(report));
        assert_eq!(report_of(&state, 4), None);
    }

    fn takeover() -> Takeover {
        let end = |phase, after_ms| PhaseEnd { phase, after_ms };
        let report = Report {
            at_ms: 1,
            epoch: 3,
            event: Event::PeerSilent,
            phases: vec![
                end(Phase::Detected, 150.2),
                end(Phase::Majority, 460.6),
                end(Phase::Gate, 461.0),
                end(Phase::FirstAnswer, 470.0),
            ],
            kept: Some(Kept { bindings: Some(4), ready: 100 }),
            degraded: None,
        };
        let ended = Standing::Ended(Duration::from_millis(420));
        Takeover {
            from: "a".to_owned(),
            to: "b".to_owned(),
            epoch: 3,
            report: Some(report),
            silence: Duration::from_millis(512),
            registers: 0,
            held: ("anna".to_owned(), ended.clone()),
            calls: vec![("ben".to_owned(), ended)],
        }
    }

    fn text(takeover: &Takeover) -> String {
        takeover.lines().iter().map(Line::text).collect::<Vec<_>>().join("\n")
    }
}
