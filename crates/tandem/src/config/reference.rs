//! The documented configuration, printed from the table of keys.

use super::cluster::{CHECKS, CLUSTER, NODES};
use super::dial_plan::{GATEWAYS, ROUTES};
use super::fields::{EDGES, Field, List, SECTIONS, TRUSTED};
use super::registration::REGISTRATIONS;

/// A file with every key, its meaning and its default. Read as a configuration it gives the defaults.
pub fn reference() -> String {
    let mut text = String::from(
        "# The configuration of Tandem. Every key is shown with its default: a file needs only what differs.\n\
         # Durations: \"500ms\", \"30s\", \"5m\", \"1h\", also \"3m10s\". Check a file with `tandem check FILE`.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        write_meaning(section.meaning, "", &mut text);
        text.push_str(&format!("[{}]\n", section.name));
        for field in section.fields {
            write_field(field, "", &mut text);
        }
    }
    write_list(&TRUSTED, &mut text);
    write_list(&EDGES, &mut text);
    write_list(&REGISTRATIONS, &mut text);
    write_list(&GATEWAYS, &mut text);
    write_list(&ROUTES, &mut text);
    write_cluster(&mut text);
    text
}

/// Two nodes, since one makes no cluster.
fn write_cluster(text: &mut String) {
    text.push('\n');
    write_meaning(CLUSTER.meaning, "", text);
    text.push_str(&format!("#[{}]\n", CLUSTER.name));
    for field in CLUSTER.fields {
        write_field(field, "#", text);
    }
    write_list(&NODES, text);
    text.push_str(&format!("#[[{}]]\n#name = \"b\"\n#paths = [\"192.0.2.2\"]\n", NODES.name));
    write_list(&CHECKS, text);
}

fn write_list<T>(list: &List<T>, text: &mut String) {
    text.push('\n');
    write_meaning(list.meaning, "", text);
    text.push_str(&format!("#[[{}]]\n", list.name));
    for field in list.fields {
        write_field(field, "#", text);
    }
}

fn write_field<T>(field: &Field<T>, comment: &str, text: &mut String) {
    write_meaning(field.meaning, comment, text);
    text.push_str(&format!("{comment}{} = {}\n", field.key, field.default));
}

fn write_meaning(meaning: &[&str], comment: &str, text: &mut String) {
    for line in meaning {
        text.push_str(&format!("{comment}# {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use routing::DialPlan;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_reference_is_a_configuration_that_gives_the_defaults() {
        let config = Config::parse(Path::new("reference.toml"), &reference()).expect("it is right");

        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_manual_shows_the_reference_as_it_is_printed() {
        let manual = include_str!("../../../../docs/configure.md");

        assert!(manual.contains(&reference()), "put what `tandem reference` prints into docs/configure.md");
    }

    #[test]
    fn the_reference_shows_every_key_once() {
        let text = reference();

        for section in SECTIONS {
            assert_eq!(text.matches(&format!("\n[{}]\n", section.name)).count(), 1, "{}", section.name);
            for field in section.fields {
                assert!(text.contains(&format!("\n{} = {}\n", field.key, field.default)), "{}", field.key);
            }
        }
    }

    #[test]
    fn the_examples_of_lists_are_right_when_their_comment_signs_are_taken_away() {
        let text = reference();
        let example = &text[text.find("#[[trusted]]").expect("it is there")..];
        let bare: String = example
            .lines()
            .filter(|line| line.starts_with('#') && !line.starts_with("# "))
            .map(|line| format!("{}\n", line.trim_start_matches('#')))
            .filter(|line| !line.starts_with(' '))
            .collect();

        let config =
            Config::parse(Path::new("example.toml"), &bare).unwrap_or_else(|error| panic!("{error}"));

        let DialPlan { gateways, routes } = &config.dial_plan;
        let (trusted, edges, trunks) = (&config.trusted, &config.edges, &config.trunks);
        assert_eq!((trusted.len(), edges.len(), trunks.len(), gateways.len(), routes.len()), (1, 1, 1, 1, 1));
        let cluster = config.cluster.as_ref().expect("it is there");
        assert_eq!((cluster.nodes.len(), cluster.checks.len()), (2, 1));
    }
}
