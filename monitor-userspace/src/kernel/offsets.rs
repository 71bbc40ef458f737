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
            let value = look_up(btf, offset)?;
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

    /// Makes what reads through this offset go without it.
    pub(super) fn forget(&mut self, offset: &Offset) {
        let missing = BtfError::NoMember {
            structure: offset.structure.to_owned(),
            path: offset.path.to_owned(),
        };
        self.found.insert(offset.global, Err(missing));
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

/// The first of its names that this kernel has.
fn look_up(btf: &Btf, offset: &Offset) -> Result<u32, BtfError> {
    let mut error = None;
    for path in offset.path.split('|') {
        let found = match offset.measure {
            Measure::Offset => btf
                .member(offset.structure, path)
                .map(|member| member.offset),
            Measure::Stride => btf
                .member(offset.structure, path)
                .map(|member| member.stride),
            Measure::Bit => btf.bit(offset.structure, path),
        };
        match found {
            Ok(value) => return Ok(value),
            Err(refusal) => {
                error.get_or_insert(refusal);
            }
        }
    }
    Err(error.unwrap_or(BtfError::Malformed("an offset without a name")))
}
