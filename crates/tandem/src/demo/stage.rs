//! The play: all who take part, what is done to them, and what is seen of it.
//!
//! The thread that builds it plays it to the end: what it has started dies with it.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use host::Signals;

use super::deed::Deed;
use super::ink::{Ink, Line};
use super::node::{DOMAIN, Node, PASSWORD, Plight, Program, write_key};
use super::picture::{BEATS, NodeScene, Scene};
use super::screen::QUIT;
use super::takeover::{self, Takeover, push, report_of};
use super::town::{CALLER, PHONES, SERVICE, SIP_PORT, Town, server};
use super::viewer::Viewer;
use crate::control::client::Client;
use crate::guardian::question::Question;
use crate::guardian::view::ClusterView;
use crate::phones::callee::Manners;
use crate::phones::caller::{Caller, Length, Standing};
use crate::phones::message::Speaker;
use crate::phones::wire::Wire;
use crate::phones::{Habits, Phone};

/// How often the picture is drawn and what is waited for is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Everything that is waited for has come long before, also on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A phone that does not answer for so long is not reached.
const REACHED_WITHIN: Duration = Duration::from_secs(6);

/// No refresh is due while it is watched, so that each further REGISTER is one that a takeover cost.
const HABITS: Habits = Habits {
    expires: Duration::from_secs(3_600),
    asks_every: Duration::from_millis(100),
    manners: Manners::TakesAll,
};

/// How long whoever watches may look at what has been done before it is undone.
const LOOK: Duration = Duration::from_secs(3);

/// The key that undoes what was done.
const HEAL: char = 'h';

/// How much of each log is shown after a failure.
const LOG_LINES: usize = 12;

/// Why the play is over before its end.
#[derive(Debug)]
pub enum Over {
    /// Somebody wants it.
    Quit,
    /// Something failed that must not.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Over {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// All who take part.
pub struct Stage {
    viewer: Viewer,
    signals: Signals,
    phones: Vec<Wire<Phone>>,
    caller: Wire<Caller>,
    nodes: [Node; 2],
    _witness: Program,
    town: Town,
    waits_for: Option<String>,
    key: Option<char>,
    number: usize,
}

impl Stage {
    /// Builds it all, and starts the witness and the first node.
    pub fn build(place: &Path, viewer: Viewer, signals: Signals) -> Result<Self> {
        let town = Town::build()?;
        write_key(place)?;
        let mut witness = Program::prepare(place, "witness", "witness", &town.witness)?;
        witness.start()?;
        let [a, b] = &town.nodes;
        let mut nodes = [Node::prepare(place, 0, a)?, Node::prepare(place, 1, b)?];
        nodes[0].start()?;
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(|error| anyhow!("no randomness: {error}"))?;
        let salt = u64::from_ne_bytes(salt);
        let now = Instant::now();
        let speaker =
            |name: &str, address| Speaker::new(name, PASSWORD, DOMAIN, (address, SIP_PORT).into(), salt);
        let phones = PHONES.iter().zip(&town.phones).map(|((name, address), host)| {
            let phone = Phone::new(now, speaker(name, *address), HABITS);
            let socket = host.enter(|| UdpSocket::bind((*address, SIP_PORT)))??;
            Wire::start(socket, server(), phone)
        });
        let phones = phones.collect::<std::io::Result<Vec<_>>>()?;
        let (name, address) = CALLER;
        let caller = Caller::new(speaker(name, address), REACHED_WITHIN);
        let socket = town.caller.enter(|| UdpSocket::bind((address, SIP_PORT)))??;
        let caller = Wire::start(socket, server(), caller)?;
        Ok(Self {
            viewer,
            signals,
            phones,
            caller,
            nodes,
            _witness: witness,
            town,
            waits_for: None,
            key: None,
            number: 0,
        })
    }

    /// Waits until one node is active, the other one could be, and each phone is registered and was reached.
    pub fn begin(&mut self) -> Result<(), Over> {
        self.say(Ink::Strong, "Two nodes, a witness, four phones and a caller, each on a host of its own");
        let mut lines = Vec::new();
        push(
            &mut lines,
            Ink::Plain,
            &format!(
                "in this machine. The nodes are `tandem run` as anywhere, the phones know only {SERVICE}. \
                 No packet leaves this machine, and nothing of it stays."
            ),
        );
        self.viewer.say(lines);
        // It would else be by chance which of them is active first.
        let active =
            self.wait("the first node to be active", |stage| stage.active().map(|(node, _)| node))?;
        self.nodes[1].start()?;
        for phone in &self.phones {
            phone.speaker().register(Instant::now());
        }
        self.wait("the phones to register", |stage| {
            let now = Instant::now();
            let is_registered = |phone: &Wire<Phone>| phone.speaker().view(now, 0).registered_for.is_some();
            stage.phones.iter().all(is_registered).then_some(())
        })?;
        self.wait_for_standby()?;
        let (name, other) = (self.nodes[active].name, self.nodes[1 - active].name);
        let mut lines = Vec::new();
        push(
            &mut lines,
            Ink::Good,
            &format!("{name} is active, {other} could take over, all phones are registered"),
        );
        self.viewer.say(lines);
        Ok(())
    }

    /// Ends it all, and gives what only the picture has shown.
    pub fn end(self) -> Vec<Line> {
        match self.viewer {
            Viewer::Picture { said, .. } => said,
            Viewer::Lines => Vec::new(),
        }
    }

    /// Does one deed after the other by itself.
    pub fn play_all(&mut self) -> Result<(), Over> {
        let mut harmless = 0;
        for deed in Deed::ALL {
            harmless += usize::from(self.play(deed)?.is_harmless());
            self.viewer.is_watched().then(|| self.look(LOOK)).transpose()?;
            self.heal()?;
        }
        let count = Deed::ALL.len();
        if harmless < count {
            let words = format!("only {harmless} of {count} takeovers cost no phone a call or a REGISTER");
            return Err(Over::Failed(self.with_logs(&words)));
        }
        self.say(Ink::Strong, &format!("{count} takeovers, and none cost a phone a call or a REGISTER"));
        Ok(())
    }

    /// Does what the keys say, until one says that it is enough.
    pub fn play_by_keys(&mut self) -> Result<(), Over> {
        loop {
            self.tick()?;
            let Some(key) = self.key.take() else { continue };
            if key == HEAL {
                match self.heal() {
                    Err(Over::Failed(error)) => self.say_failed(&error),
                    healed => healed?,
                }
            } else if let Some(deed) = Deed::of(key) {
                if !self.is_standby_ready() {
                    self.say(Ink::Odd, "Nobody could take over yet: press h first, or wait a moment");
                    continue;
                }
                match self.play(deed) {
                    // Whoever watches may look at it, and go on.
                    Err(Over::Failed(error)) => self.say_failed(&error),
                    played => drop(played?),
                }
            }
        }
    }

    /// Does something to the active node, and tells what came of it.
    fn play(&mut self, deed: Deed) -> Result<Takeover, Over> {
        let (active, epoch) = self.active().context("no node is active")?;
        let (from, to) = (self.nodes[active].name, self.nodes[1 - active].name);
        self.number += 1;
        let held = PHONES[self.number % PHONES.len()].0;
        self.caller.speaker().call(Instant::now(), held, Length::Held);
        self.wait_for_call(&format!("a call with {held} to be up"), held, |standing| {
            matches!(standing, Standing::Up(_))
        })?;
        self.say(Ink::Strong, &format!("{}. {}", self.number, deed.title(from)));
        let mut lines = Vec::new();
        push(&mut lines, Ink::Faint, &deed.expectation(from, to));
        self.viewer.say(lines);
        self.show();
        let registers = self.registers();
        let began = Instant::now();
        self.act(deed, active)?;

        let (active, epoch) =
            self.wait(&format!("{to} to take over"), |stage| stage.active().filter(|(_, now)| *now > epoch))?;
        let since = Instant::now();
        self.wait("every phone to be answered", |stage| {
            let is_answered = |phone: &Wire<Phone>| phone.speaker().pulse().is_answered_after(since);
            stage.phones.iter().all(is_answered).then_some(())
        })?;
        let silence = self.longest_silence(began);
        let calls = self.call_all(held)?;
        let state = self.nodes[active].state().clone();
        let report = self.wait_a_while(|_| report_of(&state, epoch))?;
        self.register_lost(&calls.1)?;
        let takeover = Takeover {
            from: from.to_owned(),
            to: self.nodes[active].name.to_owned(),
            epoch,
            report,
            silence,
            registers: self.registers() - registers,
            held: (held.to_owned(), calls.0),
            calls: calls.1,
        };
        self.viewer.say(takeover.lines());
        Ok(takeover)
    }

    fn act(&mut self, deed: Deed, active: usize) -> Result<(), Over> {
        match deed {
            Deed::KillEngine => self.nodes[active].kill_engine()?,
            Deed::KillNode => self.nodes[active].kill()?,
            Deed::Freeze => self.nodes[active].freeze()?,
            Deed::CutCable => {
                self.nodes[active].plight = Plight::Unplugged;
                self.town.unplug(active)?;
            }
            Deed::SwitchOver => {
                let socket = self.nodes[1 - active].state().guardian_socket();
                // It is answered when the other node is active, and the picture does not wait.
                let asked = std::thread::spawn(move || hand_over(&socket));
                self.wait("the hand-over", |_| asked.is_finished().then_some(()))?;
                asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
        }
        Ok(())
    }

    /// Ends the call that was up, and calls each phone.
    fn call_all(&mut self, held: &str) -> Result<(Standing, Vec<(String, Standing)>), Over> {
        self.caller.speaker().hang_up_all();
        for (name, _) in PHONES.iter().filter(|(name, _)| *name != held) {
            self.caller.speaker().call(Instant::now(), name, Length::Short);
        }
        let is_over = |standing: &Standing| matches!(standing, Standing::Ended(_) | Standing::Failed(_));
        let ended = self.wait_for_call(&format!("the call with {held} to end"), held, is_over)?;
        // A phone that lost its call's end is busy.
        self.caller.speaker().call(Instant::now(), held, Length::Short);
        let mut calls = Vec::new();
        for (name, _) in PHONES {
            let standing = self.wait_for_call(&format!("a call to {name}"), name, is_over)?;
            calls.push((name.to_owned(), standing));
        }
        Ok((ended, calls))
    }

    /// Who was not reached registers again, as its user would let it, so that the next takeover is told by itself.
    fn register_lost(&mut self, calls: &[(String, Standing)]) -> Result<(), Over> {
        let lost: Vec<&str> = takeover::unreached(calls).collect();
        let now = Instant::now();
        let mut wanted = self.registers();
        for phone in &self.phones {
            let mut phone = phone.speaker();
            if lost.contains(&phone.view(now, 0).name.as_str()) {
                phone.register(now);
                wanted += 1;
            }
        }
        self.wait("the lost phones to register again", |stage| (stage.registers() >= wanted).then_some(()))
    }

    /// Undoes what was done, and waits until the one that is not active could be.
    fn heal(&mut self) -> Result<(), Over> {
        for number in 0..self.nodes.len() {
            let plight = self.nodes[number].plight;
            let words = match plight {
                Plight::None => continue,
                Plight::Killed => "is started again",
                Plight::Frozen => "goes on, finds that it stood still, and starts anew",
                Plight::Unplugged => "has its cable again",
            };
            if plight == Plight::Unplugged {
                self.town.plug(number)?;
            }
            self.nodes[number].bring_back()?;
            let mut lines = Vec::new();
            push(&mut lines, Ink::Plain, &format!("{} {words}", self.nodes[number].name));
            self.viewer.say(lines);
        }
        self.wait_for_standby()?;
        if let Some((active, _)) = self.active() {
            let (active, standby) = (self.nodes[active].name, self.nodes[1 - active].name);
            let mut lines = Vec::new();
            push(&mut lines, Ink::Good, &format!("{standby} could take over from {active}"));
            self.viewer.say(lines);
        }
        Ok(())
    }

    fn wait_for_standby(&mut self) -> Result<(), Over> {
        self.wait("a standby that could take over", |stage| stage.is_standby_ready().then_some(()))
    }

    fn wait_for_call(
        &mut self,
        what: &str,
        name: &str,
        is_wanted: impl Fn(&Standing) -> bool,
    ) -> Result<Standing, Over> {
        self.wait(what, |stage| {
            let standing = stage.caller.speaker().standing(name)?;
            let is_final = matches!(standing, Standing::Failed(_)) || is_wanted(&standing);
            is_final.then_some(standing)
        })
    }

    /// The node that is active, and its epoch. One whose lease is over may not have seen it yet.
    fn active(&self) -> Option<(usize, u64)> {
        let views = self.nodes.iter().enumerate().filter_map(|(node, it)| Some((node, it.watch.latest()?)));
        let holds =
            |view: &ClusterView| view.role == "active" && view.lease_left_ms.is_some_and(|left| left > 0);
        let active = views.filter(|(_, view)| holds(view)).map(|(node, view)| (node, view.epoch));
        active.max_by_key(|(_, epoch)| *epoch)
    }

    /// Whether the node that is not active says that it could be, and the active one says so too.
    fn is_standby_ready(&self) -> bool {
        let Some((active, _)) = self.active() else { return false };
        let (own, other) = (self.nodes[1 - active].watch.latest(), self.nodes[active].watch.latest());
        let is_ready = |view: Option<ClusterView>, is_this: bool| {
            let nodes = view.map(|view| view.nodes).unwrap_or_default();
            let meant = nodes.into_iter().find(|node| node.is_this == is_this);
            meant.is_some_and(|node| node.stance == "standby" && node.ailment == 0 && node.ready == 100)
        };
        is_ready(own, true) && is_ready(other, false)
    }

    fn registers(&self) -> u32 {
        let now = Instant::now();
        self.phones.iter().map(|phone| phone.speaker().view(now, 0).registers).sum()
    }

    fn longest_silence(&self, since: Instant) -> Duration {
        let now = Instant::now();
        let silences = self.phones.iter().map(|phone| phone.speaker().pulse().longest_silence(since, now));
        silences.max().unwrap_or_default()
    }

    fn say(&mut self, ink: Ink, text: &str) {
        self.viewer.say(vec![Line::of(ink, format!(" {text}"))]);
    }

    fn say_failed(&mut self, error: &anyhow::Error) {
        self.waits_for = None;
        let text = format!("{error:#}");
        let mut lines = Vec::new();
        push(&mut lines, Ink::Bad, text.lines().next().unwrap_or_default());
        self.viewer.say(lines);
    }

    /// Draws and looks until something has come.
    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> Result<T, Over> {
        self.waits_for = Some(what.to_owned());
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Some(found) = look(self) {
                self.waits_for = None;
                return Ok(found);
            }
            self.tick()?;
            for node in &mut self.nodes {
                if let Some(how) = node.has_ended() {
                    return Err(Over::Failed(self.with_logs(&format!("a node ended by itself: {how}"))));
                }
            }
            if Instant::now() >= until {
                let seconds = WAIT_MAX.as_secs();
                return Err(Over::Failed(self.with_logs(&format!("{what}: it did not come in {seconds} s"))));
            }
        }
    }

    /// The same for what may not come: a report waits for ten seconds for the first answer.
    fn wait_a_while<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> Result<Option<T>, Over> {
        let until = Instant::now() + WAIT_MAX / 2;
        while Instant::now() < until {
            if let Some(found) = look(self) {
                return Ok(Some(found));
            }
            self.tick()?;
        }
        Ok(None)
    }

    fn look(&mut self, time: Duration) -> Result<(), Over> {
        self.waits_for = Some("you to look at it".to_owned());
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick()?;
        }
        self.waits_for = None;
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Over> {
        self.show();
        let mut keys = self.viewer.keys();
        if keys.contains(&QUIT) || self.signals.next().is_some() {
            return Err(Over::Quit);
        }
        // While something is under way keys do nothing.
        keys.retain(|key| self.waits_for.is_none() && (*key == HEAL || Deed::of(*key).is_some()));
        self.key = keys.first().copied();
        std::thread::sleep(TICK);
        Ok(())
    }

    fn show(&self) {
        self.viewer.show(|| self.scene());
    }

    fn scene(&self) -> Scene {
        let now = Instant::now();
        let node = |node: &Node| NodeScene {
            name: node.name.to_owned(),
            plight: node.plight,
            view: node.watch.latest(),
        };
        let [a, b] = &self.nodes;
        let phones = self.phones.iter().zip(PHONES).map(|(phone, (_, address))| {
            let nat = if address.is_private() { " NAT" } else { "" };
            (phone.speaker().view(now, BEATS), format!("{address}{nat}"))
        });
        let caller = self.caller.speaker();
        let calls = PHONES.iter().map(|(name, _)| ((*name).to_owned(), caller.standing(name))).collect();
        Scene {
            address: SERVICE.to_string(),
            nodes: [node(a), node(b)],
            phones: phones.collect(),
            calls: (CALLER.0.to_owned(), calls),
            said: Vec::new(),
            prompt: self.prompt(),
        }
    }

    fn prompt(&self) -> Vec<Line> {
        let key = |key: char, what: &str| {
            Line::of(Ink::Strong, format!(" {key}")).with(Ink::Plain, format!(" {what} "))
        };
        if let Some(what) = &self.waits_for {
            return vec![Line::of(Ink::Faint, format!(" … waiting for {what}  ")), key(QUIT, "quit")];
        }
        let deeds = Deed::ALL.into_iter().map(|deed| key(deed.key(), deed.name()));
        deeds.chain([key(HEAL, "heal"), key(QUIT, "quit")]).collect()
    }

    /// The words, and the end of what each node has logged.
    fn with_logs(&self, words: &str) -> anyhow::Error {
        let mut text = words.to_owned();
        for node in &self.nodes {
            let log = std::fs::read_to_string(node.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(LOG_LINES);
            text.push_str(&format!(
                "\n--- the end of what {} has logged\n{}",
                node.name,
                lines[first..].join("\n")
            ));
        }
        anyhow!(text)
    }
}

fn hand_over(guardian: &Path) -> Result<()> {
    let mut guardian = Client::open(guardian)?.context("the standby's guardian does not answer")?;
    guardian.ask_for_items(&Question::Switchover { force: false }, |_: ClusterView| Ok(()))
}
