use std::path::Path;

use store::{ServerUrl, Tls};

use super::super::{Config, Problems};
use super::*;

const NODES: &str = "[[cluster.node]]\nname = \"a\"\npaths = [\"192.0.2.1\", \"10.9.0.1\"]\n\
                     [[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\", \"10.9.0.2\"]\n";

#[test]
fn every_key_reaches_its_setting() {
    let cluster = parse(&format!(
        r#"
        [cluster]
        key = "/run/key"
        addresses = ["192.0.2.10", "2001:db8::10"]
        interface = "eth0"
        vip = "hooks"
        lease = "200ms"
        port = 7000
        witness = ["tandem://192.0.2.9", "tandem://[2001:db8::9]:7001"]
        preferred = "B"
        preferred_after = "1m"
        gateways = ["auto", "192.0.2.254"]
        manage_routes = true
        on_active = ["/bin/move", "here"]
        on_standby = ["/bin/move", "away"]
        on_fault = ["/bin/tell"]
        hook_timeout = "20s"
        engine_silence = "1s"
        {NODES}
        [[cluster.node]]
        name = "c"
        paths = ["192.0.2.3:7003", "10.9.0.3"]
        [[cluster.check]]
        name = "upstream"
        command = ["/bin/check", "it"]
        interval = "7s"
        timeout = "2s"
        failures = 4
        "#
    ))
    .expect("it is right");

    let place = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let expected = Cluster {
        key_file: "/run/key".into(),
        addresses: ["192.0.2.10", "2001:db8::10"].map(|text| text.parse().expect("an address")).to_vec(),
        interface: Some("eth0".to_owned()),
        vip: Vip::Hooks,
        lease: Duration::from_millis(200),
        port: 7000,
        witness: vec![place("192.0.2.9:7000"), place("[2001:db8::9]:7001")],
        row: None,
        preferred: Some((1, Duration::from_secs(60))),
        gateways: vec![GatewayCheck::Default, GatewayCheck::At("192.0.2.254".parse().expect("an address"))],
        manage_routes: ManageRoutes::Yes,
        hooks: Hooks {
            on_active: words("/bin/move here"),
            on_standby: words("/bin/move away"),
            on_fault: words("/bin/tell"),
        },
        hook_timeout: Duration::from_secs(20),
        engine_silence: Duration::from_secs(1),
        nodes: vec![
            node("a", &["192.0.2.1:7000", "10.9.0.1:7000"]),
            node("b", &["192.0.2.2:7000", "10.9.0.2:7000"]),
            node("c", &["192.0.2.3:7003", "10.9.0.3:7000"]),
        ],
        checks: vec![CheckCommand {
            name: "upstream".to_owned(),
            command: words("/bin/check it"),
            interval: Duration::from_secs(7),
            timeout: Duration::from_secs(2),
            failures: 4,
        }],
        digest: cluster.digest,
    };
    assert_eq!(cluster, expected);
    assert_eq!(cluster.members(), 4);
}

#[test]
fn a_witness_in_a_database_is_that_of_the_accounts_or_one_of_its_own() {
    let row = |cluster: &str, database: &str| {
        let text = format!("[database]\ntls = \"encrypt\"\nca = \"/d.pem\"\n{database}\n{}", small(cluster));
        match parse(&text).expect("it is right").row.expect("there is one") {
            RowWitness::Database(found) => found,
            RowWitness::Etcd(_) => panic!("it is a database"),
        }
    };

    let of_accounts = row(
        "witness = \"database\"",
        "url = \"mysql://t:secret@10.0.0.5,10.0.0.6/t\"\npassword_file = \"/d.password\"",
    );
    let url = ServerUrl::parse("mysql://t:secret@10.0.0.5,10.0.0.6/t").expect("it is one");
    let expected = DatabaseServer {
        url,
        password_file: Some("/d.password".into()),
        tls: Tls::Encrypt,
        authorities: Some("/d.pem".into()),
        named_by: NamedBy::Database,
    };
    assert_eq!(of_accounts, expected);

    let own = row(
        "witness = [\"postgres://w@10.0.0.7/w\"]\nwitness_password_file = \"/w.password\"\nwitness_ca = \"/w.pem\"",
        "url = \"mysql://t@10.0.0.5/t\"",
    );
    let expected = DatabaseServer {
        url: ServerUrl::parse("postgres://w@10.0.0.7/w").expect("it is one"),
        password_file: Some("/w.password".into()),
        tls: Tls::Encrypt,
        authorities: Some("/w.pem".into()),
        named_by: NamedBy::Witness,
    };
    assert_eq!(own, expected);
}

#[test]
fn what_is_not_written_has_its_default() {
    let cluster = parse(&small("")).expect("it is right");

    assert_eq!(cluster.key_file, Path::new("/etc/tandem/cluster.key"));
    assert_eq!((cluster.vip, cluster.lease), (Vip::Tandem, Duration::from_millis(500)));
    assert_eq!((cluster.port, cluster.witness.len(), cluster.preferred), (7950, 0, None));
    assert_eq!(
        (cluster.gateways.as_slice(), cluster.manage_routes),
        (&[GatewayCheck::Default][..], ManageRoutes::No)
    );
    assert_eq!((cluster.hook_timeout, cluster.engine_silence).0, Duration::from_secs(10));
    assert_eq!(cluster.engine_silence, Duration::from_millis(250));
    assert_eq!(cluster.nodes[1], node("b", &["192.0.2.2:7950", "10.9.0.2:7950"]));
}

#[test]
fn a_node_finds_itself_by_its_name_with_or_without_its_domain() {
    let cluster = parse(&small("")).expect("it is right");

    assert_eq!(cluster.me("b"), Ok(1));
    assert_eq!(cluster.me("A"), Ok(0));
    assert_eq!(cluster.me("b.example.org"), Ok(1));
    let unfit = cluster.me("x").expect_err("there is none");
    assert!(unfit.to_string().contains("one of \"a\", \"b\""), "{unfit}");
}

#[test]
fn files_that_say_the_same_have_one_digest_and_others_have_another() {
    let digest = |text: &str| parse(text).expect(text).digest();
    let first = digest(&small("lease = \"1s\"\nport = 7000"));

    assert_eq!(first, 1_086_316_109_958_582_319, "it must be the same on every host and in every version");
    assert_eq!(digest(&small("# a remark\nport = 7000\n\nlease = '1s' # another")), first);
    assert_eq!(
        digest(&format!(
            "[node]\nname = \"b\"\n[log]\nlevel = \"debug\"\n{}",
            small("lease = \"1s\"\nport = 7000\ninterface = \"eth9\"\nkey = \"/k\"")
        )),
        first
    );
    for other in [
        small("lease = \"1s\"\nport = 7001"),
        small("lease = \"1s\""),
        format!("{}[sip]\ndomains = [\"example.org\"]", small("lease = \"1s\"\nport = 7000")),
        small("lease = \"1s\"\nport = 7000").replace("name = \"b\"", "name = \"c\""),
        small("lease = \"1s\"\nport = 7000")
            .replace("\"192.0.2.1\", \"10.9.0.1\"", "\"10.9.0.1\", \"192.0.2.1\""),
    ] {
        assert_ne!(digest(&other), first, "{other}");
    }
}

/// What stands in `[cluster]` (its first line is line 2 of the file), the line of the mistake, a part of what is said of
/// it, a part of the mend.
const MISTAKES: &[(&str, usize, &str, &str)] = &[
    ("key = \"cluster.key\"", 2, "is not a whole path", "begins with /"),
    ("addresses = [\"192.0.2.10/24\"]", 2, "is no address", "without a prefix"),
    ("addresses = [\"192.0.2.10\", \"192.0.2.10\"]", 2, "twice", "once"),
    ("addresses = []", 2, "is empty", "192.0.2.10"),
    ("addresses = [\"0.0.0.0\"]", 2, "no address of a host", "192.0.2.10"),
    ("addresses = [\"239.0.0.1\"]", 2, "multicast", "192.0.2.10"),
    ("addresses = [\"fe80::1\"]", 2, "link-local", "2001:db8::10"),
    ("addresses = [\"::ffff:192.0.2.1\"]", 2, "in the form of IPv6", "192.0.2.10"),
    ("interface = \"the first one\"", 2, "is no interface", "ip link"),
    ("vip = \"keepalived\"", 2, "is not known", "\"external\""),
    ("vip = \"hooks\"\non_active = [\"/bin/true\"]", 2, "needs on_standby", "vip = \"tandem\""),
    ("lease = \"50ms\"", 2, "is too short", "\"100ms\" to \"10s\""),
    ("lease = \"11s\"", 2, "is too long", "\"100ms\" to \"10s\""),
    ("port = 0", 2, "is too small", "1 to 65535"),
    ("witness = [\"192.0.2.9\"]", 2, "what kind of witness", "tandem://192.0.2.9:7950"),
    ("witness = [\"consul://192.0.2.9\"]", 2, "by `consul`", "tandem://192.0.2.9:7950"),
    ("witness = [\"etcd://192.0.2.9\", \"tandem://192.0.2.8\"]", 2, "of another kind", "name one witness"),
    ("witness = [\"etcd://192.0.2.9:0\"]", 2, "no port that can be read", "etcd://10.0.0.5:2379"),
    ("witness = [\"etcd://a b\"]", 2, "no host that can be read", "etcd://10.0.0.5:2379"),
    ("witness = [\"etcd://u:p@192.0.2.9\"]", 2, "has a password in it", "witness_password_file"),
    ("witness = [\"etcd://u@192.0.2.9\"]", 2, "has a user, but no password", "witness_password_file ="),
    ("witness = [\"etcd://192.0.2.9\", \"etcd://192.0.2.9:2379\"]", 2, "one server twice", "once"),
    (
        "witness = [\"etcd://10.9.0.2\"]",
        2,
        "address of node b: a witness on a node dies with it",
        "other hosts",
    ),
    ("witness_ca = \"/x\"", 2, "is for a witness in etcd or a database alone", "leave it out"),
    ("witness = \"database\"", 2, "is a database, and none is configured", "write database.url"),
    ("witness = \"postgres://10.0.0.5/tandem\"", 2, "names no user", "postgres://USER"),
    ("witness = \"mysql://t:secret@10.0.0.5/t\"", 2, "has a password in it", "witness_password_file"),
    ("witness = \"mysql://t@10.9.0.2,10.0.0.5/t\"", 2, "is on the address of node b", "other hosts"),
    ("witness = \"postgres://t@localhost/t\"", 2, "is on the node itself", "other hosts"),
    ("witness = [\"mysql://t@10.0.0.5/t\", \"mysql://t@10.0.0.6/t\"]", 2, "second database", "all its hosts"),
    ("witness = [\"mysql://t@10.0.0.5/t\", \"etcd://10.0.0.6\"]", 2, "of another kind", "name one witness"),
    ("witness = [\"etcd://10.0.0.6\", \"mysql://t@10.0.0.5/t\"]", 2, "of another kind", "name one witness"),
    ("witness = [\"tandem://192.0.2.9\", \"database\"]", 2, "of another kind", "name one witness"),
    ("witness = [\"tandem://db.example.org\"]", 2, "no address that can be read", "not resolved"),
    ("witness = [\"tandem://192.0.2.9:0\"]", 2, "no address that can be read", "tandem://"),
    ("witness = [\"tandem://192.0.2.9\", \"tandem://192.0.2.9:7950\"]", 2, "one address twice", "once"),
    (
        "witness = [\"tandem://10.9.0.2\"]",
        2,
        "address of node b: a witness on a node dies with it",
        "third host",
    ),
    ("witness = [\"tandem://192.0.2.10\"]", 2, "is the virtual address 192.0.2.10", "third host"),
    ("preferred = \"d\"", 2, "is none of the nodes", "did you mean \"a\"?"),
    ("gateways = [\"router\"]", 2, "is no address", "\"auto\""),
    ("gateways = \"auto\"", 2, "not a list", "[\"auto\"]"),
    ("manage_routes = \"yes\"", 2, "is a text, not true or false", "without quotes"),
    ("on_active = [\"move\", \"here\"]", 2, "begins with `move`", "by a path"),
    ("on_active = \"/bin/move here\"", 2, "not a list", "[\"/bin/move here\"]"),
    ("hook_timeout = \"1h\"", 2, "is too long", "\"10m\""),
    ("engine_silence = \"10ms\"", 2, "is too short", "\"100ms\""),
    ("leese = \"1s\"", 2, "is not a key", "did you mean `cluster.lease`?"),
    ("nodes = []", 2, "is not a key", "did you mean `cluster.node`?"),
    ("node = 5", 2, "is a list of tables", "[[cluster.node]]"),
];

#[test]
fn each_mistake_is_told_once_with_its_line_and_its_mend() {
    for &(line_of_cluster, line, what, mend) in MISTAKES {
        let addresses =
            if line_of_cluster.contains("addresses") { "" } else { "addresses = [\"192.0.2.10\"]\n" };
        let nodes = if line_of_cluster.starts_with("node =") { "" } else { NODES };
        expect(&format!("[cluster]\n{line_of_cluster}\n{addresses}{nodes}"), line, what, mend);
    }
}

#[test]
fn each_mistake_of_a_node_or_a_check_is_told_once_with_its_line_and_its_mend() {
    let a = "[[cluster.node]]\nname = \"a\"\npaths = [\"192.0.2.1\", \"10.9.0.1\"]\n";
    let with = |text: &str| format!("[cluster]\naddresses = [\"192.0.2.10\"]\n{text}");
    for (text, line, what, mend) in [
        (with(""), 1, "has no nodes", "two [[cluster.node]]"),
        (with(a), 1, "has only one node", "two [[cluster.node]]"),
        (format!("[cluster]\n{NODES}"), 1, "has no addresses", "192.0.2.10"),
        ("cluster = 5\n[sip]\n".to_owned(), 1, "is a table, not a value", "[cluster]"),
        (with(&format!("{a}[[cluster.node]]\nname = \"b\"")), 6, "has no paths", "paths = [\"192.0.2.1\"]"),
        (
            with(&format!("{a}[[cluster.node]]\npaths = [\"192.0.2.2\", \"10.9.0.2\"]")),
            6,
            "has no name",
            "name = \"a\"",
        ),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"A\"\npaths = [\"192.0.2.2\", \"10.9.0.2\"]")),
            7,
            "name of two nodes",
            "its own",
        ),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\"]")),
            8,
            "does not fit the paths of node a",
            "as many",
        ),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\", \"fd00::2\"]")),
            8,
            "does not fit the paths of node a",
            "IPv4 or IPv6",
        ),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\", \"10.9.0.1\"]")),
            8,
            "address of node a",
            "only this node",
        ),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = [\"192.0.2.2\", \"192.0.2.10\"]")),
            8,
            "virtual address 192.0.2.10",
            "only this node",
        ),
        (with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = []")), 8, "is empty", "192.0.2.1"),
        (
            with(&format!("{a}[[cluster.node]]\nname = \"b\"\npaths = [\"b.example.org\", \"10.9.0.2\"]")),
            8,
            "no address that can be read",
            "not resolved",
        ),
        (
            with(&format!("{NODES}[[cluster.check]]\ncommand = [\"/bin/true\"]")),
            9,
            "has no name",
            "\"upstream\"",
        ),
        (with(&format!("{NODES}[[cluster.check]]\nname = \"x\"")), 9, "has no command", "command ="),
        (
            with(&format!("{NODES}[[cluster.check]]\nname = \"x\"\ncommand = []")),
            11,
            "has no command",
            "command =",
        ),
        (
            with(&format!("{NODES}[[cluster.check]]\nname = \"x\"\ncommand = [\"true\"]")),
            11,
            "begins with `true`",
            "by a path",
        ),
        (
            with(&format!(
                "{NODES}[[cluster.check]]\nname = \"x\"\ncommand = [\"/bin/true\"]\n[[cluster.check]]\nname = \"x\"\ncommand = [\"/bin/true\"]"
            )),
            13,
            "name of two checks",
            "its own",
        ),
        (
            format!("[sip]\nlisten = [\"udp://192.0.2.1\"]\n{}", with(NODES)),
            4,
            "no address on which SIP is served",
            "\"udp://192.0.2.10:5060\"",
        ),
    ] {
        expect(&text, line, what, mend);
    }
}

fn expect(text: &str, line: usize, what: &str, mend: &str) {
    let problems = parse(text).expect_err(text);
    let problem = &problems.list[0];
    assert_eq!((problem.line, problems.list.len()), (line, 1), "{text}\n{problems}");
    assert!(problem.what.contains(what), "{text}\n{problems}");
    assert!(problem.mend.contains(mend), "{text}\n{problems}");
}

fn small(more: &str) -> String {
    format!("[cluster]\naddresses = [\"192.0.2.10\"]\n{more}\n{NODES}")
}

fn node(name: &str, paths: &[&str]) -> ClusterNode {
    let paths = paths.iter().map(|path| path.parse().expect("an address")).collect();
    ClusterNode { name: name.to_owned(), paths }
}

fn parse(text: &str) -> Result<Cluster, Problems> {
    Config::parse(Path::new("tandem.toml"), text).map(|config| config.cluster.expect("it has one"))
}
