//! Why a machine does not let the demo build its hosts, and what mends it.

use std::io;

use anyhow::anyhow;
use host::lab::{Step, Unsecluded};

/// Debian's own switch of before 2022.
const DEBIAN: &str = "/proc/sys/kernel/unprivileged_userns_clone";
/// Ubuntu's, which lets namespaces be made and gives no rights in them.
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
/// Everybody's.
const COUNT: &str = "/proc/sys/user/max_user_namespaces";

/// The refusal, with the mend. `is_root`: whether root was refused.
pub fn explained(refusal: &Unsecluded, is_root: bool) -> anyhow::Error {
    let settings = [DEBIAN, APPARMOR, COUNT].map(|file| std::fs::read_to_string(file).ok());

    let mend = mend(refusal.step, &refusal.reason, settings, is_root);
    anyhow!("the demo can not build its hosts: {refusal}\n{mend}")
}

fn mend(
    step: Step,
    reason: &io::Error,
    [debian, apparmor, count]: [Option<String>; 3],
    is_root: bool,
) -> String {
    let is = |setting: &Option<String>, value| setting.as_deref().map(str::trim) == Some(value);
    let set = |name: &str, value| format!("or let users have namespaces: `sudo sysctl -w {name}={value}`.");
    let as_root = "Run it as root: `sudo tandem demo`";
    if step == Step::Place {
        return "It needs the folder /run, and to mount a tmpfs over it for itself alone.".to_owned();
    }
    if is_root {
        return "In a container this wants more rights: `docker run --privileged`, or run it on the host itself.".to_owned();
    }
    if is(&debian, "0") {
        return format!("{as_root}, {}", set("kernel.unprivileged_userns_clone", "1"));
    }
    if is(&count, "0") || reason.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) {
        return format!("{as_root}, {}", set("user.max_user_namespaces", "10000"));
    }
    if is(&apparmor, "1") {
        return format!("{as_root}, {}", set("kernel.apparmor_restrict_unprivileged_userns", "0"));
    }
    format!("{as_root}; or, in a container, run it on the host itself.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_mend() {
        let with = |settings: [Option<&str>; 3]| {
            let reason = io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
            mend(Step::Namespaces, &reason, settings.map(|it| it.map(str::to_owned)), false)
        };

        assert!(with([Some("0\n"), None, Some("9\n")]).contains("kernel.unprivileged_userns_clone=1"));
        assert!(with([None, Some("1\n"), Some("9\n")]).contains("apparmor_restrict_unprivileged_userns=0"));
        assert!(with([None, None, Some("0\n")]).contains("user.max_user_namespaces=10000"));
        assert!(with([Some("1\n"), Some("0\n"), Some("9\n")]).starts_with("Run it as root"));
    }
}
