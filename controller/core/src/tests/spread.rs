//! Shards that bring much are given out apart from each other.

use super::*;

const MB: u64 = 1_000_000;

impl Story {
    /// Each worker reports what its shards have brought since the beginning; `rates`: bytes per second.
    fn bring(&mut self, rates: &[(&str, u64)]) {
        let seconds = (self.now - BEGIN_MS).unsigned_abs() / 1_000;
        for (name, rate) in rates {
            let (worker, task) = self.owner(name);
            let stats = ShardStats {
                bytes: rate * seconds,
                ..ShardStats::default()
            };
            self.tell(Event::Task {
                worker,
                task,
                event: TaskEvent::Progressed {
                    watermark: Watermark::Unknown,
                    work_us: 0,
                    computing: Computing::default(),
                    hanging: vec![],
                    shards: vec![(shard(name), stats)],
                },
            });
        }
    }

    /// So many minutes in which shards bring this much. Released tasks are handed back.
    fn minutes(&mut self, minutes: i64, rates: &[(&str, u64)]) -> usize {
        let mut released = 0;
        for _ in 0..minutes * 2 {
            self.after(30_000);
            self.bring(rates);
            let wanted = self.effects.split_off(0);
            for effect in wanted {
                if let Effect::ReleaseTask { worker, task } = effect {
                    released += 1;
                    self.tell(Event::Task {
                        worker,
                        task,
                        event: TaskEvent::Ended(TaskEnd::Released),
                    });
                }
            }
        }
        released
    }

    /// What the busiest worker gets.
    fn most(&self, rates: &[(&str, u64)]) -> u64 {
        let mut brought: BTreeMap<WorkerId, u64> = BTreeMap::new();
        for (name, rate) in rates {
            *brought.entry(self.owner(name).0).or_default() += rate;
        }
        brought.into_values().max().unwrap()
    }
}

#[test]
fn shards_that_bring_much_are_parted_once_and_their_numbers_stay_equal() {
    let mut story = Story::running(kinesis(), "a b c d", "w1 w2");
    let together: Vec<&str> = ["a", "b", "c", "d"]
        .into_iter()
        .filter(|name| story.owner(name).0 == worker("w1"))
        .collect();
    let rate = |name: &str| match together.contains(&name) {
        true => 2 * MB,
        false => MB / 10,
    };
    let rates = ["a", "b", "c", "d"].map(|name| (name, rate(name)));
    assert_eq!(story.most(&rates), 4 * MB);
    assert_eq!(story.minutes(9, &rates), 0, "not before the time");
    assert_eq!(story.minutes(2, &rates), 2, "the tasks of both");
    assert_eq!(story.most(&rates), 2 * MB + MB / 10);
    let of_first = rates
        .iter()
        .filter(|(name, _)| story.owner(name).0 == worker("w1"));
    assert_eq!(of_first.count(), 2);
    assert_eq!(story.minutes(30, &rates), 0, "it is even now");
}

#[test]
fn shards_stay_where_they_are_if_moving_them_gains_little() {
    let rest = |rates: [u64; 4]| {
        let mut story = Story::running(kinesis(), "a b c d", "w1 w2");
        let mut of_first: Vec<&str> = vec![];
        let mut of_second: Vec<&str> = vec![];
        for name in ["a", "b", "c", "d"] {
            match story.owner(name).0 == worker("w1") {
                true => of_first.push(name),
                false => of_second.push(name),
            }
        }
        let names = [of_first[0], of_first[1], of_second[0], of_second[1]];
        let rates: Vec<_> = names.into_iter().zip(rates).collect();
        story.minutes(40, &rates)
    };
    assert_eq!(rest([MB, MB, MB, MB]), 0, "even");
    assert_eq!(rest([9 * MB, 0, MB, MB]), 0, "one shard alone is the most");
    assert_eq!(rest([1_000, 1_000, 1, 1]), 0, "any worker carries these");
}

#[test]
fn a_new_task_takes_the_shards_that_bring_most_first() {
    let mut story = Story::running(kinesis(), "a b c d", "w1");
    let rates = [("a", 4 * MB), ("b", 4 * MB), ("c", MB), ("d", MB)];
    story.minutes(3, &rates);
    story.joins("w2", vec![]);
    story.minutes(1, &rates);
    assert_eq!(story.most(&rates), 5 * MB, "each has one of the large ones");
}
