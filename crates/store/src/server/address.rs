//! Where a database server is and how it is spoken to: the URL and the settings beside it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Hosts of one URL: a primary and its replicas.
const HOSTS_MAX: usize = 8;

/// What a server is reached by.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where, and as whom.
    pub url: ServerUrl,
    /// Instead of the one in the URL, which others may read.
    pub password: Option<String>,
    /// How the way to it is kept secret.
    pub tls: Tls,
    /// Certificates, in PEM, that the server's is checked by; `None`: those of the public authorities.
    pub authorities: Option<PathBuf>,
    /// What connecting, and what each statement, may take.
    pub deadline: Duration,
    /// The realm of passwords that the database keeps readable; `None`: the domain of each account.
    pub realm: Option<String>,
    /// How bindings are published; `None`: they are not.
    pub location: Option<LocationSettings>,
}

/// How bindings are published for the servers beside this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocationSettings {
    /// The time zone of dates in the table, as the tz database names it; `None`: this host's.
    pub time_zone: Option<String>,
    /// Whether servers beside this one write the table too, each its own phones.
    pub is_shared: bool,
}

/// How the way to a server is kept secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// [`Tls::Verify`], but [`Tls::Off`] on this host.
    #[default]
    Auto,
    /// The server must have a certificate for the name that it is called by.
    Verify,
    /// Any certificate will do: it keeps listeners out, but nobody who pretends to be the server.
    Encrypt,
    /// Everything can be read on the way.
    Off,
}

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

/// One place where the server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPlace {
    /// A name or an address, and a port.
    Network(String, u16),
    /// A socket of this host: for PostgreSQL its directory, for MySQL the file.
    Socket(PathBuf),
}

/// `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE`, or `mysql://…`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Which protocol.
    pub product: Product,
    /// As whom.
    pub user: String,
    /// Its password.
    pub password: Option<String>,
    /// Where, in the order in which they are tried.
    pub hosts: Vec<HostPlace>,
    /// The name of the database.
    pub database: String,
}

/// What is wrong with a URL, and the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl {
    /// What.
    pub what: &'static str,
    /// The mend.
    pub mend: &'static str,
}

impl ServerUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = |what, mend| BadUrl { what, mend };
        let (scheme, rest) = text.split_once("://").ok_or(bad("is no URL", FORM))?;
        let product = match scheme {
            "postgres" | "postgresql" => Product::Postgres,
            "mysql" | "mariadb" => Product::MySql,
            _ => return Err(bad("is of no kind that can be used", "begin with postgres:// or mysql://")),
        };
        if rest.contains(['?', '#']) {
            return Err(bad(
                "has options",
                "leave out what follows the name of the database: TLS is set by database.tls and database.ca",
            ));
        }
        let (authority, database) = rest.rsplit_once('/').ok_or(bad("names no database", FORM))?;
        let (user, hosts) = authority.rsplit_once('@').ok_or(bad("names no user", FORM))?;
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => {
                (user, Some(decoded(password).ok_or(bad("has a wrong %-sequence", ESCAPE))?))
            }
            None => (user, None),
        };
        let (user, database) =
            decoded(user).zip(decoded(database)).ok_or(bad("has a wrong %-sequence", ESCAPE))?;
        if user.is_empty() {
            return Err(bad("names no user", FORM));
        }
        if database.is_empty() {
            return Err(bad("names no database", FORM));
        }
        let hosts: Vec<HostPlace> = hosts
            .split(',')
            .map(|host| read_host(host, product))
            .collect::<Option<_>>()
            .ok_or(bad("has a host that is none", FORM))?;
        if hosts.len() > HOSTS_MAX {
            return Err(bad("has too many hosts", "name at most 8"));
        }
        Ok(Self { product, user, password, hosts, database })
    }
}

impl HostPlace {
    /// Whether nobody else can listen on the way.
    pub fn is_this_host(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Network(host, _) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
            }
        }
    }
}

impl Product {
    /// Its port.
    fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::MySql => 3306,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }
}

const FORM: &str = "write postgres://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE or mysql://…; for a socket %2Frun%2F… \
                    as the host";
const ESCAPE: &str = "write a % of the name or the password as %25";

fn read_host(text: &str, product: Product) -> Option<HostPlace> {
    if text.len() >= 3 && text[..3].eq_ignore_ascii_case("%2f") {
        return Some(HostPlace::Socket(PathBuf::from(decoded(text)?)));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        }
    };
    let is_name = |host: &str| host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_:".contains(&it));
    if host.is_empty() || !is_name(host) {
        return None;
    }
    let port = match port? {
        "" => product.port(),
        port => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some(HostPlace::Network(host.to_owned(), port))
}

/// RFC 3986 §2.1: two hexadecimal digits after each `%`.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let digits = str::from_utf8(after.get(..2)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for HostPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(host, port) if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Network(host, port) => write!(formatter, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(formatter),
        }
    }
}

/// The URL without its password.
impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(HostPlace::to_string).collect();
        write!(formatter, "{}://{}@{}/{}", self.product.scheme(), self.user, hosts.join(","), self.database)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ServerUrl({self})")
    }
}

/// Prints no password.
impl fmt::Debug for ServerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ServerSettings({}, {:?}, {:?})", self.url, self.tls, self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_several_hosts_and_shows_no_password() {
        let url = ServerUrl::parse("postgres://tandem:a%40%2F%3Ab@db1,db2:6432,[2001:db8::1]:1/sip")
            .expect("right");

        assert_eq!(
            (url.product, url.user.as_str(), url.database.as_str()),
            (Product::Postgres, "tandem", "sip")
        );
        assert_eq!(url.password.as_deref(), Some("a@/:b"));
        assert_eq!(url.hosts, [network("db1", 5432), network("db2", 6432), network("2001:db8::1", 1)]);
        assert_eq!(url.to_string(), "postgres://tandem@db1:5432,db2:6432,[2001:db8::1]:1/sip");
        assert!(!format!("{url:?}").contains("a@"), "{url:?}");
    }

    #[test]
    fn a_socket_is_a_host_that_begins_with_a_slash() {
        let url = ServerUrl::parse("mysql://root@%2Frun%2Fmysqld%2Fmysqld.sock/sip").expect("right");

        assert_eq!(url.hosts, [HostPlace::Socket("/run/mysqld/mysqld.sock".into())]);
        assert!(url.hosts[0].is_this_host());
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        for text in [
            "",
            "sip.db",
            "oracle://a@b/c",
            "mysql://a@b",
            "mysql://a@b/",
            "mysql://b/c",
            "mysql://@b/c",
            "mysql://a@/c",
            "mysql://a@b,/c",
            "mysql://a@b:0/c",
            "mysql://a@b:x/c",
            "mysql://a@b:/c",
            "mysql://a@[::1/c",
            "mysql://a@[b]/c",
            "mysql://a:%zz@b/c",
            "mysql://a:%2@b/c",
            "mysql://a:%+1@b/c",
            "mysql://a@b/c?ssl=1",
            "mysql://a@1,2,3,4,5,6,7,8,9/c",
        ] {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
    }

    fn network(host: &str, port: u16) -> HostPlace {
        HostPlace::Network(host.to_owned(), port)
    }
}
