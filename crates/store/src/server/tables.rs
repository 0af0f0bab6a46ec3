//! What is in a database: whose tables they are, and which columns they have.
//!
//! Each release of OpenSIPS and Kamailio writes the version of each of its tables into the table `version`. The version
//! says that the meaning of the columns is known; the columns that are there say what can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::address::Product;
use super::link::{Link, Value};

/// The version of Tandem's own tables, in the row [`OWN`] of `version`.
pub const OWN_VERSION: u32 = 1;
/// The row of `version` that only Tandem writes.
pub const OWN: &str = "tandem";

/// Tables that are looked for.
const LOOKED_FOR: [&str; 8] = [
    "version",
    "subscriber",
    "dbaliases",
    "location",
    "tandem_may_use",
    "tandem_forward",
    "tandem_relay",
    "tandem_epoch",
];

/// Who made the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `tandem database init`.
    Tandem,
    /// OpenSIPS.
    OpenSips,
    /// Kamailio.
    Kamailio,
}

/// What was found and can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Whose they are.
    pub dialect: Dialect,
    /// Which product they are in.
    pub product: Product,
    columns: Columns,
    versions: BTreeMap<String, u32>,
}

/// Something that keeps the tables from being used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is no table at all of those that are known.
    Empty,
    /// A table is missing, or this user may not read it.
    NoTable(&'static str),
    /// A column is missing.
    NoColumn(&'static str, &'static str),
    /// `version` does not know the table.
    NoVersion(&'static str),
    /// A table has a version that is not known.
    Version {
        /// Which.
        table: &'static str,
        /// Its version.
        is: u32,
        /// The versions that are known.
        known: &'static [u32],
    },
}

/// The columns of some tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<String, BTreeMap<String, Column>>);

/// What is known of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    padding: Padding,
    /// What it holds.
    pub content: Content,
    /// How many letters it has place for; `None`: no limit that matters.
    pub length: Option<usize>,
}

/// Whether a column's values are filled with spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    None,
    /// PostgreSQL's `character(n)`: its index serves only who compares it with a value of its type.
    Padded,
}

/// What a column holds, as far as statements differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A whole number.
    Number,
    /// A number with a fraction.
    Fraction,
    /// A date with a time.
    Time,
    /// A text, or something else that is written as one.
    Text,
}

impl Content {
    /// What a type of the standard's `information_schema` holds.
    fn of(data_type: &str) -> Self {
        match data_type {
            "smallint" | "integer" | "bigint" | "int" | "tinyint" | "mediumint" => Self::Number,
            "real" | "double precision" | "numeric" | "float" | "double" | "decimal" => Self::Fraction,
            text if text.starts_with("timestamp") || text == "datetime" => Self::Time,
            _ => Self::Text,
        }
    }
}

impl Tables {
    /// Looks at the database. The inner error says everything that is missing.
    pub async fn recognise(link: &mut Link) -> Result<Result<Self, Vec<Unfit>>, sqlx::Error> {
        let product = link.product();
        let columns = Columns::read(link, &LOOKED_FOR).await?;
        let versions = columns.versions(link).await?;
        Ok(Self::of(product, columns, versions))
    }

    fn of(product: Product, columns: Columns, versions: BTreeMap<String, u32>) -> Result<Self, Vec<Unfit>> {
        if columns.0.is_empty() {
            return Err(vec![Unfit::Empty]);
        }
        let dialect = Dialect::of(columns.has("version", "id"), &versions);
        let tables = Self { dialect, product, columns, versions };
        let mut unfit = Vec::new();
        tables.judge("subscriber", &["username", "domain", "ha1"], &mut unfit);
        if tables.has("dbaliases", "alias_username") {
            tables.judge("dbaliases", &["alias_username", "alias_domain", "username", "domain"], &mut unfit);
        }
        if unfit.is_empty() { Ok(tables) } else { Err(unfit) }
    }

    fn judge(&self, table: &'static str, needed: &[&'static str], unfit: &mut Vec<Unfit>) {
        if !self.columns.0.contains_key(table) {
            unfit.push(Unfit::NoTable(table));
            return;
        }
        let missing = needed.iter().filter(|column| !self.has(table, column));
        unfit.extend(missing.map(|column| Unfit::NoColumn(table, column)));
        let known = known_versions(self.dialect, table);
        match self.versions.get(table) {
            None => unfit.push(Unfit::NoVersion(table)),
            Some(is) if !known.contains(is) => unfit.push(Unfit::Version { table, is: *is, known }),
            Some(_) => {}
        }
    }

    /// Whether a table has a column.
    pub fn has(&self, table: &str, column: &str) -> bool {
        self.columns.has(table, column)
    }

    /// Whether there is a table.
    pub fn has_table(&self, table: &str) -> bool {
        self.columns.0.contains_key(table)
    }

    /// The version of a table.
    pub fn version(&self, table: &str) -> Option<u32> {
        self.versions.get(table).copied()
    }

    /// An expression that is the text of a column, or nothing where there is none.
    pub fn text(&self, table: &str, column: &str) -> String {
        if self.has(table, column) { self.product.text(column) } else { "NULL".to_owned() }
    }

    /// The condition that a column has the value of a `?`.
    pub fn is(&self, table: &str, column: &str) -> String {
        format!("{column} = {}", self.place(table, column))
    }

    /// What stands for a value that is compared with a column.
    pub fn place(&self, table: &str, column: &str) -> &'static str {
        match self.column(table, column).map(|column| column.padding) {
            Some(Padding::Padded) => "CAST(? AS bpchar)",
            Some(Padding::None) | None => "?",
        }
    }

    /// What is known of a column that is there.
    pub fn column(&self, table: &str, column: &str) -> Option<Column> {
        self.columns.0.get(table)?.get(column).copied()
    }

    /// Everything that keeps a table from being used.
    pub fn unfit(&self, table: &'static str, needed: &[&'static str]) -> Vec<Unfit> {
        let mut unfit = Vec::new();
        self.judge(table, needed, &mut unfit);
        unfit
    }

    /// What is known and not there: it is done without.
    pub fn wanting(&self) -> Vec<&'static str> {
        let parts = [
            ("dbaliases", "aliases (table dbaliases)"),
            ("tandem_may_use", "addresses of others that an account may use (table tandem_may_use)"),
            ("tandem_forward", "forwards of accounts (table tandem_forward)"),
            ("tandem_relay", "what an account says of the media relay (table tandem_relay)"),
        ];
        let tables = parts.into_iter().filter(|(table, _)| !self.has_table(table)).map(|(_, what)| what);
        let limit = (!self.has("subscriber", "calls_max"))
            .then_some("a limit of calls for an account (column calls_max of subscriber)");
        tables.chain(limit).collect()
    }
}

#[cfg(test)]
impl Tables {
    /// Tandem's own, with a table `location` of these columns.
    pub fn with_location(columns: impl Iterator<Item = (&'static str, Content)>) -> Self {
        let column = |content| Column { padding: Padding::None, content, length: None };
        let location = columns.map(|(name, content)| (name.to_owned(), column(content))).collect();
        let tables = [("location".to_owned(), location), ("tandem_epoch".to_owned(), BTreeMap::new())];
        Self {
            dialect: Dialect::Tandem,
            product: Product::Postgres,
            columns: Columns(tables.into()),
            versions: BTreeMap::from([("location".to_owned(), 1013)]),
        }
    }
}

impl Columns {
    /// Those of these tables, as far as this user may read them.
    pub async fn read(link: &mut Link, tables: &[&str]) -> Result<Self, sqlx::Error> {
        let product = link.product();
        let place = match product {
            Product::Postgres => "table_schema::text = ANY(current_schemas(false)::text[])",
            Product::MySql => "table_schema = DATABASE()",
        };
        let query = format!(
            "SELECT {}, {}, {}, {} FROM information_schema.columns WHERE {place} AND table_name IN ({})",
            product.text("table_name"),
            product.text("column_name"),
            product.text("data_type"),
            product.text("character_maximum_length"),
            vec!["?"; tables.len()].join(", "),
        );
        let mut columns = Self::default();
        let tables: Vec<Value<'_>> = tables.iter().map(|table| Value::Text(table)).collect();
        for row in link.rows(&query, &tables).await? {
            let data_type = row.text(2).to_ascii_lowercase();
            let is_padded = product == Product::Postgres && data_type == "character";
            let padding = if is_padded { Padding::Padded } else { Padding::None };
            let column = Column { padding, content: Content::of(&data_type), length: row.number(3) };
            columns
                .0
                .entry(row.text(0).to_ascii_lowercase())
                .or_default()
                .insert(row.text(1).to_ascii_lowercase(), column);
        }
        Ok(columns)
    }

    /// What `version` says of each table; nothing where it is not among those that were read.
    pub async fn versions(&self, link: &mut Link) -> Result<BTreeMap<String, u32>, sqlx::Error> {
        let mut versions = BTreeMap::new();
        if self.has("version", "table_name") && self.has("version", "table_version") {
            let product = link.product();
            let (name, version) = (product.text("table_name"), product.text("table_version"));
            for row in link.rows(&format!("SELECT {name}, {version} FROM version"), &[]).await? {
                versions.extend(row.number(1).map(|version| (row.text(0).trim_end().to_owned(), version)));
            }
        }
        Ok(versions)
    }

    /// Whether there is a table.
    pub fn has_table(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    /// Whether a table has a column.
    pub fn has(&self, table: &str, column: &str) -> bool {
        self.0.get(table).is_some_and(|columns| columns.contains_key(column))
    }
}

impl Dialect {
    /// Kamailio numbers the rows of its `version`; OpenSIPS counts the versions of `location` from 1000.
    pub fn of(version_has_id: bool, versions: &BTreeMap<String, u32>) -> Self {
        if versions.contains_key(OWN) {
            Self::Tandem
        } else if version_has_id || versions.get("location").is_some_and(|version| *version < 1_000) {
            Self::Kamailio
        } else {
            Self::OpenSips
        }
    }
}

/// The versions that mean what this release takes them for: OpenSIPS 2.4 to 4.0, Kamailio 4.4 to 6.1.
fn known_versions(dialect: Dialect, table: &str) -> &'static [u32] {
    match (dialect, table) {
        (Dialect::Tandem, "subscriber") => &[8],
        (Dialect::OpenSips, "subscriber") => &[7, 8],
        (Dialect::Kamailio, "subscriber") => &[6, 7],
        (Dialect::Tandem | Dialect::OpenSips, "dbaliases") => &[2],
        (Dialect::Kamailio, "dbaliases") => &[1],
        (Dialect::Tandem | Dialect::OpenSips, "location") => &[1013],
        (Dialect::Kamailio, "location") => &[6, 7, 9],
        _ => &[],
    }
}

impl Unfit {
    /// All of them in one line.
    pub fn text(unfit: &[Self]) -> String {
        let lines: BTreeSet<String> = unfit.iter().map(Self::to_string).collect();
        lines.into_iter().collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => formatter.write_str(
                "the database has none of the tables, or this user may read none of them: run `tandem database init`, \
                 name the database of your OpenSIPS or Kamailio, or grant SELECT",
            ),
            Self::NoTable(table) => write!(
                formatter,
                "there is no table {table}, or this user may not read it: make it as OpenSIPS or Kamailio does, or \
                 grant SELECT"
            ),
            Self::NoColumn(table, column) => write!(
                formatter,
                "the table {table} has no column {column}: bring it to the shape that its version in the table \
                 `version` promises"
            ),
            Self::NoVersion(table) => write!(
                formatter,
                "the table `version` has no row for {table}, or this user may not read it: write the version that its \
                 schema file has"
            ),
            Self::Version { table, is, known } => {
                let known: Vec<String> = known.iter().map(u32::to_string).collect();
                write!(
                    formatter,
                    "the table {table} has version {is}, and version {} can be used: bring it there with the schema \
                     files of your OpenSIPS or Kamailio",
                    known.join(" or ")
                )
            }
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tandem => "Tandem",
            Self::OpenSips => "OpenSIPS",
            Self::Kamailio => "Kamailio",
        })
    }
}
