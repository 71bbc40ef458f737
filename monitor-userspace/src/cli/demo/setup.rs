//! The demo's configuration, as far as the demo itself must know it: who listens where.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::scenarios;

/// The configuration in the repository.
const BUILT_IN: &str = include_str!("../../../../config/demo.toml");

/// A configuration that the scenarios fit.
#[derive(Debug)]
pub(super) struct Setup {
    /// Text of the configuration.
    pub(super) text: String,
    services: BTreeMap<String, SocketAddr>,
    /// Every address that will be listened on, and for whom.
    listen: Vec<(String, SocketAddr)>,
}

// What the daemon refuses, it says better than we could: only what is needed here is read.
#[derive(Debug, Deserialize)]
struct Raw {
    #[serde(default)]
    daemon: RawDaemon,
    #[serde(default)]
    service: Vec<RawService>,
}

#[derive(Debug, Default, Deserialize)]
struct RawDaemon {
    http: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RawService {
    name: String,
    #[serde(default)]
    listen: Vec<SocketAddr>,
}

impl Setup {
    /// Reads it, or takes the one that is built in.
    pub(super) fn load(path: Option<PathBuf>) -> Result<Self> {
        match path {
            None => Self::parse(BUILT_IN.to_owned()).context("the built-in configuration"),
            Some(path) => std::fs::read_to_string(&path)
                .map_err(anyhow::Error::from)
                .and_then(Self::parse)
                .with_context(|| format!("configuration {}", path.display())),
        }
    }

    fn parse(text: String) -> Result<Self> {
        let raw: Raw = toml::from_str(&text)?;
        // Empty means no listener; what is no address, the daemon will refuse.
        let http = raw.daemon.http.and_then(|http| http.parse().ok());
        let daemon = http.map(|http| ("the daemon".to_owned(), http));
        let mut services = BTreeMap::new();
        let mut listen = Vec::from_iter(daemon);
        for service in raw.service {
            for address in service.listen {
                listen.push((format!("service {}", service.name), address));
                services.entry(service.name.clone()).or_insert(address);
            }
        }
        for scenario in scenarios::ALL {
            if !services.contains_key(scenario.service) {
                bail!(
                    "there is no service {} with a `listen` address; the demo injects {:?} into it",
                    scenario.service,
                    scenario.label
                );
            }
        }
        Ok(Self {
            text,
            services,
            listen,
        })
    }

    /// Where this service listens.
    pub(super) fn address(&self, service: &str) -> Result<SocketAddr> {
        let address = self.services.get(service).copied();
        address.with_context(|| format!("service {service} has no `listen` address"))
    }

    /// Fails when an address is taken by someone else: the demo must not take their answers for its own services'.
    pub(super) fn ports_are_free(&self) -> Result<()> {
        for (whose, address) in &self.listen {
            TcpListener::bind(address).with_context(|| {
                format!(
                    "{address}, where {whose} is to listen, cannot be had; end what listens there, or give a copy of config/demo.toml with other ports by --config"
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_configuration_fits_the_scenarios() {
        let setup = Setup::load(None).unwrap();
        for scenario in scenarios::ALL {
            assert!(setup.address(scenario.service).unwrap().ip().is_loopback());
        }
        assert!(setup.listen.len() > scenarios::ALL.len() / 2);
    }

    #[test]
    fn a_missing_service_is_named() {
        let error = Setup::parse("[[service]]\nname = \"auth\"\n".to_owned()).unwrap_err();
        assert!(error.to_string().contains("no service auth"), "{error}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut setup = Setup::load(None).unwrap();
        setup.listen = vec![("service auth".into(), taken.local_addr().unwrap())];
        let error = format!("{:#}", setup.ports_are_free().unwrap_err());
        assert!(
            error.contains("service auth") && error.contains("--config"),
            "{error}"
        );
    }
}
