//! The text of a query, and how it is meant.
//!
//! Rule: a stored query is planned as it was when it was submitted: what newer programs refuse is
//! refused for a submitted text alone.

use streamctl_proto::JobSpec;
use streamctl_proto::manifest::sha256_hex;
use streamctl_proto::spec::Dialect;

/// The text of a query.
#[derive(Clone, Copy, Debug)]
pub struct QueryText<'a> {
    pub(super) sql: &'a str,
    pub(super) dialect: Dialect,
    /// Whether it is submitted now, and not stored already.
    pub(super) is_new: bool,
}

impl<'a> QueryText<'a> {
    /// The query of a job that is submitted, or checked for it.
    pub fn submitted(spec: &'a JobSpec) -> Self {
        Self {
            is_new: true,
            ..Self::stored(spec)
        }
    }

    /// The query of a stored job.
    pub fn stored(spec: &'a JobSpec) -> Self {
        Self {
            sql: &spec.sql,
            dialect: spec.dialect,
            is_new: false,
        }
    }

    /// The digest of what the query means.
    pub fn digest(self) -> String {
        match self.dialect {
            Dialect::Datafusion => sha256_hex(self.sql.as_bytes()),
            dialect => sha256_hex(format!("dialect = {}\n{}", dialect.word(), self.sql).as_bytes()),
        }
    }

    pub(super) fn owned(self) -> OwnedText {
        OwnedText {
            sql: self.sql.to_owned(),
            dialect: self.dialect,
            is_new: self.is_new,
        }
    }
}

/// A stored query of the default dialect.
impl<'a> From<&'a str> for QueryText<'a> {
    fn from(sql: &'a str) -> Self {
        Self {
            sql,
            dialect: Dialect::default(),
            is_new: false,
        }
    }
}

impl<'a> From<&'a String> for QueryText<'a> {
    fn from(sql: &'a String) -> Self {
        sql.as_str().into()
    }
}

/// The same, for another thread.
pub(super) struct OwnedText {
    sql: String,
    dialect: Dialect,
    is_new: bool,
}

impl OwnedText {
    pub(super) fn borrowed(&self) -> QueryText<'_> {
        QueryText {
            sql: &self.sql,
            dialect: self.dialect,
            is_new: self.is_new,
        }
    }
}
