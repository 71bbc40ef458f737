//! Writes families as the catalogue specifies them, so that no name or label is spelt anywhere else.

use std::fmt;

use prometheus_client::encoding::{
    CounterValueEncoder, DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel,
    EncodeLabelSet, GaugeValueEncoder, LabelSetEncoder, MetricEncoder, NoLabelSet,
};

use super::catalogue::{Label, Metric, Type};

/// The page being written.
pub(super) struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// One family being written.
pub(super) struct Family<'a> {
    encoder: MetricEncoder<'a>,
    kind: Type,
    labels: &'static [Label],
}

/// A value of a counter or a gauge.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
}

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// Writes a family: its description, then what `write` puts into it.
    pub(super) fn family(
        &mut self,
        metric: Metric,
        write: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let spec = metric.spec();
        let unit = spec.encoded_unit();
        let kind = spec.kind.encoded();
        let encoder = self
            .encoder
            .encode_descriptor(spec.stem, spec.help, unit.as_ref(), kind)?;
        write(&mut Family {
            encoder,
            kind: spec.kind,
            labels: spec.labels,
        })
    }

    /// Writes a family that is a single value without labels.
    pub(super) fn single(&mut self, metric: Metric, value: impl Into<Value>) -> fmt::Result {
        self.family(metric, |family| family.put(&[], value))
    }
}

impl Family<'_> {
    /// Writes one value; `values` are those of the family's labels, in their order.
    pub(super) fn put(&mut self, values: &[&str], value: impl Into<Value>) -> fmt::Result {
        let value = value.into();
        let labels = Labels(self.labels, values);
        let put = |encoder: &mut MetricEncoder<'_>| match self.kind {
            Type::Counter => encoder.encode_counter::<NoLabelSet, Value, f64>(&value, None),
            Type::Gauge => encoder.encode_gauge(&value),
            Type::Info => encoder.encode_info(&labels),
            Type::Histogram => Err(fmt::Error),
        };
        if self.labels.is_empty() || self.kind == Type::Info {
            return put(&mut self.encoder);
        }
        put(&mut self.encoder.encode_family(&labels)?)
    }

    /// Writes a histogram: pairs of upper bound and how many fell below it and not below the one before.
    pub(super) fn histogram(
        &mut self,
        values: &[&str],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> fmt::Result {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = Labels(self.labels, values);
        let put = |encoder: &mut MetricEncoder<'_>| {
            encoder.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
        };
        if self.labels.is_empty() {
            return put(&mut self.encoder);
        }
        put(&mut self.encoder.encode_family(&labels)?)
    }
}

/// Names and values of labels, paired by their place.
struct Labels<'a>(&'static [Label], &'a [&'a str]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self(labels, values) = self;
        // A family with one label too few would be another series in silence.
        if labels.len() != values.len() {
            return Err(fmt::Error);
        }
        for (label, value) in labels.iter().zip(values.iter()) {
            (label.name(), *value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeCounterValue for Value {
    fn encode(&self, encoder: &mut CounterValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => EncodeCounterValue::encode(value, encoder),
            Self::Real(value) => EncodeCounterValue::encode(value, encoder),
        }
    }
}

impl EncodeGaugeValue for Value {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => EncodeGaugeValue::encode(value, encoder),
            Self::Real(value) => EncodeGaugeValue::encode(value, encoder),
        }
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(u64::from(value))
    }
}
