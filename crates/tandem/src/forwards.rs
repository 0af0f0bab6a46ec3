//! Where the calls of an account are forwarded, as an operator writes and reads it.

use std::time::Duration;

use routing::{ForwardTarget, Forwards};
use sip::Aor;

use crate::config::write_duration;
use crate::control::{ForwardChange, ForwardsView};

/// Takes a target away.
const OFF: &str = "off";
/// Shorter than one ring nobody can answer; longer no caller waits.
const AFTER: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// A change that was read: applied to what is set already.
#[derive(Debug)]
pub struct Change {
    clear: bool,
    always: Target,
    busy: Target,
    no_answer: Target,
    not_registered: Target,
    after: Option<Duration>,
}

#[derive(Debug)]
enum Target {
    Stays,
    Off,
    To(ForwardTarget),
}

impl Change {
    /// Reads a change for the account `aor`.
    pub fn read(aor: &Aor, change: &ForwardChange) -> Result<Self, String> {
        let ForwardChange { clear, always, busy, no_answer, after_ms, not_registered } = change;
        let after = after_ms.map(Duration::from_millis);
        if after.is_some_and(|after| !AFTER.contains(&after)) {
            return Err(format!(
                "phones ring from {} to {} before a call is forwarded",
                write_duration(*AFTER.start()),
                write_duration(*AFTER.end())
            ));
        }
        Ok(Self {
            clear: *clear,
            always: Target::read(aor, always.as_deref())?,
            busy: Target::read(aor, busy.as_deref())?,
            no_answer: Target::read(aor, no_answer.as_deref())?,
            not_registered: Target::read(aor, not_registered.as_deref())?,
            after,
        })
    }

    /// Changes what is set.
    pub fn apply(self, forwards: &mut Forwards) {
        if self.clear {
            *forwards = Forwards::default();
        }
        self.always.apply(&mut forwards.always);
        self.busy.apply(&mut forwards.busy);
        self.no_answer.apply(&mut forwards.no_answer);
        self.not_registered.apply(&mut forwards.not_registered);
        if self.after.is_some() {
            forwards.no_answer_after = self.after;
        }
        if forwards.no_answer.is_none() {
            forwards.no_answer_after = None;
        }
    }
}

impl Target {
    fn read(aor: &Aor, text: Option<&str>) -> Result<Self, String> {
        match text {
            None => Ok(Self::Stays),
            Some(OFF) => Ok(Self::Off),
            Some(text) => {
                let target = ForwardTarget::parse(text, aor.domain()).ok_or_else(|| {
                    format!(
                        "`{text}` is nowhere to forward to: write sip:USER@HOST, tel:NUMBER, or a user or number of \
                         {}",
                        aor.domain()
                    )
                })?;
                if target.aor().as_ref() == Some(aor) {
                    return Err(format!("{aor} can not forward its calls to itself"));
                }
                Ok(Self::To(target))
            }
        }
    }

    fn apply(self, target: &mut Option<ForwardTarget>) {
        match self {
            Self::Stays => {}
            Self::Off => *target = None,
            Self::To(new) => *target = Some(new),
        }
    }
}

/// What is set, as it is shown.
pub fn view(forwards: &Forwards) -> ForwardsView {
    let text = |target: &Option<ForwardTarget>| target.as_ref().map(ToString::to_string);
    ForwardsView {
        always: text(&forwards.always),
        busy: text(&forwards.busy),
        no_answer: text(&forwards.no_answer),
        after_ms: forwards.no_answer_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        not_registered: text(&forwards.not_registered),
    }
}

/// What is set, each with its condition.
pub fn lines(view: &ForwardsView) -> Vec<String> {
    let no_answer = match view.after_ms {
        Some(after) => format!("no answer after {}", write_duration(Duration::from_millis(after))),
        None => "no answer".to_owned(),
    };
    [
        ("always", &view.always),
        ("busy", &view.busy),
        (no_answer.as_str(), &view.no_answer),
        ("not registered", &view.not_registered),
    ]
    .into_iter()
    .filter_map(|(condition, target)| Some(format!("{condition}: {}", target.as_ref()?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_and_off_takes_away() {
        let mut forwards = Forwards::default();
        let change = ForwardChange {
            busy: Some("*98".into()),
            no_answer: Some("tel:+4930123".into()),
            after_ms: Some(20_000),
            ..ForwardChange::default()
        };

        change_by(&mut forwards, &change).unwrap();
        assert_eq!(
            lines(&view(&forwards)),
            ["busy: sip:*98@example.org", "no answer after 20s: tel:+4930123"]
        );
        let off = ForwardChange { no_answer: Some("off".into()), ..ForwardChange::default() };
        change_by(&mut forwards, &off).unwrap();
        assert_eq!(lines(&view(&forwards)), ["busy: sip:*98@example.org"]);
        assert_eq!(forwards.no_answer_after, None);
        let clear = ForwardChange { clear: true, always: Some("bob@example.org".into()), ..off };
        change_by(&mut forwards, &clear).unwrap();
        assert_eq!(lines(&view(&forwards)), ["always: sip:bob@example.org"]);
    }

    #[test]
    fn what_leads_nowhere_or_to_itself_or_rings_for_ever_is_refused() {
        let to = |text: &str| ForwardChange { busy: Some(text.into()), ..ForwardChange::default() };
        let rings = |after_ms| ForwardChange { after_ms: Some(after_ms), ..ForwardChange::default() };

        for change in [to("two words"), to("alice@example.org"), to("sips:x@y"), rings(999), rings(600_001)] {
            assert!(change_by(&mut Forwards::default(), &change).is_err(), "{change:?}");
        }
    }

    fn change_by(forwards: &mut Forwards, change: &ForwardChange) -> Result<(), String> {
        let alice = Aor::parse("alice@example.org").unwrap();
        Change::read(&alice, change)?.apply(forwards);
        Ok(())
    }
}
