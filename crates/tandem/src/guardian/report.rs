//! What happened: a line for each time that this node took the service over, or was active no more.
//!
//! A takeover is told in the times of its phases, in milliseconds after the active node was last heard, or after the
//! hand-over was asked for. They are all of this host's `CLOCK_BOOTTIME`. With it is told what this node had of the other
//! one's state; and with the end of a tenure, what was answered in it that no other node held.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::{Instant, Now};
use cluster::guardian::Reason;
use cluster::{Cause, Epoch};
use serde::{Deserialize, Serialize};

/// How long is waited for the first answer to a phone before the report is written without it.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long after the first answer the address is waited for: a message may leave before the kernel has said that it is there.
const REST_MAX: Duration = Duration::from_millis(500);

/// A hand-over that was asked for longer ago is another one.
const HANDOVER_MAX: Duration = Duration::from_secs(5);

/// One line of the reports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Under which epoch.
    pub epoch: u64,
    /// What, and why.
    pub event: Event,
    /// When each phase was over. Empty when the service was given away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseEnd>,
    /// What was here. Absent when the service was given away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// By cause, how often in this tenure something was answered that no other node held. When the service was taken over:
    /// until the report was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<BTreeMap<String, u64>>,
}

/// What a node had when it took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Registrations, as its engine said at the most a tenth of a second before; absent: it has said nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindings: Option<u64>,
    /// How much of the active node's state that was, as far as it was compared: 0 to 100.
    pub ready: u8,
}

/// What happened to the service on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It became active: nobody was, when it started.
    Started,
    /// It became active: the node that was is silent.
    PeerSilent,
    /// It became active: the node that was has released the service.
    PeerReleased,
    /// It became active: the node that was is less well, and asked to be relieved.
    PeerIll,
    /// It became active, as planned.
    Switchover,
    /// It is active no more: no majority answered in time.
    Expired,
    /// It is active no more: it gave the service up.
    GaveUp,
    /// It is active no more: it handed the service over.
    HandedOver,
}

/// A phase that is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// Which.
    pub phase: Phase,
    /// How long after the beginning, in milliseconds.
    pub after_ms: f64,
}

/// The phases of a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It was seen that nobody is active.
    Detected,
    /// A majority had voted.
    Majority,
    /// The gate was open.
    Gate,
    /// The addresses were there.
    Address,
    /// They were announced for the first time.
    Announced,
    /// The engine was told.
    EngineTold,
    /// The first message has left by a virtual address.
    FirstAnswer,
}

/// Puts reports together while things happen.
#[derive(Debug, Default)]
pub struct Reporter {
    /// Nobody has been active since, and when that was seen.
    missed: Option<Began>,
    /// When a hand-over was last asked for.
    asked: Option<Instant>,
    open: Option<Open>,
    /// What was degraded since this node became active.
    degraded: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    at: Instant,
    detected: Instant,
}

#[derive(Debug)]
struct Open {
    began: Instant,
    active: Instant,
    /// When the first message had left.
    answered: Option<Instant>,
    report: Report,
}

impl Reporter {
    /// Nobody is active; `since`: when another node was last heard.
    pub fn nobody_active(&mut self, now: Instant, since: Instant) {
        self.missed.get_or_insert(Began { at: since.min(now), detected: now });
    }

    /// Somebody is active.
    pub fn somebody_active(&mut self) {
        self.missed = None;
    }

    /// The active node is asked to hand over.
    pub fn asks_handover(&mut self, now: Instant) {
        let is_new = self.asked.is_none_or(|asked| now.since(asked) >= HANDOVER_MAX);
        if is_new {
            self.asked = Some(now);
        }
    }

    /// This node is active.
    pub fn became_active(&mut self, now: Now, epoch: Epoch, reason: Reason, kept: Kept) {
        self.degraded.clear();
        let asked = self.asked.take().map(|at| Began { at, detected: at });
        let began = match reason {
            Reason::PeerIll | Reason::Switchover => asked,
            Reason::Start | Reason::PeerSilent | Reason::PeerReleased => self.missed.take(),
        };
        let began = began.unwrap_or(Began { at: now.instant, detected: now.instant });
        let event = match reason {
            Reason::Start => Event::Started,
            Reason::PeerSilent => Event::PeerSilent,
            Reason::PeerReleased => Event::PeerReleased,
            Reason::PeerIll => Event::PeerIll,
            Reason::Switchover => Event::Switchover,
        };
        let report = Report {
            at_ms: now.wall.as_millis(),
            epoch: epoch.0,
            event,
            phases: Vec::new(),
            kept: Some(kept),
            degraded: None,
        };
        self.open = Some(Open { began: began.at, active: now.instant, answered: None, report });
        self.ended(began.detected, Phase::Detected);
        self.ended(now.instant, Phase::Majority);
    }

    /// The engine has answered something that no other node held, so many times.
    pub fn degraded(&mut self, cause: &str, times: u64) {
        *self.degraded.entry(cause.to_owned()).or_default() += times;
    }

    /// A phase is over. Only the first time counts.
    pub fn ended(&mut self, at: Instant, phase: Phase) {
        let Some(Open { began, answered, report, .. }) = &mut self.open else { return };
        if report.phases.iter().any(|end| end.phase == phase) {
            return;
        }
        if phase == Phase::FirstAnswer {
            *answered = Some(at);
        }
        let after = at.since(*began);
        report.phases.push(PhaseEnd { phase, after_ms: after.as_micros() as f64 / 1_000.0 });
    }

    /// It is active no more. A report that was not whole is given as it is, before the one of the end.
    pub fn became_standby(&mut self, now: Now, epoch: Epoch, cause: Cause) -> Vec<Report> {
        let event = match cause {
            Cause::Expired => Event::Expired,
            Cause::GivenUp => Event::GaveUp,
            Cause::HandedOver => Event::HandedOver,
        };
        let end = Report {
            at_ms: now.wall.as_millis(),
            epoch: epoch.0,
            event,
            phases: Vec::new(),
            kept: None,
            degraded: Some(self.degraded.clone()),
        };
        self.close().into_iter().chain([end]).collect()
    }

    /// The report, when it is whole or has waited long enough.
    pub fn finished(&mut self, now: Instant) -> Option<Report> {
        if self.poll_timeout()? <= now { self.close() } else { None }
    }

    fn close(&mut self) -> Option<Report> {
        let Open { mut report, .. } = self.open.take()?;
        report.phases.sort_by(|one, other| one.after_ms.total_cmp(&other.after_ms));
        report.degraded = Some(self.degraded.clone());
        Some(report)
    }

    /// When [`Self::finished`] is to be asked.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| {
            let Some(answered) = open.answered else { return open.active + ANSWER_MAX };
            // In a planned hand-over the addresses are there before it begins.
            let is_planned = matches!(open.report.event, Event::Switchover | Event::PeerIll);
            let has_address = open.report.phases.iter().any(|end| end.phase == Phase::Address);
            if is_planned || has_address { answered } else { answered + REST_MAX }
        })
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Detected => "detected",
            Self::Majority => "majority",
            Self::Gate => "gate",
            Self::Address => "address",
            Self::Announced => "announced",
            Self::EngineTold => "engine told",
            Self::FirstAnswer => "first answer",
        })
    }
}

impl Report {
    /// The phases in one line.
    pub fn phases_text(&self) -> String {
        let phases = self.phases.iter().map(|end| format!("{} {:.1}", end.phase, end.after_ms));
        phases.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use clock::WallTime;

    use super::*;

    #[test]
    fn a_takeover_is_told_in_times_after_the_active_node_was_last_heard() {
        let mut reporter = Reporter::default();
        reporter.nobody_active(at(1_150).instant, at(1_000).instant);
        reporter.nobody_active(at(1_300).instant, at(1_000).instant);
        let kept = Kept { bindings: Some(412), ready: 99 };
        reporter.degraded("late", 7);
        reporter.became_active(at(1_460), Epoch(3), Reason::PeerSilent, kept);
        reporter.degraded("no_peer", 2);
        for (ms, phase) in [(1_461, Phase::Gate), (1_462, Phase::Address), (1_470, Phase::FirstAnswer)] {
            reporter.ended(at(ms).instant, phase);
        }
        reporter.ended(at(9_000).instant, Phase::Address);

        let report = reporter.finished(at(1_470).instant).expect("the first answer ends it");

        assert_eq!(
            report.phases_text(),
            "detected 150.0, majority 460.0, gate 461.0, address 462.0, first answer 470.0"
        );
        assert_eq!((report.event, report.epoch), (Event::PeerSilent, 3));
        assert_eq!(report.kept, Some(kept));
        assert_eq!(report.degraded, Some(BTreeMap::from([("no_peer".to_owned(), 2)])));
        assert_eq!(reporter.finished(at(99_000).instant), None);
    }

    #[test]
    fn an_address_that_is_confirmed_after_the_first_answer_is_told_and_not_waited_for_for_long() {
        let mut reporter = Reporter::default();
        reporter.became_active(at(1_000), Epoch(3), Reason::PeerSilent, Kept::default());
        reporter.ended(at(1_002).instant, Phase::FirstAnswer);
        assert_eq!(reporter.finished(at(1_002).instant), None);
        let due = reporter.poll_timeout().expect("it waits");
        assert_eq!(due, at(1_002).instant + REST_MAX);

        reporter.ended(at(1_003).instant, Phase::Address);

        let report = reporter.finished(at(1_003).instant).expect("it is whole");
        assert_eq!(report.phases_text(), "detected 0.0, majority 0.0, first answer 2.0, address 3.0");
        reporter.became_active(at(2_000), Epoch(4), Reason::PeerSilent, Kept::default());
        reporter.ended(at(2_002).instant, Phase::FirstAnswer);
        assert!(reporter.finished(at(2_002).instant + REST_MAX).is_some(), "others may hold the address");
    }

    #[test]
    fn a_switchover_is_told_in_times_after_it_was_asked_for() {
        let mut reporter = Reporter::default();
        reporter.asks_handover(at(1_000).instant);
        reporter.asks_handover(at(1_020).instant);
        reporter.nobody_active(at(1_025).instant, at(1_015).instant);
        reporter.became_active(at(1_030), Epoch(3), Reason::Switchover, Kept::default());

        let reports = reporter.became_standby(at(2_000), Epoch(3), Cause::HandedOver);

        assert_eq!(reports[0].phases_text(), "detected 0.0, majority 30.0");
    }

    #[test]
    fn a_takeover_that_no_phone_has_seen_is_told_too() {
        let mut reporter = Reporter::default();
        reporter.became_active(at(1_000), Epoch(1), Reason::Start, Kept::default());

        assert_eq!(reporter.finished(at(1_001).instant), None);
        let due = reporter.poll_timeout().expect("it waits");
        assert!(reporter.finished(due).is_some());
    }

    #[test]
    fn a_tenure_that_ends_early_is_told_before_its_end() {
        let mut reporter = Reporter::default();
        reporter.became_active(at(1_000), Epoch(1), Reason::Start, Kept::default());

        reporter.degraded("late", 1);
        reporter.degraded("late", 2);

        let reports = reporter.became_standby(at(1_100), Epoch(1), Cause::Expired);

        let events: Vec<Event> = reports.iter().map(|report| report.event).collect();
        assert_eq!(events, [Event::Started, Event::Expired]);
        assert_eq!(reports[1].degraded, Some(BTreeMap::from([("late".to_owned(), 3)])));
        assert_eq!(reports[1].kept, None);
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let mut reporter = Reporter::default();
        reporter.became_active(at(1_000), Epoch(1), Reason::Start, Kept::default());
        let report = reporter.became_standby(at(1_100), Epoch(1), Cause::GivenUp).remove(0);

        let line = serde_json::to_string(&report).expect("it has a form");

        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Report>(&line).ok(), Some(report));
    }

    fn at(ms: u64) -> Now {
        Now::new(Instant::from_nanos(ms * 1_000_000), WallTime::from_millis(ms))
    }
}
