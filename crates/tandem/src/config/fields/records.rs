//! `[records]`

use std::path::PathBuf;

use store::Sync;

use super::{Field, Section};
use crate::records::Files;

/// Mebibytes of one file: larger ones are no reading.
const FILE_MEBIBYTES_MAX: u64 = 16_384;
/// Files that stay: a directory with more is slow to list.
const FILES_MAX: u64 = 100_000;

/// The table.
pub const SECTION: Section = Section {
    name: "records",
    meaning: &[
        "Call detail records: one line of JSON for each call that was admitted and has ended. docs/records.md tells every",
        "field. Changes here need a restart.",
    ],
    fields: &[
        Field {
            key: "files",
            default: "false",
            meaning: &["Whether they are written to files."],
            set: |config, value| {
                config.records.files = if value.truth()? { Files::Written } else { Files::None };
                Ok(())
            },
        },
        Field {
            key: "directory",
            default: "\"\"",
            meaning: &[
                "Where, on each node for itself. The engine's user must be able to write there. Empty: `records` in the",
                "state directory.",
            ],
            set: |config, value| {
                let text = value.text()?;
                if !text.is_empty() && !text.starts_with('/') {
                    return Err(value.wrong("is not a whole path", "write a path that begins with /").into());
                }
                config.records.directory = (!text.is_empty()).then(|| PathBuf::from(text));
                Ok(())
            },
        },
        Field {
            key: "file_size",
            default: "64",
            meaning: &[
                "A file of so many mebibytes is followed by the next one. Each day (UTC) begins a file too.",
            ],
            set: |config, value| {
                config.records.file_mebibytes_max = value.number(1..=FILE_MEBIBYTES_MAX)?;
                Ok(())
            },
        },
        Field {
            key: "keep",
            default: "400",
            meaning: &["So many files stay; then the oldest is removed."],
            set: |config, value| {
                config.records.files_max = value.number(2..=FILES_MAX)? as usize;
                Ok(())
            },
        },
        Field {
            key: "sync",
            default: "\"second\"",
            meaning: &[
                "When what was written is forced to the disk, which decides what a loss of power takes: \"always\" (after",
                "each write), \"second\" (each second), \"never\" (when the kernel likes).",
            ],
            set: |config, value| {
                config.records.sync = value.word(&[
                    ("always", Sync::Always),
                    ("second", Sync::Second),
                    ("never", Sync::Never),
                ])?;
                Ok(())
            },
        },
    ],
};
