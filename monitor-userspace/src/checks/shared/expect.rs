//! What a number is expected to be: `{ above = 0, below = 5 }`, `{ equals = 1 }`. And words of others, made fit to be shown.

use serde::Deserialize;

/// All that is given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Expect {
    /// More than this.
    pub(super) above: Option<f64>,
    /// Less than this.
    pub(super) below: Option<f64>,
    /// Exactly this.
    pub(super) equals: Option<f64>,
}

impl Expect {
    /// Whether it can hold, and says anything.
    pub(super) fn sensible(&self) -> Result<(), String> {
        let example = "for example `expect = { above = 0, below = 5 }`";
        let given = [self.above, self.below, self.equals];
        if given.iter().flatten().any(|number| !number.is_finite()) {
            return Err(format!("`expect` needs finite numbers, {example}"));
        }
        match (self.above, self.below, self.equals) {
            (None, None, None) => Err(format!("`expect` says nothing: {example}")),
            (_, _, Some(_)) if self.above.or(self.below).is_some() => {
                Err("`equals` stands alone in `expect`".to_owned())
            }
            (Some(above), Some(below), _) if above >= below => Err(format!(
                "nothing is above {above} and below {below}: `expect` says what is well, {example}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether this number is as expected; what was expected, if it is not.
    pub(super) fn holds(&self, number: f64) -> Result<(), String> {
        let mut wrong = Vec::new();
        if let Some(above) = self
            .above
            .filter(|above| number.is_nan() || number <= *above)
        {
            wrong.push(format!("above {above}"));
        }
        if let Some(below) = self
            .below
            .filter(|below| number.is_nan() || number >= *below)
        {
            wrong.push(format!("below {below}"));
        }
        #[expect(clippy::float_cmp, reason = "exactly is what was asked for")]
        if let Some(equals) = self.equals.filter(|equals| number != *equals) {
            wrong.push(format!("{equals}"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("expected {}", wrong.join(" and ")))
    }
}

/// Most characters that are shown of what others wrote.
const SHOWN: usize = 200;

/// Others' words: no control characters, and not too many.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut out: String = text.chars().take(SHOWN).map(plain).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push_str(" ...");
    }
    out
}

/// The name of a figure that others chose, as a label can have it: `a` to `z`, digits and `_`, at most 64; none of nothing.
pub(super) fn figure_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.trim().chars().take(64) {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    let name = name.trim_matches('_');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Most figures that others may give.
pub(super) const FIGURES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_holds_or_is_said() {
        let between: Expect = toml::from_str("above = 0\nbelow = 5").expect("it reads");
        between.sensible().expect("it can hold");
        assert_eq!(between.holds(1.0), Ok(()));
        assert_eq!(between.holds(0.0), Err("expected above 0".to_owned()));
        assert_eq!(between.holds(5.0), Err("expected below 5".to_owned()));
        assert!(between.holds(f64::NAN).is_err());
        let one: Expect = toml::from_str("equals = 1").expect("it reads");
        assert_eq!(one.holds(2.0), Err("expected 1".to_owned()));
        for wrong in [
            "",
            "above = 5\nbelow = 0",
            "above = nan",
            "equals = 1\nabove = 0",
        ] {
            let expect: Expect = toml::from_str(wrong).expect("it reads");
            assert!(expect.sensible().is_err(), "{wrong}");
        }
    }

    #[test]
    fn others_words_are_bounded() {
        assert_eq!(shown(" a\x1b[31m\nb "), "a [31m b");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN + 4);
        assert_eq!(figure_name("/var/Log %"), Some("var_log".to_owned()));
        assert_eq!(figure_name("\u{1f600}"), None);
        assert_eq!(
            figure_name(&"a".repeat(500)).map(|name| name.len()),
            Some(64)
        );
    }
}
