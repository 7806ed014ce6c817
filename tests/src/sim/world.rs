//! A cluster in a world: places, the processes in them, the services they use, the user.
//!
//! Owns: how a process is assembled, the course of a story (wild, calm, at rest), time. Does not
//! own: the faults ([`super::chaos`]), the verdict ([`super::oracle`]).
//! Rule: time moves in ticks; within one, each process runs once, in a random order.

use super::chaos::{self, Chaos};
use super::function::Unreliable;
use super::job::{self, Illness, SimJob};
use super::network::{Dialler, Network, Presence};
use super::node::{Body, Process};
use super::storage::{Committed, FaultyStorage, Removed};
use super::store::{FaultyStore, Ledger};
use super::stream::{AfterOutage, RETENTION_MS, SharedStream, Stream, StreamsAt};
use super::texts::Text;
use super::weather::Weather;
use super::witness::Watcher;
use super::{oracle, story};
use futures::{FutureExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_controller::node::{Node, Parts};
use streamctl_controller::store::{LeaderRecord, MemoryStore, Store, StoreCopy, StoredJob};
use streamctl_core::CoreSettings;
use streamctl_core::stored::DesiredState;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::clock::Clock;
use streamctl_engine::resolve;
use streamctl_engine::storage::{MemoryStorage, Storage, Storages};
use streamctl_proto::v1::jobs_server::Jobs;
use streamctl_proto::{Epoch, JobName, Manifest, Term, v1};
use streamctl_worker::functions::Functions;
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::session::{self, Settings};
use streamctl_worker::source::Sources;
use tonic::Request;

/// One step of the world's time.
pub const TICK_MS: i64 = 20;
/// All jobs must exist after this time.
const SUBMIT_MS_MAX: i64 = 30_000;
/// All jobs must be done this long after the last fault.
const REST_MS_MAX: i64 = 120_000;
/// Time in which a cluster that is done may still move tasks.
const SETTLE_MS: i64 = 8_000;
/// How long a calm core is watched.
const CALM_MS: i64 = 3_000;
/// Shorter than [`SETTLE_MS`], so that avoided shards are distributed again before the core must be
/// calm.
const AVOID_MS: i64 = 3_000;
/// The same for shards that were involved in crashes of workers.
const PROBATION_MS: i64 = 2_000;
/// A story of many shards: its length before it comes to rest, its parts, and how often shards
/// split or merge.
const WIDE_MS: i64 = 12_000;
const WIDE_PARTS: i64 = 4;
const WIDE_RESHARDS: usize = 20;
/// A story with one fault: how often records are put before and after it, and the interval between
/// them.
const QUIET_PARTS: usize = 3;
const QUIET_MS: i64 = 2_500;
/// Time in which another controller becomes leader and adopts the running tasks.
const NEXT_LEADER_MS: i64 = 10_000;
/// How far all clocks are advanced at the end: nothing depends on it.
const CLOCKS_FORWARD_MS: i64 = 1_200_000;
/// Wait until a crashed process is restarted.
const RESTART_MS: i64 = 1_000;
/// How long a lease is valid after its last renewal.
const LEASE_MS: i64 = 4_000;
/// Most jobs of a story.
const JOBS_MAX: usize = 4;
/// How far clocks of machines are ahead of the world's.
const CONTROLLER_AHEAD_MS: std::ops::Range<i64> = -3_600_000..3_600_000;
const WORKER_AHEAD_MS: std::ops::Range<i64> = -5_000..300_000;
/// Length of an outage of everything: longer than records are kept, by more than clocks differ.
const OUTAGE_MS: i64 = RETENTION_MS + 4 * 3_600_000;
/// Per thousand ticks, how often an ill job gets the record that makes it fail, until it has one.
const BAD_RECORDS: u32 = 3;
/// At the end, a healthy job must commit new records within this time, whatever happened to the
/// others.
const PROBE_MS_MAX: i64 = 30_000;

/// Settings that a seed determines once.
pub struct Setting {
    /// Records become readable soon after they arrive, by a clock that does not jump: windows are
    /// then known beforehand.
    pub exact: bool,
    /// How long faults happen.
    pub wild_ms: i64,
    /// Records per thousand ticks, of all jobs together.
    pub rate: u32,
    /// Faults per thousand ticks.
    pub trouble: u32,
}

/// A place where a process can run.
#[derive(Default)]
pub struct Place {
    pub process: Option<Process>,
    /// How far its clock is ahead of the world's.
    pub skew_ms: Arc<AtomicI64>,
    /// Number of processes started there.
    pub started: u32,
    /// When the next one starts.
    pub starts_at_ms: Option<i64>,
}

/// The world of one story.
pub struct World {
    pub weather: Arc<Weather>,
    pub network: Arc<Network>,
    pub setting: Setting,
    /// By name: `c0`, `c1` ... are controllers, `w0` ... workers.
    pub places: BTreeMap<String, Place>,
    /// The store's own view of itself.
    pub store: MemoryStore,
    /// The leader, and all heads.
    pub ledger: Arc<Mutex<Ledger>>,
    pub objects: MemoryStorage,
    pub committed: Committed,
    /// Old history.
    pub removed: Removed,
    /// All jobs of the cluster.
    pub jobs: Vec<SimJob>,
    calm: Arc<AtomicBool>,
    /// When the lease of a term was last renewed, and when its holder notices the loss.
    renewed_ms: BTreeMap<Term, i64>,
    /// The store was restored from a copy.
    pub restored: bool,
    notices_ms: Option<i64>,
}

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let weather = Weather::new(seed, traced);
        let setting = weather.roll(Setting::new);
        let jobs = weather.roll(|rng| several_jobs(rng, &setting));
        let (controllers, workers) = weather.roll(|rng| (rng.usize(1..4), rng.usize(1..5)));
        Self::of(weather, setting, jobs, (controllers, workers))
    }

    /// A stream of this many shards, two controllers, five workers.
    pub fn wide(seed: u64, shards: usize) -> Self {
        let weather = Weather::new(seed, false);
        let setting = Setting {
            wild_ms: WIDE_MS,
            ..weather.roll(Setting::new)
        };
        let stream = Stream::wide("job-0".to_owned(), shards);
        let job = weather.roll(|rng| SimJob::new(rng, 0, "2s", setting.rate, stream));
        Self::of(weather, setting, vec![job], (2, 5))
    }

    /// Two jobs, two controllers, two workers.
    pub fn quiet(seed: u64) -> Self {
        let weather = Weather::new(seed, false);
        let setting = Setting {
            exact: true,
            ..weather.roll(Setting::new)
        };
        let job = |number| {
            let stream = weather.roll(|rng| Stream::new(rng, format!("job-{number}")));
            // The second one may be made to fail, within few retries.
            let illness = (number == 1).then_some(Illness::DeadlyRecord);
            weather.roll(|rng| {
                SimJob::with_illness(rng, number, "250ms", setting.rate, stream, illness)
            })
        };
        let jobs = vec![job(0), job(1)];
        Self::of(weather, setting, jobs, (2, 2))
    }

    fn of(
        weather: Arc<Weather>,
        setting: Setting,
        jobs: Vec<SimJob>,
        (controllers, workers): (usize, usize),
    ) -> Self {
        let objects = MemoryStorage::default();
        let names = (0..controllers)
            .map(|n| format!("c{n}"))
            .chain((0..workers).map(|n| format!("w{n}")));
        let places = names
            .map(|name| {
                (
                    name,
                    Place {
                        starts_at_ms: Some(0),
                        ..Place::default()
                    },
                )
            })
            .collect();
        let mut world = Self {
            network: Network::new(Arc::clone(&weather)),
            weather,
            setting,
            places,
            store: MemoryStore::new(),
            ledger: Arc::default(),
            objects,
            committed: Arc::default(),
            removed: Arc::default(),
            jobs,
            calm: Arc::default(),
            renewed_ms: BTreeMap::new(),
            restored: false,
            notices_ms: None,
        };
        for job in 0..world.jobs.len() {
            world.change_lookup(job);
        }
        for (name, place) in &world.places {
            place
                .skew_ms
                .store(world.roll_skew(name), Ordering::Relaxed);
        }
        world
    }

    /// How far the clock of a place is ahead of the world's. A worker's clock that is behind delays
    /// its windows by as much.
    pub fn roll_skew(&self, place: &str) -> i64 {
        let range = if place.starts_with('c') {
            CONTROLLER_AHEAD_MS
        } else {
            WORKER_AHEAD_MS
        };
        self.weather.roll(|rng| rng.i64(range))
    }

    pub fn records(&self) -> u64 {
        self.jobs.iter().map(|job| job.stream().count()).sum()
    }

    pub fn epochs(&self) -> u64 {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.heads.values().map(|heads| heads.len() as u64).sum()
    }

    /// Writes a new version of a job's lookup.
    pub fn change_lookup(&mut self, job: usize) {
        let job = &mut self.jobs[job];
        job.lookup_version += 1;
        let tag = job.lookup_version;
        let rows: String = ["a", "b", "c"]
            .iter()
            .map(|key| format!("{key},{tag}\n"))
            .collect();
        self.objects.put(
            &format!("{}names.csv", job::lookup(&job.name)),
            format!("k,v\n{rows}"),
        );
    }

    /// The last committed manifest of a job.
    fn head(&self, job: &SimJob) -> Option<Manifest> {
        let head = self.stored(&job.name)?.head?;
        let bytes = self
            .objects
            .get(&job::checkpoint(&job.name).join(&head.name), u64::MAX)
            .now_or_never()?
            .ok()?;
        Manifest::decode(&bytes, &head).ok()
    }

    /// Runs the story, from its first tick to its verdict; on a violation it ends early.
    pub fn live(&mut self) {
        self.until(SUBMIT_MS_MAX, "submitted", |_, job| job.is_submitted());
        self.weather.set_wild(true);
        let mut chaos = Chaos::default();
        let end_ms = self.weather.now_ms() + self.setting.wild_ms;
        while self.weather.now_ms() < end_ms && !self.is_broken() {
            chaos.strike(self);
            self.put();
            self.tick();
        }
        self.come_to_rest();
    }

    /// Makes the files of a job's lookup unreadable.
    pub fn break_lookup(&self, job: &SimJob) {
        self.objects.put(
            &format!("{}names.csv", job::lookup(&job.name)),
            "k,v\n\"a,1\nb",
        );
    }

    /// Whether the head of a job names the lookup version that it is joined with.
    pub fn has_lookup_in_use(&self, job: &SimJob) -> bool {
        self.head(job)
            .is_some_and(|manifest| !manifest.lookups.is_empty())
    }

    /// Whether every job is in the copy, in its current version: an earlier copy does not contain a
    /// later version.
    pub fn can_go_back_to(&self, copy: &StoreCopy) -> bool {
        let before = MemoryStore::new();
        before.put_back(copy);
        let version = |store: &MemoryStore, job: &JobName| {
            let stored = store
                .load()
                .now_or_never()
                .and_then(Result::ok)
                .unwrap_or_default();
            stored
                .into_iter()
                .find(|stored| stored.job.spec.name == *job)
                .map(|stored| stored.job.job_version)
        };
        self.jobs.iter().all(|job| {
            let now = version(&self.store, &job.name);
            now.is_some() && now == version(&before, &job.name)
        })
    }

    /// An operator stops the controllers and restores the store from a copy.
    pub fn put_store_back(&mut self, copy: &StoreCopy) {
        let controllers: Vec<String> = self
            .places
            .keys()
            .filter(|name| name.starts_with('c'))
            .cloned()
            .collect();
        for name in controllers {
            chaos::kill(self, &name, false, RESTART_MS);
        }
        let stored_before = MemoryStore::new();
        stored_before.put_back(copy);
        let before = stored_before
            .load()
            .now_or_never()
            .and_then(Result::ok)
            .unwrap_or_default();
        for job in &self.jobs {
            let Some(manifest) = self.head(job) else {
                continue;
            };
            let stored = before
                .iter()
                .find(|stored| stored.job.spec.name == job.name);
            let head_before = stored.and_then(|stored| stored.head.as_ref());
            if head_before.is_some_and(|head| head.epoch >= manifest.epoch) {
                // The copy contains this epoch too: it stays committed.
                continue;
            }
            let is_there = |location: &str| {
                self.objects
                    .head(location)
                    .now_or_never()
                    .is_some_and(|found| found.is_ok())
            };
            let is_seen = manifest
                .objects
                .iter()
                .any(|object| is_there(&object.staged.location));
            let published = self
                .stored(&job.name)
                .map_or(Epoch(0), |stored| stored.published);
            if published < manifest.epoch && !is_seen {
                let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.forget_unseen(&job.name, &manifest, &self.committed);
            }
        }
        self.store.put_back(copy);
        self.ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .held
            .clear();
        self.renewed_ms.clear();
        self.notices_ms = None;
        self.restored = true;
    }

    /// Suspends everything for longer than records are kept.
    pub fn stand_still(&mut self) {
        for job in &self.jobs {
            let committed = self.head(job).map_or(0, |manifest| manifest.totals.rows_in);
            let mut stream = job.stream();
            stream.after_outage = match stream.count() > committed {
                true => AfterOutage::MustFail,
                false if stream.after_outage == AfterOutage::MustFail => AfterOutage::MustFail,
                false => AfterOutage::MayFail,
            };
        }
        let names: Vec<String> = self.places.keys().cloned().collect();
        for name in names {
            chaos::kill(self, &name, false, RESTART_MS);
        }
        self.end_term(self.weather.now_ms());
        self.weather.put_clocks_forward(OUTAGE_MS);
    }

    fn put(&self) {
        let wall_ms = self.weather.kinesis_ms();
        for job in &self.jobs {
            if self.weather.roll(|rng| rng.u32(0..1_000)) < job.rate {
                let mut stream = job.stream();
                self.weather.roll(|rng| stream.put(rng, wall_ms));
            }
            self.put_bad(job);
        }
    }

    fn put_bad(&self, job: &SimJob) {
        let Some(illness) = job.illness.filter(|_| !job.is_doomed()) else {
            return;
        };
        if self.weather.roll(|rng| rng.u32(0..1_000)) < BAD_RECORDS {
            self.weather.count(illness.fault());
            self.weather
                .note(|| format!("{} has a bad record: {illness:?}", job.name));
            self.put_bad_record(job);
        }
    }

    /// Puts a record that a job cannot process.
    pub fn put_bad_record(&self, job: &SimJob) {
        let wall_ms = self.weather.kinesis_ms();
        let mut stream = job.stream();
        self.weather.roll(|rng| stream.put_bad(rng, wall_ms));
    }

    /// The story of a wide stream: every shard gets records at the beginning, in the middle and at
    /// the end.
    pub fn live_wide(&mut self) {
        self.until(SUBMIT_MS_MAX, "submitted", |_, job| job.is_submitted());
        for part in 0..WIDE_PARTS {
            self.put_in_each();
            match part {
                1 => chaos::kill(self, "w0", false, 1_000),
                2 => self.reshard(WIDE_RESHARDS),
                3 => chaos::kill(self, &self.leader(), false, 1_000),
                _ => {}
            }
            self.pass(self.setting.wild_ms / WIDE_PARTS);
        }
        self.come_to_rest();
    }

    /// The story with one fault: records before it, some of which are not committed when it
    /// happens, and after it.
    pub fn live_through(&mut self, strike: impl FnOnce(&mut Self)) {
        self.until(SUBMIT_MS_MAX, "submitted", |_, job| job.is_submitted());
        for _ in 0..QUIET_PARTS {
            self.put_in_each();
            self.pass(QUIET_MS);
        }
        self.put_in_each();
        strike(self);
        for _ in 0..QUIET_PARTS {
            self.pass(QUIET_MS);
            self.put_in_each();
        }
        self.come_to_rest();
    }

    /// The place of the leading controller.
    fn leader(&self) -> String {
        let leader = self
            .store
            .leader()
            .now_or_never()
            .and_then(Result::ok)
            .flatten();
        leader.map_or_else(String::new, |(_, leader)| leader.address)
    }

    fn put_in_each(&self) {
        let wall_ms = self.weather.kinesis_ms();
        for job in self.jobs.iter().filter(|job| !job.is_doomed()) {
            let mut stream = job.stream();
            self.weather.roll(|rng| stream.put_in_each(rng, wall_ms));
        }
    }

    fn reshard(&self, times: usize) {
        for job in &self.jobs {
            let mut stream = job.stream();
            for _ in 0..times {
                self.weather.roll(|rng| stream.reshard(rng));
            }
        }
    }

    /// Disables faults, waits until all work is done, and then gets the verdict.
    fn come_to_rest(&mut self) {
        self.calm_down();
        self.until(REST_MS_MAX, "done with all records", Self::is_done);
        if self.jobs.iter().any(SimJob::is_doomed) {
            self.put_in_each();
            self.until(
                PROBE_MS_MAX,
                "done with what came after another job had failed",
                Self::is_done,
            );
        }
        self.pass(SETTLE_MS);
        self.calm.store(true, Ordering::Relaxed);
        self.pass(CALM_MS);
        self.calm.store(false, Ordering::Relaxed);
        // The next leader sweeps unneeded objects, regardless of the clocks.
        self.weather.put_clocks_forward(CLOCKS_FORWARD_MS);
        self.end_term(self.weather.now_ms());
        self.pass(NEXT_LEADER_MS);
        self.pass(SETTLE_MS);
        if !self.is_broken() {
            oracle::judge(self);
        }
    }

    fn is_broken(&self) -> bool {
        self.weather.first_broken().is_some() || story::panicked().is_some()
    }

    /// Runs until a condition holds for every job; a time-out is a violation.
    fn until(&mut self, ms_max: i64, what: &str, is_so: impl Fn(&Self, &SimJob) -> bool) {
        let end_ms = self.weather.now_ms() + ms_max;
        let mut ticks = 0;
        while !self.is_broken() {
            if ticks % 10 == 0 && self.jobs.iter().all(|job| is_so(self, job)) {
                return;
            }
            // A user who submits a job retries until it runs.
            for job in &self.jobs {
                let again = ticks % 200 == 0 && !job.is_doomed();
                if again || (ticks % 50 == 0 && !job.is_submitted()) {
                    self.ask(job, UserWish::Run);
                }
                if self.restored && ticks % 100 == 0 {
                    self.ask(job, UserWish::Repair);
                }
            }
            if self.weather.now_ms() > end_ms {
                let late = self.jobs.iter().find(|job| !is_so(self, job));
                let late = late.map_or("all together", |job| job.name.as_str());
                return self
                    .weather
                    .broken(format!("{late} is not {what} in {ms_max} ms"));
            }
            ticks += 1;
            self.tick();
        }
    }

    pub fn pass(&mut self, ms: i64) {
        let end_ms = self.weather.now_ms() + ms;
        while self.weather.now_ms() < end_ms && !self.is_broken() {
            self.tick();
        }
    }

    /// Disables faults, resumes frozen processes and starts missing ones.
    fn calm_down(&mut self) {
        self.weather.note(|| "calm");
        self.weather.set_wild(false);
        let now_ms = self.weather.now_ms();
        for place in self.places.values_mut() {
            match &mut place.process {
                Some(process) => process.frozen_until_ms = None,
                None => place.starts_at_ms = Some(now_ms),
            }
        }
        for job in &self.jobs {
            job.submitted.store(false, Ordering::Relaxed);
        }
    }

    /// Whether everything that was put for this job is committed and published.
    fn is_done(&self, job: &SimJob) -> bool {
        if !job.is_submitted() {
            return false;
        }
        let Some(stored) = self.stored(&job.name) else {
            return false;
        };
        if job.is_doomed()
            || (job.stream().may_fail() && matches!(stored.wanted, DesiredState::Failed { .. }))
        {
            let committed = stored.head.map_or(Epoch(0), |head| head.epoch);
            return matches!(stored.wanted, DesiredState::Failed { .. })
                && stored.published == committed;
        }
        let records = job.stream().count();
        if stored.head.is_none() {
            return records == 0;
        }
        let Some(manifest) = self.head(job) else {
            return false;
        };
        stored.published == manifest.epoch && manifest.totals.rows_in >= records
    }

    /// The stored state of a job.
    pub fn stored(&self, job: &JobName) -> Option<StoredJob> {
        let stored = self
            .store
            .load()
            .now_or_never()
            .and_then(Result::ok)
            .unwrap_or_default();
        stored
            .into_iter()
            .find(|stored| stored.job.spec.name == *job)
    }

    fn tick(&mut self) {
        let now_ms = self.weather.now_ms() + TICK_MS;
        self.weather.set_now(now_ms);
        self.start_due(now_ms);
        let network = Arc::clone(&self.network);
        network.accept(|place| self.at(place));
        network.deliver(|place| self.at(place).0);
        self.look_at_lease(now_ms);
        let mut names: Vec<String> = self.places.keys().cloned().collect();
        self.weather.roll(|rng| rng.shuffle(&mut names));
        for name in names {
            let Some(place) = self.places.get_mut(&name) else {
                continue;
            };
            let Some(process) = &mut place.process else {
                continue;
            };
            process.live(now_ms, TICK_MS);
            if process.is_over() {
                self.weather.note(|| format!("{name} has ended"));
                place.starts_at_ms.get_or_insert(now_ms + RESTART_MS);
                place.process = None;
                self.network.reset(&name);
            }
        }
        for name in self.weather.take_aborts() {
            chaos::kill(self, &name, false, RESTART_MS);
        }
    }

    fn at(
        &self,
        name: &str,
    ) -> (
        Presence,
        Option<(
            tokio::runtime::Handle,
            streamctl_controller::service::workers::WorkersService,
        )>,
    ) {
        let Some(process) = self
            .places
            .get(name)
            .and_then(|place| place.process.as_ref())
        else {
            return (Presence::Gone, None);
        };
        let service = match &process.body {
            Body::Controller(node) => Some((process.handle().clone(), node.workers())),
            Body::Worker => None,
        };
        let frozen = process.frozen_until_ms.is_some();
        (
            if frozen {
                Presence::Frozen
            } else {
                Presence::Here
            },
            service,
        )
    }

    fn start_due(&mut self, now_ms: i64) {
        let due = |(_, place): &(&String, &Place)| {
            place.process.is_none() && place.starts_at_ms.is_some_and(|at| at <= now_ms)
        };
        let names: Vec<String> = self
            .places
            .iter()
            .filter(due)
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.start(&name);
        }
    }

    /// Starts a process in a place.
    fn start(&mut self, name: &str) {
        self.weather.note(|| format!("{name} starts"));
        let renamed = self.weather.roll(|rng| rng.bool());
        let Some(place) = self.places.get_mut(name) else {
            return;
        };
        place.started += 1;
        place.starts_at_ms = None;
        let started = place.started;
        let skew = Arc::clone(&place.skew_ms);
        let process = match name.starts_with('c') {
            true => self.controller(name, started, &skew),
            false => self.worker(
                name,
                if renamed {
                    format!("{name}-{started}")
                } else {
                    name.to_owned()
                },
                &skew,
            ),
        };
        if let Some(place) = self.places.get_mut(name) {
            place.process = Some(process);
        }
    }

    fn clock(&self, skew_ms: &Arc<AtomicI64>) -> Clock {
        let weather = Arc::clone(&self.weather);
        let skew_ms = Arc::clone(skew_ms);
        Arc::new(move || weather.wall_ms() + skew_ms.load(Ordering::Relaxed))
    }

    fn storages(&self, place: &str) -> Storages {
        let inner = self.objects.clone();
        let committed = Arc::clone(&self.committed);
        let weather = Arc::clone(&self.weather);
        Storages::only(Arc::new(FaultyStorage {
            inner,
            place: place.to_owned(),
            weather,
            committed,
            removed: Arc::clone(&self.removed),
            store: self.store.clone(),
        }))
    }

    fn streams_at(&self, place: &str) -> Arc<StreamsAt> {
        let streams = self
            .jobs
            .iter()
            .map(|job| (job.name.to_string(), Arc::clone(&job.stream)))
            .collect();
        Arc::new(StreamsAt {
            streams,
            place: place.to_owned(),
            weather: Arc::clone(&self.weather),
        })
    }

    fn may_fail(&self) -> BTreeMap<JobName, SharedStream> {
        self.jobs
            .iter()
            .map(|job| (job.name.clone(), Arc::clone(&job.stream)))
            .collect()
    }

    fn controller(&self, name: &str, started: u32, skew_ms: &Arc<AtomicI64>) -> Process {
        let store = FaultyStore {
            inner: self.store.candidate(),
            place: name.to_owned(),
            weather: Arc::clone(&self.weather),
            ledger: Arc::clone(&self.ledger),
            may_fail: self.may_fail(),
            committed: Arc::clone(&self.committed),
            objects: self.objects.clone(),
        };
        let place = name.to_owned();
        let weather = Arc::clone(&self.weather);
        let calm = Arc::clone(&self.calm);
        let parts = Parts {
            store: Arc::new(store),
            world: resolve::World {
                aws: Aws::new(AwsSettings::default()),
                storages: self.storages(name),
                foreign: Default::default(),
                function: Default::default(),
            },
            lister: self.streams_at(name),
            core: CoreSettings {
                avoid_ms: AVOID_MS,
                avoid_max_ms: AVOID_MS,
                probation_ms: PROBATION_MS,
                probation_max_ms: PROBATION_MS,
                listing_interval_ms: 4_000,
                ..CoreSettings::default()
            },
            clock: self.clock(skew_ms),
            witness: Some(Arc::new(Watcher {
                place,
                weather,
                calm,
            })),
            metrics: Default::default(),
            security: Default::default(),
            replayer: None,
        };
        let me = LeaderRecord {
            id: format!("{name}-{started}"),
            address: name.to_owned(),
        };
        let node = Arc::new(Node::new(me, parts));
        let body = Body::Controller(Arc::clone(&node));
        Process::start(
            self.weather.now_ms() - TICK_MS,
            body,
            |stopped, _| async move { node.lead(stopped).await },
        )
    }

    fn worker(&self, place: &str, name: String, skew_ms: &Arc<AtomicI64>) -> Process {
        let storages = self.storages(place);
        let sources = Sources::new(Aws::new(AwsSettings::default()), storages.clone())
            .with_clock(self.clock(skew_ms))
            .with_stream(self.streams_at(place));
        let controllers = self.places.keys().filter(|name| name.starts_with('c'));
        let settings = Settings {
            worker: name,
            flight_address: format!("{place}:1"),
            controllers: controllers.map(|name| format!("http://{name}")).collect(),
            protection: Default::default(),
        };
        let dial = Arc::new(Dialler {
            network: Arc::clone(&self.network),
            worker: place.to_owned(),
        });
        let functions = Functions::faked(Arc::new(Unreliable {
            weather: Arc::clone(&self.weather),
            place: place.to_owned(),
        }));
        Process::start(
            self.weather.now_ms() - TICK_MS,
            Body::Worker,
            move |mut stopped, compute| async move {
                let results = Arc::default();
                let budget = MemoryBudget::default();
                let compute = compute.into();
                let meter = Default::default();
                let network = tokio::runtime::Handle::current();
                let world = session::World {
                    storages,
                    sources,
                    results,
                    budget,
                    compute,
                    network,
                    meter,
                    functions,
                };
                let stop = async move {
                    let _gone = stopped.wait_for(|stopped| *stopped).await;
                };
                session::run_over(dial, settings, world, stop).await;
            },
        )
    }

    /// A lease that is not renewed expires; its holder notices a little before or after that.
    fn look_at_lease(&mut self, now_ms: i64) {
        if self.notices_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.notices_ms = None;
            self.store.notify_deposed();
        }
        let Some(Ok(Some((term, leader)))) = self.store.leader().now_or_never() else {
            return;
        };
        let holds = {
            let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.held.get(&term) == Some(&leader.id)
        };
        let place = self.places.get(&leader.address);
        let renews = holds
            && place.is_some_and(|place| {
                let same = format!("{}-{}", leader.address, place.started) == leader.id;
                same && place
                    .process
                    .as_ref()
                    .is_some_and(|process| process.frozen_until_ms.is_none())
            })
            && self.weather.reaches(&leader.address, "store");
        let renewed_ms = self.renewed_ms.entry(term).or_insert(now_ms);
        if renews {
            *renewed_ms = now_ms;
        } else if now_ms - *renewed_ms > LEASE_MS {
            self.weather.count("leader: lease ran out");
            self.end_term(now_ms);
        }
    }

    /// The leader loses its term, and notices now or later.
    pub fn end_term(&mut self, now_ms: i64) {
        self.weather.note(|| "the lease ends");
        let late_ms = self.weather.roll(|rng| rng.i64(0..2_000));
        if late_ms < 700 {
            self.store.depose();
        } else {
            self.store.depose_in_silence();
            self.notices_ms = Some(now_ms + late_ms);
        }
    }

    /// The job file of the stored version of a job; the first one before there is a version.
    fn text(&self, job: &SimJob) -> Text {
        let known = self
            .stored(&job.name)
            .and_then(|stored| job.texts.of(&stored.job.spec_digest));
        known.unwrap_or_else(|| job.texts.first())
    }

    /// The user sends the request to every controller, like the command line.
    pub fn ask(&self, job: &SimJob, what: UserWish) {
        let text = match what {
            UserWish::Change => {
                let last = self.text(job);
                self.weather.roll(|rng| job.texts.change(rng, &last))
            }
            UserWish::Run | UserWish::Repair | UserWish::Stop { .. } => self.text(job),
        };
        for (name, place) in &self.places {
            let Some(process) = &place.process else {
                continue;
            };
            let Body::Controller(node) = &process.body else {
                continue;
            };
            if process.frozen_until_ms.is_some() {
                continue;
            }
            let jobs = node.jobs();
            let weather = Arc::clone(&self.weather);
            let place = name.clone();
            let spec_toml = text.file.clone();
            let submitted = Arc::clone(&job.submitted);
            let job = job.name.to_string();
            process.handle().spawn(async move {
                let answer = match what {
                    UserWish::Run | UserWish::Change => {
                        let change = what == UserWish::Change;
                        let request = v1::SubmitRequest {
                            spec_toml,
                            change,
                            ..v1::SubmitRequest::default()
                        };
                        jobs.submit(Request::new(request)).await.map(drop)
                    }
                    UserWish::Repair => {
                        let request = v1::RepairJobRequest {
                            job: job.clone(),
                            ..v1::RepairJobRequest::default()
                        };
                        match jobs.repair_job(Request::new(request)).await {
                            Ok(events) => {
                                events
                                    .into_inner()
                                    .try_for_each(|_| std::future::ready(Ok(())))
                                    .await
                            }
                            Err(status) => Err(status),
                        }
                    }
                    UserWish::Stop { drain } => {
                        let request = v1::StopJobRequest {
                            job: job.clone(),
                            drain,
                        };
                        jobs.stop_job(Request::new(request)).await.map(drop)
                    }
                };
                weather.note(|| {
                    format!(
                        "user at {place}: {what:?} {job} {:?}",
                        answer.as_ref().map_err(tonic::Status::message)
                    )
                });
                if what == UserWish::Run && answer.is_ok() {
                    submitted.store(true, Ordering::Relaxed);
                }
            });
        }
    }
}

/// The requests of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserWish {
    Run,
    /// Submit a changed job file.
    Change,
    /// Repair a job whose store is older than its commits.
    Repair,
    Stop {
        /// Finish open windows first.
        drain: bool,
    },
}

impl Setting {
    fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            exact: rng.u8(0..3) > 0,
            wild_ms: rng.i64(8_000..40_000),
            rate: rng.u32(30..400),
            trouble: [rng.u32(2..40), rng.u32(40..120)][usize::from(rng.u8(0..4) == 0)],
        }
    }
}

/// One job in every second story, else several, which share the rate of the dice. The last of
/// several may be one that ends as failed.
fn several_jobs(rng: &mut fastrand::Rng, setting: &Setting) -> Vec<SimJob> {
    let count = if rng.bool() {
        1
    } else {
        rng.usize(2..=JOBS_MAX)
    };
    let share = (setting.rate / count as u32).max(1);
    let illness = match rng.u8(0..4) {
        0 => Some(Illness::FailingRecord),
        1 => Some(Illness::DeadlyRecord),
        _ => None,
    };
    let job = |number| {
        let illness = illness.filter(|_| number > 0 && number + 1 == count);
        let mut stream = Stream::new(rng, format!("job-{number}"));
        stream.hides = !setting.exact;
        stream.deadly = illness == Some(Illness::DeadlyRecord);
        SimJob::with_illness(rng, number, "250ms", share, stream, illness)
    };
    (0..count).map(job).collect()
}
