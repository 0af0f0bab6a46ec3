//! `tandem subscriber`: through the running server if there is one, else in the database itself.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Subcommand;
use sip::Aor;
use store::{Credentials, NewSubscriber, SubscriberError, Subscribers};

use super::{Place, print};
use crate::config::parse_duration;
use crate::config::relay::Relay;
use crate::control::client::Client;
use crate::control::{ForwardChange, RelayRule, Request, SubscriberView};
use crate::database::Database;
use crate::forwards;
use crate::password::password;
use crate::service::{hashes_of, read_aor, subscriber_view};
use crate::state_directory::StateDirectory;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub enum SubscriberCommand {
    /// Add an account
    Add {
        /// Its address of record, USER@DOMAIN; the phone's user name is USER
        aor: String,
        /// Read the password from the first line of standard input instead of asking
        #[arg(long)]
        password_stdin: bool,
        /// Another name of it; may be repeated
        #[arg(long = "alias", value_name = "AOR")]
        aliases: Vec<String>,
        /// An address of record that it may call and register as, besides its own; may be repeated
        #[arg(long, value_name = "AOR")]
        may_use: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Give an account another password
    Password {
        /// Its address of record
        aor: String,
        /// Read the password from the first line of standard input instead of asking
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Say where the calls of an account go when its phones do not take them; without options show it.
    ///
    /// A target is sip:USER@HOST, tel:NUMBER, or a user or number of the account's own domain, such as a
    /// voicemail box. "off" takes one away. What is not named stays as it is.
    Forward {
        /// Its address of record
        aor: String,
        /// Calls that are refused as busy or declined
        #[arg(long, value_name = "TARGET")]
        busy: Option<String>,
        /// Calls that nobody takes in time
        #[arg(long, value_name = "TARGET")]
        no_answer: Option<String>,
        /// How long the phones ring before, such as 20s
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        after: Option<Duration>,
        /// Calls while no phone is registered, or none can be reached
        #[arg(long, value_name = "TARGET")]
        not_registered: Option<String>,
        /// Every call, before a phone rings
        #[arg(long, value_name = "TARGET")]
        always: Option<String>,
        /// Take all targets away that are not named here
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Add, remove and list the other names of an account
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Say how many calls an account may make at a time
    Limit {
        /// Its address of record
        aor: String,
        /// The number, 0 for none at all, or "default" for what the configuration says (sip.calls_per_account)
        #[arg(value_parser = limit)]
        calls: Limit,
        #[command(flatten)]
        place: Place,
    },
    /// Say whether voice of an account's calls goes by the media relay
    Relay {
        /// Its address of record
        aor: String,
        /// "never", "nat", "always", or "default" for what the configuration says (relay.relay)
        #[arg(value_parser = rule)]
        rule: Rule,
        #[command(flatten)]
        place: Place,
    },
    /// Show one account
    Show {
        /// Its address of record
        aor: String,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the accounts
    List {
        /// Only those of this domain
        domain: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Take an account away, with its aliases
    Remove {
        /// Its address of record
        aor: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum AliasCommand {
    /// Give an account one more name, by which it is called, registers and calls
    Add {
        /// The account's address of record
        aor: String,
        /// The name, USER@DOMAIN; the domain may be another one of this server
        alias: String,
        #[command(flatten)]
        place: Place,
    },
    /// Take a name away
    Remove {
        /// The name
        alias: String,
        #[command(flatten)]
        place: Place,
    },
    /// List the names of an account
    List {
        /// The account's address of record
        aor: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Where accounts are changed.
enum Accounts {
    /// By the server that runs.
    Running(Client),
    /// In the file of a server that does not run.
    Stopped { subscribers: Subscribers, realm: Option<String>, relay: Box<Relay> },
}

impl SubscriberCommand {
    /// Does what was written.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Add { aor, password_stdin, aliases, may_use, place } => {
                let new = aor_of(&aor)?;
                let (aliases, may_use) = (aors_of(&aliases)?, aors_of(&may_use)?);
                let mut accounts = Accounts::open(&place)?;
                let credentials = accounts.credentials(&new, password_stdin)?;
                let remarks =
                    accounts.add(NewSubscriber { aor: new.clone(), credentials, aliases, may_use })?;
                let mut text = format!(
                    "{new} was added. In the phone: user {}, domain or server {}.\n",
                    new.user(),
                    new.domain()
                );
                for remark in remarks {
                    text.push_str(&format!("note: {remark}\n"));
                }
                print(&text)
            }
            Self::Password { aor, password_stdin, place } => {
                let aor = aor_of(&aor)?;
                let mut accounts = Accounts::open(&place)?;
                let credentials = accounts.credentials(&aor, password_stdin)?;
                accounts.set_password(&aor, &credentials)?;
                print(&format!("{aor} has another password.\n"))
            }
            Self::Forward { aor, busy, no_answer, after, not_registered, always, clear, place } => {
                let aor = aor_of(&aor)?;
                let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                let change = ForwardChange { clear, always, busy, no_answer, after_ms, not_registered };
                let mut accounts = Accounts::open(&place)?;
                if change != ForwardChange::default() {
                    accounts.forward(&aor, change)?;
                }
                print(&forwards_text(&accounts.find(&aor)?))
            }
            Self::Alias(command) => command.run(),
            Self::Limit { aor, calls: Limit(calls), place } => {
                let aor = aor_of(&aor)?;
                Accounts::open(&place)?.set_limit(&aor, calls)?;
                print(&match calls {
                    Some(calls) => format!("{aor} may make {calls} calls at a time.\n"),
                    None => format!("{aor} may make as many calls at a time as the configuration says.\n"),
                })
            }
            Self::Relay { aor, rule: Rule(rule), place } => {
                let aor = aor_of(&aor)?;
                let remarks = Accounts::open(&place)?.set_relay(&aor, rule)?;
                let mut text = match rule {
                    Some(RelayRule::Never) => format!("Calls of {aor} go past the relay.\n"),
                    Some(RelayRule::Nat) => {
                        format!("Calls of {aor} go by the relay if one of the phones sits behind NAT.\n")
                    }
                    Some(RelayRule::Always) => format!("Calls of {aor} go by the relay.\n"),
                    None => format!("Calls of {aor} go by the relay as the configuration says.\n"),
                };
                text.extend(remarks.iter().map(|remark| format!("note: {remark}\n")));
                print(&text)
            }
            Self::Show { aor, json, place } => {
                let found = Accounts::open(&place)?.find(&aor_of(&aor)?)?;
                if json {
                    return print(&format!("{}\n", serde_json::to_string_pretty(&found)?));
                }
                print(&show_text(&found))
            }
            Self::List { domain, json, place } => {
                let mut found = Vec::new();
                Accounts::open(&place)?.list(domain.as_deref(), &mut |subscriber| found.push(subscriber))?;
                if json {
                    return print(&format!("{}\n", serde_json::to_string_pretty(&found)?));
                }
                print(&list_text(&found))
            }
            Self::Remove { aor, place } => {
                let aor = aor_of(&aor)?;
                let mut accounts = Accounts::open(&place)?;
                accounts.remove(&aor)?;
                let note = match accounts {
                    Accounts::Running(_) => {
                        "It can neither call nor register; a phone that is registered still rings until its \
                         registration ends.\n"
                    }
                    Accounts::Stopped { .. } => "",
                };
                print(&format!("{aor} was removed.\n{note}"))
            }
        }
    }
}

impl AliasCommand {
    fn run(self) -> Result<()> {
        match self {
            Self::Add { aor, alias, place } => {
                let (aor, alias) = (aor_of(&aor)?, aor_of(&alias)?);
                let remarks = Accounts::open(&place)?.add_alias(&aor, &alias)?;
                let mut text = format!("{alias} is another name of {aor}.\n");
                for remark in remarks {
                    text.push_str(&format!("note: {remark}\n"));
                }
                print(&text)
            }
            Self::Remove { alias, place } => {
                let alias = aor_of(&alias)?;
                let owner = Accounts::open(&place)?.remove_alias(&alias)?;
                print(&format!("{alias} is no name of {owner} any more.\n"))
            }
            Self::List { aor, place } => {
                let found = Accounts::open(&place)?.find(&aor_of(&aor)?)?;
                print(&found.aliases.iter().map(|alias| format!("{alias}\n")).collect::<String>())
            }
        }
    }
}

impl Accounts {
    fn open(place: &Place) -> Result<Self> {
        let state = place.state_directory()?;
        match Client::connect(&state)? {
            Some(client) => Ok(Self::Running(client)),
            None => Self::open_stopped(place, &state),
        }
    }

    fn open_stopped(place: &Place, state: &StateDirectory) -> Result<Self> {
        let config = place.config()?;
        let database = Database::of(&config, state)?;
        if let Database::File(_) = database {
            state.create()?;
        }
        Ok(Self::Stopped {
            subscribers: database.subscribers()?,
            realm: config.digest.realm,
            relay: Box::new(config.relay),
        })
    }

    /// Asks for a password and hashes it for the realm of the server.
    fn credentials(&mut self, aor: &Aor, from_stdin: bool) -> Result<Credentials> {
        let realm = match self {
            Self::Running(client) => client.ask(&Request::Realm {})?,
            Self::Stopped { realm, .. } => realm.clone(),
        };
        let password = password(&format!("Password of {aor}"), from_stdin)?;
        Ok(Credentials::of(aor, realm.as_deref().unwrap_or(aor.domain()), &password))
    }

    fn add(&mut self, new: NewSubscriber) -> Result<Vec<String>> {
        match self {
            Self::Running(client) => client.ask(&Request::SubscriberAdd {
                aor: new.aor.to_string(),
                hashes: hashes_of(&new.credentials),
                aliases: new.aliases.iter().map(ToString::to_string).collect(),
                may_use: new.may_use.iter().map(ToString::to_string).collect(),
            }),
            Self::Stopped { subscribers, .. } => {
                subscribers.add(&new)?;
                Ok(Vec::new())
            }
        }
    }

    fn set_password(&mut self, aor: &Aor, credentials: &Credentials) -> Result<()> {
        match self {
            Self::Running(client) => client
                .ask(&Request::SubscriberPassword { aor: aor.to_string(), hashes: hashes_of(credentials) }),
            Self::Stopped { subscribers, .. } => Ok(subscribers.set_credentials(aor, credentials)?),
        }
    }

    fn add_alias(&mut self, aor: &Aor, alias: &Aor) -> Result<Vec<String>> {
        match self {
            Self::Running(client) => {
                client.ask(&Request::AliasAdd { aor: aor.to_string(), alias: alias.to_string() })
            }
            Self::Stopped { subscribers, .. } => {
                subscribers.add_alias(aor, alias)?;
                Ok(Vec::new())
            }
        }
    }

    fn remove_alias(&mut self, alias: &Aor) -> Result<String> {
        match self {
            Self::Running(client) => client.ask(&Request::AliasRemove { alias: alias.to_string() }),
            Self::Stopped { subscribers, .. } => Ok(subscribers.remove_alias(alias)?.to_string()),
        }
    }

    fn set_limit(&mut self, aor: &Aor, limit: Option<u32>) -> Result<()> {
        match self {
            Self::Running(client) => client.ask(&Request::SubscriberLimit { aor: aor.to_string(), limit }),
            Self::Stopped { subscribers, .. } => Ok(subscribers.set_limit(aor, limit)?),
        }
    }

    fn set_relay(&mut self, aor: &Aor, rule: Option<RelayRule>) -> Result<Vec<String>> {
        match self {
            Self::Running(client) => client.ask(&Request::SubscriberRelay { aor: aor.to_string(), rule }),
            Self::Stopped { subscribers, relay, .. } => {
                subscribers.set_relay(aor, rule.map(Into::into))?;
                let remark = rule.and_then(|rule| relay.remark_on(rule.into()));
                Ok(remark.map(str::to_owned).into_iter().collect())
            }
        }
    }

    fn forward(&mut self, aor: &Aor, change: ForwardChange) -> Result<()> {
        match self {
            Self::Running(client) => client.ask(&Request::SubscriberForward { aor: aor.to_string(), change }),
            Self::Stopped { subscribers, .. } => {
                let change = forwards::Change::read(aor, &change).map_err(|error| anyhow!(error))?;
                Ok(subscribers.change_forwards(aor, |forwards| change.apply(forwards))?)
            }
        }
    }

    fn find(&mut self, aor: &Aor) -> Result<SubscriberView> {
        let mut found = None;
        self.list(Some(aor.domain()), &mut |subscriber| {
            if subscriber.aor == aor.to_string() {
                found = Some(subscriber);
            }
        })?;
        found.ok_or_else(|| anyhow!(SubscriberError::Unknown(aor.clone())))
    }

    fn remove(&mut self, aor: &Aor) -> Result<()> {
        match self {
            Self::Running(client) => client.ask(&Request::SubscriberRemove { aor: aor.to_string() }),
            Self::Stopped { subscribers, .. } => Ok(subscribers.remove(aor).map(|_| ())?),
        }
    }

    fn list(&mut self, domain: Option<&str>, take: &mut dyn FnMut(SubscriberView)) -> Result<()> {
        let domain = domain.map(str::to_ascii_lowercase);
        match self {
            Self::Running(client) => {
                client.ask_for_items(&Request::SubscriberList { domain }, |subscriber| {
                    take(subscriber);
                    Ok(())
                })
            }
            Self::Stopped { subscribers, .. } => Ok(subscribers.list(domain.as_deref(), |subscriber| {
                take(subscriber_view(subscriber));
                true
            })?),
        }
    }
}

fn list_text(subscribers: &[SubscriberView]) -> String {
    if subscribers.is_empty() {
        return "There is no subscriber. `tandem subscriber add USER@DOMAIN` adds one.\n".to_owned();
    }
    let mut table = Table::new(["SUBSCRIBER", "REALM", "ALIASES", "MAY USE", "FORWARDS"]);
    for subscriber in subscribers {
        table.push([
            subscriber.aor.clone(),
            subscriber.realm.clone(),
            subscriber.aliases.join(" "),
            subscriber.may_use.join(" "),
            forwards::lines(&subscriber.forwards).join(", "),
        ]);
    }
    table.to_string()
}

fn forwards_text(subscriber: &SubscriberView) -> String {
    let lines = forwards::lines(&subscriber.forwards);
    if lines.is_empty() {
        return format!("The calls of {} are not forwarded.\n", subscriber.aor);
    }
    format!("The calls of {} are forwarded:\n  {}\n", subscriber.aor, lines.join("\n  "))
}

fn show_text(subscriber: &SubscriberView) -> String {
    let list =
        |items: &[String]| if items.is_empty() { "-".to_owned() } else { items.join("\n            ") };
    let mut text = String::new();
    for (name, value) in [
        ("subscriber", subscriber.aor.clone()),
        ("realm", subscriber.realm.clone()),
        ("aliases", list(&subscriber.aliases)),
        ("may use", list(&subscriber.may_use)),
        ("forwards", list(&forwards::lines(&subscriber.forwards))),
        ("calls", subscriber.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())),
        ("relay", subscriber.relay.map_or_else(|| "-".to_owned(), |rule| rule.to_string())),
    ] {
        text.push_str(&format!("{name:<12}{value}\n"));
    }
    text
}

/// How many calls; `None`: as the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Limit(Option<u32>);

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "default" => Ok(Limit(None)),
        number => number
            .parse()
            .map(|number| Limit(Some(number)))
            .map_err(|_| "write a number or `default`".to_owned()),
    }
}

/// Whether by the relay; `None`: as the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Rule(Option<RelayRule>);

fn rule(text: &str) -> Result<Rule, String> {
    match text {
        "default" => Ok(Rule(None)),
        "never" => Ok(Rule(Some(RelayRule::Never))),
        "nat" => Ok(Rule(Some(RelayRule::Nat))),
        "always" => Ok(Rule(Some(RelayRule::Always))),
        _ => Err("write never, nat, always or default".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number with its unit, such as 20s".to_owned())
}

fn aor_of(text: &str) -> Result<Aor> {
    read_aor(text).map_err(|error| anyhow!(error))
}

fn aors_of(texts: &[String]) -> Result<Vec<Aor>> {
    texts.iter().map(|text| aor_of(text)).collect()
}
