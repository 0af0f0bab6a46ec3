//! Kamailio of Debian as a peer: a registrar behind our edge, an edge in front of our registrar, or a carrier.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Host, Lab};
use crate::process::{self, Running};
use crate::server::PASSWORD;

/// How long a start may take.
const START_TIME_MAX: Duration = Duration::from_secs(15);

/// What every role needs: UDP and TCP on one address, one process for each, everything in memory.
const COMMON: &str = r#"
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "xlog.so"
"#;

/// A registrar and proxy that knows Path and asks for digest (every account has [`PASSWORD`]). It leaves NAT to the
/// edge before it: it answers to where requests come from and believes each Contact.
const REGISTRAR: &str = r#"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "use_path", 1)
modparam("registrar", "path_mode", PATH_MODE)
modparam("rr", "append_fromtag", 0)
request_route {
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        sl_send_reply("404", "Not Found");
        exit;
    }
    if (is_method("REGISTER")) {
        if (!pv_www_authenticate("$td", "PASSWORD", "0")) { auth_challenge("$td", "0"); exit; }
        SERVICE_ROUTE
        save("location");
        exit;
    }
    if (is_present_hf("Route")) { xlog("L_ERR", "a preloaded Route\n"); loose_route(); }
    if (!pv_proxy_authenticate("$fd", "PASSWORD", "0")) { auth_challenge("$fd", "0"); exit; }
    consume_credentials();
    t_check_trans();
    record_route();
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    t_relay();
}
"#;

/// An edge: it puts Path into REGISTER and Record-Route into calls, and sends all that comes from phones to the
/// registrar.
const EDGE: &str = r#"
loadmodule "path.so"
loadmodule "nathelper.so"
modparam("path", "use_received", 1)
modparam("rr", "append_fromtag", 0)
request_route {
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    force_rport();
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (!is_method("REGISTER")) add_contact_alias();
    if (has_totag()) {
        if (loose_route()) { handle_ruri_alias(); t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        sl_send_reply("404", "Not Found");
        exit;
    }
    t_check_trans();
    if (is_method("REGISTER")) {
        add_path_received();
        $du = "sip:REGISTRAR:5060";
        t_relay();
        exit;
    }
    record_route();
    if ($si == "REGISTRAR") {
        # It takes our Path off and says no, because there is no dialog yet.
        loose_route();
        t_relay();
        exit;
    }
    $du = "sip:REGISTRAR:5060";
    t_relay();
}
onreply_route {
    add_contact_alias();
}
"#;

/// A registrar that has its phones in the table of a database and looks there anew for each call. It asks for digest, and notes
/// where a phone behind NAT was seen.
const ON_DATABASE: &str = r#"
loadmodule "DRIVER"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "nathelper.so"
modparam("usrloc", "db_url", "URL")
modparam("usrloc", "db_mode", 3)
modparam("usrloc", "use_domain", 1)
modparam("registrar", "use_path", 1)
modparam("nathelper|registrar", "received_avp", "$avp(received)")
modparam("rr", "append_fromtag", 0)
request_route {
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        sl_send_reply("404", "Not Found");
        exit;
    }
    if (is_method("REGISTER")) {
        force_rport();
        if (!pv_www_authenticate("$td", "PASSWORD", "0")) { auth_challenge("$td", "0"); exit; }
        if (nat_uac_test("19")) fix_nated_register();
        save("location");
        exit;
    }
    # What the server beside this one sends is checked.
    if ($si != "203.0.113.10") {
        if (!pv_proxy_authenticate("$fd", "PASSWORD", "0")) { auth_challenge("$fd", "0"); exit; }
        consume_credentials();
    }
    t_check_trans();
    record_route();
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    t_relay();
}
"#;

/// A carrier: it believes whoever calls, and sends calls on to the one phone behind it.
const CARRIER: &str = r#"
modparam("rr", "append_fromtag", 0)
request_route {
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        sl_send_reply("404", "Not Found");
        exit;
    }
    t_check_trans();
    record_route();
    $du = "sip:PHONE";
    t_relay();
}
"#;

/// What a Kamailio is.
#[derive(Clone, Copy, Debug)]
pub enum Role<'a> {
    /// A registrar that keeps Path.
    Registrar {
        /// The URI that it tells phones as Service-Route, if it does.
        service_route: Option<&'a str>,
    },
    /// A registrar that knows nothing of Path.
    RegistrarWithoutPath,
    /// A registrar that grants a few seconds.
    BriefRegistrar,
    /// An edge in front of the registrar at this address.
    EdgeOf(Ipv4Addr),
    /// A carrier whose calls all go to the phone at this address.
    CarrierTo(SocketAddr),
    /// A registrar that has its phones in this database.
    OnDatabase(&'a str),
}

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    running: Running,
    host: Host,
}

impl Kamailio {
    /// Starts it on port 5060 of a host, and waits until it serves.
    pub fn start(lab: &Lab, host: &Host, role: Role<'_>) -> Result<Kamailio> {
        let script = match role {
            Role::Registrar { service_route } => {
                let line = service_route.map_or(String::new(), |uri| {
                    format!("append_to_reply(\"Service-Route: <{uri}>\\r\\n\");")
                });
                REGISTRAR.replace("PATH_MODE", "2").replace("SERVICE_ROUTE", &line)
            }
            Role::RegistrarWithoutPath => REGISTRAR
                .replace("\"use_path\", 1", "\"use_path\", 0")
                .replace("PATH_MODE", "0")
                .replace("SERVICE_ROUTE", ""),
            Role::BriefRegistrar => {
                let brief = "2)\nmodparam(\"registrar\", \"max_expires\", 4";
                REGISTRAR.replace("PATH_MODE", brief).replace("SERVICE_ROUTE", "")
            }
            Role::EdgeOf(registrar) => EDGE.replace("REGISTRAR", &registrar.to_string()),
            Role::OnDatabase(url) => {
                let driver = if url.starts_with("mysql") { "db_mysql.so" } else { "db_postgres.so" };
                ON_DATABASE.replace("DRIVER", driver).replace("URL", url)
            }
            Role::CarrierTo(phone) => CARRIER.replace("PHONE", &phone.to_string()),
        };
        let listen = format!("listen=udp:{0}:5060\nlisten=tcp:{0}:5060\n", host.v4);
        let config = lab.dir.join(format!("kamailio-{}.cfg", host.name));
        std::fs::write(
            &config,
            format!("#!KAMAILIO\n{listen}{COMMON}{}", script.replace("PASSWORD", PASSWORD)),
        )?;
        let mut command = host.command("kamailio");
        // -DD: do not go to background. -E: to standard error. -Y: where it may write.
        command.arg("-f").arg(&config).args(["-DD", "-E", "-m", "64", "-M", "8", "-Y", "/run"]);
        let running = Running::start(&mut command, &lab.dir.join(format!("kamailio-{}.log", host.name)))?;
        let mut kamailio = Kamailio { running, host: host.clone() };
        kamailio.wait_until_it_serves()?;
        Ok(kamailio)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.host.v4, 5060))
    }

    /// SIGTERM, which ends all its processes: what it had in memory is gone.
    pub fn terminate(self) -> Result<()> {
        self.running.terminate().map(drop)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.running.log()
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.running.terminate().map(drop)
    }

    /// It answers OPTIONS, be it with an error, when its workers are there.
    fn wait_until_it_serves(&mut self) -> Result<()> {
        let address = self.address();
        let socket = self.host.enter(|| std::net::UdpSocket::bind((self.host.v4, 0)))??;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let local = socket.local_addr()?;
        let text = format!(
            "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKwake;rport\r\n\
             From: <sip:wake@lab>;tag=w\r\nTo: <sip:{address}>;tag=x\r\nCall-ID: wake\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        process::wait_until("answer from Kamailio", START_TIME_MAX, || {
            anyhow::ensure!(self.running.is_running()?, "Kamailio has ended:\n{}", self.running.log());
            // The port is not open yet where sending fails.
            if socket.send_to(text.as_bytes(), address).is_err() {
                return Ok(None);
            }
            let mut buffer = [0; 2048];
            Ok(socket.recv_from(&mut buffer).ok().map(drop))
        })
        .context("it does not serve")
    }
}
