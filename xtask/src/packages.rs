//! The programs of others that the tests need, and their installation from Debian.
//!
//! Invariant: no daemon starts because of an installation. While apt works, a `policy-rc.d`
//! forbids it; the one that was there before comes back, also after Ctrl-C.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::process;

/// A program and the package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    program: &'static str,
    package: &'static str,
    reason: &'static str,
}

/// What `cargo xtask test` needs.
pub const FOR_TESTS: &[Needed] = &[
    Needed { program: "unshare", package: "util-linux", reason: "namespaces for each scenario" },
    Needed { program: "mount", package: "mount", reason: "namespaces for each scenario" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses in them" },
    Needed { program: "ss", package: "iproute2", reason: "whether the observer saw all" },
    Needed { program: "sysctl", package: "procps", reason: "forwarding in the NAT router" },
    Needed { program: "nft", package: "nftables", reason: "the NAT router's translation" },
    Needed { program: "conntrack", package: "conntrack", reason: "the NAT router can forget" },
    Needed { program: "sipp", package: "sip-tester", reason: "scripted phones" },
    Needed { program: "baresip", package: "baresip-core", reason: "real phones" },
    Needed {
        program: "kamailio",
        package: "kamailio",
        reason: "a registrar behind our edge, and an edge before us",
    },
    Needed { program: "sipsak", package: "sipsak", reason: "an honest tool that floods" },
    Needed { program: "rtpengine", package: "rtpengine-daemon", reason: "media relays in the place of ours" },
    Needed { program: "clang-14", package: "clang-14", reason: "the gate's program for the kernel" },
    Needed { program: "llvm-strip-14", package: "llvm-14", reason: "the gate's program for the kernel" },
    Needed { program: "keepalived", package: "keepalived", reason: "a pair whose nodes both answer" },
    Needed { program: "etcd", package: "etcd-server", reason: "a witness in etcd" },
    Needed { program: "dnsmasq", package: "dnsmasq-base", reason: "the DNS of other domains" },
    Needed {
        program: "db_postgres.so",
        package: "kamailio-postgres-modules",
        reason: "a Kamailio on the same database",
    },
    Needed {
        program: "db_mysql.so",
        package: "kamailio-mysql-modules",
        reason: "a Kamailio on the same database",
    },
    Needed { program: "psql", package: "postgresql-client-15", reason: "to ask it" },
    Needed { program: "mariadb", package: "mariadb-client-core", reason: "to ask it" },
    Needed { program: "initdb", package: "postgresql-15", reason: "accounts on a database server" },
    Needed { program: "mariadbd", package: "mariadb-server-core", reason: "accounts on a database server" },
    Needed {
        program: "my_print_defaults",
        package: "mariadb-client-core",
        reason: "mariadb-install-db asks it",
    },
];

/// What some scenarios are skipped without: not every release of Debian has it.
pub const WISHED_FOR_TESTS: &[Needed] =
    &[Needed { program: "svcrack", package: "sipvicious", reason: "guessers and scanners" }];

/// What `cargo xtask bench` needs.
pub const FOR_BENCH: &[Needed] = &[
    Needed { program: "taskset", package: "util-linux", reason: "one core for each side" },
    Needed { program: "ip", package: "iproute2", reason: "addresses for the load" },
    Needed { program: "cc", package: "gcc", reason: "the floor" },
    Needed { program: "kamailio", package: "kamailio", reason: "the server to compare with" },
    Needed { program: "rtpengine", package: "rtpengine-daemon", reason: "the media relay to compare with" },
    Needed { program: "ethtool", package: "ethtool", reason: "a card whose receive path has a thread" },
    Needed { program: "chrt", package: "util-linux", reason: "its priority" },
];

/// What `cargo xtask bench database` needs.
pub const FOR_BENCH_DATABASE: &[Needed] = &[
    Needed { program: "taskset", package: "util-linux", reason: "one core for each side" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses" },
    Needed { program: "ss", package: "iproute2", reason: "whether a server serves" },
    Needed { program: "nft", package: "nftables", reason: "cuts in the switch" },
    Needed { program: "kamailio", package: "kamailio", reason: "the server to compare with" },
    Needed {
        program: "db_postgres.so",
        package: "kamailio-postgres-modules",
        reason: "its way to the database",
    },
    Needed { program: "initdb", package: "postgresql-15", reason: "the database" },
    Needed { program: "psql", package: "postgresql-client-15", reason: "to ask it" },
];

/// What `cargo xtask bench failover` needs.
pub const FOR_FAILOVER: &[Needed] = &[
    Needed { program: "unshare", package: "util-linux", reason: "namespaces for each measurement" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses in them" },
    Needed { program: "ss", package: "iproute2", reason: "whether the observer saw all" },
    Needed { program: "nft", package: "nftables", reason: "cuts in the switch" },
    Needed { program: "sysctl", package: "procps", reason: "forwarding in the router" },
    Needed { program: "kamailio", package: "kamailio", reason: "the server to compare with" },
    Needed { program: "keepalived", package: "keepalived", reason: "what moves the address there" },
    Needed { program: "sipsak", package: "sipsak", reason: "it checks Kamailio for keepalived" },
];

/// What `cargo xtask soak calls` needs.
pub const FOR_CALLS: &[Needed] = &[
    Needed { program: "unshare", package: "util-linux", reason: "namespaces for each pair" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses in them" },
    Needed { program: "nft", package: "nftables", reason: "cuts in the switch" },
    Needed { program: "sysctl", package: "procps", reason: "forwarding in the router" },
    Needed { program: "sipp", package: "sip-tester", reason: "those who call and are called" },
    Needed { program: "kamailio", package: "kamailio", reason: "the server to compare with" },
    Needed { program: "keepalived", package: "keepalived", reason: "what moves the address there" },
    Needed { program: "sipsak", package: "sipsak", reason: "it checks Kamailio for keepalived" },
];

/// What `cargo xtask soak database` needs.
pub const FOR_SOAK_DATABASE: &[Needed] = &[
    Needed { program: "unshare", package: "util-linux", reason: "namespaces for each pair" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses in them" },
    Needed { program: "nft", package: "nftables", reason: "cuts" },
    Needed { program: "sysctl", package: "procps", reason: "forwarding in the router" },
    Needed { program: "sipp", package: "sip-tester", reason: "those who call and are called" },
    Needed { program: "initdb", package: "postgresql-15", reason: "the database" },
    Needed { program: "psql", package: "postgresql-client-15", reason: "to ask it" },
    Needed { program: "mariadbd", package: "mariadb-server-core", reason: "the other database" },
    Needed { program: "mariadb", package: "mariadb-client-core", reason: "to ask it" },
];

/// What `cargo xtask soak talk` needs.
pub const FOR_TALK: &[Needed] = &[
    Needed { program: "unshare", package: "util-linux", reason: "namespaces for each pair" },
    Needed { program: "ip", package: "iproute2", reason: "cables and addresses in them" },
    Needed { program: "nft", package: "nftables", reason: "cuts in the switch" },
    Needed { program: "sysctl", package: "procps", reason: "forwarding in the router" },
    Needed { program: "kamailio", package: "kamailio", reason: "the server to compare with" },
    Needed { program: "keepalived", package: "keepalived", reason: "what moves the address there" },
    Needed { program: "sipsak", package: "sipsak", reason: "it checks Kamailio for keepalived" },
    Needed { program: "rtpengine", package: "rtpengine-daemon", reason: "what relays media there" },
    Needed { program: "redis-server", package: "redis-server", reason: "where its calls are kept" },
];

/// What `cargo xtask bench flames` needs.
pub const FOR_FLAMES: &[Needed] = &[
    Needed { program: "taskset", package: "util-linux", reason: "one core for each side" },
    Needed { program: "ip", package: "iproute2", reason: "addresses for the load" },
    Needed { program: "cc", package: "gcc", reason: "built beside the rest" },
    Needed { program: "perf", package: "linux-perf", reason: "it looks where the time goes" },
];

/// Whether the user has already said yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// With `--yes`.
    Given,
    /// Ask on the terminal.
    Ask,
}

/// The folders where programs are; an ordinary user's PATH lacks those of the administrator, and nobody's has
/// PostgreSQL's. Kamailio's modules are files of its packages like programs.
const SYSTEM_FOLDERS: [&str; 5] = [
    "/usr/sbin",
    "/sbin",
    "/usr/local/sbin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/x86_64-linux-gnu/kamailio/modules",
];

/// Installs with every daemon kept from starting. `$1` is the policy's path, the rest are packages; of those in
/// `WISHED` what this release of Debian has.
const INSTALL: &str = r#"
set -eu
policy=$1; shift
kept=$policy.kept-by-xtask
restore() {
    rm -f "$policy"
    if [ -e "$kept" ]; then mv "$kept" "$policy"; fi
}
trap restore EXIT
trap 'exit 130' INT TERM HUP
if [ -e "$policy" ] && [ ! -e "$kept" ]; then mv "$policy" "$kept"; fi
printf '#!/bin/sh\n# Written by cargo xtask: no daemon starts while it installs.\nexit 101\n' > "$policy"
chmod 755 "$policy"
apt-get -q update
for package in ${WISHED:-}; do
    if apt-cache show "$package" > /dev/null 2>&1; then set -- "$@" "$package"; fi
done
if [ $# -eq 0 ]; then exit 0; fi
DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "$@"
"#;

/// Makes sure that all is there; lists what is not, asks, and installs it. What is only wished for may stay away.
pub fn ensure_installed(needed: &[Needed], wished: &[Needed], consent: Consent) -> Result<()> {
    let missing = missing(needed);
    let wished = self::missing(wished);
    if missing.is_empty() && wished.is_empty() {
        println!("nothing to install");
        return Ok(());
    }
    println!("These Debian packages are missing and will be installed:");
    for one in missing.iter().chain(&wished) {
        println!("  {:14} {} ({})", one.package, one.reason, one.program);
    }
    ensure!(is_installed("apt-get"), "this is no Debian; install them, or what has the programs");
    println!("No daemon will be started.");
    if consent == Consent::Ask && !says_yes()? {
        if missing.is_empty() {
            println!("not installed; what needs them is skipped");
            return Ok(());
        }
        bail!("not installed; `--yes` answers this question");
    }
    let mut command = as_root()?;
    command.arg("env").arg(format!("WISHED={}", packages(&wished).join(" ")));
    command.args(["sh", "-c", INSTALL, "install", "/usr/sbin/policy-rc.d"]).args(packages(&missing));
    process::loudly(&mut command)?;
    for one in missing {
        ensure!(is_installed(one.program), "{} is not in {}", one.program, one.package);
    }
    Ok(())
}

fn missing(needed: &[Needed]) -> Vec<Needed> {
    needed.iter().filter(|one| !is_installed(one.program)).copied().collect()
}

fn packages(needed: &[Needed]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = needed.iter().map(|one| one.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).to_path_buf()));
    folders.iter().any(|folder| folder.join(program).is_file())
}

/// The start of a command line with root's rights.
fn as_root() -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(Command::new("env"));
    }
    ensure!(is_installed("sudo"), "this needs root, or sudo");
    Ok(Command::new("sudo"))
}

fn says_yes() -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(false);
    }
    print!("Go on? [y/N] ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn no_daemon_may_start_while_apt_works_and_the_old_policy_comes_back() {
        let place = place("policy", "cat $POLICY >> $SEEN");
        fs::write(place.join("policy"), "before").expect("written");

        install(&place);

        assert!(fs::read_to_string(place.join("seen")).expect("seen").contains("exit 101"));
        assert_eq!(fs::read_to_string(place.join("policy")).expect("policy"), "before");
        assert!(!place.join("policy.kept-by-xtask").exists());
    }

    #[test]
    fn the_old_policy_comes_back_also_when_apt_fails() {
        let place = place("fails", "exit 7");
        fs::write(place.join("policy"), "before").expect("written");

        let status = install(&place);

        assert_eq!(status, Some(7));
        assert_eq!(fs::read_to_string(place.join("policy")).expect("policy"), "before");
    }

    #[test]
    fn what_is_only_wished_for_is_installed_where_it_is_to_be_had() {
        let place = place("wished", "echo \"$@\" >> $SEEN");
        let known = "#!/bin/sh\ntest \"$2\" = known\n";
        fs::write(place.join("apt-cache"), known).expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.join("apt-cache"), mode).expect("made executable");

        install(&place);

        let seen = fs::read_to_string(place.join("seen")).expect("seen");
        assert!(seen.contains("a-package known\n") && !seen.contains("unknown"), "{seen}");
    }

    #[test]
    fn without_an_old_policy_none_is_left() {
        let place = place("none", "true");

        install(&place);

        assert!(!place.join("policy").exists());
    }

    /// A folder with an `apt-get` that does `deed`.
    fn place(name: &str, deed: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("apt-get"), format!("#!/bin/sh\n{deed}\n")).expect("written");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join("apt-get"), mode).expect("made executable");
        dir
    }

    fn install(place: &Path) -> Option<i32> {
        let path = format!("{}:/usr/bin:/bin", place.display());
        let mut command = Command::new("sh");
        command.args(["-c", INSTALL, "install"]).arg(place.join("policy")).arg("a-package");
        command.env("PATH", path).env("POLICY", place.join("policy"));
        command.env("SEEN", place.join("seen")).env("WISHED", "known unknown");
        command.status().expect("sh runs").code()
    }
}
