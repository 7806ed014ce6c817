//! What events do to jobs and tasks.
//!
//! Owns: the way from an event to the decision. Does not own: what becomes possible then
//! (`advance`), sessions of workers (`membership`).
//! Rule: an event that its receiver no longer waits for changes nothing (I6).

use super::job::{AvoidedFor, Delay, Lookup, Refusal};
use super::journal::Kind;
use super::*;
use streamctl_proto::{Duplicates, Epoch, LookupVersion};

impl Core {
    pub(super) fn apply_job_event(
        &mut self,
        now: i64,
        name: &JobName,
        event: JobEvent,
        out: &mut Vec<Effect>,
    ) {
        match event {
            JobEvent::Loaded(loaded) => self.load_job(*loaded, out),
            JobEvent::Unreadable {
                job,
                error,
                hint,
                repairs,
            } => self.note_unreadable(now, *job, (error, hint), repairs, out),
            JobEvent::Created(job) => {
                let mut job = Job::new(*job);
                let sink = job.resolved.spec.sink.place();
                job.note(Kind::JobSubmitted, "", format!("it writes to {sink}"));
                self.jobs.entry(name.clone()).or_insert(job);
            }
            JobEvent::WantedRecorded {
                wanted: DesiredState::Deleted,
            } => {
                self.take_notes(name);
                if self.jobs.remove(name).is_some() {
                    let text = "its rows and manifests stay";
                    self.note(Some(name), Note::new(Kind::JobDeleted, "", text));
                }
            }
            JobEvent::VersionRecorded { job_version } => {
                self.version_recorded(now, name, job_version, out);
            }
            JobEvent::HeadMoved { epoch } => {
                let is_only_job = self.jobs.values().filter(|job| job.runs()).count() <= 1;
                self.decide(now, name, out, |job, step| {
                    job.head_moved(epoch, is_only_job, step);
                });
            }
            event => self.decide(now, name, out, |job, step| job.apply(event, step)),
        }
    }

    fn load_job(&mut self, loaded: LoadedJob, out: &mut Vec<Effect>) {
        let known = self.jobs.get(&loaded.job.spec.name);
        if known.is_some_and(|known| !known.may_be_loaded()) {
            return;
        }
        let known_before = known.is_some();
        // A job that was unreadable before has no tasks that wait for their adoption.
        self.adopting |= known.is_none();
        let mut job = Job::new(loaded.job);
        job.wanted = loaded.wanted;
        job.restore(loaded.head.as_deref(), loaded.unpublished, loaded.published);
        job.begin_with_lookups(loaded.lookups);
        job.publish_next(out);
        job.repairs = loaded.repairs;
        job.replays.now = loaded.replays.clone();
        job.replays.stored = loaded.replays;
        job.restore_retention(loaded.anchors);
        job.run_for_replays(out);
        if known_before {
            job.note(Kind::JobResumed, "", "its position can be read again");
        }
        self.jobs.insert(job.name().clone(), job);
    }

    /// The job could not be read, for the first time or again.
    fn note_unreadable(
        &mut self,
        now: i64,
        job: ResolvedJob,
        why: (String, String),
        repairs: Vec<Repair>,
        out: &mut Vec<Effect>,
    ) {
        let name = job.spec.name.clone();
        let known = self.jobs.get_mut(&name);
        if known.as_ref().is_some_and(|known| !known.may_be_loaded()) {
            return;
        }
        let before = known.and_then(|known| known.unreadable.take());
        let broken = Job::new_unreadable(now, job, why, repairs, before, out);
        self.jobs.insert(name, broken);
    }

    fn version_recorded(
        &mut self,
        now: i64,
        name: &JobName,
        version: JobVersion,
        out: &mut Vec<Effect>,
    ) {
        let mut took_over = false;
        self.decide(now, name, out, |job, step| {
            took_over = job.version_recorded(version, step);
        });
        if took_over {
            let text = format!("version {version} takes over");
            self.note(Some(name), Note::new(Kind::JobChanged, "", text));
            let offered = self.pending_adoptions.forget_job(name);
            out.extend(
                offered
                    .into_iter()
                    .map(|(worker, task)| Effect::CancelTask { worker, task }),
            );
        }
    }

    pub(super) fn apply_task_event(
        &mut self,
        now: i64,
        worker: &WorkerId,
        task: TaskId,
        event: TaskEvent,
        out: &mut Vec<Effect>,
    ) {
        if let TaskEvent::Refused(refused) = event {
            return self.refuse_task(now, worker, &refused, out);
        }
        let Some(name) = self.job_of(worker, task).map(|job| job.name().clone()) else {
            // The end of an unknown task needs no answer, nor does a report that a head holds.
            let is_settled = match &event {
                TaskEvent::Reported(report) => self.is_committed(&report.job, report.window),
                TaskEvent::Ended(_) => true,
                _ => false,
            };
            if !is_settled {
                self.cancel(worker, task, out);
            }
            return;
        };
        let mut refused = false;
        self.decide(now, &name, out, |job, step| {
            refused = job.apply_task_event(worker, task, event, step).is_err();
        });
        if refused {
            self.cancel(worker, task, out);
        }
    }

    fn is_committed(&self, job: &JobName, window: Window) -> bool {
        self.jobs
            .get(job)
            .is_some_and(|job| job.head_end.is_past(window))
    }
}

/// The message does not fit what is known of its task, which must end.
struct Unfit;

impl Job {
    fn apply(&mut self, event: JobEvent, step: &mut Step<'_>) {
        match event {
            JobEvent::HeadRepairRequested { to } => self.repair_head(to, step.out),
            JobEvent::StopRequested { drain } => self.stop(drain, step),
            JobEvent::DeleteRequested { force } => self.delete(force, step.out),
            JobEvent::ResumeRequested => self.resume(step.now, step.out),
            JobEvent::ReplayRequested { epochs } => self.want_replays(epochs),
            JobEvent::ReplaysRecorded { replays } => self.replays_recorded(replays, step.out),
            JobEvent::AnchorsRecorded { anchors } => self.anchors_recorded(step.now, anchors),
            JobEvent::Trimmed { is_more_left } => self.trimmed(step.now, is_more_left),
            JobEvent::Compacted { text } => self.note(Kind::TableCompacted, "", text),
            JobEvent::ChangeRequested(next) => self.want_change(next),
            JobEvent::VersionRefused {
                job_version,
                reason,
                hint,
            } => self.version_refused(job_version, format!("{reason}\n  hint: {hint}")),
            JobEvent::ShardsListed {
                generation,
                shards,
                stream,
            } => {
                if generation <= self.listing.answered {
                    return;
                }
                if let Err((error, hint)) = self.learn_stream(stream, step.out) {
                    return self.fail(error, hint, step.out);
                }
                self.learn(&shards, generation);
                self.listing.answered = generation;
            }
            JobEvent::ListingRefused { error, hint } => self.fail(error, hint, step.out),
            JobEvent::LookupSeen {
                job_version,
                lookup,
                version,
                read,
            } => {
                let name = lookup;
                if let Some(lookup) = self.checked_lookup(job_version, &name) {
                    let is_new = lookup.version.as_ref() != Some(&version);
                    let digest: String = version.to_string().chars().take(12).collect();
                    lookup.take(version, read, step.now);
                    let rows = lookup.rows;
                    if is_new {
                        let text = format!("version {digest} with {rows} rows");
                        self.note(Kind::LookupTaken, name, text);
                    }
                }
            }
            JobEvent::LookupRefused {
                job_version,
                lookup,
                version,
                problem,
            } => {
                let name = lookup;
                if let Some(lookup) = self.checked_lookup(job_version, &name) {
                    lookup.refused = Some(version);
                    lookup.problem = problem.clone().or(lookup.problem.take());
                    if let Some(problem) = problem {
                        self.note(Kind::LookupRefused, name, problem);
                    }
                }
            }
            JobEvent::LookupFailed {
                job_version,
                lookup,
                problem,
            } => {
                let name = lookup;
                if let Some(lookup) = self.checked_lookup(job_version, &name) {
                    // Its text takes the place of the reason: the version is read again.
                    lookup.refused = None;
                    let is_new = lookup.problem.as_ref() != Some(&problem);
                    lookup.problem = Some(problem.clone());
                    if is_new {
                        self.note(Kind::LookupRefused, name, problem);
                    }
                }
            }
            JobEvent::EffectDelayed { kind, reason } => {
                self.note(Kind::CallFailed, kind.label(), reason.clone());
                self.delays.insert(Delay::Effect(kind), reason);
            }
            JobEvent::EffectDone { kind } => drop(self.delays.remove(&Delay::Effect(kind))),
            JobEvent::ManifestWritten { reference } => self.move_head(reference, step.out),
            JobEvent::ManifestRefused { epoch, error, hint } => {
                if self.give_up_commit(epoch) {
                    self.fail(error, hint, step.out);
                }
            }
            JobEvent::EpochsPublished { through } => self.record_published(through, step.out),
            JobEvent::ObjectsLost { stuck, error, hint } => {
                self.lose_objects(stuck, error, hint, step.out);
            }
            JobEvent::PublishRefused { epoch, error, hint } => {
                if self.is_publishing(epoch) {
                    self.fail(error, hint, step.out);
                }
            }
            JobEvent::EpochRepairRequested { epoch } => self.begin_repair(epoch, step.tasks),
            JobEvent::EpochRepaired { task, repair } => self.epoch_repaired(task, repair),
            JobEvent::PublishedRecorded { through } => {
                if self.unpublished_through(through) > 0 {
                    self.published(through, step.now);
                    self.publish_next(step.out);
                }
            }
            JobEvent::WantedRecorded { wanted } => {
                self.recording = false;
                if self.wanted != wanted {
                    self.want(self.wanted.clone(), step.out);
                }
            }
            // These concern more than one job, and are applied by the core.
            JobEvent::Loaded(_)
            | JobEvent::Unreadable { .. }
            | JobEvent::Created(_)
            | JobEvent::VersionRecorded { .. }
            | JobEvent::HeadMoved { .. } => {}
        }
    }

    /// A lookup that this version of the job had checked. A result for an earlier version may
    /// belong to a different lookup (I9).
    fn checked_lookup(&mut self, version: JobVersion, lookup: &str) -> Option<&mut Lookup> {
        if self.resolved.job_version != version {
            return None;
        }
        let lookup = self.lookups.get_mut(lookup)?;
        lookup.checking = false;
        Some(lookup)
    }

    fn apply_task_event(
        &mut self,
        worker: &WorkerId,
        id: TaskId,
        event: TaskEvent,
        step: &mut Step<'_>,
    ) -> Result<(), Unfit> {
        match event {
            TaskEvent::WindowRequested(window) => self.request_window(id, window, step),
            TaskEvent::Reported(report) => {
                self.vouch_for(worker, !report.objects.is_empty());
                self.accept(&report).map_err(|_| Unfit)
            }
            TaskEvent::Progressed {
                watermark,
                work_us,
                computing,
                shards,
                hanging,
            } => {
                self.progress(id, watermark);
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.work_us = work_us;
                    task.computing = computing;
                    task.hanging.note(step.now, hanging);
                }
                for (shard, stats) in shards {
                    self.note_stats(step, id, &shard, stats);
                }
                Ok(())
            }
            TaskEvent::ShardEnded(ended) => {
                if self.tasks[&id].shards.contains(&ended.shard) {
                    self.note_shard_ended(&ended);
                    self.end_shard(&ended);
                }
                Ok(())
            }
            TaskEvent::Ended(end) => {
                self.end_task(worker, id, end, step);
                Ok(())
            }
            // Applied by the core: the task may be one that waits for its adoption.
            TaskEvent::Refused(_) => Ok(()),
        }
    }

    fn note_stats(&mut self, step: &Step<'_>, task: TaskId, id: &ShardId, stats: ShardStats) {
        let now = step.now;
        let least_ms = step.settings.byte_rate_span_ms;
        let shard = self.shards.get_mut(id);
        if let Some(shard) = shard.filter(|shard| shard.task == Some(task)) {
            let known = shard.lost;
            shard.note_lost(stats.lost);
            let lost = shard.lost.filter(|_| shard.lost != known);
            shard.reported_ms = Some(now);
            shard.byte_rate.note(now, stats.bytes, least_ms);
            let before = std::mem::replace(&mut shard.stats, stats);
            // The first report of an adopted task counts from before this leader.
            let throttled = before.records > 0 && shard.stats.throttles > before.throttles;
            if let Some(gap) = lost {
                self.note_data_lost(id, gap);
            }
            if throttled {
                self.note(Kind::Throttled, "", format!("the source, at {id}"));
            }
        }
    }

    fn request_window(
        &mut self,
        task: TaskId,
        window: Window,
        step: &mut Step<'_>,
    ) -> Result<(), Unfit> {
        if self.head_end.is_past(window) || !self.may_ask(task) {
            return Err(Unfit);
        }
        self.waiting.insert((window, task));
        if self.tasks[&task].state.is_drained_before(window) {
            self.begin_drain(window.end_ms, step);
        }
        Ok(())
    }

    fn end_task(&mut self, worker: &WorkerId, task: TaskId, end: TaskEnd, step: &mut Step<'_>) {
        let now = step.now;
        let waits = step.settings.retry_waits_ms;
        let times = step.settings.avoid_times();
        self.remove_task(task);
        self.note_task_end(worker, task, &end);
        match end {
            TaskEnd::Completed | TaskEnd::Released | TaskEnd::Cancelled => {}
            TaskEnd::Wait { error } => {
                self.retries += 1;
                self.pause_until_ms = self.pause_until_ms.max(Some(now + waits[0]));
                self.delays.insert(Delay::Task, error.clone());
                self.avoid(worker, now, times, AvoidedFor::NoAnswer { error });
            }
            TaskEnd::Refused { place, error, hint } => {
                self.retries += 1;
                let why = AvoidedFor::Refused {
                    place,
                    error: error.clone(),
                    hint: hint.clone(),
                };
                self.avoid(worker, now, times, why);
                let error = format!("worker {worker}: {error}");
                match self.weigh_refusals(now, place, &step.takers()) {
                    Refusal::Elsewhere => {}
                    Refusal::Round(round) => {
                        let until_ms = now + wait_after(waits, round);
                        self.pause_until_ms = self.pause_until_ms.max(Some(until_ms));
                        self.delays.insert(Delay::Task, format!("{error}; {hint}"));
                    }
                    Refusal::Final => self.fail(error, hint, step.out),
                }
            }
            TaskEnd::Retry { error } => {
                self.count_failure(now, waits);
                self.retries += 1;
                self.delays.insert(Delay::Task, error.clone());
                if self.failures > self.resolved.spec.retries_max {
                    let hint = "it goes on from its last epoch once this is fixed: submit it \
                                again, a changed file with --change";
                    self.fail(error, hint.to_owned(), step.out);
                }
            }
            TaskEnd::Fatal { error, hint } => self.fail(error, hint, step.out),
        }
    }

    /// The store can move the head to the manifest that is written.
    fn move_head(&mut self, reference: ManifestRef, out: &mut Vec<Effect>) {
        let job = self.name().clone();
        let Some(committing) = &mut self.committing else {
            return;
        };
        if committing.manifest.epoch == reference.epoch && committing.reference.is_none() {
            committing.reference = Some(reference.clone());
            out.push(Effect::MoveHead {
                job,
                previous: self.head.clone(),
                head: reference,
            });
        }
    }

    /// The manifest of this epoch will never be written. Returns false if none is waited for.
    fn give_up_commit(&mut self, epoch: Epoch) -> bool {
        let refused = self
            .committing
            .take_if(|it| it.manifest.epoch == epoch && it.reference.is_none());
        if refused.is_some() {
            // Includes what a stop kept because this commit was in flight.
            self.drop_uncommitted();
        }
        refused.is_some()
    }

    fn is_publishing(&self, epoch: Epoch) -> bool {
        let first = self.publishing.front().map(|manifest| manifest.epoch);
        first == Some(epoch)
    }

    /// How many unpublished epochs there are up to and including this one; 0 if it is not among
    /// them.
    fn unpublished_through(&self, epoch: Epoch) -> usize {
        let at = self
            .publishing
            .iter()
            .position(|manifest| manifest.epoch == epoch);
        at.map_or(0, |at| at + 1)
    }

    fn record_published(&mut self, through: Epoch, out: &mut Vec<Effect>) {
        let count = self.unpublished_through(through);
        if count == 0 {
            return;
        }
        // The manifest after each names it; the last manifest has none after it.
        let named = self
            .publishing
            .iter()
            .skip(1)
            .map(|after| after.previous.clone());
        let manifests = named.chain([self.head.clone()]).take(count).flatten();
        out.push(Effect::RecordPublished {
            job: self.name().clone(),
            manifests: manifests.collect(),
        });
    }

    /// The store holds the epoch.
    fn head_moved(&mut self, epoch: Epoch, is_only_job: bool, step: &mut Step<'_>) {
        let committing = self.committing.as_ref().map(|it| it.manifest.epoch);
        if committing != Some(epoch) {
            return;
        }
        let Some(manifest) = self.committed(step.now) else {
            return;
        };
        let lives_ms = self.deaths.probation_ms(step.settings);
        // A commit can arrive after the death of the task that made it; then no task has lived. A
        // job that commits between the deaths of its workers harms other jobs, if there are any.
        let have_lived = self
            .tasks
            .values()
            .all(|task| step.now.saturating_sub(task.given_ms) >= lives_ms);
        if is_only_job || (have_lived && !self.tasks.is_empty()) {
            self.deaths.forgive();
        }
        self.delays.remove(&Delay::Task);
        if self.publishing.len() == 1 {
            self.publish_next(step.out);
        }
        self.commit_subscribers
            .retain(|worker| step.workers.contains_key(worker));
        for worker in &self.commit_subscribers {
            if step.workers[worker].connected {
                step.out.push(Effect::AnnounceCommit {
                    worker: worker.clone(),
                    job: self.name().clone(),
                    epoch,
                    window: manifest.window,
                });
            }
        }
        self.repair_committed(&manifest, step);
    }
}

impl Lookup {
    /// It has this version, whose content is kept.
    fn take(&mut self, version: LookupVersion, read: Option<(u64, Duplicates)>, now: i64) {
        self.seen_ms = now;
        self.problem = None;
        self.refused = None;
        self.version = Some(version);
        if let Some((rows, duplicates)) = read {
            self.rows = rows;
            self.duplicates = duplicates;
        }
    }
}

/// The wait after the n-th failure in a row.
fn wait_after(waits_ms: [i64; 3], failures: u32) -> i64 {
    let index = failures.max(1) as usize - 1;
    waits_ms[index.min(waits_ms.len() - 1)]
}
