//! An observer on the switch: it sees every frame as it comes in by a cable, and tells who spoke for the virtual addresses.
//!
//! What counts as speaking for an address, whoever is asked: an ARP, request or reply, that names it as the sender's; a
//! neighbour advertisement for it; any packet that has it as its source. Claims are kept in the order in which the frames
//! came to the switch, so that no queue behind it reorders them.
//!
//! Verdict: in that order the speakers form *reigns*, each of one hardware address. Two hosts that speak in turns, or the
//! last frame of the old one behind the first of the new one, are more reigns than there were changes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::Lab;
use crate::process;
use ear::Ear;

mod ear;

/// A host that is asked every few milliseconds and is silent for so long does not answer any more.
const SILENCE: Duration = Duration::from_millis(150);
/// So many reigns are told.
const REIGNS_TOLD_MAX: usize = 12;
/// Some hundred a second, for minutes.
const CLAIMS_MAX: usize = 1_000_000;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Mac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next().context("a short hardware address")?, 16)?;
        }
        ensure!(parts.next().is_none(), "a long hardware address: {text}");
        Ok(Mac(bytes))
    }
}

/// How somebody spoke for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An ARP request of this sender.
    ArpRequest,
    /// An ARP reply of this sender.
    ArpReply,
    /// A neighbour advertisement for it.
    Advertisement,
    /// A packet with this source.
    Packet,
}

/// A frame that speaks for a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When it came to the switch, since 1970.
    pub at: Duration,
    /// Who sent it.
    pub mac: Mac,
    /// The hardware address that it says the virtual one is at, if it says one.
    pub says: Option<Mac>,
    /// The address that it speaks for.
    pub address: IpAddr,
    /// How.
    pub way: Way,
}

/// Claims of one host with none of another between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// Whose.
    pub mac: Mac,
    /// The first frame.
    pub first: Claim,
    /// The last frame.
    pub last: Claim,
    /// How many there were.
    pub frames: usize,
}

/// How long what came before the end is read: traffic goes on meanwhile.
const REST_MAX: Duration = Duration::from_millis(200);

/// The time as the observer writes it.
pub fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A running observer.
#[derive(Debug)]
pub struct Observer {
    claims: Arc<Mutex<Vec<Claim>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
    begun: Duration,
}

impl Observer {
    /// Watches all cables that are in the switches at this moment, for these addresses. What it sees is in `switch.txt`.
    pub fn start(lab: &Lab, watched: &[IpAddr]) -> Result<Observer> {
        let (claims, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let begun = now();
        let scribe = Scribe {
            ear: Ear::open(&ports()?, watched)?,
            watched: watched.to_vec(),
            claims: claims.clone(),
            file: File::create(lab.dir.join("switch.txt"))?,
            begun,
        };
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("observer".to_owned());
        let thread = Some(thread.spawn(move || scribe.write(&until))?);
        Ok(Observer { claims, stop, thread, begun })
    }

    /// When it began.
    pub fn begun(&self) -> Duration {
        self.begun
    }

    /// All claims so far, in the order in which they came.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first claim that is meant, which may have been seen before; waits for it.
    pub fn wait_for(&self, what: &str, limit: Duration, is_meant: impl Fn(&Claim) -> bool) -> Result<Claim> {
        process::wait_until(what, limit, || Ok(self.claims().into_iter().find(&is_meant)))
    }

    /// Ends it and gives all claims; one frame that it could not see is an error.
    pub fn stop(mut self) -> Result<Vec<Claim>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.claims())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads the socket, and keeps what it says.
struct Scribe {
    ear: Ear,
    watched: Vec<IpAddr>,
    claims: Arc<Mutex<Vec<Claim>>>,
    file: File,
    begun: Duration,
}

impl Scribe {
    fn write(mut self, until: &AtomicBool) -> Result<()> {
        let mut buffer = ear::buffer();
        let mut ends_at = None;
        loop {
            // What came before the end may still wait to be read, and it is what a busy machine is late with.
            if until.load(Ordering::Relaxed) && now() > *ends_at.get_or_insert_with(|| now() + REST_MAX) {
                break;
            }
            let Some((mac, protocol, payload)) = self.ear.next(&mut buffer)? else {
                match ends_at {
                    Some(_) => break,
                    None => continue,
                }
            };
            let claim = read(now(), mac, protocol, payload);
            let Some(claim) = claim.filter(|claim| self.watched.contains(&claim.address)) else { continue };
            let at = claim.at.saturating_sub(self.begun).as_secs_f64();
            writeln!(self.file, "{at:.6} {mac} {:?} {}", claim.way, claim.address)?;
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(claims.len() < CLAIMS_MAX, "more than {CLAIMS_MAX} frames of the virtual addresses");
            claims.push(claim);
        }
        ear::check_nothing_was_lost()
    }
}

/// The numbers of the interfaces that are ends of cables.
fn ports() -> Result<Vec<u32>> {
    let text = process::output(Command::new("ip").args(["-json", "link", "show"]))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let links = links.as_array().context("`ip link` gave no list")?;
    let is_port = |link: &&serde_json::Value| link["master"].is_string();
    links
        .iter()
        .filter(is_port)
        .map(|link| link["ifindex"].as_u64().map(|index| index as u32).context("a link without a number"))
        .collect()
}

/// Reads what follows the Ethernet header.
fn read(at: Duration, mac: Mac, protocol: u16, payload: &[u8]) -> Option<Claim> {
    let claim = |address, way, says| Some(Claim { at, mac, says, address, way });
    match protocol {
        0x0806 => {
            let address = Ipv4Addr::from(<[u8; 4]>::try_from(payload.get(14..18)?).ok()?);
            let says = Some(Mac(payload.get(8..14)?.try_into().ok()?));
            let way = if payload.get(7) == Some(&2) { Way::ArpReply } else { Way::ArpRequest };
            claim(IpAddr::V4(address), way, says)
        }
        0x0800 => {
            let source = Ipv4Addr::from(<[u8; 4]>::try_from(payload.get(12..16)?).ok()?);
            claim(IpAddr::V4(source), Way::Packet, None)
        }
        0x86dd => {
            // RFC 4861 §4.4: ICMPv6 type 136, and the target is what it speaks for, whatever its source is.
            let is_advertisement = payload.get(6) == Some(&58) && payload.get(40) == Some(&136);
            let range = if is_advertisement { 48..64 } else { 8..24 };
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(payload.get(range)?).ok()?);
            let way = if is_advertisement { Way::Advertisement } else { Way::Packet };
            claim(IpAddr::V6(address), way, None)
        }
        _ => None,
    }
}

/// Who spoke, in turn.
pub fn reigns(claims: &[Claim]) -> Vec<Reign> {
    let mut reigns: Vec<Reign> = Vec::new();
    for claim in claims {
        match reigns.last_mut() {
            Some(reign) if reign.mac == claim.mac => {
                reign.last = *claim;
                reign.frames += 1;
            }
            _ => reigns.push(Reign { mac: claim.mac, first: *claim, last: *claim, frames: 1 }),
        }
    }
    reigns
}

/// Fails unless exactly these have spoken, one after the other; `names` says whose a hardware address is.
pub fn check(
    claims: &[Claim],
    begun: Duration,
    names: &BTreeMap<Mac, &str>,
    expected: &[&str],
) -> Result<()> {
    let liar = claims.iter().find(|claim| claim.says.is_some_and(|says| says != claim.mac));
    if let Some(claim) = liar {
        bail!("a frame of {} names another hardware address: {claim:?}", name(names, claim.mac));
    }
    let reigns = reigns(claims);
    let found: Vec<String> = reigns.iter().map(|reign| name(names, reign.mac)).collect();
    if found == expected {
        return Ok(());
    }
    let mut text = format!("{expected:?} should have spoken for the virtual address, but it was:\n");
    for reign in reigns.iter().take(REIGNS_TOLD_MAX) {
        let at = |claim: &Claim| claim.at.saturating_sub(begun).as_secs_f64();
        let (first, last) = (&reign.first, &reign.last);
        writeln!(
            text,
            "  {} with {} frames, from {:.6} s ({:?} {}) to {:.6} s ({:?} {})",
            name(names, reign.mac),
            reign.frames,
            at(first),
            first.way,
            first.address,
            at(last),
            last.way,
            last.address
        )?;
    }
    if reigns.len() > REIGNS_TOLD_MAX {
        writeln!(text, "  and {} more in turns", reigns.len() - REIGNS_TOLD_MAX)?;
    }
    bail!(text)
}

fn name(names: &BTreeMap<Mac, &str>, mac: Mac) -> String {
    names.get(&mac).map_or_else(|| mac.to_string(), |name| (*name).to_owned())
}

/// How long more than one host spoke, all such times together.
pub fn contested(claims: &[Claim]) -> Duration {
    let mut spans: BTreeMap<Mac, Vec<(Duration, Duration)>> = BTreeMap::new();
    for claim in claims {
        let spans = spans.entry(claim.mac).or_default();
        match spans.last_mut() {
            Some((_, end)) if claim.at.saturating_sub(*end) < SILENCE => *end = claim.at,
            _ => spans.push((claim.at, claim.at)),
        }
    }
    // +1 where a host begins, -1 where it ends: what counts is the time in which there are two or more.
    let mut edges: Vec<(Duration, i32)> =
        spans.into_values().flatten().flat_map(|(start, end)| [(start, 1), (end, -1)]).collect();
    edges.sort_unstable();
    let (mut speakers, mut total) = (0, Duration::ZERO);
    let mut since = Duration::ZERO;
    for (at, step) in edges {
        if speakers >= 2 {
            total += at.saturating_sub(since);
        }
        speakers += step;
        since = at;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 100));

    #[test]
    fn one_after_the_other_is_as_it_should_be() {
        let claims = [claim(1, A), claim(2, A), claim(3, B)];

        assert!(check(&claims, Duration::ZERO, &names(), &["a", "b"]).is_ok());
    }

    #[test]
    fn a_last_frame_of_the_old_one_behind_the_first_of_the_new_one_is_found() {
        let claims = [claim(1, A), claim(2, B), claim(3, A), claim(4, B)];

        let error = check(&claims, Duration::ZERO, &names(), &["a", "b"]).expect_err("they overlap");

        assert!(error.to_string().contains("b with 1 frames, from 0.002000 s (ArpReply 203.0.113.100)"));
    }

    #[test]
    fn silence_of_who_should_speak_is_found() {
        assert!(check(&[claim(1, A)], Duration::ZERO, &names(), &["a", "b"]).is_err());
        assert!(check(&[], Duration::ZERO, &names(), &["a"]).is_err());
    }

    #[test]
    fn a_frame_that_names_the_hardware_address_of_another_is_found() {
        let lie = Claim { says: Some(B), ..claim(1, A) };

        assert!(check(&[lie], Duration::ZERO, &names(), &["a"]).is_err());
    }

    #[test]
    fn contested_is_the_time_in_which_two_speak() {
        let mut claims: Vec<Claim> = (0..=1000).map(|at| claim(at, A)).collect();
        claims.extend((600..=2000).map(|at| claim(at, B)));
        claims.sort_by_key(|claim| claim.at);

        assert_eq!(contested(&claims), Duration::from_millis(400));
        assert_eq!(contested(&claims[..500]), Duration::ZERO);
    }

    #[test]
    fn an_arp_an_advertisement_and_a_packet_speak_for_their_addresses() {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
        arp.extend_from_slice(&A.0);
        arp.extend_from_slice(&[203, 0, 113, 100]);
        let mut advertisement = vec![0; 64];
        advertisement[6] = 58;
        advertisement[40] = 136;
        advertisement[48..64].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());

        let arp = read(Duration::ZERO, A, 0x0806, &arp).expect("an ARP");
        let advertisement = read(Duration::ZERO, A, 0x86dd, &advertisement).expect("an advertisement");

        assert_eq!((arp.address, arp.way, arp.says), (ADDRESS, Way::ArpReply, Some(A)));
        assert_eq!(advertisement.address, IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(read(Duration::ZERO, A, 0x0806, &[0; 10]), None);
    }

    #[test]
    fn a_hardware_address_is_read_and_written() {
        assert_eq!("02:00:00:00:00:01".parse::<Mac>().expect("good").to_string(), A.to_string());
        assert!("02:00".parse::<Mac>().is_err());
    }

    fn claim(milliseconds: u64, mac: Mac) -> Claim {
        let at = Duration::from_millis(milliseconds);
        Claim { at, mac, says: Some(mac), address: ADDRESS, way: Way::ArpReply }
    }

    fn names() -> BTreeMap<Mac, &'static str> {
        BTreeMap::from([(A, "a"), (B, "b")])
    }
}
