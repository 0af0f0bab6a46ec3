//! A drill in words.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::fault::Fault;
use super::flock::ASKED_EVERY;
use super::probe::{Outcome, State};
use super::reach::Reach;
use super::trial::Trial;
use super::words::Hello;
use crate::command::report::{Report, event_text, phase_text};

/// Who takes part.
pub fn stage(hellos: &[&Hello], server: SocketAddr, local: IpAddr) -> String {
    let nodes: Vec<&str> = hellos.iter().map(|hello| hello.node.as_str()).collect();
    format!("The phones speak from {local} to {server}; hands are on {}.\n", nodes.join(" and "))
}

/// What will be done.
pub fn plan(faults: &[Fault], active: &str, hands: &[Reach]) -> String {
    let mut text =
        format!("{active} is active, the other node could take over, the phones are registered.\n\n");
    for (number, fault) in faults.iter().enumerate() {
        let title = fault.title("the node that is active then");
        let _ = writeln!(text, "  {}. {fault}: {title}\n     ({})", number + 1, fault.remedy());
    }
    if faults.contains(&Fault::KillNode) {
        for hand in hands {
            if let Ok(restart) = &hand.hello.restart {
                let _ = writeln!(text, "  {} is started again by {restart}.", hand.hello.node);
            }
        }
    }
    text.push_str(
        "\nThis is the pair that serves: what breaks for these phones breaks for all others too.\n",
    );
    text
}

/// What one fault was like.
pub fn trial(number: usize, trial: &Trial) -> String {
    let mut text = format!("{number}. {}\n", trial.fault.title(&trial.from.node));
    let _ = match &trial.to {
        Some(to) if to.epoch > trial.from.epoch && to.node == trial.from.node => {
            writeln!(text, "   {} is active again, epoch {}", to.node, to.epoch)
        }
        Some(to) if to.epoch > trial.from.epoch => {
            writeln!(text, "   {} is active, epoch {}", to.node, to.epoch)
        }
        Some(to) => writeln!(text, "   {} stayed active, epoch {}", to.node, to.epoch),
        None => Ok(()),
    };
    for state in State::ALL {
        let (kept, lost) = trial.count(state);
        let mark = if lost > 0 { "  !" } else { "" };
        let _ = writeln!(text, "   {state:<16} {kept:>3} kept {lost:>3} lost{mark}");
    }
    for (name, why) in trial.ends.iter().filter_map(|end| match &end.outcome {
        Outcome::Lost(why) => Some((format!("{}, {}", end.state, end.name), why)),
        Outcome::Kept => None,
    }) {
        let _ = writeln!(text, "   lost: {name}: {why}");
    }
    let (from, to) = trial.silence;
    let missed = trial.beats.iter().filter(|(_, is_answered)| !is_answered).count();
    let _ = writeln!(
        text,
        "   no answer for    {:.0} ms at the longest (asked every {} ms; {missed} of {} questions around it were not answered)",
        to - from,
        ASKED_EVERY.as_millis(),
        trial.beats.len(),
    );
    for (node, report) in &trial.reports {
        let _ = writeln!(text, "   {node} reports      {}", report_text(report));
    }
    if let Some(whole) = trial.whole_ms {
        let _ = writeln!(text, "   whole again      after {:.1} s", whole / 1_000.0);
    }
    for note in &trial.notes {
        let _ = writeln!(text, "   note: {note}");
    }
    clean(&text)
}

/// All of it in a line.
pub fn summary(trials: &[Trial]) -> String {
    let all: usize = trials.iter().map(|trial| trial.ends.len()).sum();
    let lost: usize = trials.iter().map(Trial::lost).sum();
    let faults = if trials.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", trials.len()) };
    if lost == 0 {
        return format!("\nNothing was lost by {faults}: {all} of {all} kept.\n");
    }
    let each = State::ALL.into_iter().filter_map(|state| {
        let lost: usize = trials.iter().map(|trial| trial.count(state).1).sum();
        (lost > 0).then(|| format!("{lost} {state}"))
    });
    format!("\n{lost} of {all} were lost by {faults}: {}.\n", each.collect::<Vec<_>>().join(", "))
}

/// What a guardian has written, in a line.
pub fn report_text(report: &Report) -> String {
    let phases = report.phases.iter().map(|end| format!("{} {:.1}", phase_text(&end.phase), end.after_ms));
    let mut text = format!("{}: {} ms", event_text(&report.event), phases.collect::<Vec<_>>().join(", "));
    for fact in report.facts() {
        let _ = write!(text, "; {}", fact.text);
    }
    text
}

/// What others call themselves must not reach the terminal as it is.
fn clean(text: &str) -> String {
    let letter = |letter: char| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter };
    text.chars().map(letter).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::drill::session::Active;
    use crate::drill::trial::End;

    #[test]
    fn what_was_kept_and_lost_is_told_by_state_with_the_reasons() {
        let text = super::trial(2, &lossy());

        for line in [
            "2. kill -9 of the engine of a",
            "   b is active, epoch 4",
            "   registered         1 kept   0 lost\n",
            "   ringing            0 kept   1 lost  !\n",
            "   lost: ringing, d1@example.org to d2@example.org: the callee rings on",
            "   no answer for    60 ms at the longest (asked every 40 ms; 1 of 3 questions",
            "   b reports      ACTIVE: the active node gave the service up: first answer 15.0 ms",
            "   whole again      after 0.9 s",
            "   note: odd \u{fffd}[31m",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(summary(&[lossy()]), "\n1 of 2 were lost by 1 fault: 1 ringing.\n");
    }

    #[test]
    fn nothing_is_lost_if_all_was_kept() {
        let mut kept = lossy();
        kept.ends.retain(|end| end.outcome == Outcome::Kept);

        assert_eq!(summary(&[kept.clone(), kept]), "\nNothing was lost by 2 faults: 2 of 2 kept.\n");
    }

    /// A fault that a ringing call did not outlive.
    pub fn lossy() -> Trial {
        let report = "{\"at_ms\":1,\"epoch\":4,\"event\":\"peer_released\",\"phases\":[{\"phase\":\"first_answer\",\"after_ms\":15.0}]}";
        let end = |state, name: &str, outcome| End { state, name: name.to_owned(), outcome };
        let lost = Outcome::Lost("the callee rings on".to_owned());
        Trial {
            fault: Fault::KillEngine,
            at_ms: 1_800_000_000_123,
            from: Active { node: "a".to_owned(), epoch: 3 },
            to: Some(Active { node: "b".to_owned(), epoch: 4 }),
            ends: vec![
                end(State::Registered, "d1@example.org", Outcome::Kept),
                end(State::Ringing, "d1@example.org to d2@example.org", lost),
            ],
            beats: vec![(-20.0, true), (20.0, false), (60.0, true)],
            silence: (-19.0, 41.0),
            whole_ms: Some(900.0),
            reports: vec![("b".to_owned(), serde_json::from_str(report).expect("it is one"))],
            notes: vec!["odd \u{1b}[31m".to_owned()],
        }
    }
}
