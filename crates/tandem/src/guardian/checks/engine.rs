//! Whether the engine answers SIP: an OPTIONS over UDP to where phones reach it.
//!
//! The active node's engine is asked at the virtual address, a standby's at a listener of its own; where there is none the
//! engine's control socket is asked. Whatever status comes is an answer: a standby says 503. That an engine hangs is known
//! from its heartbeats within milliseconds; this check finds what those can not, such as a listener that hears nothing.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::health::{Check, Patience};

use super::Told;
use crate::guardian::standing::Standing;

/// Between the end of one question and the next.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer is waited for. RFC 3261 §17.1.2.2: a client repeats its question after T1, 500 ms; so does this one.
const REPEATED_AFTER: Duration = Duration::from_millis(500);

/// Copies of one question.
const COPIES: u32 = 2;

/// An engine under a flood loses datagrams; ten in a row it does not.
const PATIENCE: Patience = Patience { failures: 5, successes: 2 };

/// Datagrams that are read for one answer: what answers an earlier question may come before it.
const READ_MAX: usize = 64;

/// Where the engine can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAt {
    /// A UDP listener on a virtual address.
    pub virtual_listener: Option<SocketAddr>,
    /// A UDP listener on an address of this host alone.
    pub own_listener: Option<SocketAddr>,
    /// Its control socket.
    pub control_socket: PathBuf,
}

/// Asks again and again, while the engine is one that can answer.
pub(super) fn run(at: &EngineAt, standing: &Standing, told: &Told) {
    let mut number = 0_u64;
    while !told.halt.is_set_within(EVERY) {
        if !standing.is_engine_ready() {
            continue;
        }
        number += 1;
        let listener = if standing.is_active() { at.virtual_listener } else { at.own_listener };
        let result = match listener {
            Some(listener) => ask_listener(listener, number)
                .map_err(|error| format!("no answer to OPTIONS at udp:{listener}: {error}")),
            None => ask_control(&at.control_socket)
                .map_err(|error| format!("its control socket does not answer: {error}")),
        };
        // While it was asked the engine may have ended, which the guardian knows better.
        if standing.is_engine_ready() {
            told.result(Check::Engine, PATIENCE, result);
        }
    }
}

fn ask_listener(listener: SocketAddr, number: u64) -> io::Result<()> {
    let any: IpAddr = match listener {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(listener)?;
    let call_id = format!("{}-{number}@guardian.invalid", std::process::id());
    let request = options(socket.local_addr()?, listener, &call_id);
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..COPIES {
        // A refusal of the last copy comes as an error of this one.
        let answered = socket.send(request.as_bytes()).and_then(|_| is_answered(&socket, &call_id));
        match answered {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(match last.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "none came")
        }
        _ => last,
    })
}

fn is_answered(socket: &UdpSocket, call_id: &str) -> io::Result<()> {
    let until = Instant::now() + REPEATED_AFTER;
    let mut buffer = [0; 2048];
    for _ in 0..READ_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        if is_answer(&buffer[..length], call_id) {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn is_answer(datagram: &[u8], call_id: &str) -> bool {
    let text = String::from_utf8_lossy(datagram);
    text.starts_with("SIP/2.0 ") && text.contains(call_id)
}

/// RFC 3261 §11.1: what is asked is the server itself, so that the Request-URI has no user.
fn options(from: SocketAddr, to: SocketAddr, call_id: &str) -> String {
    let branch = call_id.split('@').next().unwrap_or_default();
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bKguardian-{branch};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:guardian@guardian.invalid>;tag={branch}\r\n\
         To: <sip:{to}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Accept: application/sdp\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn ask_control(path: &Path) -> io::Result<()> {
    let limit = Some(REPEATED_AFTER * COPIES);
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    stream.write_all(b"{\"op\":\"realm\"}\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.starts_with("{\"done\":") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::guardian::checks::tests::hear;

    #[test]
    fn an_engine_that_answers_passes_whatever_it_says() {
        for status in ["200 OK", "503 Standby"] {
            assert_eq!(ask_of(move |request| vec![answer(status, request)]), Ok(()), "{status}");
        }
    }

    #[test]
    fn what_is_no_answer_to_this_question_is_none() {
        let other = |request: &str| {
            vec!["SIP/2.0 200 OK\r\nCall-ID: other\r\n\r\n".to_owned(), request.to_owned(), String::new()]
        };

        assert_eq!(ask_of(other), Err(io::ErrorKind::TimedOut));
    }

    #[test]
    fn a_lost_question_is_asked_again() {
        let mut count = 0;
        let second = move |request: &str| {
            count += 1;
            if count == 2 { vec![answer("200 OK", request)] } else { Vec::new() }
        };

        assert_eq!(ask_of(second), Ok(()));
    }

    #[test]
    fn a_standby_is_asked_at_its_own_listener_and_the_active_node_at_the_virtual_one() {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let [virtual_listener, own_listener] =
            sockets.each_ref().map(|socket| Some(socket.local_addr().expect("it is bound")));
        let at = EngineAt { virtual_listener, own_listener, control_socket: PathBuf::from("/none") };
        let standing = Arc::new(Standing::default());
        standing.engine_ready(true);
        let mut heard = hear();
        let (told, its) = (heard.told(), Arc::clone(&standing));
        let running = std::thread::spawn(move || run(&at, &its, &told));
        for (place, is_active) in [(1, false), (0, true)] {
            let until = if is_active { Duration::MAX } else { Duration::ZERO };
            standing.active_until(until);
            let mut buffer = [0; 2048];
            sockets[place].set_read_timeout(Some(Duration::from_secs(20))).expect("it is open");
            let (length, from) = sockets[place].recv_from(&mut buffer).expect("it is asked");
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let sent = sockets[place].send_to(answer("200 OK", &request).as_bytes(), from);
            sent.expect("it is sent");
            assert_eq!(heard.next_result(), (Check::Engine, Ok(())));
        }
        heard.end(running);
    }

    #[test]
    fn without_a_listener_the_control_socket_is_asked() {
        let place = tempfile::tempdir().expect("a place");
        let path = place.path().join("control.sock");
        assert_eq!(ask_control(&path).expect_err("nobody is there").kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).expect("bound");
        let server = std::thread::spawn(move || {
            for reply in ["{\"done\":null}\n", "{\"failed\":\"x\"}\n"] {
                let (stream, _) = listener.accept().expect("one comes");
                BufReader::new(&stream).read_line(&mut String::new()).expect("a line");
                (&stream).write_all(reply.as_bytes()).expect("it is read");
            }
        });

        ask_control(&path).expect("it is answered");
        assert!(ask_control(&path).is_err());
        server.join().expect("it does not panic");
    }

    fn answer(status: &str, request: &str) -> String {
        let call_id = request.lines().find(|line| line.starts_with("Call-ID")).unwrap_or_default();
        format!("SIP/2.0 {status}\r\n{call_id}\r\n\r\n")
    }

    /// Asks a listener that says this to each datagram.
    fn ask_of(mut says: impl FnMut(&str) -> Vec<String> + Send + 'static) -> Result<(), io::ErrorKind> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let at = socket.local_addr().expect("it is bound");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it is open");
        let server = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            for _ in 0..COPIES {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { return };
                if buffer[..length] == *b"end" {
                    return;
                }
                for datagram in says(&String::from_utf8_lossy(&buffer[..length])) {
                    let _ = socket.send_to(datagram.as_bytes(), from);
                }
            }
        });
        let result = ask_listener(at, 1).map_err(|error| error.kind());
        let _ = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"end", at));
        server.join().expect("it does not panic");
        result
    }
}
