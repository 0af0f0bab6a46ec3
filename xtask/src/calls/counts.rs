//! What one SIPp has counted: the last line of its statistics.

/// The names of what SIPp counts as a failed call, and what it means.
const FAILURES: &str = "Failed";

/// Its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that it began, or that came to it.
    pub created: u64,
    /// Calls that went to their end as scripted.
    pub succeeded: u64,
    /// Messages that it sent once more because nobody answered.
    pub sent_again: u64,
    /// Why calls failed, with how many.
    pub failures: Vec<String>,
}

impl Counts {
    /// Reads the file; nothing while it has no line.
    pub fn read(text: &str) -> Option<Counts> {
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next()?.split(';').collect();
        // One that is just being written is passed over.
        let values = lines.rev().map(|line| line.split(';').collect::<Vec<_>>());
        let values = values.into_iter().find(|values| values.len() == names.len())?;
        let all = || names.iter().zip(&values);
        let of = |name: &str| all().find(|(it, _)| **it == name)?.1.parse::<u64>().ok();
        let failures = all().filter(|(name, value)| {
            name.starts_with(FAILURES) && name.ends_with("(C)") && value.parse::<u64>().is_ok_and(|it| it > 0)
        });
        Some(Counts {
            created: of("TotalCallCreated")?,
            succeeded: of("SuccessfulCall(C)")?,
            sent_again: of("Retransmissions(C)")?,
            failures: failures.map(|(name, value)| format!("{name} {value}")).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() {
        let head = "StartTime;TotalCallCreated;SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);Retransmissions(C);";
        let text = format!("{head}\n0;1;1;1;0;0;\n1;9;2;7;2;3;\n2;20;");

        let counts = Counts::read(&text).expect("a line");

        let failures = vec!["FailedCall(C) 2".to_owned()];
        assert_eq!(counts, Counts { created: 9, succeeded: 7, sent_again: 3, failures });
        assert_eq!(Counts::read(head), None);
    }
}
