//! `smart-monitor replay` as a user runs it: the same bytes each time, and exit codes that say what it found.

use std::process::Output;

use smart_monitor_tests::{built, program};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sm-replay-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("it is made");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(arguments: &[&Path]) -> Output {
    let mut command = program(built().expect("it builds"));
    command.arg("replay").args(arguments);
    command.output().expect("it runs")
}

#[test]
fn the_command_prints_the_same_bytes_in_every_process() {
    let folder = Folder::new("same");
    let (recording, strict) = (folder.0.join("a.rec"), folder.0.join("strict.toml"));
    as_file("demo_faults", &recording);
    let text = std::fs::read_to_string(super::folder().join("demo_faults.toml")).expect("it reads");
    let without = compare::without_remedy(&text, "latency_spike");
    std::fs::write(&strict, without).expect("it writes");
    let (json, config) = (Path::new("--json"), Path::new("--config"));
    for (arguments, code) in [
        (vec![recording.as_path()], 0),
        (vec![&recording, json], 0),
        (vec![&recording, config, &strict], 1),
        (vec![&recording, config, &strict, json], 1),
    ] {
        let (one, two) = (run(&arguments), run(&arguments));
        let error = String::from_utf8_lossy(&one.stderr).into_owned();
        assert_eq!(one.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!one.stdout.is_empty(), "{error}");
        assert_eq!(one.stdout, two.stdout, "{arguments:?}");
        assert!(error.contains("times as fast"), "{error}");
    }
    let same = super::folder().join("demo_faults.toml");
    let nothing = run(&[&recording, config, &same]);
    assert_eq!(nothing.status.code(), Some(0));
    let said = String::from_utf8_lossy(&nothing.stdout).into_owned();
    assert!(
        said.starts_with("nothing is decided differently\n"),
        "{said}"
    );
    let differs = run(&[&recording, config, &strict]);
    let said = String::from_utf8_lossy(&differs.stdout).into_owned();
    assert!(
        said.contains("- ") && said.contains("not any more"),
        "{said}"
    );
    assert!(said.contains("1 had fixed what they were for"), "{said}");
}

#[test]
fn what_is_dumped_replays_to_the_same_decisions() {
    let folder = Folder::new("dump");
    let (recording, lines) = (folder.0.join("a.rec"), folder.0.join("a.jsonl"));
    as_file("demo_faults", &recording);
    let dumped = run(&[&recording, Path::new("--dump")]);
    assert!(dumped.status.success());
    std::fs::write(&lines, &dumped.stdout).expect("it writes");
    let was = super::folder().join("demo_faults.toml");
    let config = run(&[&recording, Path::new("--dump-config")]).stdout;
    assert_eq!(config, std::fs::read(&was).expect("it reads"));
    let of_lines = run(&[&lines, Path::new("--was"), &was]);
    assert_eq!(of_lines.status.code(), Some(0));
    assert_eq!(
        String::from_utf8_lossy(&of_lines.stdout),
        String::from_utf8_lossy(&run(&[&recording]).stdout)
    );
    let without = run(&[&lines]);
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains("--was"));
}

#[test]
fn damage_is_an_error_unless_it_may_be_passed_over() {
    let folder = Folder::new("damage");
    let recording = folder.0.join("a.rec");
    as_file("demo_faults", &recording);
    let mut bytes = std::fs::read(&recording).expect("it reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&recording, &bytes).expect("it writes");
    let strict = run(&[&recording]);
    assert_eq!(strict.status.code(), Some(2));
    let error = String::from_utf8_lossy(&strict.stderr).into_owned();
    assert!(
        error.contains("damaged at byte") && error.contains("--lenient"),
        "{error}"
    );
    let lenient = run(&[&recording, Path::new("--lenient")]);
    assert_eq!(lenient.status.code(), Some(0));
    let said = String::from_utf8_lossy(&lenient.stdout).into_owned();
    assert!(said.contains("passed over, being damaged: "), "{said}");
}
