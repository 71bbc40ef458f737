//! Tests of a policy, written by its user: what happens, when, and what must be done about it. Run by the same core that runs in the daemon.
//!
//! Consumes a file (`raw`), which names a configuration; emits a result a test. `resolve` turns what is written into what is meant, or
//! into mistakes with their places; `scene` drives the core through time and makes up what becomes of its acts; `expect` judges. Nothing of
//! the host is touched, and no clock is read: what comes out depends on the two files alone.

mod expect;
mod raw;
mod resolve;
mod scene;
mod step;
mod story;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{Config, ConfigError, error};
use scene::Scene;
use step::{Test, What};

/// Largest file of tests, bytes.
const SIZE: u64 = 1 << 20;

/// Why no test of a file was run.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file cannot be read.
    #[error("cannot read the tests {}: {why}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It, or the configuration that it names, has mistakes.
    #[error(transparent)]
    Mistakes(#[from] ConfigError),
}

impl Unusable {
    /// All mistakes, drawn into the text they stand in.
    pub fn render(&self) -> String {
        match self {
            Self::Read { .. } => self.to_string(),
            Self::Mistakes(mistakes) => mistakes.render(),
        }
    }
}

/// A file of tests without mistakes.
#[derive(Debug)]
pub struct Suite {
    file: PathBuf,
    text: String,
    config: Config,
    tests: Vec<Test>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The test's name.
    pub name: String,
    /// Whether everything was as expected.
    pub ok: bool,
    /// What was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// The first thing that was not as expected; the steps after it were not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Line of the step, from 1.
    pub line: usize,
    /// Column of the step, from 1.
    pub column: usize,
    /// The step, as it is written.
    pub step: String,
    /// When in the test, seconds and milliseconds.
    pub at: String,
    /// What was expected.
    pub expected: String,
    /// What was the case instead.
    pub happened: String,
    /// What the core saw and decided until then, a line each; the last ones, when there are many.
    pub story: Vec<String>,
}

impl Suite {
    /// Reads a file of tests, and the configuration that it names.
    pub fn load(path: &Path) -> Result<Self, Unusable> {
        let failed = |why: String| Unusable::Read {
            path: path.to_owned(),
            why,
        };
        let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
        if size.len() > SIZE {
            return Err(failed(format!(
                "it is larger than {SIZE} bytes; make it several files"
            )));
        }
        let text = crate::config::read(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text, path, &mut |config| {
            crate::config::read(config).map_err(|error| error.to_string())
        })
    }

    /// Reads a text; `path` stands in messages, and what it names is read by `read`.
    pub fn parse(
        text: &str,
        path: &Path,
        read: &mut dyn FnMut(&Path) -> Result<String, String>,
    ) -> Result<Self, Unusable> {
        resolve::suite(text, path, read)
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Runs every test, in the order of the file.
    pub fn run(&self) -> Vec<Verdict> {
        let verdict = |test: &Test| {
            let failure = self.fails(test);
            Verdict {
                name: test.name.clone(),
                ok: failure.is_none(),
                failure,
            }
        };
        self.tests.iter().map(verdict).collect()
    }

    fn fails(&self, test: &Test) -> Option<Failure> {
        let mut scene = Scene::new(&self.config, test);
        for step in &test.steps {
            let written = self.text.get(step.span.clone()).unwrap_or_default();
            let result = scene.pass(step.at).and_then(|()| match &step.what {
                What::Input(input) => {
                    scene.says(&story::shortened(written));
                    scene.input(input, step.effects)
                }
                What::Effects => {
                    scene.says(&story::shortened(written));
                    scene.set_effects(step.effects);
                    Ok(())
                }
                What::Expect(expected) => expect::judge(expected, &mut scene),
            });
            if let Err(wrong) = result {
                return Some(self.failure(step.span.start, written, wrong, &scene));
            }
        }
        let acts = scene.acts().iter().filter(|act| !act.undo).count();
        let (expected, at) = test.acts.as_ref()?;
        (usize::try_from(*expected).ok() != Some(acts)).then(|| {
            let wrong = expect::Wrong {
                expected: format!("{expected} acts in all"),
                happened: format!("{acts}{}", expect::listed(scene.acts())),
            };
            self.failure(at.start, &format!("acts = {expected}"), wrong, &scene)
        })
    }

    fn failure(&self, at: usize, step: &str, wrong: expect::Wrong, scene: &Scene) -> Failure {
        let (line, column) = error::place(&self.text, at);
        Failure {
            line,
            column,
            step: story::shortened(step),
            at: story::seconds(scene.elapsed()),
            expected: wrong.expected,
            happened: wrong.happened,
            story: scene.story(),
        }
    }
}

#[cfg(test)]
mod tests;
