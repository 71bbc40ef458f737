//! Which of the two text formats a scraper wants.

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Classic,
}

impl Format {
    /// What the `Accept` header asks for: `OpenMetrics` when it is wanted at least as much as plain text, else the classic
    /// format, which everything reads.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open_metrics, mut classic) = (0.0, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, "1.0.0");
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = value.trim().trim_matches('"'),
                    _ => {}
                }
            }
            match kind.as_str() {
                // 0.0.1 is the draft, which differs from 1.0.0 in nothing that we emit.
                "application/openmetrics-text" if matches!(version, "1.0.0" | "0.0.1") => {
                    open_metrics = f64::max(open_metrics, quality);
                }
                "text/plain" | "text/*" => classic = f64::max(classic, quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= classic {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// Value of the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                          application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.2";
        let cases = [
            (None, Format::Classic),
            (Some("*/*"), Format::Classic),
            (Some(""), Format::Classic),
            (Some("text/html,application/xhtml+xml"), Format::Classic),
            (Some(prometheus), Format::OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; version=\"1.0.0\""),
                Format::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text; version=2.0.0"),
                Format::Classic,
            ),
            (
                Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"),
                Format::Classic,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Classic),
            (Some("application/openmetrics-text;q=much"), Format::Classic),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::negotiate(accept), format, "{accept:?}");
        }
    }
}
