//! What the scaler's decisions depend on.
//!
//! Owns: defaults, and values derived from a few given ones. Does not own: any decision, the flags
//! (the controller's `scaling_flags`).
//! Rule: a user sets how many workers, how busy, and after how long; all other times are derived.

/// Inputs of the decisions; times in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingSettings {
    /// Fewest workers.
    pub workers_min: u32,
    /// Most workers.
    pub workers_max: u32,
    /// Target utilization of workers: a share of their time.
    pub busy: f64,
    /// Scale out after more workers were needed for this long.
    pub out_after_ms: i64,
    /// Scale in after fewer workers were enough for this long.
    pub in_after_ms: i64,
    /// Time in which a backlog should be processed.
    pub catch_up_ms: i64,
    /// How long a new leader waits for the existing workers. They reconnect at least once a second.
    pub join_ms: i64,
    /// How long to wait for requested workers before the next decision is made without them.
    pub absent_ms: i64,
}

impl Default for ScalingSettings {
    fn default() -> Self {
        Self {
            workers_min: 1,
            workers_max: 10,
            busy: 0.7,
            out_after_ms: 30_000,
            in_after_ms: 300_000,
            catch_up_ms: 300_000,
            join_ms: 5_000,
            absent_ms: 120_000,
        }
    }
}

impl ScalingSettings {
    /// The length of one measurement: two of them must agree before scaling out.
    pub fn measure_ms(&self) -> i64 {
        self.out_after_ms / 2
    }

    /// Measurements in this time after shards have moved are not used: readers start, lookups are
    /// loaded.
    pub fn settle_ms(&self) -> i64 {
        self.out_after_ms / 6
    }

    /// Time between two observations.
    pub fn look_ms(&self) -> i64 {
        (self.out_after_ms / 10).clamp(100, 1_000)
    }

    /// From this utilization on a worker is too busy: half-way between the target and 1.
    pub fn too_busy(&self) -> f64 {
        f64::midpoint(self.busy, 1.0)
    }
}
