//! The process that serves a node's metrics, started as its guardian starts it; the test is the guardian.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;

use host::child::{Child, Start};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

#[test]
fn an_exporter_tells_how_the_cluster_is_while_no_engine_answers() {
    let exporter = Exporter::start();
    let guardian = exporter.way.try_clone().expect("a descriptor is left");
    let answers = std::thread::spawn(move || {
        let mut question = [0; 9];
        let length = guardian.recv(&mut question).expect("it is asked");
        assert_eq!(length, 8);
        let reply = [&question[..8], VIEW.as_bytes()].concat();
        guardian.send(&reply).expect("it is read");
    });

    let text = scrape(exporter.address);

    answers.join().expect("it does not panic");
    for line in [
        "tandem_guardian_up 1\n",
        "tandem_engine_up 0\n",
        "tandem_active 0\n",
        "tandem_cluster_role{role=\"standby\"} 1\n",
        "tandem_cluster_takeovers_total{reason=\"peer_silent\"} 2\n",
        "tandem_process_threads{process=\"exporter\"} ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_guardian_that_says_nothing_keeps_no_scrape_waiting_for_ever() {
    let exporter = Exporter::start();

    let text = scrape(exporter.address);

    assert!(text.contains("tandem_guardian_up 0\n"), "{text}");
    assert!(!text.contains("tandem_cluster_role{"), "{text}");
}

/// What a guardian says, as far as an exporter of another version would have to have it.
const VIEW: &str = r#"{
    "node": "a", "version": "0.1.0", "pid": 1, "uptime_s": 9, "role": "standby", "since_s": 9, "epoch": 3,
    "takeovers": {"peer silent": 2}, "lease_ms": 500, "votes": 0, "votes_needed": 2, "list": {"version": 1},
    "nodes": [], "paths": [], "checks": [], "addresses": [], "vip": "tandem", "holds_addresses": false,
    "gate": {"kind": "program"}, "engine": {"state": "dead", "restarts": 1, "hung": 0}, "link": {"messages": 4},
    "settings": "0", "alarms": []
}"#;

struct Exporter {
    child: Child,
    way: UnixDatagram,
    address: SocketAddr,
    _place: TempDir,
}

impl Exporter {
    fn start() -> Self {
        let place = TempDir::new().expect("there is a place for it");
        let (way, theirs) = UnixDatagram::pair().expect("a pair");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let arguments = vec![
            "exporter".into(),
            "--config".into(),
            place.path().join("none.toml").into(),
            "--engine".into(),
            place.path().join("control.sock").into(),
        ];
        let descriptors = vec![theirs.into(), listener.into()];
        let start =
            Start { program: env!("CARGO_BIN_EXE_tandem").into(), arguments, descriptors, user: None };
        let child = start.spawn().expect("it can be started");
        Self { child, way, address, _place: place }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.pid).ok().and_then(Pid::from_raw).expect("it is a process");
        // It may have ended where the test has failed.
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is text");
    text
}
