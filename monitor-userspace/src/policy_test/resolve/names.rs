//! Names in steps: each must be one that exists.

use std::collections::BTreeMap;

use toml::Spanned;

use super::steps::Reader;
use crate::config::Config;
use crate::engine::BEFORE;
use crate::model::Subject;
use crate::policy::guards;
use crate::policy_test::step::On;
use crate::{actions, detectors};

impl Reader<'_> {
    pub(super) fn service(&mut self, name: &Spanned<String>) -> Option<String> {
        let services = self.config.services.iter().map(|service| &service.name);
        let known = services.map(|name| (name.as_str(), name.clone()));
        self.mistakes.one_of("service", name, known)
    }

    /// The name of a check of this service; empty where the step names none.
    pub(super) fn check(&mut self, service: &Spanned<String>) -> Option<String> {
        let Some(named) = &self.step.named else {
            return Some(String::new());
        };
        let mut services = self.config.services.iter();
        let service = services.find(|it| it.name == *service.get_ref())?;
        let known = service.checks.keys();
        let known = known.map(|name| (name.as_str(), name.clone()));
        self.mistakes.one_of("check of that service", named, known)
    }

    /// The outer none is a mistake.
    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    pub(super) fn detector(&mut self, name: Option<&Spanned<String>>) -> Option<Option<String>> {
        let Some(name) = name else {
            return Some(None);
        };
        let known = detectors::ALL.iter().map(|spec| spec.name);
        // What a person asked for stands where a detector does.
        let known = known.chain([detectors::MANUAL]).map(|name| (name, name));
        let meant = self.mistakes.one_of("detector", name, known)?;
        Some(Some(meant.to_owned()))
    }

    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    pub(super) fn action(&mut self) -> Option<Option<String>> {
        let Some(name) = &self.step.action else {
            return Some(None);
        };
        let known = actions::ALL.iter().map(|spec| (spec.name, spec.name));
        let meant = self.mistakes.one_of("action", name, known)?;
        Some(Some(meant.to_owned()))
    }

    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    pub(super) fn rule(&mut self) -> Option<Option<String>> {
        let Some(name) = &self.step.rule else {
            return Some(None);
        };
        let known = self.config.remedies.iter().map(|remedy| &remedy.name);
        let known = known.map(|name| (name.as_str(), name.clone()));
        self.mistakes.one_of("rule", name, known).map(Some)
    }

    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    pub(super) fn guard(&mut self) -> Option<Option<String>> {
        let Some(name) = &self.step.guard else {
            return Some(None);
        };
        let known = guards::ALL.iter().map(|guard| guard.name).chain(BEFORE);
        let meant = self
            .mistakes
            .one_of("guard", name, known.map(|name| (name, name)))?;
        Some(Some(meant.to_owned()))
    }

    #[expect(
        clippy::option_option,
        reason = "not written is not the same as written wrong"
    )]
    pub(super) fn maybe_on(&mut self) -> Option<Option<On>> {
        match &self.step.on {
            Some(on) => self.on(Some(on)),
            None => Some(None),
        }
    }

    /// What a step is about; a mistake when it says nothing of that.
    #[expect(clippy::option_option, reason = "as its neighbours")]
    pub(super) fn on(&mut self, name: Option<&Spanned<String>>) -> Option<Option<On>> {
        let Some(name) = name else {
            let message = "this step does not say what it is about".to_owned();
            let help = Some("add `on`: a service, a [[process]] entry, `host`, `peer ADDRESS:PORT` or `device NAME`".to_owned());
            self.mistakes.add(self.span.clone(), message, help);
            return None;
        };
        let text = name.get_ref().as_str();
        let peer = text.strip_prefix("peer ").map(str::trim).map(str::parse);
        if let Some(Ok(address)) = peer {
            return Some(Some(On::Other(Subject::Peer { address })));
        }
        if let Some(device) = text.strip_prefix("device ") {
            let name = device.trim().to_owned();
            return Some(Some(On::Other(Subject::Device { name })));
        }
        let services = self.config.services.iter();
        let services =
            services.map(|service| (service.name.as_str(), On::Service(service.name.clone())));
        let entries = entries(self.config);
        let entries = entries
            .iter()
            .map(|(entry, comm)| (*entry, On::Entry((*entry).to_owned(), (*comm).to_owned())));
        let folders = self.config.folders.iter().map(|folder| {
            let name = folder.name.clone();
            (folder.name.as_str(), On::Other(Subject::Folder { name }))
        });
        let known = services
            .chain(entries)
            .chain(folders)
            .chain([("host", On::Other(Subject::Host))]);
        self.mistakes
            .one_of("service or process", name, known)
            .map(Some)
    }

    /// What a silence is for.
    pub(super) fn silenced(&mut self, name: &Spanned<String>) -> Option<String> {
        if name.get_ref() == "*" {
            return Some("*".to_owned());
        }
        let services = self.config.services.iter();
        let services = services.map(|service| service.name.as_str());
        let known = services.chain(entries(self.config).into_keys());
        let meant =
            self.mistakes
                .one_of("service or process", name, known.map(|name| (name, name)))?;
        Some(meant.to_owned())
    }
}

/// `[[process]]` entries, and a process name of each.
fn entries(config: &Config) -> BTreeMap<&str, &str> {
    let groups = config.groups.iter().rev();
    groups
        .map(|(comm, entry)| (entry.as_str(), comm.as_str()))
        .collect()
}
