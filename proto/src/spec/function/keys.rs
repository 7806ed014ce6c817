//! The keys of `[function]`, and reading them.
//!
//! Owns: names, limits, defaults, descriptions. Does not own: what they mean (`mod`).
//! Rule: as for all keys: a key that is not declared here does not exist.

use super::{
    FUNCTION_NAME_DEFAULT, Frame, FunctionPlace, FunctionSpec, KEY_COLUMNS_MAX, Per, Requirements,
};
use crate::spec::key::{Absent, Flag, Key, Part, Read as _, Size, Span, Special, Text, Word};
use crate::spec::keys::key;
use crate::spec::raw::{Entry, Table};
use crate::spec::role::RoleArn;
use crate::spec::{AssumedRole, Location, location, source};
use std::path::Path;
use std::time::Duration;

const MEMORY_DEFAULT: u64 = 1 << 30;
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

static FILE: Key<Text> = key(
    "file",
    Text,
    Absent::Means("`module` or `url`"),
    "the Python file that has it, from the folder of the job file; it is packed at submit",
);
static MODULE: Key<Text> = key(
    "module",
    Text,
    Absent::Means("`file` or `url`"),
    "the module that has it, such as `sales.transform`: the folder `sales` beside the job file is packed",
);
static URL: Key<Text> = key(
    "url",
    Text,
    Absent::Means("`file` or `module`"),
    "a function server of your own, `grpc://host:port` or `grpc+tls://host:port`, called from the workers",
);
static NAME: Key<Text> = key(
    "name",
    Text,
    Absent::Means("`process_batch`"),
    "the function's name",
);
static FRAME: Key<Word<Frame>> = key(
    "frame",
    Word(&[
        ("pandas", Frame::Pandas),
        ("polars", Frame::Polars),
        ("pyarrow", Frame::Pyarrow),
        ("pyspark", Frame::Pyspark),
    ]),
    Absent::Means("that of the first parameter's annotation, else `pandas`"),
    "the kind of frame that it takes; `pyspark` is sqlframe on DuckDB",
);
static PER: Key<Word<PerWord>> = key(
    "per",
    Word(&[
        ("window", PerWord::Window),
        ("batch", PerWord::Batch),
        ("key", PerWord::Key),
    ]),
    Absent::Is(PerWord::Window),
    "`window`: one call with all rows of the window, on one worker; `batch`: many calls with some rows each, on all workers, \
     for a function that handles each row alone; `key`: one call for each value of the columns `by`, on one worker",
);
static BY: Key<Special> = key(
    "by",
    Special(|| format!("a list of 1 to {KEY_COLUMNS_MAX} names of columns")),
    Absent::Means("no keys"),
    "for `per = \"key\"`: the columns whose values name a group of rows, for example `[\"customer\"]`; at most 100,000 groups in a window",
);
static REQUIREMENTS: Key<Text> = key(
    "requirements",
    Text,
    Absent::Means("what the workers' Python has"),
    "a file beside the job file with pinned packages and their hashes, as `uv pip compile --generate-hashes` writes it; or `uv.lock`, \
     `pyproject.toml`, or a Python file with a header of packages (PEP 723), with their lock, which need `uv` on the workers. Each worker \
     makes the environment once",
);
static WHEELS: Key<Text> = key(
    "wheels",
    Text,
    Absent::Means("the package index of the workers"),
    "a folder in S3, or one that the workers see, with the wheels of `requirements`: no package index is used then",
);
static TIMEOUT: Key<Span> = key(
    "timeout",
    Span {
        least: Duration::from_millis(100),
        most: Duration::from_secs(3_600),
    },
    Absent::Is(TIMEOUT_DEFAULT),
    "a call that takes longer is ended, and fails",
);
static MEMORY: Key<Size> = key(
    "memory",
    Size { least: 64 << 20 },
    Absent::Is(MEMORY_DEFAULT),
    "the memory of its process",
);
static NETWORK: Key<Flag> = key(
    "network",
    Flag,
    Absent::Is(false),
    "whether it may open connections",
);
static CREDENTIALS: Key<RoleArn> = key(
    "credentials",
    RoleArn,
    Absent::Means("it has none"),
    "a role whose [temporary credentials](functions.md#credentials) it is given; needs `network = true`",
);
static DETERMINISTIC: Key<Flag> = key(
    "deterministic",
    Flag,
    Absent::Is(false),
    "whether the same rows give the same result: then epochs can be computed again, by `verify --replay`, `repair` and readers of old epochs",
);
static ON_PUBLISHED: Key<Text> = key(
    "on_published",
    Text,
    Absent::Means("nothing is called"),
    "a second function of the same code, called as `on_published(epoch, objects)` after an epoch was published, in order and at least \
     once: the place for a COPY, a notice, a refresh",
);
static SCHEMA: Key<Special> = key(
    "schema",
    Special(|| "a table `[function.schema]`".to_owned()),
    Absent::Means("learned at submit, from a call without rows"),
    "the columns of its result",
);
pub(in crate::spec) static FUNCTION: Part = Part {
    title: "[function]",
    about: "[Your own function](functions.md) takes the rows of the query, or of the source if there is no `[transform]`, and returns those of \
            the sink. One of `file`, `module` and `url` names it. Workers run it only if they were started with `--functions`.",
    keys: &[
        &FILE,
        &MODULE,
        &URL,
        &NAME,
        &FRAME,
        &PER,
        &BY,
        &REQUIREMENTS,
        &WHEELS,
        &TIMEOUT,
        &MEMORY,
        &NETWORK,
        &CREDENTIALS,
        &DETERMINISTIC,
        &ON_PUBLISHED,
        &SCHEMA,
    ],
};

static COLUMN: Key<Special> = key(
    "*column*",
    Special(|| "a Hive type, as in `[source.schema]`".to_owned()),
    Absent::Means("at least one column"),
    "a column of the function's result and its type",
);
pub(in crate::spec) static FUNCTION_SCHEMA: Part = Part {
    title: "[function.schema]",
    about: "One line per column. A result with other columns, or with values that do not fit, fails and names the column.",
    keys: &[&COLUMN],
};

/// Reads the table. `None`: there is a problem, which is logged.
pub(in crate::spec) fn read(mut table: Table<'_>, base_dir: Option<&Path>) -> Option<FunctionSpec> {
    let place = place(&mut table);
    let name = match table.entry(&NAME) {
        Some(entry) => name(&entry),
        None => Some(FUNCTION_NAME_DEFAULT.to_owned()),
    };
    let frame = table.optional(&FRAME);
    let per = per(&mut table);
    let requirements = match table.entry(&REQUIREMENTS) {
        Some(entry) => requirements(&entry, place.as_ref()).map(Some),
        None => Some(None),
    };
    let wheels = match table.entry(&WHEELS) {
        Some(entry) => wheels(&entry, requirements.as_ref(), base_dir).map(Some),
        None => Some(None),
    };
    let timeout = table.value(&TIMEOUT);
    let memory_bytes = table.value(&MEMORY);
    let network = table.value(&NETWORK);
    let credentials = match table.entry(&CREDENTIALS) {
        Some(entry) => credentials(&entry, place.as_ref(), network).map(Some),
        None => Some(None),
    };
    let deterministic = table.value(&DETERMINISTIC);
    if let (Some(Some(Frame::Pyspark)), Some(Per::Key(_))) = (&frame, &per) {
        table.refuse(
            "frame = \"pyspark\" cannot be called per key",
            "set frame = \"pandas\", as applyInPandas does",
        );
    }
    let on_published = match table.entry(&ON_PUBLISHED) {
        Some(entry) => on_published(&entry, place.as_ref()).map(Some),
        None => Some(None),
    };
    let schema = match table.entry(&SCHEMA) {
        Some(entry) => entry.table().and_then(|table| source::columns(&table)),
        None => Some(vec![]),
    };
    table.finish(|_| None);
    Some(FunctionSpec {
        place: place?,
        name: name?,
        frame: frame?,
        per: per?,
        requirements: requirements?,
        wheels: wheels?,
        timeout: timeout?,
        memory_bytes: memory_bytes?,
        network: network?,
        credentials: credentials?,
        deterministic: deterministic?,
        on_published: on_published?,
        schema: schema?,
    })
}

/// `per` without the columns of `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PerWord {
    Window,
    Batch,
    Key,
}

fn per(table: &mut Table<'_>) -> Option<Per> {
    let word = table.value(&PER);
    let by = table.entry(&BY);
    match (word?, by) {
        (PerWord::Window, None) => Some(Per::Window),
        (PerWord::Batch, None) => Some(Per::Batch),
        (PerWord::Key, Some(by)) => key_columns(&by).map(Per::Key),
        (PerWord::Key, None) => {
            table.refuse(
                "per = \"key\" does not name the columns of the key",
                "add by = [\"customer\"]",
            );
            None
        }
        (PerWord::Window | PerWord::Batch, Some(by)) => {
            by.refuse(
                "by names the columns of a key, and calls are not per key",
                "add per = \"key\", or remove by",
            );
            None
        }
    }
}

fn key_columns(entry: &Entry<'_>) -> Option<Vec<String>> {
    let example = "for example by = [\"customer\"]";
    let elements = entry.elements(example)?;
    let names = elements.iter().map(|element| element.text(example));
    let names: Vec<String> = names
        .map(|name| name.map(str::to_owned))
        .collect::<Option<_>>()?;
    let problem = match names.as_slice() {
        [] => Some("names no column".to_owned()),
        names if names.len() > KEY_COLUMNS_MAX => {
            Some(format!("names more than {KEY_COLUMNS_MAX} columns"))
        }
        names => names
            .iter()
            .enumerate()
            .find(|(at, name)| name.is_empty() || names[..*at].contains(*name))
            .map(|(_, name)| format!("names the column {name:?} twice, or without a name")),
    };
    match problem {
        None => Some(names),
        Some(problem) => {
            entry.refuse(problem, example);
            None
        }
    }
}

fn place(table: &mut Table<'_>) -> Option<FunctionPlace> {
    let entries = [table.entry(&FILE), table.entry(&MODULE), table.entry(&URL)];
    let [file, module, url] = &entries;
    if entries.iter().flatten().count() > 1 {
        let second = entries.iter().flatten().nth(1)?;
        second.refuse(
            "the function is named twice",
            "keep one of file, module and url",
        );
        return None;
    }
    if let Some(entry) = file {
        return file_path(entry).map(FunctionPlace::File);
    }
    if let Some(entry) = module {
        return module_name(entry).map(FunctionPlace::Module);
    }
    if let Some(entry) = url {
        return server(entry).map(FunctionPlace::Url);
    }
    table.refuse(
        "does not say where the function is",
        "add file = \"transform.py\"",
    );
    None
}

/// A path below the job file's folder: what is packed has no other place.
fn relative<'a>(entry: &Entry<'a>, example: &str) -> Option<&'a str> {
    let text = entry.text(example)?;
    let is_inside = !text.starts_with(['/', '~'])
        && text
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control));
    if !is_inside {
        entry.refuse(
            format_args!("{text:?} is not a path below the folder of the job file"),
            "put the file beside the job file, and name it without `./`",
        );
    }
    is_inside.then_some(text)
}

fn file_path(entry: &Entry<'_>) -> Option<String> {
    let text = relative(entry, "for example file = \"transform.py\"")?;
    let name = text.rsplit('/').next().unwrap_or(text);
    if !name.strip_suffix(".py").is_some_and(is_identifier) {
        entry.refuse(
            format_args!("{name:?} is not the name of a Python file"),
            "letters, digits and `_`, then .py: \"transform.py\"",
        );
        return None;
    }
    Some(text.to_owned())
}

fn module_name(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("for example module = \"sales.transform\"")?;
    if !text.split('.').all(is_identifier) || text.ends_with(".py") {
        let hint = match text.ends_with(".py") {
            true => "a file is named by file = \"...\"",
            false => "names with dots between them: \"sales.transform\"",
        };
        entry.refuse(
            format_args!("{text:?} is not the name of a Python module"),
            hint,
        );
        return None;
    }
    Some(text.to_owned())
}

fn name(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("for example name = \"process_batch\"")?;
    if !is_identifier(text) {
        entry.refuse(
            format_args!("{text:?} is not the name of a Python function"),
            "letters, digits and `_`; no digit first",
        );
        return None;
    }
    Some(text.to_owned())
}

fn on_published(entry: &Entry<'_>, place: Option<&FunctionPlace>) -> Option<String> {
    if matches!(place, Some(FunctionPlace::Url(_))) {
        entry.refuse(
            "is for functions that run on the workers",
            "remove it: a function server is not called after publishing",
        );
        return None;
    }
    name(entry)
}

fn requirements(entry: &Entry<'_>, place: Option<&FunctionPlace>) -> Option<Requirements> {
    if matches!(place, Some(FunctionPlace::Url(_))) {
        entry.refuse(
            "is for functions that run on the workers",
            "remove it: a function server has its own environment",
        );
        return None;
    }
    let text = relative(entry, "for example requirements = \"requirements.txt\"")?;
    let requirements = Requirements::new(text);
    if requirements.is_none() {
        entry.refuse(
            format_args!("{text:?} is not a file of requirements"),
            "it is a .txt file, uv.lock, pyproject.toml or a .py file with a header; write one with: \
             uv pip compile --generate-hashes requirements.in -o requirements.txt",
        );
    }
    requirements
}

fn credentials(
    entry: &Entry<'_>,
    place: Option<&FunctionPlace>,
    network: Option<bool>,
) -> Option<AssumedRole> {
    if matches!(place, Some(FunctionPlace::Url(_))) {
        entry.refuse(
            "is for functions that run on the workers",
            "remove it: a function server has its own credentials",
        );
        return None;
    }
    if network == Some(false) {
        entry.refuse(
            "are of no use: the function can call no service without a network",
            "add network = true, or remove credentials",
        );
        return None;
    }
    let role_arn = CREDENTIALS.kind.read(entry)?;
    Some(AssumedRole::new(&role_arn))
}

fn wheels(
    entry: &Entry<'_>,
    requirements: Option<&Option<Requirements>>,
    base_dir: Option<&Path>,
) -> Option<Location> {
    if matches!(requirements, Some(None)) {
        entry.refuse(
            "are those of requirements, and there are none",
            "add requirements = \"requirements.txt\", or remove wheels",
        );
        return None;
    }
    location::folder(entry, base_dir)
}

fn server(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("for example url = \"grpc://functions:5005\"")?;
    let rest = ["grpc://", "grpc+tls://"]
        .into_iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    let port = rest.and_then(|rest| rest.rsplit_once(':'));
    let is_address = port.is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(['/', '@', '?', '#'])
            && !host.chars().any(|c| c.is_control() || c.is_whitespace())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_address {
        entry.refuse(
            format_args!("{text:?} is not the address of a function server"),
            "grpc://host:port or grpc+tls://host:port",
        );
        return None;
    }
    Some(text.to_owned())
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    begins && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
