//! The server's side of the control socket: a thread for each of a few connections.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{REQUEST_BYTES_MAX, Reply, SILENCE_MAX};

/// Connections at once: people and scripts of one host.
const CONNECTIONS_MAX: usize = 16;

/// Does what a request wants.
pub trait Answer: Send + Sync + 'static {
    /// What can be asked.
    type Request: DeserializeOwned;

    /// Gives each item to `item`, which fails when nobody reads any more; returns how it ended.
    fn answer(
        &self,
        request: Self::Request,
        item: &mut dyn FnMut(Value) -> io::Result<()>,
    ) -> Result<Value, String>;
}

/// The open socket. It goes from the disk when this is dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Opens the socket and answers there until the process ends. What a killed server left behind is
    /// replaced: the caller holds the directory's lock.
    pub fn open(path: &Path, answer: Arc<impl Answer>) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        std::thread::Builder::new().name("control".to_owned()).spawn(move || accept(&listener, &answer))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next start replaces it anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, answer: &Arc<impl Answer>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else {
            // The process has no descriptor left; a loop without pause would help nobody.
            std::thread::sleep(std::time::Duration::from_millis(100));
            continue;
        };
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            let busy = Reply::Failed("too many commands at once; try again in a moment".to_owned());
            // Whoever does not read it learns it from the closed connection.
            let _ = stream.set_nonblocking(true).and_then(|()| write(&mut stream, &busy));
            continue;
        }
        let (answer, place) = (Arc::clone(answer), Place(Arc::clone(&open)));
        let spawned = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
            let _place = place;
            // The client is gone or broke the rules: either way nobody is left to be told.
            let _ = serve(stream, &*answer);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "a command could not be answered");
        }
    }
}

/// One of the places for connections; it is free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve<A: Answer>(stream: UnixStream, answer: &A) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = io::BufWriter::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader).take(REQUEST_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() > REQUEST_BYTES_MAX {
            let reply = format!("the request is longer than {REQUEST_BYTES_MAX} bytes");
            write(&mut writer, &Reply::Failed(reply))?;
            return writer.flush();
        }
        let reply = match serde_json::from_slice::<A::Request>(&line) {
            Ok(request) => {
                let ended = answer.answer(request, &mut |item| write(&mut writer, &Reply::Item(item)));
                ended.map_or_else(Reply::Failed, Reply::Done)
            }
            Err(error) => Reply::Failed(format!("this server does not know the request: {error}")),
        };
        write(&mut writer, &reply)?;
        writer.flush()?;
    }
}

fn write(writer: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::fs::MetadataExt;

    use super::super::Request;
    use super::*;

    #[test]
    fn a_request_gets_its_items_and_its_end() {
        let (_temporary, path, _control) = opened();

        let lines = exchange(&path, b"{\"op\":\"contacts\",\"aor\":null}\n{\"op\":\"status\"}\n");

        assert_eq!(lines, ["{\"item\":0}", "{\"item\":1}", "{\"done\":null}", "{\"done\":\"status\"}"]);
    }

    #[test]
    fn rubbish_is_refused_and_the_next_client_is_served() {
        let (_temporary, path, _control) = opened();
        let long = vec![b'x'; REQUEST_BYTES_MAX + 10];
        let deep = "[".repeat(100_000) + "\n";
        let cases: &[&[u8]] = &[
            b"\n",
            b"rubbish\n",
            b"\xff\xfe\x00\n",
            b"{}\n",
            b"{\"op\":\"fly\"}\n",
            b"{\"op\":\"status\",\"more\":1}\n",
            b"{\"op\":\"contacts\",\"aor\":7}\n",
            b"{\"op\":\"subscriber_add\",\"aor\":\"a@b\"}\n",
            b"{\"op\":\"status\"",
            deep.as_bytes(),
            &long,
        ];

        for case in cases {
            let lines = exchange(&path, case);
            let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
            assert_eq!(lines.len(), 1, "{shown}: {lines:?}");
            assert!(lines[0].starts_with("{\"failed\":"), "{shown}: {lines:?}");
        }

        assert_eq!(exchange(&path, b"{\"op\":\"status\"}\n"), ["{\"done\":\"status\"}"]);
    }

    #[test]
    fn a_client_that_hangs_up_harms_nobody() {
        let (_temporary, path, _control) = opened();
        for _ in 0..3 * CONNECTIONS_MAX {
            let mut stream = connect(&path);
            stream.write_all(b"{\"op\":\"contacts\",\"aor\":null}\n").expect("it is open");
            drop(stream);
        }

        let answered =
            (0..1_000).any(|_| exchange(&path, b"{\"op\":\"status\"}\n") == ["{\"done\":\"status\"}"]);

        assert!(answered);
    }

    #[test]
    fn more_clients_than_there_are_places_are_told_so() {
        let (_temporary, path, _control) = opened();
        let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connect(&path)).collect();
        // Each has its place once it is answered.
        for stream in &mut held {
            stream.write_all(b"{\"op\":\"status\"}\n").expect("it is open");
            let mut reply = [0; 18];
            stream.read_exact(&mut reply).expect("it is answered");
        }

        let lines = exchange(&path, b"");

        assert!(lines[0].contains("too many commands"), "{lines:?}");
    }

    #[test]
    fn the_socket_is_its_owners_and_replaces_what_a_killed_server_left() {
        let (temporary, path, control) = opened();
        assert_eq!(std::fs::metadata(&path).expect("it is there").mode() & 0o777, 0o600);
        std::mem::forget(control);

        let control = Control::open(&path, Arc::new(Echo)).expect("it can be replaced");
        assert_eq!(exchange(&path, b"{\"op\":\"status\"}\n"), ["{\"done\":\"status\"}"]);
        drop(control);

        assert!(!path.exists());
        drop(temporary);
    }

    struct Echo;

    impl Answer for Echo {
        type Request = Request;

        fn answer(
            &self,
            request: Request,
            item: &mut dyn FnMut(Value) -> io::Result<()>,
        ) -> Result<Value, String> {
            match request {
                Request::Contacts { .. } => {
                    for number in 0..2 {
                        item(number.into()).map_err(|error| error.to_string())?;
                    }
                    Ok(Value::Null)
                }
                _ => Ok("status".into()),
            }
        }
    }

    fn opened() -> (tempfile::TempDir, PathBuf, Control) {
        let temporary = tempfile::TempDir::new().expect("there is a place for it");
        let path = temporary.path().join("control.sock");
        let control = Control::open(&path, Arc::new(Echo)).expect("it can be opened");
        (temporary, path, control)
    }

    fn connect(path: &Path) -> UnixStream {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(SILENCE_MAX)).expect("it is open");
        stream
    }

    /// Sends everything, then reads until the other side closes.
    fn exchange(path: &Path, bytes: &[u8]) -> Vec<String> {
        let stream = connect(path);
        // The server may close before it has read all of a request that is too long.
        let _ = (&stream).write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        BufReader::new(stream).lines().map_while(Result::ok).collect()
    }
}
