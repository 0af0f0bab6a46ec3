//! `tandem run`: from the configuration to a server that serves, and to its clean end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use routing::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::Subscribers;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::guard::guard;
use crate::config::{Config, FILE_DEFAULT};
use crate::database::Database;
use crate::logs::Logs;
use crate::service::Service;
use crate::serving::{Part, Serving, Start};
use crate::state_directory::StateDirectory;
use crate::{host, supervisor};

/// How often the threads are looked at when no supervisor asks.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Serves until a signal ends it.
pub fn run(config_file: Option<PathBuf>) -> Result<()> {
    let started = Instant::now();
    let config_file =
        config_file.or_else(|| Some(PathBuf::from(FILE_DEFAULT)).filter(|usual| usual.exists()));
    let config = Config::load(config_file.as_deref())?;
    if let (Some(file), Some(cluster)) = (&config_file, config.cluster.clone()) {
        return guard(file.clone(), config, cluster);
    }
    let logs = Logs::start(config.log);
    raise_descriptor_limit();
    let part = Part::Alone;
    let serving = Serving::begin(Start { started, config_file: config_file.clone(), config, logs, part })?;
    let Serving { service, state, settings, .. } = &serving;
    let is_first = match &service.database {
        Database::File(file) => Subscribers::open(file).is_ok_and(|subscribers| subscribers.count() == Ok(0)),
        // Whoever set up a server knows where its accounts come from.
        Database::Server(..) => false,
    };
    // An edge needs no account.
    if is_first && settings.edges.is_empty() {
        super::print(&first_steps(settings, state, config_file.as_deref()))?;
    }
    supervisor::ready(&format!("serving on {} listeners", settings.listeners.iter().count()));

    let signalled = wait_for_the_end(service);
    supervisor::stopping();
    serving.end()?;
    signalled
}

/// Handles signals until one of them is the last.
fn wait_for_the_end(service: &Arc<Service>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let watchdog = supervisor::watchdog_interval();
        let mut looks = interval(watchdog.unwrap_or(LOOK_INTERVAL).max(Duration::from_millis(10)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_alive = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => reload(service),
                _ = looks.tick() => {
                    let is_alive = service.server.is_alive();
                    if is_alive && watchdog.is_some() {
                        supervisor::alive();
                    }
                    if was_alive && !is_alive {
                        tracing::error!("a thread of the server hangs or has died; restart the server");
                    }
                    was_alive = is_alive;
                }
            }
        }
    })
}

fn reload(service: &Service) {
    supervisor::reloading();
    // Its outcome is in the log.
    let _ = service.reload();
    supervisor::ready("serving");
}

/// Each TCP connection takes a descriptor, and the usual limit is 1024.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files can not be raised");
    }
}

/// What a newcomer needs to know: where everything is, and what to type next.
fn first_steps(settings: &Settings, state: &StateDirectory, config_file: Option<&Path>) -> String {
    let hosts: BTreeSet<(u8, IpAddr)> = settings
        .listeners
        .iter()
        .map(|listener| (host::strangeness(listener.local.0.ip()), listener.local.0.ip()))
        .collect();
    let best = hosts.first().map(|(_, address)| *address);
    let there: Vec<_> =
        settings.listeners.iter().filter(|listener| Some(listener.local.0.ip()) == best).collect();
    let transports: BTreeSet<&str> = there.iter().map(|listener| listener.transport.via_name()).collect();
    let transports: Vec<&str> = transports.into_iter().rev().collect();
    let server = there.first().map_or_else(String::new, |listener| {
        let (sent_by, port) = (listener.sent_by(), listener.transport.default_port());
        sent_by.strip_suffix(&format!(":{port}")).map_or(sent_by.clone(), str::to_owned)
    });
    let domain = settings.domains.first().cloned().unwrap_or_else(|| match best {
        Some(IpAddr::V6(address)) => format!("[{address}]"),
        Some(IpAddr::V4(address)) => address.to_string(),
        None => "example.org".to_owned(),
    });
    let domains: Vec<&str> =
        settings.domains.iter().map(String::as_str).chain(["the address of each listener"]).collect();
    let (command, options) = (own_command(), options(state, config_file));
    let listeners: Vec<String> = settings
        .listeners
        .iter()
        .map(|listener| format!("{}:{}", listener.transport, listener.local))
        .collect();
    format!(
        "\n\
         Tandem {version} serves SIP.\n\n  \
           state directory  {state}\n  \
           listeners        {listeners}\n  \
           domains          {domains}\n\n\
         Nobody can call yet: there is no subscriber. In another terminal:\n\n  \
           {command} subscriber add alice@{domain}{options}\n  \
           {command} subscriber add bob@{domain}{options}\n\n\
         then in the phone: user alice, domain {domain}, server {server}, transport {transports}.\n\
         Who is registered:  {command} contacts{options}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        state = state.path().display(),
        listeners = listeners.join("\n                   "),
        domains = domains.join(", "),
        transports = transports.join(" or "),
    )
}

/// What a shell finds this program by.
fn own_command() -> String {
    let Ok(program) = std::env::current_exe() else { return "tandem".to_owned() };
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .find_map(|directory| std::fs::canonicalize(directory.join("tandem")).ok())
            .is_some_and(|first| first == program)
    });
    if found {
        return "tandem".to_owned();
    }
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| program.strip_prefix(here).ok());
    quoted(short.map_or_else(|| program.clone(), |short| Path::new(".").join(short)).as_path())
}

/// What other commands need to find this server.
fn options(state: &StateDirectory, config_file: Option<&Path>) -> String {
    match config_file {
        Some(file) if file != Path::new(FILE_DEFAULT) => format!(" --config {}", quoted(file)),
        _ => {
            let usual = StateDirectory::of(&Config::load(None).unwrap_or_default());
            match usual {
                Ok(usual) if usual == *state => String::new(),
                _ => format!(" --state-directory {}", quoted(state.path())),
            }
        }
    }
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-+,:@".contains(letter));
    if is_plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_told_the_exact_next_commands() {
        let config =
            Config::parse(Path::new("a.toml"), "[sip]\nlisten = ['udp://*:5060', 'tcp://192.0.2.5:5060']");
        let addresses =
            ["127.0.0.1", "192.0.2.5", "2001:db8::5"].map(|text| text.parse().expect("an address"));
        let settings = config.expect("it is right").compile(&addresses).expect("it can be served");

        let text =
            first_steps(&settings, &StateDirectory::at(Path::new("/s")), Some(Path::new("my file.toml")));

        for part in [
            "state directory  /s\n",
            "udp:127.0.0.1:5060\n",
            "udp:[2001:db8::5]:5060\n",
            "subscriber add alice@192.0.2.5 --config 'my file.toml'\n",
            "user alice, domain 192.0.2.5, server 192.0.2.5, transport UDP or TCP.\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_domain_of_the_configuration_comes_before_an_address() {
        let config = Config::parse(
            Path::new("a.toml"),
            "[sip]\nlisten = ['udp://10.0.0.5:5080 advertise 203.0.113.10']\ndomains = ['example.org']",
        );
        let settings = config.expect("it is right").compile(&[]).expect("it can be served");

        let text = first_steps(&settings, &StateDirectory::at(Path::new("/s")), None);

        assert!(text.contains("alice@example.org --state-directory /s\n"), "{text}");
        assert!(text.contains("domain example.org, server 203.0.113.10:5080, transport UDP.\n"), "{text}");
    }
}
