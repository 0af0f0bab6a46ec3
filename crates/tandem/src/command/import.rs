//! `tandem import`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Place, print};
use crate::control::{HeldView, ImportItem, ImportView, ImportWish, Request};
use crate::database::read_password;

/// What is to be taken over.
#[derive(Debug, Args)]
pub struct Options {
    /// Only tell what would be taken over, and what not
    #[arg(long)]
    dry_run: bool,
    /// Take nothing: let Tandem remove the rows that are there, and write its own
    #[arg(long, conflicts_with_all = ["dry_run", "domain", "from"])]
    nothing: bool,
    /// The domain of rows that name none
    #[arg(long)]
    domain: Option<String>,
    /// Another database than the configuration's, as database.url is written; it is only read
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// A file whose first line is its password
    #[arg(long, value_name = "FILE", requires = "from")]
    password_file: Option<PathBuf>,
    /// The time zone of dates in the table, instead of database.time_zone
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Options {
    /// Does it.
    pub fn run(self) -> Result<()> {
        let Self { dry_run, nothing, domain, from, password_file, time_zone, json, place } = self;
        let password = password_file.as_deref().map(read_password).transpose()?;
        let wish = ImportWish { dry_run, nothing, domain, from, password, time_zone };
        let mut left_out = Vec::new();
        let view: ImportView =
            place.server()?.ask_for_items(&Request::Import(wish.clone()), |item: ImportItem| {
                match item {
                    ImportItem::Progress { rows, of } => show_progress(rows, of),
                    ImportItem::LeftOut { .. } => left_out.push(item),
                }
                Ok(())
            })?;
        end_progress();
        if json {
            let all = serde_json::json!({ "outcome": view, "rows_left_out": left_out });
            return print(&format!("{}\n", serde_json::to_string_pretty(&all)?));
        }
        print(&text(&wish, &view, &left_out))
    }
}

/// On one line that is written again and again, for who watches.
fn show_progress(rows: u64, of: u64) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nobody is harmed if it can not be shown.
        let _ = write!(out, "\r{rows} of {of} rows");
    }
}

fn end_progress() {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K");
    }
}

fn text(wish: &ImportWish, view: &ImportView, left_out: &[ImportItem]) -> String {
    if view.decided == Some(true) && view.held.is_none() {
        return if wish.nothing {
            "The table location is Tandem's: rows of phones that are not registered here are removed.\n"
                .to_owned()
        } else {
            "There is nothing to take over: the table location is Tandem's, and says what is registered here.\n"
                .to_owned()
        };
    }
    let mut text = String::new();
    for item in left_out {
        if let ImportItem::LeftOut { name, contact, why } = item {
            text.push_str(&format!("left out: {name} {contact}: {why}\n"));
        }
    }
    let ImportView { rows, taken, known, .. } = view;
    let what = if wish.dry_run { "would be taken over" } else { "were taken over" };
    text.push_str(&format!(
        "Of {rows} rows {taken} {what}, and {known} are of phones that are registered here.\n"
    ));
    for (why, count) in &view.left_out {
        text.push_str(&format!("{count} were left out: {why}\n"));
    }
    match view.held {
        Some(HeldView::BothNodes) => text.push_str("Both nodes have them.\n"),
        Some(HeldView::NotYetTheOther) => text.push_str(
            "note: the other node does not have them yet: see `tandem status`, and do this again when it is back\n",
        ),
        Some(HeldView::NotYetTheDisk) => text.push_str(
            "note: this node's disk does not have them yet: see `tandem status` for what is wrong with it, and do this again\n",
        ),
        Some(HeldView::ThisNode) | None => {}
    }
    if !wish.dry_run && view.decided == Some(false) {
        text.push_str(
            "note: nothing is written to the table location yet. Mend what was left out and do this again, or let those rows \
             be removed: `tandem import --nothing`\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told_with_what_is_to_be_done() {
        let left_out = [ImportItem::LeftOut {
            name: "bob@example.net".to_owned(),
            contact: "sip:b".to_owned(),
            why: "no".to_owned(),
        }];
        let view = ImportView {
            rows: 3,
            taken: 1,
            known: 1,
            left_out: [("unknown domain".to_owned(), 1)].into(),
            held: Some(HeldView::BothNodes),
            decided: Some(false),
        };

        let told = text(&ImportWish::default(), &view, &left_out);

        for part in [
            "left out: bob@example.net sip:b: no",
            "Of 3 rows 1 were taken over, and 1 are",
            "1 were left out: unknown domain",
            "Both nodes",
            "--nothing",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }
}
