//! A server of one connection that answers what it was told to, and keeps what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use cluster::row::Durability;
use cluster::{Record, VoterId};

use super::*;

const HEADER: &str = r#""header":{"cluster_id":"14841639068965178418","revision":"5"}"#;
const OTHER_CLUSTER: &str = r#""header":{"cluster_id":"7","revision":"5"}"#;
const HISTORY: History = History(14_841_639_068_965_178_418);

#[test]
fn a_key_is_read_with_the_cluster_that_shows_it() {
    let row = row(3);
    let value = STANDARD.encode(row.to_text());
    let answers =
        [format!("{{{HEADER}}}"), format!(r#"{{{HEADER},"kvs":[{{"value":"{value}"}}],"count":"1"}}"#)];

    let (seen, asked) = with_server(&answers, async |etcd| [etcd.read().await, etcd.read().await]);

    assert_eq!(seen[0], Ok(Seen { row: None, history: HISTORY }));
    assert_eq!(seen[1], Ok(Seen { row: Some(row), history: HISTORY }));
    let key = STANDARD.encode("tandem/abc/lease");
    assert_eq!(asked[0], format!("POST /v3/kv/range {{\"key\":\"{key}\"}}"));
}

#[test]
fn a_write_is_done_when_the_same_cluster_had_the_value_before_and_lost_when_it_had_not() {
    let answers = [
        format!(r#"{{{HEADER},"succeeded":true}}"#),
        format!("{{{HEADER}}}"),
        format!(r#"{{{OTHER_CLUSTER},"succeeded":true}}"#),
    ];
    let change = |before| Change { before, history: HISTORY, after: row(4), durability: Durability::Renewal };

    let (written, asked) = with_server(&answers, async |etcd| {
        etcd.connect().await.expect("it listens");
        let first = etcd.write(&change(Some(row(3)))).await;
        [first, etcd.write(&change(None)).await, etcd.write(&change(Some(row(3)))).await]
    });

    assert_eq!(written[0], Ok(Written::Done));
    assert_eq!(written[1], Ok(Written::Lost));
    assert!(written[2].is_err(), "nobody knows what another cluster has");
    let value = STANDARD.encode(row(3).to_text());
    assert!(asked[0].contains(&format!(r#""target":"VALUE","value":"{value}""#)), "{}", asked[0]);
    assert!(asked[1].contains(r#""create_revision":"0""#) && asked[1].contains(r#""target":"CREATE""#));
}

#[test]
fn what_is_no_answer_of_etcd_is_trouble_and_shows_nothing() {
    let broken = STANDARD.encode("0123");
    let answers = [
        r#"{"message":"etcdserver: mvcc: database space exceeded","code":8}"#.to_owned(),
        format!(r#"{{{HEADER},"kvs":[{{"value":"{broken}"}}]}}"#),
        r#"{"kvs":[]}"#.to_owned(),
        "<html>".to_owned(),
    ];

    let (seen, _) = with_server(&answers, async |etcd| {
        [etcd.read().await, etcd.read().await, etcd.read().await, etcd.read().await]
    });

    let troubles = seen.map(|seen| seen.expect_err("it is none").0);
    assert!(troubles[0].contains("compact"), "{troubles:?}");
    assert!(troubles[1].contains("etcdctl del tandem/abc/lease"), "{troubles:?}");
    assert!(troubles[2].contains("not one of etcd"), "{troubles:?}");
    assert!(troubles[3].contains("3.4 or later"), "{troubles:?}");
}

#[test]
fn a_write_without_a_connection_is_none() {
    let (written, asked) = with_server(&[], async |etcd| {
        let change =
            Change { before: None, history: HISTORY, after: row(1), durability: Durability::Durable };
        etcd.write(&change).await
    });

    assert!(written.is_err(), "a connection that was not read on has shown nothing");
    assert!(asked.is_empty());
}

fn row(writes: u64) -> Row {
    Row { record: Record::first(VoterId(9)), lease: Duration::ZERO, writes }
}

/// What comes of it, and what the server was asked.
fn with_server<T>(answers: &[String], act: impl AsyncFnOnce(&mut Etcd) -> T) -> (T, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let served = serve(listener, answers.to_vec());
    let witness = EtcdServers {
        servers: vec![("127.0.0.1".to_owned(), port)],
        user: String::new(),
        password_file: None,
        ca_file: None,
    };
    let mut etcd = Etcd::new(&witness, None, "abc").expect("nothing is read");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let result = runtime.block_on(act(&mut etcd));
    (result, served.join().expect("it was asked as often as it answers"))
}

fn serve(listener: TcpListener, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        if answers.is_empty() {
            return Vec::new();
        }
        let (stream, _) = listener.accept().expect("a client comes");
        let mut reader = BufReader::new(stream);
        answers
            .into_iter()
            .map(|answer| {
                let asked = read_request(&mut reader);
                let status = if answer.contains("\"code\"") { "429 Too Many Requests" } else { "200 OK" };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", answer.len());
                let bytes = [head.as_bytes(), answer.as_bytes()].concat();
                reader.get_mut().write_all(&bytes).expect("the client reads");
                asked
            })
            .collect()
    })
}

fn read_request(reader: &mut impl BufRead) -> String {
    let mut first = String::new();
    reader.read_line(&mut first).expect("a request line");
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let line = first.trim_end().trim_end_matches(" HTTP/1.1");
    format!("{line} {}", String::from_utf8(body).expect("JSON"))
}
