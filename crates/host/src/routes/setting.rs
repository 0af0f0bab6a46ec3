//! Settings of the kernel below `net`, and what they were before.
//!
//! What they were is on disk before the first of them is changed, so that it can be restored after a crash too.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Lines that the file may have: more were not written by us.
const KEPT_MAX: usize = 64;

/// A setting such as `net.ipv4.conf.all.arp_ignore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its parts, the interface being one of them, which may have dots in its name.
    parts: [String; 5],
}

impl Setting {
    /// Of one interface, or of `all`.
    pub(super) fn new(family: &str, interface: &str, name: &str) -> Self {
        Self { parts: ["net", family, "conf", interface, name].map(str::to_owned) }
    }

    /// `None`: this kernel does not have it.
    pub(super) fn read(&self) -> Option<u8> {
        fs::read_to_string(self.path()).ok()?.trim().parse().ok()
    }

    pub(super) fn write(&self, value: u8) -> io::Result<()> {
        fs::write(self.path(), value.to_string())
    }

    /// As `sysctl` has it: there a dot in an interface's name is a slash.
    pub(super) fn name(&self) -> String {
        self.parts.each_ref().map(|part| part.replace('.', "/")).join(".")
    }

    fn path(&self) -> String {
        format!("/proc/sys/{}", self.parts.join("/"))
    }

    fn parse(name: &str) -> Option<Self> {
        let parts: Vec<String> = name.split('.').map(|part| part.replace('/', ".")).collect();
        let parts: [String; 5] = parts.try_into().ok()?;
        // It is read from a file and becomes a path.
        let is_plain = parts.iter().all(|part| !part.is_empty() && part != ".." && part != ".");
        (is_plain && parts[0] == "net" && parts[2] == "conf").then_some(Self { parts })
    }
}

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub setting: Setting,
    pub before: u8,
    pub ours: u8,
}

impl Changed {
    /// Restores what was, unless somebody has changed it since.
    pub(super) fn restore(&self) -> io::Result<()> {
        match self.setting.read() {
            Some(value) if value == self.ours => self.setting.write(self.before),
            _ => Ok(()),
        }
    }
}

/// What a guardian has left in the file; a line that is none is passed over.
pub(super) fn read_kept(file: &Path) -> io::Result<Vec<Changed>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    Ok(text.lines().take(KEPT_MAX).filter_map(parse).collect())
}

/// Writes what was before, durably; the file is gone when there is nothing.
pub(super) fn keep(file: &Path, kept: &[Changed]) -> io::Result<()> {
    if kept.is_empty() {
        return match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let mut text = String::new();
    for Changed { setting, before, ours } in kept {
        text.push_str(&format!("{} {before} {ours}\n", setting.name()));
    }
    let other = file.with_extension("new");
    let mut written = fs::File::create(&other)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&other, file)?;
    match file.parent() {
        Some(directory) => fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn parse(line: &str) -> Option<Changed> {
    let mut words = line.split(' ');
    let setting = Setting::parse(words.next()?)?;
    let before = words.next()?.parse().ok()?;
    let ours = words.next()?.parse().ok()?;
    Some(Changed { setting, before, ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_also_of_an_interface_with_a_dot() {
        let changed = Changed { setting: Setting::new("ipv4", "eth0.12", "arp_ignore"), before: 0, ours: 1 };
        assert_eq!(changed.setting.name(), "net.ipv4.conf.eth0/12.arp_ignore");

        let line = format!("{} {} {}", changed.setting.name(), changed.before, changed.ours);

        assert_eq!(parse(&line), Some(changed));
    }

    #[test]
    fn a_line_that_leads_elsewhere_is_none() {
        for line in [
            "",
            "net.ipv4.conf.all.arp_ignore",
            "net.ipv4.conf.all.arp_ignore 0",
            "net.ipv4.conf.all.arp_ignore 0 300",
            "net.ipv4.conf.//.arp_ignore 0 1",
            "kernel.ipv4.conf.all.panic 0 1",
            "net.ipv4.conf..arp_ignore 0 1",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
