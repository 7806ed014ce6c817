//! The desired number of workers: pure, from measurements.
//!
//! Owns: the number, when it may change, the list of decisions. Does not own: starting and stopping
//! workers (an autoscaler outside), which worker reads what (`assign`), time.
//! Rule: scale out quickly, scale in slowly, and never on a measurement during which shards moved.
//! A decision is based on separate consecutive measurements: two that agree for more workers, all
//! of a long time for fewer.

pub mod decision;
pub mod measure;
pub mod need;
pub mod seen;
pub mod settings;
pub mod status;
#[cfg(test)]
mod tests;

pub use decision::Decision;
pub use settings::ScalingSettings;

use decision::{Figures, Held, Log, in_words, out_words, seconds};
use measure::{Measured, Unmeasured, measure};
use need::{fewer_workers_for, fullest, workers_for};
use seen::Seen;
use std::collections::{BTreeSet, VecDeque};
use streamctl_proto::{Term, WorkerId, count};

/// Consecutive measurements without a move that must agree before scaling out.
const AGREEING: u32 = 2;
/// Most measured needs that are kept, whatever the times are.
const WISHES_MAX: usize = 10_000;
/// Largest multiple of the scale-in time to wait, after scaling in proved wrong repeatedly.
const PATIENCE_MAX: i64 = 16;

/// Decides the desired number of workers.
#[derive(Clone, Debug)]
pub struct Scaler {
    settings: ScalingSettings,
    term: Term,
    began_ms: i64,
    look_at_ms: i64,
    desired: Option<u32>,
    changed_ms: i64,
    /// When shards last moved, or workers last joined or left.
    disturbed_ms: i64,
    workers: BTreeSet<WorkerId>,
    /// Since when there are fewer workers than desired.
    short_since_ms: Option<i64>,
    /// The start of the current measurement.
    base: Option<(i64, Seen)>,
    /// Measurements since the last disturbance.
    undisturbed: u32,
    /// The multiple of the scale-in time to wait: doubled whenever scaling in proved wrong.
    patience: i64,
    /// When it last scaled in.
    fewer_at_ms: Option<i64>,
    /// The need of each measurement, in workers.
    wishes: VecDeque<(i64, u32)>,
    measured: Option<(Measured, Figures)>,
    /// There is something to read.
    active: bool,
    doing: String,
    log: Log,
}

impl Scaler {
    /// For a newly elected leader.
    pub fn new(term: Term, now: i64, settings: ScalingSettings) -> Self {
        Self {
            settings,
            term,
            began_ms: now,
            look_at_ms: now,
            desired: None,
            changed_ms: now,
            disturbed_ms: now,
            workers: BTreeSet::new(),
            short_since_ms: None,
            base: None,
            undisturbed: 0,
            patience: 1,
            fewer_at_ms: None,
            wishes: VecDeque::new(),
            measured: None,
            active: false,
            doing: "measuring the current workers".into(),
            log: Log::default(),
        }
    }

    /// The desired number of workers; none while a new leader does not know which workers exist.
    pub fn desired(&self) -> Option<u32> {
        self.desired
    }

    /// Some job has something to read.
    pub fn is_active(&self) -> bool {
        self.active
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The figures of the last measurement.
    pub fn figures(&self) -> Option<&Figures> {
        self.measured.as_ref().map(|(_, figures)| figures)
    }

    /// Whether the next observation of the cluster is due.
    pub fn is_due(&self, now: i64) -> bool {
        now >= self.look_at_ms
    }

    pub fn look(&mut self, now: i64, seen: Seen) {
        self.look_at_ms = now + self.settings.look_ms();
        self.active = seen.places() > 0;
        let there = u32::try_from(seen.workers.len()).unwrap_or(u32::MAX);
        let Some(desired) = self.desired else {
            return self.begin(now, there);
        };
        let (low, high) = self.limits();
        if desired != desired.clamp(low, high) {
            let reason = if self.active {
                "something is to be read"
            } else {
                "the limits say so"
            };
            self.decide(now, desired.clamp(low, high), there, reason.into(), None);
        }
        let moved = seen.moving || !self.workers.iter().eq(seen.workers.keys());
        if moved {
            self.workers = seen.workers.keys().cloned().collect();
            let nobody = there == 0 && self.active;
            self.disturb(
                now,
                if nobody {
                    "no worker is there"
                } else {
                    "waiting until shards have moved"
                },
            );
        } else if let Some(missing) = self.missing(now, there) {
            self.disturb(
                now,
                &format!("waiting for {} to come", count(missing, "more worker")),
            );
        } else {
            self.measure_on(now, seen, there);
        }
    }

    /// A new leader starts from the current number of workers: the list of decisions is new, the
    /// number is not.
    fn begin(&mut self, now: i64, there: u32) {
        if now - self.began_ms < self.settings.join_ms {
            return;
        }
        let (low, high) = self.limits();
        let to = there.clamp(low, high);
        let reason = format!("a leader began with {}", count(there, "worker"));
        self.decide(now, to, there, reason, None);
    }

    /// The lowest and the highest number allowed.
    fn limits(&self) -> (u32, u32) {
        let low = self.settings.workers_min.max(u32::from(self.active));
        (low, self.settings.workers_max.max(low))
    }

    /// Workers that are expected: they were just requested, or died and are restarting.
    fn missing(&mut self, now: i64, there: u32) -> Option<u32> {
        let missing = self.desired.unwrap_or(0).saturating_sub(there);
        if missing == 0 {
            self.short_since_ms = None;
            return None;
        }
        let since_ms = *self.short_since_ms.get_or_insert(now);
        (now - since_ms < self.settings.absent_ms).then_some(missing)
    }

    fn disturb(&mut self, now: i64, doing: &str) {
        self.disturbed_ms = now;
        self.base = None;
        self.undisturbed = 0;
        doing.clone_into(&mut self.doing);
    }

    fn measure_on(&mut self, now: i64, seen: Seen, there: u32) {
        let Some((since, from)) = &self.base else {
            if now - self.disturbed_ms >= self.settings.settle_ms() {
                self.base = Some((now, seen));
                "measuring".clone_into(&mut self.doing);
            }
            return;
        };
        let passed_ms = now - since;
        if passed_ms < self.settings.measure_ms() {
            return;
        }
        let measured = measure(from, &seen, passed_ms, &self.settings);
        self.base = Some((now, seen));
        match measured {
            Ok(measured) => self.weigh(now, measured, there),
            Err(unmeasured) => {
                (self.measured, self.undisturbed) = (None, 0);
                self.doing = match unmeasured {
                    Unmeasured::NoWorkers => "no worker is there",
                    Unmeasured::Unsaid => {
                        "no worker says how busy it is: they are older than the controller"
                    }
                }
                .into();
            }
        }
    }

    fn weigh(&mut self, now: i64, measured: Measured, there: u32) {
        let Some(desired) = self.desired else { return };
        let settings = &self.settings;
        let places = measured.jobs.values().map(|job| job.places).sum::<usize>();
        let (low, high) = self.limits();
        let high = high.min(u32::try_from(places).unwrap_or(u32::MAX)).max(low);
        let full = fullest(&measured, desired) > settings.too_busy();
        let wish = match measured.apart {
            Some(apart) if !full => apart.max(desired),
            _ if full => workers_for(&measured, settings.busy).max(desired),
            _ => fewer_workers_for(&measured, desired, settings.busy, settings.too_busy()),
        };
        let wish_within = wish.clamp(low, high);
        let figures = Figures::of(&measured, now, wish);
        self.undisturbed += 1;
        self.wishes.push_back((now, wish_within));
        let oldest_ms = now - self.in_after_ms().max(settings.out_after_ms);
        while self.wishes.len() > WISHES_MAX
            || self
                .wishes
                .front()
                .is_some_and(|(at_ms, _)| *at_ms < oldest_ms)
        {
            self.wishes.pop_front();
        }
        if let Some(to) = self.more(desired, high) {
            self.learn(now);
            let held = if to < wish && to == high {
                Held::Max
            } else if to < wish {
                Held::Step
            } else {
                Held::No
            };
            let reason = out_words(&figures, &measured, held, &self.settings);
            self.decide(now, to, there, reason, Some(figures.clone()));
        } else if let Some(to) = self.fewer(now, desired) {
            self.fewer_at_ms = Some(now);
            let reason = in_words(to, self.in_after_ms(), figures.busy);
            self.decide(now, to, there, reason, Some(figures.clone()));
        } else {
            self.doing = self.words(now, desired, wish, high, &measured);
        }
        self.measured = Some((measured, figures));
    }

    /// Scales out if all measurements agree: to the smallest of their needs, at most to twice as
    /// many at a time, and to `high`.
    fn more(&self, desired: u32, high: u32) -> Option<u32> {
        if self.undisturbed < AGREEING {
            return None;
        }
        let last = self.wishes.iter().rev().take(AGREEING as usize);
        let wish = last.map(|(_, wish)| *wish).min()?;
        // The smallest step is one that an autoscaler with a tolerance of a tenth (HPA's) does not
        // ignore.
        let to = wish
            .max(desired + step_min(desired))
            .min(desired.max(1) * 2)
            .min(high);
        (wish > desired && to > desired).then_some(to)
    }

    /// Scales in if all measurements of a long enough time need fewer, and no decision was made in
    /// that time: to the largest of their needs, at least to half.
    fn fewer(&self, now: i64, desired: u32) -> Option<u32> {
        let since_ms = now - self.in_after_ms();
        if self.changed_ms > since_ms || self.began_ms > since_ms {
            return None;
        }
        let wishes = || self.wishes.iter().filter(|(at_ms, _)| *at_ms >= since_ms);
        let wish = wishes()
            .map(|(_, wish)| *wish)
            .max()
            .filter(|_| wishes().count() >= AGREEING as usize)?;
        let half = if desired == 1 { 0 } else { desired.div_ceil(2) };
        let to = wish.max(half);
        let (low, _) = self.limits();
        let worth = to + step_min(desired) <= desired || to == low;
        (to < desired && worth).then_some(to)
    }

    fn in_after_ms(&self) -> i64 {
        self.settings.in_after_ms * self.patience
    }

    /// More workers are needed. If it scaled in not long ago, that was wrong, whatever the reason:
    /// the next time it waits twice as long. This bounds oscillation of any cause.
    fn learn(&mut self, now: i64) {
        let Some(fewer_at_ms) = self.fewer_at_ms.take() else {
            return;
        };
        let soon = now - fewer_at_ms < self.in_after_ms() * 2;
        self.patience = if soon {
            (self.patience * 2).min(PATIENCE_MAX)
        } else {
            1
        };
    }

    fn decide(
        &mut self,
        now: i64,
        to: u32,
        workers: u32,
        reason: String,
        figures: Option<Figures>,
    ) {
        let from = self.desired.unwrap_or(to);
        self.doing = format!("asking for {}", count(to, "worker"));
        self.log.note(Decision {
            at_ms: now,
            term: self.term,
            from,
            to,
            workers,
            reason,
            figures,
        });
        (self.desired, self.changed_ms, self.short_since_ms) = (Some(to), now, None);
        // The need for more workers is met; the next one is measured from the start.
        self.undisturbed = 0;
        self.base = None;
        self.disturbed_ms = now;
    }

    /// A description of the current state without a decision.
    fn words(&self, now: i64, desired: u32, wish: u32, high: u32, measured: &Measured) -> String {
        if wish > desired && desired >= high {
            let (_, max) = self.limits();
            return format!(
                "{} would be needed; --workers-max allows {max}",
                count(wish, "worker")
            );
        }
        if let Some((name, job)) = measured.jobs.iter().find(|(_, job)| job.short_of_places) {
            return format!(
                "{name} has more to read than {} can, and no more shards for others",
                count(job.places, "worker")
            );
        }
        if wish > desired {
            return format!(
                "{} may be needed; asked for when the next measurement agrees",
                count(wish, "worker")
            );
        }
        if wish < desired {
            let left_ms = (self.changed_ms.max(self.began_ms) + self.in_after_ms() - now).max(0);
            return format!(
                "{} would do; fewer are asked for when that is so for {}{}",
                count(wish, "worker"),
                seconds(self.in_after_ms()),
                if left_ms > 0 {
                    format!(", {} from now at the earliest", seconds(left_ms))
                } else {
                    String::new()
                }
            );
        }
        "the number of workers is right".into()
    }
}

/// A tenth and one more: HPA ignores changes of a tenth.
fn step_min(desired: u32) -> u32 {
    desired / 10 + 1
}
