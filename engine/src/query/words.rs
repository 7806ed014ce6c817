//! The planner's errors as messages for the author of a job file.
//!
//! Owns: the message, the advice, the line of the query. Does not own: what is refused (`sql`).
//! Rule: the planner's internals never show: no prefixes, no dumps of its trees, no reports of its
//! bugs.

use super::error::QueryError;
use super::phrase::{closest, plain};
use super::{SOURCE, functions, limits, spark};
use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use streamctl_proto::spec::Dialect;

const TYPES: &str = "VARCHAR, BIGINT, INT, SMALLINT, TINYINT, DOUBLE, FLOAT, DECIMAL(38, 10), BOOLEAN, DATE, TIMESTAMP, BYTEA";

/// The query as written.
pub(super) struct Written<'a> {
    pub sql: &'a str,
    pub dialect: Dialect,
    /// Name and columns of each table.
    pub tables: &'a [(&'a str, &'a SchemaRef)],
    /// The names of all functions.
    pub functions: Vec<String>,
}

impl Written<'_> {
    /// An error of the parser or the planner.
    pub(super) fn explain(&self, error: &DataFusionError) -> QueryError {
        if let DataFusionError::Collection(errors) = error
            && let Some(first) = errors.first()
        {
            return self.explain(first);
        }
        let reported = match error.find_root() {
            DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
                SchemaError::FieldNotFound {
                    field,
                    valid_fields,
                } => self.unknown_column(field, valid_fields),
                SchemaError::AmbiguousReference { field } => ambiguous(field),
                other => QueryError::sql(other.to_string(), None),
            },
            DataFusionError::External(inner) if inner.is::<spark::Refusal>() => {
                match inner.downcast_ref::<spark::Refusal>() {
                    Some(refusal) => self.refusal(refusal),
                    None => self.translated(&inner.to_string()),
                }
            }
            DataFusionError::SQL(parser, _) if **parser == ParserError::RecursionLimitExceeded => {
                limits::too_nested()
            }
            DataFusionError::SQL(parser, _) => self.unreadable(&parser.to_string()),
            root => self.translated(
                root.message()
                    .split(DataFusionError::BACK_TRACE_SEP)
                    .next()
                    .unwrap_or_default(),
            ),
        };
        reported.on_line(spot(error))
    }

    /// What a dialect refuses, with the line of the word that the message begins with.
    fn refusal(&self, refusal: &spark::Refusal) -> QueryError {
        let error = QueryError::sql(refusal.message.clone(), Some(refusal.hint.clone()));
        let word = refusal
            .message
            .split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .next()
            .unwrap_or_default();
        if word.is_empty() {
            error
        } else {
            error.on_line(self.line_with(word))
        }
    }

    /// The error with the line on which the named part first occurs, if that is known.
    pub(super) fn located(&self, error: QueryError) -> QueryError {
        let QueryError::Sql { message, .. } = &error else {
            return error;
        };
        let line = message
            .split_once(' ')
            .and_then(|(word, _)| self.line_with(word));
        error.on_line(line)
    }

    /// The only line that contains this word.
    pub(super) fn line_with(&self, word: &str) -> Option<usize> {
        let word = word.to_lowercase();
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let has = |line: &str| {
            let line = line.to_lowercase();
            line.match_indices(&word).any(|(at, _)| {
                let after = line[at + word.len()..].chars().next();
                !line[..at].ends_with(part_of_word) && !after.is_some_and(part_of_word)
            })
        };
        let mut lines = self
            .sql
            .lines()
            .enumerate()
            .filter(|(_, line)| has(line))
            .map(|(index, _)| index + 1);
        let line = lines.next()?;
        lines.next().is_none().then_some(line)
    }

    /// A syntax error. The parser's text contains the place.
    fn unreadable(&self, text: &str) -> QueryError {
        let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
        let (message, place) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
        let line = place.split(',').next().and_then(|line| line.parse().ok());
        if let Some(before) = message.strip_suffix(", found: EOF") {
            let message = format!("{before}, but the query ends");
            return QueryError::sql(message, None)
                .on_line(Some(self.sql.trim_end().lines().count().max(1)));
        }
        let found = message.rsplit_once(", found: ").map(|(_, word)| word);
        let meant = found.and_then(keyword_like);
        let hint = meant.map(|keyword| format!("did you mean {keyword}?"));
        QueryError::sql(message, hint).on_line(line)
    }

    /// Errors that the planner reports only as text.
    fn translated(&self, text: &str) -> QueryError {
        if let Some(call) = between(text, "given name and argument types '", "'") {
            return self.no_such_call(call, text);
        }
        let text = &*plain(text);
        if let Some(name) = between(text, "Invalid function '", "'") {
            let hint = functions::instead(name, &self.functions);
            return QueryError::sql(format!("there is no function {name}()"), Some(hint))
                .on_line(self.line_with(name));
        }
        if let Some(name) = text.strip_prefix("Unsupported SQL type ") {
            return QueryError::sql(
                format!("there is no type {name}"),
                Some(format!("the types are: {TYPES}")),
            )
            .on_line(self.line_with(name));
        }
        if let Some(column) = between(text, "expanding wildcard, column \"", "\"") {
            let message =
                format!("{column} is neither in GROUP BY nor inside an aggregate function");
            return QueryError::sql(
                message,
                Some(format!("add it to GROUP BY, or write max({column})")),
            );
        }
        if let Some((condition, kind)) = text
            .strip_prefix("Cannot create filter with non-boolean predicate '")
            .and_then(|rest| rest.split_once("' returning "))
        {
            let message =
                format!("{condition} is no condition: it is {kind}, and not true or false");
            return QueryError::sql(
                message,
                Some("compare it with something, as in country = 'Peru'".into()),
            );
        }
        if text.contains("InSubquery(") {
            let hint = "join the lookup: LEFT JOIN t ON t.x = s.x, and t.x IS NOT NULL AS found";
            return QueryError::sql(
                "x IN (SELECT ...) is only possible as a condition, with AND between it and others",
                Some(hint.into()),
            );
        }
        if text.contains("null_aware anti join") {
            let hint = "write NOT EXISTS (SELECT 1 FROM t WHERE t.x = s.x AND ...)";
            return QueryError::sql(
                "NOT IN (SELECT ...) whose SELECT has a condition on the outer row cannot be executed",
                Some(hint.into()),
            );
        }
        let said = if text.starts_with("Dot access") {
            "fields of a struct are not reached by a dot"
        } else {
            text
        };
        QueryError::sql(said, hint(text).map(Into::into))
    }

    /// The function exists but does not accept these arguments.
    fn no_such_call(&self, call: &str, text: &str) -> QueryError {
        let (name, given) = call.split_once('(').unwrap_or((call, ")"));
        let takes: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix('\t'))
            .filter(|line| line.contains('('))
            .collect();
        let cast = match self.dialect {
            Dialect::Datafusion => {
                "a text becomes a number by TRY_CAST(column AS DOUBLE), anything becomes text by CAST(column AS VARCHAR)"
            }
            Dialect::Spark => {
                "a text becomes a number by CAST(column AS DOUBLE), anything becomes text by CAST(column AS STRING)"
            }
        };
        let hint = match takes.is_empty() {
            true => cast.to_owned(),
            false => format!("it takes {}; {cast}", takes.join(" or ")),
        };
        QueryError::sql(format!("{name}() does not take ({given}"), Some(hint))
            .on_line(self.line_with(name))
    }

    fn unknown_column(&self, field: &Column, valid: &[Column]) -> QueryError {
        let line = field
            .spans()
            .first()
            .and_then(|span| usize::try_from(span.start.line).ok());
        self.unknown(field, valid)
            .on_line(line)
            .on_line(self.line_with(&field.name))
    }

    fn unknown(&self, field: &Column, valid: &[Column]) -> QueryError {
        if let Some(table) = &field.relation
            && !valid.is_empty()
            && !valid
                .iter()
                .any(|column| column.relation.as_ref() == Some(table))
        {
            let mut names: Vec<String> = valid
                .iter()
                .filter_map(|column| Some(column.relation.as_ref()?.to_string()))
                .collect();
            names.dedup();
            let hint = format!(
                "the tables there are: {}; one that was given another name has only that one",
                names.join(", ")
            );
            return QueryError::sql(
                format!(
                    "there is no table {table} where {table}.{} is written",
                    field.name
                ),
                Some(hint),
            );
        }
        let of = field
            .relation
            .as_ref()
            .map(|table| format!(" in {table}"))
            .unwrap_or_default();
        let message = format!("there is no column {:?}{of}", field.name);
        let of_table =
            |column: &&Column| field.relation.is_none() || column.relation == field.relation;
        let mut names: Vec<&str> = valid
            .iter()
            .filter(of_table)
            .map(|column| column.name.as_str())
            .collect();
        if names.is_empty() {
            let all = self.tables.iter().flat_map(|(_, schema)| schema.fields());
            names = all.map(|field| field.name().as_str()).collect();
        }
        let is_quoted = self.dialect == Dialect::Datafusion
            && self.sql.contains(&format!("\"{}\"", field.name));
        let hint = match closest(&field.name, names.iter().copied()) {
            Some(name) if name != name.to_lowercase() && self.dialect == Dialect::Datafusion => {
                format!("did you mean \"{name}\"? Names with capitals are written in double quotes")
            }
            Some(name) => format!("did you mean {name}?"),
            None => format!("the columns are: {}", names.join(", ")),
        };
        let hint = match is_quoted {
            true => format!(
                "{hint}; a text is written in single quotes: '{}'",
                field.name
            ),
            false => hint,
        };
        QueryError::sql(message, Some(hint))
    }
}

fn ambiguous(field: &Column) -> QueryError {
    let hint = format!(
        "write the table's name before it, as in {SOURCE}.{}",
        field.name
    );
    QueryError::sql(
        format!("several tables have a column {:?}", field.name),
        Some(hint),
    )
}

/// The line in the planner's error.
fn spot(error: &DataFusionError) -> Option<usize> {
    let mut here = Some(error);
    while let Some(error) = here {
        if let DataFusionError::Diagnostic(diagnostic, _) = error {
            let notes = diagnostic.notes.iter().filter_map(|note| note.span);
            if let Some(span) = diagnostic.span.into_iter().chain(notes).next() {
                return usize::try_from(span.start.line).ok();
            }
        }
        here = match error {
            DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => {
                Some(inner)
            }
            DataFusionError::Shared(inner) => Some(inner),
            DataFusionError::Collection(errors) => errors.first(),
            _ => None,
        };
    }
    None
}

/// The keyword that a word is like: with one letter more, less or wrong, or with letters exchanged.
fn keyword_like(word: &str) -> Option<&'static str> {
    const KEYWORDS: [&str; 14] = [
        "SELECT", "DISTINCT", "FROM", "JOIN", "LEFT", "INNER", "CROSS", "WHERE", "GROUP", "HAVING",
        "ORDER", "LIMIT", "UNION", "WITH",
    ];
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.to_uppercase().chars().collect();
        letters.sort_unstable();
        letters
    };
    let exchanged = KEYWORDS
        .into_iter()
        .find(|keyword| letters(keyword) == letters(word));
    let like = exchanged.or_else(|| closest(word, KEYWORDS));
    like.filter(|keyword| !keyword.eq_ignore_ascii_case(word))
}

/// Advice for some errors that are reported unchanged.
fn hint(text: &str) -> Option<&'static str> {
    let hints = [
        (
            "logical expression ScalarSubquery",
            "this kind of subquery cannot be executed; write it as a join",
        ),
        (
            "coerce arithmetic expression",
            "make numbers of texts first: TRY_CAST(column AS DOUBLE)",
        ),
        (
            "common type to coerce",
            "cast one of them: CAST(column AS VARCHAR)",
        ),
        (
            "common argument type for comparison",
            "cast one of them: CAST(column AS VARCHAR)",
        ),
        (
            "compatible types to compare",
            "cast some of them: CAST(column AS VARCHAR)",
        ),
        (
            "HAVING clause references",
            "conditions on single rows are written after WHERE; HAVING is for groups",
        ),
        (
            "Dot access",
            "a struct is text with its JSON: json_get_str(column, 'key', 'inner key')",
        ),
        (
            "Cannot access field",
            "a struct is text with its JSON: json_get_str(column, 'key', 'inner key')",
        ),
        (
            "LATERAL VIEW",
            "write unnest(list) AS element in the SELECT",
        ),
        (
            "unnest() can only",
            "a list is text with its JSON: unnest(json_get_array(column))",
        ),
        (
            "unique expression names",
            "give one of them another name: ... AS other_name",
        ),
        (
            "Unexpected argument type to 'json",
            "they read text: a field of a struct is column.field, and to_json(column) its text; else CAST(column AS VARCHAR)",
        ),
        (
            "Operator ->",
            "read JSON by functions: json_get_str(column, 'key', 'inner key')",
        ),
        (
            "was not provided a value",
            "write the value itself into the query",
        ),
    ];
    hints
        .into_iter()
        .find(|(part, _)| text.contains(part))
        .map(|(_, hint)| hint)
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    text.split_once(begin)?
        .1
        .split_once(end)
        .map(|(inner, _)| inner)
}

#[cfg(test)]
pub(super) mod tests;
