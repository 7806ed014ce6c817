//! A month of windows of a minute: 43,200 commits of one job.
//!
//! Rule: sizes are counted, not times: they are the same on every machine.

use super::super::catalog::memory::MemoryFiles;
use super::conformance::Bed;
use super::*;

/// Of a month.
const COMMITS: u64 = 30 * 24 * 60;
/// Of the test without optimisation, in which a month takes minutes.
const COMMITS_UNOPTIMISED: u64 = 6 * 24 * 60;
/// The first and the last commits, which are compared.
const COMPARED: u64 = 1_000;
/// As the controller does it.
const MERGE_EVERY: u64 = 25;
/// The default of a job file.
const KEEP_SNAPSHOTS: u32 = 1_000;
const METADATA_BYTES_MAX: usize = 5 << 20;

/// How many commits to do: `STREAMCTL_TABLE_COMMITS`.
#[allow(clippy::disallowed_methods)]
fn commits() -> u64 {
    match std::env::var("STREAMCTL_TABLE_COMMITS") {
        Ok(text) => text.parse().expect("a number of commits"),
        Err(_) if cfg!(debug_assertions) => COMMITS_UNOPTIMISED,
        Err(_) => COMMITS,
    }
}

/// The bytes that 99 of 100 commits do not exceed.
fn p99(mut bytes: Vec<u64>) -> u64 {
    bytes.sort_unstable();
    bytes[bytes.len() * 99 / 100]
}

fn metadata_bytes(bed: &Bed) -> usize {
    let table = bed.catalog.look(&bed.table.name);
    serde_json::to_vec(&*table).unwrap().len()
}

/// The bytes of what a reader of the current snapshot loads before any data.
fn listed_bytes(bed: &Bed, files: &MemoryFiles) -> usize {
    let table = bed.catalog.look(&bed.table.name);
    let list = table.current().unwrap().manifest_list.clone().unwrap();
    let manifests = bed.catalog.listed(&bed.table.name, files);
    let manifests = manifests.iter().map(|manifest| manifest.location.as_str());
    let read = |location: &str| files.read(location).unwrap().len();
    manifests.chain([list.as_str()]).map(read).sum()
}

#[tokio::test(start_paused = true)]
async fn a_month_of_windows_of_a_minute_makes_no_commit_larger_than_the_first_day_s() {
    let commits = commits();
    assert!(commits > 2 * COMPARED);
    let mut bed = Bed::calm();
    bed.settings.keep_snapshots = NonZeroU32::new(KEEP_SNAPSHOTS);
    let mut first = vec![];
    let mut last = vec![];
    for number in 1..=commits {
        let before = bed.files.bytes_written();
        bed.commit(&[number]).await.unwrap();
        let written = bed.files.bytes_written() - before;
        let is_first = number <= COMPARED;
        if is_first || number > commits - COMPARED {
            // The catalog writes the table's metadata.
            let metadata = match number.is_multiple_of(10) {
                true => metadata_bytes(&bed) as u64,
                false => 0,
            };
            let compared = if is_first { &mut first } else { &mut last };
            compared.push(written + metadata);
        }
        if number.is_multiple_of(MERGE_EVERY) {
            while let Merged::Merged(_) = bed.committer().merge_manifests(1).await.unwrap() {}
        }
    }
    let metadata = metadata_bytes(&bed);
    assert!(
        metadata <= METADATA_BYTES_MAX,
        "{metadata} bytes of metadata"
    );
    let listed = listed_bytes(&bed, &bed.files);
    assert!(listed <= METADATA_BYTES_MAX, "{listed} bytes of manifests");
    let (first, last) = (p99(first), p99(last));
    assert!(
        last <= first + first / 2,
        "{last} bytes per commit at the end, {first} at the beginning"
    );
    let rows: u64 = (1..=commits).sum();
    assert_eq!(bed.rows(), i64::try_from(rows).unwrap());
}
