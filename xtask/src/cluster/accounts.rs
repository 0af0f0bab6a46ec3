//! Accounts of many phones, put into the databases of nodes that do not run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use sip::Aor;
use store::{Credentials, NewSubscriber, Subscribers};

use super::{Cluster, state_directory};
use crate::lab::pair::{Side, VIP};
use crate::server::PASSWORD;

/// Where they are written first: in the lab's private `/run`, as each is a transaction of its own.
const FILE: &str = "/run/accounts.sqlite";

impl Cluster {
    /// Gives both nodes the accounts `user0`, `user1` … and these others, all with the password [`PASSWORD`]; no node may
    /// have been started.
    pub fn prepare_accounts(&self, count: u32, others: &[&str]) -> Result<()> {
        ensure!(self.running.is_empty(), "a node runs already");
        let told = |error: store::SubscriberError| anyhow!("{error:?}");
        let mut subscribers = Subscribers::open(Path::new(FILE)).map_err(|error| anyhow!("{error:?}"))?;
        let domain = VIP.to_string();
        let numbered = (0..count).map(|number| format!("user{number}"));
        for user in numbered.chain(others.iter().map(|user| (*user).to_owned())) {
            let aor = Aor::parse(&format!("{user}@{domain}")).context("no address of record")?;
            let credentials = Credentials::of(&aor, &domain, PASSWORD);
            let new = NewSubscriber { aor, credentials, aliases: Vec::new(), may_use: Vec::new() };
            subscribers.add(&new).map_err(told)?;
        }
        // The last connection brings the journal into the file.
        drop(subscribers);
        for side in Side::BOTH {
            let place = Path::new(&state_directory(side.name())).join("tandem.sqlite");
            fs::copy(FILE, &place).with_context(|| place.display().to_string())?;
        }
        fs::remove_file(FILE)?;
        Ok(())
    }
}
