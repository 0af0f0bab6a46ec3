//! What a server's errors mean, and what can be done about them.

use std::io::ErrorKind;

use super::session::Fault;

/// Whose fault it is that something could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The values of this very row: it will fail each time.
    Row,
    /// Somebody else wrote at the same time: it is tried again.
    Chance,
    /// The server, the way to it, or its tables.
    Server,
}

/// Who is to blame for an error.
pub fn blame(error: &sqlx::Error) -> Blame {
    let sqlx::Error::Database(told) = error else { return Blame::Server };
    let code = told.code().unwrap_or_default();
    match (&*code, number_of(error)) {
        // A key that is there: another node has written the same.
        ("40001" | "40P01" | "55P03" | "23505", 0) | (_, 1062 | 1205 | 1213) => Blame::Chance,
        // What a trigger says, and an index that has no room for so long a value.
        ("P0001" | "54000", 0) => Blame::Row,
        (code, 0) if code.starts_with("22") || code.starts_with("23") => Blame::Row,
        (
            _,
            1048 | 1216 | 1264 | 1265 | 1292 | 1364 | 1366 | 1367 | 1406 | 1411 | 1452 | 1644 | 3819 | 4025,
        ) => Blame::Row,
        _ => Blame::Server,
    }
}

/// What a server said, or what became of the way to it, with the mend.
pub fn explain(error: &sqlx::Error) -> String {
    let (said, mend) = match error {
        sqlx::Error::Database(told) => {
            (told.message().to_owned(), mend_of(&told.code().unwrap_or_default(), number_of(error)))
        }
        sqlx::Error::Io(error) => (error.to_string(), mend_of_io(error.kind())),
        sqlx::Error::Tls(error) => {
            let said = error.to_string();
            // So both products say that they have none.
            let has_none = said.contains("does not support TLS") || said.contains("server does not support");
            let mend = if has_none {
                "set up TLS on the server, or write database.tls = \"off\" where nobody can listen on the way"
            } else {
                "put the certificate of whoever signed the server's into a file and name it by database.ca, call the \
                 server by the name in its certificate, or write database.tls = \"encrypt\" where nobody else can \
                 answer at that address"
            };
            (format!("TLS: {said}"), Some(mend))
        }
        other => (other.to_string(), None),
    };
    let said = said.trim_end_matches('.');
    match mend {
        Some(mend) => format!("{said}: {mend}"),
        None if said.contains("mysql-rsa") || said.contains("RSA") => format!(
            "{said}: this user's password may only be sent by TLS; set up TLS on the server and database.tls, or use \
             its socket"
        ),
        None => said.to_owned(),
    }
}

/// Whose fault an error is.
pub fn fault_of(error: &sqlx::Error) -> Fault {
    let is_key_there = error.as_database_error().is_some_and(|told| told.is_unique_violation());
    match blame(error) {
        // Bindings are written over those of their key: another key that is there will be there again.
        Blame::Chance if is_key_there => Fault::Row,
        Blame::Chance => Fault::Other,
        Blame::Row => Fault::Row,
        Blame::Server => Fault::Server,
    }
}

/// MySQL's own number: its codes of the standard are too coarse.
fn number_of(error: &sqlx::Error) -> u16 {
    error
        .as_database_error()
        .and_then(|told| told.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .map_or(0, sqlx::mysql::MySqlDatabaseError::number)
}

fn mend_of(code: &str, number: u16) -> Option<&'static str> {
    Some(match (code, number) {
        ("28P01", _) | (_, 1045) => {
            "the user or its password is wrong: see database.url and database.password_file"
        }
        ("28000", _) | (_, 1130) => {
            "the server does not let this user in from this host: add it to pg_hba.conf, or to the user's hosts"
        }
        ("3D000", _) | (_, 1049) => {
            "make the database and run `tandem database init`, or name another in database.url"
        }
        ("42P01" | "42703", _) | (_, 1146 | 1054) => {
            "the tables are not as they were recognised; `tandem check` says what is missing"
        }
        ("42501", _) | (_, 1044 | 1142 | 1143) => "grant this user the rights that docs/database.md names",
        ("25006", _) | (_, 1290 | 1836) => {
            "the server can only be read: name the primary in database.url, beside the others"
        }
        ("53300", _) | (_, 1040 | 1203) => {
            "let the server take more connections; Tandem needs nine for each node"
        }
        ("57P03", _) => "the server is starting; it is tried again",
        ("40001" | "40P01", _) | (_, 1213 | 1205) => "another change was in the way; try again",
        ("53100", _) | (_, 1021 | 1114) => {
            "the server's disk is full; make room, and writing goes on by itself"
        }
        ("22P05" | "22021", _) | (_, 1366 | 1267) => {
            "the database's character set can not hold it: use UTF8, or utf8mb4 with MySQL"
        }
        _ => return None,
    })
}

fn mend_of_io(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::ConnectionRefused => {
            Some("nothing listens there: start the server, or correct database.url")
        }
        ErrorKind::NotFound => Some("the socket is not there: start the server, or correct database.url"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("no way leads there"),
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
            Some("the server ended the connection; it is tried again")
        }
        _ => None,
    }
}
