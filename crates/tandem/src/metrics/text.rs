//! The text that a scrape gets: families of metrics, each with its help, its kind and its samples.
//!
//! Both forms are written: the text format 0.0.4 of Prometheus, and OpenMetrics 1.0, which differs in the names of
//! counters, in what is escaped, and in its last line.

use std::fmt::{self, Write as _};

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Form {
    /// As `Content-Type` names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A number as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// A number of things.
    Whole(u64),
    /// Seconds, or a part of one.
    Part(f64),
}

/// A text that is being written.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    text: String,
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'e> {
    text: &'e mut String,
    name: &'static str,
}

impl Exposition {
    /// Nothing is written yet.
    pub fn new(form: Form) -> Self {
        Self { form, text: String::new() }
    }

    /// What can rise and fall.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// What only rises, until the process that counts is another one. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// How something is distributed.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let described = match self.form {
            Form::Text => name,
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let help = if self.form == Form::OpenMetrics { help.replace('"', "\\\"") } else { help };
        write(&mut self.text, format_args!("# HELP {described} {help}\n# TYPE {described} {kind}\n"));
        Family { text: &mut self.text, name }
    }
}

impl Family<'_> {
    /// The one sample of a family without labels.
    pub fn is(&mut self, figure: impl Into<Figure>) {
        self.sample(&[], figure);
    }

    /// A sample.
    pub fn sample(&mut self, labels: Labels<'_>, figure: impl Into<Figure>) {
        self.line("", labels, None, figure.into());
    }

    /// A distribution: how many were in each bucket alone, up to its bound and above the one before, and the sum of all.
    pub fn distribution(&mut self, labels: Labels<'_>, buckets: &[(Option<f64>, u64)], sum: f64) {
        let mut so_far = 0;
        for (bound, figure) in buckets {
            so_far += figure;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.line("_bucket", labels, Some(&bound), Figure::Whole(so_far));
        }
        self.line("_sum", labels, None, Figure::Part(sum));
        self.line("_count", labels, None, Figure::Whole(so_far));
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, figure: Figure) {
        write(self.text, format_args!("{}{suffix}", self.name));
        let bound = bound.map(|bound| ("le", bound));
        let mut mark = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write(self.text, format_args!("{mark}{name}=\"{value}\""));
            mark = ',';
        }
        self.text.push_str(if mark == ',' { "}" } else { "" });
        write(self.text, format_args!(" {figure}\n"));
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(figure) => figure.fmt(formatter),
            Self::Part(figure) if figure.is_nan() => formatter.write_str("NaN"),
            Self::Part(figure) if figure.is_infinite() => {
                formatter.write_str(if *figure > 0.0 { "+Inf" } else { "-Inf" })
            }
            Self::Part(figure) => figure.fmt(formatter),
        }
    }
}

impl From<u64> for Figure {
    fn from(figure: u64) -> Self {
        Self::Whole(figure)
    }
}

impl From<u32> for Figure {
    fn from(figure: u32) -> Self {
        Self::Whole(figure.into())
    }
}

impl From<usize> for Figure {
    fn from(figure: usize) -> Self {
        Self::Whole(figure as u64)
    }
}

impl From<bool> for Figure {
    fn from(is_so: bool) -> Self {
        Self::Whole(is_so.into())
    }
}

impl From<f64> for Figure {
    fn from(figure: f64) -> Self {
        Self::Part(figure)
    }
}

fn write(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_same_families() {
        let written = |form| {
            let mut out = Exposition::new(form);
            out.gauge("tandem_bindings", "Phones.\nAll \"of\" them.").is(3_usize);
            out.counter("tandem_x_total", "Things.").sample(&[("cause", "a\"b\\c\nd")], 7_u64);
            out.histogram("tandem_wait_seconds", "Waits.").distribution(
                &[("method", "INVITE")],
                &[(Some(0.00005), 2), (Some(1.0), 0), (None, 1)],
                2.5,
            );
            out.gauge("tandem_nothing", "No samples.");
            out.finish()
        };

        assert_eq!(
            written(Form::Text),
            "# HELP tandem_bindings Phones.\\nAll \"of\" them.\n\
             # TYPE tandem_bindings gauge\n\
             tandem_bindings 3\n\
             # HELP tandem_x_total Things.\n\
             # TYPE tandem_x_total counter\n\
             tandem_x_total{cause=\"a\\\"b\\\\c\\nd\"} 7\n\
             # HELP tandem_wait_seconds Waits.\n\
             # TYPE tandem_wait_seconds histogram\n\
             tandem_wait_seconds_bucket{method=\"INVITE\",le=\"5e-5\"} 2\n\
             tandem_wait_seconds_bucket{method=\"INVITE\",le=\"1.0\"} 2\n\
             tandem_wait_seconds_bucket{method=\"INVITE\",le=\"+Inf\"} 3\n\
             tandem_wait_seconds_sum{method=\"INVITE\"} 2.5\n\
             tandem_wait_seconds_count{method=\"INVITE\"} 3\n\
             # HELP tandem_nothing No samples.\n\
             # TYPE tandem_nothing gauge\n"
        );
        let open = written(Form::OpenMetrics);
        assert!(open.contains("# TYPE tandem_x counter\ntandem_x_total{"), "{open}");
        assert!(open.contains("# HELP tandem_bindings Phones.\\nAll \\\"of\\\" them.\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn numbers_are_written_as_scrapers_read_them() {
        let figures =
            [0.1, 1e-9, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(|it| Figure::Part(it).to_string());

        assert_eq!(figures, ["0.1", "0.000000001", "+Inf", "-Inf", "NaN"]);
        assert_eq!(Figure::from(true).to_string(), "1");
    }
}
