//! The arguments of `streamctl dead-letters`, with and without `--replay`.

use clap::Args;

/// Of `dead-letters`.
#[derive(Args, Debug, Default)]
pub struct DeadLettersArgs {
    /// The job
    pub job: String,
    /// The first epoch wanted; the job's first when left out
    #[arg(long, value_name = "EPOCH")]
    pub from: Option<u64>,
    /// The last epoch wanted; the newest when left out
    #[arg(long, value_name = "EPOCH")]
    pub to: Option<u64>,
    /// This epoch only
    #[arg(long, value_name = "EPOCH", conflicts_with_all = ["from", "to"])]
    pub epoch: Option<u64>,
    /// Print at most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "replay")]
    pub limit: Option<u64>,
    /// Print the payloads only, as they are, a line each
    #[arg(long, conflicts_with_all = ["output", "replay"])]
    pub raw: bool,
    /// End each payload with a zero byte instead of a line's end
    #[arg(short = '0', long, requires = "raw")]
    pub null: bool,
    /// Put the dead letters of these epochs through the job again, once
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
