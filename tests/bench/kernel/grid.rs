//! Rounds in which every variant has its turn, and what is computed within each round.

use anyhow::{Context as _, Result};

use super::reader::Wakes;
use super::tools::Tools;
use super::variant::{Attached, Variant};
use crate::report::{Report, Values, progress};

/// Figures of all rounds.
#[derive(Debug)]
pub(super) struct Grid {
    variants: Vec<Variant>,
    rows: Vec<Row>,
    /// What woke the reader while everything was on.
    pub(super) wakes: Wakes,
}

/// One round.
#[derive(Debug, Default)]
pub(super) struct Row(Vec<(Variant, f64)>);

impl Row {
    /// The mean of its turns in this round.
    pub(super) fn of(&self, variant: Variant) -> Option<f64> {
        let own = self.0.iter().filter(|(of, _)| *of == variant);
        let (sum, turns) = own.fold((0.0, 0.0), |(sum, turns), (_, value)| {
            (sum + value, turns + 1.0)
        });
        (turns > 0.0).then(|| sum / turns)
    }

    /// How much more than with nothing attached.
    pub(super) fn added(&self, variant: Variant) -> Option<f64> {
        Some(self.of(variant)? - self.of(Variant::None)?)
    }

    /// How many times as much as with nothing attached.
    pub(super) fn times(&self, variant: Variant) -> Option<f64> {
        Some(self.of(variant)? / self.of(Variant::None)?)
    }
}

impl Grid {
    /// Runs the rounds; a variant has as many turns in each as it is named. One that cannot be attached is said to be missing, and has no more turns.
    pub(super) fn run(
        what: &str,
        rounds: usize,
        variants: &[Variant],
        tools: &Tools,
        report: &mut Report,
        mut measure: impl FnMut() -> Result<f64>,
    ) -> Result<Self> {
        let mut grid = Self {
            variants: variants.to_vec(),
            rows: Vec::new(),
            wakes: Wakes::default(),
        };
        for round in 0..rounds.max(1) {
            progress(&format!("kernel: {what}, round {} of {rounds}", round + 1));
            let mut row = Row::default();
            let mut turns = grid.variants.clone();
            let first = round % turns.len().max(1);
            turns.rotate_left(first);
            for variant in turns {
                if !grid.variants.contains(&variant) {
                    continue;
                }
                match variant.attach(tools) {
                    Ok(attached) => {
                        let value = grid
                            .turn(variant, &attached, &mut measure)
                            .with_context(|| variant.name())?;
                        row.0.push((variant, value));
                    }
                    Err(error) if variant != Variant::None => {
                        let name = format!("{what}: {}", variant.name());
                        report.missing(&name, &format!("{error:#}"));
                        grid.variants.retain(|other| *other != variant);
                    }
                    Err(error) => return Err(error),
                }
            }
            grid.rows.push(row);
        }
        Ok(grid)
    }

    fn turn(
        &mut self,
        variant: Variant,
        attached: &Attached,
        measure: &mut impl FnMut() -> Result<f64>,
    ) -> Result<f64> {
        let (value, wakes) = attached.watch(measure)?;
        if variant == Variant::Everything {
            self.wakes.add(wakes);
        }
        Ok(value)
    }

    /// The variants that could be attached to the end, each once.
    pub(super) fn variants(&self) -> Vec<Variant> {
        let mut once = Vec::new();
        for variant in &self.variants {
            if !once.contains(variant) {
                once.push(*variant);
            }
        }
        once
    }

    /// Something of each round; rounds that lack it are left out.
    pub(super) fn each(&self, of: impl Fn(&Row) -> Option<f64>) -> Values {
        self.rows.iter().filter_map(of).collect()
    }
}
