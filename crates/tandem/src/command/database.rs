//! `tandem database`: what is done once to the database of a server.

use anyhow::{Result, bail};
use clap::Subcommand;
use store::{init_lease, init_server};

use super::{Place, print};
use crate::config::cluster::{NamedBy, RowWitness};
use crate::database;
use crate::row_witness;

#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Make the tables in a database that has none of them; what is missing in one that it has made before is added, and nothing else is touched
    Init {
        #[command(flatten)]
        place: Place,
    },
}

impl DatabaseCommand {
    /// Does what was written.
    pub fn run(self) -> Result<()> {
        let Self::Init { place } = self;
        let config = place.config()?;
        let settings = database::server(&config)?;
        let row = config.cluster.as_ref().and_then(|cluster| cluster.row.as_ref());
        let own = match row {
            Some(RowWitness::Database(server)) if server.named_by == NamedBy::Witness => Some(server),
            _ => None,
        };
        if settings.is_none() && own.is_none() {
            bail!(
                "the configuration names no database server: write database.url; without one the tables are made by \
                 themselves, in the state directory"
            );
        }
        // Those of the server first: they are the witness's too, where it has the same database.
        let of_server = settings.as_ref().map(init_server);
        let mut text = String::new();
        if let Some(Ok(made)) = &of_server {
            let made = made.join(", ");
            text.push_str(&format!("The tables {made} were made. `tandem subscriber add` fills them.\n"));
        }
        // Also when the server's are there already: it may be named later than they were made.
        if let Some(server) = own {
            let made = init_lease(&row_witness::settings(server)?)?;
            text.push_str(match made.as_slice() {
                [] => "The table tandem_lease of the witness is there already.\n",
                _ => "The table tandem_lease of the witness was made.\n",
            });
        }
        print(&text)?;
        of_server.transpose()?;
        Ok(())
    }
}
