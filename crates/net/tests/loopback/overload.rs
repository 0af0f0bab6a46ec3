//! More comes than one thread can handle.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::{ConnectionLimits, Server, Start};
use routing::bans::Enforcement;
use transport::{Listener, Listeners, Transport};

use crate::testbed::{MemoryStore, UdpPhone, counted, eventually, options, own_host, root_key, settings};

const REFUSED: [&str; 4] = [
    "overload_refused_other",
    "overload_refused_new_registration",
    "overload_refused_known_registration",
    "overload_refused_call",
];

/// It ends by itself some seconds after the load.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// RFC 3261 §21.5.4 and RFC 3261 §20.33.
#[test]
fn under_a_flood_the_least_important_are_refused_and_calls_for_help_and_dialogs_are_not() {
    let (server, address) = serve();
    let flood = Flood::begin(address);
    eventually("it is overloaded", || counted(&server, "overload_refused_other") > 100);
    assert!(server.status().overload.is_some());

    let phone = UdpPhone::new(own_host());
    let emergency =
        options("sip:112@example.org", "UDP", phone.address(), "help").replace("OPTIONS", "INVITE");
    let within = options("sip:bob@192.0.2.1", "UDP", phone.address(), "within")
        .replace("OPTIONS", "MESSAGE")
        .replace("To: <sip:bob@192.0.2.1>", "To: <sip:bob@192.0.2.1>;tag=2");
    for request in [emergency, within] {
        let answer = answered(&phone, address, &request);
        assert!(!answer.starts_with("SIP/2.0 503"), "{answer}");
    }

    let times = flood.end();
    assert!(times.len() > 5, "they are spread: {times:?}");
    assert!(times.iter().all(|seconds| (5..=30).contains(seconds)), "{times:?}");
    let begun = Instant::now();
    while server.status().overload.is_some() {
        assert!(begun.elapsed() < ENDS_WITHIN, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer =
        answered(&phone, address, &options(&format!("sip:{address}"), "UDP", phone.address(), "then"));
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    server.stop().expect("a clean end");
}

#[test]
fn what_can_be_handled_is_never_refused() {
    let (server, address) = serve();
    let phone = UdpPhone::new(own_host());
    let uri = format!("sip:{address}");

    for round in 0..20 {
        for number in 0..64 {
            let call_id = format!("{round}-{number}");
            phone.send(address, options(&uri, "UDP", phone.address(), &call_id).as_bytes());
        }
        for _ in 0..64 {
            let answer = phone.receive_text();
            assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        }
        // On a busy machine the next burst may come before the server has looked again, and it would seem to be one queue
        // that is never empty: a request that comes alone shows the server that it was.
        phone.send(address, options(&uri, "UDP", phone.address(), &format!("{round}")).as_bytes());
        assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    }

    assert_eq!(REFUSED.map(|name| counted(&server, name)), [0; 4]);
    assert_eq!(server.status().overload, None);
    server.stop().expect("a clean end");
}

/// Sends until it is told to end.
struct Flood {
    ends: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<u32>>,
}

impl Flood {
    fn begin(to: SocketAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        Self { ends, thread: std::thread::spawn(move || flood(to, &told)) }
    }

    /// The times after which those who were refused may come back.
    fn end(self) -> BTreeSet<u32> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// Always more on its way than a batch takes, and less than a socket has room for.
const UNDER_WAY: usize = 200;

fn flood(to: SocketAddr, ends: &AtomicBool) -> BTreeSet<u32> {
    let phone = UdpPhone::new(own_host());
    phone.0.set_read_timeout(Some(Duration::from_millis(200))).expect("an option");
    let template = options(&format!("sip:{to}"), "UDP", phone.address(), "NUMBER");
    let (mut times, mut sent, mut under_way) = (BTreeSet::new(), 0_u64, 0);
    let mut room = [0; 2_048];
    while !ends.load(Ordering::Relaxed) {
        while under_way < UNDER_WAY {
            sent += 1;
            under_way += 1;
            phone.send(to, template.replace("NUMBER", &sent.to_string()).as_bytes());
        }
        // What was lost is not waited for.
        let Ok(length) = phone.0.recv(&mut room) else {
            under_way = 0;
            continue;
        };
        under_way -= 1;
        let text = String::from_utf8_lossy(&room[..length]);
        if text.starts_with("SIP/2.0 503 Overloaded") {
            let time = text.split("Retry-After: ").nth(1).and_then(|rest| rest.lines().next());
            times.insert(time.expect("it says when").parse().expect("a number"));
        }
    }
    times
}

/// The answer to a request that is repeated until there is one.
fn answered(phone: &UdpPhone, to: SocketAddr, request: &str) -> String {
    phone.0.set_read_timeout(Some(Duration::from_millis(100))).expect("an option");
    let call_id = request.split("Call-ID: ").nth(1).and_then(|rest| rest.lines().next()).expect("it has one");
    let mut room = [0; 2_048];
    for _ in 0..300 {
        phone.send(to, request.as_bytes());
        while let Ok(length) = phone.0.recv(&mut room) {
            let text = String::from_utf8_lossy(&room[..length]).into_owned();
            if text.contains(&format!("Call-ID: {call_id}\r\n")) && !text.starts_with("SIP/2.0 100 ") {
                return text;
            }
        }
    }
    unreachable!("no answer to {request}");
}

/// A server of one thread that holds nobody and trusts nobody.
fn serve() -> (Server, SocketAddr) {
    let address = SocketAddr::new(own_host(), 5060);
    let mut settings = settings(&[(Transport::Udp, address)]);
    let listeners = settings.listeners.iter().map(|listener| Listener { digest: true, ..listener.clone() });
    settings.listeners = Arc::new(Listeners::new(listeners.collect()));
    settings.trusted.clear();
    settings.admission.enforcement = Enforcement::Off;
    let server = Server::start(Start {
        settings: Arc::new(settings),
        connection_limits: ConnectionLimits::default(),
        root_key: root_key(),
        node: 0,
        boot: 1,
        threads: 1,
        store: Arc::<MemoryStore>::default(),
        lease: Arc::new(net::Permanent),
        virtual_addresses: Default::default(),
        peer: None,
        tickler: None,
        relay: net::RelayRules::default(),
        kernel_path: Err("there is none".to_owned()),
        records: None,
    })
    .expect("a server");
    (server, address)
}
