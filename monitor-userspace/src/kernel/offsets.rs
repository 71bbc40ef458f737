//! The offsets of `monitor_common::offsets`, found in the running kernel.

use std::collections::BTreeMap;

use monitor_common::offsets::{ABSENT, ALL, Measure, Offset};
use monitor_common::spec::ProbeSpec;

use super::btf::{Btf, BtfError};

/// Every offset, or why there is none.
#[derive(Debug)]
pub(super) struct Offsets {
    found: BTreeMap<&'static str, Result<u32, BtfError>>,
}

impl Offsets {
    /// Looks all of them up; those named in `broken` (`structure.member`) come out 8 bytes off.
    pub(super) fn of(btf: &Btf, broken: &[String]) -> Self {
        let find = |offset: &Offset| {
            let member = btf.member(offset.structure, offset.path)?;
            let value = match offset.measure {
                Measure::Offset => member.offset,
                Measure::Stride => member.stride,
            };
            let name = format!("{}.{}", offset.structure, offset.path);
            Ok(if broken.contains(&name) {
                value + 8
            } else {
                value
            })
        };
        Self {
            found: ALL
                .iter()
                .map(|offset| (offset.global, find(offset)))
                .collect(),
        }
    }

    /// Name and value of each global, for the programs.
    pub(super) fn globals(&self) -> Vec<(&'static str, u32)> {
        let value = |found: &Result<u32, BtfError>| *found.as_ref().unwrap_or(&ABSENT);
        self.found
            .iter()
            .map(|(global, found)| (*global, value(found)))
            .collect()
    }

    /// Why the probe cannot work, if a member it cannot do without is missing.
    pub(super) fn missing(&self, spec: &ProbeSpec) -> Option<&BtfError> {
        spec.required().find_map(|offset| self.error(offset))
    }

    /// The members whose absence makes the probe's events poorer, but not wrong.
    pub(super) fn without(&self, spec: &ProbeSpec) -> Vec<String> {
        let optional = spec.optional.iter().copied().flatten();
        optional
            .filter(|offset| self.error(offset).is_some())
            .map(|offset| format!("{}.{}", offset.structure, offset.path))
            .collect()
    }

    fn error(&self, offset: &Offset) -> Option<&BtfError> {
        self.found
            .get(offset.global)
            .and_then(|found| found.as_ref().err())
    }
}
