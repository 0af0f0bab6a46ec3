//! A drill as one page for a browser.

use super::flock::ASKED_EVERY;
use super::probe::{Outcome, State};
use super::told::{report_text, summary};
use super::trial::Trial;
use crate::calendar::utc;
use crate::command::report::page as report;
use crate::page::{self, Bar, END, Row, add, escape};

/// The whole page, in the order in which it happened.
pub fn page(trials: &[Trial]) -> String {
    let at = trials.first().map_or(0, |trial| trial.at_ms);
    let head = format!(
        "By tandem drill, {}. Times are UTC; milliseconds are counted from when each fault was done. The phones asked every {} \
         ms whether somebody answers.",
        utc(at),
        ASKED_EVERY.as_millis()
    );
    let mut text = page::begin("A drill", &head);
    let is_bad = trials.iter().any(|trial| trial.lost() > 0);
    let class = if is_bad { " class=\"bad\"" } else { "" };
    add(&mut text, format_args!("<p{class}>{}</p>\n", escape(summary(trials).trim())));
    for (number, trial) in trials.iter().enumerate() {
        section(number + 1, trial, &mut text);
    }
    text.push_str(END);
    text
}

fn section(number: usize, trial: &Trial, text: &mut String) {
    let to = trial.to.as_ref().map_or_else(
        || "nobody was active afterwards".to_owned(),
        |to| format!("{} was active afterwards, epoch {}", to.node, to.epoch),
    );
    add(
        text,
        format_args!(
            "<section id=\"t{number}\">\n<h2>{number}. {}</h2>\n<p class=\"pale\">{}; {}</p>\n",
            escape(&trial.fault.title(&trial.from.node)),
            utc(trial.at_ms),
            escape(&to)
        ),
    );
    let (from, until) = span(trial);
    page::time_line(from, until, &rows(trial), text);
    states(trial, text);
    for (node, told) in &trial.reports {
        add(text, format_args!("<p>{} reports {}</p>\n", escape(node), escape(&report_text(told))));
        report::time_line(told, text);
    }
    for note in &trial.notes {
        add(text, format_args!("<p class=\"pale\">{}</p>\n", escape(note)));
    }
    text.push_str("</section>\n");
}

/// What is drawn: the questions, with the silence in their middle.
fn span(trial: &Trial) -> (f64, f64) {
    let first = trial.beats.first().map_or(0.0, |(at, _)| *at);
    let last = trial.beats.last().map_or(0.0, |(at, _)| *at);
    (first.min(0.0), last.max(trial.silence.1))
}

fn rows(trial: &Trial) -> Vec<Row> {
    let every = ASKED_EVERY.as_secs_f64() * 1_000.0;
    let beats = trial.beats.iter();
    let bars = beats.map(|(at, is_answered)| Bar {
        from: *at,
        to: at + every * 0.6,
        class: if *is_answered { "answer" } else { "lost" },
    });
    let (from, to) = trial.silence;
    let (_, until) = span(trial);
    vec![
        Row { name: "questions".to_owned(), bars: bars.collect(), told: String::new() },
        Row {
            name: "no answer".to_owned(),
            bars: vec![Bar { from, to, class: "wait" }],
            told: format!("{:.0} ms", to - from),
        },
        Row {
            name: trial.fault.to_string().split('=').next().unwrap_or_default().to_owned(),
            bars: vec![Bar {
                from: 0.0,
                to: (trial.fault.time().as_secs_f64() * 1_000.0).min(until),
                class: "lost",
            }],
            told: String::new(),
        },
    ]
}

fn states(trial: &Trial, text: &mut String) {
    text.push_str(
        "<div class=\"scroll\"><table>\n<tr><th>State</th><th class=\"n\">Kept</th><th class=\"n\">Lost</th><th>Why</th></tr>\n",
    );
    for state in State::ALL {
        let (kept, lost) = trial.count(state);
        let class = if lost > 0 { "n bad" } else { "n" };
        let reasons = trial.ends.iter().filter_map(|end| match &end.outcome {
            Outcome::Lost(why) if end.state == state => Some(format!("{}: {why}", end.name)),
            _ => None,
        });
        let reasons = reasons.map(|reason| escape(&reason)).collect::<Vec<_>>().join("<br>");
        add(
            text,
            format_args!(
                "<tr><td>{state}</td><td class=\"n\">{kept}</td><td class=\"{class}\">{lost}</td><td>{reasons}</td></tr>\n"
            ),
        );
    }
    text.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::super::told::tests::lossy;
    use super::*;

    #[test]
    fn the_page_draws_the_silence_and_lists_what_was_lost_and_nothing_of_it_comes_from_elsewhere() {
        let mut trial = lossy();
        trial.notes = vec!["<script>".to_owned()];

        let text = page(&[trial.clone(), trial]);

        assert_eq!(text.matches("<svg").count(), 4, "the questions and the report of each");
        assert!(
            text.contains(
                "<td class=\"n bad\">1</td><td>d1@example.org to d2@example.org: the callee rings on"
            )
        );
        assert!(text.contains(">60 ms</text>") && text.contains("class=\"lost\""), "{text}");
        for part in ["http://", "https://", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!text.contains(part), "{part}");
        }
    }
}
