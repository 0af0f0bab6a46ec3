//! `tandem status`: the cluster as a picture, if there is one, and the server; on the witness's host the witness.
//!
//! Guardian and engine are asked each by itself, so that each is shown while the other one is away.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::cluster_picture::{cluster_text, witness_text};
use super::{Place, print, show};
use crate::control::Request;
use crate::control::client::Client;
use crate::guardian::question::Question;
use crate::guardian::view::ClusterView;
use crate::guardian::witness::WitnessView;
use crate::state_directory::StateDirectory;

/// How often a picture that is watched is drawn anew.
const REDRAWN_EVERY: Duration = Duration::from_secs(1);

/// Shows how everything is, as text or JSON.
pub fn status(place: &Place, json: bool) -> Result<()> {
    print(&Seen::of(place)?.text(json)?)
}

/// Shows it again and again, until somebody ends the program.
pub fn watch(place: &Place, json: bool) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal() && !json;
    loop {
        let text = match Seen::of(place).and_then(|seen| if json { seen.line() } else { seen.text(false) }) {
            Ok(text) => text,
            // Who watches wants to see it come back.
            Err(error) if json => format!("{}\n", json!({ "error": format!("{error:#}") })),
            Err(error) => format!("{error:#}\n"),
        };
        print(&if is_terminal { redrawn(&text) } else { text })?;
        std::thread::sleep(REDRAWN_EVERY);
    }
}

/// What could be had.
enum Seen {
    Witness(Value),
    Node {
        /// Of a node of a cluster: its guardian's view, or why there is none.
        cluster: Option<Result<Value, String>>,
        /// The server's status, or why there is none.
        server: Result<Value, String>,
    },
}

impl Seen {
    fn of(place: &Place) -> Result<Self> {
        let state = place.state_directory()?;
        if !state.guardian_socket().exists()
            && let Some(mut witness) = Client::open(&state.witness_socket())?
        {
            return Ok(Self::Witness(witness.ask(&Question::ClusterStatus {})?));
        }
        let is_node = state.guardian_socket().exists() || place.config().is_ok_and(|it| it.cluster.is_some());
        if !is_node {
            let server = Client::connect_to_running(&state)?.ask(&Request::Status {})?;
            return Ok(Self::Node { cluster: None, server: Ok(server) });
        }
        let (cluster, server) = (cluster(&state), server(&state));
        if let (Err(guardian), Err(engine)) = (&cluster, &server) {
            bail!("{guardian}; {engine}");
        }
        Ok(Self::Node { cluster: Some(cluster), server })
    }

    fn value(&self) -> Value {
        let or_null = |part: &Result<Value, String>| part.as_ref().map_or(Value::Null, Value::clone);
        match self {
            Self::Witness(witness) => json!({ "witness": witness }),
            Self::Node { cluster: None, server } => or_null(server),
            Self::Node { cluster: Some(cluster), server } => {
                json!({ "cluster": or_null(cluster), "server": or_null(server) })
            }
        }
    }

    fn line(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string(&self.value())?))
    }

    fn text(&self, json: bool) -> Result<String> {
        if json {
            return Ok(format!("{}\n", serde_json::to_string_pretty(&self.value())?));
        }
        let (cluster, server) = match self {
            Self::Witness(witness) => {
                let view: WitnessView = serde_json::from_value(witness.clone())?;
                return Ok(witness_text(&view));
            }
            Self::Node { cluster, server } => (cluster, server),
        };
        let server = match server {
            Ok(status) => show::status_text(&serde_json::from_value(status.clone())?),
            Err(error) => format!("The server: {error}\n"),
        };
        Ok(match cluster {
            None => server,
            Some(Ok(view)) => {
                let view: ClusterView = serde_json::from_value(view.clone())?;
                format!("{}\n{server}", cluster_text(&view))
            }
            Some(Err(error)) => format!("The guardian: {error}\n\n{server}"),
        })
    }
}

fn cluster(state: &StateDirectory) -> Result<Value, String> {
    let client = Client::open(&state.guardian_socket()).map_err(|error| format!("{error:#}"))?;
    let mut client = client.ok_or_else(|| {
        "no guardian runs here: this node takes nothing over; start it with `tandem run`, or with `tandem witness` on the host of the \
         witness".to_owned()
    })?;
    client.ask(&Question::ClusterStatus {}).map_err(|error| format!("{error:#}"))
}

fn server(state: &StateDirectory) -> Result<Value, String> {
    let client = Client::connect(state).map_err(|error| format!("{error:#}"))?;
    let mut client =
        client.ok_or_else(|| "no engine answers on this node: no SIP is served by it".to_owned())?;
    client.ask(&Request::Status {}).map_err(|error| format!("{error:#}"))
}

/// From the upper left corner on, over what stood there: a screen that is first emptied flickers.
fn redrawn(text: &str) -> String {
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_its_engine_shows_the_cluster() {
        let view = serde_json::to_value(ClusterView { node: "a".to_owned(), ..ClusterView::default() });
        let seen = Seen::Node {
            cluster: Some(Ok(view.expect("it can be written"))),
            server: Err("no engine answers".to_owned()),
        };

        let text = seen.text(false).expect("it can be shown");

        assert!(text.contains("NOBODY IS ACTIVE; this is a"), "{text}");
        assert!(text.ends_with("The server: no engine answers\n"), "{text}");
        assert_eq!(seen.value()["server"], Value::Null);
        assert_eq!(seen.value()["cluster"]["node"], "a");
    }

    #[test]
    fn a_server_that_is_alone_gives_its_status_as_ever() {
        let seen = Seen::Node { cluster: None, server: Ok(json!({ "node": "a" })) };

        assert_eq!(seen.value(), json!({ "node": "a" }));
    }

    #[test]
    fn a_redrawn_screen_leaves_nothing_of_the_one_before() {
        assert_eq!(redrawn("a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
