//! What the tables `domain`, `address`, `trusted` and `dispatcher` say, as far as it can be used.
//!
//! A row that restricts what can not be restricted here (a port, a transport, a pattern) is left out and told: to leave out
//! the restriction would let in whom its operator keeps out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use engine::StoreError;
use serde::{Deserialize, Serialize};
use sip::Host;

use super::address::{Product, ServerSettings};
use super::destinations::{self, Destination, Judged};
use super::fault::explain;
use super::link::{Link, Row};
use super::session::{Reached, reach};
use super::tables::{Columns, Dialect};

/// Domains that are read: each is a small text in memory.
const DOMAINS_MAX: usize = 10_000;
/// Peers that are read: each request is compared with all of them.
const PEERS_MAX: usize = 1_000;
/// Rows that are told of; the others are counted.
const REMARKS_MAX: usize = 20;

/// Which of them are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLists {
    /// `domain`.
    pub domains: bool,
    /// The groups of `address` whose addresses are trusted; without any the table is not read.
    pub groups: BTreeSet<u64>,
    /// `trusted`.
    pub trusted: bool,
    /// `dispatcher`.
    #[serde(default)]
    pub dispatcher: bool,
}

/// What they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// Our domains, in lower case.
    pub domains: BTreeSet<String>,
    /// Who is believed by its address.
    pub peers: BTreeSet<ListedPeer>,
    /// Where calls may be sent, in the order of their rows.
    #[serde(default)]
    pub destinations: Vec<Destination>,
    /// Rows of destinations that can not be used.
    #[serde(default)]
    pub wrong: BTreeSet<u64>,
    /// The tables that were read, with their versions and the rows that can be used.
    pub tables: Vec<(String, u32, usize)>,
    /// Whose they are.
    pub dialect: String,
    /// What can not be used, and the mend.
    pub remarks: Vec<String>,
}

/// A peer of `address` or `trusted`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedPeer {
    /// Its address, or that of its network.
    pub address: IpAddr,
    /// How many bits of it count.
    pub prefix: u8,
    /// For logs: its tag, or where it stands.
    pub name: String,
}

impl WantedLists {
    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        !self.domains && self.groups.is_empty() && !self.trusted && !self.dispatcher
    }

    fn tables(&self) -> impl Iterator<Item = &'static str> {
        let wanted = [
            ("domain", self.domains),
            ("address", !self.groups.is_empty()),
            ("trusted", self.trusted),
            ("dispatcher", self.dispatcher),
        ];
        wanted.into_iter().filter_map(|(table, is_wanted)| is_wanted.then_some(table))
    }
}

impl Lists {
    /// Keeps what was right before in the place of rows that are wrong: a slip takes nobody's gateway away.
    pub fn keep_good(&mut self, before: &Self) {
        let kept = before.destinations.iter().filter(|it| self.wrong.contains(&it.row));
        let kept: Vec<Destination> = kept.cloned().collect();
        if kept.is_empty() {
            return;
        }
        let rows: Vec<String> = kept.iter().map(|it| it.row.to_string()).collect();
        let is = if let [row] = rows.as_slice() {
            format!("row {row} stays as it was")
        } else {
            format!("rows {} stay as they were", rows.join(", "))
        };
        self.remarks.push(format!("table dispatcher: {is} when it was right"));
        self.destinations.extend(kept);
        self.destinations.sort_by_key(|it| it.row);
    }

    fn len(&self) -> usize {
        self.domains.len() + self.peers.len() + self.destinations.len()
    }
}

/// Reads them; the error has everything that keeps a table from being used. Blocks for some of
/// [`ServerSettings::deadline`] at most.
pub fn read_lists(settings: &ServerSettings, wanted: &WantedLists) -> Result<Lists, StoreError> {
    let failed = |place: String, reason: String| StoreError { place, reason };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        failed(settings.url.to_string(), format!("no runtime for its connection: {error}"))
    })?;
    let read = runtime.block_on(async {
        let Reached { mut link, place, .. } = reach(settings).await?;
        match tokio::time::timeout(settings.deadline, read(&mut link, wanted)).await {
            Ok(Ok(Ok(lists))) => Ok(lists),
            Ok(Ok(Err(unfit))) => Err(failed(place, unfit.join("; "))),
            Ok(Err(error)) => Err(failed(place, explain(&error))),
            Err(_) => Err(failed(place, "its tables were not read in time (database.timeout)".to_owned())),
        }
    });
    // A name that is being resolved would hold up the end.
    runtime.shutdown_background();
    read
}

async fn read(link: &mut Link, wanted: &WantedLists) -> Result<Result<Lists, Vec<String>>, sqlx::Error> {
    let product = link.product();
    let tables: Vec<&str> = wanted.tables().collect();
    let names: Vec<&str> = tables.iter().copied().chain(["version"]).collect();
    let columns = Columns::read(link, &names).await?;
    let versions = columns.versions(link).await?;
    let dialect = Dialect::of(columns.has("version", "id"), &versions);
    let unfit: Vec<String> =
        tables.iter().filter_map(|table| unfit(table, dialect, &columns, &versions)).collect();
    if !unfit.is_empty() {
        return Ok(Err(unfit));
    }
    let mut lists = Lists { dialect: dialect.to_string(), ..Lists::default() };
    let mut remarks = Vec::new();
    for table in tables {
        let rows = link.rows(&query(product, &columns, table, dialect, wanted), &[]).await?;
        let before = lists.len();
        for row in &rows {
            let told = match table {
                "domain" => take_domain(row, &mut lists).err().into_iter().collect(),
                "address" => take_address(row, dialect, wanted, &mut lists).err().into_iter().collect(),
                "trusted" => take_trusted(row, &mut lists).err().into_iter().collect(),
                _ => take_destination(row, dialect, &mut lists),
            };
            remarks
                .extend(told.into_iter().map(|what| format!("table {table}, row {}: {what}", row.text(0))));
        }
        let max = rows_max(table);
        if rows.len() == max {
            remarks.push(format!("table {table}: no more than {max} rows are read"));
        }
        let version = versions.get(table).copied().unwrap_or_default();
        let number = lists.len() - before;
        lists.tables.push((table.to_owned(), version, number));
    }
    if remarks.len() > REMARKS_MAX {
        let more = remarks.len() - REMARKS_MAX;
        remarks.truncate(REMARKS_MAX);
        remarks.push(format!("and {more} rows more that can not be used"));
    }
    lists.remarks = remarks;
    Ok(Ok(lists))
}

/// OpenSIPS 2.4 to 4.0, Kamailio 4.4 to 6.1.
fn known(dialect: Dialect, table: &str) -> &'static [u32] {
    match (dialect, table) {
        (Dialect::Kamailio, "domain") => &[2],
        (_, "domain") => &[3, 4],
        (Dialect::Kamailio, "address") => &[6],
        (_, "address") => &[5],
        (_, "trusted") => &[6],
        (Dialect::Kamailio, "dispatcher") => &[4],
        (_, "dispatcher") => &[8, 9],
        _ => &[],
    }
}

fn needed(dialect: Dialect, table: &str) -> &'static [&'static str] {
    match (dialect, table) {
        (_, "domain") => &["domain"],
        (Dialect::Kamailio, "address") => &["grp", "ip_addr", "mask", "port"],
        (_, "address") => &["grp", "ip", "mask", "port", "proto", "pattern"],
        (dialect, "dispatcher") => destinations::needed(dialect),
        _ => &["src_ip", "proto", "from_pattern"],
    }
}

/// What keeps a table from being used, and the mend.
fn unfit(
    table: &str,
    dialect: Dialect,
    columns: &Columns,
    versions: &BTreeMap<String, u32>,
) -> Option<String> {
    if !columns.has_table(table) {
        let setting = match table {
            "domain" => "database.domain = false",
            "address" => "database.address_groups = []",
            "dispatcher" => "database.dispatcher = false",
            _ => "database.trusted = false",
        };
        return Some(format!(
            "there is no table {table}, or this user may not read it: make it as OpenSIPS or Kamailio does, grant \
             SELECT, or write {setting}"
        ));
    }
    let known = known(dialect, table);
    match versions.get(table) {
        Some(version) if known.contains(version) => {}
        version => {
            let is = version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
            let known: Vec<String> = known.iter().map(u32::to_string).collect();
            return Some(format!(
                "the table {table} has {is} in the table `version`, and version {} of {dialect} can be used: bring it \
                 there with the schema files of your server",
                known.join(" or ")
            ));
        }
    }
    let missing = needed(dialect, table).iter().find(|column| !columns.has(table, column))?;
    Some(format!(
        "the table {table} has no column {missing}: bring it to the shape that its version in the table `version` \
         promises"
    ))
}

/// The rows of a table. A column that is not there is nothing.
fn query(
    product: Product,
    columns: &Columns,
    table: &str,
    dialect: Dialect,
    wanted_lists: &WantedLists,
) -> String {
    let max = rows_max(table);
    let wanted: &[&str] = match table {
        "domain" => &["id", "domain", "accept_subdomain"],
        "address" => {
            let address = if columns.has(table, "ip_addr") { "ip_addr" } else { "ip" };
            let name = if columns.has(table, "tag") { "tag" } else { "context_info" };
            let wanted = ["id", "grp", address, "mask", "port", "proto", "pattern", name];
            // Other groups may be large: some keep out whom others have seen misbehave.
            let everywhere = (dialect != Dialect::Kamailio).then_some(0);
            let groups = wanted_lists.groups.iter().copied().chain(everywhere);
            let groups: Vec<String> = groups.map(|group| group.to_string()).collect();
            let only = format!(" WHERE grp IN ({})", groups.join(", "));
            return select(product, columns, (table, &only), &wanted, max);
        }
        "dispatcher" => &destinations::wanted(columns),
        _ => &["id", "src_ip", "proto", "from_pattern", "ruri_pattern", "tag"],
    };
    select(product, columns, (table, ""), wanted, max)
}

fn rows_max(table: &str) -> usize {
    match table {
        "domain" => DOMAINS_MAX,
        "dispatcher" => destinations::ROWS_MAX,
        _ => PEERS_MAX,
    }
}

fn select(
    product: Product,
    columns: &Columns,
    (table, only): (&str, &str),
    wanted: &[&str],
    max: usize,
) -> String {
    let text = |column: &&str| {
        if columns.has(table, column) { product.text(column) } else { "NULL".to_owned() }
    };
    let texts: Vec<String> = wanted.iter().map(text).collect();
    let order = if columns.has(table, "id") { "id" } else { wanted[1] };
    format!("SELECT {} FROM {table}{only} ORDER BY {order} LIMIT {max}", texts.join(", "))
}

fn take_domain(row: &Row, lists: &mut Lists) -> Result<(), String> {
    let text = row.text(1).trim();
    match Host::parse(text.as_bytes()) {
        Ok(Host::Name(_)) if !text.trim_end_matches('.').is_empty() => {
            lists.domains.insert(text.trim_end_matches('.').to_ascii_lowercase());
        }
        Ok(Host::Name(_)) | Err(_) => {
            return Err(format!("domain `{text}` is no name: write one like example.org"));
        }
        // The addresses of listeners are ours without being named.
        Ok(_) => {
            return Err(format!("domain `{text}` is an address: serve it by sip.listen, and delete the row"));
        }
    }
    match row.number::<u32>(2) {
        Some(1..) => Err(format!("accept_subdomain of {text} is not followed: add a row for each subdomain")),
        _ => Ok(()),
    }
}

fn take_address(row: &Row, dialect: Dialect, wanted: &WantedLists, lists: &mut Lists) -> Result<(), String> {
    let group: Option<u64> = row.number(1);
    // With OpenSIPS an address of group 0 belongs to all of them.
    let is_everywhere = dialect != Dialect::Kamailio && group == Some(0);
    if !is_everywhere && !group.is_some_and(|group| wanted.groups.contains(&group)) {
        return Ok(());
    }
    let address = read_address(row.text(2))?;
    let prefix = read_prefix(address, row.text(3))?;
    if row.number::<u16>(4).unwrap_or_default() != 0 {
        return Err(format!(
            "{address} is trusted at port {} alone, which can not be told apart here: write port 0 to trust all of it",
            row.text(4)
        ));
    }
    if dialect != Dialect::Kamailio {
        restricts("proto", row.text(5), &["any", ""], address)?;
        restricts("pattern", row.text(6), &[""], address)?;
    }
    lists.peers.insert(ListedPeer { address, prefix, name: name(row, 7, "address") });
    Ok(())
}

fn take_trusted(row: &Row, lists: &mut Lists) -> Result<(), String> {
    if row.text(2).trim().eq_ignore_ascii_case("none") {
        // So Kamailio switches a row off.
        return Ok(());
    }
    let address = read_address(row.text(1))?;
    restricts("proto", row.text(2), &["any"], address)?;
    restricts("from_pattern", row.text(3), &[""], address)?;
    restricts("ruri_pattern", row.text(4), &[""], address)?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    lists.peers.insert(ListedPeer { address, prefix, name: name(row, 5, "trusted") });
    Ok(())
}

/// Returns what of it can not be followed.
fn take_destination(row: &Row, dialect: Dialect, lists: &mut Lists) -> Vec<String> {
    match destinations::judge(row, dialect) {
        Some((_, Judged::Good(destination, remarks))) => {
            lists.destinations.push(destination);
            remarks
        }
        Some((id, Judged::Wrong(what))) => {
            lists.wrong.insert(id);
            vec![what]
        }
        Some((_, Judged::SwitchedOff)) => Vec::new(),
        None => vec!["it has no id: give it one".to_owned()],
    }
}

fn read_address(text: &str) -> Result<IpAddr, String> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    IpAddr::from_str(bare)
        .map_err(|_| format!("`{text}` is no IP address: names are not looked up, write the address"))
}

fn read_prefix(address: IpAddr, text: &str) -> Result<u8, String> {
    let max = if address.is_ipv4() { 32 } else { 128 };
    match text.trim().parse::<u8>() {
        Ok(prefix) if (1..=max).contains(&prefix) => Ok(prefix),
        _ => Err(format!(
            "mask `{}` of {address} is not from 1 to {max}: write {max} for this address alone",
            text.trim()
        )),
    }
}

/// A value that keeps out what can not be kept out here.
fn restricts(column: &str, text: &str, free: &[&str], address: IpAddr) -> Result<(), String> {
    let text = text.trim();
    if free.iter().any(|free| free.eq_ignore_ascii_case(text)) {
        return Ok(());
    }
    let mend = if column == "proto" { "write `any`" } else { "empty it" };
    Err(format!(
        "{column} `{text}` of {address} can not be followed: {mend} to trust the address whatever it sends"
    ))
}

fn name(row: &Row, column: usize, table: &str) -> String {
    let tag: String =
        row.text(column).trim().chars().filter(|letter| !letter.is_control()).take(64).collect();
    if tag.is_empty() { format!("{table} {}", row.text(0)) } else { tag }
}
