//! Sessions of ours, made as phones make them: by calls.

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::cable::{Cable, MEDIA};
use crate::phone::Phone;
use crate::phone::call::Dialog;
use crate::talker::described;

/// The ports of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The caller's own.
    pub caller: u16,
    /// The relay's, where the caller sends to.
    pub towards_caller: u16,
    /// The callee's own.
    pub callee: u16,
    /// The relay's, where the callee sends to.
    pub towards_callee: u16,
}

impl Session {
    /// With the ports of both phones.
    pub fn of_phones(number: usize) -> Session {
        let caller = 10_000 + 4 * number as u16;
        Session { caller, towards_caller: 0, callee: caller + 2, towards_callee: 0 }
    }

    /// The relay has the same ports.
    pub fn with_relay_at_same_ports(self) -> Session {
        Session { towards_caller: self.caller, towards_callee: self.callee, ..self }
    }
}

/// Two phones that have call upon call.
pub struct Callers<'c> {
    alice: Phone,
    bob: Phone,
    /// Nobody hangs up.
    _cable: &'c Cable,
}

impl<'c> Callers<'c> {
    /// Registers the one who is called.
    pub fn new(cable: &'c Cable, server: IpAddr) -> Result<Callers<'c>> {
        let phone = |user| Phone::at_service(&cable.phones, user, &server.to_string(), (server, 5060).into());
        let (alice, mut bob) = (phone("alice")?, phone("bob")?);
        bob.register()?;
        Ok(Callers { alice, bob, _cable: cable })
    }

    /// One more call.
    pub fn session(&mut self, number: usize) -> Result<Session> {
        let mut session = Session::of_phones(number);
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        let offer = description(session.caller);
        let invite = alice.request("INVITE", &bob.aor()).with_body("application/sdp", offer);
        alice.send(&invite)?;
        let arrived = bob.expect_request("INVITE")?;
        bob.accept(&arrived, &description(session.callee))?;
        let answer = alice.expect_status(&invite, 200)?;
        let ack = Dialog::of_caller(&invite, &answer)?.ack(alice);
        alice.send(&ack)?;
        bob.expect_request("ACK")?;
        let relay = |text: &str| Ok::<u16, anyhow::Error>(described(text).context("no media")?.port());
        session.towards_caller = relay(&answer.body)?;
        session.towards_callee = relay(&arrived.body)?;
        Ok(session)
    }
}

/// What a phone says of its media.
pub fn description(port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {MEDIA}\r\ns=-\r\nc=IN IP4 {MEDIA}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\n"
    )
}
