//! `tandem drill`: the pair that runs is broken on purpose, and phones of the drill's own tell what they kept and lost.
//!
//! The phones are ordinary ones with accounts of their own: they know the virtual address alone. What breaks a node is done
//! by a [`hand`] there, which is a process of its own and undoes everything when the drill is gone. What is told was
//! observed: nothing is known to be kept, or lost, beforehand.

mod canary;
pub mod fault;
mod flock;
pub mod hand;
mod page;
mod probe;
mod reach;
mod session;
mod told;
mod trial;
mod words;

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use host::{Signals, wait_readable};
use sip::Aor;
use zeroize::Zeroizing;

use fault::Fault;
use flock::Flock;
use reach::Reach;
use session::{Over, Session};
use trial::Trial;
use words::Hello;

/// More phones ask so seldom that a short silence is missed.
const PHONES_MAX: usize = 8;

/// Faults of one drill.
const FAULTS_MAX: usize = 32;

/// How long phones may take to register.
const REGISTERED_TIME_MAX: Duration = Duration::from_secs(15);

/// How long is waited for the ends of calls and registrations, when all is over.
const ENDED_TIME_MAX: Duration = Duration::from_secs(8);

/// Bytes of a password file that are read.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// The drill could not be done, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDone;

impl std::fmt::Display for NotDone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the drill could not be done to its end")
    }
}

/// Whether it is asked before something is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It is.
    Ask,
    /// The operator has said yes.
    Given,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// In this order.
    pub faults: Vec<Fault>,
    /// The accounts of the phones.
    pub accounts: Vec<Aor>,
    /// The file with their password.
    pub password_file: PathBuf,
    /// Commands that lead to nodes.
    pub hands: Vec<String>,
    /// Without one: the words for the hand on this host.
    pub own_hand: Vec<OsString>,
    /// Where the phones send to.
    pub server: Option<SocketAddr>,
    /// Where they speak from.
    pub from: Option<IpAddr>,
    /// Whether it is asked before.
    pub consent: Consent,
    /// Where the page goes.
    pub html: Option<PathBuf>,
}

/// Does it. That something was lost is an error too, and no [`NotDone`].
pub fn drill(plan: &Plan) -> Result<()> {
    // Before the first thread: each has the mask of the one that started it.
    let signals = Signals::take().context(NotDone)?;
    let mut trials = Vec::new();
    let done = prepared(plan, signals).and_then(|mut session| {
        let played = begin(&mut session, plan).and_then(|()| play(&mut session, plan, &mut trials));
        // What could not be mended is told before all else.
        end(session).map_err(Over::from).and(played)
    });
    if !trials.is_empty() {
        say(&told::summary(&trials));
        if let Some(file) = &plan.html {
            let written = std::fs::write(file, page::page(&trials));
            written.with_context(|| format!("{} can not be written", file.display())).context(NotDone)?;
            say(&format!("{} shows it as a page.\n", file.display()));
        }
    }
    match done {
        Ok(()) => {}
        Err(Over::Failed(error)) => return Err(error.context(NotDone)),
        Err(Over::Interrupted) => {
            return Err(anyhow::anyhow!("it was broken off; what was broken is mended").context(NotDone));
        }
    }
    let lost: usize = trials.iter().map(Trial::lost).sum();
    ensure!(lost == 0, "{lost} were lost");
    Ok(())
}

/// Starts the hands and switches the phones on, and breaks nothing.
fn prepared(plan: &Plan, signals: Signals) -> Result<Session, Over> {
    let count = plan.accounts.len();
    if !(2..=PHONES_MAX).contains(&count) {
        let error = anyhow::anyhow!("{count} accounts: name 2 to {PHONES_MAX} with --phone, four are good");
        return Err(Over::Failed(error));
    }
    if plan.faults.len() > FAULTS_MAX {
        return Err(Over::Failed(anyhow::anyhow!("more than {FAULTS_MAX} faults")));
    }
    let password = password(&plan.password_file)?;
    let hands = match plan.hands.as_slice() {
        [] => vec![Reach::here(&plan.own_hand).context(
            "run it on a node as root, or on another host with --hand 'ssh root@NODE tandem drill-hand' for each node",
        )?],
        hands => hands.iter().map(|words| Reach::by(words)).collect::<Result<_>>()?,
    };
    let network = words::network();
    for fault in &plan.faults {
        for hand in &hands {
            hand::check(&hand.hello, *fault, &network)?;
        }
    }
    let hellos: Vec<&Hello> = hands.iter().map(|hand| &hand.hello).collect();
    let server = plan.server.or_else(|| hellos.first()?.servers.first().copied());
    let server =
        server.context("sip.listen has no virtual address with UDP: name one with --server ADDRESS:PORT")?;
    let local = match plan.from {
        Some(from) => from,
        None => local(server, &hellos, &network)?,
    };
    let flock = Flock::start(&plan.accounts, &password, local, server)?;
    say(&told::stage(&hellos, server, local));
    Ok(Session { hands, flock, signals })
}

/// Lets the phones register, and asks.
fn begin(session: &mut Session, plan: &Plan) -> Result<(), Over> {
    session.flock.register();
    let registered =
        session.wait(REGISTERED_TIME_MAX, |session| Ok(session.flock.is_registered()?.then_some(())))?;
    registered.with_context(|| {
        format!("the phones are not registered after {REGISTERED_TIME_MAX:?}: nobody answers them")
    })?;
    let active = session.wait_until_whole()?;
    say(&told::plan(&plan.faults, &active.node, &session.hands));
    match plan.consent {
        Consent::Given => Ok(()),
        Consent::Ask => confirm(session),
    }
}

fn play(session: &mut Session, plan: &Plan, trials: &mut Vec<Trial>) -> Result<(), Over> {
    for fault in &plan.faults {
        let active = session.wait_until_whole()?;
        if fault.needs_hand() && session.hand_on(&active.node).is_none() {
            say(&format!(
                "\n{fault} takes a hand on {}, where none is: the service is moved first.\n",
                active.node
            ));
            play_one(session, Fault::Switchover, trials)?;
        }
        play_one(session, *fault, trials)?;
    }
    Ok(())
}

fn play_one(session: &mut Session, fault: Fault, trials: &mut Vec<Trial>) -> Result<(), Over> {
    say(&format!("\n{}. {fault} …\n", trials.len() + 1));
    let trial = trial::run(session, fault)?;
    say(&told::trial(trials.len() + 1, &trial));
    let is_whole = trial.whole_ms.is_some();
    trials.push(trial);
    if !is_whole {
        return Err(Over::Failed(anyhow::anyhow!("after {fault} the pair is not whole again")));
    }
    Ok(())
}

/// Undoes everything, and lets the phones go. A signal does not hurry it.
fn end(session: Session) -> Result<()> {
    let Session { mut hands, flock, signals: _signals } = session;
    let mut result = Ok(());
    for hand in &mut hands {
        let healed = hand.heal().with_context(|| format!("{} WAS NOT HEALED", hand.hello.node));
        result = result.and(healed);
    }
    flock.end_calls();
    let is_done = |is_so: &dyn Fn() -> bool| {
        let until = std::time::Instant::now() + ENDED_TIME_MAX;
        while !is_so() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    is_done(&|| !flock.is_calling());
    flock.unregister();
    is_done(&|| flock.registered().is_empty());
    let left = flock.registered().join(", ");
    if !left.is_empty() {
        say(&format!("note: still registered, for ten minutes at most: {left}\n"));
    }
    result
}

fn confirm(session: &mut Session) -> Result<(), Over> {
    if !std::io::stdin().is_terminal() {
        return Err(Over::Failed(anyhow::anyhow!("nobody can be asked: say --yes if it is meant")));
    }
    say("Type `yes` to begin: ");
    let stdin = std::io::stdin();
    loop {
        wait_readable(&[stdin.as_fd(), session.signals.as_fd()], Duration::from_secs(60))?;
        if session.signals.next().is_some() {
            return Err(Over::Interrupted);
        }
        let mut is_there = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut is_there, Some(&now)).map_err(std::io::Error::from)? == 0 {
            continue;
        }
        let mut line = String::new();
        stdin.read_line(&mut line)?;
        return match line.trim() {
            "yes" => Ok(()),
            _ => Err(Over::Failed(anyhow::anyhow!("nothing was broken"))),
        };
    }
}

/// The address by which this host reaches the server; on the active node that would be the virtual one.
fn local(server: SocketAddr, hellos: &[&Hello], network: &str) -> Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    let reached = socket.connect(server).and_then(|()| socket.local_addr());
    let address = reached
        .with_context(|| format!("no way leads to {server}; name this host's address with --from"))?
        .ip();
    let is_virtual = hellos.iter().any(|hello| hello.virtual_addresses.contains(&address));
    if !is_virtual {
        return Ok(address);
    }
    let own =
        hellos.iter().filter(|hello| hello.network == network).flat_map(|hello| hello.paths.iter().copied());
    own.into_iter()
        .find(|path| path.is_ipv4() == server.is_ipv4())
        .context("this host has the virtual address; name its own with --from")
}

fn password(file: &Path) -> Result<Zeroizing<String>> {
    let name = file.display();
    let text = Zeroizing::new(std::fs::read_to_string(file).with_context(|| name.to_string())?);
    let mode = std::fs::metadata(file)?.mode();
    if mode & 0o077 != 0 {
        bail!("{name} can be read by others: chmod 600 {name}");
    }
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{name} has no password in its first line");
    ensure!(line.len() <= PASSWORD_BYTES_MAX, "{name} has a longer password than {PASSWORD_BYTES_MAX} bytes");
    Ok(Zeroizing::new(line.to_owned()))
}

/// Says something to whoever reads. Where the terminal is gone the drill goes on to its end, which heals.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_password_is_the_first_line_of_a_file_that_is_the_operators_alone() {
        let file = tempfile::NamedTempFile::new().expect("there is a place for it");
        let with = |text: &str, mode| {
            std::fs::write(file.path(), text).expect("it can be written");
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).expect("it is ours");
            password(file.path())
        };

        assert_eq!(*with("a secret\nmore\n", 0o600).expect("it is right"), "a secret");
        for (text, mode) in [("a secret\n", 0o640), ("", 0o600), ("\nx", 0o600)] {
            assert!(with(text, mode).is_err(), "{text:?} {mode:o}");
        }
    }
}
