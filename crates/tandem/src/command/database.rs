//! `tandem database`: what is done once to the database of a server.

use anyhow::{Context, Result};
use clap::Subcommand;
use store::init_server;

use super::{Place, print};
use crate::database;

#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Make the tables in a database that has none of them; a table that is there is never touched
    Init {
        #[command(flatten)]
        place: Place,
    },
}

impl DatabaseCommand {
    /// Does what was written.
    pub fn run(self) -> Result<()> {
        let Self::Init { place } = self;
        let settings = database::server(&place.config()?)?.context(
            "the configuration names no database server: write database.url; without one the tables are made by \
             themselves, in the state directory",
        )?;
        let made = init_server(&settings)?;
        print(&format!("The tables {} were made. `tandem subscriber add` fills them.\n", made.join(", ")))
    }
}
