//! Many sessions between two phones, made as phones make them: by calls.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::phone::Phone;
use crate::phone::call::{Dialog, hang_up};
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
#[derive(Debug)]
pub struct Callers {
    alice: Phone,
    bob: Phone,
    media: [IpAddr; 2],
    dialogs: Vec<Dialog>,
}

impl Callers {
    /// Registers the one who is called. Their media are at these addresses, which need not be theirs.
    pub fn new(alice: Phone, mut bob: Phone, media: [IpAddr; 2]) -> Result<Callers> {
        bob.register()?;
        Ok(Callers { alice, bob, media, dialogs: Vec::new() })
    }

    /// One more call.
    pub fn session(&mut self, number: usize) -> Result<Session> {
        let mut session = Session::of_phones(number);
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        let offer = description(self.media[0], session.caller);
        let invite = alice.request("INVITE", &bob.aor()).with_body("application/sdp", offer);
        alice.send(&invite)?;
        let arrived = match bob.expect_request("INVITE") {
            Ok(arrived) => arrived,
            // What the caller heard says why.
            Err(error) => {
                let heard = alice.expect_status(&invite, 200).err();
                return Err(error.context(heard.map_or_else(String::new, |heard| format!("{heard:#}"))));
            }
        };
        bob.accept(&arrived, &description(self.media[1], session.callee))?;
        let answer = alice.expect_status(&invite, 200)?;
        let mut dialog = Dialog::of_caller(&invite, &answer)?;
        let ack = dialog.ack(alice);
        alice.send(&ack)?;
        bob.expect_request("ACK")?;
        self.dialogs.push(dialog);
        let relay = |text: &str| Ok::<u16, anyhow::Error>(described(text).context("no media")?.port());
        session.towards_caller = relay(&answer.body)?;
        session.towards_callee = relay(&arrived.body)?;
        Ok(session)
    }

    /// Ends all calls, and the phones are gone; says of each call whether it did not end as it ought to.
    pub fn leave(mut self) -> Result<Vec<bool>> {
        let (alice, bob) = (&mut self.alice, &mut self.bob);
        let dialogs = self.dialogs.iter_mut();
        let open = dialogs.map(|dialog| hang_up(alice, dialog, bob).is_err()).collect();
        let end = bob.register_request(0);
        bob.send(&end)?;
        bob.expect_status(&end, 200)?;
        Ok(open)
    }
}

/// What a phone says of its media.
pub fn description(address: IpAddr, port: u16) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\n"
    )
}
