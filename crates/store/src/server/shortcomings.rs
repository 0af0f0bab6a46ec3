//! What is wrong with a server that answers: a character set that can not hold every name, a clock that is far off.
//!
//! Neither keeps accounts from being read on an ordinary day. They hurt later: by a row that can not be written or read, and by
//! bindings that end too early, or never, for the servers that go by the times in the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clock::WallTime;
use engine::StoreError;

use super::address::Product;
use super::session::Session;

/// Clocks that differ by less do no harm to bindings of minutes.
const DIFFERENCE_MAX: Duration = Duration::from_secs(5);
/// Tables whose texts come from phones and operators.
const TABLES: [&str; 9] = [
    "subscriber",
    "dbaliases",
    "location",
    "acc",
    "missed_calls",
    "tandem_may_use",
    "tandem_forward",
    "tandem_cdr",
    "domain",
];
/// Character sets of MySQL that hold every name, or all but the rarest signs.
const WIDE: [&str; 8] = ["utf8mb4", "utf8mb3", "utf8", "utf16", "utf16le", "utf32", "ucs2", "gb18030"];

/// All of it, with the mend. `now` is this host's clock.
pub async fn shortcomings(
    session: &mut Session,
    now: impl Fn() -> WallTime,
) -> Result<Vec<String>, StoreError> {
    let mut found = match session.product() {
        Product::Postgres => encoding(session).await?,
        Product::MySql => character_sets(session).await?,
    };
    let before = now();
    let sql = match session.product() {
        Product::Postgres => "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint::text",
        Product::MySql => "SELECT CAST(FLOOR(UNIX_TIMESTAMP(SYSDATE(3)) * 1000) AS CHAR)",
    };
    let there = session.rows(sql, &[]).await?.first().and_then(|row| row.number(0));
    found.extend(there.and_then(|there| difference(there, before, now())));
    Ok(found)
}

async fn encoding(session: &mut Session) -> Result<Vec<String>, StoreError> {
    let rows = session.rows("SELECT current_setting('server_encoding')", &[]).await?;
    let encoding = rows.first().map_or("", |row| row.text(0));
    let what = match encoding {
        "" | "UTF8" => return Ok(Vec::new()),
        "SQL_ASCII" => "which takes any bytes: a row that is no UTF-8 can not be read".to_owned(),
        _ => "which can not hold every name".to_owned(),
    };
    Ok(vec![format!(
        "the database's character set is {encoding}, {what}; make one by CREATE DATABASE … TEMPLATE template0 ENCODING \
         'UTF8', and take the rows over by pg_dump and psql"
    )])
}

async fn character_sets(session: &mut Session) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT DISTINCT CAST(table_name AS CHAR), CAST(character_set_name AS CHAR) FROM information_schema.columns \
               WHERE table_schema = DATABASE() AND character_set_name IS NOT NULL";
    let mut narrow: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in session.rows(sql, &[]).await? {
        let (table, set) = (row.text(0).to_ascii_lowercase(), row.text(1).to_ascii_lowercase());
        if TABLES.contains(&table.as_str()) && !WIDE.contains(&set.as_str()) {
            narrow.entry(set).or_default().insert(table);
        }
    }
    let told = |(set, tables): (String, BTreeSet<String>)| {
        let tables = Vec::from_iter(tables).join(", ");
        format!(
            "the character set {set} of {tables} can not hold every name: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4 for \
             each of them"
        )
    };
    Ok(narrow.into_iter().map(told).collect())
}

/// Of two clocks, where the other one was read between two looks at ours.
fn difference(there_ms: u64, before: WallTime, after: WallTime) -> Option<String> {
    let (before, after) = (before.as_millis(), after.as_millis());
    let (ms, way) = if there_ms > after {
        (there_ms - after, "ahead of")
    } else {
        (before.saturating_sub(there_ms), "behind")
    };
    (Duration::from_millis(ms) > DIFFERENCE_MAX).then(|| {
        format!(
            "the server's clock is {} s {way} this host's: bindings and calls have wrong times for who goes by the other \
             clock; let both follow NTP (chrony, systemd-timesyncd)",
            ms / 1_000
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_far_off_only_beyond_the_time_that_the_question_took() {
        let at = |seconds: u64| WallTime::from_millis(seconds * 1_000);
        for (there, before, after, word) in [
            (100, 100, 100, None),
            (105, 100, 100, None),
            (106, 100, 100, Some("6 s ahead of")),
            (94, 100, 100, Some("6 s behind")),
            (120, 100, 120, None),
            (94, 100, 130, Some("6 s behind")),
        ] {
            let told = difference(there * 1_000, at(before), at(after));
            assert_eq!(told.is_some(), word.is_some(), "{told:?}");
            assert!(word.is_none_or(|word| told.is_some_and(|told| told.contains(word))), "{there} {word:?}");
        }
    }
}
