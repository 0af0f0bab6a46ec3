//! Records of calls: where they are written, as `[records]` says.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use engine::StoreError;
use store::{RecordFiles, RecordSettings, RecordState, Sync};

use crate::config::Config;
use crate::control::RecordsView;
use crate::service::node_name;
use crate::state_directory::StateDirectory;

/// The bytes of what `[records]` counts sizes in.
const MEBIBYTE: u64 = 1 << 20;

/// `[records]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Whether any are written.
    pub files: Files,
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

/// Where the records go; `None`: nowhere.
pub fn settings(config: &Config, state: &StateDirectory) -> Option<RecordSettings> {
    let Records { files, directory, file_mebibytes_max, files_max, sync } = &config.records;
    (*files == Files::Written).then(|| RecordSettings {
        directory: directory.clone().unwrap_or_else(|| state.records()),
        file_bytes_max: file_mebibytes_max.saturating_mul(MEBIBYTE),
        files_max: *files_max,
        sync: *sync,
        node: node_name(config),
    })
}

/// Starts what writes them.
pub fn start(config: &Config, state: &StateDirectory) -> Result<Option<Arc<RecordFiles>>, StoreError> {
    settings(config, state).map(|settings| RecordFiles::start(settings).map(Arc::new)).transpose()
}

/// How the writing goes, for those who look.
pub fn view(state: &RecordState) -> RecordsView {
    RecordsView {
        error: state.failing.as_ref().map(ToString::to_string),
        written: state.written,
        waiting: state.waiting,
        lost: state.lost,
    }
}
