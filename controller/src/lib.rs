//! The control plane: which controller leads, which jobs run, which worker reads which shards, what
//! is committed. No decision depends on record bytes.
//!
//! Owns: the driver of the pure core (`streamctl_core`), the store, shard discovery, publishing,
//! the services.
//! Does not own: records, rows, queries at run time (workers); it passes some of them on ([`preview`],
//! [`sample`]).
//! Rule: decisions are pure and in `streamctl_core`; everything else performs them and reports the results.

pub mod admission;
pub mod checkpoints;
pub mod compactor;
pub mod driver;
pub mod explain;
pub mod forward;
pub mod handle;
pub mod history;
pub mod http;
pub mod job_files;
pub mod leader_connection;
pub mod leading;
pub mod learner;
pub mod load;
pub mod metrics;
pub mod node;
pub mod preview;
pub mod published_hook;
pub mod restored;
pub mod rewriter;
pub mod sample;
pub mod scaling_flags;
pub mod service;
pub mod sessions;
pub mod shards;
pub mod sink;
pub mod store;
pub mod sweep;
pub mod trim;
pub mod verify;
pub mod worker_calls;
