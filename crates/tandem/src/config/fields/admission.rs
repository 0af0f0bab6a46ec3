//! The keys of `[admission]`: who is slowed down and who is not heard.

use std::net::IpAddr;

use ipnet::IpNet;
use routing::bans::{Enforcement, Rate};

use super::{DAY, Field, MINUTE, SECOND, Section, agent};
use crate::config::problem::Wrong;
use crate::config::value::Value;

/// Wrong passwords: more than that is no limit.
const FAILURES_MAX: u64 = 10_000;
/// Requests without proof in a second, and at once: more than one core answers.
const UNPROVEN_MAX: u64 = 1_000_000;
/// Calls of one account in a minute: 10,000 in a second.
const CALLS_MAX: u64 = 600_000;
/// No number in the world is longer.
const NUMBER_BYTES_MAX: usize = 32;

/// The table.
pub const SECTION: Section = Section {
    name: "admission",
    meaning: &[
        "Who guesses passwords, scans or floods: first slowed down, then banned. A source from which a phone is",
        "registered or calls is never banned whole. `tandem bans list` shows who is held, and why.",
    ],
    fields: &[
        Field {
            key: "enforce",
            default: "\"on\"",
            meaning: &["\"on\", or \"off\": nobody is slowed down or banned."],
            set: |config, value| {
                config.admission.enforcement =
                    value.word(&[("on", Enforcement::On), ("off", Enforcement::Off)])?;
                Ok(())
            },
        },
        Field {
            key: "never",
            default: "[]",
            meaning: &[
                "Addresses and networks that are never slowed down or banned, such as \"198.51.100.0/24\": monitors,",
                "load generators. The host itself and [[trusted]] peers never are.",
            ],
            set: |config, value| {
                config.admission.never = value.list(network)?;
                Ok(())
            },
        },
        Field {
            key: "wrong_passwords_free",
            default: "3",
            meaning: &[
                "So many wrong passwords for one name from one source cost nothing. Before each further one is looked",
                "at the source must wait: half a second, then twice as long each time, up to a minute.",
            ],
            set: |config, value| {
                config.admission.failures_free = value.number(0..=FAILURES_MAX)? as u32;
                Ok(())
            },
        },
        Field {
            key: "wrong_passwords_max",
            default: "20",
            meaning: &[
                "So many wrong passwords from one source within `window` ban it; so many for one name block that",
                "name for the source.",
            ],
            set: |config, value| {
                config.admission.failures_max = value.number(1..=FAILURES_MAX)? as u32;
                Ok(())
            },
        },
        Field {
            key: "window",
            default: "\"5m\"",
            meaning: &["How long a wrong password counts."],
            set: |config, value| {
                config.admission.window = value.duration(SECOND..=DAY)?;
                Ok(())
            },
        },
        Field {
            key: "ban",
            default: "\"10m\"",
            meaning: &[
                "How long the first ban lasts. Whoever begins again soon after it is banned twice as long.",
            ],
            set: |config, value| {
                config.admission.ban = value.duration(SECOND..=7 * DAY)?;
                Ok(())
            },
        },
        Field {
            key: "ban_max",
            default: "\"24h\"",
            meaning: &["The longest ban."],
            set: |config, value| {
                config.admission.ban_max = value.duration(MINUTE..=30 * DAY)?;
                Ok(())
            },
        },
        Field {
            key: "unproven_per_second",
            default: "50",
            meaning: &[
                "How many requests of one source are answered that prove nothing. A right password gives back what its",
                "challenge took, so any number of phones may share an address.",
            ],
            set: |config, value| {
                let count = value.number(1..=UNPROVEN_MAX)? as u32;
                config.admission.unproven = Rate::per_second(count, config.admission.unproven.burst);
                Ok(())
            },
        },
        Field {
            key: "unproven_burst",
            default: "1000",
            meaning: &["How many of them at once, after a pause."],
            set: |config, value| {
                config.admission.unproven.burst = value.number(1..=UNPROVEN_MAX)? as u32;
                Ok(())
            },
        },
        Field {
            key: "scanners",
            default: "[\"friendly-scanner\", \"friendly-request\", \"sipvicious\", \"sipcli\", \"sundayddr\", \
                      \"VaxSIPUserAgent\", \"pplsip\"]",
            meaning: &[
                "Clients whose User-Agent begins so get no answer to anything. Over TCP, and when they try a",
                "password, they are banned at once.",
            ],
            set: |config, value| {
                config.admission.scanners = value.list(agent)?;
                Ok(())
            },
        },
        Field {
            key: "calls_per_minute_per_account",
            default: "300",
            meaning: &["Calls that one account may begin in a minute; further ones get 403. 0: no limit."],
            set: |config, value| {
                config.admission.calls_per_minute = value.number(0..=CALLS_MAX)? as u32;
                Ok(())
            },
        },
        Field {
            key: "overload",
            default: "\"on\"",
            meaning: &[
                "While more comes than can be handled, new requests are refused with 503, the least important first;",
                "nothing of a call that is up, and no emergency call. \"off\": nothing is refused, and what is too much",
                "is lost by chance.",
            ],
            set: |config, value| {
                config.admission.overload =
                    value.word(&[("on", Enforcement::On), ("off", Enforcement::Off)])?;
                Ok(())
            },
        },
        Field {
            key: "emergency",
            default: "[\"112\", \"911\", \"999\", \"000\", \"110\", \"111\", \"113\", \"118\", \"119\"]",
            meaning: &[
                "Emergency numbers, also as they are dialled with a prefix for outside lines. Calls to them, and to",
                "urn:service:sos, are never refused for overload.",
            ],
            set: |config, value| {
                config.admission.emergency = value.list(number)?;
                Ok(())
            },
        },
    ],
};

fn number(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_dialled = |sign: u8| sign.is_ascii_digit() || matches!(sign, b'*' | b'#');
    if digits.is_empty() || digits.len() > NUMBER_BYTES_MAX || !digits.bytes().all(is_dialled) {
        return Err(value.wrong("is no number that can be dialled", "write digits alone: \"112\""));
    }
    Ok(text.to_owned())
}

fn network(value: &Value<'_>) -> Result<IpNet, Wrong> {
    let text = value.text()?;
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = parsed else {
        let mend = "write \"198.51.100.7\", \"198.51.100.0/24\" or \"2001:db8::/32\"";
        return Err(value.wrong("is no address", mend));
    };
    if network.prefix_len() == 0 {
        return Err(value.wrong("is the whole Internet", "write enforce = \"off\" if you mean that"));
    }
    if network.trunc() != network {
        let mend = format!("write \"{}\" or a longer prefix", network.trunc());
        return Err(value.wrong("has bits after its prefix", mend));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use routing::Admission;

    use super::super::HOUR;
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_rules() {
        assert_eq!(Config::default().admission, Admission::default());
    }

    #[test]
    fn every_key_is_taken() {
        let config = parse(
            "enforce = 'off'\nnever = ['10.0.0.0/8', '2001:db8::1']\nwrong_passwords_free = 0\n\
             wrong_passwords_max = 7\nwindow = '1m'\nban = '2m'\nban_max = '1h'\nunproven_per_second = 4\n\
             unproven_burst = 5\nscanners = ['sipsak']\ncalls_per_minute_per_account = 6\n\
             overload = 'off'\nemergency = ['0112']",
        );

        let expected = Admission {
            enforcement: Enforcement::Off,
            never: ["10.0.0.0/8", "2001:db8::1/128"].map(|text| text.parse().expect("a network")).into(),
            scanners: vec!["sipsak".to_owned()],
            failures_free: 0,
            failures_max: 7,
            window: MINUTE,
            ban: 2 * MINUTE,
            ban_max: HOUR,
            unproven: Rate { every: Duration::from_millis(250), burst: 5 },
            calls_per_minute: 6,
            overload: Enforcement::Off,
            emergency: vec!["0112".to_owned()],
        };
        assert_eq!(
            config.map(|config| config.admission).map_err(|problems| problems.to_string()),
            Ok(expected)
        );
    }

    #[test]
    fn what_would_hold_nobody_or_everybody_is_refused() {
        for (text, word) in [
            ("never = ['0.0.0.0/0']", "whole Internet"),
            ("never = ['10.0.0.1/8']", "bits after its prefix"),
            ("never = ['office']", "no address"),
            ("wrong_passwords_max = 0", "too small"),
            ("unproven_burst = 0", "too small"),
            ("scanners = ['']", "every client"),
            ("emergency = ['police']", "no number"),
            ("ban = '2h'\nban_max = '1h'", "above ban_max"),
        ] {
            let problems = parse(text).expect_err(text).to_string();
            assert!(problems.contains(word), "{text}: {problems}");
        }
    }

    fn parse(text: &str) -> Result<Config, crate::config::Problems> {
        Config::parse(Path::new("tandem.toml"), &format!("[admission]\n{text}\n"))
    }
}
