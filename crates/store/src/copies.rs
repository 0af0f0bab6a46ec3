//! Copies of a server's accounts in the file of this node: what serves while the server can not be asked.
//!
//! A row is one account, with all that is needed to serve it, as JSON. It has hashes and never a password.

use clock::WallTime;
use routing::{Account, Algorithm, CallRules, Forwards};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sip::Aor;

use crate::credentials::is_ha1;
use crate::{forwards, relay_rule};

/// What a row says. A field that another release has is skipped, one that it has not is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Row {
    ha1: Vec<(String, String)>,
    aliases: Vec<String>,
    may_use: Vec<String>,
    forwards: Vec<(String, String, Option<u64>)>,
    calls_max: Option<u32>,
    /// Left out where there is none, so that copies of an older release say the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
}

/// An account as it is written, with a number that another content does not have.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountCopy {
    /// The row.
    pub text: String,
    /// Two copies with the same number say the same.
    pub fingerprint: u64,
}

impl AccountCopy {
    /// The copy of an account.
    pub fn of(account: &Account) -> Self {
        let names = |names: &[Aor]| names.iter().map(Aor::to_string).collect();
        let row = Row {
            ha1: account.ha1.iter().map(|(it, hash)| (name_of(*it).to_owned(), hash.to_string())).collect(),
            aliases: names(&account.aliases),
            may_use: names(&account.may_use),
            forwards: forwards::rows(&account.calls.forwards)
                .map(|(kind, target, after)| {
                    let after = after.and_then(|after| u64::try_from(after).ok());
                    (kind.to_owned(), target.as_str().to_owned(), after)
                })
                .collect(),
            calls_max: account.calls.limit,
            relay: account.calls.relay.map(|rule| relay_rule::word(rule).to_owned()),
        };
        Self::from_text(serde_json::to_string(&row).expect("texts and numbers can be written"))
    }

    fn from_text(text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let fingerprint = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Self { text, fingerprint }
    }

    /// The account that it is a copy of; `None` if it can not be read.
    pub fn account(&self, own: &Aor) -> Option<Account> {
        let row: Row = serde_json::from_str(&self.text).ok()?;
        let names = |names: &[String]| names.iter().filter_map(|name| Aor::parse(name)).collect();
        let mut forwards = Forwards::default();
        for (kind, target, after) in &row.forwards {
            forwards::take_row(&mut forwards, own, (kind, target, *after));
        }
        let hash = |(name, hash): (String, String)| {
            let algorithm = algorithm_of(&name)?;
            is_ha1(algorithm, &hash).then(|| (algorithm, hash.into_boxed_str()))
        };
        Some(Account {
            aor: own.clone(),
            aliases: names(&row.aliases),
            may_use: names(&row.may_use),
            calls: CallRules {
                forwards,
                limit: row.calls_max,
                relay: row.relay.as_deref().and_then(relay_rule::parse),
            },
            ha1: row.ha1.into_iter().filter_map(hash).collect(),
        })
    }
}

/// Prints nothing that would let somebody log in.
impl std::fmt::Debug for AccountCopy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AccountCopy({:x})", self.fingerprint)
    }
}

const ALGORITHMS: [(Algorithm, &str); 3] =
    [(Algorithm::Md5, "md5"), (Algorithm::Sha256, "sha256"), (Algorithm::Sha512_256, "sha512_256")];

fn name_of(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(it, _)| *it == algorithm).map_or("", |(_, name)| name)
}

fn algorithm_of(name: &str) -> Option<Algorithm> {
    ALGORITHMS.iter().find(|(_, it)| *it == name).map(|(algorithm, _)| *algorithm)
}

/// All that are there: the account's name and its copy. What can not be read is left out, and read anew from the server.
pub fn all(connection: &Connection) -> rusqlite::Result<Vec<(Aor, AccountCopy)>> {
    let mut statement = connection.prepare("SELECT name, account FROM account_copy ORDER BY name")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut copies = Vec::new();
    for row in rows {
        let (name, text) = row?;
        copies.extend(Aor::parse(&name).map(|name| (name, AccountCopy::from_text(text))));
    }
    Ok(copies)
}

/// The copy of one account.
pub fn find(connection: &Connection, own: &Aor) -> rusqlite::Result<Option<AccountCopy>> {
    let mut statement = connection.prepare_cached("SELECT account FROM account_copy WHERE name = ?1")?;
    let text = statement.query_row([own.as_str()], |row| row.get::<_, String>(0)).optional()?;
    Ok(text.map(AccountCopy::from_text))
}

/// Writes a copy in place of the one that is there.
pub fn write(connection: &Connection, own: &Aor, copy: &AccountCopy) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO account_copy (name, account) VALUES (?1, ?2)")?;
    statement.execute(params![own.as_str(), copy.text]).map(|_| ())
}

/// Takes a copy away.
pub fn remove(connection: &Connection, own: &Aor) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM account_copy WHERE name = ?1", [own.as_str()]).map(|_| ())
}

/// When all copies were the same as on the server.
pub fn confirmed(connection: &Connection) -> rusqlite::Result<Option<WallTime>> {
    let query = "SELECT confirmed_ms FROM account_copies";
    let found: Option<i64> = connection.query_row(query, [], |row| row.get(0)).optional()?;
    Ok(found.and_then(|at| u64::try_from(at).ok()).map(WallTime::from_millis))
}

/// Notes that all copies were the same as on the server.
pub fn confirm(connection: &Connection, at: WallTime) -> rusqlite::Result<()> {
    let at = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    connection.execute("DELETE FROM account_copies", [])?;
    connection.execute("INSERT INTO account_copies (confirmed_ms) VALUES (?1)", [at]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use routing::ForwardTarget;

    use super::*;

    #[test]
    fn an_account_comes_back_from_its_copy_as_it_was() {
        let aor = |text: &str| Aor::parse(text).expect("an address of record");
        let own = aor("alice@example.org");
        let account = Account {
            aor: own.clone(),
            ha1: vec![
                (Algorithm::Md5, "a".repeat(32).into()),
                (Algorithm::Sha512_256, "b".repeat(64).into()),
            ],
            aliases: vec![aor("2001@example.org")],
            may_use: vec![aor("sales@example.com")],
            calls: CallRules {
                forwards: Forwards {
                    no_answer: ForwardTarget::parse("tel:+4930123", "example.org"),
                    no_answer_after: Some(Duration::from_secs(20)),
                    ..Forwards::default()
                },
                limit: Some(3),
                relay: Some(routing::Anchoring::Always),
            },
        };

        let copy = AccountCopy::of(&account);

        assert_eq!(copy.account(&own), Some(account.clone()));
        assert_eq!(AccountCopy::of(&account), copy);
        let other = Account { aliases: Vec::new(), ..account };
        assert_ne!(AccountCopy::of(&other).fingerprint, copy.fingerprint);
    }

    #[test]
    fn a_copy_of_another_release_is_read_as_far_as_it_is_known_and_rubbish_is_none() {
        let own = Aor::parse("alice@example.org").expect("an address of record");
        let read = |text: &str| AccountCopy::from_text(text.to_owned()).account(&own);

        let later = read(r#"{"ha1":[["md5","short"],["sha3","x"]],"colour":"red","aliases":["@","2@b"]}"#);

        let later = later.expect("it can be read");
        assert_eq!((later.ha1.len(), later.aliases.len()), (0, 1));
        for rubbish in ["", "7", r#"{"calls_max":-1}"#] {
            assert_eq!(read(rubbish), None, "{rubbish}");
        }
    }
}
