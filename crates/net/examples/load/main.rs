//! Load for `cargo xtask bench sip`: registrations or calls, so fast that the server's core is never idle.
//!
//! ```text
//! cargo run --release -p net --example load -- register --users 1000 --count 10000
//! ```
//!
//! A closed loop: a fixed number of exchanges is under way, and each that ends begins the next. It says `ready`, waits
//! for a line, does the work, and says what it did as one line of JSON. Each answer is looked at; one that is
//! wrong ends the load with an error. An exchange without an answer is sent again, and counted.

use std::error::Error;
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

mod call;
mod register;
mod sockets;
mod text;

use call::Calls;
use register::{Digest, Registrations};
use sockets::{Outbox, Sockets};

/// After so long without news an exchange sends its last message again.
const SEND_AGAIN: Duration = Duration::from_millis(500);
/// How often silent exchanges are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A load that makes no progress for so long has failed.
const STUCK: Duration = Duration::from_secs(10);

/// What an exchange did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Goes(usize),
    /// It has ended as it should.
    Ended(usize),
    /// The message is late, or for nobody.
    Stray,
}

/// A kind of load: exchanges in numbered slots.
pub trait Work {
    /// Begins the next exchange in a free slot.
    fn begin(&mut self, slot: usize, number: u64, out: &mut Outbox);
    /// Takes a message that came to a socket.
    fn take(&mut self, socket: usize, message: &[u8], out: &mut Outbox) -> Result<Step, String>;
    /// Sends the last message of a slot again.
    fn again(&mut self, slot: usize, out: &mut Outbox);
}

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the server is.
    pub server: SocketAddr,
    /// The first address that phones register from and are called at; more follow it.
    pub phones: Ipv4Addr,
    /// The first address that calls.
    pub callers: Ipv4Addr,
    /// How many addresses of each.
    pub sources: u32,
    /// Addresses of record.
    pub users: u64,
    /// Exchanges that are done.
    pub count: u64,
    /// Exchanges that are under way.
    pub outstanding: usize,
    /// How a REGISTER proves who it is.
    pub digest: Digest,
    /// Exchanges before `ready`.
    pub warm_up: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (kind, options) = read(&words)?;
    let mut sockets = Sockets::default();
    let mut work: Box<dyn Work> = match kind.as_str() {
        "register" => Box::new(Registrations::new(&options, &mut sockets)?),
        "call" => Box::new(Calls::new(&options, &mut sockets)?),
        other => return Err(format!("no such load: {other}").into()),
    };
    if options.warm_up > 0 {
        drive(work.as_mut(), &mut sockets, &options, options.warm_up)?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let start = Instant::now();
    let again = drive(work.as_mut(), &mut sockets, &options, options.count)?;
    let (done, seconds) = (options.count, start.elapsed().as_secs_f64());
    println!("{{\"done\":{done},\"seconds\":{seconds:.3},\"sent_again\":{again}}}");
    Ok(())
}

/// Does `count` exchanges; returns how many messages were sent again.
fn drive(
    work: &mut dyn Work,
    sockets: &mut Sockets,
    options: &Options,
    count: u64,
) -> Result<u64, Box<dyn Error>> {
    let mut out = Outbox::default();
    let (mut begun, mut ended, mut again) = (0, 0, 0);
    let mut last_news = vec![Instant::now(); options.outstanding];
    let mut busy = vec![false; options.outstanding];
    let (mut progress, mut looked) = (Instant::now(), Instant::now());
    let mut free: Vec<usize> = (0..options.outstanding).rev().collect();
    while ended < count {
        let mut now = Instant::now();
        while begun < count
            && let Some(slot) = free.pop()
        {
            work.begin(slot, begun, &mut out);
            begun += 1;
            busy[slot] = true;
            last_news[slot] = now;
        }
        sockets.send(&mut out)?;
        sockets.receive(|socket, message| {
            match work.take(socket, message, &mut out)? {
                Step::Goes(slot) => last_news[slot] = now,
                Step::Ended(slot) => {
                    ended += 1;
                    busy[slot] = false;
                    free.push(slot);
                    progress = now;
                }
                Step::Stray => {}
            }
            Ok::<(), Box<dyn Error>>(())
        })?;
        sockets.send(&mut out)?;
        if looked.elapsed() > LOOK {
            now = Instant::now();
            looked = now;
            for slot in (0..options.outstanding).filter(|slot| busy[*slot]) {
                if now - last_news[slot] > SEND_AGAIN {
                    last_news[slot] = now;
                    again += 1;
                    work.again(slot, &mut out);
                }
            }
            if now - progress > STUCK {
                return Err(format!("stuck: {ended} of {count} done, {again} sent again").into());
            }
        }
    }
    Ok(again)
}

fn read(words: &[String]) -> Result<(String, Options), Box<dyn Error>> {
    let mut words = words.iter();
    let kind = words.next().ok_or("register or call?")?.clone();
    let mut options = Options {
        server: "127.0.0.1:5060".parse()?,
        phones: Ipv4Addr::LOCALHOST,
        callers: Ipv4Addr::LOCALHOST,
        sources: 1,
        users: 1_000,
        count: 10_000,
        outstanding: 64,
        digest: Digest::None,
        warm_up: 0,
    };
    while let (Some(name), value) = (words.next(), words.next()) {
        let value = value.ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--server" => options.server = value.parse()?,
            "--phones" => options.phones = value.parse()?,
            "--callers" => options.callers = value.parse()?,
            "--sources" => options.sources = value.parse()?,
            "--users" => options.users = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--outstanding" => options.outstanding = value.parse()?,
            "--warm-up" => options.warm_up = value.parse()?,
            "--digest" => options.digest = Digest::named(value).ok_or("none, challenge or reuse?")?,
            other => return Err(format!("no such option: {other}").into()),
        }
    }
    Ok((kind, options))
}

/// The address after `first` with this number, at a port.
pub fn address(first: Ipv4Addr, number: u32, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(u32::from(first) + number), port))
}

/// Grows by one each second, in 27 bits: numbers made of it do not come back for four years.
pub fn first_number() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() & 0x7ff_ffff) as u32
}

/// The first round of a slot. It grows faster than a slot has exchanges, so that what the server still has of an earlier load
/// is never taken for an exchange of this one.
pub fn first_round() -> u32 {
    first_number().wrapping_mul(1_024)
}
