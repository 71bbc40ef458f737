//! What was found, as a configuration that a person reads first.

use std::fmt::Write as _;

use super::{Listing, Thing};

/// Longest text of others in a comment, characters.
const SAID: usize = 400;

const HEAD: &str = "\
# Proposed by `smart-monitor discover`: what runs on this host now. Read it, take out what does not matter, and name what depends on what.
#
# What the daemon does with this: it watches the processes, and asks the checks, each every 5 seconds. It starts nothing, stops nothing and
# restarts nothing: for that a [[remedy]] must name the service and the action, and there is none here. Those who run the services go on
# to restart them as they are set up to. For example, to have one restarted that has failed and that nobody else restarts:
#
#     [[remedy]]
#     detector = \"service_down\"
#     on = [\"NAME\"]
#     action = \"restart_service\"
";

/// See the module.
pub(super) fn all(listing: &Listing) -> String {
    let mut text = HEAD.to_owned();
    for thing in &listing.services {
        text.push('\n');
        service(thing, &mut text);
    }
    text
}

/// As what is only observed, without checks.
pub(super) fn observed(things: &[Thing]) -> String {
    let mut text = String::new();
    for thing in things {
        text.push('\n');
        plain(thing, &mut text);
        text.push_str("observe_only = true\n");
    }
    text
}

/// On one line, without what a terminal would obey, and not for ever.
pub(super) fn clean(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() || is_invisible(c) {
            ' '
        } else {
            c
        }
    };
    let clean: String = text.chars().map(plain).take(SAID).collect();
    clean.trim().to_owned()
}

/// Characters that turn the direction of writing, or are not seen.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn service(thing: &Thing, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# {}", clean(&thing.what));
    for why in thing.why.lines() {
        let _ = writeln!(text, "# {}", clean(why));
    }
    plain(thing, text);
    let mut checks: Vec<toml::Value> = thing
        .checks
        .iter()
        .cloned()
        .map(toml::Value::Table)
        .collect();
    let check = match checks.len() {
        0 => return,
        1 => checks.remove(0),
        _ => toml::Value::Array(checks),
    };
    let _ = writeln!(text, "check = {check}");
}

fn plain(thing: &Thing, text: &mut String) {
    let string = |text: &str| toml::Value::from(text).to_string();
    let _ = writeln!(
        text,
        "[[service]]\nname = {}\nkind = {}",
        string(&thing.name),
        string(thing.kind)
    );
    let _ = writeln!(text, "with = {}", toml::Value::Table(thing.with.clone()));
    if !thing.listen.is_empty() {
        let addresses = thing.listen.iter().map(|at| at.to_string().into());
        let _ = writeln!(text, "listen = {}", toml::Value::Array(addresses.collect()));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_others_call_their_things_stays_a_comment_and_a_text() {
        let check = |text: &str| text.parse::<toml::Table>().expect("it is TOML");
        let evil = "x\"\n[[remedy]]\ndetector = \"y\"\u{1b}[2J\u{202e}";
        let thing = Thing {
            name: "web".to_owned(),
            kind: "pm2",
            with: toml::Table::from_iter([("app".to_owned(), "q\"\\'".into())]),
            listen: vec!["127.0.0.1:80".parse().expect("it is one")],
            checks: vec![
                check("tcp = \"127.0.0.1:80\""),
                check(
                    "http = { url = \"http://127.0.0.1:81/\", status = [404] }\nname = \"http-81\"",
                ),
            ],
            what: evil.to_owned(),
            why: format!("port 80: {evil}\nport 81: fine"),
            process: None,
            program: evil.to_owned(),
            ports: Vec::new(),
        };
        let listing = Listing {
            services: vec![thing],
            ..Listing::default()
        };
        let text = all(&listing);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        let config = Config::parse(&text, Path::new("x"))
            .unwrap_or_else(|error| panic!("{}\n{text}", error.render()));
        assert!(config.remedies.is_empty());
        assert_eq!(config.services.len(), 1);
        assert_eq!(config.checks["web"].len(), 2);
        assert_eq!(config.outside["web"].words[1], "q\"\\'");
        let text = observed(&listing.services);
        let config = Config::parse(&text, Path::new("x"))
            .unwrap_or_else(|error| panic!("{}", error.render()));
        assert!(config.checks.is_empty());
        assert!(
            config
                .services
                .iter()
                .all(|it| it.observe_only && it.name == "web")
        );
        assert!(clean(&"x".repeat(9999)).len() == SAID);
    }
}
