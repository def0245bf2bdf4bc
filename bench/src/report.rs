//! How a measurement is printed: a line for people, then the same as one JSON object on a line for programs.

use std::collections::BTreeMap;

use anyhow::Result;
use rand::seq::SliceRandom as _;
use serde::Serialize;

use crate::stats::{median, quantile};

/// What a measurement must reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    Below(f64),
    AtLeast(f64),
    AtMost(f64),
}

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Measurement {
    /// As the project's goals number them: B1, B2…
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) samples: usize,
    pub(crate) figures: BTreeMap<&'static str, f64>,
    /// Of the figure named here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<(&'static str, Goal)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<bool>,
}

impl Measurement {
    /// `samples` by their median, their 99th percentile and their extremes.
    pub(crate) fn spread(id: &'static str, what: &str, unit: &'static str, all: &[f64]) -> Self {
        let figures = [("p50", 0.5), ("p99", 0.99), ("min", 0.0), ("max", 1.0)];
        let figures = figures.map(|(name, share)| (name, quantile(all, share)));
        Self::of(id, what, unit, figures.into()).sampled(all.len())
    }

    /// Medians of two arms, and the median of the ratios of the rounds in which both were measured.
    pub(crate) fn ratio(id: &'static str, what: &str, unit: &'static str, arms: &Arms) -> Self {
        let ratios = arms.ratios();
        let figures = [
            ("ours", median(&arms.ours)),
            ("baseline", median(&arms.base)),
            ("ratio", median(&ratios)),
            ("ratio_min", quantile(&ratios, 0.0)),
            ("ratio_max", quantile(&ratios, 1.0)),
        ];
        Self::of(id, what, unit, figures.into()).sampled(ratios.len())
    }

    pub(crate) fn of(
        id: &'static str,
        what: &str,
        unit: &'static str,
        figures: BTreeMap<&'static str, f64>,
    ) -> Self {
        Self { id, what: what.to_owned(), unit, samples: 1, figures, goal: None, reached: None }
    }

    fn sampled(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Says what `figure` must reach, and whether it does.
    pub(crate) fn goal(mut self, figure: &'static str, goal: Goal) -> Self {
        let got = self.figures[figure];
        self.reached = Some(match goal {
            Goal::Below(limit) => got < limit,
            Goal::AtLeast(limit) => got >= limit,
            Goal::AtMost(limit) => got <= limit,
        });
        self.goal = Some((figure, goal));
        self
    }

    pub(crate) fn print(&self) {
        let figures: Vec<String> =
            self.figures.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        let goal = match (self.goal, self.reached) {
            (Some((figure, goal)), Some(reached)) => {
                let (word, limit) = match goal {
                    Goal::Below(limit) => ("<", limit),
                    Goal::AtLeast(limit) => (">=", limit),
                    Goal::AtMost(limit) => ("<=", limit),
                };
                let verdict = if reached { "reached" } else { "NOT reached" };
                format!("; goal {figure} {word} {limit}: {verdict}")
            }
            _ => String::new(),
        };
        println!(
            "{} {} [{}, n={}]: {}{goal}",
            self.id,
            self.what,
            self.unit,
            self.samples,
            figures.join(", ")
        );
        println!("{}", serde_json::to_string(self).expect("maps with text keys are JSON"));
    }
}

/// Samples of two things measured in turns; those of one round stand at one index.
#[derive(Debug, Default)]
pub(crate) struct Arms {
    pub(crate) ours: Vec<f64>,
    pub(crate) base: Vec<f64>,
}

impl Arms {
    /// Measures both once, in an order that is drawn.
    pub(crate) fn round(
        &mut self,
        ours: impl FnMut() -> Result<f64>,
        base: impl FnMut() -> Result<f64>,
    ) -> Result<()> {
        let [ours, base] = in_turns(&mut [&mut { ours }, &mut { base }])?;
        self.put(ours, base);
        Ok(())
    }

    /// Of each round.
    pub(crate) fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.base).map(|(a, b)| a / b).collect()
    }

    pub(crate) fn put(&mut self, ours: f64, base: f64) {
        self.ours.push(ours);
        self.base.push(base);
    }
}

/// Measures each arm once, in an order that is drawn, so that none has the better place.
pub(crate) fn in_turns<T, const N: usize>(
    arms: &mut [&mut dyn FnMut() -> Result<T>; N],
) -> Result<[T; N]> {
    let mut order: [usize; N] = std::array::from_fn(|at| at);
    order.shuffle(&mut rand::rng());
    let mut got = [const { None }; N];
    for at in order {
        got[at] = Some(arms[at]()?);
    }
    Ok(got.map(|one| one.expect("the order names every arm")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::in_turns;

    #[test]
    fn each_arm_runs_once_whatever_the_order() {
        let (runs, firsts) = (Cell::new(0), Cell::new([0; 2]));
        let arm = |at: usize| {
            let (runs, firsts) = (&runs, &firsts);
            move || {
                if runs.get() % 2 == 0 {
                    let mut counts = firsts.get();
                    counts[at] += 1;
                    firsts.set(counts);
                }
                runs.set(runs.get() + 1);
                Ok(at)
            }
        };
        for _ in 0..100 {
            assert_eq!(in_turns(&mut [&mut arm(0), &mut arm(1)]).expect("no arm fails"), [0, 1]);
        }
        assert_eq!(runs.get(), 200);
        // That one of them is never first has a chance of 2^-99.
        assert!(firsts.get().iter().all(|&count| count > 0), "{:?}", firsts.get());
    }
}
