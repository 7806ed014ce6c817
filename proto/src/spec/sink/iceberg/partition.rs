//! How a job file states a table's partition: `day(sold_at)`, `bucket(16, id)`, `region`.
//!
//! Rule: what is written is read back as the same.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A partition field of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBy {
    pub column: String,
    pub transform: PartitionTransform,
}

/// What a partition field is of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionTransform {
    Identity,
    Year,
    Month,
    Day,
    Hour,
    /// The hash modulo this number.
    Bucket(u32),
    /// So many characters or bytes; of numbers, the multiple of this number that is not above.
    Truncate(u32),
}

const HINT: &str = "a column, or year, month, day or hour of one, such as \"day(sold_at)\", \
                    \"bucket(16, id)\" or \"truncate(4, code)\"";

impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match self.transform {
            PartitionTransform::Identity => f.write_str(column),
            PartitionTransform::Year => write!(f, "year({column})"),
            PartitionTransform::Month => write!(f, "month({column})"),
            PartitionTransform::Day => write!(f, "day({column})"),
            PartitionTransform::Hour => write!(f, "hour({column})"),
            PartitionTransform::Bucket(count) => write!(f, "bucket({count}, {column})"),
            PartitionTransform::Truncate(width) => write!(f, "truncate({width}, {column})"),
        }
    }
}

impl PartitionBy {
    /// # Errors
    /// A message and a hint.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        let refused = |reason: String| (format!("{text:?} {reason}"), HINT.to_owned());
        let text = text.trim();
        let of = |column: &str, transform| {
            let column = column.trim();
            let column = column
                .strip_prefix('"')
                .and_then(|quoted| quoted.strip_suffix('"'))
                .unwrap_or(column);
            if column.is_empty() || column.contains(['(', ')', '"']) {
                return Err(refused("names no column".to_owned()));
            }
            let column = column.to_owned();
            Ok(Self { column, transform })
        };
        let Some((name, rest)) = text.split_once('(') else {
            return of(text, PartitionTransform::Identity);
        };
        let Some(inner) = rest.strip_suffix(')') else {
            return Err(refused("has no closing bracket".to_owned()));
        };
        let counted = || {
            let (number, column) = inner
                .split_once(',')
                .ok_or_else(|| refused("needs a number and a column".to_owned()))?;
            let number = number.trim().parse::<u32>().ok();
            // The specification's numbers are Java's ints.
            let number = number.filter(|number| (1..=i32::MAX.cast_unsigned()).contains(number));
            let number = number.ok_or_else(|| {
                refused(format!(
                    "does not begin with a whole number from 1 to {}",
                    i32::MAX
                ))
            })?;
            Ok((number, column))
        };
        match name.trim().to_lowercase().as_str() {
            "identity" => of(inner, PartitionTransform::Identity),
            "year" | "years" => of(inner, PartitionTransform::Year),
            "month" | "months" => of(inner, PartitionTransform::Month),
            "day" | "days" => of(inner, PartitionTransform::Day),
            "hour" | "hours" => of(inner, PartitionTransform::Hour),
            "bucket" => counted().and_then(|(n, column)| of(column, PartitionTransform::Bucket(n))),
            "truncate" => {
                counted().and_then(|(n, column)| of(column, PartitionTransform::Truncate(n)))
            }
            other => Err(refused(format!("has no known transform: {other:?}"))),
        }
    }

    /// The name of the field in a new table, as Spark gives it.
    pub fn field_name(&self) -> String {
        let column = &self.column;
        match self.transform {
            PartitionTransform::Identity => column.clone(),
            PartitionTransform::Year => format!("{column}_year"),
            PartitionTransform::Month => format!("{column}_month"),
            PartitionTransform::Day => format!("{column}_day"),
            PartitionTransform::Hour => format!("{column}_hour"),
            PartitionTransform::Bucket(_) => format!("{column}_bucket"),
            PartitionTransform::Truncate(_) => format!("{column}_trunc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "region",
            "year(at)",
            "month(at)",
            "day(at)",
            "hour(at)",
            "bucket(16, id)",
            "truncate(4, code)",
        ] {
            assert_eq!(PartitionBy::parse(text).unwrap().to_string(), text);
        }
        let spark = PartitionBy::parse("Days( \"Sold At\" )").unwrap();
        assert_eq!(spark.to_string(), "day(Sold At)");
        assert_eq!(spark.field_name(), "Sold At_day");
    }

    #[test]
    fn what_is_no_partition_is_refused_with_an_example() {
        for (text, reason) in [
            ("", "names no column"),
            ("day(", "closing bracket"),
            ("day()", "names no column"),
            ("bucket(id)", "a number and a column"),
            ("bucket(0, id)", "a whole number from 1"),
            ("bucket(16, day(id))", "names no column"),
            ("zorder(id)", "no known transform"),
        ] {
            let (message, hint) = PartitionBy::parse(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
            assert!(hint.contains("bucket(16, id)"));
        }
    }
}
