//! Which test targets there are: those for any host, and the one that needs the live kernel.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::paths::Paths;
use crate::process::{capture, cargo};

/// The test target that needs root.
const LIVE: &str = "live";

pub(super) struct Targets {
    packages: Vec<Package>,
}

struct Package {
    name: String,
    targets: Vec<Target>,
}

struct Target {
    name: String,
    kind: String,
    /// Whether a plain `cargo test` runs it.
    default: bool,
}

impl Targets {
    pub(super) fn of(paths: &Paths) -> Result<Self> {
        let mut metadata = cargo(paths);
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        Self::parse(&capture(&mut metadata)?)
    }

    fn parse(metadata: &str) -> Result<Self> {
        let metadata: Value =
            serde_json::from_str(metadata).context("cannot read `cargo metadata`")?;
        let list = |value: &Value, key: &str| {
            value
                .get(key)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let text = |value: &Value, key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let members = list(&metadata, "workspace_default_members");
        let target = |value: &Value| Target {
            name: text(value, "name"),
            kind: list(value, "kind")
                .first()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            default: value.get("test").and_then(Value::as_bool).unwrap_or(false),
        };
        let packages = list(&metadata, "packages")
            .iter()
            .filter(|package| package.get("id").is_some_and(|id| members.contains(id)))
            .map(|package| Package {
                name: text(package, "name"),
                targets: list(package, "targets").iter().map(target).collect(),
            })
            .collect();
        Ok(Self { packages })
    }

    /// Arguments of each `cargo test` that together run all but the live target.
    pub(super) fn host(&self) -> Vec<Vec<String>> {
        let (mixed, plain): (Vec<&Package>, Vec<&Package>) = self
            .packages
            .iter()
            .partition(|package| package.targets.iter().any(|t| t.is_live() && t.default));
        let whole = plain
            .iter()
            .flat_map(|package| ["--package".to_owned(), package.name.clone()])
            .collect();
        // Cargo cannot leave a target out, so a package with the live one has its others named.
        let named = mixed.iter().filter_map(|package| package.without_live());
        std::iter::once(whole)
            .chain(named)
            .filter(|selection: &Vec<String>| !selection.is_empty())
            .collect()
    }

    pub(super) fn live(&self) -> Option<[String; 4]> {
        let package = self
            .packages
            .iter()
            .find(|package| package.targets.iter().any(Target::is_live))?;
        Some([
            "--package".into(),
            package.name.clone(),
            "--test".into(),
            LIVE.into(),
        ])
    }
}

impl Package {
    fn without_live(&self) -> Option<Vec<String>> {
        let named: Vec<String> = self
            .targets
            .iter()
            .filter(|target| target.default && !target.is_live())
            .flat_map(|target| match target.kind.as_str() {
                "lib" => vec!["--lib".to_owned()],
                kind @ ("bin" | "test" | "example" | "bench") => {
                    vec![format!("--{kind}"), target.name.clone()]
                }
                _ => Vec::new(),
            })
            .collect();
        let package = ["--package".to_owned(), self.name.clone()];
        (!named.is_empty()).then(|| package.into_iter().chain(named).collect())
    }
}

impl Target {
    fn is_live(&self) -> bool {
        self.kind == "test" && self.name == LIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"workspace_default_members": ["a#1", "t#1"], "packages": [
        {"id": "a#1", "name": "a", "targets": [{"name": "a", "kind": ["lib"], "test": true}]},
        {"id": "k#1", "name": "k", "targets": [{"name": "k", "kind": ["bin"], "test": true}]},
        {"id": "t#1", "name": "t", "targets": [
            {"name": "t", "kind": ["lib"], "test": true}, {"name": "bench", "kind": ["bin"], "test": false},
            {"name": "tidy", "kind": ["test"], "test": true}, {"name": "live", "kind": ["test"], "test": true}]}]}"#;

    #[test]
    fn only_the_live_target_is_left_out() {
        let targets = Targets::parse(METADATA).unwrap();
        let host: Vec<String> = targets.host().iter().map(|args| args.join(" ")).collect();
        assert_eq!(host, ["--package a", "--package t --lib --test tidy"]);
        assert_eq!(targets.live().unwrap().join(" "), "--package t --test live");
    }

    #[test]
    fn a_live_target_off_by_default_needs_no_care() {
        let metadata = METADATA.replace(
            r#""live", "kind": ["test"], "test": true"#,
            r#""live", "kind": ["test"], "test": false"#,
        );
        let targets = Targets::parse(&metadata).unwrap();
        assert_eq!(targets.host(), [["--package", "a", "--package", "t"]]);
        assert!(targets.live().is_some());
    }
}
