//! Workers that join, leave, time out and return, and what happens to their tasks.
//!
//! Owns: sessions, timeouts, adoption by a new leader. Does not own: where tasks run
//! (`assign`), what a job does with a report (`job`), what is held meanwhile
//! (`pending_adoptions`).
//! Rule: a worker's message counts once its task is known to be live. Until that is decided, the
//! message is held (I6).

use super::journal::Kind;
use super::*;
use streamctl_proto::load::LoadSample;

/// A clock that differs by more places records in the wrong window.
const CLOCK_SKEW_NOTED_MS: u64 = 2_000;

fn is_skewed(skew_ms: Option<i64>) -> bool {
    skew_ms.is_some_and(|skew_ms| skew_ms.unsigned_abs() > CLOCK_SKEW_NOTED_MS)
}

impl Core {
    pub(super) fn apply_worker_event(
        &mut self,
        now: i64,
        id: WorkerId,
        session: SessionId,
        event: WorkerEvent,
        out: &mut Vec<Effect>,
    ) {
        match event {
            WorkerEvent::Joined {
                process,
                flight_address,
                facts,
                tasks,
            } => {
                let joined = Worker::joined(now, session, process, flight_address, facts);
                self.join(now, id, joined, tasks, out);
            }
            WorkerEvent::Heard {
                memory_bytes,
                busy_permille,
                clock_skew_ms,
                cpu_permille,
            } => {
                let Some(worker) = self.current(&id, session) else {
                    return;
                };
                worker.memory_bytes = memory_bytes;
                let was_skewed = is_skewed(worker.clock_skew_ms);
                worker.clock_skew_ms = clock_skew_ms;
                worker.busy.add(busy_permille);
                worker.cpu_permille = cpu_permille;
                worker.load.add(
                    now,
                    &LoadSample {
                        cpu_permille,
                        memory_bytes,
                        busy_permille,
                    },
                );
                worker.busy_permille = busy_permille
                    .map(|permille| permille.min(1_000))
                    .or(worker.busy_permille);
                if is_skewed(clock_skew_ms) && !was_skewed {
                    let skew_ms = clock_skew_ms.unwrap_or_default();
                    let text = format!("its clock is {skew_ms} ms ahead of that of its sources");
                    self.note(None, Note::new(Kind::ClockSkewed, id.to_string(), text));
                }
                self.hear(now, &id, session);
            }
            WorkerEvent::Spoke => self.hear(now, &id, session),
            WorkerEvent::Disconnected => {
                if let Some(worker) = self.current(&id, session) {
                    worker.connected = false;
                    self.plan_all_anew();
                }
            }
            WorkerEvent::Leaving => self.leave(&id, session, out),
        }
    }

    /// The worker, if this is its newest session.
    fn current(&mut self, worker: &WorkerId, session: SessionId) -> Option<&mut Worker> {
        self.workers
            .get_mut(worker)
            .filter(|worker| worker.session == session)
    }

    /// A worker is alive. If it was lost after a timeout, it takes tasks again.
    fn hear(&mut self, now: i64, id: &WorkerId, session: SessionId) {
        let Some(worker) = self.current(id, session) else {
            return;
        };
        worker.heard_ms = now;
        if std::mem::take(&mut worker.lost) {
            self.note_worker(Kind::WorkerJoined, id, "it answers again".to_owned());
            self.plan_all_anew();
        }
    }

    fn note_worker(&mut self, kind: Kind, worker: &WorkerId, text: String) {
        self.note(None, Note::new(kind, worker.to_string(), text));
    }

    fn join(
        &mut self,
        now: i64,
        worker: WorkerId,
        joined: Worker,
        tasks: Vec<RunningTask>,
        out: &mut Vec<Effect>,
    ) {
        let Worker {
            session, process, ..
        } = joined;
        // Ignore a Hello from an older session.
        let before = self.workers.get(&worker);
        if before.is_some_and(|newer| newer.session > session) {
            return;
        }
        let is_another = |before: &Worker| {
            !before.leaving && process != 0 && ![0, process].contains(&before.process)
        };
        let known = before.filter(|before| !before.leaving && !before.lost);
        let is_the_same = known.is_some_and(|before| before.process == process);
        if before.is_some_and(is_another) {
            self.note_worker(
                Kind::WorkerLost,
                &worker,
                "another process took its name".to_owned(),
            );
            self.note_death(now, &worker, out);
        }
        if !is_the_same {
            let text = match tasks.len() {
                0 => format!("at {}", joined.flight_address),
                _ => format!("at {}, with tasks: {}", joined.flight_address, tasks.len()),
            };
            self.note_worker(Kind::WorkerJoined, &worker, text);
        }
        self.note_alive(&worker, process, &tasks);
        let mut joined = joined;
        // What this leader recorded of the same process is finer than what a Hello carries.
        let same = |before: &Worker| process != 0 && before.process == process;
        if let Some(before) = self.workers.remove(&worker).filter(same) {
            joined.load = before.load;
        }
        self.workers.insert(worker.clone(), joined);
        self.plan_all_anew();
        let runs: BTreeSet<TaskId> = tasks.iter().map(|task| task.task).collect();
        self.drop_tasks_of(&worker, |id| !runs.contains(id));
        self.pending_adoptions.forget(&worker);
        for running in tasks {
            let Some(job) = self.jobs.get_mut(&running.job) else {
                out.push(Effect::CancelTask {
                    worker: worker.clone(),
                    task: running.task,
                });
                continue;
            };
            if !running.is_of(&job.resolved) {
                self.cancel(&worker, running.task, out);
                continue;
            }
            let known = job
                .tasks
                .get(&running.task)
                .is_some_and(|task| task.worker == worker);
            if known {
                self.resume_task(&worker, &running, out);
            } else if self.adopting && running.task.term < self.term {
                self.pending_adoptions.offer(&worker, running);
            } else if !(running.released && job.has_all_of(&running.reports)) {
                self.cancel(&worker, running.task, out);
            }
        }
    }

    /// A worker reconnected in the same term and repeats the messages that it sent while
    /// disconnected.
    fn resume_task(&mut self, worker: &WorkerId, running: &RunningTask, out: &mut Vec<Effect>) {
        let Some(job) = self.job_of(worker, running.task) else {
            return;
        };
        // Reports of children are accepted once their parents have ended.
        for ended in &running.ended {
            job.end_shard(ended);
        }
        let good = running
            .reports
            .iter()
            .all(|report| job.accept(report).is_ok());
        if !good {
            return self.cancel(worker, running.task, out);
        }
        job.progress(running.task, running.watermark);
        if running.released {
            job.remove_task(running.task);
        }
        // Messages that were sent to it while it was disconnected are lost.
        let worker = worker.clone();
        let task = running.task;
        match job.tasks.get(&task).map(|task| task.state) {
            Some(TaskState::Releasing) => out.push(Effect::ReleaseTask { worker, task }),
            Some(TaskState::Draining(until_ms)) => out.push(Effect::DrainTask {
                worker,
                task,
                until_ms: Some(until_ms),
            }),
            Some(TaskState::Running) | None => {}
        }
    }

    /// Removes a task and informs its worker.
    pub(super) fn cancel(&mut self, worker: &WorkerId, task: TaskId, out: &mut Vec<Effect>) {
        if let Some(job) = self.job_of(worker, task) {
            job.remove_task(task);
        }
        out.push(Effect::CancelTask {
            worker: worker.clone(),
            task,
        });
    }

    fn leave(&mut self, worker: &WorkerId, session: SessionId, out: &mut Vec<Effect>) {
        let Some(leaving) = self.current(worker, session) else {
            return;
        };
        if !std::mem::replace(&mut leaving.leaving, true) {
            let text = "it shuts down and hands its shards back".to_owned();
            self.note_worker(Kind::WorkerLeft, worker, text);
        }
        self.plan_all_anew();
        self.release_all(worker, out);
    }

    /// Requests the release of all tasks of a worker.
    pub(super) fn release_all(&mut self, worker: &WorkerId, out: &mut Vec<Effect>) {
        for job in self.jobs.values_mut() {
            for (id, task) in job
                .tasks
                .iter_mut()
                .filter(|(_, task)| task.worker == *worker)
            {
                if task.state == TaskState::Running {
                    job.plan_due = true;
                    task.state = TaskState::Releasing;
                    out.push(Effect::ReleaseTask {
                        worker: worker.clone(),
                        task: *id,
                    });
                }
            }
        }
    }

    /// Gives up the tasks of silent workers. If the connection of a worker is open, the worker is
    /// informed and kept: its next heartbeat brings it back.
    pub(super) fn lose_silent_workers(&mut self, now: i64, out: &mut Vec<Effect>) {
        let timeout_ms = self.settings.worker_timeout_ms;
        let silent = |worker: &Worker| {
            now - worker.heard_ms >= timeout_ms && !(worker.lost && worker.connected)
        };
        let lost: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, w)| silent(w))
            .map(|(id, _)| id.clone())
            .collect();
        if !lost.is_empty() {
            self.plan_all_anew();
        }
        for worker in lost {
            // A worker with an open connection may only be slow, and one that was leaving is done.
            let died = self
                .workers
                .get(&worker)
                .is_some_and(|worker| !worker.connected && !worker.leaving);
            let left = self
                .workers
                .get(&worker)
                .is_none_or(|worker| worker.leaving || worker.lost);
            if died {
                self.note_death(now, &worker, out);
            }
            let mut tasks = self.pending_adoptions.forget(&worker);
            tasks.extend(self.drop_tasks_of(&worker, |_| true));
            if !left {
                let silent_s = timeout_ms / 1_000;
                let why = match died {
                    true => "its connection is closed",
                    false => "its connection is open",
                };
                let count = tasks.len();
                let text = format!("silent for {silent_s} s; {why}; tasks to start anew: {count}");
                self.note_worker(Kind::WorkerLost, &worker, text);
            }
            match self
                .workers
                .get_mut(&worker)
                .filter(|worker| worker.connected)
            {
                Some(silent) => {
                    silent.lost = true;
                    out.extend(tasks.into_iter().map(|task| Effect::CancelTask {
                        worker: worker.clone(),
                        task,
                    }));
                }
                None => {
                    self.workers.remove(&worker);
                }
            }
        }
    }

    pub(super) fn drop_tasks_of(
        &mut self,
        worker: &WorkerId,
        which: impl Fn(&TaskId) -> bool,
    ) -> Vec<TaskId> {
        let mut dropped = vec![];
        for job in self.jobs.values_mut() {
            let gone: Vec<TaskId> = job
                .tasks
                .iter()
                .filter(|(id, t)| t.worker == *worker && which(id))
                .map(|(id, _)| *id)
                .collect();
            for id in gone {
                job.remove_task(id);
                dropped.push(id);
            }
        }
        dropped
    }

    pub(super) fn adopt_when_due(&mut self, now: i64, out: &mut Vec<Effect>) {
        if !self.adopting || now < self.adopt_at_ms {
            return;
        }
        self.adopting = false;
        let (mut offered, messages) = self.pending_adoptions.take();
        for job in self.jobs.values_mut() {
            let (mine, others) = offered
                .into_iter()
                .partition(|(_, running)| running.job == *job.name());
            offered = others;
            let refused = if job.runs() {
                recover::adopt(now, job, mine)
            } else {
                mine
            };
            let cancel = |(worker, running): (WorkerId, RunningTask)| Effect::CancelTask {
                worker,
                task: running.task,
            };
            out.extend(refused.into_iter().map(cancel));
            self.task_index.settle(job);
            // An earlier leader may have drained them, for a stop that was cancelled since.
            for (id, task) in &job.tasks {
                out.push(Effect::DrainTask {
                    worker: task.worker.clone(),
                    task: *id,
                    until_ms: None,
                });
            }
        }
        for held in messages {
            if self.job_of(&held.worker, held.task).is_some() {
                self.apply(now, held.event, out);
            }
        }
        let leaving = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.leaving)
            .map(|(id, _)| id.clone());
        for worker in leaving.collect::<Vec<_>>() {
            self.release_all(&worker, out);
        }
    }
}
