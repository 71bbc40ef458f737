//! What runs on this host where the configuration names no service: found at the start and now and then, and observed.
//!
//! It is added to the configuration in force as text, as a person would write it, with `observe_only`: so a recording carries it, and policy
//! has one guard that keeps everybody's hands off. What was found stays, also when it runs no longer, but listeners, of which nobody
//! knows whether they were meant to go.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::daemon::Daemon;
use super::options::{Options, apply_options};
use crate::config::Config;
use crate::discovery::{self, Known, LISTENER, Listing, Thing};

/// Most that are observed.
const MOST: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Observing {
    /// As the file has it; none where that names services, or wants none found.
    base: Option<Config>,
    things: Vec<Thing>,
    /// What is in force.
    known: Arc<Known>,
    due: Option<Instant>,
    looking: Option<oneshot::Receiver<Listing>>,
    /// It was told whom nobody could ask.
    told: bool,
}

impl Observing {
    /// From now on, of this configuration: what is in force, which is more where it names no service and some are known already.
    pub(super) fn begin(&mut self, config: Config) -> Config {
        let wanted = config.daemon.discover && config.services.is_empty();
        self.due = wanted.then(Instant::now);
        self.looking = None;
        if !wanted {
            self.base = None;
            self.things.clear();
            return config;
        }
        let whole = combined(&config, &self.things);
        self.base = Some(config.clone());
        let config = whole.unwrap_or(config);
        self.known = Arc::new(Known::of(&config));
        config
    }

    /// Waits until it is time to look, and for what is found then; for ever where nothing is to be found. May be dropped and called again.
    pub(super) async fn found(&mut self) -> Listing {
        loop {
            if let Some(looking) = &mut self.looking {
                let listing = looking.await;
                self.looking = None;
                let every = self.base.as_ref().map(|base| base.daemon.discover_every.0);
                self.due = every.map(|every| Instant::now() + every);
                if let Ok(listing) = listing {
                    return listing;
                }
                tracing::warn!("what runs on this host could not be looked for");
            }
            let Some(due) = self.due else {
                std::future::pending::<()>().await;
                continue;
            };
            tokio::time::sleep_until(due).await;
            let (found, looking) = oneshot::channel();
            let known = Arc::clone(&self.known);
            // Not one of the runtime's, whose end would wait for it.
            let thread = std::thread::Builder::new().name("discover".to_owned());
            let begun = thread.stack_size(512 << 10).spawn(move || {
                let _ended = found.send(discovery::look(&[], &known, MOST));
            });
            match begun {
                Ok(_) => self.looking = Some(looking),
                Err(error) => {
                    tracing::warn!(%error, "what runs on this host cannot be looked for");
                    self.due = Some(Instant::now() + Duration::from_mins(1));
                }
            }
        }
    }

    /// Takes what was found; the configuration that is in force with it, where that is another one.
    fn take(&mut self, listing: Listing, options: &Options) -> Option<Config> {
        let base = self.base.as_ref()?;
        if !std::mem::replace(&mut self.told, true) {
            for (kind, why) in &listing.problems {
                tracing::debug!(
                    kind,
                    why = discovery::clean(why),
                    "not everything that runs here can be found"
                );
            }
        }
        let names = |things: &[Thing]| -> Vec<String> {
            things.iter().map(|thing| thing.name.clone()).collect()
        };
        let before = names(&self.things);
        let runs = |thing: &Thing| listing.configured.contains(&thing.name);
        self.things.retain(|it| it.kind != LISTENER || runs(it));
        if self.things.len() + listing.services.len() > MOST {
            self.things.retain(runs);
        }
        let room = MOST.saturating_sub(self.things.len());
        let left_out = listing.left_out + listing.services.len().saturating_sub(room);
        self.things.extend(listing.services.into_iter().take(room));
        if names(&self.things) == before {
            return None;
        }
        let mut config = combined(base, &self.things)?;
        apply_options(&mut config, options);
        self.known = Arc::new(Known::of(&config));
        tracing::info!(
            services = self.things.len(),
            left_out,
            "the configuration names no service: these are observed, and never acted upon; `smart-monitor discover` proposes a configuration"
        );
        Some(config)
    }
}

/// A configuration with what was found.
fn combined(base: &Config, things: &[Thing]) -> Option<Config> {
    let written = base.text.as_deref().unwrap_or_default();
    let text = format!("{written}\n{}", discovery::observed(things));
    let path = base.file.as_deref().unwrap_or(Path::new("nowhere"));
    match Config::parse(&text, path) {
        Ok(config) => Some(Config {
            file: base.file.clone(),
            ..config
        }),
        Err(error) => {
            tracing::error!("what was found cannot be observed:\n{}", error.render());
            None
        }
    }
}

impl Daemon {
    /// Observes what was found, too.
    pub(super) async fn observe(&mut self, listing: Listing) {
        if let Some(config) = self.observing.take(listing, &self.options) {
            self.config = config;
            self.send_settings();
            self.start_services().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(name: &str, kind: &'static str) -> Thing {
        let with = match kind {
            LISTENER => "address = \"127.0.0.1:80\"".to_owned(),
            _ => format!("unit = \"{name}.service\""),
        };
        Thing {
            name: name.to_owned(),
            kind,
            with: with.parse().expect("it is TOML"),
            listen: Vec::new(),
            checks: Vec::new(),
            what: String::new(),
            why: String::new(),
            process: None,
            program: String::new(),
            ports: Vec::new(),
        }
    }

    fn listing(configured: &[&str], services: Vec<Thing>) -> Listing {
        Listing {
            services,
            configured: configured.iter().map(|name| (*name).to_owned()).collect(),
            ..Listing::default()
        }
    }

    fn names(config: Option<Config>) -> Option<Vec<String>> {
        let config = config?;
        assert!(config.services.iter().all(|service| service.observe_only));
        Some(
            config
                .services
                .into_iter()
                .map(|service| service.name)
                .collect(),
        )
    }

    #[test]
    fn what_was_found_stays_but_listeners_that_have_gone() {
        let options = Options::default();
        let mut observing = Observing::default();
        let config = observing.begin(Config::defaults());
        assert!(config.services.is_empty());
        let first = vec![thing("db", "systemd"), thing("dev", LISTENER)];
        let mut take = |listing| names(observing.take(listing, &options));
        assert_eq!(
            take(listing(&[], first)),
            Some(vec!["db".to_owned(), "dev".to_owned()])
        );
        assert_eq!(take(listing(&["db", "dev"], Vec::new())), None);
        assert_eq!(take(listing(&[], Vec::new())), Some(vec!["db".to_owned()]));
        let many: Vec<_> = (0..MOST)
            .map(|at| thing(&format!("s{at}"), "systemd"))
            .collect();
        let found = take(listing(&[], many)).expect("others");
        assert_eq!(
            (found.len(), &*found[0]),
            (MOST, "s0"),
            "what has gone makes room"
        );
        let again = observing.begin(Config::defaults());
        assert_eq!(again.services.len(), MOST, "a reload forgets nothing");
    }

    #[test]
    fn a_configuration_with_services_or_without_the_wish_has_none_added() {
        let web = "[[service]]\nname = \"web\"\nkind = \"systemd\"\n";
        for text in [web, "[daemon]\ndiscover = false\n"] {
            let config = Config::parse(text, Path::new("x.toml")).expect("it is good");
            let mut observing = Observing::default();
            observing.begin(config);
            let found = listing(&[], vec![thing("db", "systemd")]);
            assert!(observing.take(found, &Options::default()).is_none());
            assert!(observing.due.is_none());
        }
    }
}
