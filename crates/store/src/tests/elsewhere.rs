//! Looking for phones at servers beside this one, while the way to the database does not answer.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::Elsewhere;

use super::engines::{Engine, KINDS, Kind};
use super::location::Made;
use super::*;
use crate::server::address::HostPlace;
use crate::server::elsewhere::{ElsewhereLookups, elsewhere};

/// Far more than each may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// Far less than the deadline.
const PATIENCE: Duration = Duration::from_secs(40);

/// A way to a server on which everything can stand still.
pub(super) struct Way {
    port: u16,
    /// Of the connections that come from here on; those that are there have their own, or the same.
    is_stalled: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
}

#[test]
fn a_connection_that_hangs_costs_nobody_the_answer() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (settings, way) = shared_table(&engine);
        let lookups = asking(settings);
        assert_eq!(ask(&lookups, "alice@example.org").recv_timeout(PATIENCE), Ok(1), "{kind:?}");

        way.stall_what_is_open();
        let asked = ["bob@example.org", "carol@example.org"].map(|of| ask(&lookups, of));

        for answer in asked {
            assert_eq!(answer.recv_timeout(PATIENCE), Ok(1), "{kind:?}");
        }
    }
}

#[test]
fn while_the_way_hangs_each_is_told_nothing_in_its_time_and_finds_again_when_it_is_well() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (settings, way) = shared_table(&engine);
        let lookups = asking(settings);
        assert_eq!(ask(&lookups, "alice@example.org").recv_timeout(PATIENCE), Ok(1), "{kind:?}");

        way.stall(true);
        let asked: Vec<_> = (0..50).map(|number| ask(&lookups, &format!("u{number}@example.org"))).collect();
        for answer in asked {
            assert_eq!(answer.recv_timeout(PATIENCE), Ok(0), "{kind:?}");
        }
        let behind = ask(&lookups, "bob@example.org");
        assert_eq!(behind.recv_timeout(PATIENCE), Ok(0), "{kind:?}");
        way.stall(false);

        super::location::wait_for(|| ask(&lookups, "bob@example.org").recv_timeout(PATIENCE) == Ok(1));
    }
}

/// With a row for each of three, at another server.
fn shared_table(engine: &Engine) -> (ServerSettings, Way) {
    let mut settings = Made::OpenSips.database(engine);
    for (number, user) in ["alice", "bob", "carol"].iter().enumerate() {
        let changes = [
            ("username", format!("'{user}'")),
            ("contact_id", format!("'{}'", 7 + number)),
            ("socket", "'udp:192.0.2.30:5060'".to_owned()),
        ];
        let changes = changes.each_ref().map(|(column, value)| (*column, value.as_str()));
        engine.script(&settings, &Made::OpenSips.row(&changes));
    }
    settings.deadline = DEADLINE;
    Way::to_server(engine, &settings)
}

fn asking(settings: ServerSettings) -> ElsewhereLookups {
    let (lookups, reader) = elsewhere(settings);
    std::thread::spawn(move || reader.run());
    lookups
}

/// How many servers were found.
fn ask(lookups: &ElsewhereLookups, of: &str) -> mpsc::Receiver<usize> {
    let (sender, receiver) = mpsc::channel();
    let reply = move |found: Elsewhere| {
        // A test that has failed does not wait for it.
        let _ = sender.send(found.len());
    };
    lookups.ask(aor(of), Box::new(reply));
    receiver
}

impl Way {
    /// To a server, and the settings by which it is taken.
    pub(super) fn to_server(engine: &Engine, settings: &ServerSettings) -> (ServerSettings, Self) {
        let HostPlace::Socket(place) = &settings.url.hosts[0] else { panic!("it is on a socket") };
        let way = Self::to(match engine.kind() {
            Kind::Postgres => place.join(".s.PGSQL.5432"),
            Kind::MariaDb => place.clone(),
        });
        let mut settings = settings.clone();
        settings.url.hosts = vec![HostPlace::Network("127.0.0.1".to_owned(), way.port)];
        (settings, way)
    }

    fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let port = listener.local_addr().expect("it is bound").port();
        let is_stalled = Arc::new(std::sync::Mutex::new(Arc::new(AtomicBool::new(false))));
        let of_new = Arc::clone(&is_stalled);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = UnixStream::connect(&socket).expect("the server runs");
                let is_stalled = Arc::clone(&of_new.lock().expect("no panic inside"));
                let (from_client, from_server) = (client.try_clone(), server.try_clone());
                let stalled = Arc::clone(&is_stalled);
                std::thread::spawn(move || pass(from_client.expect("it is open"), server, &stalled));
                std::thread::spawn(move || pass(from_server.expect("it is open"), client, &is_stalled));
            }
        });
        Self { port, is_stalled }
    }

    /// What is open now; a new connection is well.
    fn stall_what_is_open(&self) {
        let mut is_stalled = self.is_stalled.lock().expect("no panic inside");
        is_stalled.store(true, Ordering::Relaxed);
        *is_stalled = Arc::default();
    }

    /// What is open, and what comes.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.is_stalled.lock().expect("no panic inside").store(is_stalled, Ordering::Relaxed);
    }
}

fn pass(mut from: impl Read, mut to: impl Write, is_stalled: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        while is_stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
