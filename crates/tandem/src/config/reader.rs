//! Walks a parsed file by the table of keys and gathers every mistake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::cluster::{self, CHECKS, CLUSTER, CLUSTER_NAME, NODES};
use super::dial_plan::{self, GATEWAYS, GatewayDraft, ROUTES, RouteDraft};
use super::fields::{EDGES, Field, List, SECTIONS, TRUSTED};
use super::problem::{Problem, Wrong};
use super::registration::REGISTRATIONS;
use super::suggest::nearest;
use super::value::Value;
use super::{Config, EdgeDraft};
use routing::{Edge, TrustedPeer};

/// What the walk found.
pub struct Reading<'t> {
    text: &'t str,
    /// All mistakes so far.
    pub problems: Vec<Problem>,
    /// Where the value of each key stands, by the whole key.
    places: BTreeMap<String, Range<usize>>,
    gateways: Vec<Entry<GatewayDraft>>,
    routes: Vec<Entry<RouteDraft>>,
    cluster: cluster::Read,
}

/// One table of a list, with the places of its values.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// What was read.
    pub draft: T,
    /// Whether every value of it was right by itself.
    pub is_right: bool,
    span: Range<usize>,
    places: BTreeMap<&'static str, Range<usize>>,
}

impl<T> Entry<T> {
    /// Whether it has a value for the key.
    pub fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }
}

impl<'t> Reading<'t> {
    /// Begins with nothing found.
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: Vec::new(),
            places: BTreeMap::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            cluster: cluster::Read::default(),
        }
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
        let (gateways, routes) = (std::mem::take(&mut self.gateways), std::mem::take(&mut self.routes));
        config.dial_plan = dial_plan::build(self, &gateways, &routes, &config.trunks, &config.sip.listen);
        dial_plan::check_sets(self, &gateways, &config.database.lists);
        let read =
            cluster::Read { digest: cluster::digest_of(root.get_ref()), ..std::mem::take(&mut self.cluster) };
        config.cluster = cluster::build(self, read, &config.sip.listen, &config.database);
    }

    /// Says that the value of `key` conflicts with another; without one its table or the file as a whole does.
    pub fn conflict(&mut self, key: &str, what: impl Into<String>, mend: impl Into<String>) {
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        let place = self.places.get(key).or_else(|| self.places.get(table));
        let span = place.cloned().unwrap_or_default();
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
            if name.is_empty() && key.get_ref() == TRUSTED.name {
                self.read_trusted(value, config);
            } else if name.is_empty() && key.get_ref() == EDGES.name {
                self.read_edges(value, config);
            } else if name.is_empty() && key.get_ref() == REGISTRATIONS.name {
                self.read_registrations(value, config);
            } else if name.is_empty() && key.get_ref() == GATEWAYS.name {
                self.gateways = self.read_list(&GATEWAYS, value);
            } else if name.is_empty() && key.get_ref() == ROUTES.name {
                self.routes = self.read_list(&ROUTES, value);
            } else if name.is_empty() && key.get_ref() == CLUSTER_NAME {
                self.read_cluster(value);
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
        for entry in self.read_list(&TRUSTED, value) {
            let Entry { draft, is_right, .. } = &entry;
            match draft.network {
                Some(network) => {
                    let name = if draft.name.is_empty() { network.to_string() } else { draft.name.clone() };
                    config.trusted.push(TrustedPeer { network, name });
                }
                None if *is_right => {
                    let mend = "give it an address = \"198.51.100.0/24\"";
                    self.wrong_entry("trusted", &entry, "", "has no address", mend);
                }
                None => {}
            }
        }
    }

    fn read_edges(&mut self, value: &Spanned<DeValue<'_>>, config: &mut Config) {
        for entry in self.read_list(&EDGES, value) {
            let EdgeDraft { domain, to, from, contact } = entry.draft.clone();
            match (domain, to) {
                (Some(domain), _) if config.edges.iter().any(|edge: &Edge| edge.domain == domain) => {
                    let what = format!("names {domain} a second time");
                    self.wrong_entry(EDGES.name, &entry, "", what, "name each domain once");
                }
                (Some(domain), Some(to)) => config.edges.push(Edge { domain, to, from, contact }),
                _ if entry.is_right => {
                    let mend = format!("write [[edge]] and below it {}", EDGES.example);
                    self.wrong_entry(EDGES.name, &entry, "", "lacks its domain or where it leads to", mend);
                }
                _ => {}
            }
        }
    }

    fn read_registrations(&mut self, value: &Spanned<DeValue<'_>>, config: &mut Config) {
        for entry in self.read_list(&REGISTRATIONS, value) {
            match entry.draft.clone().build(&config.trunks) {
                Ok(trunk) => config.trunks.push(Arc::new(trunk)),
                Err((what, mend)) if entry.is_right => {
                    self.wrong_entry(REGISTRATIONS.name, &entry, "", what, mend);
                }
                Err(_) => {}
            }
        }
    }

    fn read_cluster(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            let mend = format!("write [{CLUSTER_NAME}]");
            return self
                .report(CLUSTER_NAME.to_owned(), Wrong::new(value.span(), "is a table, not a value", mend));
        };
        self.places.insert(CLUSTER_NAME.to_owned(), value.span());
        for (key, value) in table {
            match join(CLUSTER_NAME, key.get_ref()) {
                path if path == NODES.name => self.cluster.nodes = self.read_list(&NODES, value),
                path if path == CHECKS.name => self.cluster.checks = self.read_list(&CHECKS, value),
                _ => {}
            }
        }
        let is_own = |key: &str| ![NODES.name, CHECKS.name].contains(&join(CLUSTER_NAME, key).as_str());
        self.cluster.cluster = Some(self.read_entry(&CLUSTER, value.span(), table, is_own));
    }

    /// Reads all tables of a list; what is wrong of one stays at its default.
    pub fn read_list<T: Default>(&mut self, list: &List<T>, value: &Spanned<DeValue<'_>>) -> Vec<Entry<T>> {
        let List { name, example, entries_max, .. } = *list;
        let form = format!("write [[{name}]] and below it {example}");
        let DeValue::Array(entries) = value.get_ref() else {
            self.report(name.to_owned(), Wrong::new(value.span(), "is a list of tables", form));
            return Vec::new();
        };
        if entries.len() > entries_max {
            let mend = format!("at most {entries_max} entries are taken");
            self.report(name.to_owned(), Wrong::new(value.span(), "has too many entries", mend));
            return Vec::new();
        }
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let DeValue::Table(table) = entry.get_ref() else {
                self.report(name.to_owned(), Wrong::new(entry.span(), "is a list of tables", form.clone()));
                continue;
            };
            read.push(self.read_entry(list, entry.span(), table, |_| true));
        }
        read
    }

    /// Reads one table of a list, but for keys that are none of its own.
    fn read_entry<T: Default>(
        &mut self,
        list: &List<T>,
        span: Range<usize>,
        table: &DeTable<'_>,
        is_own: impl Fn(&str) -> bool,
    ) -> Entry<T> {
        let mut draft = T::default();
        let mistakes = self.problems.len();
        let mut places = BTreeMap::new();
        for (key, value) in table.iter().filter(|(key, _)| is_own(key.get_ref())) {
            match list.fields.iter().find(|field| field.key == key.get_ref()) {
                Some(field) => {
                    places.insert(field.key, value.span());
                    self.read_field(&join(list.name, key.get_ref()), field, value, &mut draft);
                }
                None => self.unknown(list.name, key),
            }
        }
        Entry { draft, is_right: self.problems.len() == mistakes, span, places }
    }

    /// Says that an entry of a list is wrong: the value of one of its keys, or the whole of it.
    pub fn wrong_entry<T>(
        &mut self,
        list: &str,
        entry: &Entry<T>,
        key: &str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let span = entry.places.get(key).unwrap_or(&entry.span).clone();
        let path = if key.is_empty() { list.to_owned() } else { join(list, key) };
        self.report(path, Wrong::new(span, what, mend));
    }

    /// Says that a part of a value is wrong.
    pub fn wrong_part(&mut self, list: &str, key: &str, wrong: Wrong) {
        self.report(join(list, key), wrong);
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
    let here: Vec<&str> = if section == TRUSTED.name {
        keys(&TRUSTED)
    } else if section == EDGES.name {
        keys(&EDGES)
    } else if section == REGISTRATIONS.name {
        keys(&REGISTRATIONS)
    } else if section == GATEWAYS.name {
        keys(&GATEWAYS)
    } else if section == ROUTES.name {
        keys(&ROUTES)
    } else if section == CLUSTER.name {
        [&keys(&CLUSTER)[..], &["node", "check"]].concat()
    } else if section == NODES.name {
        keys(&NODES)
    } else if section == CHECKS.name {
        keys(&CHECKS)
    } else {
        let keys = SECTIONS.iter().filter(|known| known.name == section).flat_map(|known| known.fields);
        let tables = SECTIONS
            .iter()
            .map(|known| known.name)
            .chain([TRUSTED.name, EDGES.name, REGISTRATIONS.name, GATEWAYS.name, ROUTES.name, CLUSTER.name])
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

fn keys<T>(list: &List<T>) -> Vec<&'static str> {
    list.fields.iter().map(|field| field.key).collect()
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
