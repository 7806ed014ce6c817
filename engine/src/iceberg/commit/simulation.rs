//! Writers that die, late requests, two leaders, merges, compaction and expiry, by seeds.

use super::super::plan::tests::epoch;
use super::conformance::Bed;
use super::*;

/// Seeds of the unit test; more by `STREAMCTL_TABLE_SEEDS`.
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

async fn one(seed: u64) {
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
        match random.u32(..8) {
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
}

#[test]
fn every_epoch_is_in_the_history_once_whatever_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let seeds = option_env!("STREAMCTL_TABLE_SEEDS").and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(one(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            let text = panic.downcast_ref::<String>();
            panic!("seed {seed}: {}", text.map_or("", String::as_str));
        }
    }
}
