//! How much of a lookup may be read, and why one is not a table.
//!
//! Rule: too many bytes are refused before they are held.

use super::unite::Clash;

/// Largest text of one column in bytes, regardless of `size_max`: offsets have 31 bits.
pub const TEXT_BYTES_MAX: u64 = i32::MAX as u64;

/// Bytes that may still follow.
pub(super) struct Room<'a> {
    pub lookup: &'a str,
    left: u64,
    limit: u64,
}

impl<'a> Room<'a> {
    /// For a lookup that may have this many bytes.
    pub fn new(lookup: &'a str, limit: u64) -> Self {
        Self {
            lookup,
            left: limit,
            limit,
        }
    }

    /// Counts bytes that are held.
    pub fn take(&mut self, bytes: u64) -> Result<(), RowsError> {
        let most = self.limit.min(TEXT_BYTES_MAX);
        let used = self.limit - self.left;
        if used.saturating_add(bytes) > most {
            return Err(RowsError::TooLarge {
                lookup: self.lookup.into(),
                limit: most,
            });
        }
        self.left -= bytes;
        Ok(())
    }

    /// Most bytes that unpacking may give before it is known to be too much.
    pub fn unpacked_max(&self) -> u64 {
        self.left.min(TEXT_BYTES_MAX) + 1
    }

    pub fn bad_file(&self, file: &str, reason: impl std::fmt::Display) -> RowsError {
        RowsError::File {
            lookup: self.lookup.into(),
            file: file.into(),
            reason: reason.to_string(),
        }
    }
}

/// Why a lookup's files are not a table.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// No file has a header or a schema.
    #[error("lookup {lookup}: there is no table in its files: every one is empty")]
    NoTable { lookup: String },
    /// The header cannot be used.
    #[error("lookup {lookup}: {file}, line 1: {reason}")]
    Header {
        lookup: String,
        file: String,
        reason: String,
    },
    /// Two files have different columns.
    #[error("lookup {lookup}: {file} has the columns {found}, but {first} has {expected}")]
    OtherColumns {
        lookup: String,
        file: String,
        found: String,
        first: String,
        expected: String,
    },
    /// A column has a type in one file and another one, without a common one, in another file.
    #[error(
        "lookup {lookup}: column {:?} is {} in {} and {} in {}; write all files with one type, or \
         cast it by [lookup.schema]",
        clash.column, clash.first.1, clash.first.0, clash.second.1, clash.second.0
    )]
    OtherType { lookup: String, clash: Box<Clash> },
    /// A column does not have the type that the job gives it.
    #[error("lookup {lookup}: {reason}")]
    Schema { lookup: String, reason: String },
    /// A line of a CSV file is broken.
    #[error("lookup {lookup}: {file}, line {line}: {reason}")]
    Line {
        lookup: String,
        file: String,
        /// From 1; the line where the record begins.
        line: u64,
        reason: String,
    },
    /// A file is not of its format.
    #[error("lookup {lookup}: {file}: {reason}")]
    File {
        lookup: String,
        file: String,
        reason: String,
    },
    /// Unpacked, it is larger than the job allows.
    #[error(
        "lookup {lookup}: its rows have more than {limit} bytes; raise `size_max`, or keep fewer \
         columns and rows in it"
    )]
    TooLarge { lookup: String, limit: u64 },
}

impl RowsError {
    /// The key of the job file that may help.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Header { reason, .. } | Self::Line { reason, .. }
                if reason.contains("not UTF-8") =>
            {
                Some("set the lookup's `encoding`: \"windows-1252\" or \"utf-16\"")
            }
            Self::NoTable { .. }
            | Self::Header { .. }
            | Self::OtherColumns { .. }
            | Self::OtherType { .. }
            | Self::Schema { .. }
            | Self::Line { .. }
            | Self::File { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}
