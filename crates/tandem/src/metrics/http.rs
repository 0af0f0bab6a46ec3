//! The little HTTP that a scrape needs: one request on each connection, one answer, the end.
//!
//! Whoever connects is a stranger. A request is read up to [`HEAD_BYTES_MAX`] and within [`TIME_MAX`], whole or not at all;
//! there are [`CONNECTIONS_MAX`] connections and threads at most; what is more is closed at once.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::text::Form;
use crate::small_thread;

/// Bytes of a request: what scrapers and browsers send is below 2 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;
/// Connections at once: two scrapers, and people who look.
const CONNECTIONS_MAX: usize = 8;
/// How long a request may take to come, and as long again the answer to be taken.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long a process without descriptors waits before it accepts again.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes what is served.
pub type Page = Arc<dyn Fn(Form) -> String + Send + Sync>;

/// A socket that is served. It closes when this is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    /// The thread ends when it is closed.
    leash: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Serves the page on a socket.
    pub fn start(listener: TcpListener, page: Page) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (end, leash) = io::pipe()?;
        let thread = Builder::new()
            .name("metrics".to_owned())
            .spawn(move || accept(&listener, &OwnedFd::from(end), &page))?;
        Ok(Self { address, leash: Some(leash.into()), thread: Some(thread) })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        drop(self.leash.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has closed its socket.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, end: &OwnedFd, page: &Page) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let mut wanted = [PollFd::new(listener, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        if poll(&mut wanted, None).is_err() {
            continue;
        }
        if !wanted[1].revents().is_empty() {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => admit(stream, &open, page),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "a scrape is not accepted");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn admit(stream: TcpStream, open: &Arc<AtomicUsize>, page: &Page) {
    if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        open.fetch_sub(1, Ordering::AcqRel);
        return;
    }
    let (place, page) = (Place(Arc::clone(open)), Arc::clone(page));
    let spawned = small_thread::spawn("metrics-client", move || {
        let _place = place;
        // A scraper that is gone or breaks the rules is told nothing.
        let _ = serve(&stream, &page);
    });
    if let Err(error) = spawned {
        tracing::debug!(%error, "a scrape is not answered");
    }
}

/// One of the places for connections; it is free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(stream: &TcpStream, page: &Page) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let Some(head) = read_head(stream, Instant::now() + TIME_MAX)? else { return Ok(()) };
    let answer = answer(&head, page);
    write_all(stream, &answer, Instant::now() + TIME_MAX)?;
    stream.shutdown(Shutdown::Write)?;
    // What is closed while something unread waits is reset, and the answer with it. Whoever sends on is not heard out.
    stream.set_read_timeout(Some(PAUSE))?;
    let mut rest = [0; 1024];
    let mut stream = stream;
    for _ in 0..HEAD_BYTES_MAX / rest.len() {
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

/// What stands before the empty line, or as much as may be read; `None`: the peer went away before.
fn read_head(mut stream: &TcpStream, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut room = [0; 1024];
    while head.len() < HEAD_BYTES_MAX {
        stream.set_read_timeout(Some(left(until)?))?;
        let most = room.len().min(HEAD_BYTES_MAX - head.len());
        match stream.read(&mut room[..most]) {
            Ok(0) => return Ok(None),
            Ok(length) => head.extend_from_slice(&room[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n") {
            break;
        }
    }
    Ok(Some(head))
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The whole answer to a request of which this was read.
fn answer(head: &[u8], page: &Page) -> Vec<u8> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let (method, path) = match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {
            (request.method.unwrap_or_default(), request.path.unwrap_or_default())
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return response(
                "431 Request Header Fields Too Large",
                "text/plain",
                "",
                "The request is too long.\n",
            );
        }
        Err(_) => return response("400 Bad Request", "text/plain", "", "This is no HTTP/1.1 request.\n"),
    };
    if !matches!(method, "GET" | "HEAD") {
        return response("405 Method Not Allowed", "text/plain", "Allow: GET, HEAD\r\n", "Ask by GET.\n");
    }
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let mut whole = match path {
        "/metrics" => {
            let form = form_of(request.headers);
            response("200 OK", form.content_type(), "", &page(form))
        }
        "/" => response("200 OK", "text/plain", "", "Tandem. What Prometheus asks for is at /metrics.\n"),
        _ => response("404 Not Found", "text/plain", "", "There is /metrics and nothing else.\n"),
    };
    if method == "HEAD"
        && let Some(end) = whole.windows(4).position(|end| end == b"\r\n\r\n")
    {
        whole.truncate(end + 4);
    }
    whole
}

/// OpenMetrics for whoever names it, whatever else is named: it is what scrapers that know it want.
fn form_of(fields: &[httparse::Header<'_>]) -> Form {
    let mut wishes = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("accept"));
    let wants_open = wishes.any(|field| {
        let text = String::from_utf8_lossy(field.value).to_ascii_lowercase();
        text.split(',').any(|kind| {
            let mut parts = kind.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "version=0.0.1"))
        })
    });
    if wants_open { Form::OpenMetrics } else { Form::Text }
}

fn response(status: &str, content_type: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{more}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_gets_the_form_that_it_asks_for() {
        let server = serve_here();

        let text = ask(&server, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
        assert!(text.ends_with("\r\n\r\nText"), "{text}");
        let accept = "Accept: text/plain;q=0.3, application/openmetrics-text;version=1.0.0;q=0.8";
        let text = ask(&server, format!("GET /metrics?a=b HTTP/1.1\r\n{accept}\r\n\r\n").as_bytes());
        assert!(text.contains("application/openmetrics-text; version=1.0.0"), "{text}");
        assert!(text.ends_with("OpenMetrics"), "{text}");
        let text = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn what_is_no_scrape_is_refused_and_the_next_one_is_served() {
        let server = serve_here();
        let long =
            [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX], b"\r\n\r\n"].concat();
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));

        for (request, status) in [
            (b"GET /else HTTP/1.1\r\n\r\n".as_slice(), "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 9999\r\n\r\n", "405"),
            (b"OPTIONS sip:a SIP/2.0\r\n\r\n", "400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
            (b"\r\n\r\n\xff\xfe\0\0\r\n\r\n", "4"),
            (b"GET /metrics HTTP/1.1\nHost: a\n\n", "200"),
            (&long, "431"),
            (many.as_bytes(), "431"),
        ] {
            let text = ask(&server, request);
            let shown = String::from_utf8_lossy(&request[..request.len().min(40)]);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {text}");
        }

        assert!(ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with("Text"));
    }

    #[test]
    fn whoever_holds_all_connections_is_cut_off_and_others_are_served_again() {
        let server = serve_here();
        let mut held: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| connect(&server)).collect();
        // Each has its place once its first bytes can be sent and it is not closed; the ninth one is closed.
        for stream in &mut held {
            stream.write_all(b"GET /metrics").expect("it is open");
        }
        let is_closed = (0..1_000).any(|_| ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").is_empty());
        assert!(is_closed, "there are no more places");

        drop(held.pop());

        assert!((0..1_000).any(|_| ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").ends_with("Text")));
    }

    #[test]
    fn a_request_that_comes_byte_by_byte_has_no_more_time_than_another() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut slow = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (stream, _) = listener.accept().expect("it has connected");
        slow.write_all(b"G").expect("it is open");
        drop(slow);

        // There is a byte to be read, and after it the end: who does not look at the clock gets to that.
        let read = read_head(&stream, Instant::now());

        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_dropped_server_frees_its_port() {
        let server = serve_here();
        let address = server.address();

        drop(server);

        assert!(TcpListener::bind(address).is_ok());
    }

    fn serve_here() -> HttpServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        HttpServer::start(listener, Arc::new(|form| format!("{form:?}"))).expect("a thread can be started")
    }

    fn connect(server: &HttpServer) -> TcpStream {
        TcpStream::connect(server.address()).expect("it listens")
    }

    /// Sends everything, then reads until the other side closes.
    fn ask(server: &HttpServer, request: &[u8]) -> String {
        let mut stream = connect(server);
        // The server may close before it has read all.
        let _ = stream.write_all(request);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8(text).expect("it is text")
    }
}
