//! Flags of a controller about the number of workers.
//!
//! Owns: names, ranges and the check that they fit together. Does not own: the defaults' meaning
//! (`streamctl_core::scaling`).

use clap::Args;
use std::time::Duration;
use streamctl_core::scaling::ScalingSettings;
use streamctl_proto::spec::parse_duration;

/// Flags of a controller about the desired number of workers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Autoscaling (see `streamctl scaling`)")]
pub struct ScalingFlags {
    /// Minimum desired number of workers; 0 allows none while no job has anything to read.
    #[arg(
        long,
        env = "STREAMCTL_WORKERS_MIN",
        default_value_t = 1,
        value_name = "N"
    )]
    workers_min: u32,
    /// Maximum desired number of workers.
    #[arg(
        long,
        env = "STREAMCTL_WORKERS_MAX",
        default_value_t = 10,
        value_name = "N"
    )]
    workers_max: u32,
    /// Target utilization of workers, 10 to 95; scale out half-way between it and 100.
    #[arg(long, env = "STREAMCTL_SCALE_BUSY", default_value_t = 70, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(10..=95))]
    scale_busy: u8,
    /// How long more workers must be needed before scaling out, 2s to 24h.
    #[arg(long, env = "STREAMCTL_SCALE_OUT_AFTER", default_value = "30s", value_name = "TIME", value_parser = time)]
    scale_out_after: Duration,
    /// How long fewer workers must suffice before scaling in, 2s to 24h.
    #[arg(long, env = "STREAMCTL_SCALE_IN_AFTER", default_value = "5m", value_name = "TIME", value_parser = time)]
    scale_in_after: Duration,
    /// Time in which workers should catch up with a backlog, 2s to 24h.
    #[arg(long, env = "STREAMCTL_SCALE_CATCH_UP", default_value = "5m", value_name = "TIME", value_parser = time)]
    scale_catch_up: Duration,
}

fn time(text: &str) -> Result<Duration, String> {
    let long_enough =
        |time: &Duration| *time >= Duration::from_secs(2) && *time <= Duration::from_secs(86_400);
    let problem = || "not a time from 2s to 24h, written like 30s or 5m".to_owned();
    parse_duration(text).filter(long_enough).ok_or_else(problem)
}

impl ScalingFlags {
    /// The settings of the scaler.
    ///
    /// # Errors
    /// Values that contradict each other.
    pub fn settings(&self) -> Result<ScalingSettings, String> {
        let workers_min = self.workers_min;
        let workers_max = self.workers_max;
        if workers_max < workers_min.max(1) {
            return Err(format!(
                "--workers-max {workers_max} is less than --workers-min {workers_min}, or 0\n  \
                 hint: give both, the larger one as --workers-max"
            ));
        }
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4);
        Ok(ScalingSettings {
            workers_min,
            workers_max,
            busy: f64::from(self.scale_busy) / 100.0,
            out_after_ms: ms(self.scale_out_after),
            in_after_ms: ms(self.scale_in_after),
            catch_up_ms: ms(self.scale_catch_up),
            ..ScalingSettings::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        scaling: ScalingFlags,
    }

    fn parse(line: &str) -> Result<ScalingSettings, String> {
        let problem = std::iter::once("controller").chain(line.split_whitespace());
        Flags::try_parse_from(problem)
            .map_err(|error| error.to_string())?
            .scaling
            .settings()
    }

    #[test]
    fn without_flags_the_defaults_hold() {
        assert_eq!(parse("").unwrap(), ScalingSettings::default());
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_a_hint() {
        let error = parse("--workers-min 5 --workers-max 4").unwrap_err();
        assert!(error.contains("hint:"), "{error}");
        for line in [
            "--workers-max 0",
            "--scale-busy 96",
            "--scale-in-after 1s",
            "--scale-catch-up 5",
            "--scale-out-after 2d",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let settings = parse("--workers-min 0 --workers-max 3 --scale-out-after 2s").unwrap();
        assert_eq!(
            (
                settings.workers_min,
                settings.workers_max,
                settings.measure_ms()
            ),
            (0, 3, 1_000)
        );
    }
}
