//! The command line's side of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Reply, SILENCE_MAX};
use crate::state_directory::StateDirectory;

/// A reload may have to wait for the disk and the kernel.
const REPLY_TIME_MAX: Duration = SILENCE_MAX.saturating_mul(4);

/// A connection to a running server.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the server that runs with this state directory; `None` if there is none.
    pub fn connect(state: &StateDirectory) -> Result<Option<Self>> {
        Self::open(&state.control_socket())
    }

    /// Connects to whoever answers at a socket; `None` if there is nobody.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        Self::on(path, UnixStream::connect(path), REPLY_TIME_MAX)
    }

    /// As [`Client::open`], for who must not wait: each step takes no longer than this, also where nobody accepts.
    pub fn open_within(path: &Path, limit: Duration) -> Result<Option<Self>> {
        let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
            socket.connect_timeout(&SockAddr::unix(path)?, limit)?;
            Ok(UnixStream::from(OwnedFd::from(socket)))
        });
        Self::on(path, connected, limit)
    }

    fn on(path: &Path, connected: io::Result<UnixStream>, limit: Duration) -> Result<Option<Self>> {
        let stream = match connected {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("{} belongs to another user: run this as root or as the server's user", path.display())
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit.min(SILENCE_MAX)))?;
        Ok(Some(Self { reader: BufReader::new(stream) }))
    }

    /// As [`Client::connect`]; that there is no server is an error.
    pub fn connect_to_running(state: &StateDirectory) -> Result<Self> {
        Self::connect(state)?.with_context(|| {
            format!(
                "no server runs with the state directory {}; start one with `tandem run`, or name the right \
                 directory with --config FILE or --state-directory DIR",
                state.path().display()
            )
        })
    }

    /// Sends a request and returns what it is done with.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T> {
        self.ask_for_items(request, |_: Value| Ok(()))
    }

    /// Sends a request, gives each item to `take`, and returns what it is done with.
    pub fn ask_for_items<I: DeserializeOwned, T: DeserializeOwned>(
        &mut self,
        request: &impl Serialize,
        mut take: impl FnMut(I) -> Result<()>,
    ) -> Result<T> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).context("the server closed the connection")?;
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).context("the server does not answer")?;
            if line.is_empty() {
                bail!("the server ended while it answered");
            }
            let reply = serde_json::from_str(&line).context("the server's answer can not be understood")?;
            match reply {
                Reply::Item(item) => {
                    take(serde_json::from_value(item).context("an item can not be understood")?)?
                }
                Reply::Done(value) => {
                    return serde_json::from_value(value)
                        .context("the server's answer can not be understood");
                }
                Reply::Failed(reason) => bail!(reason),
            }
        }
    }
}
