//! Stories with one fault each: those that the seeds find among many faults, alone and in seconds.
//!
//! Rule: each is here because it revealed a bug of the system; breaking the code that prevents the
//! bug makes it fail.

use super::chaos::{kill, refuse_controllers};
use super::stream::AfterOutage;
use super::world::{UserWish, World};
use super::{tell, tell_of};
use std::sync::atomic::Ordering;

/// Seeds of each story: they determine sizes of windows, numbers of shards, and joins.
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
        let must_fail = world
            .jobs
            .iter()
            .filter(|job| job.stream().after_outage == AfterOutage::MustFail)
            .count();
        assert_eq!(
            must_fail,
            world.jobs.len(),
            "some records were not committed"
        );
    });
}

#[test]
fn a_lookup_that_breaks_stays_in_use_under_any_leader() {
    ends_well(|world| {
        for job in &world.jobs {
            world.break_lookup(job);
        }
        world.end_term(world.weather.now_ms());
    });
}

#[test]
fn a_job_that_could_not_be_read_at_an_election_continues_once_it_can() {
    ends_well(|world| {
        let until_ms = world.weather.now_ms() + 5_000;
        refuse_controllers(world, until_ms);
    });
}

#[test]
fn a_store_that_is_older_than_what_was_committed_is_refused_until_it_is_repaired() {
    ends_well(|world| {
        let copy = world.store.copy();
        world.pass(6_000);
        assert!(world.can_go_back_to(&copy));
        world.put_store_back(&copy);
    });
}

#[test]
fn a_worker_without_permission_ends_no_job() {
    ends_well(|world| {
        let until_ms = world.weather.now_ms() + 30_000;
        world.weather.deny("w0", "s3", "AccessDenied", until_ms);
        world
            .weather
            .deny("w0", "kinesis", "ExpiredTokenException", until_ms);
    });
}

#[test]
fn a_record_that_ends_its_worker_ends_its_job_and_no_other() {
    ends_well(|world| {
        let job = &world.jobs[1];
        job.stream().deadly = true;
        world.put_bad_record(job);
    });
}

#[test]
fn a_stream_that_was_deleted_and_created_again_ends_its_job_and_no_other() {
    ends_well(|world| {
        let wall_ms = world.weather.kinesis_ms();
        world.jobs[1].stream().create_again(wall_ms);
    });
}

#[test]
fn a_job_whose_function_fails_loses_nothing_and_doubles_nothing() {
    let mut failures = 0;
    for seed in 0..12 {
        let story = tell(seed, false);
        assert_eq!(story.broken, None, "seed {seed}");
        let of_functions = story.faults.iter();
        let of_functions = of_functions.filter(|(name, _)| name.starts_with("function: "));
        failures += of_functions.map(|(_, count)| *count).sum::<u64>();
    }
    assert!(failures > 0, "no function failed");
}

#[test]
fn a_drain_during_which_a_worker_dies_loses_nothing_and_doubles_nothing() {
    ends_well(|world| {
        world.ask(&world.jobs[1], UserWish::Stop { drain: true });
        world.pass(100);
        kill(world, "w0", true, 4_000);
        world.pass(2_000);
        kill(world, "w1", false, 500);
    });
}
