//! The program as its operator meets it: started, asked, reloaded, ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[test]
fn a_server_starts_answers_its_operator_and_ends_cleanly() {
    let place = Place::new("domains = ['example.org']");
    let server = place.start();

    let status = place.json(&["status", "--json"]);
    assert_eq!(status["state"], "running");
    assert_eq!(status["listeners"][0]["listener"], format!("udp:127.0.0.1:{}", place.port));
    assert_eq!(status["domains"], serde_json::json!(["example.org"]));
    assert_eq!(status["store"]["state"], "ok");

    place.succeeds(&[
        "subscriber",
        "add",
        "alice@example.org",
        "--password-stdin",
        "--may-use",
        "sales@example.org",
    ]);
    let text = place.succeeds(&["subscriber", "add", "bob@example.com", "--password-stdin"]);
    assert!(text.contains("example.com is no domain of this server"), "{text}");
    let listed = place.json(&["subscriber", "list", "--json", "example.org"]);
    assert_eq!(listed[0]["may_use"], serde_json::json!(["sales@example.org"]));
    assert!(
        place.fails(&["subscriber", "add", "alice@example.org", "--password-stdin"], 1).contains("exists")
    );
    assert!(place.fails(&["subscriber", "remove", "carol@example.org"], 1).contains("no subscriber"));
    assert_eq!(place.json(&["contacts", "--json"]), serde_json::json!([]));
    assert!(place.fails(&["contacts", "alice"], 1).contains("USER@DOMAIN"));

    assert_eq!(server.terminate(), Some(0));
    assert!(place.fails(&["status"], 1).contains("no server runs"));
    assert!(place.succeeds(&["subscriber", "list"]).contains("bob@example.com"));
}

#[test]
fn a_bad_configuration_ends_with_status_2_and_a_reload_of_it_changes_nothing() {
    let place = Place::new("domains = ['example.org']");
    let server = place.start();

    place.write("domains = ['example.com']\nlisen = []\nring_timeout = 5");
    // The file is wrong, so the directory names the server.
    let directory = place.directory.path().to_string_lossy().into_owned();
    for words in [&["reload", "--state-directory", &directory][..], &["check", place.config_text()]] {
        let output = place.run_bare(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(text.contains("did you mean `sip.listen`?") && text.contains("\"5s\""), "{text}");
    }
    assert_eq!(place.run_bare(&["check", place.config_text()]).status.code(), Some(2));
    assert_eq!(place.run(&["run"]).status.code(), Some(2));

    let status = place.run_bare(&["status", "--json", "--state-directory", &directory]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("it is JSON");
    assert_eq!(status["domains"], serde_json::json!(["example.org"]));

    place.write("domains = ['example.com']");
    place.succeeds(&["reload"]);
    assert_eq!(place.json(&["status", "--json"])["domains"], serde_json::json!(["example.com"]));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_port_in_use_and_a_directory_in_use_name_the_process() {
    let place = Place::new("");
    let server = place.start();
    let pid = format!("(pid {})", server.0.id());
    let other = Place::at_port(place.port, "");

    let text = other.fails(&["run"], 1);
    assert!(text.contains("in use by tandem") && text.contains(&pid), "{text}");
    let text = place.fails(&["run"], 1);
    assert!(text.contains("a server runs with the state directory") && text.contains(&pid), "{text}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn metrics_are_served_where_the_configuration_says_and_follow_a_reload() {
    let (first, second) = (free_tcp(), free_tcp());
    let place = Place::new(&format!("[metrics]\nlisten = '{first}'"));
    let server = place.start();

    let text = scrape(first);
    for line in ["tandem_active 1\n", "tandem_engine_up 1\n", "tandem_bindings 0\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.contains("tandem_process_resident_memory_bytes{process=\"engine\"} "), "{text}");
    place.write(&format!("[metrics]\nlisten = '{second}'"));
    place.succeeds(&["reload"]);
    assert!(scrape(second).contains("tandem_active 1\n"));
    assert!(TcpStream::connect(first).is_err(), "nothing is left at the old place");

    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = taken.local_addr().expect("it is bound");
    place.write(&format!("domains = ['example.org']\n[metrics]\nlisten = '{address}'"));
    let error = place.fails(&["reload"], 1);
    assert!(error.contains("metrics.listen") && error.contains("in use"), "{error}");
    assert!(scrape(second).contains("tandem_active 1\n"));
    assert_eq!(place.json(&["status", "--json"])["domains"], serde_json::json!([]));

    place.write("");
    place.succeeds(&["reload"]);
    assert!(TcpStream::connect(second).is_err());
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_taken_port_of_metrics_keeps_nobody_from_serving_sip() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let place = Place::new(&format!("[metrics]\nlisten = '{}'", taken.local_addr().expect("it is bound")));

    let server = place.start();

    assert_eq!(place.json(&["status", "--json"])["state"], "running");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn the_printed_reference_is_a_good_configuration() {
    let place = Place::new("");
    let reference = place.run_bare(&["reference"]).stdout;
    std::fs::write(&place.config, reference).expect("it can be written");

    let checked = place.run_bare(&["check", place.config_text()]);
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains("is right"));
}

fn free_tcp() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("there is a port")
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").expect("it is open");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it is text");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    text
}

/// A state directory and a configuration that names it.
struct Place {
    directory: TempDir,
    config: PathBuf,
    port: u16,
}

/// A server that is killed when the test fails.
struct Server(Child);

impl Place {
    fn new(sip: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        Self::at_port(socket.local_addr().expect("it is bound").port(), sip)
    }

    fn at_port(port: u16, sip: &str) -> Self {
        let directory = TempDir::new().expect("there is a place for it");
        let config = directory.path().join("tandem.toml");
        let place = Self { directory, config, port };
        place.write(sip);
        place
    }

    fn write(&self, sip: &str) {
        let directory = self.directory.path().display();
        let text = format!(
            "[node]\nstate_directory = '{directory}'\n[sip]\nlisten = ['udp://127.0.0.1:{}']\n{sip}\n",
            self.port
        );
        std::fs::write(&self.config, text).expect("it can be written");
    }

    fn config_text(&self) -> &str {
        self.config.to_str().expect("it is text")
    }

    fn start(&self) -> Server {
        let mut child = command()
            .args(["run", "--config", self.config_text()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut text = String::new();
        while !text.lines().any(|line| line.contains(" ready ")) {
            assert_ne!(log.read_line(&mut text).expect("it can be read"), 0, "it ended: {text}");
        }
        // Somebody must go on reading, or the server would wait for room in the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server(child)
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_bare(&[words, &["--config", self.config_text()]].concat())
    }

    fn run_bare(&self, words: &[&str]) -> Output {
        let mut child = command()
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        // A command that reads no password closes the pipe.
        let _ = child.stdin.take().expect("it is piped").write_all(b"secret\n");
        child.wait_with_output().expect("it ends")
    }

    fn succeeds(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn fails(&self, words: &[&str], status: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(status), "{words:?}");
        String::from_utf8(output.stderr).expect("it is text")
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(words)).expect("it is JSON")
    }
}

impl Server {
    fn terminate(mut self) -> Option<i32> {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
        self.0.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command.env_remove("STATE_DIRECTORY").env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
    command
}
