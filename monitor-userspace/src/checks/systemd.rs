//! `systemd = "backup.timer"`: a unit of the host's systemd, of any type, is active.
//!
//! A connection to the system bus of its own each time. For a service that systemd runs, `kind = "systemd"` follows its unit already, by
//! events: this is for timers, mounts, sockets, and units that a service cannot do without.

use std::collections::HashMap;

use serde::Deserialize;
use zbus::connection::Builder;
use zbus::{OwnedObjectPath, Variant};

use super::{About, Answer, Asking, Check, Settings, Spec, read};
use crate::model::CheckFailure;

/// See the module.
pub const SPEC: Spec = Spec {
    name: "systemd",
    summary: "a unit of systemd is active",
    serving: false,
    short: "unit",
    example: "systemd = \"backup.timer\"",
    read: read::<Active>,
};

const NAME: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const OF_MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OF_UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Longest name of a unit, bytes (`UNIT_NAME_MAX`).
const LONGEST: usize = 255;
/// What a unit can be.
const STATES: [&str; 6] = [
    "active",
    "reloading",
    "inactive",
    "failed",
    "activating",
    "deactivating",
];

/// `systemd = { ... }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Active {
    /// The unit, with its type; `.service` may be left out.
    unit: String,
    /// What it may be.
    #[serde(default = "active")]
    state: Vec<String>,
}

fn active() -> Vec<String> {
    vec!["active".to_owned(), "reloading".to_owned()]
}

impl Settings for Active {
    fn sensible(mut self) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if self.unit.is_empty() || self.unit.len() > LONGEST || !self.unit.chars().all(good) {
            return Err(format!(
                "no unit can be called {:?}: write one as `systemctl list-units` shows it",
                self.unit
            ));
        }
        if !self.unit.contains('.') {
            self.unit += ".service";
        }
        let known = |state: &String| STATES.contains(&state.as_str());
        if self.state.is_empty() || !self.state.iter().all(known) {
            return Err(format!("`state` is a list of {}", STATES.join(", ")));
        }
        Ok(self)
    }
}

/// What systemd says of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unit {
    load: String,
    active: String,
    sub: String,
}

impl Unit {
    fn of(all: &HashMap<&str, Variant<'_>>) -> Self {
        let text = |name: &str| match all.get(name) {
            Some(Variant::Str(text)) => text.to_string(),
            _ => String::new(),
        };
        Self {
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
        }
    }
}

impl Active {
    fn judge(&self, unit: &Unit) -> Result<Answer, String> {
        let (name, wanted) = (&self.unit, self.state.join(" or "));
        if unit.load == "not-found" {
            return Err(format!(
                "there is no unit {name}: `systemctl list-unit-files` names those that there are"
            ));
        }
        if !self.state.contains(&unit.active) {
            return Err(format!(
                "{name} is {} ({}), not {wanted}: `systemctl status {name}` says why",
                unit.active, unit.sub
            ));
        }
        Ok(Answer::well().saying(format!("{} ({})", unit.active, unit.sub)))
    }

    async fn look(&self) -> Result<Unit, CheckFailure> {
        let lost = |error: zbus::Error| {
            CheckFailure::Connect(format!(
                "systemd cannot be asked by way of the system bus: {error}: is this host run by systemd, with dbus?"
            ))
        };
        let bus = Builder::system().build().await.map_err(lost)?;
        let ask = (Some(NAME), Some(OF_MANAGER), "LoadUnit");
        let unit = bus
            .call_method(ask.0, MANAGER, ask.1, ask.2, &self.unit.as_str())
            .await
            .map_err(lost)?;
        let path: OwnedObjectPath = unit.body().deserialize().map_err(lost)?;
        let all = bus
            .call_method(Some(NAME), &path, Some(PROPERTIES), "GetAll", &OF_UNIT)
            .await
            .map_err(lost)?;
        let body = all.body();
        let all: HashMap<&str, Variant<'_>> = body.deserialize().map_err(lost)?;
        Ok(Unit::of(&all))
    }
}

impl Check for Active {
    fn ask<'a>(&'a self, _: &'a About) -> Asking<'a> {
        Box::pin(async {
            let unit = self.look().await?;
            self.judge(&unit).map_err(CheckFailure::Answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Active, String> {
        let read: Active = toml::from_str(text).map_err(|why| why.to_string())?;
        read.sensible()
    }

    fn unit(load: &str, active: &str, sub: &str) -> Unit {
        Unit {
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
        }
    }

    #[test]
    fn what_is_no_unit_or_no_state_is_refused() {
        assert_eq!(check("unit = \"nginx\"").expect("it").unit, "nginx.service");
        for wrong in [
            "unit = \"\"",
            "unit = \"a b\"",
            "unit = \"a.service\"\nstate = []",
            "unit = \"a.service\"\nstate = [\"running\"]",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check(&format!("unit = \"{}\"", "a".repeat(256))).is_err());
    }

    #[test]
    fn a_unit_that_is_not_as_wanted_is_named_with_its_state() {
        let check = check("unit = \"backup.timer\"").expect("it is sensible");
        let well = check.judge(&unit("loaded", "active", "waiting"));
        assert_eq!(
            well.expect("well").said.as_deref(),
            Some("active (waiting)")
        );
        let failed = check.judge(&unit("loaded", "failed", "failed"));
        let why = failed.expect_err("it failed");
        assert!(
            why.contains("backup.timer is failed (failed), not active or reloading"),
            "{why}"
        );
        let none = check.judge(&unit("not-found", "inactive", "dead"));
        assert!(none.expect_err("no unit").contains("there is no unit"));
    }
}
