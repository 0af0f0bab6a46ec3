//! Records of calls: where they are written, as `[records]` says.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use store::{
    CallDatabase, CallDatabaseState, OtherCallTables, RecordField, RecordFiles, RecordSettings, RecordState,
    Sync, WrittenFiles,
};

use crate::config::Config;
use crate::control::{RecordsDatabaseView, RecordsView};
use crate::database;
use crate::service::node_name;
use crate::state_directory::StateDirectory;

/// The bytes of what `[records]` counts sizes in.
const MEBIBYTE: u64 = 1 << 20;

/// Files that stay if they are only the way to the database.
const JOURNAL_FILES_MAX: usize = 2;

/// `[records]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Whether any are written.
    pub files: Files,
    /// Whether they are written to the database of `[database]`.
    pub database: InDatabase,
    /// Whether `acc` and its like are written there too.
    pub acc: OtherCallTables,
    /// Further columns of these.
    pub acc_columns: Vec<(String, RecordField)>,
    /// `None`: in the state directory.
    pub directory: Option<PathBuf>,
    /// When a file is followed by another one.
    pub file_mebibytes_max: u64,
    /// How many files stay.
    pub files_max: usize,
    /// What a loss of power may take.
    pub sync: Sync,
}

/// Whether records are written to files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// They are.
    Written,
    /// They are not.
    #[default]
    None,
}

/// Whether records are written to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InDatabase {
    /// They are.
    Written,
    /// They are not.
    #[default]
    None,
}

/// Where the records go; `None`: nowhere.
pub fn settings(config: &Config, state: &StateDirectory) -> Result<Option<RecordSettings>> {
    let Records { files, database, acc, acc_columns, directory, file_mebibytes_max, files_max, sync } =
        &config.records;
    if (*files, *database) == (Files::None, InDatabase::None) {
        return Ok(None);
    }
    let in_database = match database {
        InDatabase::None => None,
        InDatabase::Written => Some(CallDatabase {
            server: database::server(config)?.context("records.database needs database.url")?,
            others: *acc,
            extra: acc_columns.clone(),
            cursor: state.records_cursor(),
            files: if *files == Files::Written { WrittenFiles::Stay } else { WrittenFiles::Go },
        }),
    };
    Ok(Some(RecordSettings {
        directory: directory.clone().unwrap_or_else(|| state.records()),
        file_bytes_max: file_mebibytes_max.saturating_mul(MEBIBYTE),
        files_max: if *files == Files::Written { *files_max } else { JOURNAL_FILES_MAX },
        sync: *sync,
        node: node_name(config),
        database: in_database,
    }))
}

/// Starts what writes them.
pub fn start(config: &Config, state: &StateDirectory) -> Result<Option<Arc<RecordFiles>>> {
    let Some(settings) = settings(config, state)? else { return Ok(None) };
    Ok(Some(Arc::new(RecordFiles::start(settings)?)))
}

/// How the writing goes, for those who look.
pub fn view(state: &RecordState) -> RecordsView {
    RecordsView {
        error: state.failing.as_ref().map(ToString::to_string),
        written: state.written,
        waiting: state.waiting,
        lost: state.lost,
        database: state.database.as_ref().map(database_view),
    }
}

fn database_view(state: &CallDatabaseState) -> RecordsDatabaseView {
    RecordsDatabaseView {
        error: state.failing.as_ref().map(ToString::to_string),
        away_s: state.away.as_secs(),
        owed: state.owed,
        oldest_s: state.oldest.as_secs(),
        written: state.written,
        cut: state.cut,
        aside: state.aside,
        alone: state.alone,
    }
}
