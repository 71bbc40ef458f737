//! The daemon's own metrics, for the checks that look at them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::checks;
use crate::metrics::{Exporter, Format};

/// How long a page is good for: a hundred checks at a time make it once.
const FRESH: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Exported {
    exporter: Exporter,
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Exported {
    pub(super) fn new(exporter: Exporter) -> Self {
        let last = Mutex::default();
        Self { exporter, last }
    }
}

impl checks::Metrics for Arc<Exported> {
    fn page(&self) -> Result<Arc<str>, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, page)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(page));
        }
        let page = self.exporter.page(Format::OpenMetrics);
        let page: Arc<str> = page
            .map_err(|error| format!("the metrics could not be written: {error}; this is a bug"))?
            .into();
        *last = Some((Instant::now(), Arc::clone(&page)));
        Ok(page)
    }
}
