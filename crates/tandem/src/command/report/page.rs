//! The takeovers of a node as one page for a browser: nothing of it comes from elsewhere, and it reads by day and by night.
//!
//! What stands in the guardian's file may be of another version, or damaged: every text is escaped, every number is put
//! between bounds before it becomes a place in a drawing.

use std::fmt::Write as _;

use super::{Report, event_text, phase_text};
use crate::calendar::utc;

/// Takeovers on one page; what is more makes a page that no browser shows at once.
pub const TAKEOVERS_MAX: usize = 1_000;

/// The view box of a drawing, and where its rows begin and end.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 690.0;
const TOP: f64 = 26.0;
const ROW: f64 = 24.0;
/// A phase that took no time is to be seen.
const BAR_MIN: f64 = 2.0;
/// Lines of the scale.
const TICKS_MAX: f64 = 8.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--pale:#5b6470;--line:#d5dae1;--card:#f6f8fa;\
--wait:#b4690e;--move:#0b63c5;--answer:#1a7f37;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--paper:#0f1318;--ink:#e6e9ed;--pale:#9aa4b1;--line:#333b45;--card:#181e25;\
--wait:#e0a04a;--move:#5aa7ff;--answer:#4cc26a;--bad:#ff8a80}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:1.5rem 1rem 4rem;background:var(--paper);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:0}\
p{margin:.3rem 0}.pale{color:var(--pale)}section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;\
padding:1rem;margin:1rem 0}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\
td.n,th.n{text-align:right}.scroll{overflow-x:auto}a{color:var(--move)}.bad{color:var(--bad);font-weight:600}\
svg{display:block;width:100%;min-width:34rem;height:auto}svg text{fill:var(--ink);font:13px system-ui,sans-serif}\
svg .scale{fill:var(--pale);font-size:11px}svg line{stroke:var(--line)}.wait{fill:var(--wait)}.move{fill:var(--move)}\
.answer{fill:var(--answer)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.6rem 0 0}\
dt{color:var(--pale)}dd{margin:0}@media print{body{max-width:none}section{break-inside:avoid}}";

/// The whole page, the latest takeover first. `node` is whose they are.
pub fn page(node: &str, made_at_ms: u64, reports: &[Report]) -> String {
    let mut text = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let node = escape(node);
    add(
        &mut text,
        format_args!(
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>Takeovers of {node}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <h1>Takeovers of {node}</h1>\n<p class=\"pale\">By tandem report, {}. Times are UTC; milliseconds are counted \
             from when the active node was last heard, or from when the hand-over was asked for.</p>\n",
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
    text.push_str("</body>\n</html>\n");
    text
}

/// What the browser shows for a text, whatever stands in it.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Neither HTML nor XML has them, and some turn the text around.
            letter if letter.is_control() || is_direction(letter) => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
fn time_line(report: &Report, text: &mut String) {
    let phases = in_order(report);
    let whole = phases.last().map_or(0.0, |(_, after)| *after).max(0.001);
    let column = |at: f64| LEFT + (RIGHT - LEFT) * (at / whole).clamp(0.0, 1.0);
    let height = TOP + ROW * phases.len() as f64 + 6.0;
    let told: Vec<String> = phases.iter().map(|(name, after)| format!("{name} {after:.1} ms")).collect();
    add(
        text,
        format_args!(
            "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title>\n",
            told.join(", ")
        ),
    );
    for at in scale(whole) {
        let (x, told) = (column(at), scale_text(at));
        add(
            text,
            format_args!(
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\
                 <text class=\"scale\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{told} ms</text>\n",
                height - 4.0,
                TOP - 8.0
            ),
        );
    }
    let mut before = 0.0;
    for (row, (name, after)) in phases.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let end = column(*after).max(LEFT + BAR_MIN);
        let begin = column(before).min(end - BAR_MIN);
        add(
            text,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
                 <rect class=\"{}\" x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>\
                 <text class=\"scale\" x=\"{:.1}\" y=\"{:.1}\">{after:.1}</text>\n",
                LEFT - 8.0,
                y + 16.0,
                colour(name),
                y + 4.0,
                end - begin,
                ROW - 8.0,
                end + 6.0,
                y + 16.0,
            ),
        );
        before = *after;
    }
    text.push_str("</svg></div>\n");
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
                "<tr><td>{name}</td><td class=\"n\">{after:.1} ms</td><td class=\"n\">{:.1} ms</td></tr>\n",
                after - before
            ),
        );
        before = after;
    }
    text.push_str("</table></div>\n");
}

/// What was kept and what was not.
fn facts(report: &Report, text: &mut String) {
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

/// Names, escaped, and ends of the phases in the order of time.
fn in_order(report: &Report) -> Vec<(String, f64)> {
    let mut phases: Vec<(String, f64)> =
        report.phases.iter().map(|end| (escape(&phase_text(&end.phase)), bounded(end.after_ms))).collect();
    phases.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    phases
}

/// A day in milliseconds bounds what a takeover may have taken; what is no number took no time.
fn bounded(ms: f64) -> f64 {
    if ms.is_finite() { ms.clamp(0.0, 86_400_000.0) } else { 0.0 }
}

fn colour(phase: &str) -> &'static str {
    match phase {
        "detected" | "majority" => "wait",
        "first answer" => "answer",
        _ => "move",
    }
}

/// Where the lines of the scale are: at the multiples of 1, 2 or 5 times a power of ten that leaves few of them.
fn scale(whole: f64) -> Vec<f64> {
    let steps = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
    let step = steps.into_iter().find(|step| whole / step <= TICKS_MAX).unwrap_or(whole);
    (0..=TICKS_MAX as u32).map(|place| step * f64::from(place)).filter(|at| *at <= whole).collect()
}

/// Without the digits that only say how a computer counts.
fn scale_text(at: f64) -> String {
    let text = format!("{at:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{end, takeover};
    use super::*;

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

    #[test]
    fn the_scale_has_a_few_round_steps() {
        let told = |whole| scale(whole).into_iter().map(scale_text).collect::<Vec<_>>().join(" ");

        assert_eq!(told(480.0), "0 100 200 300 400");
        assert_eq!(told(0.71), "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7");
        assert_eq!(told(0.001), "0 0.001");
        assert_eq!(told(86_400_000.0), "0 20000000 40000000 60000000 80000000");
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
