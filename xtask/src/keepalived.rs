//! A node as it is commonly built today: Kamailio, and keepalived that moves the address and checks Kamailio.
//!
//! Both nodes begin as BACKUP with `nopreempt`, which is what a pair of equals wants. Kamailio is bound to the virtual
//! address at both (`ip_nonlocal_bind`), so that nothing has to be started at a takeover.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::lab::pair::{Pair, Side, VIP, write_for};
use crate::lab::{Host, Lab};
use crate::process::{Running, tree};

pub mod redis;

/// How long the first check, and a master that is missed, may take.
const ROLE_TIME_MAX: Duration = Duration::from_secs(15);

/// It answers OPTIONS, and is no more than that.
const ANSWERS: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:OWN:5060
listen=udp:VIP:5060
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "sl.so"
loadmodule "pv.so"
request_route {
    if ($rm == "OPTIONS") { sl_send_reply("200", "OK"); exit; }
    sl_send_reply("403", "Forbidden");
}
"#;

/// A registrar and stateful proxy without digest. What it sends to a phone leaves by the virtual address, also where the phone
/// has registered at the node's own.
const CALLS: &str = r#"#!KAMAILIO
debug=1
log_stderror=yes
children=2
disable_tcp=yes
auto_aliases=no
listen=udp:OWN:5060
listen=udp:VIP:5060
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("rr", "append_fromtag", 0)
modparam("registrar", "sock_flag", 18)
modparam("registrar", "sock_hdr_name", "Sock-Info")
MEDIA_MODULE
request_route {
    if (!mf_process_maxfwd_header("70")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("OPTIONS") && $rU == "check") { sl_send_reply("200", "OK"); exit; }
    force_rport();
    if (has_totag()) {
        if (loose_route()) { MEDIA_MANAGE t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
        sl_send_reply("404", "Not Found");
        exit;
    }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (is_method("REGISTER")) { setflag(18); save("location"); exit; }
    t_check_trans();
    record_route();
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    MEDIA_MANAGE
    t_relay();
}
onreply_route { MEDIA_MANAGE }
"#;

/// What is in the places above where it relays media too.
const MEDIA: [(&str, &str); 2] = [
    (
        "MEDIA_MODULE",
        "loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:2223\")",
    ),
    ("MEDIA_MANAGE", "if (has_body(\"application/sdp\") || is_method(\"BYE|CANCEL\")) rtpengine_manage();"),
];

/// The check asks once a second, and twice in a row without an answer is a fault.
const KEEPALIVED: &str = r#"
global_defs {
    router_id NAME
    script_user root
}
vrrp_script kamailio {
    script "/usr/bin/timeout 0.8 /usr/bin/sipsak -s sip:check@OWN:5060"
    interval 1
    timeout 1
    fall 2
    rise 1
}
vrrp_instance sip {
    state BACKUP
    nopreempt
    interface eth0
    version 3
    virtual_router_id 51
    priority PRIORITY
    advert_int ADVERT
    virtual_ipaddress {
        VIP/32 dev eth0
    }
    track_script {
        kamailio
    }
}
"#;

/// How often the active one says that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Adverts {
    /// Each second, the default.
    Second,
    /// Each tenth of a second.
    Tenth,
}

impl Adverts {
    fn text(self) -> &'static str {
        match self {
            Adverts::Second => "1",
            Adverts::Tenth => "0.1",
        }
    }
}

/// What Kamailio does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// It answers OPTIONS.
    Answers,
    /// It is a registrar and a stateful proxy.
    Calls,
    /// It has an rtpengine beside it, too, which keeps its calls in a Redis on the witness's host.
    Talk,
}

/// Both programs of one host.
#[derive(Debug)]
pub struct Node {
    adverts: Adverts,
    script: Script,
    kamailio: Running,
    keepalived: Running,
    media: Option<Running>,
}

impl Node {
    /// Starts them.
    pub fn start(lab: &Lab, pair: &Pair, side: Side, adverts: Adverts, script: Script) -> Result<Node> {
        pair.node(side).sysctl("net.ipv4.ip_nonlocal_bind=1")?;
        let media = (script == Script::Talk).then(|| redis::relay(lab, pair, side)).transpose()?;
        let kamailio = kamailio(lab, pair, side, script)?;
        let keepalived = keepalived(lab, pair, side, adverts)?;
        Ok(Node { adverts, script, kamailio, keepalived, media })
    }

    /// Starts again what has ended.
    pub fn mend(&mut self, lab: &Lab, pair: &Pair, side: Side) -> Result<()> {
        if let Some(media) = &mut self.media
            && !media.is_running()?
        {
            *media = redis::relay(lab, pair, side)?;
        }
        if !self.kamailio.is_running()? {
            self.kamailio = kamailio(lab, pair, side, self.script)?;
        }
        if !self.keepalived.is_running()? {
            self.keepalived = keepalived(lab, pair, side, self.adverts)?;
        }
        Ok(())
    }

    /// Waits until it says that it has become MASTER or BACKUP, with a check that succeeded.
    pub fn wait_for_role(&mut self, role: &str) -> Result<()> {
        let role = format!("Entering {role} STATE");
        self.keepalived.wait_until(&role, ROLE_TIME_MAX, |log| {
            let role = log.rfind(&role);
            let checked = log.find("VRRP_Script(kamailio) succeeded");
            role.is_some() && checked.is_some()
        })
    }

    /// The processes of Kamailio, and of the relay beside it.
    pub fn engine(&self) -> Result<Vec<u32>> {
        let mut all: Vec<u32> = tree::of(self.kamailio.id())?.into_keys().collect();
        all.extend(self.media.as_ref().map(Running::id));
        Ok(all)
    }

    /// All processes.
    pub fn all(&self) -> Result<Vec<u32>> {
        let mut all: Vec<u32> = tree::of(self.keepalived.id())?.into_keys().collect();
        all.extend(self.engine()?);
        Ok(all)
    }

    /// Asks keepalived to end, as `systemctl stop keepalived` does, so that the other node takes over.
    pub fn hand_over(&self) -> Result<()> {
        self.keepalived.signal(Signal::TERM)
    }
}

/// Its workers outlive the first process.
impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(all) = self.all() {
            // What has ended needs no signal; and at the end of the lab the kernel ends everybody.
            let _ = tree::signal(all, Signal::KILL);
        }
    }
}

fn kamailio(lab: &Lab, pair: &Pair, side: Side, script: Script) -> Result<Running> {
    let (host, text) = (pair.node(side), if script == Script::Answers { ANSWERS } else { CALLS });
    let media = |text: String, (place, media): &(&str, &str)| {
        text.replace(place, if script == Script::Talk { media } else { "" })
    };
    let text = MEDIA.iter().fold(filled(text, host), media);
    let config = write_for(lab, host, "kamailio.cfg", &text)?;
    let mut command = host.command("kamailio");
    command.arg("-f").arg(&config).args(["-DD", "-E", "-m", "64", "-M", "8", "-Y", "/run"]);
    Running::start(&mut command, &lab.dir.join(format!("{}-kamailio.log", host.name)))
}

fn keepalived(lab: &Lab, pair: &Pair, side: Side, adverts: Adverts) -> Result<Running> {
    let (host, priority) = (pair.node(side), if side == Side::A { "101" } else { "100" });
    let text = filled(KEEPALIVED, host).replace("PRIORITY", priority).replace("ADVERT", adverts.text());
    let config = write_for(lab, host, "keepalived.conf", &text)?;
    let mut command = host.command("keepalived");
    command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file"]).arg(&config);
    for (option, name) in [("--pid", "keepalived"), ("--vrrp_pid", "vrrp")] {
        command.arg(option).arg(format!("/run/{}-{name}.pid", host.name));
    }
    Running::start(&mut command, &lab.dir.join(format!("{}-keepalived.log", host.name)))
}

fn filled(text: &str, host: &Host) -> String {
    let text = text.replace("OWN", &host.v4.to_string()).replace("VIP", &VIP.to_string());
    text.replace("NAME", &host.name)
}
