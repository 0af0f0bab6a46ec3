//! The tables that `tandem database init` makes: those of OpenSIPS 3.2 to 4.0 with a little more, and Tandem's own.

use engine::StoreError;

use super::address::{Product, ServerSettings};
use super::fault::explain;
use super::lease_row;
use super::link::{Link, Value};
use super::records::shape::OWN_MEDIA_COLUMNS;
use super::session::{Access, Reached, reach};
use super::tables::{OWN, OWN_VERSION};

/// What is made: the tables' names, with the versions that `version` has of them.
const TABLES: [(&str, Option<u32>); 12] = [
    ("version", None),
    ("subscriber", Some(8)),
    ("dbaliases", Some(2)),
    ("location", Some(1013)),
    ("tandem_may_use", None),
    ("tandem_forward", None),
    ("tandem_relay", None),
    ("tandem_epoch", None),
    ("tandem_cdr", None),
    (lease_row::TABLE, None),
    ("acc", Some(7)),
    ("missed_calls", Some(5)),
];

/// What is told when the table of calls was there without all of its columns.
const WIDENED: &str = "tandem_cdr (columns of media figures)";

/// Makes the tables in a database that has none of them, or those of Tandem alone that are missing beside the tables of
/// others, and columns of Tandem's own that an earlier version did not know. Returns their names.
pub fn init(settings: &ServerSettings) -> Result<Vec<&'static str>, StoreError> {
    run(settings, Wanted::All)
}

/// Makes the table of a cluster's third vote alone, whatever else the database has. Returns its name, or nothing if it is there.
pub fn init_lease(settings: &ServerSettings) -> Result<Vec<&'static str>, StoreError> {
    run(settings, Wanted::Lease)
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Lease,
}

fn run(settings: &ServerSettings, wanted: Wanted) -> Result<Vec<&'static str>, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| StoreError {
        place: settings.url.to_string(),
        reason: format!("no runtime for it: {error}"),
    })?;
    runtime.block_on(make(settings, wanted))
}

async fn make(settings: &ServerSettings, wanted: Wanted) -> Result<Vec<&'static str>, StoreError> {
    let Reached { mut link, place, access } = reach(settings).await?;
    let refused = |reason: String| StoreError { place: place.clone(), reason };
    if access == Access::ReadOnly {
        return Err(refused("it can only be read: name the primary in database.url".to_owned()));
    }
    let made = tokio::time::timeout(settings.deadline.saturating_mul(10), make_by(&mut link, wanted)).await;
    match made {
        Err(_) => Err(refused("it was too slow to make the tables: see whether it is well".to_owned())),
        Ok(Ok(Ok(made))) => Ok(made),
        Ok(Ok(Err(taken))) => Err(refused(format!(
            "it has the tables {taken} already, and nothing was changed: `tandem check` says whether they can be used; \
             else name an empty database"
        ))),
        Ok(Err(error)) => Err(refused(explain(&error))),
    }
}

/// Makes what is missing; the inner error are the tables that are in the way.
async fn make_by(link: &mut Link, wanted: Wanted) -> Result<Result<Vec<&'static str>, String>, sqlx::Error> {
    let product = link.product();
    let there_sql = match product {
        Product::Postgres => "table_schema::text = ANY(current_schemas(false)::text[])",
        Product::MySql => "table_schema = DATABASE()",
    };
    let query = format!(
        "SELECT {} FROM information_schema.tables WHERE {there_sql} ORDER BY table_name",
        product.text("table_name")
    );
    let rows = link.rows(&query, &[]).await?;
    let there: Vec<String> = rows.iter().map(|row| row.text(0).to_ascii_lowercase()).collect();
    let is_there = |name: &str| there.iter().any(|it| it == name);
    if wanted == Wanted::Lease {
        if is_there(lease_row::TABLE) {
            return Ok(Ok(Vec::new()));
        }
        for statement in statements(product, lease_row::TABLE) {
            link.plain(&statement).await?;
        }
        return Ok(Ok(vec![lease_row::TABLE]));
    }
    // That of the witness may have been made by itself before, and says nothing of whose the others are.
    let taken: Vec<&str> = TABLES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != lease_row::TABLE && is_there(name))
        .collect();
    let is_ours = is_there("version") && {
        let query = format!("SELECT '1' FROM version WHERE {} = ?", product.text("table_name"));
        !link.rows(&query, &[Value::Text(OWN)]).await?.is_empty()
    };
    // Beside the tables of others only those are made that nobody else has.
    let is_wanted = |name: &str| taken.is_empty() || is_ours || name.starts_with("tandem_");
    let missing: Vec<(&'static str, Option<u32>)> =
        TABLES.into_iter().filter(|(name, _)| is_wanted(name) && !is_there(name)).collect();
    let columns = match is_there("tandem_cdr") {
        true => missing_columns(link, there_sql).await?,
        false => Vec::new(),
    };
    if (missing.is_empty() && columns.is_empty()) || (!taken.is_empty() && !is_there("version")) {
        return Ok(Err(taken.join(", ")));
    }
    // PostgreSQL keeps all of it or nothing; with MySQL each table is kept as it is made, and the versions, by
    // which the tables are recognised, come last.
    link.plain("BEGIN").await?;
    let mut versions = Vec::new();
    for (name, version) in &missing {
        for statement in statements(product, name) {
            link.plain(&statement).await?;
        }
        versions.extend(version.map(|version| format!("('{name}', {version})")));
    }
    for column in &columns {
        link.plain(&format!("ALTER TABLE tandem_cdr ADD COLUMN {column} BIGINT NULL")).await?;
    }
    if taken.is_empty() {
        versions.push(format!("('{OWN}', {OWN_VERSION})"));
    }
    if !versions.is_empty() {
        let rows = versions.join(", ");
        link.plain(&format!("INSERT INTO version (table_name, table_version) VALUES {rows}")).await?;
    }
    link.plain("COMMIT").await?;
    let widened = (!columns.is_empty()).then_some(WIDENED);
    Ok(Ok(missing.into_iter().map(|(name, _)| name).chain(widened).collect()))
}

/// What an earlier version has not made of the table of calls.
async fn missing_columns(link: &mut Link, there: &str) -> Result<Vec<&'static str>, sqlx::Error> {
    let query = format!(
        "SELECT {} FROM information_schema.columns WHERE {there} AND LOWER(table_name) = ?",
        link.product().text("column_name")
    );
    let rows = link.rows(&query, &[Value::Text("tandem_cdr")]).await?;
    let is_there = |name: &&str| rows.iter().any(|row| row.text(0).eq_ignore_ascii_case(name));
    Ok(OWN_MEDIA_COLUMNS.iter().map(|(name, _)| *name).filter(|name| !is_there(name)).collect())
}

/// What makes one table.
fn statements(product: Product, name: &str) -> Vec<String> {
    let (id, end, time, moment, real) = match product {
        Product::Postgres => (
            "id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
            "",
            "TIMESTAMP",
            "TIMESTAMP(3)",
            "DOUBLE PRECISION",
        ),
        // Names differ by the case of their letters, as RFC 3261 has it.
        Product::MySql => (
            "id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY",
            " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "DATETIME",
            "DATETIME(3)",
            "DOUBLE",
        ),
    };
    let index = |columns: &str| {
        let index = format!("{name}_{}_idx", columns.split([',', ' ']).next().unwrap_or_default());
        match product {
            Product::Postgres => format!("CREATE INDEX {index} ON {name} ({columns})"),
            Product::MySql => format!("ALTER TABLE {name} ADD INDEX {index} ({columns})"),
        }
    };
    let words = |columns: &[(&str, u16)]| -> String {
        let one = |(column, length): &(&str, u16)| format!("{column} VARCHAR({length}) NOT NULL DEFAULT ''");
        columns.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match name {
        "version" => vec![format!(
            "CREATE TABLE version (table_name VARCHAR(32) NOT NULL PRIMARY KEY, table_version INT NOT NULL DEFAULT 0){end}"
        )],
        "subscriber" => vec![format!(
            "CREATE TABLE subscriber ({id}, {}, calls_max INT, CONSTRAINT account_idx UNIQUE (username, domain)){end}",
            words(&[
                ("username", 64),
                ("domain", 64),
                ("password", 64),
                ("ha1", 64),
                ("ha1_sha256", 64),
                ("ha1_sha512t256", 64),
                ("realm", 255),
            ])
        )],
        "dbaliases" => vec![
            format!(
                "CREATE TABLE dbaliases ({id}, {}, CONSTRAINT alias_idx UNIQUE (alias_username, alias_domain)){end}",
                words(&[("alias_username", 64), ("alias_domain", 64), ("username", 64), ("domain", 64)])
            ),
            index("username, domain"),
        ],
        "tandem_may_use" => vec![format!(
            "CREATE TABLE tandem_may_use (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
             uri_username VARCHAR(64) NOT NULL, uri_domain VARCHAR(64) NOT NULL, \
             PRIMARY KEY (username, domain, uri_username, uri_domain)){end}"
        )],
        "tandem_forward" => vec![format!(
            "CREATE TABLE tandem_forward (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
             kind VARCHAR(16) NOT NULL, uri VARCHAR(512) NOT NULL, after_ms BIGINT, \
             PRIMARY KEY (username, domain, kind)){end}"
        )],
        "tandem_relay" => vec![format!(
            "CREATE TABLE tandem_relay (username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, \
             rule VARCHAR(16) NOT NULL, PRIMARY KEY (username, domain)){end}"
        )],
        // OpenSIPS skips rows whose number it has not made so; a text of any length is what phones send.
        "location" => vec![
            format!(
                "CREATE TABLE location (contact_id BIGINT NOT NULL PRIMARY KEY, username VARCHAR(64) NOT NULL DEFAULT '', \
                 domain VARCHAR(255), contact TEXT NOT NULL, received VARCHAR(255), path TEXT, expires BIGINT NOT NULL, \
                 q {real}, callid VARCHAR(255) NOT NULL DEFAULT '', cseq BIGINT NOT NULL DEFAULT 0, \
                 last_modified {time} NOT NULL, flags INT NOT NULL DEFAULT 0, cflags VARCHAR(255), \
                 user_agent VARCHAR(255) NOT NULL DEFAULT '', socket VARCHAR(64), methods INT, sip_instance VARCHAR(255), \
                 reg_id BIGINT, kv_store TEXT, attr VARCHAR(255)){end}"
            ),
            index("username, domain"),
        ],
        "tandem_epoch" => vec![format!(
            "CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0){end}"
        )],
        // Each renewal leaves a dead row behind: with room beside it the server takes it away by itself.
        lease_row::TABLE => {
            let end = if product == Product::Postgres { " WITH (fillfactor = 10)" } else { end };
            vec![format!(
                "CREATE TABLE {name} (name VARCHAR(64) NOT NULL PRIMARY KEY, state VARCHAR(1024) NOT NULL){end}"
            )]
        }
        "tandem_cdr" => vec![
            format!(
                "CREATE TABLE tandem_cdr (id VARCHAR(32) NOT NULL PRIMARY KEY, start_time {moment} NOT NULL, \
                 answer_time {moment} NULL, end_time {moment} NOT NULL, setup_ms BIGINT NOT NULL DEFAULT 0, \
                 talk_ms BIGINT NOT NULL DEFAULT 0, sip_code INT NOT NULL DEFAULT 0, {}, account VARCHAR(255) NULL, \
                 gateway_in VARCHAR(128) NULL, gateway_out VARCHAR(128) NULL, epoch BIGINT NOT NULL DEFAULT 0, \
                 {}){end}",
                words(&[
                    ("sip_reason", 128),
                    ("ended_by", 16),
                    ("why", 32),
                    ("caller", 512),
                    ("callee", 512),
                    ("request_uri", 512),
                    ("admitted", 16),
                    ("source", 64),
                    ("call_id", 512),
                    ("from_tag", 255),
                    ("to_tag", 255),
                    ("node", 64),
                ]),
                OWN_MEDIA_COLUMNS.map(|(name, _)| format!("{name} BIGINT NULL")).join(", ")
            ),
            index("start_time"),
            index("call_id"),
        ],
        _ => {
            let durations = match name {
                "acc" => "duration INT NOT NULL DEFAULT 0, ms_duration BIGINT NOT NULL DEFAULT 0, ",
                _ => "",
            };
            vec![
                format!(
                    "CREATE TABLE {name} ({id}, {}, time {time} NOT NULL, {durations}setuptime INT NOT NULL DEFAULT 0, \
                     created {time} NULL){end}",
                    words(&[
                        ("method", 16),
                        ("from_tag", 255),
                        ("to_tag", 255),
                        ("callid", 255),
                        ("sip_code", 3),
                        ("sip_reason", 128),
                    ])
                ),
                index("callid"),
            ]
        }
    }
}
