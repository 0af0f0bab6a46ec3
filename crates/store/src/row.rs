//! Values of a row: bytes that are text where they can be, addresses, sockets.

use std::net::SocketAddr;

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, ToSql};
use sip::Aor;
use transport::{LocalAddr, Transport};

/// Bytes as they came in a message. They are written as text if they are UTF-8, so that operators can
/// read them, else as a blob.
pub struct Octets<'a>(pub &'a [u8]);

impl ToSql for Octets<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

/// Bytes of a column that must have them.
pub fn octets(row: &Row<'_>, column: usize) -> Option<Bytes> {
    optional_octets(row, column)?
}

/// Bytes of a column that may be null; `None` if it has something else.
#[expect(clippy::option_option, reason = "a column that is null is not a column that is wrong")]
pub fn optional_octets(row: &Row<'_>, column: usize) -> Option<Option<Bytes>> {
    match row.get_ref(column).ok()? {
        ValueRef::Null => Some(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(Some(Bytes::copy_from_slice(bytes))),
        ValueRef::Integer(_) | ValueRef::Real(_) => None,
    }
}

/// A whole number of a column that must have one in the range of `T`.
pub fn number<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> Option<T> {
    T::try_from(row.get::<_, i64>(column).ok()?).ok()
}

/// The address of record in two columns.
pub fn aor(row: &Row<'_>, username: usize, domain: usize) -> Option<Aor> {
    let (username, domain): (String, String) = (row.get(username).ok()?, row.get(domain).ok()?);
    Aor::parse(&format!("{username}@{domain}"))
}

/// A listener as operators write it: `udp:192.0.2.1:5060`.
pub fn write_socket(listener: (Transport, LocalAddr)) -> String {
    format!("{}:{}", listener.0, listener.1)
}

/// Reads what [`write_socket`] wrote.
pub fn read_socket(text: &str) -> Option<(Transport, LocalAddr)> {
    let (transport, address) = text.split_once(':')?;
    Some((Transport::of_name(transport.as_bytes())?, LocalAddr(address.parse().ok()?)))
}

/// An address as operators write it: `sip:192.0.2.1:5060`.
pub fn write_received(address: SocketAddr) -> String {
    format!("sip:{address}")
}

/// Reads what [`write_received`] wrote.
pub fn read_received(text: &str) -> Option<SocketAddr> {
    text.strip_prefix("sip:")?.parse().ok()
}
