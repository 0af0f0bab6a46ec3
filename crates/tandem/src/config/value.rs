//! One value of the file, read as the type that its key wants.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::duration::{parse_duration, write_duration};
use super::problem::Wrong;
use super::suggest::nearest;

/// Entries of one list.
const LIST_MAX: usize = 1_000;

/// What a setter says of a bad value; a list can have several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrongs(pub Vec<Wrong>);

impl From<Wrong> for Wrongs {
    fn from(wrong: Wrong) -> Self {
        Self(vec![wrong])
    }
}

/// A value and where it stands.
pub struct Value<'a> {
    inner: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// Wraps a parsed value.
    pub fn new(inner: &'a Spanned<DeValue<'a>>) -> Self {
        Self { inner }
    }

    /// Where it stands.
    pub fn span(&self) -> Range<usize> {
        self.inner.span()
    }

    /// Says that the value is wrong.
    pub fn wrong(&self, what: impl Into<String>, mend: impl Into<String>) -> Wrong {
        Wrong::new(self.span(), what, mend)
    }

    /// A text.
    pub fn text(&self) -> Result<&'a str, Wrong> {
        self.inner.get_ref().as_str().ok_or_else(|| {
            let mend = match self.inner.get_ref() {
                DeValue::Integer(integer) => format!("put it in quotes: \"{}\"", integer.as_str()),
                DeValue::Boolean(boolean) => format!("put it in quotes: \"{boolean}\""),
                _ => "write one text in quotes".to_owned(),
            };
            self.wrong(format!("is {}, not a text", self.kind()), mend)
        })
    }

    /// True or false.
    pub fn truth(&self) -> Result<bool, Wrong> {
        match self.inner.get_ref() {
            DeValue::Boolean(truth) => Ok(*truth),
            _ => Err(self.wrong(
                format!("is {}, not true or false", self.kind()),
                "write true or false, without quotes",
            )),
        }
    }

    /// A whole number within `range`.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
        let within = format!("write a number from {} to {}, without quotes", range.start(), range.end());
        let DeValue::Integer(integer) = self.inner.get_ref() else {
            return Err(self.wrong(format!("is {}, not a whole number", self.kind()), within));
        };
        match i128::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| u64::try_from(number).ok())
        {
            Some(number) if range.contains(&number) => Ok(number),
            Some(number) if number < *range.start() => Err(self.wrong("is too small", within)),
            Some(_) => Err(self.wrong("is too large", within)),
            None if integer.as_str().starts_with('-') => Err(self.wrong("is too small", within)),
            None => Err(self.wrong("is too large", within)),
        }
    }

    /// A duration, or `"off"`.
    pub fn duration_or_off(&self, range: RangeInclusive<Duration>) -> Result<Option<Duration>, Wrong> {
        let is_off = self.text().is_ok_and(|text| text == "off");
        if is_off { Ok(None) } else { self.duration(range).map(Some) }
    }

    /// A duration within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Result<Duration, Wrong> {
        const FORM: &str = "write a number with its unit: \"500ms\", \"30s\", \"5m\", \"1h\" or \"3m10s\"";
        if let DeValue::Integer(integer) = self.inner.get_ref() {
            let mend = format!("write it with its unit and in quotes: \"{}s\"", integer.as_str());
            return Err(self.wrong("has no unit", mend));
        }
        let text = self.text().map_err(|wrong| Wrong { mend: FORM.to_owned(), ..wrong })?;
        let duration = parse_duration(text).ok_or_else(|| self.wrong("is not a duration", FORM))?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let what = if duration < *range.start() { "is too short" } else { "is too long" };
        let mend = format!(
            "write a duration from \"{}\" to \"{}\"",
            write_duration(*range.start()),
            write_duration(*range.end())
        );
        Err(self.wrong(what, mend))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let text = self.text().map_err(|wrong| Wrong { mend: format!("write one of {all}"), ..wrong })?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*meaning);
        }
        let mend = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(meant) => format!("did you mean \"{meant}\"? Known are {all}"),
            None => format!("write one of {all}"),
        };
        Err(self.wrong("is not known", mend))
    }

    /// A list, each entry read by `read`; all bad entries are reported.
    pub fn list<T>(&self, mut read: impl FnMut(&Value<'a>) -> Result<T, Wrong>) -> Result<Vec<T>, Wrongs> {
        let DeValue::Array(array) = self.inner.get_ref() else {
            let mend = match self.inner.get_ref() {
                DeValue::String(text) => format!("put it in brackets: [\"{text}\"]"),
                _ => "write a list in brackets: [\"…\", \"…\"]".to_owned(),
            };
            return Err(self.wrong(format!("is {}, not a list", self.kind()), mend).into());
        };
        if array.len() > LIST_MAX {
            let mend = format!("write at most {LIST_MAX} entries");
            return Err(self.wrong("has too many entries", mend).into());
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for entry in array.iter() {
            match read(&Value::new(entry)) {
                Ok(entry) => good.push(entry),
                Err(wrong) => bad.push(wrong),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(Wrongs(bad)) }
    }

    /// A table of names with one value each, in the order of the names; all bad ones are reported.
    pub fn pairs<T>(
        &self,
        entries_max: usize,
        mut read: impl FnMut(&str, &Value<'a>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrongs> {
        let DeValue::Table(table) = self.inner.get_ref() else {
            let mend = "write names and values in braces: { name = \"…\", … }";
            return Err(self.wrong(format!("is {}, not a table", self.kind()), mend).into());
        };
        if table.len() > entries_max {
            let mend = format!("write at most {entries_max} entries");
            return Err(self.wrong("has too many entries", mend).into());
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (name, entry) in table.iter() {
            match read(name.get_ref(), &Value::new(entry)) {
                Ok(entry) => good.push(entry),
                Err(wrong) => bad.push(wrong),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(Wrongs(bad)) }
    }

    fn kind(&self) -> &'static str {
        match self.inner.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}
