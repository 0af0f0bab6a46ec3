//! `tandem bans`: who is banned or slowed down.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::Value;

use super::{Place, print};
use crate::config::{parse_duration, write_duration};
use crate::control::client::Client;
use crate::control::{BanView, Request};
use crate::table::Table;

/// What an operator can do about bans.
#[derive(Debug, Subcommand)]
pub enum BansCommand {
    /// Show who is banned or slowed down, why, and for how long
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Ban an address; of IPv6 its whole /64
    Add {
        /// The address
        address: IpAddr,
        /// For how long
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = time)]
        lasts: Duration,
        #[command(flatten)]
        place: Place,
    },
    /// Lift what holds a source
    Remove {
        /// The source as it is listed, an address of it, or `all`
        address: String,
        #[command(flatten)]
        place: Place,
    },
}

impl BansCommand {
    /// Does it.
    pub fn run(self) -> Result<()> {
        match self {
            Self::List { json, place } => list(&mut place.server()?, json),
            Self::Add { address, lasts, place } => add(&mut place.server()?, address, lasts),
            Self::Remove { address, place } => remove(&mut place.server()?, &address),
        }
    }
}

fn list(server: &mut Client, json: bool) -> Result<()> {
    let held = items(server, &Request::Bans {})?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&held)?));
    }
    print(&list_text(&views(held)?))
}

fn add(server: &mut Client, address: IpAddr, lasts: Duration) -> Result<()> {
    let ban: BanView = server.ask(&Request::BanAdd { address, seconds: lasts.as_secs() })?;
    print(&format!("{} is banned for {}.\n", ban.source, write_duration(Duration::from_secs(ban.left_s))))
}

fn remove(server: &mut Client, address: &str) -> Result<()> {
    let address = (address != "all").then(|| address.to_owned());
    let lifted = views(items(server, &Request::BanRemove { address: address.clone() })?)?;
    if let (true, Some(address)) = (lifted.is_empty(), address) {
        bail!("{address} is neither banned nor slowed down");
    }
    let mut text = String::new();
    for ban in &lifted {
        text.push_str(&format!("{} is no longer {}.\n", name(ban), ban.measure));
    }
    print(if text.is_empty() { "Nobody was banned or slowed down.\n" } else { &text })
}

fn items(server: &mut Client, request: &Request) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let () = server.ask_for_items(request, |item: Value| {
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

fn views(items: Vec<Value>) -> Result<Vec<BanView>> {
    Ok(items.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?)
}

fn list_text(held: &[BanView]) -> String {
    if held.is_empty() {
        return "Nobody is banned or slowed down.\n".to_owned();
    }
    let mut table = Table::new(["SOURCE", "ACCOUNT", "", "WHY", "COUNT", "STILL FOR"]);
    for ban in held {
        table.push([
            ban.source.clone(),
            ban.account.clone().unwrap_or_default(),
            ban.measure.clone(),
            ban.cause.clone(),
            if ban.count > 0 { ban.count.to_string() } else { String::new() },
            write_duration(Duration::from_secs(ban.left_s)),
        ]);
    }
    table.to_string()
}

fn name(ban: &BanView) -> String {
    match &ban.account {
        Some(account) => format!("{account} from {}", ban.source),
        None => ban.source.clone(),
    }
}

/// At least a second: a ban that is over at once is a mistake.
fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "write a number with its unit, such as 10m, 1h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_and_a_name_are_shown_with_what_holds_them() {
        let ban = |account: Option<&str>, measure: &str, count| BanView {
            source: "203.0.113.9".to_owned(),
            account: account.map(str::to_owned),
            measure: measure.to_owned(),
            cause: "wrong credentials".to_owned(),
            left_s: 61,
            count,
        };

        let text = list_text(&[ban(None, "banned", 1), ban(Some("alice@example.org"), "slowed", 7)]);

        assert!(text.contains("203.0.113.9") && text.contains("alice@example.org"), "{text}");
        assert!(text.contains("banned") && text.contains("1m1s"), "{text}");
        assert_eq!(list_text(&[]), "Nobody is banned or slowed down.\n");
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5_400)));
        assert!(time("30").is_err() && time("0s").is_err() && time("soon").is_err());
    }
}
