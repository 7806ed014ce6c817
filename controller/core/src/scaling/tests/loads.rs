//! Loads, and how the scaler must react: it settles at a number that is enough, and does not
//! oscillate.

use super::*;

/// The same load for every shard, together the work of this many workers.
fn even(shards: usize, workers: f64) -> f64 {
    workers * CAPACITY / shards as f64
}

#[test]
fn a_step_up_is_answered_within_minutes_and_then_there_is_rest() {
    for (workers, least, most) in [(0.3, 1, 1), (1.5, 2, 3), (3.2, 4, 6), (9.0, 11, 16)] {
        let mut plant = Plant::new(64, move |_, t| {
            if t < 300.0 {
                even(64, 0.2)
            } else {
                even(64, workers)
            }
        });
        plant.run(5);
        assert_eq!(plant.desired(), 1);
        plant.run(15);
        let desired = plant.desired();
        let reasons = plant.reasons();
        assert!(
            (least..=most).contains(&desired),
            "{workers}: {desired}\n{reasons}"
        );
        assert!(
            plant.lag_s() < 5.0,
            "{workers}: still {} s behind\n{reasons}",
            plant.lag_s()
        );
        let ups = plant
            .asked
            .windows(2)
            .filter(|pair| pair[1].1 > pair[0].1)
            .map(|pair| pair[1].0);
        assert!(
            ups.max().is_none_or(|last_ms| last_ms < 300_000 + 240_000),
            "{workers}: late\n{reasons}"
        );
        plant.run(40);
        let settled = plant.asked.len();
        plant.run(60);
        // The workers for catching up may have left.
        assert!(
            plant.turns() <= 1 && plant.desired() >= least && plant.asked.len() == settled,
            "{}",
            plant.reasons()
        );
    }
}

#[test]
fn a_step_down_is_answered_slowly_and_the_rest_still_do_the_work() {
    let mut plant = Plant::new(64, |_, t| {
        if t < 1_200.0 {
            even(64, 5.0)
        } else {
            even(64, 1.1)
        }
    });
    plant.run(20);
    let before = plant.desired();
    assert!(before >= 7, "{}", plant.reasons());
    plant.run(4);
    assert_eq!(
        plant.desired(),
        before,
        "not within the time of scaling in\n{}",
        plant.reasons()
    );
    plant.run(36);
    assert_eq!(plant.desired(), 2, "{}", plant.reasons());
    assert!(plant.lag_s() < 5.0);
    assert_eq!(plant.turns(), 1, "{}", plant.reasons());
}

#[test]
fn a_ramp_is_followed_without_falling_far_behind() {
    let mut plant = Plant::new(64, |_, t| even(64, 0.3 + t / 600.0));
    plant.run(60);
    assert_eq!(plant.turns(), 0, "{}", plant.reasons());
    assert!(
        plant.lag_max_s < 60.0,
        "{} s behind\n{}",
        plant.lag_max_s,
        plant.reasons()
    );
    assert!((8..=12).contains(&plant.desired()), "{}", plant.reasons());
}

#[test]
fn a_slow_wave_is_followed_and_a_fast_one_is_not() {
    let wave = |period_s: f64| {
        move |_: usize, t: f64| even(64, 2.5 + 1.5 * (t * std::f64::consts::TAU / period_s).sin())
    };
    let mut slow = Plant::new(64, wave(3_600.0));
    slow.run(240);
    // Four waves: up and down once in each.
    assert!(
        slow.turns() <= 8,
        "{} turns\n{}",
        slow.turns(),
        slow.reasons()
    );
    assert!(
        slow.numbers().contains(&2) || slow.numbers().contains(&3),
        "{}",
        slow.reasons()
    );
    for period_s in [40.0, 120.0, 240.0] {
        let mut fast = Plant::new(64, wave(period_s));
        fast.run(20);
        let settled = fast.asked.len();
        fast.run(60);
        assert!(
            fast.asked.len() <= settled + 1,
            "{period_s}: goes on changing\n{}",
            fast.reasons()
        );
        assert!(
            (4..=8).contains(&fast.desired()),
            "{period_s}\n{}",
            fast.reasons()
        );
    }
}

#[test]
fn noise_changes_nothing() {
    // A hash of the second: the same noise every time, between 40 % and 160 %.
    let noise = |t: f64| {
        let mixed = (t as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(31)
            .wrapping_mul(0xBF58_476D_1CE4_E5B9);
        0.4 + 1.2 * (mixed >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut plant = Plant::new(64, move |_, t| even(64, 2.0) * noise(t));
    plant.run(15);
    let settled = plant.asked.len();
    plant.run(60);
    assert_eq!(plant.asked.len(), settled, "{}", plant.reasons());
    assert_eq!(plant.desired(), 3, "{}", plant.reasons());
}

#[test]
fn a_backlog_is_worked_off_in_bounded_time_and_the_helpers_leave() {
    let mut plant = Plant::new(32, |_, _| even(32, 0.5));
    plant.backlog(3_600, even(32, 0.5));
    plant.run(10);
    assert!(
        plant
            .numbers()
            .iter()
            .max()
            .is_some_and(|most| (4..=16).contains(most)),
        "{}",
        plant.reasons()
    );
    plant.run(10);
    assert!(
        plant.lag_s() < 5.0,
        "{} s behind\n{}",
        plant.lag_s(),
        plant.reasons()
    );
    plant.run(60);
    assert_eq!(plant.desired(), 1, "{}", plant.reasons());
    assert_eq!(plant.turns(), 1, "{}", plant.reasons());
}

#[test]
fn when_nothing_comes_the_fewest_are_left_and_stay() {
    let mut plant = Plant::new(16, |_, t| if t < 600.0 { even(16, 3.0) } else { 0.0 });
    plant.run(10);
    assert!(plant.desired() >= 4);
    plant.run(60);
    assert_eq!(
        (plant.desired(), plant.turns()),
        (1, 1),
        "{}",
        plant.reasons()
    );
}

#[test]
fn a_worker_that_dies_and_comes_back_changes_nothing() {
    let mut plant = Plant::new(64, |_, _| even(64, 2.4));
    plant.run(15);
    let before = plant.desired();
    let settled = plant.asked.len();
    for _ in 0..10 {
        plant.workers.pop_first();
        // The follower starts its pod again.
        plant.run(4);
        assert_eq!(
            (plant.desired(), plant.asked.len()),
            (before, settled),
            "{}",
            plant.reasons()
        );
    }
    assert!(plant.lag_s() < 30.0, "{}", plant.lag_s());
}

#[test]
fn more_workers_than_shards_are_never_asked_for() {
    let mut plant = Plant::new(3, |_, _| even(3, 9.0));
    plant.run(30);
    assert_eq!(plant.desired(), 3, "{}", plant.reasons());
    assert!(
        plant.scaler.doing.contains("no more shards"),
        "{}",
        plant.scaler.doing
    );
    // Not even by the smallest step that an autoscaler does not ignore.
    let ten = ScalingSettings {
        workers_min: 10,
        workers_max: 50,
        ..ScalingSettings::default()
    };
    let mut eleven = Plant::with(ten, 11, |_, t| even(11, if t < 600.0 { 4.0 } else { 6.0 }));
    eleven.run(30);
    assert_eq!(eleven.numbers(), [10, 11], "{}", eleven.reasons());
    let mut whole = Plant::new(16, |_, _| even(16, 4.0));
    whole.whole_window = true;
    whole.run(30);
    assert_eq!(
        whole.desired(),
        1,
        "a query that needs the whole window has one task\n{}",
        whole.reasons()
    );
}

#[test]
fn no_more_than_the_most_and_no_fewer_than_the_fewest_are_asked_for() {
    let settings = ScalingSettings {
        workers_min: 2,
        workers_max: 4,
        ..ScalingSettings::default()
    };
    let mut plant = Plant::with(
        settings,
        64,
        |_, t| if t < 900.0 { even(64, 12.0) } else { 0.0 },
    );
    plant.run(15);
    assert_eq!(plant.desired(), 4, "{}", plant.reasons());
    assert!(
        plant.scaler.doing.contains("--workers-max"),
        "{}",
        plant.scaler.doing
    );
    plant.run(60);
    assert_eq!(plant.desired(), 2, "{}", plant.reasons());
}

#[test]
fn a_source_that_gives_no_more_is_no_reason_for_more_workers() {
    // Each shard is read at its limit, and falls behind; the workers have time left.
    let mut plant = Plant::new(8, |_, _| 60_000.0);
    plant.shard_limit = 40_000.0;
    plant.run(20);
    assert!(plant.lag_s() > 60.0);
    assert_eq!(plant.numbers(), [1], "{}", plant.reasons());
    assert!(
        plant.scaler.figures().unwrap().jobs[0].1.held_up,
        "and it is said"
    );
}

#[test]
fn a_hot_shard_gets_a_worker_of_its_own_and_no_more_than_that() {
    // One shard is as much as a worker can just handle, twelve others are small.
    let mut plant = Plant::new(13, |shard, _| {
        if shard == 0 {
            0.82 * CAPACITY
        } else {
            0.03 * CAPACITY
        }
    });
    plant.run(60);
    assert!(
        plant.lag_s() < 5.0,
        "{} s behind\n{}",
        plant.lag_s(),
        plant.reasons()
    );
    assert!(plant.turns() <= 1, "{}", plant.reasons());
    let asked = plant.asked.len();
    plant.run(60);
    assert_eq!(plant.asked.len(), asked, "{}", plant.reasons());
}

#[test]
fn workers_that_do_not_report_their_load_are_left_alone() {
    let mut plant = Plant::new(16, |_, _| even(16, 3.0));
    plant.says_busy = false;
    plant.run(30);
    assert_eq!(plant.numbers(), [1]);
    assert!(
        plant.scaler.doing.contains("how busy"),
        "{}",
        plant.scaler.doing
    );
}

#[test]
fn without_an_autoscaler_the_answer_is_given_all_the_same() {
    let mut plant = Plant::new(64, |_, _| even(64, 3.0));
    plant.follows = false;
    plant.run(30);
    assert_eq!(plant.workers.len(), 1);
    assert!(plant.desired() >= 5, "{}", plant.reasons());
    assert_eq!(plant.turns(), 0, "{}", plant.reasons());
}

#[test]
fn a_new_leader_takes_the_number_over_from_the_workers_that_are_there() {
    let mut plant = Plant::new(64, |_, _| even(64, 3.2));
    plant.run(20);
    let before = plant.desired();
    plant.scaler = Scaler::new(Term(2), plant.now_ms, plant.scaler.settings.clone());
    assert_eq!(
        plant.scaler.desired(),
        None,
        "no number is given until the workers have connected"
    );
    let asked = plant.asked.len();
    plant.run(60);
    assert_eq!(
        (plant.desired(), plant.asked.len()),
        (before, asked),
        "{}",
        plant.reasons()
    );
}

#[test]
fn without_anything_to_read_there_may_be_none_and_a_job_that_begins_brings_one_at_once() {
    let settings = ScalingSettings {
        workers_min: 0,
        ..ScalingSettings::default()
    };
    let mut plant = Plant::with(settings, 0, |_, _| 0.0);
    plant.run(20);
    assert_eq!(plant.desired(), 0, "{}", plant.reasons());
    assert!(!plant.scaler.is_active());
    plant.shards.push(Shard {
        waiting: VecDeque::new(),
        read: 0.0,
    });
    plant.run(1);
    assert_eq!(plant.desired(), 1, "{}", plant.reasons());
    assert!(plant.scaler.is_active());
    assert_eq!(plant.workers.len(), 1);
}

#[test]
fn a_load_that_comes_back_each_time_that_workers_leave_is_met_with_more_and_more_patience() {
    // The figures do not show it in advance: it depends on the minute.
    let mut plant = Plant::new(64, |_, t| {
        if t % 780.0 < 120.0 {
            even(64, 3.0)
        } else {
            even(64, 0.4)
        }
    });
    plant.run(200);
    let turns = plant.turns();
    // Every 13 minutes for 200 minutes would be 30 turns.
    assert!(turns < 14, "{turns} turns\n{}", plant.reasons());
    plant.run(150);
    assert!(
        plant.turns() <= turns + 4,
        "{} more turns\n{}",
        plant.turns() - turns,
        plant.reasons()
    );
}

#[test]
fn the_same_cluster_gives_the_same_decisions() {
    let run = || {
        let mut plant = Plant::new(20, |shard, t| {
            even(20, 2.0) * (1.0 + (shard as f64 + t / 300.0).sin() / 2.0)
        });
        plant.run(90);
        plant.reasons()
    };
    assert_eq!(run(), run());
}
