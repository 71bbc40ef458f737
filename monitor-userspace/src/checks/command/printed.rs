//! What a program printed, for the check `command`.

use std::time::Duration;

use jiff::{Timestamp, Unit};

use super::super::Answer;
use super::super::expect::{Expect, FIGURES, figure_name, shown};
use crate::config::units::Span;

/// By the conventions of Nagios plugins: the exit status is the verdict, the first line the text, what is behind its `|` are figures.
pub(super) fn nagios(code: u8, text: &str, warning_is_well: bool) -> Result<Answer, String> {
    let first = text.lines().next().unwrap_or("");
    let (said, data) = first.split_once('|').unwrap_or((first, ""));
    let said = shown(said);
    let verdict = match code {
        0 => None,
        1 if warning_is_well => None,
        1 => Some("warning".to_owned()),
        2 => Some("critical".to_owned()),
        3 => Some("unknown".to_owned()),
        other => Some(format!(
            "exit status {other}, which is none of a Nagios plugin"
        )),
    };
    if let Some(verdict) = verdict {
        return Err(format!("{verdict}: {said}"));
    }
    let mut answer = Answer::well().saying(said);
    for (name, value) in figures(data).into_iter().take(FIGURES) {
        answer = answer.with(&name, value);
    }
    Ok(answer)
}

/// `'label'=value[unit];warn;crit;min;max`, parted by spaces; what does not read is left out.
fn figures(data: &str) -> Vec<(String, f64)> {
    let mut found: Vec<(String, f64)> = Vec::new();
    let mut left = data.trim_start();
    while !left.is_empty() && found.len() < FIGURES {
        let label;
        (label, left) = match left.strip_prefix('\'') {
            // A quote within one is written twice; it becomes `_` as others do.
            Some(quoted) => quoted.split_once("'=").unwrap_or((quoted, "")),
            None => left.split_once('=').unwrap_or((left, "")),
        };
        let (value, rest) = left.split_once(char::is_whitespace).unwrap_or((left, ""));
        left = rest.trim_start();
        let value = value.split(';').next().unwrap_or("");
        let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
        let (number, unit) = value.split_at(value.find(|c| !digits(c)).unwrap_or(value.len()));
        let (Some(name), Ok(number)) = (figure_name(label), number.parse::<f64>()) else {
            continue;
        };
        let (suffix, factor) = match unit {
            "s" => ("_seconds", 1.0),
            "ms" => ("_seconds", 1e-3),
            "us" => ("_seconds", 1e-6),
            "%" => ("_percent", 1.0),
            "B" => ("_bytes", 1.0),
            "KB" => ("_bytes", 1024.0),
            "MB" => ("_bytes", 1024.0 * 1024.0),
            "GB" => ("_bytes", 1024.0 * 1024.0 * 1024.0),
            "TB" => ("_bytes", 1024.0 * 1024.0 * 1024.0 * 1024.0),
            "c" => ("_total", 1.0),
            _ => ("", 1.0),
        };
        let name = name + suffix;
        // Two of one name would be one series twice.
        if number.is_finite() && found.iter().all(|(other, _)| *other != name) {
            found.push((name, number * factor));
        }
    }
    found
}

/// Whether the number, or the time, that was printed first is as expected.
pub(super) fn judge(
    text: &str,
    expect: Option<&Expect>,
    max_age: Option<Span>,
) -> Result<Answer, String> {
    let mut answer = Answer::well();
    if let Some(expect) = expect {
        let number = |word: &str| word.parse::<f64>().ok().filter(|number| number.is_finite());
        let number = text.split_whitespace().find_map(number);
        let number = number.ok_or_else(|| format!("it printed no number: `{}`", shown(text)))?;
        expect
            .holds(number)
            .map_err(|why| format!("it printed {number}, {why}"))?;
        answer = answer.with("value", number);
    }
    if let Some(most) = max_age {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("");
        let time = time(line).ok_or_else(|| {
            format!(
                "it printed no time as 2026-01-31T12:00:00Z or seconds since 1970: `{}`",
                shown(text)
            )
        })?;
        let age = Timestamp::now().duration_since(time);
        // One from the future is new.
        let age = Duration::try_from(age).unwrap_or_default();
        if age > most.0 {
            let age = Span::seconds(age.as_secs());
            return Err(format!(
                "the newest is {age} old ({}), expected at most {most}",
                shown(line)
            ));
        }
        answer = answer.took("age", age);
    }
    Ok(answer)
}

/// With a zone, or in UTC without; or seconds since 1970.
fn time(line: &str) -> Option<Timestamp> {
    if let Ok(seconds) = line.parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a cast that saturates is refused by the range of a time"
        )]
        return Timestamp::from_millisecond((seconds * 1e3) as i64).ok();
    }
    let civil = || {
        line.parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
    };
    let time = line.parse().ok().or_else(|| Some(civil()?.timestamp()))?;
    Timestamp::round(time, Unit::Millisecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_understood() {
        let text = "DISK OK - free 3.3 GB |'/var log'=2643MB;5948;5958;0;5968 time=12ms load1=0.5;1;2 /=1% junk=abc count=7c =3 load1=9\nmore\n";
        let answer = nagios(0, text, false).expect("it is well");
        assert_eq!(answer.said.as_deref(), Some("DISK OK - free 3.3 GB"));
        let figures: Vec<(String, f64)> = answer
            .figures
            .iter()
            .map(|figure| (figure.name.clone(), figure.value()))
            .collect();
        let expected = [
            ("var_log_bytes", 2643.0 * 1024.0 * 1024.0),
            ("time_seconds", 0.012),
            ("load1", 0.5),
            ("count_total", 7.0),
        ];
        assert_eq!(
            figures,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
        assert_eq!(
            nagios(2, "no space", false),
            Err("critical: no space".to_owned())
        );
        assert_eq!(
            nagios(1, "little space", false),
            Err("warning: little space".to_owned())
        );
        assert!(nagios(1, "little space", true).is_ok());
        assert!(nagios(3, "", false).is_err() && nagios(127, "", false).is_err());
    }

    #[test]
    fn a_flood_of_figures_is_bounded() {
        let many: Vec<String> = (0..1000).map(|n| format!("f{n}={n} ")).collect();
        let many = many.concat();
        assert_eq!(figures(&many).len(), FIGURES);
        for rubbish in [
            "'",
            "'=",
            "=",
            "a",
            "a=",
            "'a'=1e999",
            "\u{1f600}=1",
            "'a''b'=2s x",
        ] {
            assert!(figures(rubbish).len() <= 1, "{rubbish}");
        }
    }

    #[test]
    fn numbers_and_times_that_are_printed_are_judged() {
        let between = Expect {
            above: Some(0.0),
            below: Some(5.0),
            equals: None,
        };
        let value = |text| {
            judge(text, Some(&between), None)
                .map(|answer| answer.figures.first().map(crate::model::Figure::value))
        };
        assert_eq!(value("rows: 3\n"), Ok(Some(3.0)));
        assert_eq!(value("7"), Err("it printed 7, expected below 5".to_owned()));
        assert!(value("nan inf none").is_err_and(|why| why.contains("no number")));
        let hour = Some(Span::seconds(3600));
        let now = Timestamp::now();
        let minute_ago = now - jiff::SignedDuration::from_mins(1);
        let seconds = minute_ago.as_second().to_string();
        for good in [
            minute_ago.to_string(),
            seconds,
            minute_ago.to_string().replace('T', " ").replace('Z', "+00"),
        ] {
            assert!(judge(&good, None, hour).is_ok(), "{good}");
        }
        let day_ago = (now - jiff::SignedDuration::from_hours(24)).to_string();
        let why = judge(&day_ago, None, hour).expect_err("it is too old");
        assert!(why.contains("expected at most 1h"), "{why}");
        for rubbish in ["", "yesterday", "1e300", "-1e300", "nan"] {
            assert!(judge(rubbish, None, hour).is_err(), "{rubbish}");
        }
    }
}
