//! A phone of the drill: it registers, is called, calls, and asks all the time whether somebody answers.

use std::time::{Duration, Instant};

use sip::{Message, Method};

use crate::phones::callee::{Callee, Manners};
use crate::phones::caller::Caller;
use crate::phones::message::Speaker;
use crate::phones::wire::Speaks;
use crate::phones::{Habits, Phone};

/// No refresh is due while one fault lasts, and what a drill leaves that is killed does not stay for long.
const EXPIRES: Duration = Duration::from_secs(600);

/// Longer than what the drill waits for by itself.
const PATIENCE: Duration = Duration::from_secs(170);

/// A phone that is called and calls.
#[derive(Debug)]
pub struct Canary {
    phone: Phone,
    caller: Caller,
}

impl Canary {
    /// One that is switched on. `called` and `calling` are one user; what they make up differs by their salt.
    pub fn new(asks_from: Instant, asks_every: Duration, called: Speaker, calling: Speaker) -> Self {
        let habits = Habits { expires: EXPIRES, asks_every, manners: Manners::TakesExpected };
        Self { phone: Phone::new(asks_from, called, habits), caller: Caller::new(calling, PATIENCE) }
    }

    /// As a phone.
    pub fn phone(&mut self) -> &mut Phone {
        &mut self.phone
    }

    /// Its side of the calls that reach it.
    pub fn callee(&mut self) -> &mut Callee {
        self.phone.callee()
    }

    /// Its side of the calls that it makes.
    pub fn caller(&mut self) -> &mut Caller {
        &mut self.caller
    }

    /// Ends all its calls.
    pub fn end_calls(&mut self) {
        self.caller.end_all();
        self.phone.callee().end_all();
    }
}

impl Speaks for Canary {
    fn handle(&mut self, now: Instant, message: &Message<'_>, out: &mut Vec<Vec<u8>>) {
        // An INVITE that comes back to who has sent it has the same Call-ID, and is none of its caller's.
        let is_of_caller = self.caller.has(message) && message.method() != Some(Method::Invite);
        if is_of_caller {
            self.caller.handle(now, message, out)
        } else {
            self.phone.handle(now, message, out)
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.phone.handle_timeout(now, out);
        self.caller.handle_timeout(now, out);
    }
}
