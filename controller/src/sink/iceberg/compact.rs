//! Rewriting a table's small files.
//!
//! Owns: the order of steps of one rewriting, checks of a worker's answer. Does not own: which files,
//! the commit (`engine::iceberg::rewrite`), rows (the worker), files that nothing shows any more
//! ([`records`]).
//! Rule: a record names all files before an output is visible. Outputs are deleted at once only if no
//! request can come to name them.

mod records;

use super::{IcebergCommitter, Opened, Target};
use crate::sink::compact::{Compacted, CompactionTurn, Left, NotCompacted};
use crate::sink::objects;
use records::Records;
use std::time::Duration;
use streamctl_engine::iceberg::commit::CommitError;
use streamctl_engine::iceberg::data_file::{DataFile, reported_partition};
use streamctl_engine::iceberg::rewrite::{RewriteGroup, Rewriting, RewritingOutcome, SmallFiles};
use streamctl_engine::sink::pinned_fields;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::rewrite::{
    REWRITTEN_FOLDER, RewriteInput, RewriteOrder, RewriteOutcome, RewriteRecord,
};
use streamctl_proto::spec::{DATA_FILE_EXTENSION, Location, TableMaintenance};
use streamctl_proto::staged_place::{StagedBy, StagedPlace};
use streamctl_proto::{ResolvedJob, StagedObject, TaskId, Window};

/// Rewritings in one turn.
const REWRITINGS_PER_TURN_MAX: usize = 4;
/// Time for a rewriting. After so many windows its request is void, and what it staged is swept.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// Windows that a rewriting has in any case, however long they are.
const WINDOWS_MIN: u64 = 3;

/// One rewriting that a worker is to do.
struct Ordered {
    order: RewriteOrder,
    void_from_epoch: u64,
    /// Of the first input, and when the table was looked at.
    sequences: (i64, i64),
}

/// The job's table, open.
struct Table<'a> {
    committer: &'a IcebergCommitter,
    target: &'a Target,
    opened: Opened,
    records: Records,
}

pub(super) async fn compact(
    committer: &IcebergCommitter,
    turn: CompactionTurn<'_>,
) -> Result<Compacted, NotCompacted> {
    let Some(maintenance) = &committer.sink.maintenance else {
        return Ok(Compacted::default());
    };
    let target = committer.target()?;
    let table = Table {
        committer,
        target,
        opened: committer.open().await?,
        records: Records::of(&committer.own, &committer.storages, turn.job),
    };
    table.turn(maintenance, turn).await
}

impl Table<'_> {
    async fn turn(
        &self,
        maintenance: &TableMaintenance,
        turn: CompactionTurn<'_>,
    ) -> Result<Compacted, NotCompacted> {
        let pinned = &self.target.pinned;
        let engine = self.opened.committer(&self.target.writer);
        let mut done = Compacted {
            deleted: self.records.clean(&engine, &pinned.data).await?,
            ..Compacted::default()
        };
        let own = pinned.data.as_str();
        let small = engine
            .small_files(own, pinned.spec_id, maintenance.target_size)
            .await?;
        done.left = match small.refused {
            Some(reason) => Some(Left::Refused(reason.to_owned())),
            None if small.with_deletes > 0 => Some(Left::Deletes(small.with_deletes)),
            None => None,
        };
        for group in small.groups.iter().take(REWRITINGS_PER_TURN_MAX) {
            let ordered = self.ordered(turn, &small, group, maintenance.target_size);
            if let Err(left) = self.rewrite(turn, group, ordered, &mut done).await? {
                done.left = Some(left);
                return Ok(done);
            }
        }
        done.is_more_left = small.groups.len() > REWRITINGS_PER_TURN_MAX;
        Ok(done)
    }

    fn ordered(
        &self,
        turn: CompactionTurn<'_>,
        small: &SmallFiles,
        group: &RewriteGroup,
        target_size: u64,
    ) -> Ordered {
        let job = turn.job;
        let lifetime_ms = i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let size = job.spec.window;
        let windows = u64::try_from(lifetime_ms / size.ms().max(1)).unwrap_or(0);
        let now_ms = self.committer.storages.tables().clock()();
        let inputs = group.inputs.iter();
        let first = inputs.clone().map(|file| file.sequence_number).min();
        Ordered {
            order: RewriteOrder {
                job: job.clone(),
                task: turn.names.next(),
                window: size.window_of(now_ms.saturating_add(lifetime_ms)),
                partition: reported_partition(&group.partition),
                target_size,
                inputs: inputs
                    .map(|file| RewriteInput {
                        location: file.location.clone(),
                        size: file.size,
                        rows: file.rows,
                    })
                    .collect(),
            },
            void_from_epoch: small.through + windows.max(WINDOWS_MIN),
            sequences: (first.unwrap_or(0), small.base_sequence),
        }
    }

    async fn rewrite(
        &self,
        turn: CompactionTurn<'_>,
        group: &RewriteGroup,
        ordered: Ordered,
        done: &mut Compacted,
    ) -> Result<Result<(), Left>, NotCompacted> {
        let Ordered {
            order,
            void_from_epoch,
            sequences,
        } = ordered;
        let RewriteOrder { task, window, .. } = order;
        let staged = match turn.rewriter.rewrite(order).await {
            RewriteOutcome::Rewritten { objects } => objects,
            RewriteOutcome::Failed { reason } => return Ok(Err(Left::Failed(reason))),
        };
        let outputs = self.checked(turn.job, (task, window), group, &staged)?;
        let inputs: Vec<String> = group
            .inputs
            .iter()
            .map(|file| file.location.clone())
            .collect();
        let locations = outputs.iter().map(|file| file.location.clone());
        let record = RewriteRecord::new(
            self.target.writer.table_uuid.clone(),
            void_from_epoch,
            sequences,
            inputs.clone(),
            locations.collect(),
        );
        self.records.put(task, &record).await?;
        for object in &staged {
            let storage = self.committer.storages.for_location(&object.location);
            objects::publish_object(&*storage, object).await?;
        }
        let rewriting = Rewriting {
            spec_id: self.target.pinned.spec_id,
            partition: group.partition.clone(),
            inputs,
            outputs,
            void_from_epoch,
        };
        let engine = self.opened.committer(&self.target.writer);
        let clock = self.committer.storages.tables().clock();
        match engine
            .commit_rewriting(&rewriting, &move || clock())
            .await?
        {
            RewritingOutcome::Committed => {
                done.rewritings += 1;
                done.files_before += rewriting.inputs.len() as u64;
                done.files_after += rewriting.outputs.len() as u64;
                done.rows += group.rows();
                done.bytes += group.bytes();
                Ok(Ok(()))
            }
            RewritingOutcome::GaveUp { reason, is_unsure } => {
                if !is_unsure {
                    self.records.drop_outputs(task, &record).await?;
                }
                Ok(Err(Left::GaveUp(reason)))
            }
        }
    }

    /// The answer as files of the table, if it is what was ordered.
    fn checked(
        &self,
        job: &ResolvedJob,
        (task, window): (TaskId, Window),
        group: &RewriteGroup,
        staged: &[StagedObject],
    ) -> Result<Vec<DataFile>, NotCompacted> {
        let bad = |reason: String| NotCompacted::BadAnswer(reason);
        let pinned = &self.target.pinned;
        let fields = pinned_fields(pinned).map_err(|error| bad(error.to_string()))?;
        let folder = Location::folder(&pinned.data.join(REWRITTEN_FOLDER));
        let names: Vec<&str> = pinned.partition_fields.iter().map(String::as_str).collect();
        let by = StagedBy {
            job: &job.spec.name,
            window,
            task,
        };
        let place = |partitions| StagedPlace {
            folder: folder.as_str(),
            partitions,
            extension: DATA_FILE_EXTENSION,
        };
        let mut files = vec![];
        for object in staged {
            // A partition whose values name no folder has its files beside the folders.
            by.check(&place(&names), object)
                .or_else(|error| by.check(&place(&[]), object).map_err(|_| error))
                .map_err(|error| bad(error.to_string()))?;
            let table_file = object.table_file.as_deref();
            let table_file = table_file.ok_or_else(|| bad("no statistics".to_owned()))?;
            table_file
                .check(pinned.spec_id, names.len())
                .map_err(|error| bad(error.to_string()))?;
            let file = DataFile::reported(object, &fields);
            let file = file.map_err(|error| bad(error.to_string()))?;
            if object.kind != ObjectKind::Data || file.partition != group.partition {
                return Err(bad(format!("{} is of another partition", file.location)));
            }
            files.push(file);
        }
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        if rows != group.rows() {
            return Err(bad(format!("{rows} rows, ordered were {}", group.rows())));
        }
        Ok(files)
    }
}

impl From<NotCompacted> for String {
    fn from(error: NotCompacted) -> Self {
        let hint = match &error {
            NotCompacted::Table(error) => Some(CommitError::hint(error).to_owned()),
            NotCompacted::Storage(_) | NotCompacted::BadAnswer(_) => None,
        };
        let text = streamctl_proto::describe(&error);
        hint.map_or_else(|| text.clone(), |hint| format!("{text} ({hint})"))
    }
}
