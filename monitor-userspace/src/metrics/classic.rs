//! Turns an `OpenMetrics` page into the classic text format 0.0.4, which older scrapers and `curl` ask for.
//!
//! The two differ, for what we emit, in the comments only: the classic format describes a counter under the name of its
//! series (with `_total`), knows no `info` type, no unit and no end mark.

/// The same page in the classic format.
pub(super) fn from_open_metrics(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    // The help comes before the type, and its name depends on the type.
    let mut help = None;
    for line in page.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            push(&mut out, &[line]);
            continue;
        };
        if let Some(text) = comment.strip_prefix("HELP ") {
            help = text.split_once(' ');
        } else if let Some((name, kind)) = comment
            .strip_prefix("TYPE ")
            .and_then(|text| text.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((name, text)) = help.take() {
                push(&mut out, &["# HELP ", name, suffix, " ", text]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::from_open_metrics;

    #[test]
    fn a_counter_is_described_under_the_name_of_its_series() {
        let page = "# HELP a_seconds Time.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{x=\"# TYPE\"} 1\n# EOF\n";
        assert_eq!(
            from_open_metrics(page),
            "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\n\
             a_seconds_total{x=\"# TYPE\"} 1\n"
        );
    }

    #[test]
    fn an_info_becomes_a_gauge_and_a_histogram_stays() {
        let page = "# HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP h H.\n# TYPE h histogram\nh_sum 0.0\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n# EOF\n";
        assert_eq!(
            from_open_metrics(page),
            "# HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
             # HELP h H.\n# TYPE h histogram\nh_sum 0.0\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n"
        );
    }
}
