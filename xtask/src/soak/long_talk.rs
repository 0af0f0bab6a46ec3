//! `cargo xtask soak long-talk`: one talk of many minutes between two phones behind routers that forget, while in each minute the
//! node that serves is lost or the service is moved.
//!
//! Both phones are baresip. Each plays a tone and records what it hears; in each minute the other one's tone is looked for by its
//! frequency, in all of the minute and in its last seconds, when everything was mended.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::trials::event::Event;
use crate::baresip::{Account, Baresip};
use crate::bench::{explanation, machine};
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::pair::VIP;
use crate::lab::router::Router;
use crate::lab::{self, Family, Lab};
use crate::packages::{self, Consent};
use crate::phone::wire::Transport;
use crate::scenario::cluster::stage::Stage;
use crate::{process, workspace};

/// How long they talk, unless told otherwise.
const MINUTES: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// In each minute they talk for so long before something happens,
const BEFORE: Duration = Duration::from_secs(15);
/// and for so long before it is mended.
const UNTIL_MENDED: Duration = Duration::from_secs(8);
/// In this last part of each minute all must be well.
const LAST: Duration = Duration::from_secs(5);
/// The part of that in which the tone must be heard: recordings are written in blocks.
const LAST_HEARD_MIN: f64 = 0.5;
/// How long the routers remember a flow: many do not longer.
const REMEMBERED: Duration = Duration::from_secs(30);
const HERTZ: [u32; 2] = [440, 1000];
const PAGE: &str = "bench/SOAK-LONG-TALK.md";

/// What happens, one a minute, and again from the first.
const EVENTS: [Event; 6] = [
    Event::Fault(Fault::AllKilled),
    Event::Switchover,
    Event::Fault(Fault::AllFrozen),
    Event::Switchover,
    Event::Fault(Fault::CutOff),
    Event::Switchover,
];

/// What became of one minute: for how many seconds each phone heard the other one's tone, in all of it and in its last part.
struct Minute {
    event: Event,
    length: f64,
    heard: [f64; 2],
    heard_last: [f64; 2],
}

impl Minute {
    fn is_good(&self) -> bool {
        self.heard_last.iter().all(|seconds| *seconds >= LAST.as_secs_f64() * LAST_HEARD_MIN)
    }
}

/// Runs it in namespaces of its own, and writes the page. `words` stand behind `long-talk`.
pub fn run(words: &[&str]) -> Result<ExitCode> {
    let (mut minutes, mut program, mut consent) = (MINUTES, None, Consent::Ask);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} wants a value"));
        match *word {
            "--minutes" => minutes = value()?.parse().context("--minutes wants a number")?,
            "--program" => program = Some(std::path::absolute(value()?)?),
            "--yes" => consent = Consent::Given,
            unknown => bail!("{unknown} is not known"),
        }
    }
    ensure!(minutes > 0, "--minutes wants at least 1");
    packages::ensure_installed(packages::FOR_TESTS, packages::WISHED_FOR_TESTS, consent)?;
    let binary: PathBuf = match program {
        Some(path) => path,
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    let dir = workspace::target().join("soak-long-talk");
    std::fs::create_dir_all(&dir)?;
    let mut command = lab::alone();
    command.arg(std::env::current_exe()?).arg("soak-long-talk-here").arg(&dir).arg(&binary);
    command.arg(minutes.to_string());
    process::loudly(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// The talk; the process is alone in its namespaces.
pub fn run_here(dir: &Path, binary: &Path, minutes: &str) -> Result<ExitCode> {
    let minutes: u32 = minutes.parse()?;
    let lab = Lab::new(dir, binary)?;
    let settings = Settings { toml: "[relay]\nrelay = \"nat\"\n".to_owned(), ..Settings::default() };
    let mut stage = Stage::prepare(&lab, &settings)?;
    stage.cluster.prepare_accounts(0, &["alice", "bob"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    let routers = [Router::new(&lab, "router-a", 50)?, Router::new(&lab, "router-b", 51)?];
    for router in &routers {
        router.be_forgetful(REMEMBERED)?;
    }
    let hosts = [routers[0].host("alice", 21)?, routers[1].host("bob", 22)?];
    let domain = VIP.to_string();
    // Longer than the talk: also for what it takes to mend and to begin.
    let seconds = minutes * 90 + 120;
    let phone = |number: usize, user| {
        let account = Account { user, transport: Transport::Udp, family: Family::V4, hertz: HERTZ[number] };
        Baresip::start_with_tone(&lab, &hosts[number], &domain, account, seconds)
    };
    let mut phones = [phone(0, "alice")?, phone(1, "bob")?];
    for phone in &mut phones {
        phone.wait_until_registered()?;
    }
    phones[0].dial(&format!("sip:bob@{domain}"))?;
    for phone in &mut phones {
        phone.wait_until_established()?;
    }
    let mut done: Vec<Minute> = Vec::new();
    for (number, event) in (1..=minutes).zip(EVENTS.into_iter().cycle()) {
        let minute = one_minute(&lab, &mut stage, &phones, event)?;
        println!("minute {number} of {minutes}: {}", line(&minute));
        done.push(minute);
    }
    phones[0].hang_up()?;
    phones[1].wait_until_closed().context("the other phone was not told of the end")?;
    let page = page(&done, binary)?;
    let place = workspace::root().join(PAGE);
    let old = std::fs::read_to_string(&place).unwrap_or_default();
    std::fs::write(&place, format!("{page}\n{}", explanation(&old)))
        .with_context(|| place.display().to_string())?;
    println!("\n{page}\nwritten to {PAGE}");
    let bad = done.iter().filter(|minute| !minute.is_good()).count();
    ensure!(bad == 0, "in {bad} minutes a phone did not hear the other one at the end");
    Ok(ExitCode::SUCCESS)
}

fn one_minute(lab: &Lab, stage: &mut Stage<'_>, phones: &[Baresip; 2], event: Event) -> Result<Minute> {
    let (begun, at_first) = (Instant::now(), heard(phones)?);
    std::thread::sleep(BEFORE);
    let Stage { pair, cluster, .. } = stage;
    let active = cluster.wait_until_whole(TIME_MAX)?;
    let wound = match event {
        Event::Switchover => {
            cluster.switch_over(pair, active)?;
            None
        }
        Event::Fault(fault) => Some(cluster.hurt(lab, pair, active, fault)?),
    };
    cluster.wait_until_active(active.other(), TIME_MAX)?;
    std::thread::sleep(UNTIL_MENDED);
    if let Some(wound) = wound {
        cluster.heal(lab, pair, wound)?;
    }
    cluster.wait_until_whole(TIME_MAX)?;
    std::thread::sleep((MINUTE - LAST).saturating_sub(begun.elapsed()));
    let before_last = heard(phones)?;
    std::thread::sleep(LAST);
    let at_last = heard(phones)?;
    let since = |then: [f64; 2]| [at_last[0] - then[0], at_last[1] - then[1]];
    let length = begun.elapsed().as_secs_f64();
    Ok(Minute { event, length, heard: since(at_first), heard_last: since(before_last) })
}

/// For how many seconds each has heard the other one's tone.
fn heard(phones: &[Baresip; 2]) -> Result<[f64; 2]> {
    Ok([phones[0].seconds_heard(HERTZ[1])?, phones[1].seconds_heard(HERTZ[0])?])
}

fn line(minute: &Minute) -> String {
    let Minute { event, length, heard: [alice, bob], heard_last: [alice_last, bob_last] } = minute;
    format!(
        "{}; heard {alice:.1} s and {bob:.1} s of {length:.1} s, {alice_last:.1} s and {bob_last:.1} s of the last {} s",
        event.name(),
        LAST.as_secs()
    )
}

fn page(done: &[Minute], binary: &Path) -> Result<String> {
    let command = format!("cargo xtask soak long-talk --minutes {}", done.len());
    let mut page = format!(
        "# A long talk\n\n\
         Written by `{command}`. Two phones (baresip, G.711) behind two routers that give each flow a random port and forget it\nafter {} s \
         talk by the pair's virtual address. In each minute the node that serves is lost, and mended {} s after the other\none took over, or \
         the service is moved. What counts is the other one's tone, found by its frequency in pieces of 0.1 s of what\nwas recorded.\n\n\
         | minute | what happened | the caller heard, s | the callee heard, s | of, s | at the end |\n|---|---|---|---|---|---|\n",
        REMEMBERED.as_secs(),
        UNTIL_MENDED.as_secs()
    );
    for (number, minute) in done.iter().enumerate() {
        let Minute { event, length, heard: [alice, bob], .. } = minute;
        let end = if minute.is_good() { "both hear" } else { "**not both hear**" };
        let event = event.name();
        writeln!(page, "| {} | {event} | {alice:.1} | {bob:.1} | {length:.1} | {end} |", number + 1)?;
    }
    write!(page, "\n| | |\n|---|---|\n")?;
    let machine = machine(binary, &command)?;
    for (what, value) in machine.iter().filter(|(what, _)| *what != "Kamailio") {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}
