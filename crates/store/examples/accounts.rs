//! Fills a database with accounts `user0`, `user1` …, all with the password `secret`: for `cargo xtask bench sip`.
//!
//! ```text
//! cargo run --release -p store --example accounts -- FILE DOMAIN COUNT
//! ```

use std::error::Error;
use std::path::Path;

use sip::Aor;
use store::{Credentials, NewSubscriber, Subscribers};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [file, domain, count] = &words[..] else { return Err("accounts FILE DOMAIN COUNT".into()) };
    let mut subscribers = Subscribers::open(Path::new(file)).map_err(|error| format!("{error:?}"))?;
    for number in 0..count.parse::<u64>()? {
        let aor = Aor::parse(&format!("user{number}@{domain}")).ok_or("no address of record")?;
        let credentials = Credentials::of(&aor, domain, "secret");
        let new = NewSubscriber { aor, credentials, aliases: Vec::new(), may_use: Vec::new() };
        subscribers.add(&new).map_err(|error| format!("{error:?}"))?;
    }
    Ok(())
}
