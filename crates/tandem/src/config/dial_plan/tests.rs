use std::path::Path;

use routing::dial_plan::{CallerPlace, Goal, Pattern};

use crate::config::{Config, Problems};

const CARRIER: &str = "[[gateway]]\nname = \"a\"\nuri = \"sip:198.51.100.1\"\n";

#[test]
fn gateways_and_routes_are_read_and_a_group_is_all_of_its_gateways() {
    let plan = parse(
        "[[gateway]]\nname = \"a\"\ngroup = \"carrier\"\nuri = \"sip:198.51.100.1;transport=tcp\"\nprobe = \"off\"\n\
         sources = [\"198.51.100.0/24\"]\ncaller_in = \"From\"\nset_headers = [\"X-Trunk: 7: 8\"]\n\
         [[gateway]]\nname = \"b\"\ngroup = \"carrier\"\nuri = \"sip:sbc.carrier.example\"\npriority = 7\ncalls_max = 30\n\
         [[route]]\nnumber = [\"00.\"]\nto = [\"b\", \"carrier\"]\nstrip = 2\nprefix = \"+\"\n\
         [[route]]\nname = \"in\"\nfrom = [\"carrier\"]\nto_user = \"{number}@example.org\"\n",
    )
    .expect("it is right")
    .dial_plan;

    let a = plan.gateway("a").expect("it is there");
    assert_eq!((a.watch.interval, a.caller.place, a.sources.len()), (None, CallerPlace::From, 1));
    assert_eq!(a.headers.set, [("X-Trunk".into(), "7: 8".into())]);
    assert_eq!((a.calls_max, plan.gateway("b").expect("it is there").calls_max), (None, Some(30)));
    let out = &plan.routes[0];
    assert_eq!((&*out.name, out.rewrite.apply("0049301")), ("route 1", "+49301".to_owned()));
    assert_eq!(out.fits.numbers, [Pattern::parse("00.").expect("a pattern")]);
    let Goal::Gateways(lists) = &out.goal else { panic!("{out:?}") };
    let names: Vec<Vec<&str>> =
        lists.iter().map(|list| list.iter().map(|gateway| &*gateway.name).collect()).collect();
    assert_eq!(names, [vec!["b"], vec!["a", "b"]]);
    assert_eq!(plan.routes[1].fits.gateways, ["a".into(), "b".into()]);
    assert_eq!(plan.routes[1].goal, Goal::User { user: None, domain: "example.org".into() });
}

#[test]
fn a_gateway_that_sends_calls_is_a_trusted_peer() {
    let addresses = ["192.0.2.5".parse().expect("an address")];
    let config = parse(&format!("{CARRIER}sources = [\"198.51.100.7\"]")).expect("it is right");

    let settings = config.compile(&addresses).expect("it can be served");

    let peer = settings.trusted_peer("198.51.100.7".parse().expect("an address"));
    assert_eq!(peer.map(|peer| peer.name.as_str()), Some("a"));
}

/// Each text behind [`CARRIER`], the line of its mistake, a part of what is said of it, a part of the mend.
const MISTAKES: &[(&str, usize, &str, &str)] = &[
    ("weigth = 1", 4, "is not a key", "did you mean `gateway.weight`?"),
    ("uri2 = 1", 4, "is not a key", "`gateway.uri`"),
    ("[[gateway]]\nuri = \"sip:b\"", 4, "has no name", "carrier-a"),
    ("[[gateway]]\nname = \"b\"", 4, "has no uri", "sip:sbc.carrier.example"),
    ("[[gateway]]\nname = \"a\"\nuri = \"sip:b\"", 5, "the name of two gateways", "its own"),
    (
        "[[gateway]]\nname = \"b\"\nuri = \"sip:b\"\ngroup = \"a\"",
        7,
        "the name of a gateway too",
        "another name",
    ),
    ("[[gateway]]\nname = \"b c\"\nuri = \"sip:b\"", 5, "is no name", "letters"),
    ("[[gateway]]\nname = \"b\"\nuri = \"b\"", 6, "is no SIP URI", "sip:198.51.100.1:5060"),
    ("[[gateway]]\nname = \"b\"\nuri = \"sip:7@b\"", 6, "names a user", "each call"),
    ("[[gateway]]\nname = \"b\"\nuri = \"sips:b\"", 6, "does not speak", "udp or tcp"),
    ("[[gateway]]\nname = \"b\"\nuri = \"dispatcher:x\"", 6, "names no set", "\"dispatcher:1\""),
    (
        "[[gateway]]\nname = \"b\"\nuri = \"dispatcher:1\"",
        6,
        "a table that is not read",
        "dispatcher = true into [database]",
    ),
    ("registration = \"b\"", 4, "is no [[registration]]", "name = \"b\""),
    ("probe = \"never\"", 4, "is not a duration", "\"30s\""),
    ("sources = [\"0.0.0.0/0\"]", 4, "the whole Internet", "own network"),
    ("caller_in = \"PAI\"", 4, "is not known", "\"P-Asserted-Identity\""),
    ("set_headers = [\"Via: x\"]", 4, "writes itself", "leave it out"),
    ("set_headers = [\"v: x\"]", 4, "writes itself", "leave it out"),
    ("remove_headers = [\"\"]", 4, "no name of a header field", "X-Trunk"),
    ("set_headers = [\"X-Trunk\"]", 4, "is no header field", "a colon"),
    ("via = \"udp://10.0.0.5:5070\"", 4, "is not in sip.listen", "\"udp://*:5060\""),
    (
        "[[route]]\nto = [\"a\"]\nlistener = [\"udp://10.0.0.5:5060\",\n\"tcp://*:5070\"]",
        7,
        "is not in sip.listen",
        "or add it there",
    ),
    ("via = \"udp://10.0.0.5 digest off\"", 4, "more than an address", "alone"),
    ("[[route]]\nnumber = [\"1\"]", 4, "leads nowhere", "to = [\"carrier-a\"]"),
    ("[[route]]\nto = [\"a\"]\nreject = 603", 4, "more than one place", "keep one"),
    ("[[route]]\nto = [\"b\"]", 5, "names `b`, which is no gateway", "did you mean \"a\"?"),
    ("[[route]]\nto = [\"carrier\"]", 5, "is no gateway and no group", "name = \"carrier\""),
    ("[[route]]\nfrom = [\"a\"]\nreject = 603", 5, "it has no sources", "sources = [\"198.51.100.0/24\"]"),
    ("[[route]]\nto = [\"a\"]\nnumber = [\"^00\"]", 6, "is a regular expression", "the whole number"),
    ("[[route]]\nto = [\"a\"]\nnumber = [\"0.1\"]", 6, "has . before its end", "X for one digit"),
    ("[[route]]\nto = [\"a\"]\ncallers = [\"alice\"]", 6, "is no address of record", "*@example.org"),
    ("[[route]]\nreject = 200", 5, "refuses nothing", "603"),
    ("[[route]]\nreject = 407", 5, "refuses nothing", "603"),
    ("[[route]]\nto_user = \"{user}@example.org\"", 5, "has braces", "{number}@example.org"),
    ("[[route]]\nto_user = \"alice\"", 5, "is no address of record", "alice@example.org"),
    (
        "[[route]]\nname = \"all\"\nnumber = [\"0.\"]\nto = [\"a\"]\n[[route]]\nnumber = [\"00.\", \"0Z.\"]\nreject = 603\n\
         callers = [\"*@example.org\"]",
        8,
        "is never reached: `all` before it",
        "put it before that one",
    ),
    ("[route]\nto = [\"a\"]", 4, "is a list of tables", "[[route]]"),
];

#[test]
fn each_mistake_is_told_with_its_place_and_its_mend() {
    for (text, line, what, mend) in MISTAKES {
        let Err(problems) = parse(&format!("{CARRIER}{text}\n")) else { panic!("no mistake: {text}") };
        let found = problems.list.iter().any(|problem| {
            problem.line == *line && problem.what.contains(what) && problem.mend.contains(mend)
        });
        assert!(found, "{text}:\n{problems}");
        assert_eq!(problems.list.len(), 1, "{text}:\n{problems}");
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("tandem.toml"), text)
}
