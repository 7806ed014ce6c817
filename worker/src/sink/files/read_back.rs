//! Objects of folders, as rows of the result.
//!
//! Rule: a column that forms folders is read from the object's name, or the object is refused.

use super::{Partitioner, SinkError};
use crate::sink::NotReadBack;
use crate::sink::read_back::{Batches, ReadBack, ReadBackError, rows_of};
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use streamctl_engine::written::back::{Back, NotExact};
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::Window;
use streamctl_proto::names::partition_values;
use streamctl_proto::spec::{FilesSink, Location};

/// The objects of one window.
pub(super) struct Objects {
    place: Location,
    back: Back,
    partitioner: Partitioner,
}

impl Objects {
    pub fn new(sink: &FilesSink, result: &SchemaRef, window: Window) -> Result<Self, NotReadBack> {
        let form = Form::new(result, sink);
        let partitioner = Partitioner::new(&sink.partition_by, window, form.schema())
            .map_err(|error: SinkError| NotReadBack::from(error))?;
        let folders: Vec<usize> = partitioner
            .levels()
            .filter_map(|(_, column)| column)
            .collect();
        let back = Back::new(&form, sink.format, TextForm::of(sink), &folders)?;
        Ok(Self {
            place: sink.path.clone(),
            back,
            partitioner,
        })
    }

    /// The values of the columns that are in an object's name.
    fn folder(&self, location: &str) -> Result<Vec<(usize, ArrayRef)>, NotExact> {
        let name = location.strip_prefix(self.place.as_str());
        let folder = name.and_then(|name| name.rsplit_once('/'));
        let folder = folder.map_or("", |(folder, _)| folder);
        let levels: Vec<_> = self.partitioner.levels().collect();
        let columns = levels.iter().map(|(name, _)| *name);
        let values = match levels.is_empty() {
            true => vec![],
            // Folders of other columns give no text, which is no value of any column.
            false => partition_values(columns, folder).unwrap_or_default(),
        };
        let texts = values.into_iter().map(Some).chain(std::iter::repeat(None));
        let value = |((_, column), text): (&(&str, Option<usize>), Option<String>)| {
            let column = (*column)?;
            let value = self.back.folder_value(column, &text.unwrap_or_default());
            Some(value.map(|value| (column, value)))
        };
        levels.iter().zip(texts).filter_map(value).collect()
    }
}

impl ReadBack for Objects {
    fn check(&self, location: &str) -> Result<(), NotExact> {
        self.folder(location).map(drop)
    }

    fn open(&self, location: &str, bytes: Bytes) -> Result<Batches, ReadBackError> {
        rows_of(&self.back, location, bytes, self.folder(location)?)
    }
}
