//! `[[registration]]`: our own accounts at carriers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use routing::{AtStop, Called, Login, Password, Registration, Trunk};
use sip::{Aor, SipUri};
use transport::{LocalAddr, Transport};

use super::fields::{Field, List, line_of_text};
use super::listen::{Listen, Place};
use super::problem::Wrong;
use super::value::{Value, Wrongs};

/// Bytes of a password, or of the file that has it.
const PASSWORD_BYTES_MAX: usize = 255;

/// An hour is what carriers grant mostly; more than a day they never do.
const EXPIRES_MAX: Duration = Duration::from_secs(86_400);

/// `[[registration]]`.
pub const REGISTRATIONS: List<RegistrationDraft> = List {
    name: "registration",
    meaning: &[
        "Our own accounts at carriers: they are registered there, and answer when a carrier asks for a password.",
        "Repeat the table for each of them. There is none by default. `tandem registrations` shows how they stand.",
    ],
    example: "name, username, password_file and registrar",
    // Each of them sends requests by itself.
    entries_max: 1_000,
    fields: REGISTRATION,
};

/// A `[[registration]]` that is being read.
#[derive(Clone, Debug)]
pub struct RegistrationDraft {
    name: String,
    registrar: String,
    address: String,
    username: String,
    password: Option<Password>,
    realm: String,
    contact_user: String,
    expires: Duration,
    listener: Option<(Transport, SocketAddr)>,
    proxy: String,
    called: Option<Called>,
    at_stop: AtStop,
}

const REGISTRATION: &[Field<RegistrationDraft>] = &[
    Field {
        key: "name",
        default: "\"carrier\"",
        meaning: &["How logs and other tables name it. It must be given."],
        set: |draft, value| {
            draft.name = line_of_text(value)?;
            Ok(())
        },
    },
    Field {
        key: "username",
        default: "\"493012345\"",
        meaning: &["The name that goes with the password. It must be given."],
        set: |draft, value| {
            draft.username = line_of_text(value)?;
            if draft.username.contains(['"', '\\']) {
                return Err(value.wrong("has a character that no name may have", "leave out quotes").into());
            }
            Ok(())
        },
    },
    Field {
        key: "password",
        default: "\"secret\"",
        meaning: &["The password; or write password_file instead."],
        set: |draft, value| {
            draft.password = Some(password(value, value.text()?)?);
            Ok(())
        },
    },
    Field {
        key: "password_file",
        default: "\"\"",
        meaning: &[
            "A file with the password: a whole path, or the name of a credential that systemd passes on",
            "(LoadCredential=). Spaces and line ends around it do not count.",
        ],
        set: |draft, value| {
            let text = value.text()?;
            if !text.is_empty() {
                draft.password = Some(password(value, &read_password(value, text)?)?);
            }
            Ok(())
        },
    },
    Field {
        key: "realm",
        default: "\"\"",
        meaning: &[
            "The only realm that is given a proof of the password. Empty: the first that the carrier names.",
        ],
        set: |draft, value| {
            draft.realm = line_of_text(value)?;
            Ok(())
        },
    },
    Field {
        key: "registrar",
        default: "\"sip:sip.carrier.example\"",
        meaning: &["Where it is registered; a port or `;transport=tcp` may follow. It must be given."],
        set: |draft, value| {
            draft.registrar = uri(value, Wanted::Host)?;
            Ok(())
        },
    },
    Field {
        key: "address",
        default: "\"sip:493012345@sip.carrier.example\"",
        meaning: &["What is registered. Empty or absent: the username at the registrar's host."],
        set: |draft, value| {
            draft.address = uri(value, Wanted::User)?;
            Ok(())
        },
    },
    Field {
        key: "contact_user",
        default: "\"\"",
        meaning: &[
            "What the carrier is to put before the @ when it calls us; each registration needs its own. Empty: the",
            "user of the address.",
        ],
        set: |draft, value| {
            draft.contact_user = user(value)?;
            Ok(())
        },
    },
    Field {
        key: "to",
        default: "\"reception@example.org\"",
        meaning: &[
            "Whom calls from this carrier are for. `*` stands for the number that was dialled: \"*@example.org\".",
            "Empty: calls are not let in by this.",
        ],
        set: |draft, value| {
            draft.called = called(value)?;
            Ok(())
        },
    },
    Field {
        key: "expires",
        default: "\"10m\"",
        meaning: &["How long a registration is wished to last. It is made anew in time."],
        set: |draft, value| {
            draft.expires = value.duration(Duration::from_secs(20)..=EXPIRES_MAX)?;
            Ok(())
        },
    },
    Field {
        key: "listener",
        default: "\"\"",
        meaning: &[
            "The listener to register from: \"udp://203.0.113.10:5060\". Empty: any that reaches the carrier.",
        ],
        set: |draft, value| {
            draft.listener = listener(value)?;
            Ok(())
        },
    },
    Field {
        key: "proxy",
        default: "\"\"",
        meaning: &["A proxy of the carrier that REGISTERs go through, as a SIP URI. Empty: none."],
        set: |draft, value| {
            draft.proxy = uri(value, Wanted::Host)?;
            Ok(())
        },
    },
    Field {
        key: "at_stop",
        default: "\"stay\"",
        meaning: &["When this server stops: \"stay\" lets it run out, \"remove\" takes it back."],
        set: |draft, value| {
            draft.at_stop = value.word(&[("stay", AtStop::Stay), ("remove", AtStop::Remove)])?;
            Ok(())
        },
    },
];

impl Default for RegistrationDraft {
    fn default() -> Self {
        Self {
            name: String::new(),
            registrar: String::new(),
            address: String::new(),
            username: String::new(),
            password: None,
            realm: String::new(),
            contact_user: String::new(),
            expires: Duration::from_secs(600),
            listener: None,
            proxy: String::new(),
            called: None,
            at_stop: AtStop::Stay,
        }
    }
}

impl RegistrationDraft {
    /// The account, or what is missing and how to mend it.
    pub fn build(self, others: &[Arc<Trunk>]) -> Result<Trunk, (&'static str, &'static str)> {
        if self.name.is_empty() {
            return Err(("has no name", "give it a name = \"carrier\""));
        }
        if self.username.is_empty() {
            return Err(("has no username", "give it the username of the account at the carrier"));
        }
        let Some(password) = self.password else {
            return Err(("has no password", "give it a password_file = \"/etc/tandem/carrier.password\""));
        };
        if self.registrar.is_empty() {
            return Err(("has no registrar", "give it a registrar = \"sip:sip.carrier.example\""));
        }
        if others.iter().any(|other| *other.name == *self.name) {
            return Err(("has the name of another registration", "give each a name of its own"));
        }
        let address = match (self.address.as_str(), host(&self.registrar)) {
            ("", Some(host)) => format!("sip:{}@{host}", self.username),
            (address, _) => address.to_owned(),
        };
        let user = SipUri::parse(address.as_bytes()).ok().and_then(|uri| uri.user.map(<[u8]>::to_vec));
        let contact_user = match (self.contact_user, user) {
            (contact_user, _) if !contact_user.is_empty() => contact_user,
            (_, user) => String::from_utf8_lossy(&user.unwrap_or_default()).into_owned(),
        };
        let registration = (!self.registrar.is_empty()).then_some(Registration {
            registrar: self.registrar,
            address,
            contact_user,
            expires: self.expires,
            listener: self.listener.map(|(transport, local)| (transport, LocalAddr(local))),
            proxy: Some(self.proxy).filter(|proxy| !proxy.is_empty()),
            at_stop: self.at_stop,
        });
        let contact = |trunk: &Trunk| trunk.registration.as_ref().map(|it| it.contact_user.clone());
        let mine = registration.as_ref().map(|it| it.contact_user.clone());
        if mine.as_ref().is_some_and(|user| SipUri::parse(format!("sip:{user}@h").as_bytes()).is_err()) {
            return Err((
                "has no address that can be registered",
                "give it an address = \"sip:493012345@carrier\"",
            ));
        }
        if mine.is_some() && others.iter().any(|other| contact(other) == mine) {
            return Err((
                "has the contact_user of another registration",
                "give each a contact_user of its own",
            ));
        }
        Ok(Trunk {
            name: self.name.into(),
            login: Login {
                username: self.username,
                password,
                realm: Some(self.realm).filter(|realm| !realm.is_empty()),
            },
            registration,
            called: self.called,
        })
    }
}

/// What a URI must have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Host,
    User,
}

fn uri(value: &Value<'_>, wanted: Wanted) -> Result<String, Wrong> {
    let text = value.text()?.trim();
    let mend = match wanted {
        Wanted::Host => "write \"sip:sip.carrier.example\", perhaps with \":5080\" or \";transport=tcp\"",
        Wanted::User => "write \"sip:493012345@sip.carrier.example\"",
    };
    if text.is_empty() {
        return Ok(String::new());
    }
    let uri = match SipUri::parse(text.as_bytes()) {
        Ok(uri) if uri.secure => {
            return Err(value.wrong("wants TLS, which this version does not speak", mend));
        }
        Ok(uri) => uri,
        Err(_) => return Err(value.wrong("is no SIP URI", mend)),
    };
    if uri.headers.is_some() || uri.password.is_some() || text.contains(['<', '>', '"', ',', ' ']) {
        return Err(value.wrong("is more than a SIP URI of a host", mend));
    }
    match (wanted, uri.user) {
        (Wanted::Host, None) if transport::next_hop(&uri).is_err() => {
            Err(value.wrong("leads to nothing that this server can reach", mend))
        }
        (Wanted::Host, None) | (Wanted::User, Some(_)) => Ok(text.to_owned()),
        (Wanted::Host, Some(_)) => Err(value.wrong("has a user before the host", mend)),
        (Wanted::User, None) => Err(value.wrong("has no user before the host", mend)),
    }
}

fn user(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?.trim();
    let is_user = |uri: SipUri<'_>| uri.user == Some(text.as_bytes());
    let is_right = text.is_empty() || SipUri::parse(format!("sip:{text}@h").as_bytes()).is_ok_and(is_user);
    match is_right && !text.contains(['<', '>', '"', ',', ' ']) {
        true => Ok(text.to_owned()),
        false => {
            Err(value.wrong("can not stand before the @ of a URI", "write letters and digits: \"trunk1\""))
        }
    }
}

fn called(value: &Value<'_>) -> Result<Option<Called>, Wrongs> {
    let text = value.text()?.trim();
    let text = text.strip_prefix("sip:").unwrap_or(text);
    let mend = "write \"reception@example.org\", or \"*@example.org\" for the number that was dialled";
    match text.split_once('@') {
        None if text.is_empty() => Ok(None),
        Some(("*", host)) => match host.parse::<std::net::IpAddr>() {
            Ok(address) => Ok(Some(Called::Dialled { domain: address.to_string() })),
            Err(_) => Ok(Some(Called::Dialled { domain: domain_of(value, host)? })),
        },
        _ => match Aor::parse(text) {
            Some(aor) => Ok(Some(Called::One(aor))),
            None => Err(value.wrong("is no address of an account", mend).into()),
        },
    }
}

fn domain_of(value: &Value<'_>, host: &str) -> Result<String, Wrong> {
    match super::listen::is_host_name(host) {
        true => Ok(host.trim_end_matches('.').to_ascii_lowercase()),
        false => Err(value.wrong("has no domain behind the @", "write \"*@example.org\"")),
    }
}

fn listener(value: &Value<'_>) -> Result<Option<(Transport, SocketAddr)>, Wrong> {
    if value.text()?.is_empty() {
        return Ok(None);
    }
    let mend = "write one of sip.listen as it stands there: \"udp://203.0.113.10:5060\"";
    match Listen::read(value)? {
        Listen { transport, place: Place::At(local), .. } => Ok(Some((transport, local))),
        Listen { .. } => Err(value.wrong("names no single listener", mend)),
    }
}

fn host(registrar: &str) -> Option<String> {
    let uri = SipUri::parse(registrar.as_bytes()).ok()?;
    Some(uri.host.to_string())
}

fn password(value: &Value<'_>, text: &str) -> Result<Password, Wrong> {
    if text.is_empty() {
        return Err(value.wrong("is empty", "write the password that the carrier gave"));
    }
    if text.len() > PASSWORD_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(value.wrong("is no password", "write one line of at most 255 bytes"));
    }
    Ok(Password::new(text))
}

fn read_password(value: &Value<'_>, name: &str) -> Result<String, Wrong> {
    let path = match Path::new(name).is_absolute() {
        true => PathBuf::from(name),
        false => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) if !name.contains('/') => Path::new(&directory).join(name),
            _ => {
                let mend = "write a path that begins with /, or pass a credential on with LoadCredential=";
                return Err(value.wrong("is neither a whole path nor a credential of systemd", mend));
            }
        },
    };
    let mend = "put the password into it, and let the user that runs the server read it";
    let text = std::fs::read_to_string(&path)
        .map_err(|error| value.wrong(format!("can not be read: {error}"), mend))?;
    Ok(text.trim().to_owned())
}
