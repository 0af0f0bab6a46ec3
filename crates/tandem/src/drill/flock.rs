//! All phones of a drill, each with a socket of its own on this host.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sip::Aor;

use super::canary::Canary;
use super::probe::{Act, Probe, Side, State};
use crate::phones::callee::Attended;
use crate::phones::caller::{Length, Standing};
use crate::phones::message::Speaker;
use crate::phones::wire::Wire;

/// How often one of them asks whether somebody answers: 25 questions in a second are half of what the server takes from a
/// source that proves nothing.
pub const ASKED_EVERY: Duration = Duration::from_millis(40);

/// The phones.
#[derive(Debug)]
pub struct Flock {
    phones: Vec<Wire<Canary>>,
    names: Vec<String>,
    turn: usize,
}

/// A question of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// When it was asked.
    pub at: Instant,
    /// When it was answered.
    pub answered: Option<Instant>,
}

impl Flock {
    /// Switches them on. `local` is the address that they speak from.
    pub fn start(accounts: &[Aor], password: &str, local: IpAddr, server: SocketAddr) -> Result<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| anyhow!("no randomness: {error}"))?;
        let salt = u128::from_ne_bytes(salt);
        let begin = Instant::now();
        let count = u32::try_from(accounts.len())?;
        let phones = accounts.iter().zip(0..).map(|(account, place): (_, u32)| {
            let socket = UdpSocket::bind((local, 0)).with_context(|| format!("{local} has no free port"))?;
            let own = socket.local_addr()?;
            let speaker = |salt| Speaker::new(account.user(), password, account.domain(), own, salt);
            // One after the other, so that all of them together ask evenly.
            let first = begin + ASKED_EVERY * place;
            let canary =
                Canary::new(first, ASKED_EVERY * count, speaker(salt as u64), speaker((salt >> 64) as u64));
            Ok(Wire::start(socket, server, canary)?)
        });
        let phones = phones.collect::<Result<_>>()?;
        Ok(Self { phones, names: accounts.iter().map(ToString::to_string).collect(), turn: 0 })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.phones.len()
    }

    /// The name of one.
    pub fn name(&self, place: usize) -> &str {
        &self.names[place]
    }

    /// Lets all of them register, perhaps again.
    pub fn register(&self) {
        for phone in &self.phones {
            phone.speaker().phone().register(Instant::now());
        }
    }

    /// How many REGISTERs each has sent.
    pub fn registers(&self) -> Vec<u32> {
        let sent = |phone: &Wire<Canary>| phone.speaker().phone().registration().sent;
        self.phones.iter().map(sent).collect()
    }

    /// Whether all of them are registered, and nobody else by their names.
    pub fn is_registered(&self) -> Result<bool> {
        let mut is_all = true;
        for (phone, name) in self.phones.iter().zip(&self.names) {
            let mut canary = phone.speaker();
            let registration = canary.phone().registration();
            if let Some(status) = registration.refusal {
                bail!(
                    "{name} can not register: {} {}; `tandem subscriber show {name}` tells whether there is such an account, \
                     and its password must be the one of --password-file",
                    status.0,
                    status.reason_phrase()
                );
            }
            if let Some(stranger) = registration.strangers.first() {
                bail!(
                    "another phone is registered as {name} ({stranger}), and would ring with each call of the drill: name \
                     accounts that nobody else uses; what a drill has left that was killed ends within ten minutes"
                );
            }
            is_all &= registration.until.is_some();
        }
        Ok(is_all)
    }

    /// Lets one of them call the next one.
    pub fn call(&mut self, state: State) -> Result<Probe> {
        let callee = self.turn % self.phones.len();
        self.call_to(state, callee)
    }

    /// Lets another one call this one.
    pub fn call_to(&mut self, state: State, callee: usize) -> Result<Probe> {
        let caller = (callee + 1) % self.phones.len();
        let name = &self.names[callee];
        let user = name.split_once('@').map_or(name.as_str(), |(user, _)| user);
        // It does not leave before the other one expects it.
        let mut calling = self.phones[caller].speaker();
        let call_id = calling.caller().call(Instant::now(), user, Length::Held).context("too many calls")?;
        self.phones[callee].speaker().callee().expect(&call_id, state.conduct());
        self.turn += 1;
        let side = if self.turn.is_multiple_of(2) { Side::Caller } else { Side::Callee };
        Ok(Probe::new(state, (caller, callee), call_id, side))
    }

    /// How both ends of a call are.
    pub fn look(&self, probe: &Probe) -> (Standing, Option<Attended>) {
        let standing = self.phones[probe.caller].speaker().caller().standing_of(&probe.call_id);
        let standing = standing.unwrap_or_else(|| Standing::Failed("it is forgotten".to_owned()));
        (standing, self.phones[probe.callee].speaker().callee().attended(&probe.call_id))
    }

    /// Lets an end of a call do something.
    pub fn act(&self, probe: &Probe, act: Act) {
        let call_id = &probe.call_id;
        match act {
            Act::Answer => self.phones[probe.callee].speaker().callee().answer(call_id),
            Act::CalleeHangsUp => self.phones[probe.callee].speaker().callee().hang_up(call_id),
            Act::CallerHangsUp => self.phones[probe.caller].speaker().caller().hang_up(call_id),
        }
    }

    /// Lets the caller cancel a call.
    pub fn cancel(&self, probe: &Probe) {
        self.phones[probe.caller].speaker().caller().cancel(&probe.call_id);
    }

    /// Whether each of them was answered a question that it asked after a moment.
    pub fn is_answered_after(&self, moment: Instant) -> bool {
        self.phones.iter().all(|phone| phone.speaker().phone().pulse().is_answered_after(moment))
    }

    /// What they have asked after a moment, in the order of time.
    pub fn beats(&self, since: Instant) -> Vec<Beat> {
        let mut beats = Vec::new();
        for phone in &self.phones {
            let mut canary = phone.speaker();
            let asked = canary.phone().pulse().asked_after(since);
            beats.extend(asked.map(|asked| Beat { at: asked.at, answered: asked.answered }));
        }
        beats.sort_by_key(|beat| beat.at);
        beats
    }

    /// Lets all calls end.
    pub fn end_calls(&self) {
        for phone in &self.phones {
            phone.speaker().end_calls();
        }
    }

    /// Whether one of them has a call that it has begun.
    pub fn is_calling(&self) -> bool {
        self.phones.iter().any(|phone| phone.speaker().caller().is_calling())
    }

    /// Lets all of them take their registrations away.
    pub fn unregister(&self) {
        for phone in &self.phones {
            phone.speaker().phone().unregister(Instant::now());
        }
    }

    /// Those that are registered still.
    pub fn registered(&self) -> Vec<&str> {
        let all = self.phones.iter().zip(&self.names);
        let is_registered = |phone: &Wire<Canary>| phone.speaker().phone().registration().until.is_some();
        all.filter(|(phone, _)| is_registered(phone)).map(|(_, name)| name.as_str()).collect()
    }
}

/// The longest time without an answer that ended after `since`, up to `until`. The last answer before counts.
pub fn longest_silence(beats: &[Beat], since: Instant, until: Instant) -> (Instant, Instant) {
    let mut answers: Vec<Instant> = beats.iter().filter_map(|beat| beat.answered).collect();
    answers.sort();
    answers.push(until);
    let mut last = answers.iter().copied().filter(|at| *at <= since).max().unwrap_or(since);
    let mut longest = (last, last);
    for at in answers.into_iter().filter(|at| *at > since) {
        if at.saturating_duration_since(last) > longest.1.saturating_duration_since(longest.0) {
            longest = (last, at);
        }
        last = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_between_two_answers_of_any_phone() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let beat = |asked, answered: Option<u64>| Beat { at: at(asked), answered: answered.map(at) };
        let beats = [
            beat(0, Some(1)),
            beat(40, Some(41)),
            beat(80, None),
            beat(120, None),
            beat(160, Some(165)),
            beat(200, Some(201)),
        ];

        assert_eq!(longest_silence(&beats, at(90), at(210)), (at(41), at(165)), "from the answer before");
        assert_eq!(
            longest_silence(&beats, at(170), at(900)),
            (at(201), at(900)),
            "nobody has answered since"
        );
        assert_eq!(longest_silence(&[], at(0), at(7)), (at(0), at(7)));
    }
}
