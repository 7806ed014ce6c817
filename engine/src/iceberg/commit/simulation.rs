//! Writers that die, late requests, two leaders, merges, rewritings, compaction and expiry, by seeds.

use super::super::catalog::memory::Met;
use super::super::plan::tests::epoch;
use super::super::rewrite::tests::OWN;
use super::super::rewrite::{Rewriting, RewritingOutcome};
use super::conformance::Bed;
use super::*;
use crate::iceberg::plan;
use streamctl_proto::rewrite::RewriteRecord;

/// Seeds of the unit test.
const SEEDS: u64 = 500;
const EPOCHS: u64 = 12;
const STEPS_MAX: u32 = 90;

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
struct Rewritings {
    target_size: u64,
    void_after: u64,
    begun: u64,
    /// Chosen and written, perhaps long ago.
    waiting: Vec<Rewriting>,
    records: Vec<RewriteRecord>,
    deleted: BTreeSet<String>,
}

impl Rewritings {
    fn new(random: &mut fastrand::Rng) -> Self {
        Self {
            // Two or three files of an epoch are worth it.
            target_size: [200, 300][random.usize(..2)],
            void_after: random.u64(2..9),
            begun: 0,
            waiting: vec![],
            records: vec![],
            deleted: BTreeSet::new(),
        }
    }

    async fn begin(&mut self, bed: &Bed) {
        let committer = bed.committer();
        let Ok(small) = committer.small_files(OWN, 0, self.target_size).await else {
            return;
        };
        self.begun += 1;
        if let Some((mut rewriting, mut record)) = bed.rewriting(&small, self.begun) {
            rewriting.void_from_epoch = small.through + self.void_after;
            record.void_from_epoch = rewriting.void_from_epoch;
            self.waiting.push(rewriting);
            self.records.push(record);
        }
    }

    /// A leader sends one of those that wait, and may die meanwhile.
    async fn send(&mut self, bed: &Bed, random: &mut fastrand::Rng) {
        if self.waiting.is_empty() {
            return;
        }
        let which = random.usize(..self.waiting.len());
        let rewriting = self.waiting[which].clone();
        let committer = bed.committer();
        let commit = committer.commit_rewriting(&rewriting, &|| NOW_MS);
        let tried = killed_after(random.u32(1..16), commit).await;
        let is_over = matches!(
            tried,
            Some(Ok(
                RewritingOutcome::Committed | RewritingOutcome::GaveUp { .. }
            ))
        );
        if is_over && random.bool() {
            self.waiting.remove(which);
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

const NOW_MS: i64 = 1_700_000_000_000;

/// What happened in one seed.
#[derive(Default)]
struct Happened {
    /// Rewritings of the job that came into the table.
    rewritten: usize,
    /// Files that were deleted after them.
    deleted: usize,
    compacted_by_others: u32,
    expired_by_others: u32,
    faults: Met,
}

/// Others, and processes beside the epochs.
async fn meanwhile(
    bed: &Bed,
    random: &mut fastrand::Rng,
    rewritings: &mut Rewritings,
    happened: &mut Happened,
) -> i64 {
    match random.u32(..21) {
        0 => {
            bed.catalog
                .append_by_another(&bed.table.name, &bed.files, 1000);
            return 1000;
        }
        1 | 17 => {
            bed.catalog.compact_by_another(&bed.table.name, &bed.files);
            happened.compacted_by_others += 1;
        }
        2 | 3 => {
            bed.catalog.expire_by_another(&bed.table.name);
            happened.expired_by_others += 1;
        }
        4 => bed.catalog.deliver_late(),
        5 => {
            let committer = bed.committer();
            killed_after(random.u32(1..6), committer.merge_manifests(NOW_MS)).await;
        }
        6..=8 => rewritings.begin(bed).await,
        9..=10 => {
            rewritings.begin(bed).await;
            rewritings.send(bed, random).await;
        }
        11..=15 => rewritings.send(bed, random).await,
        16 => rewritings.clean(bed).await,
        _ => {}
    }
    0
}

async fn one(seed: u64) -> Happened {
    let mut random = fastrand::Rng::with_seed(seed);
    let rate = [0, 20, 40, 60][random.usize(..4)];
    // Version 3 is not rewritten.
    let version = if random.u32(..4) > 0 { 2 } else { 3 };
    let mut bed = Bed::new(seed, rate, version);
    if random.bool() {
        bed.settings.keep_snapshots = NonZeroU32::new(random.u32(1..4));
    }
    bed.settings.merge_at = random.usize(2..5);
    let mut others = 0;
    let mut next = 1;
    let mut rewritings = Rewritings::new(&mut random);
    let mut happened = Happened::default();
    for _ in 0..STEPS_MAX {
        if next > EPOCHS {
            break;
        }
        let until = (next + random.u64(..3)).min(EPOCHS);
        let epochs: Vec<_> = (next..=until).map(epoch).collect();
        // A second leader with the same epochs, or with fewer of them.
        let fewer = &epochs[..random.usize(1..=epochs.len())];
        let committer = bed.committer();
        let clock = || NOW_MS;
        let first = killed_after(random.u32(1..12), committer.commit(&epochs, &clock));
        let second = killed_after(random.u32(0..6), committer.commit(fewer, &clock));
        let (first, _) = tokio::join!(first, second);
        others += meanwhile(&bed, &mut random, &mut rewritings, &mut happened).await;
        if matches!(first, Some(Ok(_))) {
            next = until + 1;
        }
    }
    happened.faults = bed.catalog.heal();
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
    let history = bed.catalog.history();
    let rewrote = history
        .iter()
        .filter(|snapshot| plan::has_rewritten(snapshot, &bed.writer));
    happened.rewritten = rewrote.count();
    happened.deleted = rewritings.deleted.len();
    happened
}

/// In how many seeds something happened.
#[derive(Debug, Default)]
struct InSeeds {
    rewritten: u64,
    deleted: u64,
    compacted_by_others: u64,
    expired_by_others: u64,
    lost: u64,
    late: u64,
    doubled: u64,
}

impl InSeeds {
    fn add(&mut self, happened: &Happened) {
        let Met {
            lost,
            late,
            doubled,
        } = happened.faults;
        self.rewritten += u64::from(happened.rewritten > 0);
        self.deleted += u64::from(happened.deleted > 0);
        self.compacted_by_others += u64::from(happened.compacted_by_others > 0);
        self.expired_by_others += u64::from(happened.expired_by_others > 0);
        self.lost += u64::from(lost > 0);
        self.late += u64::from(late > 0);
        self.doubled += u64::from(doubled > 0);
    }

    /// Each of what the seeds are for, but the deletions, which need the others.
    fn rarest(&self) -> u64 {
        let counted = [
            self.rewritten,
            self.compacted_by_others,
            self.expired_by_others,
            self.lost,
            self.late,
            self.doubled,
        ];
        counted.into_iter().min().unwrap_or(0)
    }
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

/// Seen with `--nocapture`.
#[allow(clippy::print_stdout)]
fn report(count: u64, in_seeds: &InSeeds) {
    println!("of {count} seeds: {in_seeds:?}");
}

#[test]
fn every_epoch_is_in_the_history_once_whatever_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let seeds = seeds();
    let mut in_seeds = InSeeds::default();
    for seed in seeds.clone() {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(one(seed)));
        match std::panic::catch_unwind(run) {
            Ok(happened) => in_seeds.add(&happened),
            Err(panic) => {
                let text = panic.downcast_ref::<String>();
                panic!("seed {seed}: {}", text.map_or("", String::as_str));
            }
        }
    }
    let count = seeds.end - seeds.start;
    report(count, &in_seeds);
    if count >= SEEDS {
        assert!(in_seeds.rarest() >= count / 3, "of {count}: {in_seeds:?}");
        assert!(in_seeds.deleted >= count / 20, "of {count}: {in_seeds:?}");
    }
}
