//! Figures without a peer: the measured value and its target.
//!
//! Rule: a figure that misses its target is marked; it does not fail the run, because machines are
//! noisy.

use serde_json::{Value, json};
use std::fmt;

/// The target of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Mark {
    fn is_met(self, value: f64) -> bool {
        match self {
            Mark::AtMost(most) => value <= most,
            Mark::AtLeast(least) => value >= least,
            Mark::None => true,
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::AtMost(most) => write!(f, "at most {most}"),
            Mark::AtLeast(least) => write!(f, "at least {least}"),
            Mark::None => Ok(()),
        }
    }
}

struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    mark: Mark,
}

pub struct Sheet {
    name: &'static str,
    lines: Vec<Line>,
}

impl Sheet {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            lines: vec![],
        }
    }

    pub fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, mark: Mark) {
        self.lines.push(Line {
            what: what.into(),
            value,
            unit,
            mark,
        });
    }

    pub fn json(&self) -> Value {
        let one = |line: &Line| {
            let mut figure = json!({"what": line.what, "value": line.value, "unit": line.unit});
            match line.mark {
                Mark::AtMost(most) => figure["at_most"] = most.into(),
                Mark::AtLeast(least) => figure["at_least"] = least.into(),
                Mark::None => return figure,
            }
            figure["met"] = line.mark.is_met(line.value).into();
            figure
        };
        json!({"bench": self.name, "figures": self.lines.iter().map(one).collect::<Vec<_>>()})
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        for Line {
            what,
            value,
            unit,
            mark,
        } in &self.lines
        {
            let missed = if mark.is_met(*value) { "" } else { "  MISSED" };
            writeln!(f, "  {what:<58} {value:>10.2} {unit:<16} {mark}{missed}")?;
        }
        Ok(())
    }
}

/// The percentile of the figures, by the nearest rank.
pub fn percentile(figures: &mut [f64], percent: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * figures.len() as f64).ceil() as usize;
    figures
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}
