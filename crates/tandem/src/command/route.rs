//! `tandem route`: where a number would go by a configuration, and why.
//!
//! Nothing is sent and no server is asked: the routes are tried by the same code as a call's, and the URIs are made by
//! the same. What only a call or a server knows is left out and said: which accounts there are, which gateways are up,
//! and what the Call-ID chooses among gateways of equal priority.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use routing::dial_plan::{Call, CallerName, Dialled, Goal, Misfit, Origin, listed, write_user};
use routing::{Gateway, Route, Settings};
use sip::{Aor, SipUri, Uri};
use transport::Listener;

use super::print;
use crate::config::{Config, place_name};
use crate::host;
use crate::table::Table;
use crate::tables;

/// Who calls where nobody is named: no route names it.
const SOME_USER: &str = "some-user";

/// A call that is not made.
#[derive(Debug, Args)]
pub struct Question {
    /// What is dialled: a number, USER@DOMAIN, or a sip: or tel: URI
    number: String,
    /// The user who calls; without it some user of ours whom no route names
    #[arg(long, value_name = "USER@DOMAIN")]
    from: Option<String>,
    /// The listener that the call comes in on, as in sip.listen; without it the first one
    #[arg(long, value_name = "udp://ADDRESS:PORT")]
    listener: Option<String>,
    /// The address that the call comes from; without it one that nothing names
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The configuration; without it /etc/tandem/tandem.toml if that is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Question {
    /// Answers it.
    pub fn run(self) -> Result<()> {
        let config = Config::load(self.config.as_deref())?;
        let mut settings = config.compile(&host::addresses()?)?;
        let of_tables = tables::last_read(&config);
        if let Some(lists) = &of_tables {
            tables::add(lists, &mut settings, &config);
        }
        let mut text = self.answer(&settings)?;
        if of_tables.is_none() && config.database.lists.dispatcher {
            text.push_str(
                "The table dispatcher was not looked at: no server has read it, or its copy is not for this user.\n",
            );
        }
        print(&text)
    }

    fn answer(&self, settings: &Settings) -> Result<String> {
        let plan = &settings.dial_plan;
        let listener = self.listener(settings)?;
        let caller = self.from.as_deref().map(|text| user(settings, text)).transpose()?;
        let home = match (&caller, settings.domains.first()) {
            (Some(aor), _) => aor.domain().to_owned(),
            (None, Some(domain)) => domain.clone(),
            (None, None) => listener.local.0.ip().to_string(),
        };
        let uri = self.uri(&home);
        let parsed = Uri::parse(uri.as_bytes()).ok();
        let dialled = parsed.as_ref().and_then(Dialled::of);
        let (Some(parsed), Some(dialled)) = (parsed, dialled) else {
            bail!(
                "`{}` is nothing that can be dialled: write a number, USER@DOMAIN, sip:… or tel:…",
                self.number
            );
        };
        let somebody = Aor::parse(&format!("{SOME_USER}@{home}"));
        let source = self.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let origin = match (plan.gateway_at(source), &caller, &somebody) {
            (Some(gateway), ..) => Origin::Gateway(&gateway.name),
            _ if settings.trusted_peer(source).is_some() || !listener.digest => Origin::Believed,
            (None, Some(user), _) | (None, None, Some(user)) => Origin::User(user),
            (None, None, None) => bail!("say who calls: --from USER@DOMAIN"),
        };
        let is_own = parsed.as_sip().is_none_or(|uri| routing::is_own(settings, uri));
        let call = Call {
            dialled: &dialled,
            is_own,
            listener: (listener.transport, listener.local.0),
            source,
            origin,
        };
        let mut text = format!("{uri}\n{}\n", origin_text(&call, listener, self.source));
        if is_own && parsed.as_sip().is_some() {
            text.push_str(
                "An account or alias of that name would be called before any route is looked at.\n",
            );
        }
        text.push('\n');
        match plan.find(&call) {
            Some(route) => tell_route(&mut text, route, &dialled.number, caller.as_ref()),
            None => bail!("{text}{}", no_route(settings, &call, &parsed)),
        }
        Ok(text)
    }

    fn listener<'s>(&self, settings: &'s Settings) -> Result<&'s Listener> {
        let mut listeners = settings.listeners.iter();
        let Some(wanted) = &self.listener else {
            return listeners.next().ok_or_else(|| anyhow!("the configuration has no listener"));
        };
        listeners.find(|listener| listener_name(listener) == *wanted).ok_or_else(|| {
            let names: Vec<String> = settings.listeners.iter().map(listener_name).collect();
            anyhow!("`{wanted}` is no listener on this host; there are {}", names.join(", "))
        })
    }

    /// The URI that a phone makes of what is dialled.
    fn uri(&self, home: &str) -> String {
        let text = self.number.as_str();
        if ["sip:", "sips:", "tel:"].iter().any(|scheme| text.starts_with(scheme)) {
            return text.to_owned();
        }
        if text.contains('@') {
            return format!("sip:{text}");
        }
        let mut user = Vec::with_capacity(text.len());
        write_user(text, &mut user);
        let host = if home.contains(':') { format!("[{home}]") } else { home.to_owned() };
        format!("sip:{}@{host}", String::from_utf8_lossy(&user))
    }
}

fn user(settings: &Settings, text: &str) -> Result<Aor> {
    let text = text.strip_prefix("sip:").unwrap_or(text);
    let uri = format!("sip:{text}");
    let found = SipUri::parse(uri.as_bytes()).ok().and_then(|uri| Some((Aor::of(&uri)?, uri)));
    let Some((aor, uri)) = found else { bail!("`{text}` is no address of record: write USER@DOMAIN") };
    if !settings.is_own_domain(&uri.host) {
        bail!(
            "{} is no domain of this server: whoever calls from there is a stranger, who gets 407",
            aor.domain()
        );
    }
    Ok(aor)
}

fn origin_text(call: &Call<'_>, listener: &Listener, source: Option<IpAddr>) -> String {
    let from = source.map_or_else(String::new, |address| format!(" from {address}"));
    let who = match call.origin {
        Origin::User(user) if user.user() == SOME_USER => "some user of ours whom no route names".to_owned(),
        Origin::User(user) => format!("{user}, who has proved it"),
        Origin::Gateway(name) => format!("the gateway {name}"),
        Origin::Believed => "somebody who needs no password there".to_owned(),
    };
    format!("by {who},{from} on {}", listener_name(listener))
}

fn listener_name(listener: &Listener) -> String {
    format!("{}://{}", listener.transport.uri_name(), listener.local)
}

fn tell_route(text: &mut String, route: &Route, number: &str, caller: Option<&Aor>) {
    let number = route.rewrite.apply(number);
    // Writing to a String never fails.
    let _ = match &route.goal {
        Goal::Reject(status) => writeln!(text, "Route `{}` answers {}.", route.name, status.0),
        Goal::User { user, domain } => {
            let user = user.as_deref().unwrap_or(&number);
            writeln!(text, "Route `{}` leads to our user {user}@{domain}.", route.name)
        }
        Goal::Gateways(lists) => {
            let gateways = listed(lists);
            let _ = writeln!(text, "Route `{}` leads to", route.name);
            let mut table =
                Table::new(["", "GATEWAY", "REQUEST-URI", "CALLER", "CALLER IN", "PRIORITY", "WEIGHT"]);
            for (place, gateway) in gateways.iter().enumerate() {
                table.push([
                    (place + 1).to_string(),
                    gateway.name.to_string(),
                    String::from_utf8_lossy(&gateway.number_uri(&number)).into_owned(),
                    caller.map_or_else(String::new, |caller| caller_text(route, gateway, caller)),
                    place_name(gateway.caller.place).to_owned(),
                    gateway.priority.to_string(),
                    gateway.weight.to_string(),
                ]);
            }
            let _ = write!(text, "{table}");
            if gateways.len() > 1 {
                text.push_str(
                    "Each is tried where those before it fail. Those that are down come last, and within a group the\n\
                     weight and the Call-ID choose among equal priorities.\n",
                );
            }
            if caller.is_none() {
                text.push_str("Say who calls with --from to see the caller.\n");
            }
            Ok(())
        }
    };
}

fn caller_text(route: &Route, gateway: &Gateway, caller: &Aor) -> String {
    // As From is read, so that a number is one here too.
    let uri = format!("sip:{caller}");
    let read = Uri::parse(uri.as_bytes()).ok().and_then(|uri| Dialled::of(&uri));
    let user = read.map_or_else(|| caller.user().to_owned(), |read| read.number);
    String::from_utf8_lossy(&gateway.caller_uri(route, &user, caller.domain())).into_owned()
}

fn no_route(settings: &Settings, call: &Call<'_>, uri: &Uri<'_>) -> String {
    let plan = &settings.dial_plan;
    let is_gateway = uri.as_sip().is_some_and(|uri| plan.is_gateway(&uri.host));
    let what = match call.origin {
        _ if call.is_own || is_gateway => "the call gets 404",
        Origin::Gateway(_) => "the call gets 404",
        Origin::User(_) | Origin::Believed => {
            "the call goes to that other server itself, if the caller may call there"
        }
    };
    let mut text = format!("No route fits: {what}.\n");
    for route in &plan.routes {
        if let Some(misfit) = route.misfit(call) {
            text.push_str(&format!("  {}: {}\n", route.name, misfit_text(route, misfit)));
        }
    }
    if plan.routes.is_empty() {
        text.push_str("The configuration has no [[route]].\n");
    }
    text.trim_end().to_owned()
}

fn misfit_text(route: &Route, misfit: Misfit) -> String {
    let fits = &route.fits;
    match misfit {
        Misfit::Number => "number is another".to_owned(),
        Misfit::Domain if fits.domains.is_empty() => "it is for our own domains".to_owned(),
        Misfit::Domain => format!("domain is {}", fits.domains.join(", ")),
        Misfit::Listener => "listener is another".to_owned(),
        Misfit::Source => {
            let sources: Vec<String> = fits.sources.iter().map(ToString::to_string).collect();
            format!("source is {}", sources.join(", "))
        }
        Misfit::Gateway => format!("from is {}", fits.gateways.join(", ")),
        Misfit::Caller => {
            let callers: Vec<String> = fits.callers.iter().map(caller_name).collect();
            format!("callers are {}", callers.join(", "))
        }
        Misfit::Unproven => {
            "whoever needs no password gets to a gateway only by a route with source, from or listener"
                .to_owned()
        }
    }
}

fn caller_name(caller: &CallerName) -> String {
    match caller {
        CallerName::Everybody => "*".to_owned(),
        CallerName::Domain(domain) => format!("*@{domain}"),
        CallerName::User(user) => user.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const FILE: &str = r#"
        [sip]
        listen = ["udp://192.0.2.5:5060", "tcp://192.0.2.5:5060"]
        domains = ["example.org"]
        [[gateway]]
        name = "carrier-b"
        group = "carrier"
        uri = "sip:203.0.113.80;transport=tcp"
        priority = 1
        strip = 1
        prefix = "00"
        [[gateway]]
        name = "carrier-a"
        group = "carrier"
        uri = "sip:sbc.carrier.example"
        sources = ["198.51.100.0/24"]
        caller_prefix = "+4930123"
        caller_domain = "carrier.example"
        [[route]]
        name = "national"
        number = ["0Z."]
        callers = ["*@example.org"]
        to = ["carrier"]
        strip = 1
        prefix = "+49"
        [[route]]
        name = "premium"
        number = ["0900."]
        listener = ["tcp://192.0.2.5:5060"]
        reject = 603
        [[route]]
        name = "in"
        from = ["carrier-a"]
        number = ["+4930123XX"]
        strip = 8
        to_user = "{number}@example.org"
    "#;

    #[test]
    fn each_gateway_is_shown_in_its_order_with_the_number_and_the_caller_that_it_gets() {
        let text = ask(&["030 1234".replace(' ', "").as_str(), "--from", "21@example.org"]).expect("a route");

        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in [
            "Route `national` leads to",
            "1 carrier-a sip:+49301234@sbc.carrier.example sip:+493012321@carrier.example P-Asserted-Identity 0 1",
            "2 carrier-b sip:0049301234@203.0.113.80;transport=tcp sip:21@example.org P-Asserted-Identity 1 1",
        ] {
            assert!(lines.iter().any(|it| it == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_user_and_a_refusal_are_told_too() {
        let text = ask(&["+493012342", "--source", "198.51.100.7"]).expect("a route");
        assert!(text.contains("the gateway carrier-a") && text.contains("our user 42@example.org"), "{text}");

        let text = ask(&["0900123", "--listener", "tcp://192.0.2.5:5060", "--from", "b@192.0.2.5"])
            .expect("a route");
        assert!(text.contains("Route `premium` answers 603."), "{text}");
    }

    #[test]
    fn where_nothing_fits_each_route_says_why_not() {
        let text = ask(&["0900123", "--from", "b@192.0.2.5"]).expect_err("no route").to_string();

        for part in ["404", "national: callers are *@example.org", "premium: listener", "in: number"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_question_that_makes_no_sense_is_told_so() {
        for (words, part) in [
            (
                &["030", "--listener", "udp://192.0.2.5:5061"][..],
                "udp://192.0.2.5:5060, tcp://192.0.2.5:5060",
            ),
            (&["030", "--from", "alice@example.net"], "is no domain of this server"),
            (&["030", "--from", "alice"], "USER@DOMAIN"),
            (&["sip:example.org"], "nothing that can be dialled"),
        ] {
            let text = ask(words).expect_err(part).to_string();
            assert!(text.contains(part), "{words:?}: {text}");
        }
    }

    fn ask(words: &[&str]) -> Result<String> {
        let settings = Config::parse(Path::new("tandem.toml"), FILE)
            .expect("it is right")
            .compile(&["192.0.2.5".parse().expect("an address")])
            .expect("it can be served");
        let mut question =
            Question { number: words[0].to_owned(), from: None, listener: None, source: None, config: None };
        for pair in words[1..].chunks(2) {
            match pair[0] {
                "--from" => question.from = Some(pair[1].to_owned()),
                "--listener" => question.listener = Some(pair[1].to_owned()),
                _ => question.source = Some(pair[1].parse().expect("an address")),
            }
        }
        question.answer(&settings)
    }
}
