//! What a database has, for its operator.

use engine::StoreError;

use super::address::ServerSettings;
use super::location;
use super::session::{Access, Session};
use super::shortcomings::shortcomings;
use crate::writer::wall_now;

/// What was found on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The host that was reached.
    pub place: String,
    /// Whose tables they are: `OpenSIPS`.
    pub dialect: String,
    /// Those that were recognised, with their versions.
    pub tables: Vec<(&'static str, u32)>,
    /// What is done without, because its table or column is not there.
    pub wanting: Vec<&'static str>,
    /// What keeps bindings from being published, where they are to be.
    pub obstacles: Vec<String>,
    /// Rows of others in a `location` that Tandem has never written: the operator is to say what becomes of them.
    pub rows_of_others: u64,
    /// What is wrong with the server though it answers, and the mend.
    pub shortcomings: Vec<String>,
    /// Accounts that have a rule for the media relay, which is not that none of their calls goes by it.
    pub relay_rules: u64,
    /// Why changes are refused, if they are.
    pub read_only: Option<&'static str>,
}

/// Looks at a server's database; the error has everything that keeps it from being used. Blocks.
pub fn inspect(settings: &ServerSettings) -> Result<Inspection, StoreError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StoreError {
            place: settings.url.to_string(),
            reason: format!("no runtime for its connection: {error}"),
        })?;
    let mut session = runtime.block_on(Session::open(settings))?;
    let (mut obstacles, mut rows_of_others) = (Vec::new(), 0);
    if let Some(location) = &settings.location {
        obstacles = runtime.block_on(location::obstacles(&mut session, location))?;
        if obstacles.is_empty() {
            rows_of_others = runtime.block_on(location::rows_before(&mut session, location))?;
        }
    }
    let shortcomings = runtime.block_on(shortcomings(&mut session, wall_now))?;
    let relay_rules = runtime.block_on(relay_rules(&mut session))?;
    let published = settings.location.as_ref().map(|_| "location");
    let known = ["subscriber", "dbaliases"].into_iter().chain(published);
    Ok(Inspection {
        obstacles,
        rows_of_others,
        shortcomings,
        relay_rules,
        place: session.place.clone(),
        dialect: session.tables.dialect.to_string(),
        tables: known.filter_map(|table| Some((table, session.tables.version(table)?))).collect(),
        wanting: session.tables.wanting(),
        read_only: (session.access == Access::ReadOnly).then_some(
            "it can only be read, so accounts can not be changed: name the primary in database.url, beside the others",
        ),
    })
}

async fn relay_rules(session: &mut Session) -> Result<u64, StoreError> {
    if !session.tables.has_table("tandem_relay") {
        return Ok(0);
    }
    let count = session.product().text("count(*)");
    let sql = format!("SELECT {count} FROM tandem_relay WHERE rule <> 'never'");
    Ok(session.rows(&sql, &[]).await?.first().and_then(|row| row.number(0)).unwrap_or(0))
}
