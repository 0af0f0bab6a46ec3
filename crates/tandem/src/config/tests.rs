use std::path::Path;
use std::time::Duration;

use routing::{Algorithm, AtStop, Called, Keepalive, Login, Password, ServiceRoute, SessionTimers};

use super::*;

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(parse("").expect("it is right"), Config::default());
}

#[test]
fn the_defaults_are_those_of_the_machines() {
    let config = Config::default();

    assert_eq!(config.sip.proxy, Proxy::default());
    assert_eq!(config.registrar, Registrar::default());
    assert_eq!(config.nat, Nat::default());
    assert_eq!(config.digest, Digest::default());
    assert_eq!(config.tcp, ConnectionLimits::default());
    let timers = transaction::Timers::default();
    assert_eq!(
        (config.sip.timer_t1, config.sip.timer_t2, config.sip.timer_t4),
        (timers.t1, timers.t2, timers.t4)
    );
}

#[test]
fn every_key_reaches_its_setting() {
    let config = parse(
        r#"
        trusted = [{ address = "192.0.2.7" }, { address = "2001:db8::/32", name = "carrier" }]
        [node]
        name = "a"
        state_directory = "/tmp/a"
        threads = 3
        user = "tandem"
        [sip]
        listen = ["udp://10.0.0.5:5060 digest off"]
        domains = ["Example.org."]
        server = ""
        ring_timeout = "30s"
        serial_ring_timeout = "12s"
        calls_per_account = 3
        longest_call = "2h"
        session_expires = "30m"
        long_call_check = "1h"
        session_expires_min = "2m"
        timer_c = "4m"
        timer_t1 = "100ms"
        timer_t2 = "1s"
        timer_t4 = "2s"
        max_breadth = 7
        [sip.tcp]
        connections_max = 9
        connections_per_source_max = 8
        idle_timeout = "11s"
        message_timeout = "12s"
        [registrar]
        min_expires = "1s"
        max_expires = "1d"
        default_expires = "2m"
        expires_spread = 0
        contacts_max = 5
        service_route = "path"
        [auth]
        algorithms = ["MD5"]
        realm = "office"
        nonce_lifetime = "1m"
        [nat]
        keepalive = "crlf"
        keepalive_interval = "20s"
        keepalive_failures = 0
        [metrics]
        listen = "[::1]:9760"
        [log]
        level = "debug"
        format = "json"
        [[edge]]
        domain = "PBX.example."
        to = "sip:10.0.0.20:5070;transport=tcp"
        contact = "rewrite"
        from = "10.0.0.5"
        [[edge]]
        domain = "2001:db8::5"
        to = "sip:registrar.example"
        "#,
    )
    .expect("it is right");

    let second = Duration::from_secs(1);
    let node = Node {
        name: "a".into(),
        state_directory: Some("/tmp/a".into()),
        threads: 3,
        user: Some("tandem".into()),
    };
    assert_eq!(config.node, node);
    assert_eq!(config.sip.listen[0].digest, DigestRule::Off);
    assert_eq!(config.sip.domains, ["example.org"]);
    assert_eq!(config.sip.server, None);
    let proxy = Proxy {
        ring_timeout: 30 * second,
        serial_ring_timeout: 12 * second,
        calls_per_account: Some(3),
        longest_call: 7_200 * second,
        long_call_check: Some(3_600 * second),
        session: SessionTimers { expires: Some(1_800 * second), min: 120 * second },
        timer_c: 240 * second,
        max_breadth: 7,
    };
    assert_eq!(config.sip.proxy, proxy);
    assert_eq!(
        (config.sip.timer_t1, config.sip.timer_t2, config.sip.timer_t4),
        (second / 10, second, 2 * second)
    );
    assert_eq!(
        config.tcp,
        ConnectionLimits {
            connections_max: 9,
            connections_per_source_max: 8,
            idle_timeout: 11 * second,
            message_timeout: 12 * second
        }
    );
    assert_eq!(
        config.registrar,
        Registrar {
            min_expires: second,
            max_expires: 86_400 * second,
            default_expires: 120 * second,
            expires_spread_percent: 0,
            contacts_max: 5,
            service_route: ServiceRoute::WithPath,
        }
    );
    assert_eq!(config.digest.algorithms, [Algorithm::Md5]);
    assert_eq!((config.digest.realm.as_deref(), config.digest.nonce_lifetime), (Some("office"), 60 * second));
    assert_eq!(config.nat, Nat { keepalive: Keepalive::Crlf, interval: 20 * second, failures: 0 });
    let trusted: Vec<_> =
        config.trusted.iter().map(|peer| (peer.network.to_string(), peer.name.as_str())).collect();
    assert_eq!(trusted, [("192.0.2.7/32".into(), "192.0.2.7/32"), ("2001:db8::/32".into(), "carrier")]);
    let edges: Vec<_> =
        config.edges.iter().map(|edge| (&*edge.domain, &*edge.to, edge.contact, edge.from)).collect();
    assert_eq!(
        edges,
        [
            (
                "pbx.example",
                "sip:10.0.0.20:5070;transport=tcp",
                EdgeContact::Rewrite,
                "10.0.0.5".parse().ok()
            ),
            ("[2001:db8::5]", "sip:registrar.example", EdgeContact::Keep, None),
        ]
    );
    assert_eq!(config.metrics.listen, "[::1]:9760".parse().ok());
    assert_eq!(config.log, Log { level: LogLevel::Debug, format: LogFormat::Json });
}

#[test]
fn a_registration_has_what_was_written_and_what_follows_from_it() {
    let file = tempfile::NamedTempFile::new().expect("there is a place for it");
    std::fs::write(file.path(), " pass word\n").expect("it can be written");
    let text = format!(
        "[[registration]]\nname = \"a\"\nusername = \"4930\"\npassword_file = \"{}\"\n\
         registrar = \"sip:sip.carrier.example;transport=tcp\"\nto = \"*@Example.org\"\n\
         listener = \"udp://192.0.2.5:5060\"\nproxy = \"sip:192.0.2.1\"\nat_stop = \"remove\"\n\
         [[registration]]\nname = \"b\"\nusername = \"u\"\npassword = \"p\"\nrealm = \"r\"\n\
         registrar = \"sip:[2001:db8::1]:5080\"\n",
        file.path().display()
    );

    let trunks = parse(&text).expect("it is right").trunks;

    let whole = &trunks[0];
    assert_eq!(
        whole.login,
        Login { username: "4930".into(), password: Password::new("pass word"), realm: None }
    );
    assert_eq!(whole.called, Some(Called::Dialled { domain: "example.org".into() }));
    let registration = whole.registration.as_ref().expect("it is registered");
    assert_eq!(registration.address, "sip:4930@sip.carrier.example");
    assert_eq!(registration.contact_user, "4930");
    assert_eq!((registration.expires.as_secs(), registration.at_stop), (600, AtStop::Remove));
    assert!(registration.listener.is_some() && registration.proxy.is_some());
    assert_eq!(trunks[1].login.realm.as_deref(), Some("r"));
    assert_eq!(trunks[1].registration.as_ref().expect("it is registered").address, "sip:u@[2001:db8::1]");
    assert!(!format!("{trunks:?}").contains("pass word"));
}

#[test]
fn a_default_that_is_not_written_follows_what_is() {
    let expires = |text| parse(text).expect("it is right").registrar.default_expires.as_secs();

    assert_eq!(expires("[registrar]\nmax_expires = \"10m\""), 600);
    assert_eq!(expires("[registrar]\nmin_expires = \"2h\"\nmax_expires = \"3h\""), 7_200);
}

/// Each text, the line of its mistake, a part of what is said of it, a part of the mend.
const MISTAKES: &[(&str, usize, &str, &str)] = &[
    ("[sip]\n\nlisten = \"udp://*:5060\"", 3, "is a text, not a list", "[\"udp://*:5060\"]"),
    ("[sip]\nlisten = []", 2, "is empty", "[\"udp://*:5060\"]"),
    ("[database]\nlocation = \"own\"", 2, "[database] names no server", "write database.url"),
    ("[database]\naddress_groups = [1]", 2, "[database] names no server", "write database.url"),
    (
        "[sip]\nlisten = [\n  \"udp://*:5060\",\n  \"udp://0.0.0.0:5060\",\n]",
        4,
        "names no address",
        "\"udp://*:5060\"",
    ),
    ("[sip]\nlisten = [\"udp://*:5060\", \"udp://*:5060\"]", 2, "twice", "once"),
    ("[sip]\nlisten = [5060]", 2, "is a number, not a text", "\"5060\""),
    ("[sip]\nlisen = []", 2, "is not a key", "did you mean `sip.listen`?"),
    ("[sip]\nrealm = \"x\"", 2, "is not a key", "did you mean `realm` of [auth]?"),
    ("[sip]\ncertificate_chain = \"x\"", 2, "is not a key", "tandem reference"),
    ("listen = []", 1, "is not a key", "did you mean `listen` of [sip]?"),
    ("[registar]\nmin_expires = \"1s\"", 1, "is not a key", "did you mean `registrar`?"),
    ("[sip.tpc]\nconnections_max = 1", 1, "is not a key", "did you mean `sip.tcp`?"),
    ("sip = 5", 1, "is a table, not a value", "[sip]"),
    ("[sip]\nring_timeout = 30", 2, "has no unit", "\"30s\""),
    ("[sip]\nring_timeout = \"30\"", 2, "is not a duration", "\"30s\""),
    ("[sip]\nring_timeout = true", 2, "not a text", "\"30s\""),
    ("[sip]\nring_timeout = \"2h\"", 2, "is too long", "\"1s\" to \"1h\""),
    ("[sip]\ntimer_c = \"3m\"", 2, "is too short", "\"3m1s\""),
    ("[sip]\ntimer_t1 = \"8s\"", 2, "above timer_t2", "not above timer_t2"),
    ("[sip]\nmax_breadth = 0", 2, "is too small", "1 to 1000"),
    ("[sip]\nmax_breadth = -1", 2, "is too small", "1 to 1000"),
    ("[sip]\nmax_breadth = 1.5", 2, "is a fraction, not a whole number", "1 to 1000"),
    ("[sip]\nmax_breadth = \"60\"", 2, "is a text, not a whole number", "without quotes"),
    ("[sip]\nmax_breadth = 99999999999999999999999999", 2, "is too large", "1 to 1000"),
    ("[sip]\ndomains = [\"192.0.2.1\"]", 2, "is an address", "leave it out"),
    ("[sip]\ndomains = [\"sip:example.org\"]", 2, "more than a domain", "\"example.org\""),
    ("[sip]\ndomains = [\"exa mple\"]", 2, "is no domain", "\"example.org\""),
    ("[sip]\nserver = \"a\\r\\nEvil: yes\"", 2, "control character", "one line"),
    ("[sip.tcp]\nconnections_per_source_max = 20000", 2, "above connections_max", "10000"),
    ("[registrar]\nmin_expires = \"2h\"", 2, "leaves nothing to wish", "not above max_expires"),
    ("[registrar]\ndefault_expires = \"2h\"", 2, "is not between", "\"1m\" to \"1h\""),
    (
        "[registrar]\nmax_expires = \"30m\"\ndefault_expires = \"40m\"",
        3,
        "is not between",
        "\"1m\" to \"30m\"",
    ),
    ("[registrar]\nmin_expires = \"1500ms\"", 2, "parts of a second", "whole seconds"),
    ("[auth]\nalgorithms = [\"SHA256\"]", 2, "is not known", "did you mean \"SHA-256\"?"),
    ("[auth]\nalgorithms = [\"MD5\", \"MD5\"]", 2, "twice", "once"),
    ("[auth]\nalgorithms = []", 2, "is empty", "MD5"),
    ("[auth]\nmd5_only_agents = [\" \"]", 2, "names every client", "User-Agent"),
    ("[auth]\nrealm = 'a\"b'", 2, "no realm may have", "quotes"),
    ("[nat]\nkeepalive = \"option\"", 2, "is not known", "did you mean \"options\"?"),
    ("[nat]\nkeepalive = false", 2, "not a text", "\"off\""),
    ("[node]\nstate_directory = \"state\"", 2, "not a whole path", "begins with /"),
    ("[database]\nurl = \"oracle://a:b@c/d\"", 2, "of no kind", "postgres:// or mysql://"),
    ("[database]\nurl = \"mysql://a:b@c/d?ssl\"", 2, "has options", "database.tls"),
    ("[database]\nca = \"a.pem\"", 2, "not a whole path", "begins with /"),
    ("[database]\ntimeout = \"1m\"", 2, "", "20s"),
    ("[database]\nlocation = \"common\"", 2, "is not known", "\"own\""),
    ("[database]\nlocation = \"shared\"", 2, "[database] names no server", "write database.url"),
    ("[database]\nlocation_peers = [\"192.0.2.30:5060\"]", 2, "is no address", "without a port"),
    ("[[trusted]]\nname = \"x\"", 1, "has no address", "198.51.100.0/24"),
    ("[[trusted]]\naddress = \"carrier.example.org\"", 2, "is no address", "198.51.100.0/24"),
    ("[[trusted]]\naddress = \"0.0.0.0/0\"", 2, "trusts the whole Internet", "open relay"),
    ("[[trusted]]\naddress = \"10.0.0.1/8\"", 2, "bits after its prefix", "\"10.0.0.0/8\""),
    ("[[trusted]]\nadress = \"10.0.0.0/8\"", 2, "is not a key", "did you mean `trusted.address`?"),
    ("[trusted]\naddress = \"10.0.0.0/8\"", 1, "is a list of tables", "[[trusted]]"),
    ("[[edge]]\ndomain = \"a.example\"", 1, "lacks its domain or where", "to = \"sip:10.0.0.20:5060\""),
    ("[[edge]]\nto = \"10.0.0.20\"", 2, "is no SIP URI", "\"sip:10.0.0.20:5060\""),
    ("[[edge]]\nto = \"sip:x@10.0.0.20\"", 2, "more than a host", "\"sip:10.0.0.20:5060\""),
    ("[[edge]]\nto = \"sips:10.0.0.20\"", 2, "a transport that", "transport=tcp"),
    ("[[edge]]\nto = \"sip:10.0.0.20:0\"", 2, "leads to no host", "\"sip:10.0.0.20:5060\""),
    ("[[edge]]\ndomain = \"sip:a.example\"", 2, "more than a domain", "\"example.org\""),
    ("[[edge]]\nfrom = \"here\"", 2, "is no address", "10.0.0.10"),
    (
        "edge = [{ domain = \"a.example\", to = \"sip:a\", from = \"10.0.0.9\" }]\n[sip]\nlisten = [\"udp://10.0.0.5\"]",
        1,
        "where SIP is not served",
        "udp://10.0.0.9:5060",
    ),
    ("[[edge]]\ncontact = \"path\"", 2, "is not known", "\"rewrite\""),
    (
        "edge = [{ domain = \"A.example\", to = \"sip:a\" }, { domain = \"a.example.\", to = \"sip:b\" }]",
        1,
        "a second time",
        "once",
    ),
    (
        "edge = [{ domain = \"a.example\", to = \"sip:a\" }]\n[sip]\ndomains = [\"a.example\"]",
        1,
        "one of sip.domains",
        "in one of them",
    ),
    ("[[registration]]\nusername = \"a\"\npassword = \"b\"", 1, "has no name", "name ="),
    ("[[registration]]\nname = \"a\"\npassword = \"b\"", 1, "has no username", "username"),
    ("[[registration]]\nname = \"a\"\nusername = \"b\"", 1, "has no password", "password_file"),
    ("[[registration]]\nname = \"a\"\nusername = \"b\"\npassword = \"c\"", 1, "has no registrar", "sip:"),
    ("[[registration]]\npassword = 5", 2, "not a text", "quotes"),
    ("[[registration]]\npassword = \"\"", 2, "is empty", "carrier gave"),
    ("[[registration]]\npassword_file = \"secret\"", 2, "neither a whole path", "LoadCredential"),
    ("[[registration]]\npassword_file = \"/nowhere/secret\"", 2, "can not be read", "let the user"),
    ("[[registration]]\nregistrar = \"carrier.example\"", 2, "is no SIP URI", "\"sip:sip.carrier.example\""),
    ("[[registration]]\nregistrar = \"sips:carrier.example\"", 2, "wants TLS", "sip:"),
    ("[[registration]]\nregistrar = \"sip:me@carrier.example\"", 2, "has a user", "sip:sip.carrier"),
    ("[[registration]]\naddress = \"sip:carrier.example\"", 2, "has no user", "493012345@"),
    ("[[registration]]\nto = \"reception\"", 2, "no address of an account", "*@example.org"),
    ("[[registration]]\nto = \"*@a b\"", 2, "has no domain", "*@example.org"),
    ("[[registration]]\nlistener = \"udp://*:5060\"", 2, "names no single listener", "203.0.113.10"),
    ("[[registration]]\nexpires = \"5s\"", 2, "too short", "\"20s\""),
    ("[[registration]]\nat_stop = \"leave\"", 2, "not known", "\"stay\""),
    ("[[registration]]\nregistrer = \"x\"", 2, "is not a key", "did you mean `registration.registrar`?"),
    ("[registration]\nname = \"x\"", 1, "is a list of tables", "[[registration]]"),
    (
        "[[registration]]\nname = \"a\"\nusername = \"b\"\npassword = \"c\"\nregistrar = \"sip:c\"\n\
         [[registration]]\nname = \"a\"\nusername = \"d\"\npassword = \"c\"\nregistrar = \"sip:c\"",
        6,
        "name of another",
        "of its own",
    ),
    (
        "[[registration]]\nname = \"a\"\nusername = \"b\"\npassword = \"c\"\nregistrar = \"sip:c\"\n\
         [[registration]]\nname = \"d\"\nusername = \"b\"\npassword = \"c\"\nregistrar = \"sip:e\"",
        6,
        "contact_user of another",
        "of its own",
    ),
    ("[log]\nlevel = \"verbose\"", 2, "is not known", "\"info\""),
    ("[log]\nlevel = \"info\"\nlevel = \"debug\"", 3, "not TOML", "toml.io"),
    ("[log\nlevel = \"info\"", 1, "not TOML", "toml.io"),
    ("[sip]\nring_timeout = \"2m\n", 2, "not TOML", "toml.io"),
];

#[test]
fn each_mistake_is_told_with_its_line_and_its_mend() {
    for &(text, line, what, mend) in MISTAKES {
        let problems = parse(text).expect_err(text);
        let problem = &problems.list[0];
        assert_eq!(problem.line, line, "{text}\n{problems}");
        assert!(problem.what.contains(what), "{text}\n{problems}");
        assert!(problem.mend.contains(mend), "{text}\n{problems}");
    }
}

#[test]
fn a_mistake_is_reported_once_and_alone() {
    for &(text, _, what, _) in MISTAKES {
        let problems = parse(text).expect_err(text);
        let is_syntax = what == "not TOML";
        assert!(is_syntax || problems.list.len() == 1, "{text}\n{problems}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = "[sip]\nlisten = [\"tls://*\", \"udp://x\"]\nserer = \"\"\n[auth]\nalgorithms = [\"MD4\"]\n\
                [registrar]\nmax_expires = \"2s\"\n[nat]\nkeepalive_interval = 25\n";

    let problems = parse(text).expect_err("it is wrong");

    let told: Vec<_> = problems.list.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, "sip.listen"),
            (2, "sip.listen"),
            (3, "sip.serer"),
            (5, "auth.algorithms"),
            (7, "registrar.max_expires"),
            (9, "nat.keepalive_interval"),
        ]
    );
    assert_eq!(problems.list[0].value, "\"tls://*\"");
    assert_eq!(problems.list[5].value, "25");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/tandem.toml"))).expect_err("it is not there");

    assert!(error.to_string().starts_with("/nowhere/tandem.toml: "), "{error}");
}

#[test]
fn every_example_is_right() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .expect("the examples are there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    names.sort();
    assert!(names.len() >= 3);

    for name in names {
        if let Err(error) = Config::read(&name) {
            panic!("{error}");
        }
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("tandem.toml"), text)
}

#[test]
fn metrics_are_not_served_where_others_are() {
    let problem = |listen: &str, more: &str| {
        let wrong = parse(&format!("[metrics]\nlisten = '{listen}'\n{more}"));
        wrong.map(|config| config.metrics.listen).map_err(|problems| problems.to_string())
    };
    let cluster = "[cluster]\naddresses = ['192.0.2.10']\nvip = 'external'\n\
                   [[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n[[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']";

    assert_eq!(problem("", ""), Ok(None));
    assert_eq!(problem("[::1]:9760", cluster), Ok("[::1]:9760".parse().ok()));
    assert_eq!(
        problem("127.0.0.1:5060", "[sip]\nlisten = ['udp://*:5060']"),
        Ok("127.0.0.1:5060".parse().ok())
    );
    for (listen, more, part) in [
        ("127.0.0.1", "", "is no address with a port"),
        ("localhost:9760", "", "is no address with a port"),
        ("127.0.0.1:0", "", "has no port"),
        ("127.0.0.1:5060", "", "is where SIP is served: sip.listen has tcp://*:5060"),
        ("0.0.0.0:5061", "[sip]\nlisten = ['tcp://192.0.2.1:5061']", "is where SIP is served"),
        ("192.0.2.10:9760", cluster, "is a virtual address, which a standby does not have"),
    ] {
        let error = problem(listen, more).expect_err("it is wrong");
        assert!(error.contains("metrics.listen") && error.contains(part), "{listen}: {error}");
    }
}

#[test]
fn records_in_the_database_need_one_and_fill_columns_by_the_names_of_their_fields() {
    let config = parse(
        "[database]\nurl = 'mysql://tandem@localhost/tandem'\n\
         [records]\ndatabase = true\nacc = false\nacc_columns = { src_user = 'caller_user', ip = 'source_ip' }",
    )
    .expect("it is right");
    let problems = |text: &str| parse(text).expect_err("it is wrong").to_string();

    assert_eq!(config.records.database, crate::records::InDatabase::Written);
    assert_eq!(config.records.acc, store::OtherCallTables::LeftAlone);
    let mut columns = config.records.acc_columns;
    columns.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        columns,
        [
            ("ip".to_owned(), store::RecordField::SourceIp),
            ("src_user".to_owned(), store::RecordField::CallerUser)
        ]
    );
    assert!(problems("[records]\ndatabase = true").contains("write database.url"));
    assert!(
        problems("[records]\nacc_columns = { a = 'caller_uesr' }").contains("did you mean \"caller_user\"")
    );
    assert!(problems("[records]\nacc_columns = { 'a;b' = 'caller' }").contains("letters, digits and _"));
    assert!(problems("[records]\nacc_columns = ['a']").contains("is a list, not a table"));
}
