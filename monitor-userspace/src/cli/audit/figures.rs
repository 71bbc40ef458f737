//! Mean and median of lengths of time.

use std::time::Duration;

use serde::Serialize;

/// Lengths of time, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// How many.
    pub(super) count: usize,
    /// Seconds; none of nothing.
    pub(super) mean_s: Option<f64>,
    /// Seconds; of an even number, the middle between the two in the middle.
    pub(super) median_s: Option<f64>,
}

impl Figures {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let count = times.len();
        let at = |place: usize| times.get(place).copied();
        let median = at(count / 2).map(|upper| {
            let lower = if count.is_multiple_of(2) {
                at(count / 2 - 1)
            } else {
                None
            };
            lower.map_or(upper, |lower| (lower + upper) / 2)
        });
        let sum: Duration = times.iter().sum();
        let mean = u32::try_from(count)
            .ok()
            .and_then(|count| sum.checked_div(count));
        Self {
            count,
            mean_s: mean.map(|mean| mean.as_secs_f64()),
            median_s: median.map(|median| median.as_secs_f64()),
        }
    }

    /// Both, for a table.
    pub(super) fn words(&self) -> (String, String) {
        (words(self.mean_s), words(self.median_s))
    }
}

/// A length of time for people.
pub(super) fn words(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map_or_else(|| "-".to_owned(), crate::cli::render::duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_median_are_what_they_are() {
        let of = |seconds: &[u64]| {
            let figures = Figures::of(seconds.iter().copied().map(Duration::from_secs).collect());
            (figures.mean_s, figures.median_s)
        };
        assert_eq!(of(&[]), (None, None));
        assert_eq!(of(&[4]), (Some(4.0), Some(4.0)));
        assert_eq!(of(&[9, 1]), (Some(5.0), Some(5.0)));
        assert_eq!(of(&[1, 30, 2]), (Some(11.0), Some(2.0)));
        assert_eq!(of(&[10, 2, 4, 3]), (Some(4.75), Some(3.5)));
        assert_eq!(words(Some(4.0)), "4.00 s");
        assert_eq!(words(None), "-");
    }
}
