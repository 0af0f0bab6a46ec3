//! One fault: what is under way is set up, the fault is done, and each piece of it is followed to its end.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};

use super::fault::Fault;
use super::flock::longest_silence;
use super::probe::{Outcome, Probe, State};
use super::session::{Active, Over, Session};
use crate::command::report::Report;

/// Calls in each state.
pub const CALLS_EACH: usize = 2;

/// How long calls may take to be where the fault is to meet them.
const PLACED_TIME_MAX: Duration = Duration::from_secs(15);

/// Half of what is cancelled is cancelled so long before the fault: its CANCEL is out then, and little more.
const CANCELLED_BEFORE: Duration = Duration::from_millis(15);

/// What does not move the service does not within this time.
const MOVED_TIME_MAX: Duration = Duration::from_secs(5);

/// After this time without an answer what is under way is judged as it is.
const ANSWERED_TIME_MAX: Duration = Duration::from_secs(60);

/// What is repeated comes through within this time, when somebody answers: it is repeated after 4 s at the latest, or 8 s.
const SETTLED_TIME_MAX: Duration = Duration::from_secs(12);

/// How long a guardian waits for its first answer before it writes its report.
const REPORTED_TIME_MAX: Duration = Duration::from_secs(12);

/// How much is told of the time before the fault, and after the end of the silence.
const MARGIN: Duration = Duration::from_millis(500);

/// What a fault was like.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What was done.
    pub fault: Fault,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who was active.
    pub from: Active,
    /// Who was active afterwards.
    pub to: Option<Active>,
    /// What became of all that was under way.
    pub ends: Vec<End>,
    /// The questions around the fault: when each was asked, in milliseconds after the fault, and whether it was answered.
    pub beats: Vec<(f64, bool)>,
    /// The longest time without an answer, from and to, in milliseconds after the fault.
    pub silence: (f64, f64),
    /// When the pair was whole again; `None`: it was not.
    pub whole_ms: Option<f64>,
    /// What the nodes tell of it.
    pub reports: Vec<(String, Report)>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// What became of a piece of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// In which state the fault met it.
    pub state: State,
    /// Which it was.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Trial {
    /// How many in a state were kept, and how many lost.
    pub fn count(&self, state: State) -> (usize, usize) {
        let ends = self.ends.iter().filter(|end| end.state == state);
        let kept = ends.clone().filter(|end| end.outcome == Outcome::Kept).count();
        (kept, ends.count() - kept)
    }

    /// How many were lost.
    pub fn lost(&self) -> usize {
        State::ALL.into_iter().map(|state| self.count(state).1).sum()
    }
}

/// Does it to the node that is active.
pub fn run(session: &mut Session, fault: Fault) -> Result<Trial, Over> {
    let from = session.wait_until_whole()?;
    // No refresh is due while it lasts.
    let registers = session.flock.registers();
    session.flock.register();
    let renewed = session.wait(PLACED_TIME_MAX, |session| {
        let is_new = session.flock.registers().iter().zip(&registers).all(|(now, before)| now > before);
        Ok((is_new && session.flock.is_registered()?).then_some(()))
    })?;
    renewed.context("the phones could not register before the fault")?;
    let mut probes = placed(session)?;
    let registers = session.flock.registers();
    let hand = session.hand_on(&from.node).or((!fault.needs_hand()).then_some(0));
    let hand = hand.with_context(|| format!("no hand is on {}", from.node))?;

    let cancelled: Vec<Probe> =
        probes.iter().filter(|probe| probe.state == State::Cancelled).cloned().collect();
    let (before, after) = cancelled.split_at(cancelled.len() / 2);
    before.iter().for_each(|probe| session.flock.cancel(probe));
    std::thread::sleep(CANCELLED_BEFORE);
    let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let began = Instant::now();
    let number = session.hands[hand].hurt(fault)?;
    after.iter().for_each(|probe| session.flock.cancel(probe));
    for _ in 0..CALLS_EACH {
        probes.push(session.flock.call(State::Begun)?);
    }

    let mut notes = Vec::new();
    let (to, is_done) = moved(session, (hand, number), fault, &from, began)?;
    if to.is_none() {
        notes.push("nobody was seen to be active afterwards".to_owned());
    }
    let since = Instant::now();
    let is_answered = |session: &mut Session| Ok(session.flock.is_answered_after(since).then_some(()));
    if session.wait(ANSWERED_TIME_MAX, is_answered)?.is_none() {
        notes.push(format!("nobody answered within {} s", ANSWERED_TIME_MAX.as_secs()));
    }
    let answered = Instant::now();
    for callee in 0..session.flock.len() {
        probes.push(session.flock.call_to(State::Registered, callee)?);
    }
    settle(session, &mut probes)?;
    if session.flock.registers() != registers {
        notes.push("a phone has sent a REGISTER meanwhile".to_owned());
    }
    let beats = session.flock.beats(began - MARGIN);
    let silence = longest_silence(&beats, began, answered);
    let ms = |at: Instant| milliseconds(began, at);
    let until = silence.1.max(began) + MARGIN;
    let beats = beats.into_iter().filter(|beat| beat.at < until);
    let beats = beats.map(|beat| (ms(beat.at), beat.answered.is_some())).collect();
    session.flock.end_calls();

    if !is_done && let Err(error) = session.hands[hand].done(number, fault) {
        match fault {
            // It may have been the hand's own way that was cut.
            Fault::CutLink(_) => notes.push(format!("{error:#}")),
            _ => return Err(error.into()),
        }
    }
    // As long as it was wanted.
    session.wait(fault.time().saturating_sub(began.elapsed()), |_| Ok(None::<()>))?;
    session.hands[hand].heal().with_context(|| format!("{} WAS NOT HEALED", from.node))?;
    let reports = reports(session, &from, to.as_ref())?;
    let whole = session.wait_until_whole().map(|_| ms(Instant::now()));
    if let Err(Over::Failed(error)) = &whole {
        notes.push(format!("{error:#}"));
    }
    let whole_ms = match whole {
        Err(Over::Interrupted) => return Err(Over::Interrupted),
        whole => whole.ok(),
    };
    if let Some(to) = to.as_ref().filter(|to| session.hand_on(&to.node).is_none()) {
        notes.push(format!(
            "{} has no hand, so that its own report is not read: `tandem report` there",
            to.node
        ));
    }
    Ok(Trial {
        fault,
        at_ms: u64::try_from(at_ms).unwrap_or(u64::MAX),
        from,
        to,
        ends: ends(session, &probes),
        beats,
        silence: (ms(silence.0), ms(silence.1)),
        whole_ms,
        reports,
        notes,
    })
}

/// Sets up what the fault is to meet.
fn placed(session: &mut Session) -> Result<Vec<Probe>, Over> {
    let mut probes = Vec::new();
    for state in [State::Talking, State::Ringing, State::Cancelled] {
        for _ in 0..CALLS_EACH {
            probes.push(session.flock.call(state)?);
        }
    }
    let found = session.wait(PLACED_TIME_MAX, |session| {
        let mut is_all = true;
        for probe in &probes {
            let (caller, callee) = session.flock.look(probe);
            is_all &= probe.is_placed(&caller, callee).map_err(|why| {
                let (caller, callee) = (session.flock.name(probe.caller), session.flock.name(probe.callee));
                anyhow!("before the fault a call from {caller} to {callee} failed: {why}")
            })?;
        }
        Ok(is_all.then_some(()))
    })?;
    found.with_context(|| {
        format!("the calls before the fault did not get through within {PLACED_TIME_MAX:?}")
    })?;
    Ok(probes)
}

/// Waits until somebody is active by another epoch, or the fault has passed without that.
fn moved(
    session: &mut Session,
    (hand, number): (usize, u64),
    fault: Fault,
    from: &Active,
    began: Instant,
) -> Result<(Option<Active>, bool), Over> {
    let mut done = None;
    let found = session.wait(ANSWERED_TIME_MAX + fault.time(), |session| {
        match session.hands[hand].poll(number) {
            Some(Err(error)) => return Err(error.context(format!("{fault} on {}", from.node)).into()),
            Some(Ok(())) => done = Some(Instant::now()),
            None => {}
        }
        let active = session.active();
        let is_moved = active.as_ref().is_some_and(|active| active.epoch > from.epoch);
        let is_past = done.is_some_and(|done| done.elapsed() >= MOVED_TIME_MAX)
            && began.elapsed() >= fault.time() + MOVED_TIME_MAX;
        Ok((is_moved || (is_past && active.is_some())).then_some(active))
    })?;
    Ok((found.flatten(), done.is_some()))
}

/// Follows each piece to its end.
fn settle(session: &mut Session, probes: &mut [Probe]) -> Result<(), Over> {
    session.wait(SETTLED_TIME_MAX, |session| {
        for probe in probes.iter_mut() {
            let (caller, callee) = session.flock.look(probe);
            if let Some(act) = probe.go_on(&caller, callee) {
                session.flock.act(probe, act);
            }
        }
        Ok(probes.iter().all(|probe| probe.outcome().is_some()).then_some(()))
    })?;
    for probe in probes {
        let (caller, callee) = session.flock.look(probe);
        probe.give_up(&caller, callee);
    }
    Ok(())
}

/// What the nodes with hands have written about it, when the new one has written.
fn reports(session: &mut Session, from: &Active, to: Option<&Active>) -> Result<Vec<(String, Report)>, Over> {
    let Some(to) = to.filter(|to| to.epoch > from.epoch) else { return Ok(Vec::new()) };
    let is_awaited = session.hand_on(&to.node).is_some();
    let mut all = Vec::new();
    session.wait(REPORTED_TIME_MAX, |session| {
        all.clear();
        for hand in &mut session.hands {
            let node = hand.hello.node.clone();
            // Of a node that is being started again another look tells.
            let reports = hand.reports(from.epoch).unwrap_or_default();
            all.extend(reports.into_iter().map(|report| (node.clone(), report)));
        }
        let is_there = all.iter().any(|(node, report)| *node == to.node && report.is_takeover_of(to.epoch));
        Ok((is_there || !is_awaited).then_some(()))
    })?;
    all.retain(|(_, report)| report.is_takeover());
    Ok(all)
}

fn ends(session: &Session, probes: &[Probe]) -> Vec<End> {
    let name = |probe: &Probe| {
        let (caller, callee) = (session.flock.name(probe.caller), session.flock.name(probe.callee));
        match probe.state {
            State::Registered => callee.to_owned(),
            _ => format!("{caller} to {callee}"),
        }
    };
    let end = |probe: &Probe| {
        let outcome = probe.outcome().cloned();
        let outcome = outcome.unwrap_or_else(|| Outcome::Lost("it was not followed to its end".to_owned()));
        End { state: probe.state, name: name(probe), outcome }
    };
    probes.iter().map(end).collect()
}

fn milliseconds(began: Instant, at: Instant) -> f64 {
    let after = at.saturating_duration_since(began).as_secs_f64();
    let before = began.saturating_duration_since(at).as_secs_f64();
    (after - before) * 1_000.0
}
