//! The control sockets of a node, spoken to without a program between: thousands of questions, or hundred thousands of
//! bindings, in a moment.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// All bindings of a busy engine take a while.
const ENGINE_PATIENCE: Duration = Duration::from_secs(20);
/// A guardian answers from memory, but for one that is frozen, which accepts a connection and is silent.
const GUARDIAN_PATIENCE: Duration = Duration::from_millis(500);

/// One binding, as the engine tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its address of record.
    pub aor: String,
    /// The URI that was registered.
    pub contact: String,
    /// Where the phone was seen.
    pub received: String,
    /// How long it still lasts, in whole seconds.
    pub expires: Duration,
}

/// A connection to an engine or a guardian.
#[derive(Debug)]
pub struct Control {
    reader: BufReader<UnixStream>,
}

impl Control {
    /// Connects to the engine of a node with this state directory.
    pub fn of_engine(state: &str) -> Result<Control> {
        Control::open(&Path::new(state).join("control.sock"), ENGINE_PATIENCE)
    }

    /// Connects to its guardian.
    pub fn of_guardian(state: &str) -> Result<Control> {
        Control::open(&Path::new(state).join("guardian/control.sock"), GUARDIAN_PATIENCE)
    }

    fn open(path: &Path, patience: Duration) -> Result<Control> {
        let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Control { reader: BufReader::new(stream) })
    }

    /// All bindings, or those of one address of record.
    pub fn contacts(&mut self, aor: Option<&str>) -> Result<Vec<Contact>> {
        let mut contacts = Vec::new();
        self.ask(&json!({ "op": "contacts", "aor": aor }), |item| {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            let (aor, contact, received) = (text("aor"), text("contact"), text("received"));
            let seconds = item["expires_s"].as_u64().context("a binding without an end")?;
            contacts.push(Contact { aor, contact, received, expires: Duration::from_secs(seconds) });
            Ok(())
        })?;
        Ok(contacts)
    }

    /// The status of an engine.
    pub fn status(&mut self) -> Result<Value> {
        self.ask(&json!({ "op": "status" }), |_| Ok(()))
    }

    /// The view of a guardian.
    pub fn cluster_status(&mut self) -> Result<Value> {
        self.ask(&json!({ "op": "cluster_status" }), |_| Ok(()))
    }

    fn ask(&mut self, question: &Value, mut take: impl FnMut(Value) -> Result<()>) -> Result<Value> {
        self.reader.get_mut().write_all(format!("{question}\n").as_bytes())?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("the other end of the control socket is gone");
            }
            let mut reply: Value = serde_json::from_str(&line)?;
            if let Some(item) = reply.get_mut("item") {
                take(item.take())?;
            } else if let Some(done) = reply.get_mut("done") {
                return Ok(done.take());
            } else {
                bail!("{question} failed: {reply}");
            }
        }
    }
}
