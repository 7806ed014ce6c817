//! Computes one task's part of a committed epoch again, from the ranges of its manifest.
//!
//! Owns: reading a range from a source to its end. Does not own: decoding, the query: they are
//! those of the live path.
//! Rule: the same ranges, lookup versions and query give the same rows (Promise 2).

use crate::compute::{Compute, Running, Workload};
use crate::function::DeadRows;
use crate::memory::Holding;
use crate::pipeline::{CallContext, DeadRecord, Input, Pipeline, Produced};
use crate::sink::SinkError;
use crate::task::window::given;
use crate::task::{Context, TaskError};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::query::{BATCH_ROWS, Pace, QueryPlan};
use streamctl_engine::source::{Record, ShardToRead, connector};
use streamctl_proto::manifest::ManifestPart;
use streamctl_proto::{DeadLetterShard, Manifest, Position, ShardId, ShardRange, TaskId, Window};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Batches of a replay that may wait for its reader.
const BATCHES_MAX: usize = 8;
/// Most bytes of these, if there is more than one batch.
const BATCHES_BYTES_MAX: usize = 16 << 20;
/// A replay whose rows are not read for this long ends: others wait for its place.
const READER_IDLE_MAX: Duration = Duration::from_secs(60);
/// Consecutive empty reads after which a range counts as gone.
const EMPTY_READS_MAX: usize = 200;

/// A running replay: the schema of its rows, then the rows.
pub struct Replay {
    pub schema: SchemaRef,
    /// The rows; ends with an error or with the last batch.
    pub batches: mpsc::Receiver<Result<WaitingBatch, TaskError>>,
    /// The work. If dropped, it stops: neither the source nor the query waits for a reader that is
    /// gone.
    pub running: Running<()>,
}

/// A batch that waits for its reader, with its reserved room.
pub struct WaitingBatch {
    batch: RecordBatch,
    _room: OwnedSemaphorePermit,
}

impl WaitingBatch {
    /// Takes the rows and releases their room.
    pub fn take(self) -> RecordBatch {
        self.batch
    }
}

/// The queue of a replay's rows for their reader.
pub(crate) struct Outlet {
    sender: mpsc::Sender<Result<WaitingBatch, TaskError>>,
    room: Arc<Semaphore>,
}

impl Outlet {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Result<WaitingBatch, TaskError>>) {
        let (sender, receiver) = mpsc::channel(BATCHES_MAX);
        (
            Self {
                sender,
                room: Arc::new(Semaphore::new(BATCHES_BYTES_MAX >> 10)),
            },
            receiver,
        )
    }

    /// Waits for room. `false`: the reader is gone.
    async fn send(&self, batch: RecordBatch) -> bool {
        let bytes = batch.get_array_memory_size().min(BATCHES_BYTES_MAX);
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        // A reader that is gone drops the waiting batches and so releases their room.
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(kib).await else {
            return false;
        };
        self.sender
            .send(Ok(WaitingBatch { batch, _room: room }))
            .await
            .is_ok()
    }

    /// Ends the rows with an error.
    pub(crate) async fn fail(&self, error: TaskError) {
        let _over = self.sender.send(Err(error)).await;
    }
}

/// Sends a batch to its reader. `false`: the reader is gone.
///
/// # Errors
/// [`TaskError::ReaderIdle`]
pub(crate) async fn give(outlet: &Outlet, batch: RecordBatch) -> Result<bool, TaskError> {
    tokio::time::timeout(READER_IDLE_MAX, outlet.send(batch))
        .await
        .map_err(|_| TaskError::ReaderIdle(READER_IDLE_MAX))
}

/// Begins to compute a task's part of an epoch again, on the threads of `compute`. `None`: the
/// epoch has no such part.
pub async fn replay(
    context: Arc<Context>,
    compute: &Compute,
    manifest: Manifest,
    task: TaskId,
) -> Result<Option<Replay>, TaskError> {
    let parts: Vec<ManifestPart> = manifest
        .parts
        .into_iter()
        .filter(|part| part.task == task)
        .collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let details = manifest.frontier.into_iter();
    let ranges = Ranges {
        parts,
        details: details
            .map(|(shard, stands)| (shard, stands.detail))
            .collect(),
        window: manifest.window,
    };
    context.check_repeatable()?;
    let (memory, place) = context.budget.replay().await;
    let name = format!("replay of epoch {}", manifest.epoch);
    let workload = || Workload::new(&context.job.spec.name, name.clone());
    let planned_by = Arc::clone(&context);
    let versions = manifest.lookups;
    let lookups = versions.clone();
    let planned = compute
        .spawn(workload(), async move { planned_by.plan(&lookups).await })
        .await;
    let (plan, tables) = planned.map_err(|error| TaskError::Panicked(error.to_string()))??;
    let schema = context.result_schema(&plan)?;
    let (outlet, batches) = Outlet::new();
    let workload = workload();
    let pace = Arc::clone(&workload.pace);
    let running = compute.spawn(workload, async move {
        let _place = place;
        let held = Arc::clone(&memory) as _;
        let given = given(ranges.window, &versions, tables.clone(), held);
        let rows = Computed {
            plan: &plan,
            tables: &tables,
            given,
        };
        if let Err(error) = run(&context, memory, rows, ranges, &outlet, &pace).await {
            outlet.fail(error).await;
        }
    });
    Ok(Some(Replay {
        schema,
        batches,
        running,
    }))
}

/// Observes what a replay reads and returns, one call at a time per method.
#[async_trait]
pub(crate) trait Witness: Sync {
    /// Records of a range, in order, and which of them became no row.
    async fn read(
        &self,
        shard: &ShardId,
        records: &[Record],
        dead: &[DeadRecord],
    ) -> Result<(), TaskError>;
    async fn rows(&self, batch: &RecordBatch) -> Result<(), TaskError>;
    /// Rows that the job's function put aside.
    async fn dead_rows(&self, dead: DeadRows) -> Result<(), TaskError>;
}

/// Computes a task's part of an epoch again, for a witness. Reads every record of its ranges, even
/// if the query has enough before.
pub(crate) async fn recompute(
    context: &Context,
    manifest: &Manifest,
    task: TaskId,
    witness: &dyn Witness,
    pace: &Arc<Pace>,
) -> Result<(), TaskError> {
    context.check_repeatable()?;
    let (memory, _place) = context.budget.replay().await;
    let (plan, tables) = context.plan(&manifest.lookups).await?;
    let held = Arc::clone(&memory) as _;
    let open = plan.open_within(&tables, memory, BATCH_ROWS, pace).await?;
    let window = Some(manifest.window);
    let given = given(manifest.window, &manifest.lookups, tables, held);
    let mut pipeline = Pipeline::new(context, &plan, window, open, given, Arc::clone(pace))?;
    let parts = manifest.parts.iter().filter(|part| part.task == task);
    let ranges = parts.cloned().flat_map(ranges_of);
    let details = manifest
        .frontier
        .iter()
        .map(|(shard, stands)| (shard.clone(), stands.detail.clone()))
        .collect();
    let read = read_ranges(context, ranges, &details, pipeline.input, Some(witness));
    let give = async {
        while let Some(produced) = pipeline.output.next().await? {
            match produced {
                Produced::Rows(batch) => witness.rows(&batch).await?,
                Produced::Dead(dead) => witness.dead_rows(dead).await?,
            }
            pace.yield_point().await;
        }
        Ok::<(), TaskError>(())
    };
    tokio::try_join!(read, give)?;
    Ok(())
}

/// What a replay reads.
struct Ranges {
    parts: Vec<ManifestPart>,
    /// The detail of each shard.
    details: BTreeMap<ShardId, String>,
    window: Window,
}

/// What the rows of a replay are computed with.
struct Computed<'a> {
    plan: &'a QueryPlan,
    tables: &'a BTreeMap<String, RecordBatch>,
    given: CallContext,
}

async fn run(
    context: &Context,
    memory: Arc<Holding>,
    Computed {
        plan,
        tables,
        given,
    }: Computed<'_>,
    Ranges {
        parts,
        details,
        window,
    }: Ranges,
    outlet: &Outlet,
    pace: &Arc<Pace>,
) -> Result<(), TaskError> {
    let open = plan.open_within(tables, memory, BATCH_ROWS, pace).await?;
    let mut pipeline = Pipeline::new(context, plan, Some(window), open, given, Arc::clone(pace))?;
    let ranges = parts.into_iter().flat_map(ranges_of);
    let read = read_ranges(context, ranges, &details, pipeline.input, None);
    let give = async {
        while let Some(produced) = pipeline.output.next().await? {
            let Produced::Rows(batch) = produced else {
                continue;
            };
            if !give(outlet, batch).await? {
                break;
            }
            pace.yield_point().await;
        }
        Ok::<(), TaskError>(())
    };
    tokio::try_join!(read, give)?;
    Ok(())
}

/// A range of a shard, and whether user records of other shards were dropped unseen when it was
/// first read.
type RangeAgain = (ShardId, ShardRange, bool);

fn ranges_of(part: ManifestPart) -> impl Iterator<Item = RangeAgain> {
    let drops_foreign = part.counts.rows_foreign.is_none();
    let ranges = part.ranges.into_iter();
    ranges.map(move |(shard, range)| (shard, range, drops_foreign))
}

async fn read_ranges(
    context: &Context,
    ranges: impl Iterator<Item = RangeAgain>,
    details: &BTreeMap<ShardId, String>,
    mut input: Input<'_>,
    witness: Option<&dyn Witness>,
) -> Result<(), TaskError> {
    for (shard, range, drops_foreign) in ranges {
        let detail = match details.get(&shard).filter(|detail| !detail.is_empty()) {
            Some(detail) => detail.clone(),
            None => detail(context, &shard).await?,
        };
        let to_read = ShardToRead {
            drops_foreign,
            ..ShardToRead::new(shard.clone(), range.from.clone(), detail)
        };
        let mut reader = context.sources.open_again(&context.job, &to_read).await?;
        let mut left = range.records;
        let mut empty = 0;
        while left > 0 {
            let chunk = reader.next().await?;
            let mut records = chunk.records;
            let given = records.len();
            records.retain(|record| record.position().reaches(&range.to));
            left = left.saturating_sub(records.len() as u64);
            empty = if given == 0 { empty + 1 } else { 0 };
            // A record beyond the range, the shard's end, or a long time without records: the rest
            // of the range no longer exists.
            let beyond = given > records.len() || chunk.end.is_some() || empty > EMPTY_READS_MAX;
            if left > 0 && beyond {
                return Err(TaskError::Read(gone(&shard, &range.from)));
            }
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let taken = input.take(&shard, rest).await?;
                let (now, later) = rest.split_at(taken.records);
                rest = later;
                if let Some(witness) = witness {
                    witness.read(&shard, now, &taken.dead).await?;
                }
                if input.has_enough() && witness.is_none() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The shard's detail as a current listing would have it.
async fn detail(context: &Context, shard: &ShardId) -> Result<String, TaskError> {
    if DeadLetterShard::parse(shard).is_some() {
        return Ok(String::new());
    }
    let source = connector(&context.job.spec.source.kind);
    let detail = source.detail(&context.storages, shard).await;
    match detail.map_err(SinkError::from)? {
        Some(detail) => Ok(detail),
        None => Err(TaskError::Read(gone(shard, &Position::Start))),
    }
}

fn gone(shard: &ShardId, position: &Position) -> streamctl_engine::source::ReadError {
    let detail = "the source gives no more records of this range".to_owned();
    streamctl_engine::source::ReadError::DataLoss {
        shard: shard.clone(),
        position: position.clone(),
        gap: None,
        detail,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::source::Sources;
    use crate::task::tests::{Bed, chained, job, kinesis_source, record, reports, shard, window};
    use arrow::array::{ArrayRef, StringArray};
    use arrow::compute::concat_batches;
    use arrow::json::ArrayWriter;
    use streamctl_engine::aws::{Aws, AwsSettings};
    use streamctl_engine::source::kinesis::{Answer, Calls, Failure, IteratorKind, MadeIterator};
    use streamctl_engine::source::testing::clock_at;
    use streamctl_engine::source::{Foreign, ReadError};
    use streamctl_proto::resolved::StreamAddress;
    use streamctl_proto::spec::{FilesSource, GeneratorSource, SourceKind};
    use streamctl_proto::spec::{Location, RecordFormat};
    use streamctl_proto::{Counts, Epoch, Report, Term};
    use tokio::runtime::Handle;

    /// An epoch of this one report.
    pub(crate) fn manifest(report: &Report) -> Manifest {
        Manifest {
            version: 1,
            job: report.job.clone(),
            epoch: Epoch(1),
            window: report.window,
            term: Term(1),
            created_ms: 0,
            previous: None,
            made_by: None,
            stream: None,
            query_digest: String::new(),
            function_code: None,
            lookups: report.lookups.clone(),
            parts: vec![ManifestPart {
                task: report.task,
                ranges: report.ranges.clone(),
                counts: report.counts,
            }],
            frontier: BTreeMap::new(),
            objects: vec![],
            counts: Counts::default(),
            totals: Counts::default(),
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: Default::default(),
            repair: None,
        }
    }

    /// Each row as text, sorted.
    pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
        let Some(first) = batches.first() else {
            return vec![];
        };
        let all = concat_batches(&first.schema(), batches).unwrap();
        let mut writer = ArrayWriter::new(vec![]);
        writer.write(&all).unwrap();
        writer.finish().unwrap();
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&writer.into_inner()).unwrap();
        let mut texts: Vec<String> = rows.iter().map(ToString::to_string).collect();
        texts.sort();
        texts
    }

    async fn replayed(
        context: Arc<Context>,
        report: &Report,
    ) -> Result<Vec<RecordBatch>, TaskError> {
        let replay = replay(
            context,
            &Handle::current().into(),
            manifest(report),
            report.task,
        )
        .await?;
        let mut replay = replay.expect("the task has a part");
        let mut all = vec![];
        while let Some(batch) = replay.batches.recv().await {
            all.push(batch?.take());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn batches_that_are_large_together_wait_until_their_reader_takes_them() {
        let (outlet, mut batches) = Outlet::new();
        let text: ArrayRef = Arc::new(StringArray::from(vec![
            "x".repeat(BATCHES_BYTES_MAX * 2 / 3),
        ]));
        let batch = RecordBatch::try_from_iter([("text", text)]).unwrap();
        assert!(outlet.send(batch.clone()).await);
        let mut second = std::pin::pin!(outlet.send(batch.clone()));
        assert!(futures::poll!(&mut second).is_pending());
        drop(batches.recv().await.unwrap().unwrap().take());
        assert!(second.await);
        drop(batches);
        assert!(!outlet.send(batch).await, "its reader is gone");
    }

    /// Runs a task to its end, and each of its windows again.
    async fn runs_the_same_again(bed: &mut Bed, windows: usize) {
        let reports = reports(&bed.finish().await);
        assert_eq!(reports.len(), windows);
        for report in &reports {
            let live = bed
                .results
                .get(&report.job, report.window, report.task)
                .expect("it is kept");
            let again = replayed(bed.context(), report).await.unwrap();
            assert_eq!(texts(&live.batches), texts(&again), "{}", report.window);
            assert_eq!(texts(&again).len() as u64, report.counts.rows_out);
        }
    }

    #[tokio::test]
    async fn the_ranges_of_a_window_give_the_same_rows_again() {
        let mut bed = Bed::new(job("SELECT id, k FROM source WHERE id <> 2"));
        bed.push("a", 0, &[10, 20, 30, 1_010, 900, 2_500]);
        bed.push("b", 100, &[500, 1_500]);
        bed.source.push(&shard("b"), 1_600, "this is not JSON");
        for name in ["a", "b"] {
            bed.source.close(&shard(name), vec![]);
        }
        bed.start(&["a", "b"]);
        runs_the_same_again(&mut bed, 3).await;
    }

    #[tokio::test]
    async fn groups_of_a_whole_window_are_the_same_again() {
        let mut whole = job("SELECT k, count(*) AS n, sum(id) AS s FROM source GROUP BY k");
        whole.whole_window = true;
        let mut bed = Bed::new(whole);
        bed.push("a", 0, &vec![10; 3_000]);
        bed.source.close(&shard("a"), vec![]);
        bed.start(&["a"]);
        runs_the_same_again(&mut bed, 1).await;
    }

    #[tokio::test]
    async fn generated_shards_and_files_give_the_same_rows_again() {
        let (clock, _) = clock_at(1_000_000);
        let mut generated = job("SELECT id FROM source");
        generated.spec.source.kind = SourceKind::Generator(GeneratorSource {
            seed: 3,
            shards: 1,
            rate: 1_000.0,
            records_per_shard: Some(2_500),
            bad_every: 10,
            unmatched_every: 0,
        });
        let mut files = job("SELECT id, k FROM source");
        let path = Location::folder("memory://in");
        files.spec.source.kind = SourceKind::Files(FilesSource {
            role: None,
            path,
            format: RecordFormat::Json,
            arrival_time: None,
            on_bad_arrival_time: Default::default(),
            max_arrival_ahead: None,
        });
        for (job, shard, windows) in [(generated, "generator-0000", 3), (files, "f.json", 1)] {
            let mut bed = Bed::new(job);
            let lines: String = (0..5_000).map(|id| record(id) + "\n").collect();
            bed.storage.put("memory://in/f.json", lines);
            let sources = Sources::new(Aws::new(AwsSettings::default()), bed.storages())
                .with_clock(clock.clone());
            bed.sources = Some(sources);
            let mut state = bed.state(shard, Position::Start, 0);
            state.detail = detail(&bed.context(), &shard.into()).await.unwrap();
            bed.start_states(vec![state]);
            runs_the_same_again(&mut bed, windows).await;
        }
    }

    /// A shard of these three records that notes how many are requested at once.
    #[derive(Default)]
    struct Asked(std::sync::Mutex<Vec<u32>>);

    #[async_trait]
    impl Calls for Asked {
        async fn iterator(
            &self,
            _: &StreamAddress,
            _: &ShardId,
            _: IteratorKind,
        ) -> Result<MadeIterator, Failure> {
            Ok("i".to_owned().into())
        }
        async fn records(&self, _: String, records_max: u32) -> Result<Answer, Failure> {
            self.0.lock().unwrap().push(records_max);
            let one = |id: u64| {
                let sequence = id.into();
                let data = record(id).into();
                Record {
                    sequence,
                    sub_sequence: 0,
                    arrival_ms: 10,
                    data,
                    origin: None,
                    extra: None,
                    foreign: Foreign::No,
                }
            };
            Ok(Answer {
                records: (0..3).map(one).collect(),
                bytes: 100,
                ..Answer::default()
            })
        }
    }

    #[tokio::test]
    async fn a_range_is_read_again_in_small_answers_beside_a_live_reader_of_its_shard() {
        let mut bed = Bed::new(job("SELECT id FROM source"));
        bed.push("a", 0, &[10, 10, 10]);
        bed.source.close(&shard("a"), vec![]);
        bed.start(&["a"]);
        let report = reports(&bed.finish().await).remove(0);
        bed.job.stream = Some(StreamAddress {
            name: "s".into(),
            ..StreamAddress::default()
        });
        bed.job.spec.source.kind = kinesis_source(streamctl_proto::spec::PayloadCompression::None);
        let requested = Arc::new(Asked::default());
        let sources = Sources::new(Aws::new(AwsSettings::default()), bed.storages());
        let sources = sources.with_stream(Arc::clone(&requested) as Arc<dyn Calls>);
        bed.sources = Some(sources.clone());
        assert_eq!(replayed(bed.context(), &report).await.unwrap().len(), 1);
        let to_read = ShardToRead::new(shard("a"), Position::Start, String::new());
        let live = sources.open(&bed.job, &to_read).await.unwrap();
        assert_eq!(replayed(bed.context(), &report).await.unwrap().len(), 1);
        drop(live);
        let requested = requested.0.lock().unwrap();
        assert!(
            requested[0] == 10_000 && requested[1] < 10_000,
            "{requested:?}"
        );
    }

    #[tokio::test]
    async fn a_range_that_is_gone_is_data_loss_and_not_fewer_rows() {
        let mut bed = Bed::new(job("SELECT id FROM source"));
        bed.push("a", 0, &[10, 20, 30]);
        bed.source.close(&shard("a"), vec![]);
        bed.start(&["a"]);
        let report = reports(&bed.finish().await).remove(0);
        assert_eq!(
            chained(std::slice::from_ref(&report), &Position::Start)[&shard("a")],
            3
        );
        let fewer = Bed::new(job("SELECT id FROM source"));
        fewer.push("a", 0, &[10, 20]);
        fewer.source.close(&shard("a"), vec![]);
        let error = replayed(fewer.context(), &report).await.unwrap_err();
        assert!(
            matches!(error, TaskError::Read(ReadError::DataLoss { .. })),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_task_without_a_part_has_no_replay_and_an_unread_one_ends() {
        let mut bed = Bed::new(job("SELECT id FROM source"));
        bed.push("a", 0, &vec![10; 50_000]);
        bed.source.close(&shard("a"), vec![]);
        let id = bed.start(&["a"]);
        let report = reports(&bed.finish().await).remove(0);
        let other = TaskId { counter: 99, ..id };
        let context = bed.context();
        assert!(
            replay(
                Arc::clone(&context),
                &Handle::current().into(),
                manifest(&report),
                other
            )
            .await
            .unwrap()
            .is_none()
        );
        let begun = replay(
            Arc::clone(&context),
            &Handle::current().into(),
            manifest(&report),
            id,
        )
        .await
        .unwrap();
        drop(begun);
        while Arc::strong_count(&context) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(report.window, window(0));
    }
}
