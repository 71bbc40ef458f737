//! What holds the architecture together and no compiler checks: who may import whom, where the clock is read, where things are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` file below a folder of the checkout, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("the folder is there");
        for entry in entries {
            let path = entry.expect("it reads").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("it reads");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

/// The stage a file of the daemon belongs to: the first part of its path below `src`.
fn stage(path: &Path) -> String {
    let source = root().join("monitor-userspace/src");
    let below = path.strip_prefix(source).expect("it is below");
    let first = below.components().next().expect("it has a name");
    Path::new(first.as_os_str())
        .file_stem()
        .expect("it has a stem")
        .to_string_lossy()
        .into_owned()
}

/// Stages that a text imports: `crate::stage` and `crate::{stage, other::thing}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut stages = BTreeSet::new();
    for after in text.split("crate::").skip(1) {
        if let Some(list) = after.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => stages.extend(first_part(&std::mem::take(&mut name))),
                    _ if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            stages.extend(first_part(&name));
        } else {
            stages.extend(first_part(after));
        }
    }
    stages
}

fn first_part(text: &str) -> Option<String> {
    let word: String = text
        .trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!word.is_empty()).then_some(word)
}

/// Who may import whom. `model` is everybody's; `pipeline` and `cli` see everything; nobody sees them.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("kernel", &[]),
    ("host", &[]),
    ("simulate", &[]),
    ("verify", &[]),
    ("metrics", &[]),
    ("api", &["metrics"]),
    ("detectors", &["config"]),
    ("policy", &["config"]),
    ("checks", &["config", "host"]),
    ("record", &["config", "kernel"]),
    ("samplers", &["config", "host", "kernel"]),
    ("identity", &["host"]),
    ("supervisors", &["config", "host"]),
    ("discovery", &["checks", "config", "host", "supervisors"]),
    ("actions", &["config", "host", "policy"]),
    ("engine", &["actions", "detectors", "policy", "verify"]),
    ("replay", &["config", "engine", "record"]),
    (
        "policy_test",
        &["actions", "config", "detectors", "engine", "policy"],
    ),
    (
        "config",
        &[
            "actions",
            "checks",
            "detectors",
            "engine",
            "host",
            "policy",
            "record",
            "samplers",
            "supervisors",
        ],
    ),
];

#[test]
fn stages_import_only_what_lies_before_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources("monitor-userspace/src") {
        let own = stage(&path);
        if matches!(own.as_str(), "pipeline" | "cli" | "main" | "lib") {
            continue;
        }
        let allowed = ALLOWED.iter().find(|(name, _)| *name == own);
        let (_, allowed) =
            allowed.unwrap_or_else(|| panic!("tests/tidy.rs does not know the stage {own}"));
        for import in imports(&text) {
            if import != own && import != "model" && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{}: {own} may not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_test_of_directions_sees_what_it_looks_for() {
    let text = "use crate::host::{A, B};\nuse crate::{actions, model::{X, Y}, policy};\nlet a = crate::kernel::b();";
    let expected = ["actions", "host", "kernel", "model", "policy"].map(str::to_owned);
    assert_eq!(imports(text), BTreeSet::from(expected));
}

#[test]
fn the_core_reads_no_clock_and_does_no_io() {
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "clock_gettime",
        "std::fs",
        "std::net::Tcp",
        "tokio::",
        "std::thread",
    ];
    for (path, text) in sources("monitor-userspace/src") {
        if matches!(
            stage(&path).as_str(),
            "detectors" | "policy" | "engine" | "verify" | "model"
        ) {
            for word in forbidden {
                assert!(
                    !text.contains(word),
                    "{}: the core does not use {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn only_policy_makes_permits_and_only_host_has_hands() {
    for (path, text) in sources("monitor-userspace/src") {
        let own = stage(&path);
        assert!(
            own == "policy" || !text.contains("Permit::new"),
            "{}: only policy makes a permit",
            path.display()
        );
        let spawns = text.contains("expect(clippy::disallowed_methods");
        // The demo starts a daemon as a user would, on a command line.
        let may = own == "host" || path.ends_with("cli/demo/session.rs");
        assert!(
            may || !spawns,
            "{}: only host/ spawns and signals",
            path.display()
        );
    }
}

#[test]
fn unsafe_code_stands_in_kernel_and_host_alone() {
    for (path, text) in sources("monitor-userspace/src") {
        let may = matches!(stage(&path).as_str(), "kernel" | "host");
        let has = text
            .lines()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(may || !has, "{}: unsafe code", path.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in [
        "monitor-common",
        "monitor-ebpf/src",
        "monitor-userspace/src",
        "xtask/src",
        "tests",
    ] {
        for (path, text) in sources(folder) {
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            assert!(text.starts_with("//!"), "{} has no header", path.display());
            let header = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .count();
            assert!(
                header <= 20,
                "{}: a header of {header} lines",
                path.display()
            );
        }
    }
}

#[test]
fn no_file_grows_beyond_reading() {
    for folder in [
        "monitor-common",
        "monitor-ebpf/src",
        "monitor-userspace/src",
        "xtask/src",
    ] {
        for (path, text) in sources(folder) {
            let code = text
                .split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .lines()
                .count();
            assert!(code <= 600, "{}: {code} lines; split it", path.display());
        }
    }
}

#[test]
fn a_probe_has_the_same_name_on_both_sides() {
    for kind in monitor_common::Kind::ALL {
        for folder in ["monitor-common/src/probes", "monitor-ebpf/src/probes"] {
            let path = root().join(folder).join(format!("{}.rs", kind.name()));
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}
