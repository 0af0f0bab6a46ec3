//! `[records]`

use std::path::PathBuf;

use store::{OtherCallTables, RecordField, Sync};

use super::{Field, Section};
use crate::config::problem::Wrong;
use crate::config::suggest::nearest;
use crate::config::value::Value;
use crate::records::{Files, InDatabase};

/// Mebibytes of one file: larger ones are no reading.
const FILE_MEBIBYTES_MAX: u64 = 16_384;
/// Files that stay: a directory with more is slow to list.
const FILES_MAX: u64 = 100_000;

/// Further columns: more than any table of calls has.
const COLUMNS_MAX: usize = 64;

/// The table.
pub const SECTION: Section = Section {
    name: "records",
    meaning: &[
        "Call detail records: one line of JSON, or one row of the database, for each call that was admitted and has ended.",
        "docs/records.md tells every field. Changes here need a restart.",
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
            key: "database",
            default: "false",
            meaning: &[
                "Whether they are written to the database of [database], each call once, by whichever node it ended at. Without",
                "`files` the files are only the way there, and go when they are written.",
            ],
            set: |config, value| {
                config.records.database = if value.truth()? { InDatabase::Written } else { InDatabase::None };
                Ok(())
            },
        },
        Field {
            key: "acc",
            default: "true",
            meaning: &[
                "Whether a call also becomes a row of acc, missed_calls and acc_cdrs, where these tables are there.",
            ],
            set: |config, value| {
                config.records.acc =
                    if value.truth()? { OtherCallTables::Written } else { OtherCallTables::LeftAlone };
                Ok(())
            },
        },
        Field {
            key: "acc_columns",
            default: "{}",
            meaning: &[
                "Further columns of these tables, and what stands there: { src_user = \"caller_user\", src_ip = \"source_ip\" }.",
            ],
            set: |config, value| {
                config.records.acc_columns = value.pairs(COLUMNS_MAX, column)?;
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

fn column(name: &str, value: &Value<'_>) -> Result<(String, RecordField), Wrong> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(
            value.wrong(format!("has the column `{name}`"), "write letters, digits and _ in a column's name")
        );
    }
    let text = value.text()?;
    let field = RecordField::named(text).ok_or_else(|| {
        let mend = match nearest(text, RecordField::names()) {
            Some(meant) => format!("did you mean \"{meant}\"? docs/records.md has all of them"),
            None => "docs/records.md has all that can stand there".to_owned(),
        };
        value.wrong("is nothing that a record has", mend)
    })?;
    Ok((name.to_owned(), field))
}
