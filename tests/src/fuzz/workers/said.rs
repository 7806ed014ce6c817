//! Messages of workers: what a correct worker would send now, and the same with something replaced.
//!
//! Owns: making them.
//! Rule: it inspects the core to know the correct message, so that an invalid one is nearly
//! correct: grossly invalid messages are refused at the first check.

use super::{Choices, SHARDS, WINDOW_MS, WORKERS};
use streamctl_core::Core;
use streamctl_core::job::Job;
use streamctl_proto::report::{
    DEAD_LETTER_EXTENSION, ObjectKind, REJECTED_ROW_EXTENSION, object_name,
};
use streamctl_proto::spec::SinkKind;
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{Position, ShardId, TaskId, Term, Window, v1};

pub const BEGIN_MS: i64 = 1_795_481_100_000;
/// Windows of the stories.
const WINDOWS: usize = 24;
/// Longest replacement text.
const LONG: usize = 6_000;

pub struct Said<'c, 'a> {
    pub choices: &'c mut Choices<'a>,
    pub core: &'c Core,
}

fn window(n: usize) -> Window {
    let start_ms = BEGIN_MS + n as i64 * WINDOW_MS;
    Window {
        start_ms,
        end_ms: start_ms + WINDOW_MS,
    }
}

impl Said<'_, '_> {
    /// The usual message of a worker with a task about it; `None` if no worker has one.
    pub fn any(mut self) -> Option<(String, Message)> {
        let job = self.core.jobs.values().next()?;
        let (id, worker) = self.task(job)?;
        let kind = self.choices.byte() % 16;
        let mut message = match kind {
            0..=2 => {
                let window = Some(window(self.choices.below(WINDOWS)).into());
                Message::WindowOpening(v1::WindowOpening {
                    task: Some(id.into()),
                    window,
                })
            }
            3..=8 => Message::Report(self.report(job, id)),
            9..=11 => Message::Progress(self.progress(id)),
            12 => Message::ShardEnded(self.shard_ended(job, id)),
            13 => {
                let why = i32::from(self.choices.byte() % 8);
                let error = self.text("e");
                let hint = self.text("h");
                let refused_by = i32::from(self.choices.byte() % 6);
                Message::TaskEnded(v1::TaskEnded {
                    task: Some(id.into()),
                    why,
                    error,
                    hint,
                    refused_by,
                })
            }
            14 => Message::Leaving(v1::Leaving {}),
            _ => {
                let number = self.choices.number();
                Message::Heartbeat(v1::Heartbeat {
                    memory_bytes: number,
                    busy_permille: Some(number as u32),
                    clock_skew_ms: Some(number as i64),
                    cpu_permille: Some(number as u32),
                })
            }
        };
        if self.choices.below(2) == 1 {
            self.lie(&mut message);
        }
        Some((worker, message))
    }

    fn task(&mut self, job: &Job) -> Option<(TaskId, String)> {
        if job.tasks.is_empty() || self.choices.below(16) == 15 {
            let id = TaskId {
                term: Term(u64::from(self.choices.byte() % 3)),
                counter: self.choices.number(),
            };
            return Some((id, WORKERS[self.choices.below(WORKERS.len())].to_owned()));
        }
        let (id, task) = job.tasks.iter().nth(self.choices.below(job.tasks.len()))?;
        Some((*id, task.worker.to_string()))
    }

    fn text(&mut self, usual: &str) -> String {
        match self.choices.byte() % 8 {
            0 => "../../../etc".into(),
            1 => "\0\u{7f}\n".into(),
            2 => "x".repeat(LONG),
            3 => String::new(),
            4 => String::from_utf8_lossy(&self.choices.bytes()).into_owned(),
            _ => usual.to_owned(),
        }
    }

    /// Reads on from the position of a shard of the task, and writes what it read.
    fn report(&mut self, job: &Job, id: TaskId) -> v1::Report {
        let window = match job.windows.keys().nth(self.choices.below(4)) {
            Some(open) if self.choices.below(8) != 0 => *open,
            _ => window(self.choices.below(WINDOWS)),
        };
        let mut ranges = vec![];
        let shards: Vec<&ShardId> = job
            .tasks
            .get(&id)
            .into_iter()
            .flat_map(|task| &task.shards)
            .collect();
        for shard in shards {
            let records = u64::from(self.choices.byte() % 4);
            let Some(reached) = job
                .shards
                .get(shard)
                .map(|shard| &shard.reached)
                .filter(|_| records > 0)
            else {
                continue;
            };
            let to = match reached {
                Position::After { sequence, .. } => {
                    sequence.to_u64().unwrap_or(0).saturating_add(records)
                }
                _ => records,
            };
            let from = Some(reached.into());
            let to = Some((&Position::after(to.into())).into());
            ranges.push(v1::ShardRange {
                shard: shard.to_string(),
                from,
                to,
                records,
                bytes: 10 * records,
            });
        }
        let rows_in: u64 = ranges.iter().map(|range| range.records).sum();
        let rows_dead = rows_in.min(u64::from(self.choices.byte() % 2));
        let rows = rows_in - rows_dead;
        let rows_rejected = rows.min(u64::from(self.choices.byte().is_multiple_of(4)));
        let counts = v1::Counts {
            rows_in,
            bytes_in: 10 * rows_in,
            rows_decoded: rows,
            rows_dead,
            rows_unmatched: 0,
            rows_out: rows - rows_rejected,
            rows_late: 0,
            rows_rejected,
            rows_without_arrival: 0,
            rows_failed: 0,
            rows_foreign: None,
            ..v1::Counts::default()
        };
        let mut objects = vec![];
        if rows > rows_rejected {
            objects.push(object(
                job,
                id,
                window,
                ObjectKind::Data,
                rows - rows_rejected,
            ));
        }
        if rows_rejected > 0 {
            objects.push(object(
                job,
                id,
                window,
                ObjectKind::RejectedRow,
                rows_rejected,
            ));
        }
        if rows_dead > 0 {
            objects.push(object(job, id, window, ObjectKind::DeadLetter, rows_dead));
        }
        let version = |lookup: &String| v1::LookupVersion {
            lookup: lookup.clone(),
            version: "v1".into(),
        };
        v1::Report {
            task: Some(id.into()),
            job: job.name().to_string(),
            window: Some(window.into()),
            ranges,
            counts: Some(counts),
            lookups: job.lookups.keys().map(version).collect(),
            objects,
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            operators: vec![],
            stages: Some(v1::StageTimes {
                decode_us: 1,
                transform_us: 1,
                stage_us: 1,
                ..Default::default()
            }),
        }
    }

    fn progress(&mut self, id: TaskId) -> v1::Progress {
        let watermark_ms = match self.choices.byte() % 8 {
            0 => self.choices.time(),
            _ => window(self.choices.below(WINDOWS)).start_ms,
        };
        let stats = |shard: &&str| v1::ShardProgress {
            shard: (*shard).into(),
            lag_ms: 1,
            ..Default::default()
        };
        v1::Progress {
            task: Some(id.into()),
            watermark_ms,
            shards: SHARDS.iter().map(stats).collect(),
            work_us: watermark_ms as u64,
            computing_ms: watermark_ms as u64,
            busiest: Some(v1::OperatorFigures::default()),
            calls: vec![],
        }
    }

    fn shard_ended(&mut self, job: &Job, id: TaskId) -> v1::ShardEnded {
        let shards: Vec<&ShardId> = job
            .tasks
            .get(&id)
            .into_iter()
            .flat_map(|task| &task.shards)
            .collect();
        let shard = shards
            .get(self.choices.below(shards.len()))
            .map_or_else(|| "a".to_owned(), ToString::to_string);
        let last = job
            .shards
            .get(&ShardId::new(shard.as_str()))
            .map(|known| (&known.reached).into());
        let child = |name: &str, parents: &[&str]| v1::ChildShard {
            shard: name.into(),
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
            detail: String::new(),
        };
        let children = match self.choices.byte() % 6 {
            0 => vec![],
            1 => vec![child("d", &["a"])],
            2 => vec![child("e", &[&shard]), child("f", &[&shard])],
            3 => vec![child(&shard, &[&shard])],
            4 => vec![child("g", &[&shard, "b"])],
            _ => (0..40)
                .map(|n| child(&format!("n{n}"), &[&shard]))
                .collect(),
        };
        let floor_ms = window(self.choices.below(WINDOWS)).start_ms;
        v1::ShardEnded {
            task: Some(id.into()),
            shard,
            last,
            children,
            floor_ms,
        }
    }

    /// The Hello of a worker, with its tasks: those that the core knows, or ones that were never
    /// assigned.
    pub fn hello(mut self, worker: &str) -> v1::Hello {
        let mut tasks = vec![];
        let core = self.core;
        for job in core.jobs.values() {
            let own = job
                .tasks
                .iter()
                .filter(|(_, task)| task.worker.as_str() == worker);
            for (id, task) in own {
                tasks.push(self.running(job, *id, task.shards.iter().cloned().collect()));
            }
            if self.choices.below(4) == 0 {
                let id = TaskId {
                    term: Term(u64::from(self.choices.byte() % 3)),
                    counter: self.choices.number(),
                };
                let shards = SHARDS
                    .iter()
                    .filter(|_| self.choices.below(2) == 0)
                    .map(|name| ShardId::new(*name));
                let shards = shards.collect();
                tasks.push(self.running(job, id, shards));
            }
        }
        if self.choices.below(8) == 0 {
            let again = tasks.first().cloned();
            tasks.extend(again);
        }
        let (worker, flight_address) = match self.choices.byte() % 16 {
            0 => (self.text(worker), self.text("127.0.0.1:1")),
            _ => (worker.to_owned(), "127.0.0.1:1".to_owned()),
        };
        // A visible object belongs to a worker; this world has three of them.
        let worker = if worker.contains("..") {
            String::new()
        } else {
            worker
        };
        let worker = WORKERS
            .iter()
            .find(|known| **known == worker)
            .map_or_else(String::new, ToString::to_string);
        v1::Hello {
            worker,
            flight_address,
            version: "0".into(),
            tasks,
            process: 0,
            compute_threads: Some(u32::MAX),
            memory_limit_bytes: Some(u64::MAX),
            load: [i64::MIN, -1, 0, i64::MAX]
                .into_iter()
                .map(|at_ms| v1::LoadPoint {
                    at_ms,
                    cpu_permille: Some(u32::MAX),
                    memory_bytes: u64::MAX,
                    busy_permille: None,
                })
                .collect(),
        }
    }

    fn running(&mut self, job: &Job, id: TaskId, shards: Vec<ShardId>) -> v1::RunningTask {
        let start = Position::Start;
        let base = |id: &ShardId| {
            let from = job.shards.get(id).map_or(&start, |shard| &shard.committed);
            v1::TaskShard {
                shard: id.to_string(),
                from: Some(from.into()),
                ..Default::default()
            }
        };
        let base = shards.iter().map(base).collect();
        let held = job
            .windows
            .values()
            .flat_map(|open| &open.reports)
            .filter(|report| report.task == id);
        let mut reports: Vec<v1::Report> = held.map(Into::into).collect();
        if self.choices.below(2) == 0 {
            reports.push(self.report(job, id));
        }
        if self.choices.below(4) == 0 {
            let mut message = Message::Report(self.report(job, id));
            self.lie(&mut message);
            if let Message::Report(report) = message {
                reports.push(report);
            }
        }
        let count = self.choices.below(40);
        let version = |lookup: &String| v1::LookupVersion {
            lookup: lookup.clone(),
            version: "v1".into(),
        };
        let lookups: Vec<_> = job.lookups.keys().map(version).collect();
        let opened = |n| v1::WindowOpened {
            task: Some(id.into()),
            window: Some(window(n).into()),
            lookups: lookups.clone(),
            attempt: 0,
        };
        let windows = (0..if count > 30 { count } else { count % 3 })
            .map(opened)
            .collect();
        let ended = if self.choices.below(8) == 0 {
            vec![self.shard_ended(job, id)]
        } else {
            vec![]
        };
        v1::RunningTask {
            task: Some(id.into()),
            job: job.name().to_string(),
            shards: base,
            reports,
            watermark_ms: if self.choices.below(4) == 0 {
                self.choices.time()
            } else {
                i64::MIN
            },
            windows,
            ended,
            released: self.choices.below(8) == 0,
            job_version: 0,
            stream: None,
            submitted_ms: Some(job.resolved.submitted_ms).filter(|_| self.choices.below(4) != 0),
        }
    }

    fn lie(&mut self, message: &mut Message) {
        match message {
            Message::WindowOpening(opening) => opening.window = Some(self.window()),
            Message::Report(report) => self.lie_in_report(report),
            Message::Progress(progress) => progress.watermark_ms = self.choices.time(),
            Message::ShardEnded(ended) => match self.choices.byte() % 3 {
                0 => ended.floor_ms = self.choices.time(),
                1 => ended.last = Some(self.position()),
                _ => ended.shard = SHARDS[self.choices.below(SHARDS.len())].into(),
            },
            Message::TaskEnded(ended) => ended.error = self.text("x"),
            _ => {}
        }
    }

    fn window(&mut self) -> v1::Window {
        match self.choices.byte() % 4 {
            0 => v1::Window {
                start_ms: self.choices.time(),
                end_ms: self.choices.time(),
            },
            1 => {
                let start_ms = self.choices.time();
                v1::Window {
                    start_ms,
                    end_ms: start_ms.saturating_add(WINDOW_MS),
                }
            }
            _ => {
                let start_ms = BEGIN_MS + i64::from(self.choices.byte()) * 100;
                v1::Window {
                    start_ms,
                    end_ms: start_ms + i64::from(self.choices.byte()) * 100,
                }
            }
        }
    }

    fn position(&mut self) -> v1::Position {
        use v1::position::{After, At, End, Start};
        let at = match self.choices.byte() % 6 {
            0 => At::Start(Start {}),
            1 => At::TimestampMs(self.choices.time()),
            2 => At::End(End {}),
            _ => {
                let sequence = format!(
                    "{}{}",
                    &"000"[..self.choices.below(3)],
                    self.choices.number()
                );
                At::After(After {
                    sequence,
                    sub_sequence: self.choices.number(),
                })
            }
        };
        v1::Position { at: Some(at) }
    }

    fn lie_in_report(&mut self, report: &mut v1::Report) {
        match self.choices.byte() % 12 {
            0 => report.window = Some(self.window()),
            1 => report.job = self.text("others"),
            2 => {
                let position = Some(self.position());
                if let Some(range) = report.ranges.first_mut() {
                    range.to = position;
                }
            }
            3 => {
                let position = Some(self.position());
                if let Some(range) = report.ranges.first_mut() {
                    range.from = position;
                }
            }
            4 => {
                let shard = SHARDS[self.choices.below(SHARDS.len())].into();
                let from = Some(self.position());
                let to = Some(self.position());
                report.ranges.push(v1::ShardRange {
                    shard,
                    from,
                    to,
                    records: 0,
                    bytes: 0,
                });
            }
            5 => {
                let number = self.choices.number();
                let counts = report.counts.get_or_insert_with(Default::default);
                (counts.rows_in, counts.rows_decoded) =
                    (number, number.saturating_sub(counts.rows_dead));
                if let Some(range) = report.ranges.first_mut() {
                    range.records = number;
                }
            }
            6 => {
                let number = self.choices.number();
                report.counts = Some(v1::Counts {
                    rows_dead: number,
                    rows_decoded: number,
                    ..Default::default()
                });
            }
            7..=9 => self.lie_in_object(report),
            10 => {
                let number = self.choices.number();
                let tail = v1::StageTimes {
                    last_read_us: number,
                    last_stage_us: number,
                    ..Default::default()
                };
                let computed = v1::StageTimes {
                    decode_us: number,
                    transform_us: number,
                    stage_us: number,
                    ..tail
                };
                report.stages = Some(computed);
            }
            _ => {
                let lookup = self.text("country");
                let version = self.text("v1");
                report.lookups = vec![v1::LookupVersion { lookup, version }];
            }
        }
    }

    fn lie_in_object(&mut self, report: &mut v1::Report) {
        use v1::staged_object::{File, Multipart, Staging};
        let text = self.text("/out/other.json");
        let number = self.choices.number();
        let what = self.choices.byte() % 10;
        let Some(object) = report.objects.first_mut() else {
            return;
        };
        match what {
            0 => object.location = text,
            1 => object.location = object.location.replace("/out/", "/out/../"),
            2 => object.location = object.location.replace("sales", "others"),
            3 => object.location = object.location.replace("-0000.", "-../x."),
            4 => object.size = number,
            5 => object.rows = number,
            6 => object.kind = (number % 4) as i32,
            7 => object.staging = Some(Staging::File(File { staged_path: text })),
            8 => {
                object.staging = Some(Staging::Multipart(Multipart {
                    upload_id: text,
                    etags: vec![],
                }))
            }
            _ => {
                let same = object.clone();
                report.objects.push(same);
            }
        }
    }
}

fn object(
    job: &Job,
    task: TaskId,
    window: Window,
    kind: ObjectKind,
    rows: u64,
) -> v1::StagedObject {
    use v1::staged_object::{File, Kind, Multipart, Staging};
    let spec = &job.resolved.spec;
    let SinkKind::Files(sink) = &spec.sink else {
        panic!("it writes files");
    };
    let extension = match kind {
        ObjectKind::Data => sink.extension(),
        ObjectKind::DeadLetter => DEAD_LETTER_EXTENSION,
        ObjectKind::RejectedRow => REJECTED_ROW_EXTENSION,
    };
    let name = object_name(window, &spec.name, task, 0, extension);
    let partitions = if sink.partition_by.is_empty() {
        ""
    } else {
        "ingest_year=2026/country=DE/"
    };
    let (folder, kind) = match kind {
        ObjectKind::Data => (sink.path.join(partitions), Kind::Data),
        ObjectKind::DeadLetter => (
            spec.checkpoint.join("sales/dead-letters/"),
            Kind::DeadLetter,
        ),
        ObjectKind::RejectedRow => (
            spec.checkpoint.join("sales/dead-letters/"),
            Kind::RejectedRow,
        ),
    };
    let staging = if folder.starts_with("s3://") {
        Staging::Multipart(Multipart {
            upload_id: "u1".into(),
            etags: vec!["\"e1\"".into()],
        })
    } else {
        Staging::File(File {
            staged_path: format!("{folder}.{name}.0123456789abcdef.staged"),
        })
    };
    let location = format!("{folder}{name}");
    v1::StagedObject {
        kind: kind.into(),
        location,
        size: 10,
        crc32c: 1,
        rows,
        table_file: None,
        staging: Some(staging),
    }
}
