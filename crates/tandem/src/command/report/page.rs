//! The takeovers of a node as one page for a browser.

use super::{Report, event_text, phase_text};
use crate::calendar::utc;
use crate::page::{self, Bar, END, Row, add, bounded, escape};

/// Takeovers on one page; what is more makes a page that no browser shows at once.
pub const TAKEOVERS_MAX: usize = 1_000;

/// The whole page, the latest takeover first. `node` is whose they are.
pub fn page(node: &str, made_at_ms: u64, reports: &[Report]) -> String {
    let mut text = page::begin(
        &format!("Takeovers of {node}"),
        &format!(
            "By tandem report, {}. Times are UTC; milliseconds are counted from when the active node was last heard, or \
             from when the hand-over was asked for.",
            utc(made_at_ms)
        ),
    );
    if reports.is_empty() {
        text.push_str("<p>This node has neither taken the service over nor given it up yet.</p>\n");
    } else {
        overview(reports, &mut text);
    }
    for (number, report) in reports.iter().enumerate().rev() {
        section(number, report, &mut text);
    }
    text.push_str(END);
    text
}

fn overview(reports: &[Report], text: &mut String) {
    text.push_str(
        "<div class=\"scroll\"><table>\n<tr><th>When</th><th class=\"n\">Epoch</th><th>What, and why</th>\
         <th class=\"n\">Detected</th><th class=\"n\">Announced</th><th class=\"n\">First answer</th></tr>\n",
    );
    for (number, report) in reports.iter().enumerate().rev() {
        let after = |phase: &str| {
            let end = report.phases.iter().find(|end| end.phase == phase);
            end.map_or_else(|| "–".to_owned(), |end| format!("{} ms", bounded(end.after_ms)))
        };
        add(
            text,
            format_args!(
                "<tr><td><a href=\"#t{number}\">{}</a></td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                utc(report.at_ms),
                report.epoch,
                escape(&event_text(&report.event)),
                after("detected"),
                after("announced"),
                after("first_answer"),
            ),
        );
    }
    text.push_str("</table></div>\n");
}

fn section(number: usize, report: &Report, text: &mut String) {
    add(
        text,
        format_args!(
            "<section id=\"t{number}\">\n<h2>{}</h2>\n<p class=\"pale\">{}, epoch {}</p>\n",
            escape(&event_text(&report.event)),
            utc(report.at_ms),
            report.epoch
        ),
    );
    if !report.phases.is_empty() {
        time_line(report, text);
        phases(report, text);
    }
    facts(report, text);
    text.push_str("</section>\n");
}

/// The phases one below the other, each from the end of the one before to its own.
pub fn time_line(report: &Report, text: &mut String) {
    let mut before = 0.0;
    let rows: Vec<Row> = in_order(report)
        .into_iter()
        .map(|(name, after)| {
            let bar = Bar { from: before, to: after, class: colour(&name) };
            before = after;
            Row { name, bars: vec![bar], told: format!("{after:.1}") }
        })
        .collect();
    page::time_line(0.0, before, &rows, text);
}

fn phases(report: &Report, text: &mut String) {
    text.push_str(
        "<div class=\"scroll\"><table>\n<tr><th>Phase</th><th class=\"n\">Over after</th><th class=\"n\">It took</th></tr>\n",
    );
    let mut before = 0.0;
    for (name, after) in in_order(report) {
        add(
            text,
            format_args!(
                "<tr><td>{}</td><td class=\"n\">{after:.1} ms</td><td class=\"n\">{:.1} ms</td></tr>\n",
                escape(&name),
                after - before
            ),
        );
        before = after;
    }
    text.push_str("</table></div>\n");
}

/// What was kept and what was not.
pub fn facts(report: &Report, text: &mut String) {
    let facts = report.facts();
    if facts.is_empty() {
        return;
    }
    text.push_str("<dl>\n");
    for fact in facts {
        let class = if fact.is_bad { " class=\"bad\"" } else { "" };
        add(text, format_args!("<dt>{}</dt><dd{class}>{}</dd>\n", escape(fact.name), escape(&fact.text)));
    }
    text.push_str("</dl>\n");
}

/// Names and ends of the phases in the order of time.
fn in_order(report: &Report) -> Vec<(String, f64)> {
    let mut phases: Vec<(String, f64)> =
        report.phases.iter().map(|end| (phase_text(&end.phase), bounded(end.after_ms).max(0.0))).collect();
    phases.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    phases
}

fn colour(phase: &str) -> &'static str {
    match phase {
        "detected" | "majority" => "wait",
        "first answer" => "answer",
        _ => "move",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{end, takeover};
    use super::*;
    use crate::page::{BAR_MIN, LEFT, RIGHT, WIDTH};

    #[test]
    fn each_phase_is_drawn_and_listed_in_the_order_of_time() {
        let mut shuffled = takeover();
        shuffled.phases.reverse();

        let text = page("a", 0, &[shuffled]);

        let mut place = text.find("<svg").expect("it is drawn");
        for phase in ["detected", "majority", "gate", "address", "announced", "engine told", "first answer"] {
            let found = text[place..].find(&format!(">{phase}</text>"));
            place += found.unwrap_or_else(|| panic!("{phase} is not drawn behind the one before: {text}"));
        }
        let mut place = text.find("<th>Phase</th>").expect("it is listed");
        for row in [
            "<td>detected</td><td class=\"n\">150.0 ms</td><td class=\"n\">150.0 ms</td>",
            "<td>majority</td><td class=\"n\">460.3 ms</td><td class=\"n\">310.3 ms</td>",
            "<td>first answer</td><td class=\"n\">480.0 ms</td>",
        ] {
            place += text[place..].find(row).unwrap_or_else(|| panic!("{row} is missing: {text}"));
        }
    }

    #[test]
    fn everything_that_is_drawn_is_within_the_view_box() {
        let mut damaged = takeover();
        for (end, after) in damaged.phases.iter_mut().zip([-5.0, 1e300, 3e-9, f64::MAX, 0.0]) {
            end.after_ms = after;
        }
        let at_once = Report { phases: vec![end("detected", 0.0), end("majority", 0.0)], ..takeover() };

        for report in [takeover(), damaged, at_once] {
            let text = page("a", 0, &[report]);
            let drawing =
                &text[text.find("<svg").expect("it is drawn")..text.find("</svg>").expect("it ends")];
            let height = numbers(drawing, "viewBox=\"0 0 760 ")[0];
            assert!(numbers(drawing, "<rect").len() >= 2, "{drawing}");
            for x in ["x=\"", "x1=\"", "x2=\""].iter().flat_map(|name| numbers(drawing, name)) {
                assert!((0.0..=WIDTH).contains(&x), "{x}: {drawing}");
            }
            for y in ["y=\"", "y1=\"", "y2=\""].iter().flat_map(|name| numbers(drawing, name)) {
                assert!((0.0..=height).contains(&y), "{y}: {drawing}");
            }
            for rect in drawing.split("<rect").skip(1) {
                let (x, width) = (numbers(rect, " x=\"")[0], numbers(rect, " width=\"")[0]);
                assert!(width >= BAR_MIN - 0.1 && x >= LEFT - BAR_MIN && x + width <= RIGHT + 0.2, "{rect}");
            }
        }
    }

    #[test]
    fn a_hostile_text_is_shown_and_not_obeyed() {
        let hostile = "</title><script>alert(1)</script>\u{202e}\"'&\u{0}";
        let report = Report { event: hostile.to_owned(), phases: vec![end(hostile, 1.0)], ..takeover() };

        let text = page(hostile, 0, &[report]);

        assert!(!text.contains("<script"), "{text}");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{0}'));
        assert!(
            text.contains("&lt;script&gt;alert(1)&lt;/script&gt;\u{fffd}&quot;&#39;&amp;\u{fffd}"),
            "{text}"
        );
        assert_eq!(text.matches("</title>").count(), 2, "the page's and the drawing's");
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere() {
        let text = page("a", 0, &[takeover()]);

        for part in ["http://", "https://", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!text.contains(part), "{part}");
        }
        assert!(text.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn several_takeovers_stand_on_one_page_the_latest_first() {
        let second = Report { epoch: 43, event: "gave_up".to_owned(), phases: Vec::new(), ..takeover() };

        let text = page("a", 0, &[takeover(), second]);

        let (first, second) = (text.find("<section id=\"t0\""), text.find("<section id=\"t1\""));
        assert!(second < first && first.is_some(), "{text}");
        for number in 0..2 {
            assert!(text.contains(&format!("href=\"#t{number}\"")));
        }
        assert_eq!(text.matches("<svg").count(), 1, "what has no phases is not drawn");
        assert!(page("a", 0, &[]).contains("neither taken the service over nor given it up"));
    }

    /// The numbers that follow a text.
    fn numbers(drawing: &str, name: &str) -> Vec<f64> {
        let behind = drawing.match_indices(name).filter(|(place, _)| {
            // `x="` is not the end of `rx="`.
            name.starts_with([' ', '<', 'v']) || drawing[..*place].ends_with(' ')
        });
        let number = |(place, _): (usize, &str)| {
            let rest = &drawing[place + name.len()..];
            let end = rest.find(|letter: char| !(letter.is_ascii_digit() || ".-".contains(letter)));
            rest[..end.unwrap_or(rest.len())].parse().unwrap_or(0.0)
        };
        behind.map(number).collect()
    }
}
