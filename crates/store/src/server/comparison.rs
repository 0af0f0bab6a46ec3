//! The task that reads again, round after round, what is remembered of a server's accounts.
//!
//! Nothing tells what others change in the tables: triggers are not theirs, versions are not raised, and what servers know of
//! changed tables differs between products and is not kept for replicas. Rows are read by their keys, some hundreds in one
//! statement, so that a round costs the server little, and costs it the same on every product.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::StoreError;
use routing::Account;
use sip::Aor;

use super::accounts::{find, find_own};
use super::address::ServerSettings;
use super::copies::AccountCopies;
use super::lookups::Health;
use super::session::Session;
use crate::writer::wall_now;

/// Accounts of one statement.
const BATCH: usize = 200;
/// How often a round begins, if the one before is done.
const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// What is waited between the statements of a round: 4,000 accounts in a second at most.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked whether the server is back.
const AWAY_INTERVAL: Duration = Duration::from_millis(100);
/// What is waited after a statement that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Compares for ever.
pub async fn compare(settings: &ServerSettings, copies: &AccountCopies, health: &Health) {
    let mut session = None;
    loop {
        let begun = Instant::now();
        round(settings, copies, health, &mut session).await;
        tokio::time::sleep(ROUND_INTERVAL.saturating_sub(begun.elapsed()).max(PAUSE)).await;
    }
}

/// One round. The first one, and the first after the server was away, waits between no statements: what is remembered has
/// served meanwhile.
async fn round(
    settings: &ServerSettings,
    copies: &AccountCopies,
    health: &Health,
    session: &mut Option<Session>,
) {
    let mut at = wall_now();
    let mut is_hurried = copies.copy_state(false).age.is_none();
    let mut last: Option<Aor> = None;
    loop {
        if health.failing().is_some() {
            tokio::time::sleep(AWAY_INTERVAL).await;
            (at, is_hurried, last) = (wall_now(), true, None);
            continue;
        }
        let Some(names) = copies.after(last.as_ref(), BATCH) else {
            tokio::time::sleep(AWAY_INTERVAL).await;
            continue;
        };
        let done = batch(settings, copies, session, &names).await;
        match (done, names.last()) {
            // The names that phones are registered under become names of accounts.
            (Ok(Wanted::More), None) => {}
            (Err(error), _) => {
                tracing::debug!(%error, "accounts could not be compared with the database");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            (Ok(Wanted::None), None) => return copies.confirm(at),
            (Ok(_), Some(name)) => last = Some(name.clone()),
        }
        if !is_hurried {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Reads these, and some of which a phone is registered and nothing is known.
async fn batch(
    settings: &ServerSettings,
    copies: &AccountCopies,
    kept: &mut Option<Session>,
    names: &[Aor],
) -> Result<Wanted, StoreError> {
    let realm = settings.realm.as_deref();
    let wanted = copies.take_wanted(BATCH);
    if names.is_empty() && wanted.is_empty() {
        return Ok(Wanted::None);
    }
    let mut session = match kept.take() {
        Some(session) => session,
        None => Session::open(settings).await?,
    };
    let read = read(&mut session, names, &wanted, realm).await;
    let (found, others) = match read {
        Ok(read) => read,
        Err(error) => {
            // Those that were taken are wanted still.
            wanted.iter().for_each(|name| copies.want(name));
            return Err(error);
        }
    };
    *kept = Some(session);
    copies.settle(names, found);
    for (name, account) in others {
        copies.learn(&name, &Arc::new(account));
    }
    Ok(if wanted.is_empty() { Wanted::None } else { Wanted::More })
}

/// Whether names were wanted that nothing was known of.
enum Wanted {
    None,
    More,
}

type Named = Vec<(Aor, Account)>;

async fn read(
    session: &mut Session,
    names: &[Aor],
    wanted: &[Aor],
    realm: Option<&str>,
) -> Result<(Vec<Account>, Named), StoreError> {
    let found = if names.is_empty() { Vec::new() } else { find_own(session, names, realm).await? };
    let mut others: Named = if wanted.is_empty() {
        Vec::new()
    } else {
        let own = find_own(session, wanted, realm).await?;
        own.into_iter().map(|account| (account.aor.clone(), account)).collect()
    };
    for name in wanted {
        if !others.iter().any(|(it, _)| it == name)
            && let Some(account) = find(session, name, realm).await?
        {
            others.push((name.clone(), account));
        }
    }
    Ok((found, others))
}
