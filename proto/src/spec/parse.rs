//! From the text of a job file to a checked [`JobSpec`].
//!
//! Owns: the tables of a job file except `[source]` and `[sink]`. Does not own: keys, limits and
//! defaults (`keys`), how a value is read (`key`, `raw`), the source (`source`), the sink (`sink`).
//! Rule: every problem is found in one pass; a [`JobSpec`] is made only if there is none.

use super::key::{Key, Special};
use super::keys::LOOKUPS_MAX;
use super::location::{self, Named};
use super::raw::{Entry, Log, Table};
use super::{
    Dialect, JobSpec, Location, LookupCsv, LookupFormat, LookupSpec, Problem, Problems, QueryErrors,
};
use super::{function, keys, role, sink, source};
use crate::{JobName, WindowSize};
use std::path::Path;

/// Longest job file: it is sent in one message and stored in one key of the store.
pub const JOB_FILE_BYTES_MAX: usize = 1 << 20;

impl JobSpec {
    /// Parses and validates a job file; reports every problem, not just the first. Relative paths
    /// are refused: a cluster has no folder to resolve them against.
    pub fn parse(text: &str) -> Result<JobSpec, Problems> {
        parse(text, None)
    }

    /// The same; relative paths are resolved against `base_dir`, which must be absolute.
    pub fn parse_in(text: &str, base_dir: &Path) -> Result<JobSpec, Problems> {
        parse(text, Some(base_dir))
    }
}

fn parse(text: &str, base_dir: Option<&Path>) -> Result<JobSpec, Problems> {
    let log = Log::new(text);
    if text.len() > JOB_FILE_BYTES_MAX {
        log.add(
            None,
            "",
            format_args!(
                "the job file has {} bytes, at most {JOB_FILE_BYTES_MAX} are read",
                text.len()
            ),
            None,
        );
        return Err(Problems(log.into_problems()));
    }
    let (document, errors) = toml::de::DeTable::parse_recoverable(text);
    for error in &errors {
        log.add(
            error.span().map(|span| log.line(&span)),
            "",
            format_args!("not TOML: {}", error.message()),
            None,
        );
    }
    let spec = if errors.is_empty() {
        job(Table::root(&log, document.get_ref()), base_dir)
    } else {
        None
    };
    let problems = log.into_problems();
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ if problems.is_empty() => {
            let message = "cannot be read, and nothing says why: this is a defect of streamctl";
            Err(Problems(vec![Problem::new("", message, None)]))
        }
        _ => Err(Problems(problems)),
    }
}

fn job(mut root: Table<'_>, base_dir: Option<&Path>) -> Option<JobSpec> {
    let mut places = Vec::new();
    let name = root.entry(&keys::NAME).and_then(|entry| name(&entry));
    let source = table(&mut root, &keys::SOURCE_TABLE)
        .and_then(|table| source::source(table, base_dir, &mut places));
    let window = table(&mut root, &keys::WINDOW_TABLE).and_then(window);
    let lookups = match root.entry(&keys::LOOKUPS) {
        Some(entry) => lookups(&entry, base_dir, &mut places),
        None => Some(Vec::new()),
    };
    let function = match root.entry(&keys::FUNCTION_TABLE) {
        Some(entry) => {
            let table = entry.table();
            table
                .and_then(|table| function::read(table, base_dir))
                .map(Some)
        }
        None => Some(None),
    };
    // Rows that only the function handles need no query.
    let has_function = root.has(keys::FUNCTION_TABLE.name);
    let transform = match root.get(keys::TRANSFORM_TABLE.name) {
        None if has_function => default_transform(),
        _ => table(&mut root, &keys::TRANSFORM_TABLE).and_then(transform),
    };
    let sink = table(&mut root, &keys::SINK_TABLE)
        .and_then(|table| sink::sink(table, base_dir, &mut places));
    let dead_letter = match root
        .entry(&keys::DEAD_LETTER_TABLE)
        .map(|entry| entry.table())
    {
        Some(table) => {
            written_folder(table?, &keys::DEAD_LETTER_PATH, base_dir, &mut places).map(Some)
        }
        None => Some(None),
    };
    let checkpoint = table(&mut root, &keys::CHECKPOINT_TABLE);
    let checkpoint = checkpoint.and_then(|mut table| {
        let keep = table.value(&keys::KEEP);
        let location = written_folder(table, &keys::LOCATION, base_dir, &mut places);
        Some((location?, keep?))
    });
    let retries_max = match root.entry(&keys::RETRY_TABLE).map(|entry| entry.table()) {
        Some(table) => retry(table?),
        None => keys::RETRIES.default(),
    };
    root.finish(|_| None);
    location::refuse_overlaps(&places);
    location::refuse_long(&places, name.as_ref());
    let (sql, dialect, query_errors) = transform?;
    let (checkpoint, keep) = checkpoint?;
    Some(JobSpec {
        name: name?,
        source: source?,
        window: window?,
        lookups: lookups?,
        sql,
        dialect,
        function: function?,
        sink: sink?,
        dead_letter: dead_letter?,
        checkpoint,
        retries_max: u32::try_from(retries_max?).ok()?,
        query_errors,
        keep,
    })
}

fn table<'a>(root: &mut Table<'a>, key: &'static Key<Special>) -> Option<Table<'a>> {
    root.entry(key)?.table()
}

fn name(entry: &Entry<'_>) -> Option<JobName> {
    let text = entry.text("for example \"sales-by-country\"")?;
    text.parse()
        .map_err(|error| entry.refuse(error, "for example \"sales-by-country\""))
        .ok()
}

fn window(mut table: Table<'_>) -> Option<WindowSize> {
    let size = table.value(&keys::WINDOW_SIZE);
    table.finish(|_| None);
    WindowSize::from_ms(i64::try_from(size?.as_millis()).ok()?)
}

/// All columns of the source.
fn default_transform() -> Option<(String, Dialect, QueryErrors)> {
    let sql = "SELECT * FROM source".to_owned();
    Some((sql, keys::DIALECT.default()?, QueryErrors::default()))
}

fn transform(mut table: Table<'_>) -> Option<(String, Dialect, QueryErrors)> {
    let sql = table.value(&keys::SQL);
    let on = table.value(&keys::ON_QUERY_ERROR);
    let max_bad_ppm = table.value(&keys::MAX_BAD_SHARE);
    let dialect = table.value(&keys::DIALECT);
    table.finish(|_| None);
    let errors = QueryErrors {
        on: on?,
        max_bad_ppm: max_bad_ppm?,
    };
    Some((sql?, dialect?, errors))
}

fn retry(mut table: Table<'_>) -> Option<u64> {
    let max = table.value(&keys::RETRIES);
    table.finish(|_| None);
    max
}

fn written_folder<'a>(
    mut table: Table<'a>,
    key: &'static Key<Special>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<Location> {
    let entry = table.entry(key);
    table.finish(|_| None);
    let entry = entry?;
    let place = location::folder(&entry, base_dir)?;
    places.push(Named {
        entry,
        place: place.clone(),
        written: true,
    });
    Some(place)
}

fn lookups<'a>(
    entry: &Entry<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
) -> Option<Vec<LookupSpec>> {
    let elements = entry.elements("begin each lookup with [[lookup]], in double brackets")?;
    if elements.len() > LOOKUPS_MAX {
        entry.refuse(
            format_args!(
                "there are {} lookups, at most {LOOKUPS_MAX} are possible",
                elements.len()
            ),
            "",
        );
        return None;
    }
    let mut names: Vec<String> = vec!["source".to_owned()];
    let read = elements
        .iter()
        .map(|element| lookup(element.table()?, base_dir, places, &mut names))
        .collect::<Vec<_>>();
    read.into_iter().collect()
}

fn lookup<'a>(
    mut table: Table<'a>,
    base_dir: Option<&Path>,
    places: &mut Vec<Named<'a>>,
    names: &mut Vec<String>,
) -> Option<LookupSpec> {
    let name = table
        .entry(&keys::LOOKUP_NAME)
        .and_then(|entry| lookup_name(&entry, names));
    let path = table.entry(&keys::LOOKUP_PATH).and_then(|entry| {
        let place = location::input_folder(&entry, base_dir)?;
        places.push(Named {
            entry,
            place: place.clone(),
            written: false,
        });
        Some(place)
    });
    let role = role::read(&mut table, location::is_local(path.as_ref()));
    let format = table.value(&keys::LOOKUP_FORMAT);
    let refresh = table.value(&keys::REFRESH);
    let size_max = table.value(&keys::SIZE_MAX);
    let allow_empty = table.value(&keys::ALLOW_EMPTY);
    let csv = lookup_csv(&mut table, format);
    let schema = match table.entry(&keys::LOOKUP_SCHEMA) {
        Some(entry) => entry.table().and_then(|table| source::columns(&table)),
        None => Some(vec![]),
    };
    table.finish(|_| None);
    Some(LookupSpec {
        role: role?,
        refresh: refresh?,
        size_max: size_max?,
        allow_empty: allow_empty?,
        csv: csv?,
        schema: schema?,
        ..LookupSpec::new(&name?, path?, format?)
    })
}

/// How CSV files are written. The keys are for CSV only.
fn lookup_csv(table: &mut Table<'_>, format: Option<LookupFormat>) -> Option<LookupCsv> {
    if format == Some(LookupFormat::Parquet) {
        for key in ["delimiter", "quote", "encoding", "null_text"] {
            if let Some(entry) = table.get(key) {
                entry.refuse("is for format = \"csv\" only", "remove it");
            }
        }
        return Some(LookupCsv::default());
    }
    let delimiter = table.value(&keys::LOOKUP_DELIMITER);
    let quote = table.value(&keys::LOOKUP_QUOTE);
    let encoding = table.value(&keys::LOOKUP_ENCODING);
    let null_text = table.optional(&keys::LOOKUP_NULL_TEXT);
    if delimiter.is_some() && delimiter == quote {
        table.refuse(
            "delimiter and quote are the same character",
            "choose another quote",
        );
    }
    Some(LookupCsv {
        delimiter: delimiter?,
        quote: quote?,
        encoding: encoding?,
        null_text: null_text?.unwrap_or_default(),
    })
}

fn lookup_name(entry: &Entry<'_>, names: &mut Vec<String>) -> Option<String> {
    let text = entry.text("")?;
    let mut chars = text.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        entry.refuse(
            format_args!("{text:?} is not a name that SQL knows without quotes"),
            "letters, digits and `_`; no digit first",
        );
        return None;
    }
    if names.iter().any(|name| name.eq_ignore_ascii_case(text)) {
        let holder = if text.eq_ignore_ascii_case("source") {
            "the stream's records"
        } else {
            "another lookup"
        };
        entry.refuse(
            format_args!("{text:?} is already the name of {holder}"),
            "give it another name",
        );
        return None;
    }
    names.push(text.to_owned());
    Some(text.to_owned())
}
