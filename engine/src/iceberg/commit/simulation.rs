//! Writers that die, late requests, two leaders, merges, rewritings, compaction and expiry, by seeds.

use super::super::plan::tests::epoch;
use super::super::rewrite::{Rewriting, RewritingOutcome};
use super::conformance::Bed;
use super::*;
use streamctl_proto::rewrite::RewriteRecord;

/// Seeds of the unit test.
const SEEDS: u64 = 500;
const EPOCHS: u64 = 8;

/// A future that is dropped after it was polled so many times: a process that dies.
async fn killed_after<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut rest = polls;
    std::future::poll_fn(move |context| match rest.checked_sub(1) {
        None => std::task::Poll::Ready(None),
        Some(left) => {
            rest = left;
            future.as_mut().poll(context).map(Some)
        }
    })
    .await
}

/// Rewritings of all leaders, and what became of their files.
#[derive(Default)]
struct Rewritings {
    begun: u64,
    /// Chosen and written, perhaps long ago.
    waiting: Vec<Rewriting>,
    records: Vec<RewriteRecord>,
    deleted: BTreeSet<String>,
    committed: usize,
}

impl Rewritings {
    async fn begin(&mut self, bed: &Bed) {
        let Ok(small) = bed.small_files().await else {
            return;
        };
        self.begun += 1;
        if let Some((rewriting, record)) = bed.rewriting(&small, self.begun) {
            self.waiting.push(rewriting);
            self.records.push(record);
        }
    }

    /// Deletes what no snapshot shows any more.
    async fn clean(&mut self, bed: &Bed) {
        let Ok(leftovers) = bed.committer().leftovers(&self.records).await else {
            return;
        };
        for leftover in leftovers.iter().rev() {
            self.deleted.extend(leftover.files.iter().cloned());
            if leftover.is_last {
                self.records.remove(leftover.record);
            }
        }
    }

    /// Nothing that a snapshot shows was deleted.
    fn all_shown_are_there(&self, bed: &Bed) {
        for snapshot in &bed.catalog.look(&bed.table.name).snapshots {
            let shown = bed.shown_by(snapshot.manifest_list.as_ref().unwrap());
            let gone: Vec<_> = shown.intersection(&self.deleted).collect();
            assert!(gone.is_empty(), "{gone:?} of a snapshot that is kept");
        }
    }
}

/// Returns how many rewritings were committed, and how many files deleted.
async fn one(seed: u64) -> (usize, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let rate = [0, 10, 30, 60][random.usize(..4)];
    let version = if random.bool() { 2 } else { 3 };
    let mut bed = Bed::new(seed, rate, version);
    if random.bool() {
        bed.settings.keep_snapshots = NonZeroU32::new(random.u32(1..4));
    }
    bed.settings.merge_at = random.usize(2..5);
    let mut others = 0;
    let mut next = 1;
    let mut rewritings = Rewritings::default();
    for _ in 0..60 {
        if next > EPOCHS {
            break;
        }
        let until = (next + random.u64(..3)).min(EPOCHS);
        let epochs: Vec<_> = (next..=until).map(epoch).collect();
        // A second leader with the same epochs, or with fewer of them.
        let fewer = &epochs[..random.usize(1..=epochs.len())];
        let committer = bed.committer();
        let clock = || 1_700_000_000_000;
        let first = killed_after(random.u32(1..12), committer.commit(&epochs, &clock));
        let second = killed_after(random.u32(0..6), committer.commit(fewer, &clock));
        let (first, _) = tokio::join!(first, second);
        match random.u32(..14) {
            0 => {
                bed.catalog
                    .append_by_another(&bed.table.name, &bed.files, 1000);
                others += 1000;
            }
            1 => bed.catalog.compact_by_another(&bed.table.name, &bed.files),
            2 => bed.catalog.expire_by_another(&bed.table.name),
            3 => bed.catalog.deliver_late(),
            4 => {
                killed_after(random.u32(1..6), committer.merge_manifests(clock())).await;
            }
            5 | 6 => rewritings.begin(&bed).await,
            7..=9 if !rewritings.waiting.is_empty() => {
                let which = random.usize(..rewritings.waiting.len());
                let rewriting = rewritings.waiting[which].clone();
                let commit = committer.commit_rewriting(&rewriting, &clock);
                let tried = killed_after(random.u32(1..16), commit).await;
                if matches!(tried, Some(Ok(RewritingOutcome::Committed))) {
                    rewritings.committed += 1;
                }
                if tried.is_some() && random.bool() {
                    rewritings.waiting.remove(which);
                }
            }
            10 => rewritings.clean(&bed).await,
            _ => {}
        }
        if matches!(first, Some(Ok(_))) {
            next = until + 1;
        }
    }
    bed.catalog.heal();
    let all: Vec<_> = (1..=EPOCHS).collect();
    bed.commit(&all).await.unwrap();
    bed.catalog.deliver_late();
    bed.is_exact(EPOCHS, others);
    rewritings.clean(&bed).await;
    rewritings.all_shown_are_there(&bed);
    // Leaders that were taken for dead.
    for rewriting in &rewritings.waiting {
        let _refused = bed.rewrite(rewriting).await;
    }
    bed.is_exact(EPOCHS, others);
    rewritings.all_shown_are_there(&bed);
    (rewritings.committed, rewritings.deleted.len())
}

/// How many seeds to run: `STREAMCTL_TABLE_SEEDS`, from `STREAMCTL_TABLE_SEED` on.
#[allow(clippy::disallowed_methods)]
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number of seeds"))
    };
    let first = number("STREAMCTL_TABLE_SEED").unwrap_or(0);
    let count = number("STREAMCTL_TABLE_SEEDS").unwrap_or(SEEDS);
    first..first + count
}

#[test]
fn every_epoch_is_in_the_history_once_whatever_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let seeds = seeds();
    let (mut committed, mut deleted) = (0, 0);
    for seed in seeds.clone() {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(one(seed)));
        match std::panic::catch_unwind(run) {
            Ok((rewritings, files)) => {
                committed += rewritings;
                deleted += files;
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>();
                panic!("seed {seed}: {}", text.map_or("", String::as_str));
            }
        }
    }
    if seeds.count() as u64 >= SEEDS {
        assert!(
            committed > 0,
            "{committed} rewritings, {deleted} files deleted"
        );
    }
}
