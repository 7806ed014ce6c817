//! How much of each service a load needs.
//!
//! Owns: the arithmetic. Does not own: prices.
//! Rule: pure. Capacities are those of BENCHMARKS.md, by core, and only half of each is used: the
//! rest is for bursts, for TLS, and for what others' records cost.

/// MB/s of JSON that a core turns from answers of Kinesis into Parquet, with the model job's query.
pub const OURS_MB_PER_CORE: f64 = 371.0;
/// The same of Spark Structured Streaming, in the same run.
pub const SPARKS_MB_PER_CORE: f64 = 48.0;
/// The part of a core that the load may take.
pub const BUSY_MAX: f64 = 0.5;
pub const HOURS: f64 = 730.0;

const KB: f64 = 1_024.0;
/// A shard takes 1 MB and 1,000 records a second.
const SHARD_MB: f64 = 1.0;
const SHARD_RECORDS: f64 = 1_000.0;
const KINESIS_UNIT_BYTES: f64 = 25.0 * KB;
const FIREHOSE_UNIT_BYTES: f64 = 5.0 * KB;
/// Workers at least: one may be lost.
const WORKERS_MIN: u32 = 2;
/// Requests to stage and publish an object: create, one part, complete.
const PUTS_PER_OBJECT: f64 = 3.0;
/// Manifest and mark of publication.
const PUTS_PER_WINDOW: f64 = 2.0;

/// What arrives.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub mb_per_second: f64,
    pub record_bytes: f64,
    pub window_seconds: f64,
    /// By default as few as take it.
    pub shards: Option<u32>,
    pub has_consumer: bool,
}

/// A size of a task on Fargate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskSize {
    pub vcpus: f64,
    pub gb: f64,
}

/// Sizes of workers, the smallest first.
const WORKER_SIZES: [TaskSize; 5] = [
    TaskSize {
        vcpus: 0.25,
        gb: 1.0,
    },
    TaskSize {
        vcpus: 0.5,
        gb: 1.0,
    },
    TaskSize {
        vcpus: 1.0,
        gb: 2.0,
    },
    TaskSize {
        vcpus: 2.0,
        gb: 4.0,
    },
    TaskSize {
        vcpus: 4.0,
        gb: 8.0,
    },
];
/// A controller, and a member of etcd.
pub const CONTROL: TaskSize = TaskSize {
    vcpus: 0.25,
    gb: 0.5,
};
pub const CONTROLLERS: u32 = 2;
pub const ETCD_MEMBERS: u32 = 3;

impl Load {
    pub fn records_per_second(&self) -> f64 {
        self.mb_per_second * 1e6 / self.record_bytes
    }

    fn seconds() -> f64 {
        HOURS * 3_600.0
    }

    pub fn gb_per_month(&self) -> f64 {
        self.mb_per_second * Self::seconds() / 1e3
    }

    /// Shards that take the load, or those that there are.
    pub fn shards(&self) -> u32 {
        let least = (self.mb_per_second / SHARD_MB).max(self.records_per_second() / SHARD_RECORDS);
        self.shards.unwrap_or_else(|| whole(least.max(1.0)))
    }

    /// Workers of one size: the smallest one of which carries all of the load, else the largest.
    pub fn workers(&self) -> (u32, TaskSize) {
        let cores = self.mb_per_second / (OURS_MB_PER_CORE * BUSY_MAX);
        let carries = |size: &&TaskSize| size.vcpus >= cores;
        match WORKER_SIZES.iter().find(carries) {
            Some(size) => (WORKERS_MIN, *size),
            None => {
                let largest = WORKER_SIZES[WORKER_SIZES.len() - 1];
                // One may be lost.
                (whole(cores / largest.vcpus) + 1, largest)
            }
        }
    }

    /// Writing requests to S3 in a month, thousands: an object of each worker in each window.
    pub fn thousand_puts(&self) -> f64 {
        let windows = Self::seconds() / self.window_seconds;
        let (workers, _) = self.workers();
        windows * (f64::from(workers) * PUTS_PER_OBJECT + PUTS_PER_WINDOW) / 1e3
    }

    /// Workers of Glue with their DPUs: the driver, and those that carry the load.
    pub fn glue(&self) -> (u32, &'static str, f64) {
        let cores = self.mb_per_second / (SPARKS_MB_PER_CORE * BUSY_MAX);
        // Type, cores, DPUs.
        let small = ("G.025X", 2.0, 0.25);
        let (kind, each, dpus) = if cores <= small.1 {
            small
        } else {
            ("G.1X", 4.0, 1.0)
        };
        let workers = 1 + whole((cores / each).max(1.0));
        (workers, kind, f64::from(workers) * dpus)
    }

    /// KPUs of Managed Flink, and one that orchestrates. No figure of Flink is measured here: a
    /// core is taken to do what Spark's does.
    pub fn flink(&self) -> (u32, u32) {
        (
            whole((self.mb_per_second / (SPARKS_MB_PER_CORE * BUSY_MAX)).max(1.0)),
            1,
        )
    }

    /// GB that Firehose counts in a month: each record in steps of 5 KB.
    pub fn firehose_gb(&self) -> f64 {
        let counted = (self.record_bytes / FIREHOSE_UNIT_BYTES).ceil() * FIREHOSE_UNIT_BYTES;
        self.records_per_second() * counted * Self::seconds() / 1e9
    }

    /// Millions of units that producers put in a month.
    pub fn million_puts(&self) -> f64 {
        let units = (self.record_bytes / KINESIS_UNIT_BYTES).ceil();
        self.records_per_second() * units * Self::seconds() / 1e6
    }
}

/// Rounded up.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "loads are bounded where they are read"
)]
fn whole(value: f64) -> u32 {
    value.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(mb_per_second: f64) -> Load {
        Load {
            mb_per_second,
            record_bytes: 324.0,
            window_seconds: 60.0,
            shards: None,
            has_consumer: false,
        }
    }

    #[test]
    fn shards_follow_from_bytes_or_records_whichever_needs_more() {
        assert_eq!(load(5.0).shards(), 16, "15,432 records a second");
        assert_eq!(
            Load {
                record_bytes: 10_000.0,
                ..load(5.0)
            }
            .shards(),
            5
        );
        assert_eq!(
            Load {
                shards: Some(40),
                ..load(5.0)
            }
            .shards(),
            40
        );
        assert_eq!(load(0.001).shards(), 1);
    }

    #[test]
    fn one_of_the_workers_may_be_lost() {
        for mb in [0.1, 5.0, 46.0, 47.0, 300.0, 741.0, 743.0, 5_000.0] {
            let (workers, size) = load(mb).workers();
            let left = f64::from(workers - 1) * size.vcpus * OURS_MB_PER_CORE * BUSY_MAX;
            assert!(left >= mb, "{mb}: {workers} of {size:?}");
        }
        assert_eq!(load(5.0).workers(), (2, WORKER_SIZES[0]));
    }

    #[test]
    fn glue_and_flink_are_sized_by_what_a_core_of_spark_does() {
        assert_eq!(load(5.0).glue(), (2, "G.025X", 0.5));
        assert_eq!(load(100.0).glue(), (3, "G.1X", 3.0));
        assert_eq!(load(5.0).flink(), (1, 1));
        assert_eq!(load(100.0).flink(), (5, 1));
    }

    #[test]
    fn small_records_are_counted_in_the_services_units() {
        let five = load(5.0);
        assert!((five.gb_per_month() - 13_140.0).abs() < 1.0);
        assert!((five.firehose_gb() / five.gb_per_month() - 5_120.0 / 324.0).abs() < 0.01);
        assert!((five.million_puts() - 40_556.0).abs() < 1.0);
    }
}
