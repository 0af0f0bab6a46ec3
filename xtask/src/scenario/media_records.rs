//! The record of a call says how its media went: what the phones sent, what of it was lost, and how far away they are.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::lab::{Family, Host, Lab};
use crate::phone::Phone;
use crate::phone::call::{self, Dialog, hang_up};
use crate::process;
use crate::server::{STATE, Server, Settings};
use crate::talker::{described, packet};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_record_has_the_figures_of_its_calls_media", run: figures }];

const PATIENCE: Duration = Duration::from_secs(10);
/// The numbers of alice's last packet, and of bob's.
const SENT: [u16; 2] = [300, 200];
/// What alice never sends of hers: to the relay it is lost.
const LOST: std::ops::RangeInclusive<u16> = 101..=110;
/// Bytes of each packet.
const OCTETS: u64 = 20;
/// How long bob keeps a report before he answers it.
const KEPT: Duration = Duration::from_millis(100);

fn figures(lab: &Lab) -> Result<()> {
    let toml = "[relay]\nrelay = \"always\"\n[records]\nfiles = true\n".to_owned();
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &["alice", "bob"])?;
    let hosts = [lab.host("alice", 21)?, lab.host("bob", 22)?];
    let [mut alice, mut bob] =
        [Phone::udp(&hosts[0], "alice", &server)?, Phone::udp(&hosts[1], "bob", &server)?];
    let [alices, bobs] = [Media::open(&hosts[0])?, Media::open(&hosts[1])?];
    let (mut dialog, [to_alice, to_bob]) = begin(&mut alice, &mut bob, [&alices, &bobs])?;

    for number in (1..=SENT[0]).filter(|number| !LOST.contains(number)) {
        alices.say(number, to_bob, &bobs)?;
    }
    (1..=SENT[1]).try_for_each(|number| bobs.say(number, to_alice, &alices))?;
    report(&alices, &bobs, [to_alice, to_bob])?;
    hang_up(&mut alice, &mut dialog, &mut bob)?;

    let record = process::wait_until("record of the call", PATIENCE, record)?;
    let number = |name: &str| record[name].as_u64();
    let lost = LOST.count() as u64;
    let arrived = [u64::from(SENT[0]) - lost, u64::from(SENT[1])];
    for (side, arrived, lost) in [("caller", arrived[0], lost), ("callee", arrived[1], 0)] {
        for (what, wanted) in [("packets", arrived), ("octets", arrived * OCTETS), ("lost", lost)] {
            let found = number(&format!("{side}_{what}"));
            ensure!(found == Some(wanted), "{side}_{what} is {found:?} and not {wanted}: {record}");
        }
        ensure!(number(&format!("{side}_jitter_us")).is_some(), "no jitter: {record}");
    }
    ensure!(number("media_after_ms") == Some(0), "it was counted from its beginning: {record}");
    ensure!(record["caller_round_trip_us"].is_null(), "nobody has told alice's: {record}");
    ensure!(number("callee_round_trip_us").is_some(), "bob has answered a report: {record}");
    ensure!(number("caller_mos") < number("callee_mos"), "what is lost is heard: {record}");
    Ok(())
}

/// alice calls bob. Gives where bob and alice send to.
fn begin(alice: &mut Phone, bob: &mut Phone, media: [&Media; 2]) -> Result<(Dialog, [SocketAddr; 2])> {
    bob.register()?;
    let place = |body: &str| described(body).with_context(|| format!("no place for media in {body:?}"));
    let offer = alice.request("INVITE", &bob.aor()).with_body("application/sdp", media[0].description()?);
    let asked = call::invite_with(alice, offer)?;
    let arrived = bob.expect_request("INVITE")?;
    bob.accept(&arrived, &media[1].description()?)?;
    let answered = alice.expect_status(&asked, 200)?;
    let mut dialog = Dialog::of_caller(&asked, &answered)?;
    let ack = dialog.ack(alice);
    alice.send(&ack)?;
    bob.expect_request("ACK")?;
    Ok((dialog, [place(&arrived.body)?, place(&answered.body)?]))
}

/// alice reports what she has sent, and bob that he has heard it (RFC 3550 §6.4).
fn report(alice: &Media, bob: &Media, [to_alice, to_bob]: [SocketAddr; 2]) -> Result<()> {
    let next = |place: SocketAddr| SocketAddr::new(place.ip(), place.port() + 1);
    let time = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
    let sent = [&[0x80, 200, 0, 6, 0, 0, 0, 7], &time[..], &[0; 12]].concat();
    alice.rtcp.send_to(&sent, next(to_bob))?;
    let mut buffer = [0; 128];
    let (length, _) = bob.rtcp.recv_from(&mut buffer).context("no report came to bob")?;
    ensure!(buffer[..length] == sent[..], "bob got another report");
    std::thread::sleep(KEPT);
    let kept = (KEPT.as_millis() as u32 * 65_536 / 1_000).to_be_bytes();
    let block = [&[0, 0, 0, 7, 0, 0, 0, 0][..], &[0; 8], &time[2..6], &kept].concat();
    bob.rtcp.send_to(&[&[0x81, 201, 0, 7, 0, 0, 0, 8], &block[..]].concat(), next(to_alice))?;
    alice.rtcp.recv_from(&mut buffer).context("no report came to alice")?;
    Ok(())
}

/// The only record, once it is there.
fn record() -> Result<Option<Value>> {
    let mut lines = Vec::new();
    for file in std::fs::read_dir(format!("{STATE}/records"))? {
        let text = std::fs::read_to_string(file?.path())?;
        lines.extend(text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned));
    }
    ensure!(lines.len() <= 1, "more than one call: {lines:?}");
    lines.pop().map(|line| Ok(serde_json::from_str(&line)?)).transpose()
}

/// The media of a phone, which says what it is told to.
struct Media {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl Media {
    fn open(host: &Host) -> Result<Self> {
        let address = host.address(Family::V4)?;
        let open = |port: u16| -> Result<UdpSocket> {
            let socket = host.enter(|| UdpSocket::bind((address, port)))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        Ok(Self { rtp: open(40_000)?, rtcp: open(40_001)? })
    }

    fn description(&self) -> Result<String> {
        let (address, port) = (self.rtp.local_addr()?.ip(), self.rtp.local_addr()?.port());
        Ok(format!(
            "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0\r\n"
        ))
    }

    /// Sends a packet, and waits until the other one has it.
    fn say(&self, number: u16, to: SocketAddr, other: &Media) -> Result<()> {
        self.rtp.send_to(&packet(number), to)?;
        let mut buffer = [0; 128];
        other.rtp.recv_from(&mut buffer).with_context(|| format!("packet {number} did not come"))?;
        Ok(())
    }
}
