//! Mistakes in a configuration, shown where they stand.

use std::ops::Range;
use std::path::{Path, PathBuf};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; name another with --config", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has mistakes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
}

/// One mistake.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", file.display())]
pub struct Mistake {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    span: Range<usize>,
    source_text: NamedSource<String>,
}

/// A mistake before it is known where in the text it stands.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Found {
    /// A mistake in a table as a whole stands at its header.
    fn placed(mut self, text: &str) -> Self {
        if self.span == (0..0)
            && let Some(header) = self.message.split_once(':').map(|(header, _)| header)
            && let Some(start) = text.find(header)
        {
            self.span = start..start + header.len();
        }
        self
    }
}

impl ConfigError {
    pub(crate) fn new(found: Vec<Found>, text: &str, path: &Path) -> Self {
        let placed = found.into_iter().map(|found| found.placed(text));
        Self::Mistakes(
            placed
                .map(|found| Mistake::new(found, text, path))
                .collect(),
        )
    }

    pub(crate) fn from_toml(error: &toml::de::Error, text: &str, path: &Path) -> Self {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', " ");
        let help = suggestion(&message);
        Self::new(
            vec![Found {
                span,
                message,
                help,
            }],
            text,
            path,
        )
    }

    /// All mistakes, drawn into the text they stand in.
    pub fn render(&self) -> String {
        match self {
            Self::Read { .. } => self.to_string(),
            Self::Mistakes(mistakes) => {
                let handler =
                    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
                let mut text = String::new();
                for mistake in mistakes {
                    text.push_str(&mistake.to_string());
                    text.push('\n');
                    if handler.render_report(&mut text, mistake).is_err() {
                        text.push_str(mistake.help.as_deref().unwrap_or_default());
                    }
                }
                text
            }
        }
    }
}

impl Mistake {
    fn new(found: Found, text: &str, path: &Path) -> Self {
        let (line, column) = place(text, found.span.start);
        Self {
            file: path.to_owned(),
            line,
            column,
            message: found.message,
            help: found.help,
            span: found.span,
            source_text: NamedSource::new(path.display().to_string(), text.to_owned()),
        }
    }
}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::at(self.span.clone(), "here");
        Some(Box::new(std::iter::once(label)))
    }
}

/// Line and column, from 1, of a byte of a text.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// The nearest of some known names, if one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

/// Reads serde's "unknown field `x`, expected one of `a`, `b`", and names the nearest.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message
        .starts_with("unknown")
        .then(|| quoted.next())
        .flatten()?;
    let near = nearest(unknown, quoted)?;
    Some(format!("did you mean `{near}`?"))
}
