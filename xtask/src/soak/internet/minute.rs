//! The figures of one minute, and the file that keeps them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One minute, or the rest after the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Which life of the server, from 1.
    pub life: u64,
    /// Which minute, from 1.
    pub number: u64,
    /// Calls that began.
    pub begun: u64,
    /// Calls that went as their scripts say.
    pub ended: u64,
    /// Calls that did not, and whatever else a correct server does not do to a phone.
    pub hurt: u64,
    /// REGISTERs that were accepted.
    pub registered: u64,
    /// REGISTERs that were not.
    pub register_hurt: u64,
    /// Datagrams and connections of floods.
    pub flood: u64,
    /// Requests of scanners.
    pub scans: u64,
    /// The server's resident memory at the end, in KiB.
    pub rss_kib: u64,
    /// Its open files at the end.
    pub fds: u64,
    /// Of a hundred calls 99 rang within so many milliseconds.
    pub ring_p99_ms: u64,
}

/// The columns of the file.
const HEAD: &str =
    "life minute begun ended hurt registered register_hurt flood scans rss_kib fds ring_p99_ms";

impl Minute {
    /// What is shown while it runs.
    pub fn line(&self) -> String {
        format!(
            "calls {} begun, {} ended, {} hurt; {} registrations, {} hurt; {} flooded, {} scanned; {} MiB, {} \
             files; p99 {} ms; minute {}",
            self.begun,
            self.ended,
            self.hurt,
            self.registered,
            self.register_hurt,
            self.flood,
            self.scans,
            self.rss_kib / 1024,
            self.fds,
            self.ring_p99_ms,
            self.number
        )
    }

    fn write(&self) -> String {
        self.values().map(|value| value.to_string()).join(" ")
    }

    fn values(&self) -> [u64; 12] {
        [
            self.life,
            self.number,
            self.begun,
            self.ended,
            self.hurt,
            self.registered,
            self.register_hurt,
            self.flood,
            self.scans,
            self.rss_kib,
            self.fds,
            self.ring_p99_ms,
        ]
    }

    fn read(line: &str) -> Option<Minute> {
        let values: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [life, number, begun, ended, hurt, registered, register_hurt, flood, scans, rss, fds, p99] =
            values.try_into().ok()?;
        Some(Minute {
            life,
            number,
            begun,
            ended,
            hurt,
            registered,
            register_hurt,
            flood,
            scans,
            rss_kib: rss,
            fds,
            ring_p99_ms: p99,
        })
    }
}

/// The files of a soak: the minutes, the complaints, and what the server counted.
#[derive(Debug)]
pub struct Record {
    dir: PathBuf,
    minutes: Vec<Minute>,
    rest: Minute,
}

impl Record {
    /// Reads what is there. A line that is no minute, such as one that was cut off, is passed over.
    pub fn open(dir: &Path) -> Result<Record> {
        let text = fs::read_to_string(dir.join("minutes.txt")).unwrap_or_default();
        let minutes = text.lines().filter_map(Minute::read).filter(|minute| minute.number > 0).collect();
        let rest = fs::read_to_string(dir.join("rest.txt")).unwrap_or_default();
        let rest = rest.lines().find_map(Minute::read).unwrap_or_default();
        Ok(Record { dir: dir.to_path_buf(), minutes, rest })
    }

    /// The minutes that were done.
    pub fn minutes(&self) -> &[Minute] {
        &self.minutes
    }

    /// What ended after the last minute.
    pub fn rest(&self) -> &Minute {
        &self.rest
    }

    /// The file with the minutes.
    pub fn path(&self) -> PathBuf {
        self.dir.join("minutes.txt")
    }

    /// One more minute.
    pub fn append(&mut self, minute: Minute) -> Result<()> {
        let head = if self.path().exists() { String::new() } else { format!("{HEAD}\n") };
        self.write("minutes.txt", &format!("{head}{}\n", minute.write()))?;
        self.minutes.push(minute);
        Ok(())
    }

    /// What ended after the last minute.
    pub fn append_rest(&mut self, rest: Minute) -> Result<()> {
        fs::write(self.dir.join("rest.txt"), format!("{}\n", rest.write()))?;
        self.rest = rest;
        Ok(())
    }

    /// Somebody was hurt.
    pub fn complain(&self, complaint: &str) -> Result<()> {
        self.write("hurt.txt", &format!("{complaint}\n"))
    }

    /// What the server counted in its last life.
    pub fn counters(&self, counters: &str) -> Result<()> {
        fs::write(self.dir.join("counters.txt"), counters)?;
        Ok(())
    }

    /// The same, read again.
    pub fn read_counters(&self) -> String {
        fs::read_to_string(self.dir.join("counters.txt")).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        let mut file = File::options().create(true).append(true).open(&path);
        let file = file.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_that_is_written_can_be_read_and_one_that_was_cut_off_is_none() {
        let minute = Minute { life: 2, number: 7, begun: 600, rss_kib: 30_000, ..Minute::default() };

        assert_eq!(Minute::read(&minute.write()), Some(minute.clone()));
        assert_eq!(Minute::read(HEAD), None);
        assert_eq!(Minute::read("2 7 600"), None);
    }

    #[test]
    fn a_soak_goes_on_after_the_last_whole_minute() {
        let dir = std::env::temp_dir().join(format!("xtask-soak-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let mut record = Record::open(&dir).expect("opened");
        for number in 1..=2 {
            record.append(Minute { life: 1, number, ..Minute::default() }).expect("written");
        }
        record.write("minutes.txt", "1 3 60").expect("written");

        assert_eq!(Record::open(&dir).expect("opened").minutes().len(), 2);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
