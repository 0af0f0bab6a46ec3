//! Every torture message of RFC 4475 and RFC 5118, in random order: the server answers as the table says, and lives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::{Siege, starts};
use crate::lab::Lab;
use crate::scenario::Scenario;
use crate::workspace;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "every_torture_message_gets_its_answer_in_any_order", run: in_any_order }];

fn in_any_order(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "[sip]\ndomains = [\"example.com\"]\n")?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut messages = messages()?;
    shuffle(&mut messages, seed);
    for Torture { name, bytes, answer } in &messages {
        let came = siege.exchange(via_port(bytes), bytes).with_context(|| format!("{name} (seed {seed})"))?;
        let said = match came.first().and_then(|message| message.status()) {
            Some(status) => status.to_string(),
            None => "none".to_owned(),
        };
        ensure!(came.len() <= 1 && said == *answer, "{name}: {:?} instead of {answer}", starts(&came));
        siege.is_unhurt().with_context(|| format!("after {name} (seed {seed})"))?;
    }
    siege.end()
}

struct Torture {
    name: String,
    bytes: Vec<u8>,
    /// What a stranger is answered.
    answer: String,
}

fn messages() -> Result<Vec<Torture>> {
    let crates = workspace::root().join("crates");
    let table = std::fs::read_to_string(crates.join("engine/tests/torture/answers.txt"))?;
    let answers: BTreeMap<&str, &str> = table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some((line.split_whitespace().next()?, line.split_whitespace().nth(2)?)))
        .collect();
    let mut messages = Vec::new();
    for folder in ["rfc4475", "rfc5118"] {
        let folder: PathBuf = crates.join("sip/tests/corpora").join(folder);
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "dat") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let answer = answers.get(name.as_str()).with_context(|| format!("{name} has no answer"))?;
                messages.push(Torture { bytes: std::fs::read(&path)?, answer: (*answer).to_owned(), name });
            }
        }
    }
    ensure!(messages.len() == 61, "{} torture messages", messages.len());
    Ok(messages)
}

fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (seed >> 33) as usize % (last + 1));
    }
}

// RFC 3261 §18.2.2: without rport the answer goes to the port that the Via names, 5060 if it names none.
fn via_port(bytes: &[u8]) -> u16 {
    let port = sip::Message::parse_lenient(bytes).ok().and_then(|(message, _)| {
        let via = message.top_via().ok()?;
        Some(via.port.unwrap_or(5060))
    });
    port.unwrap_or(0)
}
