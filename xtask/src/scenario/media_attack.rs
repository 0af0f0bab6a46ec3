//! What strangers send to the ports of the media relay while phones talk: nobody hears it, no stream moves, and a flood on one
//! call's port keeps no other call waiting.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use super::cluster::talk;
use crate::lab::{Family, Host, Lab};
use crate::phone::Phone;
use crate::phone::call::{self, Dialog, hang_up};
use crate::process;
use crate::server::{Server, Settings};
use crate::talker::{Talker, described};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario { name: "strangers_move_no_stream", run: strangers }];

const PATIENCE: Duration = Duration::from_secs(10);
/// Packets of each kind that a stranger sends.
const PACKETS: u64 = 50;
/// The source that our phones' media name, which a stranger may know.
const KNOWN_SSRC: u32 = 7;
/// Another one.
const OTHER_SSRC: u32 = 66;
/// The number of a stranger's packets: no phone comes that far here.
const STRANGE: u16 = 60_000;
/// What is held for strangers, once they are gone, may take so much.
const MEMORY_KIB_MAX: u64 = 8_192;

fn strangers(lab: &Lab) -> Result<()> {
    let settings = Settings { toml: "[relay]\nrelay = \"always\"\n".to_owned(), ..Settings::defaults() };
    let server = Server::start(lab, &settings, &["alice", "bob", "carol", "dave"])?;
    let hosts = ["alice", "bob", "carol", "dave", "mallory"];
    let hosts: Vec<Host> =
        hosts.iter().zip(21..).map(|(name, number)| lab.host(name, number)).collect::<Result<_>>()?;
    let [alice, bob, carol, dave, mallory] = &hosts[..] else { unreachable!("five hosts were made") };
    let from_elsewhere = socket(mallory)?;

    let mut others = [phone(carol, "carol", &server)?, phone(dave, "dave", &server)?];
    let mut others_talk = [Talker::open(carol)?, Talker::open(dave)?];
    let mut others_dialog = talk::talk(&mut others, &mut others_talk)?;

    let mut phones = [phone(alice, "alice", &server)?, phone(bob, "bob", &server)?];
    let mut talkers = [Talker::open(alice)?, Talker::open(bob)?];
    let (mut dialog, places) = begin(&server, &mut phones, &mut talkers, &from_elsewhere)?;
    let [alices, bobs] = &talkers;
    hear_each_other(alices, bobs).context("before the attack")?;

    let before = counter(&server, "relay_stranger")?;
    for place in places {
        attack(&from_elsewhere, place, KNOWN_SSRC)?;
        attack(&from_elsewhere, next_port(place), KNOWN_SSRC)?;
    }
    // Right addresses, but other ports and another source.
    attack(&socket(alice)?, places[0], OTHER_SSRC)?;
    attack(&socket(bob)?, places[1], OTHER_SSRC)?;
    // The ports of RTCP count them all; from those of media the kernel keeps them once the phones are found.
    process::wait_until("what strangers sent to the ports of RTCP is counted", PATIENCE, || {
        Ok((counter(&server, "relay_stranger")? >= before + 2 * PACKETS).then_some(()))
    })?;
    hear_each_other(alices, bobs).context("after the attack")?;

    let memory_kib = process::memory_kib(server.id()?)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&from_elsewhere, places[0], &is_over));
        let heard = (0..10).try_for_each(|_| hear_each_other(&others_talk[0], &others_talk[1]));
        is_over.store(true, Ordering::Relaxed);
        let sent = flood.join().map_err(|_| anyhow::anyhow!("the flood's thread panicked"))?;
        ensure!(sent > PACKETS, "only {sent} packets were sent");
        heard.context("another call, during the flood")
    })?;
    hear_each_other(alices, bobs).context("after the flood")?;
    let grown = process::memory_kib(server.id()?)?.saturating_sub(memory_kib);
    ensure!(grown <= MEMORY_KIB_MAX, "the server's memory has grown by {grown} KiB");

    for talker in talkers.iter().chain(&others_talk) {
        talker.check_one_source()?;
        let strange = talker.heard().iter().filter(|heard| heard.number == STRANGE).count();
        ensure!(strange == 0, "{strange} packets of strangers were heard");
    }
    let [alice, bob] = &mut phones;
    hang_up(alice, &mut dialog, bob)?;
    let [carol, dave] = &mut others;
    hang_up(carol, &mut others_dialog, dave)
}

/// alice calls bob, while a stranger sends to each port as soon as anybody is told of it. Gives where alice and bob send to.
fn begin(
    server: &Server,
    phones: &mut [Phone; 2],
    talkers: &mut [Talker; 2],
    from_elsewhere: &UdpSocket,
) -> Result<(Dialog, [SocketAddr; 2])> {
    let ([alice, bob], [alices, bobs]) = (phones, talkers);
    alice.register()?;
    bob.register()?;
    let place = |body: &str| described(body).with_context(|| format!("no place for media in {body:?}"));
    let offer = alice.request("INVITE", &bob.aor()).with_body("application/sdp", alices.description());
    let asked = call::invite_with(alice, offer)?;
    let arrived = bob.expect_request("INVITE")?;
    let bobs_place = place(&arrived.body)?;
    // No stream is there yet.
    let early = counter(server, "relay_early")?;
    attack(from_elsewhere, bobs_place, KNOWN_SSRC)?;
    process::wait_until("what came too early is counted", PATIENCE, || {
        Ok((counter(server, "relay_early")? >= early + PACKETS).then_some(()))
    })?;
    bob.accept(&arrived, &bobs.description())?;
    let answered = alice.expect_status(&asked, 200)?;
    let alices_place = place(&answered.body)?;
    // Nobody has spoken yet.
    let before = counter(server, "relay_stranger")?;
    for place in [alices_place, bobs_place] {
        attack(from_elsewhere, place, KNOWN_SSRC)?;
    }
    process::wait_until("what strangers sent into the window is counted", PATIENCE, || {
        Ok((counter(server, "relay_stranger")? >= before + 2 * PACKETS).then_some(()))
    })?;
    let mut dialog = Dialog::of_caller(&asked, &answered)?;
    let ack = dialog.ack(alice);
    alice.send(&ack)?;
    bob.expect_request("ACK")?;
    bobs.talk_to(&arrived.body)?;
    alices.talk_to(&answered.body)?;
    Ok((dialog, [alices_place, bobs_place]))
}

fn phone(host: &Host, user: &str, server: &Server) -> Result<Phone> {
    Phone::udp(host, user, server)
}

/// Each hears what the other one says from here on.
fn hear_each_other(one: &Talker, other: &Talker) -> Result<()> {
    one.wait_for_next_of(other, PATIENCE)?;
    other.wait_for_next_of(one, PATIENCE)?;
    Ok(())
}

fn counter(server: &Server, name: &str) -> Result<u64> {
    let status = server.json(&["status"])?;
    status["counters"][name].as_u64().with_context(|| format!("status has no counter {name}"))
}

fn socket(host: &Host) -> Result<UdpSocket> {
    let address = host.address(Family::V4)?;
    host.enter(|| UdpSocket::bind((address, 0)))?.context("a stranger's socket")
}

fn next_port(place: SocketAddr) -> SocketAddr {
    SocketAddr::new(place.ip(), place.port() + 1)
}

fn attack(from: &UdpSocket, to: SocketAddr, ssrc: u32) -> Result<()> {
    let packet = packet(to, ssrc);
    for _ in 0..PACKETS {
        from.send_to(&packet, to).context("a stranger's packet")?;
    }
    Ok(())
}

/// Sends as much as it can; gives how much that was.
fn flood(from: &UdpSocket, to: SocketAddr, is_over: &AtomicBool) -> u64 {
    let packet = packet(to, OTHER_SSRC);
    let mut sent = 0;
    while !is_over.load(Ordering::Relaxed) {
        sent += u64::from(from.send_to(&packet, to).is_ok());
    }
    sent
}

/// RTP (RFC 3550 §5.1) where media are wanted, a receiver's report (RFC 3550 §6.4.2) on the port of RTCP.
fn packet(to: SocketAddr, ssrc: u32) -> Vec<u8> {
    if !to.port().is_multiple_of(2) {
        return [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
    }
    let mut packet = [&[0x80, 0][..], &STRANGE.to_be_bytes(), &[0; 4], &ssrc.to_be_bytes()].concat();
    packet.resize(172, 0xff);
    packet
}
