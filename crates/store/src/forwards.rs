//! Where the calls of an account are forwarded.

use std::time::Duration;

use routing::{ForwardTarget, Forwards};
use rusqlite::{Connection, params};
use sip::Aor;

/// What is set for an account.
pub fn read(connection: &Connection, account: &Aor) -> rusqlite::Result<Forwards> {
    let mut statement = connection
        .prepare_cached("SELECT kind, uri, after_ms FROM forward WHERE username = ?1 AND domain = ?2")?;
    let mut rows = statement.query([account.user(), account.domain()])?;
    let mut forwards = Forwards::default();
    while let Some(found) = rows.next()? {
        let (kind, uri): (String, String) = (found.get(0)?, found.get(1)?);
        let after: Option<i64> = found.get(2)?;
        take_row(&mut forwards, account, (&kind, &uri, after.and_then(|after| u64::try_from(after).ok())));
    }
    Ok(forwards)
}

/// Adds what a row says: its kind, its target, and after how many milliseconds.
pub fn take_row(forwards: &mut Forwards, account: &Aor, (kind, uri, after): (&str, &str, Option<u64>)) {
    let target = ForwardTarget::parse(uri, account.domain());
    if target.is_none() {
        tracing::warn!(%account, kind, "a forward whose target is no URI is not followed");
    }
    match kind {
        "always" => forwards.always = target,
        "busy" => forwards.busy = target,
        "no_answer" => {
            forwards.no_answer = target;
            forwards.no_answer_after = after.map(Duration::from_millis);
        }
        "not_registered" => forwards.not_registered = target,
        // Of a later release, which has gone back to this one.
        _ => {}
    }
}

/// The rows of which [`take_row`] makes the same.
pub fn rows(forwards: &Forwards) -> impl Iterator<Item = (&'static str, &ForwardTarget, Option<i64>)> {
    let Forwards { always, busy, no_answer, no_answer_after, not_registered } = forwards;
    let after = no_answer_after.map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
    let kinds = [
        ("always", always, None),
        ("busy", busy, None),
        ("no_answer", no_answer, after),
        ("not_registered", not_registered, None),
    ];
    kinds.into_iter().filter_map(|(kind, target, after)| Some((kind, target.as_ref()?, after)))
}

/// Replaces what is set for an account.
pub fn write(connection: &Connection, account: &Aor, forwards: &Forwards) -> rusqlite::Result<()> {
    remove(connection, account)?;
    for (kind, target, after) in rows(forwards) {
        connection.execute(
            "INSERT INTO forward (username, domain, kind, uri, after_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![account.user(), account.domain(), kind, target.as_str(), after],
        )?;
    }
    Ok(())
}

/// Takes away what is set for an account.
pub fn remove(connection: &Connection, account: &Aor) -> rusqlite::Result<()> {
    let of = [account.user(), account.domain()];
    connection.execute("DELETE FROM forward WHERE username = ?1 AND domain = ?2", of).map(|_| ())
}
