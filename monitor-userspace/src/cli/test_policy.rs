//! `smart-monitor test-policy`: tests of a policy, written by its user. Needs no rights and no daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::ask;
use super::render::{self, Paint, Style, add, clean};
use crate::config::ConfigError;
use crate::policy_test::{Failure, Suite, Unusable, Verdict};

/// Run tests of a policy: what happens, when, and what must be done about it. docs/policy-tests.md says how they are written.
///
/// The exit code is 0 when every test passed, 1 when one failed, 2 when a file has a mistake; its other tests are not run then.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Files of tests; each names the configuration that it is for.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code when a test failed.
const FAILED: u8 = 1;
/// Exit code when a file has a mistake.
const UNUSABLE: u8 = 2;

#[derive(Debug, Default, Serialize)]
struct Report {
    files: Vec<Ran>,
    passed: usize,
    failed: usize,
    /// Files with mistakes, whose tests were not run.
    unusable: usize,
}

#[derive(Debug, Serialize)]
struct Ran {
    file: PathBuf,
    tests: Vec<Verdict>,
    /// What is wrong with the file or with its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    mistakes: Option<Vec<Mistake>>,
    #[serde(skip)]
    drawn: Option<String>,
}

#[derive(Debug, Serialize)]
struct Mistake {
    /// The file of tests, or the configuration.
    file: PathBuf,
    /// Line and column, from 1; none where it is the whole file.
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: Option<String>,
}

fn mistakes(error: &Unusable) -> Vec<Mistake> {
    match error {
        Unusable::Mistakes(ConfigError::Mistakes(mistakes)) => mistakes
            .iter()
            .map(|mistake| Mistake {
                file: mistake.file.clone(),
                line: Some(mistake.line),
                column: Some(mistake.column),
                message: mistake.message.clone(),
                help: mistake.help.clone(),
            })
            .collect(),
        Unusable::Mistakes(ConfigError::Read { path, .. }) | Unusable::Read { path, .. } => {
            vec![Mistake {
                file: path.clone(),
                line: None,
                column: None,
                message: error.to_string(),
                help: None,
            }]
        }
    }
}

/// See [`Args`].
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    for file in args.files {
        let ran = match Suite::load(&file) {
            Ok(suite) => Ran {
                file,
                tests: suite.run(),
                mistakes: None,
                drawn: None,
            },
            Err(error) => Ran {
                file,
                tests: Vec::new(),
                mistakes: Some(mistakes(&error)),
                drawn: Some(error.render()),
            },
        };
        report.passed += ran.tests.iter().filter(|test| test.ok).count();
        report.failed += ran.tests.iter().filter(|test| !test.ok).count();
        report.unusable += usize::from(ran.mistakes.is_some());
        report.files.push(ran);
    }
    if args.json {
        ask::show_json(&report)?;
    } else {
        render::show(&text(&report, Paint::for_stdout()))?;
        for drawn in report.files.iter().filter_map(|ran| ran.drawn.as_ref()) {
            render::remark(drawn);
        }
    }
    Ok(match (report.unusable, report.failed) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(FAILED),
        _ => ExitCode::from(UNUSABLE),
    })
}

fn text(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    for ran in &report.files {
        add(
            &mut out,
            format_args!("{}\n", clean(&ran.file.display().to_string())),
        );
        if ran.mistakes.is_some() {
            let word = paint.apply(Style::Bad, "MISTAKE");
            add(&mut out, format_args!("  {word}  no test was run\n"));
        }
        for test in &ran.tests {
            let word = if test.ok {
                paint.apply(Style::Good, "ok")
            } else {
                paint.apply(Style::Bad, "FAILED")
            };
            let space = if test.ok { "    " } else { "" };
            add(
                &mut out,
                format_args!("  {word}{space}  {}\n", clean(&test.name)),
            );
            if let Some(failure) = &test.failure {
                explain(&mut out, ran, failure);
            }
        }
    }
    let sums = format!("{} passed, {} failed", report.passed, report.failed);
    add(&mut out, format_args!("{sums}"));
    if report.unusable > 0 {
        let files = report.unusable;
        add(&mut out, format_args!(", {files} not run for mistakes"));
    }
    out.push('\n');
    out
}

fn explain(out: &mut String, ran: &Ran, failure: &Failure) {
    let Failure {
        line, column, at, ..
    } = failure;
    let file = clean(&ran.file.display().to_string());
    add(
        out,
        format_args!(
            "    {file}:{line}:{column}, at {at}: {}\n",
            clean(&failure.step)
        ),
    );
    add(
        out,
        format_args!("      expected: {}\n", clean(&failure.expected)),
    );
    add(
        out,
        format_args!("      happened: {}\n", clean(&failure.happened)),
    );
    if !failure.story.is_empty() {
        out.push_str("      until then:\n");
    }
    for line in &failure.story {
        add(out, format_args!("      {}\n", clean(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_says_where_what_and_why() {
        let failure = Failure {
            line: 4,
            column: 2,
            step: "{ at = \"1s\" }".to_owned(),
            at: "1.000s".to_owned(),
            expected: "an act on web".to_owned(),
            happened: "nothing \u{1b}[31mwas done".to_owned(),
            story: vec!["   1.000s  it began".to_owned()],
        };
        let verdict = |name: &str, failure: Option<Failure>| Verdict {
            name: name.to_owned(),
            ok: failure.is_none(),
            failure,
        };
        let ran = Ran {
            file: "a.toml".into(),
            tests: vec![verdict("good", None), verdict("bad", Some(failure))],
            mistakes: None,
            drawn: None,
        };
        let report = Report {
            files: vec![ran],
            passed: 1,
            failed: 1,
            unusable: 0,
        };
        let expected = "\
a.toml
  ok      good
  FAILED  bad
    a.toml:4:2, at 1.000s: { at = \"1s\" }
      expected: an act on web
      happened: nothing \u{fffd}[31mwas done
      until then:
         1.000s  it began
1 passed, 1 failed
";
        assert_eq!(text(&report, Paint::none()), expected);
    }
}
