//! What a table `location` looks like: which columns it has, what they hold, and what tells its rows apart.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use transport::{LocalAddr, Transport};

use super::super::address::Product;
use super::super::link::{Row, Value};
use super::super::tables::{Column, Content, Dialect, Tables, Unfit};
use super::row::Text;
use crate::row::read_socket;

/// A table `location`, as statements want to know it.
#[derive(Clone, Debug)]
pub struct Shape {
    product: Product,
    dialect: Dialect,
    /// The number that pages are read by.
    page: &'static str,
    /// What tells a binding's row from all others.
    id: &'static str,
    /// Those that are written, in the order of [`Shape::columns`].
    fields: Vec<(Field, Column)>,
    zone: TimeZone,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// What tells a binding's row from all others: a number with OpenSIPS, a text with Kamailio.
    Id,
    /// The user part of the address of record.
    Username,
    /// Its domain.
    Domain,
    /// The URI that was registered.
    Contact,
    /// Where it was seen to come from.
    Received,
    /// The way to it.
    Path,
    /// When it ends.
    Expires,
    /// Preference.
    Q,
    /// Call-ID of the last REGISTER.
    CallId,
    /// CSeq of the last REGISTER.
    Cseq,
    /// When the row was written.
    LastModified,
    /// What it calls itself.
    UserAgent,
    /// The listener it registered on.
    Socket,
    /// RFC 5626 `+sip.instance`.
    Instance,
    /// RFC 5626 `reg-id`.
    RegId,
    /// The number of a connection that no other server has.
    ConnectionId,
}

/// Whether a table can do without a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

/// The columns that both dialects have by one name.
const FIELDS: [(Field, &str, Need); 14] = [
    (Field::Username, "username", Need::Must),
    (Field::Domain, "domain", Need::May),
    (Field::Contact, "contact", Need::Must),
    (Field::Received, "received", Need::Must),
    (Field::Path, "path", Need::Must),
    (Field::Expires, "expires", Need::Must),
    (Field::Q, "q", Need::May),
    (Field::CallId, "callid", Need::Must),
    (Field::Cseq, "cseq", Need::Must),
    (Field::LastModified, "last_modified", Need::May),
    (Field::UserAgent, "user_agent", Need::May),
    (Field::Socket, "socket", Need::Must),
    (Field::RegId, "reg_id", Need::May),
    (Field::ConnectionId, "connection_id", Need::May),
];

/// Versions of OpenSIPS 1.6 to 2.3, which are read and not written.
const OLDER: RangeInclusive<u32> = 1005..=1012;

impl Shape {
    /// The table of a database; the error has everything that keeps it from being written.
    pub fn of(tables: &Tables, zone: &TimeZone) -> Result<Self, Vec<Unfit>> {
        let dialect = tables.dialect;
        let (page, id) = (page_name(dialect), id_name(dialect));
        let mut unfit = tables.unfit("location", &needed(page, id));
        if !tables.has_table("tandem_epoch") {
            unfit.push(Unfit::NoTable("tandem_epoch"));
        }
        if unfit.is_empty() { Ok(Self::with(tables, zone, page, id)) } else { Err(unfit) }
    }

    /// The same of a table that is only read, which older releases may have made.
    pub fn to_read(tables: &Tables, zone: &TimeZone) -> Result<Self, Vec<Unfit>> {
        let dialect = tables.dialect;
        let is_older = dialect == Dialect::OpenSips && !tables.has("location", page_name(dialect));
        let (page, id) = if is_older { ("id", "id") } else { (page_name(dialect), id_name(dialect)) };
        let mut unfit = tables.unfit("location", &needed(page, id));
        // Their columns mean the same, and whether times are numbers or dates the columns say.
        unfit.retain(|it| !matches!(it, Unfit::Version { is, .. } if dialect == Dialect::OpenSips && OLDER.contains(is)));
        if unfit.is_empty() { Ok(Self::with(tables, zone, page, id)) } else { Err(unfit) }
    }

    fn with(tables: &Tables, zone: &TimeZone, page: &'static str, id: &'static str) -> Self {
        let dialect = tables.dialect;
        let all = FIELDS.iter().map(|(field, name, _)| (*field, *name));
        let instance = (Field::Instance, instance_name(dialect));
        let all = [(Field::Id, id)].into_iter().chain(all).chain([instance]);
        let fields =
            all.filter_map(|(field, name)| Some((field, tables.column("location", name)?))).collect();
        Self { product: tables.product, dialect, page, id, fields, zone: zone.clone() }
    }

    /// The columns that are written.
    pub fn fields(&self) -> impl Iterator<Item = (Field, Column)> {
        self.fields.iter().copied()
    }

    /// The column whose order pages are read in; a number.
    pub fn page_column(&self) -> &'static str {
        self.page
    }

    /// The column that tells a binding's row.
    pub fn id_column(&self) -> &'static str {
        self.id
    }

    /// What a binding's row is told by, from a hash that is all its own and one that is its address of record's.
    pub fn id(&self, own: u64, of_aor: u16) -> RowId {
        match self.dialect {
            Dialect::Kamailio => RowId::Text(own),
            // OpenSIPS: 16 bits of its hash of the address of record, then 46 that tell its rows apart.
            Dialect::OpenSips | Dialect::Tandem => {
                RowId::Number((i64::from(of_aor) << 46) | (own >> 18).cast_signed())
            }
        }
    }

    /// The same as it stands in a row; `None` in the row of somebody else.
    pub fn read_id(&self, text: &str) -> Option<RowId> {
        match self.dialect {
            Dialect::Kamailio => {
                u64::from_str_radix(text.trim_end().strip_prefix(OWN_PREFIX)?, 16).ok().map(RowId::Text)
            }
            Dialect::OpenSips | Dialect::Tandem => text.trim().parse().ok().map(RowId::Number),
        }
    }

    /// Whether a row is one that only Tandem writes, by its id.
    pub fn is_own(&self, id: &str) -> bool {
        matches!(self.read_id(id), Some(RowId::Text(_)))
    }

    /// Whether a row is this server's: by its id, else by where the phone registered.
    pub fn is_of(&self, row: &Row, listeners: &[(Transport, LocalAddr)]) -> bool {
        let text = |wanted: Field| {
            let place = self.fields.iter().position(|(field, _)| *field == wanted);
            place.map_or("", |place| row.text(place + 1).trim())
        };
        let socket = read_socket(text(Field::Socket));
        self.is_own(text(Field::Id)) || socket.is_some_and(|socket| listeners.contains(&socket))
    }

    /// A time as a column has it.
    pub fn time(&self, content: Content, seconds: i64) -> Text {
        if content == Content::Number {
            return Text::Number(seconds);
        }
        let Ok(time) = Timestamp::from_second(seconds) else { return Text::Nothing };
        Text::Word(self.zone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// The seconds of the Unix epoch that a column's text says; `None` if it says no time.
    pub fn read_time(&self, content: Content, text: &str) -> Option<i64> {
        let text = text.trim();
        if content == Content::Number {
            return text.parse().ok();
        }
        let time = DateTime::strptime("%Y-%m-%d %H:%M:%S", text.get(..19)?).ok()?;
        // An hour that is there twice is taken for the earlier one, as by every other reader.
        let time = self.zone.to_ambiguous_timestamp(time).compatible().ok()?;
        Some(time.as_second())
    }

    /// One page of the table: what follows the row that `?` stands for.
    pub fn page_query(&self, count: usize) -> String {
        let page = self.page_column();
        let columns: Vec<String> = std::iter::once(page)
            .chain(self.fields().map(|(field, _)| self.name(field)))
            .map(|name| self.product.text(name))
            .collect();
        // By its bare name PostgreSQL would order by the text that is selected.
        format!(
            "SELECT {} FROM location WHERE {page} > ? ORDER BY location.{page} LIMIT {count}",
            columns.join(", ")
        )
    }

    /// Removes so many rows by the values of one column.
    pub fn removal(&self, column: &str, count: usize) -> String {
        format!("DELETE FROM location WHERE {column} IN ({})", vec!["?"; count].join(", "))
    }

    /// Writes so many rows, each in the place of the one with its id.
    pub fn writing(&self, count: usize) -> String {
        let names: Vec<&str> = self.fields().map(|(field, _)| self.name(field)).collect();
        let places: Vec<&str> = self.fields().map(|(_, column)| self.place(column.content)).collect();
        let rows = vec![format!("({})", places.join(", ")); count].join(", ");
        let (begin, end) = match self.product {
            Product::Postgres => ("EXCLUDED.", ""),
            Product::MySql => ("VALUES(", ")"),
        };
        let changed = names.iter().skip(1).map(|name| format!("{name} = {begin}{name}{end}"));
        let conflict = match self.product {
            Product::Postgres => format!("ON CONFLICT ({}) DO UPDATE SET", self.id_column()),
            Product::MySql => "ON DUPLICATE KEY UPDATE".to_owned(),
        };
        format!(
            "INSERT INTO location ({}) VALUES {rows} {conflict} {}",
            names.join(", "),
            changed.collect::<Vec<_>>().join(", ")
        )
    }

    /// Whether a unique index tells rows apart, by one row of one column.
    pub fn unique_query(&self) -> String {
        let id = self.id_column();
        match self.product {
            Product::Postgres => format!(
                "SELECT '1' FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
                 WHERE i.indrelid = 'location'::regclass AND i.indisunique AND i.indnatts = 1 AND a.attname = '{id}'"
            ),
            Product::MySql => format!(
                "SELECT '1' FROM information_schema.statistics s WHERE s.table_schema = DATABASE() \
                 AND s.table_name = 'location' AND s.non_unique = 0 AND s.column_name = '{id}' AND NOT EXISTS (SELECT 1 \
                 FROM information_schema.statistics o WHERE o.table_schema = s.table_schema \
                 AND o.table_name = s.table_name AND o.index_name = s.index_name AND o.seq_in_index > 1)"
            ),
        }
    }

    fn name(&self, field: Field) -> &'static str {
        match field {
            Field::Id => self.id_column(),
            Field::Instance => instance_name(self.dialect),
            field => FIELDS
                .iter()
                .find(|(other, _, _)| *other == field)
                .map(|(_, name, _)| *name)
                .expect("all but two stand in the list"),
        }
    }

    /// What stands for a value.
    fn place(&self, content: Content) -> &'static str {
        match (content, self.product) {
            (Content::Number | Content::Text, _) => "?",
            (Content::Fraction, _) => "CAST(? AS DECIMAL(10,2))",
            (Content::Time, Product::Postgres) => "CAST(? AS TIMESTAMP)",
            (Content::Time, Product::MySql) => "CAST(? AS DATETIME)",
        }
    }
}

/// What tells the row of a binding from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowId {
    /// A number that others make too.
    Number(i64),
    /// A text that only Tandem writes, by its number.
    Text(u64),
}

/// Begins the `ruid` of rows that Tandem has written.
const OWN_PREFIX: &str = "tandem-";

impl RowId {
    /// As it is written.
    pub fn text(self) -> Text {
        match self {
            Self::Number(number) => Text::Number(number),
            Self::Text(number) => Text::Word(format!("{OWN_PREFIX}{number:016x}")),
        }
    }
}

impl Text {
    /// For a statement.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Nothing => Value::Nothing,
            Self::Number(number) => Value::Number(Some(*number)),
            Self::Word(word) => Value::Text(word),
        }
    }
}

fn needed(page: &'static str, id: &'static str) -> Vec<&'static str> {
    let must = FIELDS.iter().filter(|(_, _, need)| *need == Need::Must).map(|(_, name, _)| *name);
    [page, id].into_iter().chain(must).collect()
}

fn page_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Kamailio => "id",
        Dialect::OpenSips | Dialect::Tandem => "contact_id",
    }
}

fn id_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Kamailio => "ruid",
        Dialect::OpenSips | Dialect::Tandem => "contact_id",
    }
}

fn instance_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Kamailio => "instance",
        Dialect::OpenSips | Dialect::Tandem => "sip_instance",
    }
}
