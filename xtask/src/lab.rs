//! A small internet inside the machine, for one scenario.
//!
//! The scenario runs as the first process of its own process, mount and network namespace (see
//! [`alone`]). Its own network namespace is the internet: one bridge. Each host is one
//! more network namespace with one cable to that bridge, or to the LAN side of a NAT router.
//!
//! Invariant: nothing outlives the scenario. The names of the namespaces live in a private
//! `/run`, and the kernel ends every process when the first one ends, also after a panic, Ctrl-C
//! or kill -9. So no address and no name has to be unique on the machine, and no packet can leave.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;

pub mod asker;
pub mod observer;
pub mod pair;
pub mod prober;
pub mod router;
pub mod switch;
pub mod tap;

/// Where the names of the network namespaces are; `ip netns` gives the place.
const NAMESPACES: &str = "/run/netns";

/// The internet of one scenario.
#[derive(Debug)]
pub struct Lab {
    /// Where logs and recordings go.
    pub dir: PathBuf,
    /// The server's program.
    pub binary: PathBuf,
}

impl Lab {
    /// Makes the bridge. The process must already be alone in its namespaces.
    pub fn new(dir: &Path, binary: &Path) -> Result<Lab> {
        if std::process::id() != 1 {
            bail!("a scenario must be the first process of its own namespaces");
        }
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        std::fs::create_dir_all(NAMESPACES)?;
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", "internet", "type", "bridge", "mcast_snooping", "0"])?;
        run("ip", &["link", "set", "internet", "up"])?;
        Ok(Lab { dir: dir.to_path_buf(), binary: binary.to_path_buf() })
    }

    /// Adds a host with a public address: 203.0.113.`number` and 2001:db8:113::`number`.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        Host::namespace(name)?;
        let cable = format!("c-{name}");
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", name];
        run("ip", &[&["link", "add", &cable][..], &peer[..]].concat())?;
        run("ip", &["link", "set", &cable, "master", "internet", "up"])?;
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, u16::from(number));
        let host = Host { name: name.to_owned(), v4: Ipv4Addr::new(203, 0, 113, number), v6: Some(v6) };
        host.ip(&["link", "set", "eth0", "up"])?;
        host.ip(&["addr", "add", &format!("{}/24", host.v4), "dev", "eth0"])?;
        host.ip(&["addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"])?;
        Ok(host)
    }
}

/// A host: a network namespace with one address of each family.
#[derive(Clone, Debug)]
pub struct Host {
    /// The name of its namespace.
    pub name: String,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address; a host behind a NAT router has none.
    pub v6: Option<Ipv6Addr>,
}

impl Host {
    /// A host with this address and nothing that it could be put on, for who makes other cables than those of a lab.
    pub fn without_cable(name: &str, v4: Ipv4Addr) -> Result<Host> {
        Host::namespace(name)?;
        Ok(Host { name: name.to_owned(), v4, v6: None })
    }

    fn namespace(name: &str) -> Result<()> {
        run("ip", &["netns", "add", name])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])
    }

    /// Its address of a family.
    pub fn address(&self, family: Family) -> Result<IpAddr> {
        match family {
            Family::V4 => Ok(IpAddr::V4(self.v4)),
            Family::V6 => self.v6.map(IpAddr::V6).context("the host has no IPv6 address"),
        }
    }

    /// A command that will run on this host. The process it becomes is the program itself.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={NAMESPACES}/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Calls `act` on this host: a socket made in it belongs to the host for ever.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = File::open(Path::new(NAMESPACES).join(&self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network)?;
                Ok(act())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives it one more IPv4 address: 203.0.113.`number`.
    pub fn add_address(&self, number: u8) -> Result<()> {
        self.ip(&["addr", "add", &format!("203.0.113.{number}/24"), "dev", "eth0"])
    }

    /// From here on nothing that is sent to it arrives, and nobody is told so.
    pub fn cut_off(&self) -> Result<()> {
        let rules = "table inet cut { chain in { type filter hook input priority 0; iif != lo drop; }; }";
        process::quietly(self.command("nft").arg(rules))
    }

    /// Ends [`Host::cut_off`].
    pub fn end_cut(&self) -> Result<()> {
        process::quietly(self.command("nft").args(["delete", "table", "inet", "cut"]))
    }

    /// `ip WORDS` on this host.
    pub fn ip(&self, words: &[&str]) -> Result<()> {
        run("ip", &[&["-n", &self.name][..], words].concat())
    }
}

/// The two kinds of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The start of a command line that puts what follows into new namespaces, whose processes all
/// end with it; it ends when the thread that started it does. Needs no root.
pub fn alone() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    process::quietly(Command::new(program).args(words))
}
