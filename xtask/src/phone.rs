//! A phone whose every message the scenario writes itself: for what SIPp and baresip would not do.
//!
//! It has its own digest and its own reading of messages, and retransmits nothing: on the lab's
//! cables nothing is lost. What arrives and is not waited for stays in its inbox.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::{Family, Host};
use crate::server::Server;

pub mod call;
pub mod digest;
pub mod message;
pub mod wire;

use digest::{Answer, Challenge};
use message::Message;
use wire::{Transport, Wire};

/// How long a phone waits for what must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// A phone with an account.
#[derive(Debug)]
pub struct Phone {
    /// The user part of its AoR, and its digest user name.
    pub user: String,
    /// The password it thinks it has.
    pub password: String,
    /// The domain of its AoR.
    pub domain: String,
    wire: Wire,
    serial: u32,
    flow: Option<(&'static str, u32)>,
    register_call_id: String,
    register_cseq: u32,
    credentials: Option<(Challenge, u32)>,
    /// What it said of the INVITE that rings, to say it again.
    provisional: Option<Message>,
    inbox: VecDeque<Message>,
}

impl Phone {
    /// A phone on `host` with the account `user` of the server's domain.
    pub fn new(
        host: &Host,
        user: &str,
        server: &Server,
        transport: Transport,
        family: Family,
    ) -> Result<Phone> {
        let remote = SocketAddr::new(server.host().address(family)?, 5060);
        Phone::by_proxy(host, user, server, transport, remote)
    }

    /// A server that the scenario plays: at a port that others know, over UDP and IPv4.
    pub fn at_port(host: &Host, user: &str, server: &Server, port: u16) -> Result<Phone> {
        let remote = SocketAddr::new(server.host().address(Family::V4)?, 5060);
        let wire = Wire::open(host, Transport::Udp, (host.address(Family::V4)?, port), remote)?;
        Ok(Phone { wire, ..Phone::udp(host, user, server)? })
    }

    /// A phone with an account of a domain that is served at this address, over UDP and IPv4.
    pub fn at_service(host: &Host, user: &str, domain: &str, remote: SocketAddr) -> Result<Phone> {
        let wire = Wire::open(host, Transport::Udp, (host.address(Family::V4)?, 0), remote)?;
        Ok(Phone::by_wire(wire, user, domain.to_owned()))
    }

    /// A phone that sends all it sends to an outbound proxy before the server.
    pub fn by_proxy(
        host: &Host,
        user: &str,
        server: &Server,
        transport: Transport,
        proxy: SocketAddr,
    ) -> Result<Phone> {
        let family = if proxy.is_ipv6() { Family::V6 } else { Family::V4 };
        let wire = Wire::open(host, transport, (host.address(family)?, 0), proxy)?;
        Ok(Phone::by_wire(wire, user, server.domain(family)?))
    }

    fn by_wire(wire: Wire, user: &str, domain: String) -> Phone {
        Phone {
            user: user.to_owned(),
            password: crate::server::PASSWORD.to_owned(),
            domain,
            register_call_id: format!("register-{user}-{}", wire.local().port()),
            wire,
            serial: 0,
            flow: None,
            register_cseq: 0,
            credentials: None,
            provisional: None,
            inbox: VecDeque::new(),
        }
    }

    /// A phone that speaks UDP over IPv4.
    pub fn udp(host: &Host, user: &str, server: &Server) -> Result<Phone> {
        Phone::new(host, user, server, Transport::Udp, Family::V4)
    }

    /// A phone that speaks TCP over IPv4.
    pub fn tcp(host: &Host, user: &str, server: &Server) -> Result<Phone> {
        Phone::new(host, user, server, Transport::Tcp, Family::V4)
    }

    /// Gives it an instance id (RFC 5626 §4.1), by which the server knows it again.
    pub fn with_instance(self, urn: &'static str) -> Phone {
        self.with_flow(urn, 1)
    }

    /// The same for one of several flows of an instance (RFC 5626 §4.2).
    pub fn with_flow(mut self, urn: &'static str, reg_id: u32) -> Phone {
        self.flow = Some((urn, reg_id));
        self
    }

    /// Its address of record, as a URI.
    pub fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    /// The URI in its Contact header.
    pub fn contact(&self) -> String {
        let transport = match self.wire.transport() {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        format!("sip:{}@{}{transport}", self.user, self.wire.local())
    }

    /// Where it is on its own host.
    pub fn local(&self) -> SocketAddr {
        self.wire.local()
    }

    /// The socket, for bytes that are no message.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// A Via of its own with a branch that was never used.
    pub fn via(&mut self) -> String {
        let transport = self.wire.transport().in_via();
        format!("SIP/2.0/{transport} {};branch=z9hG4bK{};rport", self.wire.local(), self.unique("b"))
    }

    /// A word that this phone has not used before.
    pub fn unique(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}{}x{}x{}", self.user, self.wire.local().port(), self.serial)
    }

    /// A request outside a dialog, from this phone's AoR.
    pub fn request(&mut self, method: &str, uri: &str) -> Message {
        let (via, tag, call_id) = (self.via(), self.unique("t"), self.unique("c"));
        Message::request(method, uri)
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", format!("<{}>;tag={tag}", self.aor()))
            .with("To", format!("<{uri}>"))
            .with("Call-ID", call_id)
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<{}>", self.contact()))
    }

    /// A REGISTER that continues this phone's series, without credentials.
    pub fn register_request(&mut self, expires: u32) -> Message {
        self.register_cseq += 1;
        let (via, tag) = (self.via(), self.unique("t"));
        let flow = self.flow.map(|(urn, reg_id)| format!(";+sip.instance=\"<{urn}>\";reg-id={reg_id}"));
        let contact = format!("<{}>{}", self.contact(), flow.unwrap_or_default());
        Message::request("REGISTER", &format!("sip:{}", self.domain))
            .with("Via", via)
            .with("Max-Forwards", "70")
            .with("From", format!("<{}>;tag={tag}", self.aor()))
            .with("To", format!("<{}>", self.aor()))
            .with("Call-ID", self.register_call_id.clone())
            .with("CSeq", format!("{} REGISTER", self.register_cseq))
            .with("Supported", "path, outbound")
            .with("Contact", contact)
            .with("Expires", expires.to_string())
    }

    /// Its next REGISTER has another Call-ID, as after a restart.
    pub fn register_again_as_another_series(&mut self) {
        self.register_call_id = self.unique("register");
        self.register_cseq = 0;
    }

    /// Registers for ten minutes: a 401 and a second try are passed over, a 200 must come.
    pub fn register(&mut self) -> Result<Message> {
        let first = self.register_request(600);
        let first = self.with_credentials(first);
        self.send(&first)?;
        let answer = self.final_response(&first)?;
        if answer.status() == Some(200) {
            return Ok(answer);
        }
        self.remember(&answer)?;
        let second = self.register_request(600);
        let second = self.with_credentials(second);
        self.send(&second)?;
        self.expect_status(&second, 200)
    }

    /// Keeps the challenge of a 401 or 407. Of several the strongest that it knows is taken.
    pub fn remember(&mut self, response: &Message) -> Result<Challenge> {
        let offers = match response.status() {
            Some(401) => response.all("WWW-Authenticate"),
            Some(407) => response.all("Proxy-Authenticate"),
            _ => bail!("{} where a challenge was expected", response.start),
        };
        let known = ["SHA-256", "MD5"];
        let challenges: Vec<_> = offers.into_iter().filter_map(Challenge::parse).collect();
        let challenge = known
            .iter()
            .find_map(|name| challenges.iter().find(|c| c.algorithm.eq_ignore_ascii_case(name)))
            .context("no challenge that can be answered")?;
        self.credentials = Some((challenge.clone(), 0));
        Ok(challenge.clone())
    }

    /// Adds the answer to the last challenge, with the next nonce count.
    pub fn with_credentials(&mut self, request: Message) -> Message {
        let Some((challenge, count)) = &mut self.credentials else { return request };
        *count += 1;
        let (challenge, count) = (challenge.clone(), *count);
        self.with_count(request, &challenge, count)
    }

    /// Adds the answer to a challenge with a nonce count of the scenario's choice.
    pub fn with_count(&self, request: Message, challenge: &Challenge, count: u32) -> Message {
        let (method, uri) = (request.method().unwrap_or(""), request.uri().unwrap_or(""));
        let (user, password) = (self.user.as_str(), self.password.as_str());
        let value = challenge.answer(Answer { user, password, method, uri, count, cnonce: "0a4f113b" });
        let name = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        request.with_only(name, value)
    }

    /// The same request as a new transaction: next CSeq, another branch.
    pub fn again(&mut self, request: &Message) -> Message {
        let (number, method) = request.cseq().split_once(' ').unwrap_or(("1", ""));
        let next = number.parse::<u32>().unwrap_or(1) + 1;
        let via = self.via();
        request.clone().with_only("Via", via).with_only("CSeq", format!("{next} {method}"))
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        self.wire.send(&message.to_bytes())
    }

    /// The next message that is as wanted; all others stay in the inbox.
    pub fn wait(&mut self, what: &str, is_wanted: impl Fn(&Message) -> bool) -> Result<Message> {
        match self.look_for(PATIENCE, is_wanted)? {
            Some(message) => Ok(message),
            None => {
                let inbox: Vec<_> =
                    self.inbox.iter().map(|m| format!("{} ({})", m.start, m.cseq())).collect();
                bail!("{}: no {what} within {PATIENCE:?}; the inbox has {inbox:?}", self.user)
            }
        }
    }

    /// Fails when such a message is in the inbox or arrives within the time.
    pub fn expect_none(
        &mut self,
        what: &str,
        time: Duration,
        is_unwanted: impl Fn(&Message) -> bool,
    ) -> Result<()> {
        match self.look_for(time, is_unwanted)? {
            Some(message) => bail!("{}: {what} came: {message:#?}", self.user),
            None => Ok(()),
        }
    }

    /// The response to the request with this status; a provisional one before it is passed over.
    pub fn expect_status(&mut self, request: &Message, status: u16) -> Result<Message> {
        let what = format!("{status} to {}", request.cseq());
        let answer = self.wait(&what, |message| {
            message.answers(request) && message.status().is_some_and(|s| s == status || s >= 200)
        })?;
        if answer.status() != Some(status) {
            bail!("{}: {:?} where {what} was expected", self.user, answer.start);
        }
        Ok(answer)
    }

    /// The final response to the request, whatever it is.
    pub fn final_response(&mut self, request: &Message) -> Result<Message> {
        self.wait(&format!("final response to {}", request.cseq()), |message| {
            message.answers(request) && message.status().is_some_and(|status| status >= 200)
        })
    }

    /// The next request with this method.
    pub fn expect_request(&mut self, method: &str) -> Result<Message> {
        self.wait(method, |message| message.method() == Some(method))
    }

    /// Answers a request; a status above 100 gets a tag and a Contact.
    pub fn reply(&mut self, request: &Message, status: u16, reason: &str) -> Result<Message> {
        self.answer(request, Message::response(request, status, reason))
    }

    /// Takes a call, with this description of its media.
    pub fn accept(&mut self, invite: &Message, description: &str) -> Result<Message> {
        self.answer(invite, Message::response(invite, 200, "OK").with_body("application/sdp", description))
    }

    fn answer(&mut self, request: &Message, mut response: Message) -> Result<Message> {
        let status = response.status().unwrap_or_default();
        if status > 100 {
            let tag = format!("{}x{}", self.user, self.wire.local().port());
            response = response.with_to_tag(&tag).with("Contact", format!("<{}>", self.contact()));
        }
        self.send(&response)?;
        if request.method() == Some("INVITE") {
            self.provisional = Some(response.clone()).filter(|_| status < 200);
        }
        Ok(response)
    }

    fn look_for(&mut self, time: Duration, is_wanted: impl Fn(&Message) -> bool) -> Result<Option<Message>> {
        if let Some(place) = self.inbox.iter().position(&is_wanted) {
            return Ok(self.inbox.remove(place));
        }
        let deadline = Instant::now() + time;
        while let Some(message) = self.wire.receive(deadline)? {
            if is_wanted(&message) {
                return Ok(Some(message));
            }
            // A keepalive of the server wants an answer, whatever the scenario is about.
            if message.method() == Some("OPTIONS") {
                self.reply(&message, 200, "OK")?;
                continue;
            }
            // RFC 3261 §17.2.1: an INVITE that comes again gets the last provisional response again.
            let is_again = |it: &&Message| it.answers(&message) && it.header("Via") == message.header("Via");
            if message.method() == Some("INVITE")
                && let Some(ringing) = self.provisional.as_ref().filter(is_again)
            {
                self.wire.send(&ringing.to_bytes())?;
            }
            self.inbox.push_back(message);
        }
        Ok(None)
    }
}
