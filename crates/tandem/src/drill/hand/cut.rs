//! An interface that no frame passes, for a time that the kernel itself ends.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// Of its own, so that it can be taken away as a whole.
const TABLE: &str = "netdev tandem_drill";

/// Cuts an interface.
pub fn cut(interface: &str, time: Duration) -> Result<()> {
    // Whatever may stand in a name of an interface, a quote ends the text in the script.
    if interface.contains(['"', '\\', '\n']) {
        bail!("{interface:?} is no name of an interface that can be cut");
    }
    run(&script(interface, time)).context("the link can not be cut")
}

/// Ends it before its time.
pub fn mend() -> Result<()> {
    run(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"))
        .context("the link was not mended before its time")
}

/// The elements end by themselves: the table that stays lets everything pass.
fn script(interface: &str, time: Duration) -> String {
    let milliseconds = time.as_millis();
    let kinds = ["ip", "ip6", "arp"].map(|kind| format!("{kind} timeout {milliseconds}ms")).join(", ");
    let chain = |name: &str, hook: &str| {
        format!(
            " chain {name} {{ type filter hook {hook} device \"{interface}\" priority -600; policy accept; \
             meta protocol @cut drop; }}\n"
        )
    };
    format!(
        "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n set cut {{ type ether_type; flags timeout; elements = {{ \
         {kinds} }}; }}\n{}{}}}\n",
        chain("in", "ingress"),
        chain("out", "egress"),
    )
}

fn run(script: &str) -> Result<()> {
    host::run_nft(script).map_err(|why| anyhow!("nft, of the package nftables: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_ends_by_the_kernels_own_clock() {
        let script = script("eth0", Duration::from_secs(5));

        for kind in ["ip timeout 5000ms", "ip6 timeout 5000ms", "arp timeout 5000ms"] {
            assert!(script.contains(kind), "{script}");
        }
        assert_eq!(script.matches("meta protocol @cut drop").count(), 2, "both ways");
        assert!(!script.replace("@cut drop", "").contains("drop"), "nothing is cut for ever: {script}");
    }

    #[test]
    fn a_name_can_not_leave_its_quotes() {
        assert!(cut("eth0\" drop", Duration::from_secs(1)).is_err());
    }
}
