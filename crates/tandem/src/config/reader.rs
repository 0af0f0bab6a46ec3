//! Walks a parsed file by the table of keys and gathers every mistake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{EDGE, Field, SECTIONS, TRUSTED};
use super::problem::{Problem, Wrong};
use super::registration::{REGISTRATION, REGISTRATIONS_MAX};
use super::suggest::nearest;
use super::value::Value;
use super::{Config, EdgeDraft, TrustedDraft};
use routing::{Edge, TrustedPeer};

/// Peers of `[[trusted]]`: each request is compared with all of them.
const TRUSTED_MAX: usize = 1_000;

/// Domains of `[[edge]]`: each request is compared with all of them.
const EDGES_MAX: usize = 100;

/// The lists of tables.
const LISTS: [&str; 3] = ["trusted", "edge", "registration"];

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
            } else if name.is_empty() && key.get_ref() == "edge" {
                self.read_edges(value, config);
            } else if name.is_empty() && key.get_ref() == "registration" {
                self.read_registrations(value, config);
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
        let form = "write [[trusted]] and below it address = \"198.51.100.0/24\"";
        let too_many = format!("join networks: at most {TRUSTED_MAX} entries are taken");
        for entry in self.entries(value, "trusted", TRUSTED, form, (TRUSTED_MAX, too_many)) {
            let TrustedDraft { network, name } = entry.draft;
            match network {
                Some(network) => {
                    let name = if name.is_empty() { network.to_string() } else { name };
                    config.trusted.push(TrustedPeer { network, name });
                }
                None if !entry.has_mistakes => {
                    let mend = "give it an address = \"198.51.100.0/24\"";
                    self.report("trusted".to_owned(), Wrong::new(entry.span, "has no address", mend));
                }
                None => {}
            }
        }
    }

    fn read_edges(&mut self, value: &Spanned<DeValue<'_>>, config: &mut Config) {
        let form = "write [[edge]] and below it domain = \"example.org\" and to = \"sip:10.0.0.20:5060\"";
        let too_many = format!("at most {EDGES_MAX} entries are taken");
        for entry in self.entries(value, "edge", EDGE, form, (EDGES_MAX, too_many)) {
            let EdgeDraft { domain, to, from, contact } = entry.draft;
            match (domain, to) {
                (Some(domain), _) if config.edges.iter().any(|edge: &Edge| edge.domain == domain) => {
                    let what = format!("names {domain} a second time");
                    self.report("edge".to_owned(), Wrong::new(entry.span, what, "name each domain once"));
                }
                (Some(domain), Some(to)) => config.edges.push(Edge { domain, to, from, contact }),
                _ if !entry.has_mistakes => {
                    let what = "lacks its domain or where it leads to";
                    self.report("edge".to_owned(), Wrong::new(entry.span, what, form));
                }
                _ => {}
            }
        }
    }

    fn read_registrations(&mut self, value: &Spanned<DeValue<'_>>, config: &mut Config) {
        let form = "write [[registration]] and below it name, username, password_file and registrar";
        let too_many = format!("at most {REGISTRATIONS_MAX} entries are taken");
        for entry in self.entries(value, "registration", REGISTRATION, form, (REGISTRATIONS_MAX, too_many)) {
            match entry.draft.build(&config.trunks) {
                Ok(trunk) => config.trunks.push(Arc::new(trunk)),
                Err((what, mend)) if !entry.has_mistakes => {
                    self.report("registration".to_owned(), Wrong::new(entry.span, what, mend));
                }
                Err(_) => {}
            }
        }
    }

    /// Reads a list of tables, each into a draft of its own.
    fn entries<T: Default>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        name: &str,
        fields: &[Field<T>],
        form: &str,
        (limit, too_many): (usize, String),
    ) -> Vec<Entry<T>> {
        let DeValue::Array(entries) = value.get_ref() else {
            self.report(name.to_owned(), Wrong::new(value.span(), "is a list of tables", form));
            return Vec::new();
        };
        if entries.len() > limit {
            self.report(name.to_owned(), Wrong::new(value.span(), "has too many entries", too_many));
            return Vec::new();
        }
        let mut drafts = Vec::new();
        for entry in entries.iter() {
            let DeValue::Table(table) = entry.get_ref() else {
                self.report(name.to_owned(), Wrong::new(entry.span(), "is a list of tables", form));
                continue;
            };
            let mut draft = T::default();
            let mistakes = self.problems.len();
            for (key, value) in table {
                match fields.iter().find(|field| field.key == key.get_ref()) {
                    Some(field) => self.read_field(&join(name, key.get_ref()), field, value, &mut draft),
                    None => self.unknown(name, key),
                }
            }
            let has_mistakes = self.problems.len() > mistakes;
            drafts.push(Entry { draft, span: entry.span(), has_mistakes });
        }
        drafts
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

/// One table of a list.
struct Entry<T> {
    draft: T,
    span: Range<usize>,
    /// Whether something in it was reported.
    has_mistakes: bool,
}

/// What an unknown key was meant to be: first a key of the same table, then one of another table.
fn suggestion(section: &str, name: &str) -> Option<String> {
    let here: Vec<&str> = if section == "trusted" {
        TRUSTED.iter().map(|field| field.key).collect()
    } else if section == "edge" {
        EDGE.iter().map(|field| field.key).collect()
    } else if section == "registration" {
        REGISTRATION.iter().map(|field| field.key).collect()
    } else {
        let keys = SECTIONS.iter().filter(|known| known.name == section).flat_map(|known| known.fields);
        let tables = SECTIONS
            .iter()
            .map(|known| known.name)
            .chain(LISTS)
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
