//! The arguments of `streamctl dead-letters`, with and without `--replay`.

use clap::Args;

/// Of `dead-letters`.
#[derive(Args, Debug, Default)]
pub struct DeadLettersArgs {
    /// Job name
    pub job: String,
    /// First epoch (default: the first of the job)
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// Last epoch (default: the newest one)
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// Only this epoch
    #[arg(long, value_name = "EPOCH", conflicts_with_all = ["from", "to"])]
    pub epoch: Option<u64>,
    /// Maximum number of dead letters (default: no limit)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "replay")]
    pub limit: Option<u64>,
    /// Print only the payloads, unchanged, one per line
    #[arg(long, conflicts_with_all = ["output", "replay"])]
    pub raw: bool,
    /// End each payload with a NUL byte instead of a newline
    #[arg(short = '0', long, requires = "raw")]
    pub null: bool,
    /// Process the dead letters of these epochs again, exactly once
    #[arg(long)]
    pub replay: bool,
}

impl DeadLettersArgs {
    /// The first and the last requested epoch.
    pub fn range(&self) -> (u64, Option<u64>) {
        match self.epoch {
            Some(epoch) => (epoch.max(1), Some(epoch.max(1))),
            None => (self.from.unwrap_or(1).max(1), self.to),
        }
    }
}
