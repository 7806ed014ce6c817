//! Figures, side by side.
//!
//! Rule: the best run of each counts: other load on the machine only makes runs slower.

use serde_json::{Value, json};
use std::fmt;

#[derive(Clone, Debug)]
pub struct Figure {
    pub seconds: f64,
    /// The time of its parts, if known.
    pub stages: Vec<(&'static str, f64)>,
}

/// The results of several contestants on the same bytes.
#[derive(Clone, Debug)]
pub struct Table {
    name: &'static str,
    bytes: u64,
    runs: Vec<(String, Vec<Figure>)>,
}

impl Table {
    /// A table for this many bytes of payload.
    pub fn new(name: &'static str, bytes: u64) -> Self {
        Self {
            name,
            bytes,
            runs: vec![],
        }
    }

    pub fn add(&mut self, who: &str, figure: Figure) {
        match self.runs.iter_mut().find(|(name, _)| name == who) {
            Some((_, figures)) => figures.push(figure),
            None => self.runs.push((who.to_owned(), vec![figure])),
        }
    }

    fn best(figures: &[Figure]) -> Option<&Figure> {
        figures
            .iter()
            .min_by(|one, other| one.seconds.total_cmp(&other.seconds))
    }

    fn megabytes_per_second(&self, seconds: f64) -> f64 {
        self.bytes as f64 / 1e6 / seconds
    }

    /// How much faster the first contestant is than another.
    pub fn ratio_to(&self, who: &str) -> Option<f64> {
        let best = |name: &str| {
            self.runs
                .iter()
                .find(|(it, _)| it == name)
                .and_then(|(_, figures)| Self::best(figures))
        };
        let first = self.runs.first()?;
        Some(best(who)?.seconds / Self::best(&first.1)?.seconds)
    }

    pub fn json(&self) -> Value {
        let one = |(who, figures): &(String, Vec<Figure>)| {
            let best = Self::best(figures)?;
            let stages: serde_json::Map<String, Value> = best
                .stages
                .iter()
                .map(|(name, seconds)| ((*name).to_owned(), json!(seconds)))
                .collect();
            Some(json!({
                "who": who, "seconds": best.seconds, "mb_per_second": self.megabytes_per_second(best.seconds),
                "runs": figures.iter().map(|figure| figure.seconds).collect::<Vec<_>>(), "stages": stages,
                "streamctl_is_faster_by": self.ratio_to(who),
            }))
        };
        json!({"bench": self.name, "bytes": self.bytes, "contestants": self.runs.iter().filter_map(one).collect::<Vec<_>>()})
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {:.0} MB of payload",
            self.name,
            self.bytes as f64 / 1e6
        )?;
        for (who, figures) in &self.runs {
            let Some(best) = Self::best(figures) else {
                continue;
            };
            let speed = self.megabytes_per_second(best.seconds);
            write!(f, "  {who:<12} {:>7.2} s  {speed:>6.0} MB/s", best.seconds)?;
            match self.ratio_to(who) {
                Some(ratio) if ratio != 1.0 => write!(f, "  {ratio:>5.2} x slower")?,
                _ => {}
            }
            for (stage, seconds) in &best.stages {
                write!(f, "  {stage} {seconds:.2} s")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
