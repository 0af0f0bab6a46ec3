//! The row as the value of one key of etcd, 3.4 and later, by its JSON gateway.
//!
//! Reads are linearizable, so a member that is cut off from the others answers nothing; a write compares the whole value.
//! The time to live of keys is not used. What the members have acknowledged they do not lose: the history is the cluster's
//! id, which is another one after a restore from a snapshot.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::row::{Change, History, Row, Seen, Written};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::http::{Connection, tls};
use super::server::Trouble;
use crate::config::cluster::EtcdServers;

/// Revisions that a cluster with automatic compaction has at the most: an hour of renewals, five times in each lease of 100 ms.
const REVISIONS_KEPT_MAX: u64 = 200_000;

/// The servers, and the connection to one of them.
pub struct Etcd {
    servers: Vec<(String, u16)>,
    at: usize,
    tls: Option<TlsConnector>,
    user: Option<(String, Zeroizing<String>)>,
    key: String,
    connection: Option<Connection>,
    token: Option<HeaderValue>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Etcd").field("servers", &self.servers).field("key", &self.key).finish()
    }
}

impl Etcd {
    /// Servers that are not connected to yet. `name` tells the keys of clusters apart.
    pub fn new(row: &EtcdServers, password: Option<Zeroizing<String>>, name: &str) -> Result<Self> {
        Ok(Self {
            servers: row.servers.clone(),
            at: 0,
            tls: row.ca_file.as_deref().map(tls).transpose()?,
            user: password.map(|password| (row.user.clone(), password)),
            key: key(name),
            connection: None,
            token: None,
        })
    }

    /// Which one is spoken to, or was last.
    pub fn address(&self) -> String {
        let (host, port) = &self.servers[self.at];
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_open)
    }

    /// Forgets the connection; the next one is to the next server.
    pub fn disconnect(&mut self) {
        self.connection = None;
        self.token = None;
        self.at = (self.at + 1) % self.servers.len();
    }

    /// Connects if it must, and shows the key as a majority of the members has it.
    pub async fn read(&mut self) -> Result<Seen, Trouble> {
        self.connect().await?;
        let (seen, history) = self.range(&json!({ "key": STANDARD.encode(&self.key) })).await?;
        let row = seen.as_deref().map(|text| self.row(text)).transpose()?;
        Ok(Seen { row, history })
    }

    /// Puts the value if the one before is there.
    pub async fn write(&mut self, change: &Change) -> Result<Written, Trouble> {
        let key = STANDARD.encode(&self.key);
        let compare = match &change.before {
            Some(row) => {
                json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": STANDARD.encode(row.to_text()) })
            }
            None => json!({ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }),
        };
        let put = json!({ "requestPut": { "key": key, "value": STANDARD.encode(change.after.to_text()) } });
        let answer = self.post("/v3/kv/txn", &json!({ "compare": [compare], "success": [put] })).await?;
        match (answer["succeeded"].as_bool().unwrap_or(false), history_of(&answer)? == change.history) {
            (true, true) => Ok(Written::Done),
            (true, false) => Err(Trouble::new("another cluster answers than before")),
            (false, _) => Ok(Written::Lost),
        }
    }

    /// What an operator should know of how it is set up.
    pub async fn remarks(&mut self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.servers.len() < 3 {
            remarks.push(format!(
                "{} of etcd is named: with three or more, that are one cluster, the witness outlives each of them",
                if self.servers.len() == 1 { "one server" } else { "a pair of servers" }
            ));
        }
        if self.has_old_revisions().await {
            remarks.push(
                "etcd keeps old revisions, and is full after some weeks of renewals: start it with \
                 --auto-compaction-mode=periodic --auto-compaction-retention=10m"
                    .to_owned(),
            );
        }
        remarks
    }

    async fn has_old_revisions(&mut self) -> bool {
        let key = STANDARD.encode(&self.key);
        let Ok(answer) = self.post("/v3/kv/range", &json!({ "key": key })).await else { return false };
        let revision = number(&answer["header"]["revision"]).unwrap_or(0);
        let Some(old) = revision.checked_sub(REVISIONS_KEPT_MAX).filter(|old| *old > 0) else { return false };
        // One that was compacted is refused.
        self.post("/v3/kv/range", &json!({ "key": key, "revision": old.to_string() })).await.is_ok()
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        if self.is_connected() {
            return Ok(());
        }
        let (host, port) = self.servers[self.at].clone();
        self.token = None;
        self.connection = Some(Connection::open(&host, port, self.tls.as_ref()).await?);
        self.log_in().await
    }

    async fn log_in(&mut self) -> Result<(), Trouble> {
        let (Some((user, password)), Some(connection)) = (&self.user, &mut self.connection) else {
            return Ok(());
        };
        let question = json!({ "name": user, "password": password.as_str() });
        let (status, answer) = connection.post("/v3/auth/authenticate", None, &question).await?;
        let Some(token) = answer["token"].as_str().filter(|_| status == StatusCode::OK) else {
            let error = error_text(status, &answer);
            return Err(match error.contains("authentication is not enabled") {
                // Whoever wants nothing of a user lets everybody in.
                true => return Ok(()),
                false => {
                    Trouble(format!("etcd lets `{user}` not in: {error}; see cluster.witness_password_file"))
                }
            });
        };
        self.token = Some(HeaderValue::from_str(token).map_err(Trouble::new)?);
        Ok(())
    }

    async fn range(&mut self, question: &Value) -> Result<(Option<String>, History), Trouble> {
        let answer = match self.post("/v3/kv/range", question).await {
            // Tokens run out, and a read does no harm twice.
            Err(Trouble(text)) if self.user.is_some() && text.contains("auth token") => {
                self.log_in().await?;
                self.post("/v3/kv/range", question).await?
            }
            answer => answer?,
        };
        let value = answer["kvs"][0]["value"].as_str();
        let value = value.map(|value| STANDARD.decode(value).map_err(Trouble::new)).transpose()?;
        let value = value.map(|value| String::from_utf8(value).map_err(Trouble::new)).transpose()?;
        Ok((value, history_of(&answer)?))
    }

    async fn post(&mut self, path: &'static str, question: &Value) -> Result<Value, Trouble> {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.is_open()) else {
            return Err(Trouble::new("the connection is gone"));
        };
        let (status, answer) = connection.post(path, self.token.as_ref(), question).await?;
        if status == StatusCode::OK && answer.is_object() {
            return Ok(answer);
        }
        let error = error_text(status, &answer);
        let mend = match &error {
            error if error.contains("permission denied") || error.contains("user name is empty") => format!(
                "; name a user in cluster.witness, and give its role the key: `etcdctl role grant-permission ROLE readwrite {}`",
                self.key
            ),
            error if error.contains("database space exceeded") => {
                "; compact and defragment it, disarm its alarm, and set --auto-compaction-retention"
                    .to_owned()
            }
            _ if status == StatusCode::NOT_FOUND || !answer.is_object() => {
                "; it must be etcd 3.4 or later, and not started with --enable-grpc-gateway=false".to_owned()
            }
            _ => String::new(),
        };
        Err(Trouble(format!("etcd refuses: {error}{mend}")))
    }

    fn row(&self, text: &str) -> Result<Row, Trouble> {
        Row::from_text(text).map_err(|error| {
            Trouble(format!(
                "the key {} is {error}; with both nodes stopped `etcdctl del {}`, then `tandem cluster accept witness`",
                self.key, self.key
            ))
        })
    }
}

/// The key of a cluster.
fn key(name: &str) -> String {
    format!("tandem/{name}/lease")
}

fn history_of(answer: &Value) -> Result<History, Trouble> {
    let id = number(&answer["header"]["cluster_id"]);
    id.map(History).ok_or_else(|| Trouble::new("an answer that is not one of etcd"))
}

/// The gateway writes numbers of 64 bits as texts.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn error_text(status: StatusCode, answer: &Value) -> String {
    let text = [&answer["message"], &answer["error"]].into_iter().find_map(Value::as_str);
    text.map_or_else(|| format!("HTTP status {}", status.as_u16()), str::to_owned)
}

#[cfg(test)]
mod tests;
