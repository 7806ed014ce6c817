//! Which small files become one.
//!
//! Rule: pure. A row is rewritten a number of times that grows with the logarithm of its
//! partition's size: a file joins only files that are together as large as it is.

use crate::iceberg::manifest::LiveFile;
use crate::iceberg::partition::{PartitionValues, key};
use std::collections::BTreeMap;

/// Most files that one rewriting reads.
pub const GROUP_FILES_MAX: usize = 1_000;
/// Fewer files are left as they are, unless they fill one of the target size.
pub const GROUP_FILES_MIN: usize = 8;
/// A file is small if it has less than this share of the target size.
pub const SMALL_PERCENT: u64 = 75;
/// Most bytes that one rewriting reads, in files of the target size.
const GROUP_TARGETS_MAX: u64 = 4;

/// Small files of one partition, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct RewriteGroup {
    pub partition: PartitionValues,
    pub inputs: Vec<LiveFile>,
}

impl RewriteGroup {
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|file| file.size).sum()
    }

    pub fn rows(&self) -> u64 {
        self.inputs.iter().map(|file| file.rows).sum()
    }
}

pub(super) fn is_small(size: u64, target_size: u64) -> bool {
    size < target_size / 100 * SMALL_PERCENT
}

/// The groups that are worth it, those with most files first.
pub(super) fn choose(files: Vec<LiveFile>, target_size: u64) -> Vec<RewriteGroup> {
    let mut partitions: BTreeMap<Vec<u8>, Vec<LiveFile>> = BTreeMap::new();
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for file in &files {
        *times.entry(file.location.clone()).or_default() += 1;
    }
    for file in files {
        // Rows of a file that is listed twice are read twice: that is not ours to decide.
        let is_once = times.get(&file.location) == Some(&1);
        if is_once && is_small(file.size, target_size) {
            partitions
                .entry(key(&file.partition))
                .or_default()
                .push(file);
        }
    }
    let mut groups: Vec<_> = partitions
        .into_values()
        .flat_map(|files| of_partition(files, target_size))
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.inputs.len()));
    groups
}

fn of_partition(mut files: Vec<LiveFile>, target_size: u64) -> Vec<RewriteGroup> {
    files.sort_by(|a, b| (a.size, &a.location).cmp(&(b.size, &b.location)));
    let most = target_size.saturating_mul(GROUP_TARGETS_MAX);
    let mut groups = vec![];
    let mut inputs: Vec<LiveFile> = vec![];
    let mut bytes = 0;
    for file in files {
        if inputs.len() == GROUP_FILES_MAX || bytes + file.size > most {
            groups.push(std::mem::take(&mut inputs));
            bytes = 0;
        }
        if inputs.len() >= GROUP_FILES_MIN && file.size > bytes {
            break;
        }
        bytes += file.size;
        inputs.push(file);
    }
    groups.push(inputs);
    let is_worth_it = |inputs: &Vec<LiveFile>| {
        let bytes: u64 = inputs.iter().map(|file| file.size).sum();
        inputs.len() >= GROUP_FILES_MIN || (inputs.len() > 1 && bytes >= target_size)
    };
    groups.retain(is_worth_it);
    let group = |mut inputs: Vec<LiveFile>| {
        inputs.sort_by(|a, b| {
            (a.sequence_number, &a.location).cmp(&(b.sequence_number, &b.location))
        });
        RewriteGroup {
            partition: inputs
                .first()
                .map_or(vec![], |first| first.partition.clone()),
            inputs,
        }
    };
    groups.into_iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::datum::Datum;
    use super::*;

    const MIB: u64 = 1 << 20;
    const TARGET: u64 = 256 * MIB;

    fn file(number: usize, size: u64, day: i32) -> LiveFile {
        LiveFile {
            location: format!("{number:05}"),
            size,
            rows: 1,
            partition: vec![Some(Datum::Int(day))],
            sequence_number: i64::try_from(number).unwrap(),
        }
    }

    /// The sizes of each group, in MiB.
    fn chosen(sizes: &[u64]) -> Vec<Vec<u64>> {
        let files = sizes.iter().enumerate();
        let files = files.map(|(number, size)| file(number, size * MIB, 0));
        let groups = choose(files.collect(), TARGET);
        let sizes = |group: RewriteGroup| group.inputs.iter().map(|file| file.size / MIB).collect();
        groups.into_iter().map(sizes).collect()
    }

    #[test]
    fn few_files_and_large_ones_are_left_alone() {
        assert_eq!(chosen(&[1; 7]), Vec::<Vec<u64>>::new());
        assert_eq!(chosen(&[1; 8]), [[1; 8]]);
        assert_eq!(chosen(&[192, 300, 250]), Vec::<Vec<u64>>::new());
        assert_eq!(chosen(&[150, 150]), [[150, 150]], "together they fill one");
        assert_eq!(chosen(&[300]), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn a_file_that_is_listed_twice_is_left_alone() {
        let mut files: Vec<_> = (0..9).map(|number| file(number, 100, 0)).collect();
        files.push(file(4, 100, 0));
        let groups = choose(files, TARGET);
        let names = groups[0].inputs.iter().map(|file| file.location.as_str());
        assert_eq!(groups[0].inputs.len(), 8);
        assert!(names.into_iter().all(|name| name != "00004"));
    }

    #[test]
    fn a_file_joins_only_files_that_are_together_as_large() {
        let mut sizes = vec![1; 60];
        sizes.push(100);
        assert_eq!(chosen(&sizes), [[1; 60]]);
        sizes.push(60);
        let groups = chosen(&sizes);
        assert_eq!(
            groups[0].iter().sum::<u64>(),
            220,
            "60 of 1, then 60, then 100"
        );
    }

    #[test]
    fn rows_are_rewritten_a_logarithmic_number_of_times() {
        let mut files: Vec<LiveFile> = vec![];
        let mut rewritten = 0;
        let mut number = 0;
        // 10 MiB per hour in 60 files, over a week.
        for _ in 0..7 * 24 {
            for _ in 0..60 {
                number += 1;
                files.push(file(number, 10 * MIB / 60, 0));
            }
            for group in choose(files.clone(), TARGET) {
                rewritten += group.bytes();
                let gone =
                    |file: &LiveFile| group.inputs.iter().any(|one| one.location == file.location);
                files.retain(|file| !gone(file));
                let mut rest = group.bytes();
                while rest > 0 {
                    number += 1;
                    files.push(file(number, rest.min(TARGET), 0));
                    rest = rest.saturating_sub(TARGET);
                }
            }
        }
        let written = 7 * 24 * 10 * MIB;
        assert!(rewritten < 7 * written, "{} times", rewritten / written);
        assert!(files.len() < 30, "{} files", files.len());
    }

    #[test]
    fn a_group_is_of_one_partition_and_bounded() {
        let files = (0..3_000).map(|number| file(number, 100, i32::from(number % 3 == 0)));
        let groups = choose(files.collect(), TARGET);
        let counts: Vec<_> = groups.iter().map(|group| group.inputs.len()).collect();
        assert_eq!(counts, [1_000, 1_000, 1_000]);
        for group in &groups {
            assert!(
                group
                    .inputs
                    .iter()
                    .all(|file| file.partition == group.partition)
            );
            assert!(group.inputs.is_sorted_by_key(|file| file.sequence_number));
        }
        let large = (0..100).map(|number| file(number, 100 * MIB, 0));
        for group in choose(large.collect(), TARGET) {
            assert!(group.bytes() <= GROUP_TARGETS_MAX * TARGET);
        }
    }
}
