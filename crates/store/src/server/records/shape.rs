//! The tables of calls as they are in a database: whose, with which columns, and what each of them can hold.

use std::collections::BTreeMap;

use super::field::{Content, Field, Nature};
use crate::records::{Line, sql_time};
use crate::server::address::Product;
use crate::server::link::{Link, Value};
use crate::server::tables::Dialect;

/// Tandem's own table.
pub const OWN: &str = "tandem_cdr";

/// Its columns.
const OWN_COLUMNS: [(&str, Field); 23] = [
    ("id", Field::Id),
    ("start_time", Field::Start),
    ("answer_time", Field::Answer),
    ("end_time", Field::End),
    ("setup_ms", Field::SetupMs),
    ("talk_ms", Field::TalkMs),
    ("sip_code", Field::Code),
    ("sip_reason", Field::Reason),
    ("ended_by", Field::EndedBy),
    ("why", Field::Why),
    ("caller", Field::Caller),
    ("callee", Field::Callee),
    ("request_uri", Field::RequestUri),
    ("admitted", Field::Admitted),
    ("account", Field::Account),
    ("source", Field::Source),
    ("gateway_in", Field::GatewayIn),
    ("gateway_out", Field::GatewayOut),
    ("call_id", Field::CallId),
    ("from_tag", Field::FromTag),
    ("to_tag", Field::ToTag),
    ("node", Field::Node),
    ("epoch", Field::Epoch),
];
/// Its columns of media, which a table that an earlier version made has not.
pub const OWN_MEDIA_COLUMNS: [(&str, Field); 13] = [
    ("media_after_ms", Field::MediaAfterMs),
    ("caller_packets", Field::CallerPackets),
    ("caller_octets", Field::CallerOctets),
    ("caller_lost", Field::CallerLost),
    ("caller_jitter_us", Field::CallerJitterUs),
    ("caller_round_trip_us", Field::CallerRoundTripUs),
    ("caller_mos", Field::CallerMos),
    ("callee_packets", Field::CalleePackets),
    ("callee_octets", Field::CalleeOctets),
    ("callee_lost", Field::CalleeLost),
    ("callee_jitter_us", Field::CalleeJitterUs),
    ("callee_round_trip_us", Field::CalleeRoundTripUs),
    ("callee_mos", Field::CalleeMos),
];
/// What `acc` and `missed_calls` have in every release.
const ACC_COLUMNS: [(&str, Field); 7] = [
    ("method", Field::Method),
    ("from_tag", Field::FromTag),
    ("to_tag", Field::ToTag),
    ("callid", Field::CallId),
    ("sip_code", Field::Code),
    ("sip_reason", Field::Reason),
    ("time", Field::AnswerOrEnd),
];
/// What OpenSIPS has besides.
const OPENSIPS_COLUMNS: [(&str, Field); 4] = [
    ("duration", Field::TalkS),
    ("ms_duration", Field::TalkMs),
    ("setuptime", Field::SetupS),
    ("created", Field::Start),
];
const CDRS_COLUMNS: [(&str, Field); 3] =
    [("start_time", Field::Answer), ("end_time", Field::End), ("duration", Field::Talk)];

type Wanted = &'static [(&'static str, Field)];

/// A further column of `acc`, `missed_calls` or `acc_cdrs`, and what is to stand in it.
pub type ExtraColumn = (String, Field);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTables {
    /// Whose `acc` and `missed_calls` are.
    pub dialect: Dialect,
    /// Tandem's own table.
    pub own: Insert,
    /// Those of others that calls are written to.
    pub others: Vec<Insert>,
    /// Tables with their versions, and what is done without.
    pub recognised: Vec<(&'static str, u32)>,
    /// Of these what was done can not be undone.
    pub without_transactions: Vec<&'static str>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// How a row is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// Into which table.
    pub table: &'static str,
    product: Product,
    columns: Vec<Target>,
}

/// One column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: String,
    field: Field,
    holds: Holds,
}

/// What stands for the `?` of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// So many characters of these.
    Text(usize, Characters),
    /// Whole numbers up to this one.
    Whole(i64),
    /// Numbers with parts.
    Parts,
    /// Times with parts of a second, or without.
    Time(Parts),
    /// What is not written.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    Kept,
    Dropped,
}

/// Which characters a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Characters {
    All,
    /// MySQL's `utf8` of three bytes.
    ThreeBytes,
    Ascii,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    holds: Holds,
    /// A row must say something.
    is_needed: bool,
}

type Columns = BTreeMap<String, Vec<Column>>;

impl CallTables {
    /// Looks at the database; `Err`: everything that keeps calls from being written there.
    pub async fn recognise(
        link: &mut Link,
        others: Others,
        extra: &[ExtraColumn],
    ) -> Result<Result<Self, Vec<String>>, sqlx::Error> {
        let product = link.product();
        let columns = read_columns(link).await?;
        let mut versions = BTreeMap::new();
        if has(&columns, "version", "table_name") && has(&columns, "version", "table_version") {
            let query = format!(
                "SELECT {}, {} FROM version",
                product.text("table_name"),
                product.text("table_version")
            );
            for row in link.rows(&query, &[]).await? {
                versions.extend(row.number(1).map(|version| (row.text(0).trim_end().to_owned(), version)));
            }
        }
        let mut engines = BTreeMap::new();
        if product == Product::MySql {
            let query = "SELECT CAST(table_name AS CHAR), CAST(engine AS CHAR) FROM information_schema.tables \
                         WHERE table_schema = DATABASE()";
            for row in link.rows(query, &[]).await? {
                engines.insert(row.text(0).to_ascii_lowercase(), row.text(1).to_owned());
            }
        }
        let mut found = Self::of(product, &columns, &versions, others, extra);
        if let Ok(tables) = &mut found {
            for table in std::iter::once(&tables.own).chain(&tables.others) {
                let engine = engines.get(table.table).map(String::as_str).unwrap_or("InnoDB");
                if !engine.eq_ignore_ascii_case("InnoDB") {
                    tables.without_transactions.push(table.table);
                    tables.notes.push(format!(
                        "the table {} is of the engine {engine}, which knows no transactions: a call may be there twice; \
                         ALTER TABLE {0} ENGINE=InnoDB",
                        table.table
                    ));
                }
            }
        }
        Ok(found)
    }

    fn of(
        product: Product,
        columns: &Columns,
        versions: &BTreeMap<String, u32>,
        others: Others,
        extra: &[ExtraColumn],
    ) -> Result<Self, Vec<String>> {
        let dialect = Dialect::of(has(columns, "version", "id"), versions);
        let mut problems = Vec::new();
        let own = Insert::of(product, OWN, &OWN_COLUMNS, &OWN_MEDIA_COLUMNS, &[], columns, &mut problems);
        let mut tables = Self {
            dialect,
            own,
            others: Vec::new(),
            recognised: Vec::new(),
            without_transactions: Vec::new(),
            notes: Vec::new(),
        };
        let lacks_media = OWN_MEDIA_COLUMNS
            .iter()
            .any(|(name, _)| !tables.own.columns.iter().any(|it| it.name.eq_ignore_ascii_case(name)));
        if lacks_media {
            tables.notes.push(format!(
                "the table {OWN} is of an earlier version and has not all columns of media figures: calls are written without \
                 those; `tandem database init` adds them"
            ));
        }
        if others == Others::Written {
            tables.take_others(product, columns, versions, extra, &mut problems);
        }
        if problems.is_empty() { Ok(tables) } else { Err(problems) }
    }

    fn take_others(
        &mut self,
        product: Product,
        columns: &Columns,
        versions: &BTreeMap<String, u32>,
        extra: &[ExtraColumn],
        problems: &mut Vec<String>,
    ) {
        let is_kamailio = self.dialect == Dialect::Kamailio;
        let more: Wanted = if is_kamailio { &[] } else { &OPENSIPS_COLUMNS };
        let wanted: [(&'static str, Wanted, Wanted, &[u32], &str); 3] = [
            ("acc", &ACC_COLUMNS, more, if is_kamailio { &[5] } else { &[7] }, "answered calls"),
            ("missed_calls", &ACC_COLUMNS, more, if is_kamailio { &[4] } else { &[5] }, "missed calls"),
            ("acc_cdrs", &CDRS_COLUMNS, &[], &[2, 3], "ends of calls"),
        ];
        for (table, needed, more, known, what) in wanted {
            if !columns.contains_key(table) {
                if table != "acc_cdrs" {
                    self.notes.push(format!("there is no table {table}: {what} are in {OWN} alone"));
                }
                continue;
            }
            match versions.get(table) {
                // A table of that name that is not Kamailio's is somebody's own.
                _ if table == "acc_cdrs" && !is_kamailio => continue,
                None => problems.push(format!(
                    "the table `version` has no row for {table}, or this user may not read it: write the version that its \
                     schema file has, or records.acc = false"
                )),
                Some(is) if !known.contains(is) => {
                    let known: Vec<String> = known.iter().map(u32::to_string).collect();
                    problems.push(format!(
                        "the table {table} has version {is}, and version {} can be written: bring it there with the schema \
                         files of your {}, or write records.acc = false",
                        known.join(" or "),
                        self.dialect
                    ));
                }
                Some(is) => {
                    self.recognised.push((table, *is));
                    let insert = Insert::of(product, table, needed, more, extra, columns, problems);
                    self.others.push(insert);
                }
            }
        }
        for (name, _) in extra {
            if !self
                .others
                .iter()
                .any(|insert| insert.columns.iter().any(|it| it.name.eq_ignore_ascii_case(name)))
            {
                problems.push(format!(
                    "neither acc nor missed_calls nor acc_cdrs has the column {name} of records.acc_columns: add it there, or \
                     leave it out"
                ));
            }
        }
    }

    /// Whether a call belongs into a table.
    pub fn takes(insert: &Insert, line: &Line) -> bool {
        line.answer.is_some() == (insert.table != "missed_calls")
    }
}

/// Whether calls go to the tables of others too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// Where they are there.
    #[default]
    Written,
    /// They are left alone.
    LeftAlone,
}

impl Insert {
    fn of(
        product: Product,
        table: &'static str,
        needed: &[(&str, Field)],
        more: &[(&str, Field)],
        extra: &[ExtraColumn],
        columns: &Columns,
        problems: &mut Vec<String>,
    ) -> Self {
        let mut insert = Self { table, product, columns: Vec::new() };
        let Some(there) = columns.get(table) else {
            problems.push(format!(
                "there is no table {table}, or this user may not write it: run `tandem database init`, or grant SELECT and \
                 INSERT"
            ));
            return insert;
        };
        let find = |name: &str| there.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let lacks = |(name, _): &&(&str, Field)| find(name).is_none();
        for (name, _) in needed.iter().filter(lacks) {
            problems.push(format!("the table {table} has no column {name}: bring it to its shape again"));
        }
        for column in there {
            let named = |(name, _): &&(&str, Field)| column.name.eq_ignore_ascii_case(name);
            let wished = extra.iter().find(|(name, _)| column.name.eq_ignore_ascii_case(name));
            let usual = needed.iter().chain(more).find(named).map(|(_, field)| *field);
            match wished.map(|(_, field)| *field).or(usual) {
                Some(field) if column.holds.can_hold(field.nature()) => {
                    let holds = match column.holds {
                        // Others write whole seconds, and may read nothing else.
                        Holds::Time(_) if table != OWN => Holds::Time(Parts::Dropped),
                        holds => holds,
                    };
                    insert.columns.push(Target { name: column.name.clone(), field, holds });
                }
                Some(_) => problems.push(format!(
                    "the column {} of {table} is of a type that can not hold what is to be written there: change the type, \
                     or records.acc_columns",
                    column.name
                )),
                None if column.is_needed => problems.push(format!(
                    "the column {} of {table} has no default, and nothing says what stands there: name it in \
                     records.acc_columns, or give it a default",
                    column.name
                )),
                None => {}
            }
        }
        insert
    }

    /// The statement for so many rows, with its values; and how many rows did not fit and were cut.
    pub fn statement(&self, lines: &[&Line]) -> (String, Vec<Bound>, u64) {
        let quoted = |name: &str| match self.product {
            Product::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
            Product::MySql => format!("`{}`", name.replace('`', "``")),
        };
        let names: Vec<String> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        let (mut rows, mut values, mut cut) = (Vec::new(), Vec::new(), 0);
        for line in lines {
            let (mut places, mut is_cut) = (Vec::new(), false);
            for column in &self.columns {
                let (place, value, fits) = column.holds.write(column.field.of(line), self.product);
                places.push(place);
                values.extend(value);
                is_cut |= !fits;
            }
            cut += u64::from(is_cut);
            rows.push(format!("({})", places.join(", ")));
        }
        let sql = format!("INSERT INTO {} ({}) VALUES {}", self.table, names.join(", "), rows.join(", "));
        (sql, values, cut)
    }
}

impl Bound {
    /// For a statement.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Number(number) => Value::Number(Some(*number)),
        }
    }
}

/// What the server puts where nothing is known.
const DEFAULT: &str = "DEFAULT";

impl Holds {
    fn can_hold(self, nature: Nature) -> bool {
        match self {
            Self::Text(..) => true,
            // A time as seconds since 1970.
            Self::Whole(_) => nature != Nature::Text,
            Self::Parts => nature == Nature::Number,
            Self::Time(_) => nature == Nature::Time,
            Self::Other => false,
        }
    }

    /// The place of the value in a statement, the value, and whether all of it found room.
    fn write(self, content: Content<'_>, product: Product) -> (&'static str, Option<Bound>, bool) {
        match self {
            Self::Text(room, characters) => {
                let whole = match content {
                    Content::Nothing => return (DEFAULT, None, true),
                    Content::Text(text) => text.to_owned(),
                    Content::Number(number) => number.to_string(),
                    Content::Seconds(ms) => seconds(ms),
                    Content::Time(time) => sql_time(time)[..19].to_owned(),
                };
                let text: String = whole.chars().take(room).map(|it| characters.nearest(it)).collect();
                let fits = text == whole;
                ("?", Some(Bound::Text(text)), fits)
            }
            Self::Whole(max) => {
                let number = match content {
                    Content::Number(number) => number,
                    Content::Seconds(ms) => ms / 1_000,
                    Content::Time(time) => time.as_secs(),
                    Content::Text(_) | Content::Nothing => return (DEFAULT, None, true),
                };
                let fitting = i64::try_from(number).unwrap_or(i64::MAX).min(max);
                ("?", Some(Bound::Number(fitting)), u64::try_from(fitting) == Ok(number))
            }
            Self::Parts => {
                let text = match content {
                    Content::Number(number) => number.to_string(),
                    Content::Seconds(ms) => seconds(ms),
                    _ => return (DEFAULT, None, true),
                };
                ("CAST(? AS DECIMAL(20, 3))", Some(Bound::Text(text)), true)
            }
            Self::Time(parts) => {
                let Content::Time(time) = content else { return (DEFAULT, None, true) };
                let mut text = sql_time(time);
                if parts == Parts::Dropped {
                    text.truncate(text.len() - ".000".len());
                }
                let place = match product {
                    Product::Postgres => "CAST(? AS TIMESTAMP)",
                    Product::MySql => "CAST(? AS DATETIME(3))",
                };
                (place, Some(Bound::Text(text)), true)
            }
            Self::Other => (DEFAULT, None, true),
        }
    }
}

impl Characters {
    fn nearest(self, it: char) -> char {
        match self {
            // PostgreSQL has no place for it.
            _ if it == '\0' => '?',
            Self::All => it,
            Self::ThreeBytes if it.len_utf8() < 4 => it,
            Self::Ascii if it.is_ascii() => it,
            Self::ThreeBytes | Self::Ascii => '?',
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn has(columns: &Columns, table: &str, column: &str) -> bool {
    columns.get(table).is_some_and(|columns| columns.iter().any(|it| it.name.eq_ignore_ascii_case(column)))
}

async fn read_columns(link: &mut Link) -> Result<Columns, sqlx::Error> {
    let product = link.product();
    let (place, own, encoding) = match product {
        Product::Postgres => (
            "table_schema::text = ANY(current_schemas(false)::text[])",
            "CASE WHEN is_identity = 'YES' OR is_generated <> 'NEVER' THEN 'own' ELSE '' END",
            "current_setting('server_encoding')",
        ),
        Product::MySql => {
            ("table_schema = DATABASE()", "CAST(extra AS CHAR)", "CAST(character_set_name AS CHAR)")
        }
    };
    let columns =
        ["table_name", "column_name", "data_type", "character_maximum_length", "datetime_precision"]
            .map(|column| product.text(column));
    let query = format!(
        "SELECT {}, {own}, {encoding}, CASE WHEN is_nullable = 'NO' AND column_default IS NULL THEN 'needed' ELSE '' END \
         FROM information_schema.columns WHERE {place} AND LOWER(table_name) IN ('version', ?, 'acc', 'missed_calls', 'acc_cdrs') \
         ORDER BY ordinal_position",
        columns.join(", ")
    );
    let mut columns = Columns::new();
    for row in link.rows(&query, &[Value::Text(OWN)]).await? {
        let own = row.text(5).to_ascii_lowercase();
        let is_own = own == "own" || own.contains("auto_increment") || own.contains("generated");
        let holds = holds(&row.text(2).to_ascii_lowercase(), row.number(3), row.number(4), row.text(6));
        columns.entry(row.text(0).to_ascii_lowercase()).or_default().push(Column {
            name: row.text(1).to_owned(),
            holds,
            is_needed: row.text(7) == "needed" && !is_own,
        });
    }
    Ok(columns)
}

fn holds(kind: &str, length: Option<usize>, precision: Option<u32>, encoding: &str) -> Holds {
    let parts = if precision.unwrap_or(0) >= 3 { Parts::Kept } else { Parts::Dropped };
    match kind {
        "character varying" | "character" | "text" | "varchar" | "char" | "tinytext" | "mediumtext"
        | "longtext" => {
            let characters = match encoding.to_ascii_lowercase().as_str() {
                "utf8mb4" => Characters::All,
                // PostgreSQL's own word for all of Unicode; MySQL's `utf8` is not it.
                "utf8" if encoding == "UTF8" => Characters::All,
                "utf8" | "utf8mb3" => Characters::ThreeBytes,
                _ => Characters::Ascii,
            };
            Holds::Text(length.unwrap_or(usize::MAX), characters)
        }
        "tinyint" => Holds::Whole(i64::from(i8::MAX)),
        "smallint" => Holds::Whole(i64::from(i16::MAX)),
        "mediumint" => Holds::Whole((1 << 23) - 1),
        "integer" | "int" => Holds::Whole(i64::from(i32::MAX)),
        "bigint" => Holds::Whole(i64::MAX),
        "numeric" | "decimal" | "real" | "double precision" | "float" | "double" => Holds::Parts,
        "timestamp without time zone" | "timestamp with time zone" | "datetime" | "timestamp" => {
            Holds::Time(parts)
        }
        _ => Holds::Other,
    }
}
