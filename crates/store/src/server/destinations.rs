//! What a row of the table `dispatcher` says, in the dialects of OpenSIPS and of Kamailio.
//!
//! A destination becomes a gateway. What of a row would lead calls another way than here (a transport that is not spoken,
//! a flag that is not known) makes it wrong as a whole; what only says how it is watched or loaded is left out of it.

use serde::{Deserialize, Serialize};
use sip::SipUri;

use super::link::Row;
use super::tables::{Columns, Dialect};

/// Rows that are read: more gateways than a server can use.
pub const ROWS_MAX: usize = 2_000;
/// Bytes of a name that routes and commands can take.
const NAME_BYTES_MAX: usize = 64;
/// More calls than a server has: a limit above is none.
const CALLS_MAX: u32 = 100_000;

/// Flags of Kamailio that are known: inactive, trying, disabled, probing, no look-up of the name, not probed.
const INACTIVE: u32 = 1;
const TRYING: u32 = 2;
const DISABLED: u32 = 4;
const PROBING: u32 = 8;
const NO_LOOKUP: u32 = 16;
const NOT_PROBED: u32 = 32;
const FLAGS: u32 = INACTIVE | TRYING | DISABLED | PROBING | NO_LOOKUP | NOT_PROBED;

/// A destination of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its `id`.
    pub row: u64,
    /// Its set.
    pub set: u32,
    /// Where it is: a SIP URI without a user, of a transport that is spoken here.
    pub uri: String,
    /// The name that the operator gave it (`duid`), if it can be one.
    pub name: Option<String>,
    /// The socket that sends to it, as it is written.
    pub socket: Option<String>,
    /// The higher, the earlier it is tried.
    pub priority: i32,
    /// Its share of the calls among those of equal priority; `None`: it says none.
    pub weight: Option<u16>,
    /// How many calls it may have at a time.
    pub calls_max: Option<u32>,
    /// Whether it may be sent OPTIONS.
    pub probes: Probes,
}

/// Whether a destination may be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probes {
    /// As its gateway says.
    Allowed,
    /// It says that it is not to be.
    Forbidden,
}

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    /// It can be used, but for what of it can not be followed.
    Good(Destination, Vec<String>),
    /// Its operator has switched it off.
    SwitchedOff,
    /// It can not be used, and the mend.
    Wrong(String),
}

/// The columns that [`judge`] reads, in their order.
pub fn wanted(columns: &Columns) -> [&'static str; 8] {
    let state = if columns.has("dispatcher", "state") { "state" } else { "flags" };
    ["id", "setid", "destination", state, "priority", "attrs", "weight", "socket"]
}

/// The columns that it can not do without.
pub fn needed(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::Kamailio => &["id", "setid", "destination", "flags", "priority", "attrs"],
        Dialect::OpenSips | Dialect::Tandem => &["id", "setid", "destination", "state", "priority", "weight"],
    }
}

/// Reads a row; `None` for one without an id, of which nothing can be said.
pub fn judge(row: &Row, dialect: Dialect) -> Option<(u64, Judged)> {
    let id = row.number(0)?;
    let judged = match dialect {
        Dialect::Kamailio => of_kamailio(id, row),
        Dialect::OpenSips | Dialect::Tandem => of_opensips(id, row),
    };
    Some((id, judged.unwrap_or_else(Judged::Wrong)))
}

fn of_kamailio(id: u64, row: &Row) -> Result<Judged, String> {
    let text = row.text(3).trim();
    let flags: u32 = text.parse().map_err(|_| format!("flags `{text}` are no number: write 0"))?;
    if flags & !FLAGS != 0 {
        let unknown = flags & !FLAGS;
        return Err(format!(
            "flags {flags} have {unknown}, whose meaning is not known here: write {}",
            flags & FLAGS
        ));
    }
    // One that is inactive and probed is back as soon as it answers, which a gateway's own state says here.
    if flags & DISABLED != 0 || flags & INACTIVE != 0 && flags & PROBING == 0 {
        return Ok(Judged::SwitchedOff);
    }
    let mut destination = Destination { probes: probes(flags), ..destination(id, row)? };
    let mut remarks = Vec::new();
    for (name, value) in attributes(row.text(5)) {
        match name.to_ascii_lowercase().as_str() {
            "duid" => destination.name = name_of(value, &mut remarks),
            "weight" | "rweight" => destination.weight = Some(weight(value, 1..=100, &mut remarks)),
            "maxload" => match value.parse::<u32>() {
                Ok(0) => {}
                Ok(calls) => destination.calls_max = Some(calls.min(CALLS_MAX)),
                Err(_) => {
                    remarks.push(format!("maxload `{value}` is no number and sets no limit: write one"))
                }
            },
            "socket" => destination.socket = Some(value.to_owned()),
            "sockname" => {
                return Err(format!(
                    "sockname `{value}` is a name in the configuration of your Kamailio: write \
                     socket=udp:ADDRESS:PORT in its place"
                ));
            }
            "ping_from" | "ping_socket" | "obproxy" => {
                remarks.push(format!("{name} is not followed: it is probed like every gateway"));
            }
            // For the script of its server, or for ways to choose that are not ours.
            _ => {}
        }
    }
    Ok(Judged::Good(destination, remarks))
}

fn probes(flags: u32) -> Probes {
    if flags & NOT_PROBED == 0 { Probes::Allowed } else { Probes::Forbidden }
}

fn of_opensips(id: u64, row: &Row) -> Result<Judged, String> {
    match row.text(3).trim() {
        // 2: it has failed, and is probed. Whether it still does is found out here.
        "0" | "2" | "" => {}
        "1" => return Ok(Judged::SwitchedOff),
        state => {
            return Err(format!(
                "state `{state}` is not known: write 0 (active), 1 (inactive) or 2 (probing)"
            ));
        }
    }
    let mut destination = destination(id, row)?;
    let mut remarks = Vec::new();
    destination.weight = match row.text(6).trim() {
        "" => None,
        text if text.starts_with("fs://") => {
            remarks.push("the load of a FreeSWITCH is not asked for: it has the weight 1".to_owned());
            Some(1)
        }
        text => Some(weight(text, 0..=u16::MAX, &mut remarks)),
    };
    let socket = row.text(7).trim();
    destination.socket = (!socket.is_empty()).then(|| socket.to_owned());
    Ok(Judged::Good(destination, remarks))
}

/// What both dialects have.
fn destination(row: u64, columns: &Row) -> Result<Destination, String> {
    let set = columns.text(1).trim();
    let set = set.parse().map_err(|_| format!("setid `{set}` is no set: write a number from 0"))?;
    let priority = columns.text(4).trim();
    let priority = match priority {
        "" => 0,
        text => text.parse().map_err(|_| format!("priority `{text}` is no number: write 0"))?,
    };
    let (name, socket, weight, calls_max) = (None, None, None, None);
    let uri = uri(columns.text(2).trim())?;
    Ok(Destination { row, set, uri, name, socket, priority, weight, calls_max, probes: Probes::Allowed })
}

/// A destination as a gateway's URI. Kamailio takes one without its scheme too.
fn uri(text: &str) -> Result<String, String> {
    const FORM: &str = "write sip:HOST, sip:HOST:PORT or sip:HOST;transport=tcp";
    let has_scheme = ["sip:", "sips:"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let whole = if has_scheme { text.to_owned() } else { format!("sip:{text}") };
    let is_visible = whole.bytes().all(|byte| byte.is_ascii_graphic());
    let parsed = SipUri::parse(whole.as_bytes()).ok().filter(|_| is_visible && !text.is_empty());
    let Some(parsed) = parsed else { return Err(format!("destination `{text}` is no SIP URI: {FORM}")) };
    if parsed.user.is_some() || parsed.headers.is_some() {
        return Err(format!(
            "destination `{text}` has more than a place, and each call brings its number: {FORM}"
        ));
    }
    if transport::next_hop(&parsed).is_err() {
        return Err(format!("destination `{text}` asks for what this version does not speak: {FORM}"));
    }
    // The scheme in the letters in which it is put before a number.
    Ok(format!("sip:{}", &whole[whole.find(':').map_or(0, |colon| colon + 1)..]))
}

fn name_of(value: &str, remarks: &mut Vec<String>) -> Option<String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !value.is_empty() && value.len() <= NAME_BYTES_MAX && value.bytes().all(is_good) {
        return Some(value.to_owned());
    }
    remarks.push(format!(
        "duid `{value}` can be no name: write at most {NAME_BYTES_MAX} letters, digits, - and _; its id is its name"
    ));
    None
}

/// A share; one that is out of bounds is none, as with the server that the table is of.
fn weight(text: &str, bounds: std::ops::RangeInclusive<u16>, remarks: &mut Vec<String>) -> u16 {
    if let Some(weight) = text.parse().ok().filter(|weight| bounds.contains(weight)) {
        return weight;
    }
    let (least, most) = (bounds.start(), bounds.end());
    remarks.push(format!("weight `{text}` counts as 0: write one from {least} to {most}"));
    0
}

/// `a=b;c="d"`.
fn attributes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim(), value.trim().trim_matches(['"', '\''])))
    })
}
