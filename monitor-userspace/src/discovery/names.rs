//! Names of services: of letters, digits, `-`, `_`, `.` and `@`, 64 at most, and each used once.

use std::collections::BTreeSet;

/// Longest name that is given, so that there is room for what makes it another one.
const LONGEST: usize = 48;

/// See the module.
#[derive(Debug)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// These are used.
    pub(super) fn taken<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        Self(names.cloned().collect())
    }

    /// One for what others call so.
    pub(super) fn of(&mut self, called: &str, kind: &str) -> String {
        let fit = fit(called);
        let plain = std::iter::once(fit.clone());
        let kinds = std::iter::once(format!("{fit}-{kind}"));
        let numbers = (2_u32..).map(|number| format!("{fit}-{number}"));
        let mut all = plain.chain(kinds).chain(numbers);
        let name = all.find(|name| !self.0.contains(name)).unwrap_or(fit);
        self.0.insert(name.clone());
        name
    }
}

fn fit(called: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let fit: String = called
        .chars()
        .take(LONGEST)
        .map(|c| if good(c) { c } else { '-' })
        .collect();
    let fit = fit.trim_matches(['-', '.']);
    if fit.is_empty() { "service" } else { fit }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_fit_and_given_once() {
        let mut names = Names::taken([String::from("web")].iter());
        let long = "x".repeat(300);
        let all = [
            "web",
            "web",
            "web",
            "my app\n\"",
            "über",
            "..",
            "",
            "a@1.b",
            &long,
        ];
        let all = all.map(|called| names.of(called, "pm2"));
        let (last, rest) = all.split_last().expect("some");
        let expected = [
            "web-pm2",
            "web-2",
            "web-3",
            "my-app",
            "ber",
            "service",
            "service-pm2",
            "a@1.b",
        ];
        assert_eq!(rest, expected);
        assert_eq!(last.len(), LONGEST);
    }
}
