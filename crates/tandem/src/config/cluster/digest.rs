//! A number that tells whether two files say the same.

use keys::RootKey;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What may differ from node to node: the node itself, how much it logs, where it serves metrics, what its own interface
/// and files are called.
const OWN: [&str; 5] = ["node", "log", "metrics", "cluster.interface", "cluster.key"];

/// The digest of all that nodes must agree on. Order, comments and spaces do not count. The same file has the same digest
/// on every host and in every version.
pub fn digest_of(file: &DeTable<'_>) -> u64 {
    let mut bytes = Vec::new();
    write_table("", file, &mut bytes);
    // No secret: it only has to be the same everywhere, which no hash of the standard library promises.
    RootKey::new([0; 32]).subkey("settings of a cluster", 0).mac(&[&bytes]).short()
}

fn write_table(path: &str, table: &DeTable<'_>, bytes: &mut Vec<u8>) {
    let mut entries: Vec<(String, &DeValue<'_>)> = table
        .iter()
        .map(|(key, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            (format!("{path}{dot}{}", key.get_ref()), value.get_ref())
        })
        .filter(|(path, _)| !OWN.contains(&path.as_str()))
        .collect();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    bytes.push(b'{');
    for (path, value) in entries {
        write_text(&path, bytes);
        write_value(&path, value, bytes);
    }
    bytes.push(b'}');
}

fn write_value(path: &str, value: &DeValue<'_>, bytes: &mut Vec<u8>) {
    match value {
        DeValue::Table(table) => write_table(path, table, bytes),
        DeValue::Array(array) => {
            bytes.push(b'[');
            array.iter().map(Spanned::get_ref).for_each(|entry| write_value(path, entry, bytes));
            bytes.push(b']');
        }
        DeValue::String(text) => {
            bytes.push(b's');
            write_text(text, bytes);
        }
        DeValue::Integer(integer) => {
            bytes.push(b'i');
            write_text(integer.as_str(), bytes);
        }
        DeValue::Float(float) => {
            bytes.push(b'f');
            write_text(float.as_str(), bytes);
        }
        DeValue::Boolean(boolean) => bytes.extend_from_slice(if *boolean { b"b1" } else { b"b0" }),
        DeValue::Datetime(date) => {
            bytes.push(b'd');
            write_text(&date.to_string(), bytes);
        }
    }
}

/// With its length, so that no two lists of texts give the same bytes.
fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
