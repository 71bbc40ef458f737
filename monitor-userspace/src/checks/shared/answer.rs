//! What a check has to say beside that all is well.

use std::time::Duration;

use crate::model::Figure;

/// A good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// In a few words, for people: `status 200, certificate valid for 61 days`.
    pub said: Option<String>,
    /// What was measured; names are constants of the check, so that there is a bounded number of them.
    pub figures: Vec<Figure>,
}

impl Answer {
    /// With nothing to say.
    pub fn well() -> Self {
        Self::default()
    }

    /// With these words.
    #[must_use]
    pub fn saying(mut self, said: impl Into<String>) -> Self {
        self.said = Some(said.into());
        self
    }

    /// With this time, shown as `NAME_seconds`.
    #[must_use]
    pub fn took(mut self, name: &str, time: Duration) -> Self {
        self.figures.push(Figure::seconds(name, time));
        self
    }

    /// With this number; the name says its unit.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.figures.push(Figure::new(name, value));
        self
    }
}
