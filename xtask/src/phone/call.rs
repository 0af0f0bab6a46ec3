//! A call between two phones of the scenario, up to the ACK and then from inside the dialog.

use anyhow::{Context, Result};

use super::Phone;
use super::message::{Message, bracketed};

/// One side's view of an established call.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
}

/// The session description of a phone that has no media.
pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                       m=audio 40000 RTP/AVP 0\r\n";

/// Sends an INVITE that answers the challenge it gets first; gives the one that was let through.
pub fn invite(caller: &mut Phone, uri: &str) -> Result<Message> {
    let request = caller.request("INVITE", uri).with_body("application/sdp", SDP);
    invite_with(caller, request)
}

/// The same with an INVITE that the scenario has made.
pub fn invite_with(caller: &mut Phone, request: Message) -> Result<Message> {
    caller.send(&request)?;
    let challenge = caller.expect_status(&request, 407)?;
    caller.send(&acknowledge(&request, &challenge))?;
    caller.remember(&challenge)?;
    let request = caller.again(&request);
    let request = caller.with_credentials(request);
    caller.send(&request)?;
    Ok(request)
}

/// The ACK to a final response other than 2xx: it belongs to the INVITE's transaction.
pub fn acknowledge(invite: &Message, response: &Message) -> Message {
    same_transaction("ACK", invite).with_only("To", response.header("To").unwrap_or_default().to_owned())
}

/// The CANCEL of an INVITE.
pub fn cancel(invite: &Message) -> Message {
    same_transaction("CANCEL", invite)
}

fn same_transaction(method: &str, invite: &Message) -> Message {
    let copy = |name: &str| invite.header(name).unwrap_or_default().to_owned();
    let number = invite.cseq().split(' ').next().unwrap_or("1").to_owned();
    let mut message = Message::request(method, invite.uri().unwrap_or_default())
        .with("Via", copy("Via"))
        .with("Max-Forwards", "70")
        .with("From", copy("From"))
        .with("To", copy("To"))
        .with("Call-ID", copy("Call-ID"))
        .with("CSeq", format!("{number} {method}"));
    for route in invite.all("Route") {
        message = message.with("Route", route);
    }
    message
}

/// A whole call set-up: both sides' dialogs after the ACK.
pub fn establish(caller: &mut Phone, callee: &mut Phone) -> Result<(Dialog, Dialog)> {
    let request = invite(caller, &callee.aor())?;
    let arrived = callee.expect_request("INVITE")?;
    callee.reply(&arrived, 180, "Ringing")?;
    caller.wait("180", |message| message.answers(&request) && message.status() == Some(180))?;
    let answer = callee.reply(&arrived, 200, "OK")?;
    let arrived_answer = caller.expect_status(&request, 200)?;
    let mut dialog = Dialog::of_caller(&request, &arrived_answer)?;
    let ack = dialog.ack(caller);
    caller.send(&ack)?;
    callee.expect_request("ACK")?;
    Ok((dialog, Dialog::of_callee(&arrived, &answer)?))
}

impl Dialog {
    /// The caller's side, from its INVITE and the 2xx.
    pub fn of_caller(request: &Message, response: &Message) -> Result<Dialog> {
        let mut routes = routes(response);
        routes.reverse();
        Ok(Dialog {
            call_id: request.call_id().to_owned(),
            local: request.header("From").unwrap_or_default().to_owned(),
            remote: response.header("To").unwrap_or_default().to_owned(),
            target: target(response)?,
            routes,
            cseq: request.cseq().split(' ').next().unwrap_or("1").parse()?,
        })
    }

    /// The callee's side, from the INVITE that arrived and its own 2xx.
    pub fn of_callee(request: &Message, response: &Message) -> Result<Dialog> {
        Ok(Dialog {
            call_id: request.call_id().to_owned(),
            local: response.header("To").unwrap_or_default().to_owned(),
            remote: request.header("From").unwrap_or_default().to_owned(),
            target: target(request)?,
            routes: routes(request),
            cseq: 0,
        })
    }

    /// The route set, in the order of this side.
    pub fn routes(&self) -> &[String] {
        &self.routes
    }

    /// The Contact of the other side.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The next request inside the dialog.
    pub fn request(&mut self, phone: &mut Phone, method: &str) -> Message {
        self.cseq += 1;
        self.build(phone, method)
    }

    /// The ACK to the 2xx of the INVITE that opened the dialog.
    pub fn ack(&mut self, phone: &mut Phone) -> Message {
        self.build(phone, "ACK")
    }

    fn build(&self, phone: &mut Phone, method: &str) -> Message {
        let via = phone.via();
        self.request_with(method, self.cseq, via, &phone.contact())
    }

    /// A request with this number by whoever has this Via and Contact.
    pub fn request_with(&self, method: &str, cseq: u32, via: String, contact: &str) -> Message {
        let mut message = Message::request(method, &self.target).with("Via", via).with("Max-Forwards", "70");
        for route in &self.routes {
            message = message.with("Route", route.clone());
        }
        message
            .with("From", self.local.clone())
            .with("To", self.remote.clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"))
            .with("Contact", format!("<{contact}>"))
    }
}

/// Ends a call from `first`'s side; the BYE must reach `second` and its 200 must come back.
pub fn hang_up(first: &mut Phone, dialog: &mut Dialog, second: &mut Phone) -> Result<()> {
    let bye = dialog.request(first, "BYE");
    first.send(&bye)?;
    let arrived = second.expect_request("BYE").context("the BYE did not arrive")?;
    anyhow::ensure!(arrived.call_id() == bye.call_id(), "a BYE of another call arrived");
    second.reply(&arrived, 200, "OK")?;
    first.expect_status(&bye, 200).context("the 200 to the BYE did not come back")?;
    Ok(())
}

fn routes(message: &Message) -> Vec<String> {
    let lines = message.all("Record-Route");
    lines.into_iter().flat_map(|line| line.split(',')).map(|one| one.trim().to_owned()).collect()
}

fn target(message: &Message) -> Result<String> {
    let contact = message.header("Contact").context("no Contact")?;
    Ok(bracketed(contact).unwrap_or(contact).to_owned())
}
