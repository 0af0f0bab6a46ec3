//! A SIP phone, as far as the demo and the drill need one: it registers by digest, answers OPTIONS and calls, and asks the
//! server all the time whether it is there.
//!
//! It has no socket and no clock: [`wire`] gives it what arrives and sends what it writes.

pub mod callee;
pub mod caller;
pub mod dialog;
pub mod login;
pub mod message;
pub mod pulse;
pub mod registration;
pub mod wire;

use std::time::{Duration, Instant};

use sip::{Message, Method};

use callee::{Callee, Doing, Manners};
use message::Speaker;
use pulse::{Beat, Pulse};
use registration::Registration;
use wire::Speaks;

/// A phone.
#[derive(Debug)]
pub struct Phone {
    speaker: Speaker,
    registration: Registration,
    callee: Callee,
    pulse: Pulse,
    heard: Option<Instant>,
    kept_alive: u32,
}

/// What a phone does by itself.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// For how long it registers.
    pub expires: Duration,
    /// How often it asks whether the server is there.
    pub asks_every: Duration,
    /// Which calls it takes.
    pub manners: Manners,
}

/// What there is to be seen of a phone.
#[derive(Clone, Debug)]
pub struct PhoneView {
    /// Its user.
    pub name: String,
    /// For how long it is registered still.
    pub registered_for: Option<Duration>,
    /// How long ago it heard of the server last.
    pub heard_ago: Option<Duration>,
    /// What it is doing.
    pub doing: Doing,
    /// How many REGISTERs it has sent.
    pub registers: u32,
    /// How many OPTIONS of the server it has answered.
    pub kept_alive: u32,
    /// How often it rang.
    pub rang: u32,
    /// What became of its last questions.
    pub beats: Vec<Beat>,
}

impl Phone {
    /// A phone that is switched on and not registered. Its first question is due at `asks_from`.
    pub fn new(asks_from: Instant, mut speaker: Speaker, habits: Habits) -> Self {
        let registration = Registration::new(&mut speaker, habits.expires);
        let pulse = Pulse::new(asks_from, habits.asks_every, &mut speaker);
        let callee = Callee::new(habits.manners);
        Self { speaker, registration, callee, pulse, heard: None, kept_alive: 0 }
    }

    /// What there is to be seen, with so many beats.
    pub fn view(&self, now: Instant, beats: usize) -> PhoneView {
        let left = |until: Instant| until.saturating_duration_since(now);
        PhoneView {
            name: self.speaker.user.clone(),
            registered_for: self.registration.until.map(left),
            heard_ago: self.heard.map(|heard| now.saturating_duration_since(heard)),
            doing: self.callee.doing(),
            registers: self.registration.sent,
            kept_alive: self.kept_alive,
            rang: self.callee.rang,
            beats: self.pulse.beats(now, beats),
        }
    }

    /// Its questions.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Its registration.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Its side of the calls that reach it.
    pub fn callee(&mut self) -> &mut Callee {
        &mut self.callee
    }

    /// Registers, perhaps again, as when somebody switches it off and on.
    pub fn register(&mut self, now: Instant) {
        self.registration.renew(now);
    }

    /// Takes its registration away.
    pub fn unregister(&mut self, now: Instant) {
        self.registration.end(now);
    }
}

impl Speaks for Phone {
    fn handle(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>) {
        self.heard = Some(now);
        if message.is_request() {
            if message.method() == Some(Method::Options) {
                self.kept_alive += 1;
            }
            return self.callee.handle(now, message, &self.speaker, out);
        }
        match message.cseq().map(|cseq| cseq.method) {
            Ok(Method::Register) => self.registration.handle(now, message, &mut self.speaker, out),
            Ok(Method::Options) => self.pulse.handle(now, message),
            Ok(Method::Bye) => self.callee.handle_response(now, message),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.registration.handle_timeout(now, &mut self.speaker, out);
        self.callee.handle_timeout(now, &mut self.speaker, out);
        self.pulse.handle_timeout(now, &mut self.speaker, out);
    }
}
