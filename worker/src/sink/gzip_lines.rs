//! Objects of JSON lines, gzip: data stored beside the rows of a window.
//!
//! Owns: names, cutting by size, staging. Does not own: the content of a line (`rejected`,
//! `dead_letter`).
//! Rule: nothing is opened before the first line.

use super::{Compressed, EncodeError, ObjectWriter, SinkError, abandon_all};
use std::io::Write as _;
use std::sync::Arc;
use streamctl_engine::storage::Storage;
use streamctl_proto::report::{ObjectKind, StagedObject, object_name};
use streamctl_proto::spec::{Compression, Location};
use streamctl_proto::{JobName, TaskId, Window};

/// Objects are cut at about this size, compressed.
const OBJECT_BYTES: u64 = 64 << 20;

/// Identifies the objects of one window of one task.
#[derive(Clone, Debug)]
pub(crate) struct LinesPlace {
    pub folder: Location,
    pub storage: Arc<dyn Storage>,
    pub job: JobName,
    pub task: TaskId,
    pub window: Window,
    pub kind: ObjectKind,
    /// The suffix of their names.
    pub extension: &'static str,
}

pub(crate) struct GzipLines {
    place: LinesPlace,
    number: u32,
    open: Option<(Compressed, ObjectWriter)>,
    done: Vec<StagedObject>,
}

impl GzipLines {
    pub fn new(place: LinesPlace) -> Self {
        Self {
            place,
            number: 0,
            open: None,
            done: Vec::new(),
        }
    }

    /// Memory of the compressor and the part being filled.
    pub fn memory(&self) -> usize {
        self.open
            .as_ref()
            .map_or(0, |(out, writer)| out.memory() + writer.held())
    }

    /// The share of the part being filled.
    pub fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |(_, writer)| writer.held())
    }

    /// Adds whole lines. After an error only [`GzipLines::abort`] may be called.
    pub async fn write(&mut self, lines: &[u8], rows: u64) -> Result<(), SinkError> {
        if self.open.is_none() {
            let out = Compressed::new(Compression::Gzip).map_err(EncodeError::from)?;
            let LinesPlace {
                folder,
                storage,
                job,
                task,
                window,
                extension,
                ..
            } = &self.place;
            let location = folder.join(&object_name(*window, job, *task, self.number, extension));
            self.open = Some((out, ObjectWriter::open(&**storage, &location).await?));
            self.number += 1;
        }
        let Some((out, writer)) = &mut self.open else {
            return Ok(());
        };
        out.write_all(lines).map_err(EncodeError::from)?;
        writer.write(out.take(), rows).await?;
        if writer.bytes() >= OBJECT_BYTES {
            self.close().await
        } else {
            Ok(())
        }
    }

    /// Stages the object being written.
    pub async fn close(&mut self) -> Result<(), SinkError> {
        let Some((out, mut writer)) = self.open.take() else {
            return Ok(());
        };
        let written = match out.finish() {
            Ok(last) => writer.write(last, 0).await.map_err(SinkError::from),
            Err(error) => Err(EncodeError::from(error).into()),
        };
        if let Err(error) = written {
            writer.abort().await;
            return Err(error);
        }
        self.done.push(writer.finish(self.place.kind).await?);
        Ok(())
    }

    pub fn take(&mut self) -> Vec<StagedObject> {
        std::mem::take(&mut self.done)
    }

    pub async fn abort(self) {
        if let Some((_, writer)) = self.open {
            writer.abort().await;
        }
        abandon_all(&*self.place.storage, &self.done).await;
    }
}
