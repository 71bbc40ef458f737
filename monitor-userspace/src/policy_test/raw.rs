//! The file, as it is written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::config::units::Span;
use crate::model::Severity;

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    /// The configuration that is tested; counts from the folder of this file.
    pub(super) config: Spanned<PathBuf>,
    /// In place of `[policy] dry_run`.
    pub(super) dry_run: Option<bool>,
    /// `[[test]]`
    #[serde(default)]
    pub(super) test: Vec<Test>,
}

/// `[[test]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// What it shows.
    pub(super) name: Spanned<String>,
    /// The wall clock at 0s.
    pub(super) start: Option<Spanned<String>>,
    /// How long the machine has been up at 0s.
    pub(super) uptime: Option<Spanned<Span>>,
    /// What becomes of acts.
    pub(super) effects: Option<Spanned<String>>,
    /// In place of the file's.
    pub(super) dry_run: Option<bool>,
    /// What happens, and what is expected.
    pub(super) steps: Vec<Spanned<Step>>,
    /// Acts in all.
    pub(super) acts: Option<Spanned<u32>>,
}

/// Shares in per cent.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Load {
    pub(super) cpus: u32,
    pub(super) load1: f64,
    pub(super) cpu_some: f64,
    pub(super) memory_some: f64,
    pub(super) memory_full: f64,
    pub(super) io_some: f64,
    pub(super) io_full: f64,
}

macro_rules! step {
    ($($name:ident: $type:ty,)*) => {
        /// A step: one input or one expectation, and what belongs to it.
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Step {
            pub(super) at: Spanned<Span>,
            $(pub(super) $name: Option<Spanned<$type>>,)*
        }

        impl Step {
            /// The keys it has besides `at`, and where their values stand.
            pub(super) fn keys(&self) -> Vec<(&'static str, Range<usize>)> {
                let mut keys = Vec::new();
                $(if let Some(value) = &self.$name {
                    keys.push((stringify!($name).trim_start_matches("r#"), value.span()));
                })*
                keys
            }
        }
    };
}

step! {
    started: String,
    exited: String,
    start_failed: String,
    raised: String,
    cleared: String,
    check: String,
    named: String,
    load: Load,
    lost: String,
    clock: String,
    approve: String,
    reject: String,
    acknowledge: String,
    asked: String,
    lifted: String,
    silence: String,
    unsilence: String,
    expect: String,
    effects: String,
    on: String,
    detector: String,
    status: toml::Value,
    severity: Severity,
    facts: BTreeMap<String, toml::Value>,
    ok: bool,
    failure: String,
    latency: Span,
    count: u64,
    r#for: Span,
    reason: String,
    by: String,
    action: String,
    rule: String,
    undo: bool,
    guard: String,
    state: String,
    outcome: String,
}
