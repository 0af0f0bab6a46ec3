//! A partition in a world of its own: a calendar and a clock that tests move, a store that tests are,
//! and phones that register.

mod admission;
mod authenticate;
mod copies;
mod gruu;
mod import;
mod keepalive;
mod locate;
mod order;
mod random;
mod register;
mod restart;
mod spread;
mod standby;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use lease::{Epoch, LeaseMirror};
use sip::Aor;
use transport::{
    Advertise, ConnectionId, Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport,
};

use super::{AccountPartition, Asker, Change, Output};
use crate::bans::{Deed, Evidence};
use crate::{
    Account, Algorithm, Answer, Authority, ContactUpdate, Contacts, Keyring, Located, Question, Register,
    RegisterRefusal, RegisterRight, Registered, RegisteredContact, Settings, StoredBinding, Target, Token,
};

const UDP: ListenerId = ListenerId(1);
const TCP: ListenerId = ListenerId(2);
const PARTITION: u16 = 3;

struct World {
    partition: AccountPartition,
    now: Now,
    out: Vec<Output>,
    tokens: u64,
    mirror: LeaseMirror,
}

impl World {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        Self {
            partition: AccountPartition::new(Arc::new(settings), keyring(), PARTITION),
            now: Now::new(seconds(1_000), WallTime::from_millis(1_800_000_000_000)),
            out: Vec::new(),
            tokens: 0,
            mirror: LeaseMirror::permanent(),
        }
    }

    /// Asks, and gives the answer if it comes at once.
    fn ask(&mut self, question: Question) -> Option<Answer> {
        self.tokens += 1;
        let asker = Asker { shard: 0, token: Token(self.tokens) };
        let mirror = self.mirror;
        let lease = mirror.active(self.now.instant).unwrap();
        let before = self.out.len();
        self.partition.handle_question(self.now, &lease, asker, question, &mut self.out);
        let position =
            self.out[before..].iter().position(|output| matches!(output, Output::Answer { .. }))?;
        match self.out.remove(before + position) {
            Output::Answer { asker: of, answer } => {
                assert_eq!(of, asker);
                Some(answer)
            }
            other => panic!("{other:?}"),
        }
    }

    fn register(&mut self, register: Register) -> Result<Registered, RegisterRefusal> {
        match self.ask(Question::Register(Box::new(register))) {
            Some(Answer::Registered(registered)) => registered,
            other => panic!("{other:?}"),
        }
    }

    /// Registers, and gives the contacts with their seconds.
    fn contacts(&mut self, register: Register) -> Vec<(String, u32)> {
        let registered = self.register(register).unwrap();
        registered.contacts.iter().map(|contact| (text(&contact.uri), contact.expires)).collect()
    }

    fn query(&mut self, user: &str) -> Vec<(String, u32)> {
        self.contacts(Register { contacts: Contacts::Query, ..a_register(user, 0, &[]) })
    }

    fn targets(&mut self, user: &str) -> Vec<Target> {
        match self.ask(Question::Locate(aor(user))) {
            Some(Answer::Located(Located::Targets(targets))) => targets,
            other => panic!("{other:?}"),
        }
    }

    fn loaded(&mut self, user: &str, loaded: super::Loaded) {
        let mirror = self.mirror;
        let lease = mirror.active(self.now.instant).unwrap();
        self.partition.handle_account(self.now, &lease, &aor(user), loaded, &mut self.out);
    }

    /// Another node was active meanwhile, and this one is again.
    fn become_active(&mut self, epoch: u64) {
        self.mirror = LeaseMirror::until(Instant::FAR, Epoch(epoch));
        self.timeout();
    }

    /// Moves both clocks, and calls the partition whenever it wants to be called.
    fn pass(&mut self, time: Duration) {
        let until = self.now.instant + time;
        while let Some(at) = self.partition.poll_timeout().filter(|&at| at <= until) {
            self.stand_still(at.since(self.now.instant));
            self.timeout();
        }
        self.stand_still(until.since(self.now.instant));
    }

    /// Moves both clocks, and nobody is called.
    fn stand_still(&mut self, time: Duration) {
        let milliseconds = |at: Instant| at.as_nanos() / 1_000_000;
        let instant = self.now.instant + time;
        let passed = milliseconds(instant) - milliseconds(self.now.instant);
        self.now = Now::new(instant, self.now.wall + Duration::from_millis(passed));
    }

    fn timeout(&mut self) {
        let mirror = self.mirror;
        let lease = mirror.active(self.now.instant).unwrap();
        self.partition.handle_timeout(self.now, &lease, &mut self.out);
    }

    /// What came out, but for the reports.
    fn take(&mut self) -> Vec<Output> {
        let mut out = std::mem::take(&mut self.out);
        out.retain(|output| !matches!(output, Output::Report(_)));
        out
    }

    /// What the bans were told.
    fn take_reports(&mut self) -> Vec<(Deed, Evidence)> {
        let reports = self.out.extract_if(.., |output| matches!(output, Output::Report(_)));
        reports
            .map(|output| match output {
                Output::Report(report) => (report.deed, report.evidence),
                other => unreachable!("{other:?} is no report"),
            })
            .collect()
    }

    fn take_saved(&mut self) -> Vec<Change> {
        let saved = |output| match output {
            Output::Save(change) => Some(change),
            _ => None,
        };
        self.take().into_iter().filter_map(saved).collect()
    }
}

fn settings() -> Settings {
    Settings {
        listeners: Arc::new(Listeners::new(vec![udp_listener(), tcp_listener()])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        // Times are told to the second here; `spread` tries what is spread.
        registrar: crate::settings::Registrar { expires_spread_percent: 0, ..Default::default() },
        ..Settings::default()
    }
}

fn udp_listener() -> Listener {
    Listener {
        id: UDP,
        transport: Transport::Udp,
        local: LocalAddr(address("10.0.0.1:5060")),
        advertise: Some(Advertise { host: "203.0.113.1".to_owned(), port: None }),
        digest: true,
    }
}

fn tcp_listener() -> Listener {
    Listener {
        id: TCP,
        transport: Transport::Tcp,
        local: LocalAddr(address("10.0.0.1:5060")),
        advertise: None,
        digest: true,
    }
}

fn keyring() -> Keyring {
    Keyring::derive(&keys::RootKey::new([9; 32]))
}

/// A REGISTER over UDP from where the first contact says, with one Call-ID for the user.
fn a_register(user: &str, cseq: u32, contacts: &[ContactUpdate]) -> Register {
    Register {
        authority: Authority::Here,
        aor: aor(user),
        source: udp_from("192.0.2.7:5060"),
        contacts: Contacts::Update(contacts.to_vec()),
        expires: None,
        path: vec![],
        call_id: Bytes::from(format!("{user}@phone")),
        cseq,
        user_agent: None,
        nat: false,
        outbound: false,
        gruu: false,
        response_hash: 0,
        right: RegisterRight::Proved,
    }
}

fn remove_all(user: &str, cseq: u32) -> Register {
    Register { contacts: Contacts::RemoveAll, expires: Some(0), ..a_register(user, cseq, &[]) }
}

fn contact(uri: &str) -> ContactUpdate {
    ContactUpdate {
        uri: Bytes::copy_from_slice(uri.as_bytes()),
        q: None,
        expires: Some(600),
        instance: None,
        reg_id: None,
    }
}

fn removed(uri: &str) -> ContactUpdate {
    ContactUpdate { expires: Some(0), ..contact(uri) }
}

fn flow_contact(uri: &str, instance: &'static str, reg_id: u32) -> ContactUpdate {
    ContactUpdate {
        instance: Some(Bytes::from_static(instance.as_bytes())),
        reg_id: Some(reg_id),
        ..contact(uri)
    }
}

fn udp_from(remote: &str) -> Source {
    Source {
        flow: Flow::Datagram { listener: UDP, remote: RemoteAddr(address(remote)) },
        transport: Transport::Udp,
    }
}

fn tcp_from(remote: &str, number: u64) -> Source {
    let flow = Flow::Connection { id: connection(number), remote: RemoteAddr(address(remote)) };
    Source { flow, transport: Transport::Tcp }
}

fn connection(number: u64) -> ConnectionId {
    ConnectionId { node: 0, boot: 1, listener: TCP, number }
}

/// An account with the password `secret` in realm `example.org`.
fn account(user: &str) -> Account {
    Account {
        aor: aor(user),
        ha1: vec![(Algorithm::Md5, md5(&format!("{user}:example.org:secret")).into())],
        aliases: vec![],
        may_use: vec![],
        calls: Default::default(),
    }
}

fn md5(text: &str) -> String {
    use md5::Digest;
    let mut hex = Vec::new();
    keys::hex(&md5::Md5::digest(text.as_bytes()), &mut hex);
    String::from_utf8(hex).unwrap()
}

fn put(change: &Change) -> &StoredBinding {
    match change {
        Change::Put(binding) => binding,
        Change::Remove(key) => panic!("{key:?}"),
    }
}

fn uris(contacts: &[RegisteredContact]) -> Vec<String> {
    contacts.iter().map(|contact| text(&contact.uri)).collect()
}

fn aor(user: &str) -> Aor {
    Aor::parse(&format!("{user}@example.org")).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}
