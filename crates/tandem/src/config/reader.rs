//! Walks a parsed file by the table of keys and gathers every mistake.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{Field, SECTIONS, TRUSTED};
use super::problem::{Problem, Wrong};
use super::suggest::nearest;
use super::value::Value;
use super::{Config, TrustedDraft};
use routing::TrustedPeer;

/// Peers of `[[trusted]]`: each request is compared with all of them.
const TRUSTED_MAX: usize = 1_000;

/// What the walk found.
pub struct Reading<'t> {
    text: &'t str,
    /// All mistakes so far.
    pub problems: Vec<Problem>,
    /// Where the value of each key stands, by the whole key.
    places: BTreeMap<String, Range<usize>>,
}

impl<'t> Reading<'t> {
    /// Begins with nothing found.
    pub fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), places: BTreeMap::new() }
    }

    /// Reads the whole file into `config`; what is wrong stays at its default.
    pub fn read(&mut self, config: &mut Config) {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let wrong = Wrong::new(
                error.span().unwrap_or_default(),
                format!("this is not TOML: {}", error.message()),
                "see https://toml.io for the rules of the format",
            );
            self.report(String::new(), wrong);
        }
        self.read_table("", root.get_ref(), config);
    }

    /// Says that the value of `key`, or the file as a whole if it has none, conflicts with another.
    pub fn conflict(&mut self, key: &str, what: impl Into<String>, mend: impl Into<String>) {
        let span = self.places.get(key).cloned().unwrap_or_default();
        self.report(key.to_owned(), Wrong::new(span, what, mend));
    }

    /// Whether the file has a value for the key.
    pub fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    fn read_table(&mut self, name: &str, table: &DeTable<'_>, config: &mut Config) {
        let section = SECTIONS.iter().find(|section| section.name == name);
        for (key, value) in table {
            let path = join(name, key.get_ref());
            if name.is_empty() && key.get_ref() == "trusted" {
                self.read_trusted(value, config);
            } else if SECTIONS.iter().any(|section| section.name == path) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.read_table(&path, inner, config),
                    _ => {
                        let what = "is a table, not a value";
                        self.report(path.clone(), Wrong::new(value.span(), what, format!("write [{path}]")));
                    }
                }
            } else if let Some(field) =
                section.and_then(|section| section.fields.iter().find(|field| field.key == key.get_ref()))
            {
                self.read_field(&path, field, value, config);
            } else {
                self.unknown(name, key);
            }
        }
    }

    fn read_trusted(&mut self, value: &Spanned<DeValue<'_>>, config: &mut Config) {
        const FORM: &str = "write [[trusted]] and below it address = \"198.51.100.0/24\"";
        let DeValue::Array(entries) = value.get_ref() else {
            self.report("trusted".to_owned(), Wrong::new(value.span(), "is a list of tables", FORM));
            return;
        };
        if entries.len() > TRUSTED_MAX {
            let mend = format!("join networks: at most {TRUSTED_MAX} entries are taken");
            self.report("trusted".to_owned(), Wrong::new(value.span(), "has too many entries", mend));
            return;
        }
        for entry in entries.iter() {
            let DeValue::Table(table) = entry.get_ref() else {
                self.report("trusted".to_owned(), Wrong::new(entry.span(), "is a list of tables", FORM));
                continue;
            };
            let mut draft = TrustedDraft::default();
            let mistakes = self.problems.len();
            for (key, value) in table {
                match TRUSTED.iter().find(|field| field.key == key.get_ref()) {
                    Some(field) => self.read_field(&join("trusted", key.get_ref()), field, value, &mut draft),
                    None => self.unknown("trusted", key),
                }
            }
            match draft.network {
                Some(network) => {
                    let name = if draft.name.is_empty() { network.to_string() } else { draft.name };
                    config.trusted.push(TrustedPeer { network, name });
                }
                None if self.problems.len() == mistakes => {
                    let mend = "give it an address = \"198.51.100.0/24\"";
                    self.report("trusted".to_owned(), Wrong::new(entry.span(), "has no address", mend));
                }
                None => {}
            }
        }
    }

    fn read_field<T>(&mut self, path: &str, field: &Field<T>, value: &Spanned<DeValue<'_>>, target: &mut T) {
        self.places.insert(path.to_owned(), value.span());
        if let Err(wrongs) = (field.set)(target, &Value::new(value)) {
            for wrong in wrongs.0 {
                self.report(path.to_owned(), wrong);
            }
        }
    }

    fn unknown(&mut self, section: &str, key: &Spanned<std::borrow::Cow<'_, str>>) {
        let name = key.get_ref().as_ref();
        let path = join(section, name);
        let mend = match suggestion(section, name) {
            Some(mend) => mend,
            None => "take it out; `tandem reference` prints all keys".to_owned(),
        };
        self.report(path, Wrong::new(key.span(), "is not a key of the configuration", mend));
    }

    fn report(&mut self, key: String, wrong: Wrong) {
        self.problems.push(Problem::locate(self.text, key, wrong));
    }
}

/// What an unknown key was meant to be: first a key of the same table, then one of another table.
fn suggestion(section: &str, name: &str) -> Option<String> {
    let here: Vec<&str> = if section == "trusted" {
        TRUSTED.iter().map(|field| field.key).collect()
    } else {
        let keys = SECTIONS.iter().filter(|known| known.name == section).flat_map(|known| known.fields);
        let tables = SECTIONS
            .iter()
            .map(|known| known.name)
            .chain(["trusted"])
            .filter_map(|known| {
                if section.is_empty() { Some(known) } else { known.strip_prefix(section)?.strip_prefix('.') }
            })
            .filter(|known| !known.contains('.'));
        keys.map(|field| field.key).chain(tables).collect()
    };
    if let Some(meant) = nearest(name, here) {
        return Some(format!("did you mean `{}`?", join(section, meant)));
    }
    let elsewhere = |same: &dyn Fn(&str) -> bool| {
        SECTIONS.iter().find_map(|known| {
            known.fields.iter().find(|field| same(field.key)).map(|field| (known.name, field.key))
        })
    };
    let (table, key) = elsewhere(&|key| key == name).or_else(|| {
        let all = SECTIONS.iter().flat_map(|known| known.fields).map(|field| field.key);
        let meant = nearest(name, all)?;
        elsewhere(&|key| key == meant)
    })?;
    Some(format!("did you mean `{key}` of [{table}]?"))
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
