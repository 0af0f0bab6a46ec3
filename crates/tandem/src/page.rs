//! What the pages for a browser have in common: nothing of them comes from elsewhere, and they read by day and by night.
//!
//! What is shown may have been written by another version, or be damaged: every text is escaped, every number is put
//! between bounds before it becomes a place in a drawing.

use std::fmt::Write as _;

/// The view box of a drawing, and where its rows begin and end.
pub const WIDTH: f64 = 760.0;
pub const LEFT: f64 = 130.0;
pub const RIGHT: f64 = 690.0;
const TOP: f64 = 26.0;
const ROW: f64 = 24.0;
/// What took no time is to be seen.
pub const BAR_MIN: f64 = 2.0;
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
.answer{fill:var(--answer)}.lost{fill:var(--bad)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.6rem 0 0}\
dt{color:var(--pale)}dd{margin:0}@media print{body{max-width:none}section{break-inside:avoid}}";

/// A bar of a drawing: from when to when, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Its begin.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// Its colour: `wait`, `move`, `answer` or `lost`.
    pub class: &'static str,
}

/// A row of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What is drawn in it.
    pub bars: Vec<Bar>,
    /// What stands behind the last bar.
    pub told: String,
}

/// The head of a page and its first lines, up to where its own content begins.
pub fn begin(title: &str, under_title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"pale\">{}</p>\n",
        escape(under_title)
    )
}

/// The end of a page.
pub const END: &str = "</body>\n</html>\n";

/// Rows below each other, to one scale from `from` to `to` in milliseconds.
pub fn time_line(from: f64, to: f64, rows: &[Row], text: &mut String) {
    let from = bounded(from);
    let whole = (bounded(to) - from).max(0.001);
    let column = |at: f64| LEFT + (RIGHT - LEFT) * ((bounded(at) - from) / whole).clamp(0.0, 1.0);
    let height = TOP + ROW * rows.len() as f64 + 6.0;
    let told: Vec<String> = rows.iter().map(|row| format!("{} {}", row.name, row.told)).collect();
    add(
        text,
        format_args!(
            "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title>\n",
            escape(&told.join(", "))
        ),
    );
    for at in scale(from, from + whole) {
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
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        add(
            text,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 16.0,
                escape(&row.name)
            ),
        );
        let mut last = LEFT;
        for bar in &row.bars {
            let end = column(bar.to).max(LEFT + BAR_MIN);
            let begin = column(bar.from).min(end - BAR_MIN);
            add(
                text,
                format_args!(
                    "<rect class=\"{}\" x=\"{begin:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
                    bar.class,
                    y + 4.0,
                    end - begin,
                    ROW - 8.0,
                ),
            );
            last = last.max(end);
        }
        add(
            text,
            format_args!(
                "<text class=\"scale\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                last + 6.0,
                y + 16.0,
                escape(&row.told)
            ),
        );
    }
    text.push_str("</svg></div>\n");
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

/// A day in milliseconds bounds what anything may have taken; what is no number took no time.
pub fn bounded(ms: f64) -> f64 {
    if ms.is_finite() { ms.clamp(-86_400_000.0, 86_400_000.0) } else { 0.0 }
}

/// Where the lines of the scale are: at the multiples of 1, 2 or 5 times a power of ten that leaves few of them.
fn scale(from: f64, to: f64) -> Vec<f64> {
    let whole = to - from;
    let steps = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10_f64.powi(power)));
    let step = steps.into_iter().find(|step| whole / step <= TICKS_MAX).unwrap_or(whole);
    let first = (from / step).ceil();
    (0..=TICKS_MAX as u32).map(|place| step * (first + f64::from(place))).filter(|at| *at <= to).collect()
}

/// Without the digits that only say how a computer counts.
fn scale_text(at: f64) -> String {
    let text = format!("{at:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Adds to a page.
pub fn add(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_a_few_round_steps() {
        let told = |from, to| scale(from, to).into_iter().map(scale_text).collect::<Vec<_>>().join(" ");

        assert_eq!(told(0.0, 480.0), "0 100 200 300 400");
        assert_eq!(told(-250.0, 480.0), "-200 -100 0 100 200 300 400");
        assert_eq!(told(0.0, 0.71), "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7");
        assert_eq!(told(0.0, 0.001), "0 0.001");
        assert_eq!(told(0.0, 86_400_000.0), "0 20000000 40000000 60000000 80000000");
    }
}
