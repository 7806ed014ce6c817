//! What a table format must know of a staged data file: its partition, and statistics of its
//! columns.
//!
//! Owns: the stored form, its limits. Does not own: what the bytes mean (the kind of sink).
//! Rule: every list has a limit, and no value of the file is in it in full: a bound is cut, a
//! partition value is short.

use crate::bad_message::BadMessage;
use serde::{Deserialize, Serialize};

/// Fields of a partition.
pub const PARTITION_FIELDS_MAX: usize = 64;
/// Longest value of a partition field, in bytes.
pub const PARTITION_VALUE_BYTES_MAX: usize = 1_024;
/// Columns with statistics.
pub const STATISTICS_COLUMNS_MAX: usize = 100;
/// Longest bound of a column, in bytes: 16 characters.
pub const BOUND_BYTES_MAX: usize = 64;
/// Row groups whose place in the file is stated.
pub const SPLIT_OFFSETS_MAX: usize = 1_000;
/// All statistics of one task's files of one window, in bytes: they are in the report, and in the
/// epoch's manifest.
pub const STATISTICS_BYTES_MAX: usize = 8 << 20;

/// A staged data file of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// The partition spec that it was written with.
    pub spec_id: i32,
    /// The values of the spec's fields; `None` is null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<Option<Bytes>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnStatistics>,
    /// Where its row groups begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split_offsets: Vec<i64>,
}

/// A short value in the table format's binary form; in JSON, hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:.40?} is not hexadecimal");
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return Err(wrong());
        }
        let pairs = (0..text.len()).step_by(2);
        let bytes = pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16));
        let bytes = bytes.collect::<Result<Vec<_>, _>>();
        bytes.map(Self).map_err(|_| wrong())
    }
}

/// Statistics of one column, by its field id. In JSON a list in this order: a window has thousands
/// of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ColumnRow", into = "ColumnRow")]
pub struct ColumnStatistics {
    pub id: i32,
    /// In the file, in bytes.
    pub size: i64,
    /// With nulls.
    pub values: i64,
    /// `None`: not known.
    pub nulls: Option<i64>,
    /// No value is below; `None`: not known.
    pub lower: Option<Bytes>,
    /// No value is above.
    pub upper: Option<Bytes>,
}

type ColumnRow = (i32, i64, i64, Option<i64>, Option<Bytes>, Option<Bytes>);

impl From<ColumnRow> for ColumnStatistics {
    fn from((id, size, values, nulls, lower, upper): ColumnRow) -> Self {
        Self {
            id,
            size,
            values,
            nulls,
            lower,
            upper,
        }
    }
}

impl From<ColumnStatistics> for ColumnRow {
    fn from(column: ColumnStatistics) -> Self {
        let ColumnStatistics {
            id,
            size,
            values,
            nulls,
            lower,
            upper,
        } = column;
        (id, size, values, nulls, lower, upper)
    }
}

impl TableFile {
    /// About how many bytes the statistics take in a report or a manifest.
    pub fn statistics_bytes(&self) -> usize {
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(4, |bytes| 2 * bytes.0.len() + 2);
        let column = |column: &ColumnStatistics| 32 + bytes(&column.lower) + bytes(&column.upper);
        self.columns.iter().map(column).sum()
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`BadMessage`] names the field.
    pub fn check(&self, spec_id: i32, partition_fields: usize) -> Result<(), BadMessage> {
        let bad = |problem: String| {
            Err(BadMessage {
                field: "object.table_file",
                problem,
            })
        };
        if self.spec_id != spec_id {
            let found = self.spec_id;
            return bad(format!("it is of partition spec {found}, not {spec_id}"));
        }
        if self.partition.len() != partition_fields {
            let found = self.partition.len();
            return bad(format!(
                "it has {found} partition values, not {partition_fields}"
            ));
        }
        let long = |value: &Bytes| value.0.len() > PARTITION_VALUE_BYTES_MAX;
        if self.partition.iter().flatten().any(long) {
            return bad(format!(
                "a partition value has more than {PARTITION_VALUE_BYTES_MAX} bytes"
            ));
        }
        if self.columns.len() > STATISTICS_COLUMNS_MAX {
            return bad(format!("{} columns have statistics", self.columns.len()));
        }
        let bounds = self
            .columns
            .iter()
            .flat_map(|column| [&column.lower, &column.upper]);
        if bounds
            .flatten()
            .any(|bound| bound.0.len() > BOUND_BYTES_MAX)
        {
            return bad(format!("a bound has more than {BOUND_BYTES_MAX} bytes"));
        }
        if self.split_offsets.len() > SPLIT_OFFSETS_MAX {
            return bad(format!("it has {} row groups", self.split_offsets.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> TableFile {
        TableFile {
            spec_id: 1,
            partition: vec![None, Some(Bytes(vec![0, 255]))],
            columns: vec![ColumnStatistics {
                id: 7,
                size: 100,
                values: 3,
                nulls: Some(1),
                lower: Some(Bytes(vec![1])),
                upper: None,
            }],
            split_offsets: vec![4],
        }
    }

    #[test]
    fn the_stored_form_is_short_and_read_back() {
        let text = serde_json::to_string(&file()).unwrap();
        assert_eq!(
            text,
            r#"{"spec_id":1,"partition":[null,"00ff"],"columns":[[7,100,3,1,"01",null]],"split_offsets":[4]}"#
        );
        assert_eq!(serde_json::from_str::<TableFile>(&text).unwrap(), file());
        for bad in [r#"["0"]"#, r#"["zz"]"#, r#"["é0"]"#] {
            assert!(serde_json::from_str::<Vec<Bytes>>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_beyond_a_limit_is_refused() {
        assert_eq!(file().check(1, 2), Ok(()));
        let refused = |file: TableFile| file.check(1, 2).unwrap_err().problem;
        let mut other = file();
        other.spec_id = 2;
        assert!(refused(other).contains("spec 2"));
        let mut other = file();
        other.partition.pop();
        assert!(refused(other).contains("1 partition values"));
        let mut other = file();
        other.partition[0] = Some(Bytes(vec![0; PARTITION_VALUE_BYTES_MAX + 1]));
        assert!(refused(other).contains("partition value"));
        let mut other = file();
        other.columns[0].upper = Some(Bytes(vec![0; BOUND_BYTES_MAX + 1]));
        assert!(refused(other).contains("bound"));
        let mut other = file();
        other.columns = vec![ColumnStatistics::default(); STATISTICS_COLUMNS_MAX + 1];
        assert!(refused(other).contains("columns"));
        let mut other = file();
        other.split_offsets = vec![0; SPLIT_OFFSETS_MAX + 1];
        assert!(refused(other).contains("row groups"));
    }
}
