//! Columns of `source` that say where a record comes from, and which window it is in.
//!
//! Owns: their names and types, which of them a query names, that `*` does not name them. Does not
//! own: their values (the worker's pipeline).
//! Rule: they exist only for a query that cannot be planned without them. So a column of the source
//! and an alias of the query go before them, and a query that names none of them costs nothing.

use super::{QueryError, SOURCE};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, Select, SelectItem, SelectItemQualifiedWildcardKind,
    TableFactor, TableWithJoins, VisitMut, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

/// A column that no record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordColumn {
    WindowStart,
    WindowEnd,
    ArrivalTime,
    Shard,
    SequenceNumber,
    PartitionKey,
    File,
    IngestId,
}

impl RecordColumn {
    /// All of them, in the order in which they follow the source's columns.
    pub const ALL: [Self; 8] = [
        Self::WindowStart,
        Self::WindowEnd,
        Self::ArrivalTime,
        Self::Shard,
        Self::SequenceNumber,
        Self::PartitionKey,
        Self::File,
        Self::IngestId,
    ];

    /// Its name in a query.
    pub fn name(self) -> &'static str {
        match self {
            Self::WindowStart => "window_start",
            Self::WindowEnd => "window_end",
            Self::ArrivalTime => "_arrival_time",
            Self::Shard => "_shard",
            Self::SequenceNumber => "_sequence_number",
            Self::PartitionKey => "_partition_key",
            Self::File => "_file",
            Self::IngestId => "_ingest_id",
        }
    }

    pub fn data_type(self) -> DataType {
        match self {
            // As a column of the type `timestamp`.
            Self::WindowStart | Self::WindowEnd | Self::ArrivalTime => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Self::Shard
            | Self::SequenceNumber
            | Self::PartitionKey
            | Self::File
            | Self::IngestId => DataType::Utf8,
        }
    }

    /// As a field of the rows.
    pub fn field(self) -> Field {
        Field::new(self.name(), self.data_type(), true)
    }
}

/// A plan, and the columns of records that follow those of the source in it.
pub(super) struct Planned {
    pub plan: LogicalPlan,
    /// Ascending.
    pub columns: Vec<RecordColumn>,
    /// The columns of the source, then these.
    pub source: SchemaRef,
}

/// Plans a query without columns of records, else with those that it names. `plan` takes the
/// source's columns, and those that `*` leaves out.
pub(super) fn planned(
    source: &SchemaRef,
    sql: &str,
    plan: impl Fn(&SchemaRef, &[RecordColumn]) -> Result<LogicalPlan, QueryError>,
) -> Result<Planned, QueryError> {
    let error = match plan(source, &[]) {
        Ok(plan) => {
            return Ok(Planned {
                plan,
                columns: Vec::new(),
                source: source.clone(),
            });
        }
        Err(error) => error,
    };
    let columns = named(sql, source);
    if columns.is_empty() || !matches!(error, QueryError::Sql { .. }) {
        return Err(error);
    }
    let fields = source.fields().iter().cloned();
    let fields = fields.chain(columns.iter().map(|column| column.field().into()));
    let source: SchemaRef = Schema::new(fields.collect::<Vec<_>>()).into();
    Ok(Planned {
        plan: plan(&source, &columns)?,
        columns,
        source,
    })
}

/// The columns of records that a text names and the source does not have.
fn named(sql: &str, source: &SchemaRef) -> Vec<RecordColumn> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize();
    let words: Vec<String> = tokens
        .unwrap_or_default()
        .into_iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(folded(word.quote_style, word.value)),
            _ => None,
        })
        .collect();
    let is_named = |column: &RecordColumn| {
        words.iter().any(|word| word == column.name())
            && source.field_with_name(column.name()).is_err()
    };
    RecordColumn::ALL.into_iter().filter(is_named).collect()
}

fn folded(quote: Option<char>, name: String) -> String {
    match quote {
        Some(_) => name,
        None => name.to_ascii_lowercase(),
    }
}

/// Leaves these columns out of each `*` over the source.
pub(super) fn hide(statement: &mut Statement, columns: &[RecordColumn]) {
    if let Statement::Statement(statement) = statement
        && !columns.is_empty()
    {
        let _all: ControlFlow<()> = statement.visit(&mut Hide { columns });
    }
}

struct Hide<'a> {
    columns: &'a [RecordColumn],
}

impl VisitorMut for Hide<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut names = Vec::new();
        select
            .from
            .iter()
            .for_each(|tables| names_of_source(tables, &mut names));
        if names.is_empty() {
            return ControlFlow::Continue(());
        }
        for item in &mut select.projection {
            match item {
                SelectItem::Wildcard(options) => self.exclude(options),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(table),
                    options,
                ) if name_of(table).is_some_and(|name| names.contains(&name)) => {
                    self.exclude(options);
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }
}

impl Hide<'_> {
    fn exclude(&self, options: &mut WildcardAdditionalOptions) {
        let mut excluded = match options.opt_exclude.take() {
            None => Vec::new(),
            Some(ExcludeSelectItem::Single(name)) => vec![name],
            Some(ExcludeSelectItem::Multiple(names)) => names,
        };
        let mut already: Vec<String> = excluded.iter().filter_map(name_of).collect();
        if let Some(except) = &options.opt_except {
            let names = std::iter::once(&except.first_element).chain(&except.additional_elements);
            already.extend(names.map(|name| folded(name.quote_style, name.value.clone())));
        }
        let ours = self.columns.iter().map(|column| column.name());
        let missing = ours.filter(|name| !already.iter().any(|other| other == name));
        excluded.extend(missing.map(|name| ObjectName::from(vec![Ident::new(name)])));
        options.opt_exclude = Some(ExcludeSelectItem::Multiple(excluded));
    }
}

/// The names under which the source is a table of this part of a query.
fn names_of_source(tables: &TableWithJoins, names: &mut Vec<String>) {
    let factors = std::iter::once(&tables.relation).chain(tables.joins.iter().map(|j| &j.relation));
    for factor in factors {
        match factor {
            TableFactor::Table { name, alias, .. } if name_of(name).as_deref() == Some(SOURCE) => {
                names.push(match alias {
                    Some(alias) => folded(alias.name.quote_style, alias.name.value.clone()),
                    None => SOURCE.to_owned(),
                });
            }
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => names_of_source(table_with_joins, names),
            _ => {}
        }
    }
}

/// The last part of a name.
fn name_of(name: &ObjectName) -> Option<String> {
    let ident = name.0.last()?.as_ident()?;
    Some(folded(ident.quote_style, ident.value.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::QueryPlan;
    use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn source(columns: &[&str]) -> SchemaRef {
        let fields = columns
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, true));
        Schema::new(fields.collect::<Vec<_>>()).into()
    }

    fn plan_on(columns: &[&str], sql: &str) -> Result<QueryPlan, QueryError> {
        let lookup = source(&["code", "_shard"]);
        QueryPlan::blocking(source(columns), vec![("c".into(), lookup)], sql)
    }

    /// The result's columns, the columns of records that are read, and those of the source.
    fn found(sql: &str) -> (Vec<String>, Vec<RecordColumn>, Vec<usize>) {
        let plan = plan_on(&["a", "b"], sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let names = plan
            .output_schema()
            .fields()
            .iter()
            .map(|field| field.name().clone());
        let columns = plan.record_columns().to_vec();
        (names.collect(), columns, plan.source_columns().to_vec())
    }

    #[test]
    fn a_star_has_the_columns_of_the_source_alone() {
        use RecordColumn::{IngestId, Shard, WindowStart};
        for (sql, names, columns, of_source) in [
            (
                "SELECT * FROM source",
                &["a", "b"][..],
                &[][..],
                &[0, 1][..],
            ),
            (
                "SELECT *, _shard FROM source",
                &["a", "b", "_shard"],
                &[Shard],
                &[0, 1],
            ),
            (
                "SELECT s.*, s.window_start FROM source s WHERE _ingest_id <> ''",
                &["a", "b", "window_start"],
                &[WindowStart, IngestId],
                &[0, 1],
            ),
            (
                "SELECT * FROM (SELECT *, _ingest_id FROM source) t",
                &["a", "b", "_ingest_id"],
                &[IngestId],
                &[0, 1],
            ),
            (
                "SELECT * EXCLUDE (b) FROM source ORDER BY _ingest_id",
                &["a"],
                &[IngestId],
                &[0],
            ),
            (
                "WITH w AS (SELECT \"window_start\" AS w, * FROM SOURCE) SELECT w, count(*) AS n FROM w GROUP BY w",
                &["w", "n"],
                &[WindowStart],
                &[],
            ),
            (
                "SELECT source.*, c.code, source._shard AS place FROM source LEFT JOIN c ON a = c.code",
                &["a", "b", "code", "place"],
                &[Shard],
                &[0, 1],
            ),
            (
                "SELECT _shard FROM source UNION ALL SELECT a FROM source",
                &["_shard"],
                &[Shard],
                &[0],
            ),
        ] {
            let expected = (
                names.iter().map(|name| (*name).to_owned()).collect(),
                columns.to_vec(),
                of_source.to_vec(),
            );
            assert_eq!(found(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_column_of_the_source_and_an_alias_go_before() {
        let own = plan_on(&["a", "_shard"], "SELECT _shard, _file FROM source").unwrap();
        assert_eq!(own.record_columns(), [RecordColumn::File]);
        assert_eq!(own.source_columns(), [1]);
        let sql = "SELECT a AS window_start, count(*) AS n FROM source GROUP BY window_start";
        assert_eq!(found(sql).1, []);
    }

    #[test]
    fn an_error_is_that_of_the_query_with_these_columns() {
        let error = |sql: &str| plan_on(&["a"], sql).unwrap_err().to_string();
        assert!(error("SELECT _shard, nothing FROM source").contains("nothing"));
        assert!(error("SELECT _shards FROM source").contains("_shards"));
        assert!(error("SELECT \"_SHARD\" FROM source").contains("_SHARD"));
    }

    #[tokio::test]
    async fn their_values_follow_those_of_the_source() {
        let sql = "SELECT _shard, b, CAST(window_start AS DATE) AS day FROM source";
        let plan = plan_on(&["a", "b"], sql).unwrap();
        assert!(!plan.whole_window());
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let start: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0]));
        let columns = vec![text("b"), start, text("shard-1")];
        let rows = RecordBatch::try_new(plan.input_schema().clone(), columns).unwrap();
        let lookups = BTreeMap::from([(
            "c".to_owned(),
            RecordBatch::new_empty(source(&["code", "_shard"])),
        )]);
        let mut open = plan.open(&lookups, 1 << 30).await.unwrap();
        open.input.push("s", rows).await.unwrap();
        open.input.close();
        let batch = open.output.next().await.unwrap().unwrap();
        let shown = arrow::util::pretty::pretty_format_batches(&[batch])
            .unwrap()
            .to_string();
        assert!(shown.contains("| shard-1 | b | 1970-01-01 |"), "{shown}");
    }
}
