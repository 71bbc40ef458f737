//! The daemon's own metrics, for Prometheus.
//!
//! Consumes the [`View`], the kernel half through [`KernelView`] and the daemon's own cost; emits a page of text, made
//! anew at each scrape. What exists is listed once, in `catalogue`: the page and the reference both derive from it.
//! Leaves out metrics of the host: a node exporter's names are for those.

mod catalogue;
mod classic;
mod collect;
mod disks;
mod format;
mod own;
mod pace;
mod page;
mod reference;

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::model::{KernelView, View};

pub use catalogue::{Label, Metric, Spec, Type};
pub use format::Format;
pub use own::{Own, Usage};
pub use pace::{Last, Pace};
pub use reference::reference;

/// Makes the page.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
}

impl Exporter {
    /// An exporter of these sources; they are read at each [`Exporter::page`].
    pub fn new(view: Arc<Mutex<View>>, kernel: Arc<dyn KernelView>, own: Arc<Own>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collect::Sources { view, kernel, own }));
        Self { registry }
    }

    /// The page as it is now.
    pub fn page(&self, format: Format) -> Result<String, fmt::Error> {
        let mut page = String::with_capacity(32 << 10);
        text::encode(&mut page, &self.registry)?;
        Ok(match format {
            Format::OpenMetrics => page,
            Format::Classic => classic::from_open_metrics(&page),
        })
    }
}

#[cfg(test)]
mod tests;
