//! What a database has for records of calls, for its operator.

use engine::StoreError;

use super::batch::{CallSession, End, Into};
use super::shape::OWN;
use super::writer::CallDatabase;
use crate::records::{Line, LineMedia, utc};
use crate::writer::wall_now;

/// What was found on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallInspection {
    /// The host that was reached.
    pub place: String,
    /// The tables that calls are written to, with versions where they have one.
    pub tables: Vec<(&'static str, Option<u32>)>,
    /// Whose they are.
    pub dialect: String,
    /// Whether a call was written.
    pub trial: Trial,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// Whether a call was written to see that it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It was, and that was undone.
    Undone,
    /// It was not: there nothing can be undone.
    None,
}

/// Looks at a server's database and tries to write a call there, which is undone. The error has everything that is in the
/// way. Blocks.
pub fn inspect_calls(settings: &CallDatabase) -> Result<CallInspection, StoreError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| StoreError {
            place: settings.server.url.to_string(),
            reason: format!("no runtime for its connection: {error}"),
        })?;
    runtime.block_on(async {
        let mut session = CallSession::open(settings).await?;
        let (place, tables) = (session.place.clone(), session.tables.clone());
        let trial = if tables.without_transactions.is_empty() { Trial::Undone } else { Trial::None };
        if trial == Trial::Undone {
            let trials = [line(None), line(Some(utc(wall_now())))];
            let tried = session.write(&trials.each_ref(), Into::All, End::Undo).await;
            tried.map_err(|failure| StoreError { place: place.clone(), reason: failure.reason })?;
        }
        let own = std::iter::once((OWN, None));
        let others = tables.recognised.iter().map(|(table, version)| (*table, Some(*version)));
        Ok(CallInspection {
            place,
            tables: own.chain(others).collect(),
            dialect: tables.dialect.to_string(),
            trial,
            notes: tables.notes,
        })
    })
}

fn line(answer: Option<String>) -> Line {
    let now = wall_now();
    let text = || "trial".to_owned();
    Line {
        id: format!("trial of {} {}", std::process::id(), u8::from(answer.is_some())),
        start: utc(now),
        answer,
        end: utc(now),
        start_ms: now.as_millis(),
        setup_ms: 0,
        talk_ms: 0,
        code: 200,
        reason: text(),
        ended_by: text(),
        why: text(),
        caller: text(),
        callee: text(),
        request_uri: text(),
        admitted: text(),
        account: Some(text()),
        source: text(),
        gateway_in: Some(text()),
        gateway_out: Some(text()),
        call_id: text(),
        from_tag: text(),
        to_tag: text(),
        node: text(),
        epoch: 0,
        media: LineMedia::default(),
    }
}
