//! Stories of one blow each: what the seeds find among many troubles, alone and in seconds.
//!
//! Rule: each is here because a fault of the system was found by it; breaking the line that keeps the promise fails it.

use super::stream::AfterOutage;
use super::tell_of;
use super::world::World;
use std::sync::atomic::Ordering;

/// Seeds that each story is told with: they decide sizes of windows, numbers of shards, and joins.
const SEEDS: std::ops::Range<u64> = 0..3;

fn ends_well(strike: impl Fn(&mut World)) {
    for seed in SEEDS {
        let story = tell_of(seed, &strike);
        assert_eq!(story.broken, None, "seed {seed}");
        assert!(story.records > 0 && story.epochs > 0, "seed {seed}");
    }
}

#[test]
fn without_a_blow_a_story_ends_well() {
    ends_well(|_| {});
}

#[test]
fn windows_follow_the_clock_of_the_service_wherever_workers_clocks_jump() {
    ends_well(|world| {
        for (name, place) in &world.places {
            if name.starts_with('w') {
                place.skew_ms.store(120_000, Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn records_that_expired_during_an_outage_end_their_jobs_and_are_never_passed_over() {
    ends_well(|world| {
        world.stand_still();
        let must_fail = world.jobs.iter().filter(|job| job.stream().after_outage == AfterOutage::MustFail).count();
        assert_eq!(must_fail, world.jobs.len(), "some records were not committed");
    });
}
