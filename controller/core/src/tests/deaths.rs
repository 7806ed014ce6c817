//! Stories of workers that die: the job whose tasks kill them is found and stopped, and no other
//! job is.

use super::*;
use crate::job::SUSPECT_DEATHS;

/// The default of [`CoreSettings`].
const PROBATION_MS: i64 = 10_000;

/// Jobs of one bounded source each, on the same workers.
struct Jobs(Story);

impl Jobs {
    fn running(jobs: &str, shards: &str, workers: &str) -> Self {
        let mut story = Story::empty(1);
        for name in workers.split_whitespace() {
            story.joins(name, vec![]);
        }
        let mut jobs_of = Self(story);
        for name in jobs.split(' ') {
            jobs_of.submits(name, shards);
        }
        jobs_of
    }

    fn submits(&mut self, name: &str, shards: &str) {
        let mut job = bounded();
        job.spec.name = name.parse().unwrap();
        self.0.tell(Event::created(job));
        self.lists(name, shards);
    }

    fn lists(&mut self, name: &str, shards: &str) {
        let job: JobName = name.parse().unwrap();
        let generation = self.job(name).listing.asked;
        self.0.tell(Event::Job {
            job,
            event: JobEvent::ShardsListed {
                generation,
                stream: None,
                shards: shards.split(' ').map(known).collect(),
            },
        });
    }

    fn job(&self, name: &str) -> &Job {
        &self.0.core.jobs[&name.parse::<JobName>().unwrap()]
    }

    fn workers_of(&self, name: &str) -> BTreeSet<String> {
        self.job(name)
            .tasks
            .values()
            .map(|task| task.worker.to_string())
            .collect()
    }

    fn has_failed(&self, name: &str) -> bool {
        matches!(self.job(name).wanted, DesiredState::Failed { .. })
    }

    /// Time passes, and every task that is to be released is released.
    fn after(&mut self, ms: i64) {
        let until = self.0.now + ms;
        while self.0.now < until {
            self.0.after(100);
            self.hand_back();
        }
    }

    fn hand_back(&mut self) {
        let tasks = self.0.core.jobs.values().flat_map(|job| &job.tasks);
        let asked = tasks.filter(|(_, task)| task.state == TaskState::Releasing);
        let asked: Vec<_> = asked.map(|(id, task)| (task.worker.clone(), *id)).collect();
        for (worker, task) in asked {
            if !self.0.silent.contains(&worker) {
                self.0.task_ends((worker, task), TaskEnd::Released);
            }
        }
    }

    /// The process of a worker dies, and is started again after it was lost.
    fn dies(&mut self, name: &str) {
        self.0.breaks(name);
        self.after(3_100);
        self.0.joins(name, vec![]);
        self.after(300);
    }

    /// Wherever a task of `poison` runs, the worker dies, until the job fails; returns how many
    /// died.
    fn poisoned(&mut self, poison: &str) -> usize {
        let mut died = 0;
        let begin_ms = self.0.now;
        while !self.has_failed(poison) {
            assert!(
                died < 20 && self.0.now - begin_ms < 3_600_000,
                "it goes on for ever"
            );
            match self.workers_of(poison).into_iter().next() {
                Some(worker) => {
                    self.dies(&worker);
                    died += 1;
                }
                None => self.after(1_000),
            }
        }
        died
    }
}

#[test]
fn a_job_whose_tasks_end_their_workers_fails_and_the_others_are_acquitted() {
    for workers in ["w1", "w1 w2", "w1 w2 w3 w4"] {
        let mut jobs = Jobs::running("good poison quiet", "a", workers);
        let died = jobs.poisoned("poison");
        let retries_max = jobs.job("poison").resolved.spec.retries_max as usize;
        // All three are tried together, and two of them again once the third is acquitted, which
        // takes two more deaths.
        assert!(
            died <= SUSPECT_DEATHS + 2 + retries_max + 1,
            "{workers}: {died}"
        );
        let DesiredState::Failed { error, .. } = &jobs.job("poison").wanted else {
            panic!("it failed")
        };
        assert!(error.contains("its task ended 4 workers"), "{error}");
        // The others may be tried themselves; then they continue as before.
        jobs.after(2 * (PROBATION_MS + 5_000));
        for name in ["good", "quiet"] {
            assert!(jobs.job(name).runs(), "{name} on {workers}");
            assert_eq!(jobs.workers_of(name).len(), 1, "{name} on {workers}");
            assert!(
                jobs.job(name).deaths.suspects().is_empty(),
                "{name} on {workers}"
            );
        }
        assert!(jobs.0.core.trials().is_empty());
    }
}

#[test]
fn a_worker_that_may_be_dead_acquits_no_task() {
    let mut jobs = Jobs::running("good poison", "a", "w1 w2");
    let settings = &mut jobs.0.core.settings;
    // Shorter than it takes to detect that a worker is gone.
    (settings.probation_ms, settings.probation_max_ms) = (1_000, 1_000);
    jobs.poisoned("poison");
    assert!(jobs.job("good").runs());
}

#[test]
fn other_jobs_go_on_while_suspects_are_tried() {
    let mut jobs = Jobs::running("good poison", "a", "w1 w2");
    while jobs.job("poison").deaths.suspects().is_empty() {
        let worker = jobs.workers_of("poison").into_iter().next().unwrap();
        jobs.dies(&worker);
    }
    // Submitted while there are suspects.
    jobs.submits("new", "a");
    jobs.after(1_000);
    let (worker, trial) = jobs.0.core.trials().iter().next().expect("a trial");
    let worker = worker.to_string();
    let tried = trial.jobs.keys().next().unwrap().clone();
    assert_eq!(
        jobs.workers_of(tried.as_str()),
        BTreeSet::from([worker.clone()])
    );
    assert_eq!(jobs.workers_of("new").len(), 1);
    assert!(!jobs.workers_of("new").contains(&worker));
    let status = jobs.0.core.status(&tried, true).unwrap();
    assert!(
        status
            .waiting_on
            .iter()
            .any(|wait| wait.contains("its shards run there")),
        "{:?}",
        status.waiting_on
    );
}

#[test]
fn workers_that_are_killed_one_after_the_other_leave_no_job_without_a_worker_for_long() {
    for names in ["north south", "north south east west up down in out"] {
        let mut jobs = Jobs::running(names, "a", "w1 w2");
        let mut still: BTreeMap<&str, i64> = BTreeMap::new();
        let mut longest = 0;
        for step in 0..600 {
            if step % 30 == 0 && step < 90 {
                let worker = if step % 60 == 0 { "w1" } else { "w2" };
                jobs.0.restarts(worker);
            }
            jobs.after(100);
            for name in names.split(' ') {
                let has_none = jobs.workers_of(name).is_empty();
                let ms = still.entry(name).or_default();
                *ms = if has_none { *ms + 100 } else { 0 };
                longest = longest.max(*ms);
            }
        }
        assert!(longest <= PROBATION_MS + 1_000, "{names}: {longest} ms");
        assert!(
            names
                .split(' ')
                .all(|name| jobs.job(name).deaths.suspects().is_empty()),
            "{names}"
        );
    }
}

#[test]
fn many_suspects_are_divided_until_one_is_alone() {
    let mut jobs = Jobs::running("a b c d e f g poison", "a", "w1 w2");
    let died = jobs.poisoned("poison");
    // Two make suspects, three halve a group of eight, four convict.
    assert!(died <= SUSPECT_DEATHS + 3 + 4, "{died}");
    jobs.after(8 * PROBATION_MS);
    for name in "a b c d e f g".split(' ') {
        assert!(jobs.job(name).runs(), "{name}");
        assert_eq!(jobs.workers_of(name).len(), 1, "{name}");
        assert!(jobs.job(name).deaths.suspects().is_empty(), "{name}");
    }
}

#[test]
fn where_workers_die_without_a_job_too_it_takes_more_to_convict_it() {
    for others_die in [false, true] {
        let mut jobs = Jobs::running("north", "a", "w1 w2");
        jobs.submits("south", "a");
        let mut died = 0;
        while !jobs.has_failed("north") {
            assert!(died < 20, "it goes on for ever");
            let Some(worker) = jobs.workers_of("north").into_iter().next() else {
                jobs.after(1_000);
                continue;
            };
            jobs.0.restarts(&worker);
            died += 1;
            let other = if worker == "w1" { "w2" } else { "w1" };
            if others_die && jobs.workers_of("north").iter().all(|at| at != other) {
                jobs.0.restarts(other);
            }
            jobs.after(500);
        }
        assert_eq!(died > 6, others_die, "{died}");
    }
}

#[test]
fn who_comes_under_suspicion_again_is_tried_for_longer() {
    let settings = CoreSettings::default();
    let mut deaths = crate::job::Deaths::default();
    let death = |at_ms: i64, lived_ms: i64| crate::job::Death {
        at_ms,
        task: TaskId {
            term: Term(1),
            counter: at_ms as u64,
        },
        worker: WorkerId::new("w1"),
        shards: BTreeSet::from([shard("a")]),
        lived_ms,
        process: 0,
        alone: false,
    };
    deaths.note(death(1, 3_600_000));
    deaths.note(death(2, 9_000));
    assert_eq!(
        deaths.probation_ms(&settings),
        18_000,
        "the first had run well for an hour"
    );
    for probation_ms in [36_000, 60_000, 60_000] {
        deaths.acquit(3, &BTreeSet::from([shard("a")]));
        deaths.note(death(4, 9_000));
        deaths.note(death(5, 9_000));
        assert_eq!(deaths.probation_ms(&settings), probation_ms);
    }
    // A death from an hour ago is forgotten.
    deaths.forget(4 + 3_600_000);
    deaths.note(death(5, 9_000));
    assert_eq!(deaths.probation_ms(&settings), 18_000);
    deaths.note(death(6, 1));
    assert_eq!(deaths.probation_ms(&settings), settings.probation_ms);
}

#[test]
fn a_worker_that_dies_now_and_then_fails_no_job() {
    let mut jobs = Jobs::running("north south", "a b", "w1 w2");
    for _ in 0..12 {
        jobs.dies("w1");
        jobs.after(4 * PROBATION_MS);
    }
    jobs.after(2 * CoreSettings::default().probation_max_ms);
    for name in ["north", "south"] {
        assert!(jobs.job(name).runs(), "{name}");
        assert!(
            jobs.job(name)
                .shards
                .values()
                .all(|shard| shard.task.is_some()),
            "{name}"
        );
    }
}

#[test]
fn a_worker_that_is_asked_to_stop_or_was_only_cut_off_did_not_die() {
    let mut jobs = Jobs::running("north", "a", "w1");
    for _ in 0..10 {
        jobs.0.leaves("w1");
        jobs.0.breaks("w1");
        jobs.after(3_100);
        jobs.0.joins("w1", vec![]);
        jobs.after(300);
        let task = *jobs.job("north").tasks.keys().next().unwrap();
        jobs.0.breaks("w1");
        jobs.after(3_100);
        let mut running = runs(task, "a 0..0");
        running.job = "north".parse().unwrap();
        jobs.0.joins("w1", vec![running]);
        jobs.after(300);
    }
    assert!(jobs.job("north").runs());
    assert_eq!(jobs.job("north").deaths.blamed(), 0);
}

#[test]
fn a_process_that_is_started_anew_before_it_was_missed_has_died() {
    let mut jobs = Jobs::running("north", "a", "w1");
    jobs.0.restarts("w1");
    jobs.after(300);
    assert_eq!(
        jobs.job("north").deaths.blamed(),
        0,
        "the process before did not say which one it was"
    );
    jobs.0.restarts("w1");
    jobs.after(300);
    assert_eq!(jobs.job("north").deaths.blamed(), 1);
}

#[test]
fn many_workers_that_are_cut_off_at_once_are_a_broken_network() {
    let mut jobs = Jobs::running("north south", "a b c d", "");
    let names = ["w1", "w2", "w3", "w4"];
    for (process, name) in (1..).zip(names) {
        jobs.0.is_process(name, process);
    }
    jobs.after(300);
    for _ in 0..5 {
        for name in &names[..3] {
            jobs.0.breaks(name);
        }
        jobs.after(3_500);
        for (process, name) in (1..).zip(&names[..3]) {
            jobs.0.is_process(name, process);
        }
        jobs.after(1_000);
    }
    for name in ["north", "south"] {
        assert!(jobs.job(name).deaths.suspects().is_empty(), "{name}");
    }
}

#[test]
fn all_workers_that_die_together_again_and_again_fail_no_job() {
    let mut jobs = Jobs::running("north south east west", "a", "w1 w2 w3 w4");
    for _ in 0..20 {
        for name in ["w1", "w2", "w3", "w4"] {
            jobs.0.breaks(name);
        }
        for name in ["w1", "w2", "w3", "w4"] {
            jobs.0.restarts(name);
        }
        jobs.after(8_000);
    }
    for name in ["north", "south", "east", "west"] {
        assert!(jobs.job(name).runs(), "{name}");
    }
}

#[test]
fn a_job_that_ends_all_workers_at_once_is_found() {
    let mut jobs = Jobs::running("good poison", "a b c d e f g h", "w1 w2 w3 w4");
    let mut rounds = 0;
    while !jobs.has_failed("poison") {
        assert!(rounds < 20, "it goes on for ever");
        rounds += 1;
        let workers = jobs.workers_of("poison");
        workers.iter().for_each(|name| jobs.0.breaks(name));
        jobs.after(3_100);
        workers
            .iter()
            .for_each(|name| drop(jobs.0.joins(name, vec![])));
        jobs.after(300);
    }
    assert!(jobs.job("good").runs());
}

#[test]
fn a_job_that_comes_while_all_workers_hold_trials_gets_one() {
    let mut jobs = Jobs::running("north south", "a", "w1 w2");
    for _ in 0..3 {
        jobs.after(40_000);
        jobs.dies("w1");
        jobs.dies("w2");
    }
    assert_eq!(jobs.0.core.trials().len(), 2);
    jobs.submits("new", "a");
    jobs.after(1_000);
    assert_eq!(jobs.workers_of("new").len(), 1);
    assert_eq!(jobs.0.core.trials().len(), 1);
    for name in ["north", "south"] {
        assert_eq!(jobs.workers_of(name).len(), 1, "{name}");
    }
}

#[test]
fn the_only_worker_is_shared_between_a_culprit_and_the_others_in_turns() {
    let mut jobs = Jobs::running("good poison quiet", "a", "w1");
    let mut longest = BTreeMap::from([("good", 0_i64), ("quiet", 0)]);
    let mut still = longest.clone();
    let begin_ms = jobs.0.now;
    let mut lived_ms = 0;
    let mut waited = None;
    while !jobs.has_failed("poison") {
        lived_ms = if jobs.workers_of("poison").is_empty() {
            0
        } else {
            lived_ms + 100
        };
        if lived_ms > 2_000 {
            lived_ms = 0;
            jobs.0.restarts("w1");
        }
        jobs.after(100);
        for (name, ms) in &mut still {
            *ms = if jobs.workers_of(name).is_empty() {
                *ms + 100
            } else {
                0
            };
            let most = longest.get_mut(name).unwrap();
            *most = (*most).max(*ms);
        }
        let status = jobs.0.core.status(&"good".parse().unwrap(), true).unwrap();
        waited = waited.or(status
            .waiting_on
            .into_iter()
            .find(|wait| wait.starts_with("a worker: all of them try jobs")));
        assert!(jobs.0.now - begin_ms < 600_000, "it goes on for ever");
    }
    assert!(
        longest.values().all(|ms| *ms <= 3 * PROBATION_MS),
        "{longest:?}"
    );
    assert!(waited.is_some(), "the status says why a job waits");
}

#[test]
fn after_a_storm_those_who_wait_are_tried_together_again() {
    let names = "a b c d e f g h i j k l m n o p q r s t u v w x";
    let mut jobs = Jobs::running(names, "a", "w1 w2");
    for round in 0..12 {
        jobs.0.restarts(if round % 2 == 0 { "w1" } else { "w2" });
        jobs.after(5_000);
    }
    jobs.after(3 * PROBATION_MS);
    for name in names.split(' ') {
        assert!(jobs.job(name).runs(), "{name}");
        assert_eq!(
            jobs.workers_of(name).len(),
            1,
            "{name}: {:?}",
            jobs.0.core.trials()
        );
    }
}

#[test]
fn a_job_that_commits_is_not_blamed_for_what_was_before() {
    let mut story = Story::running(bounded(), "a", "w1");
    for window in 0..8 {
        story.breaks("w1");
        story.after(3_100);
        story.joins("w1", vec![]);
        story.after(PROBATION_MS);
        story.asks("a", window);
        story.reports(window, &format!("a {window}..{}", window + 1));
        story.is_past("a", window + 1);
        story.store_works();
    }
    assert!(story.job().runs());
    assert_eq!(story.committed().len(), 8);
}

#[test]
fn what_commits_and_ends_its_workers_at_the_cost_of_others_is_stopped() {
    for (others, dies_before_the_commit) in [(false, false), (true, false), (true, true)] {
        let mut story = Story::running(bounded(), "a", "w1");
        if others {
            let mut job = bounded();
            job.spec.name = "the-other".parse().unwrap();
            story.tell(Event::created(job));
        }
        for window in 0..8 {
            // The only worker takes turns.
            story.after(2 * PROBATION_MS);
            if !story.job().runs() || story.job().tasks.is_empty() {
                continue;
            }
            story.asks("a", window);
            story.reports(window, &format!("a {window}..{}", window + 1));
            story.is_past("a", window + 1);
            if dies_before_the_commit {
                story.restarts("w1");
            }
            story.store_works();
            if !dies_before_the_commit {
                story.restarts("w1");
            }
        }
        assert_eq!(
            story.job().runs(),
            !others,
            "dies before the commit: {dies_before_the_commit}"
        );
    }
}

#[test]
fn suspects_do_not_wait_for_ever_for_a_worker_that_hands_nothing_on() {
    let mut jobs = Jobs::running("good poison", "a", "w1 w2");
    while jobs.0.core.trials().is_empty() {
        let worker = jobs.workers_of("poison").into_iter().next().unwrap();
        jobs.dies(&worker);
    }
    let tried: Vec<JobName> = jobs
        .0
        .core
        .trials()
        .values()
        .flat_map(|trial| trial.jobs.keys().cloned())
        .collect();
    // No task is released from here on.
    for _ in 0..2 * crate::suspects::TRIAL_WAIT_MS / 1_000 {
        jobs.0.after(1_000);
    }
    for name in tried {
        let job = &jobs.0.core.jobs[&name];
        assert!(
            !job.shards.values().any(|shard| shard.task.is_none()),
            "{:?}",
            jobs.0.core.trials()
        );
    }
}
