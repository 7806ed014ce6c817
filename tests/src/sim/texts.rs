//! The job files that a user submits for one job: the first one, and its changes.
//!
//! Owns: which parts of a job change in a story, and the identity of each text. Does not own: when
//! (`chaos`), the verdict (`oracle`).
//! Rule: every row contains the number of the text that made it, so that the verdict can compare it
//! with its manifest.

use super::function::{SCHEMA, SCHEMA_OF_LOOKUP};
use super::job;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use streamctl_proto::JobName;
use streamctl_proto::manifest::sha256_hex;

/// Window sizes of a story, in milliseconds.
const WINDOWS_MS: [i64; 4] = [500, 1_000, 2_000, 3_000];

/// The settings of a job file in a story.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its number, from 1: its rows contain this number.
    pub number: u64,
    pub file: String,
    pub window_ms: i64,
}

/// The common settings of all texts of a job.
#[derive(Clone, Debug)]
pub struct Common {
    /// Its name, and the name of its stream.
    pub job: JobName,
    /// The query joins with a lookup.
    pub joins: bool,
    /// Its output has a folder for each key.
    pub partitioned: bool,
    /// `poll_interval`.
    pub interval: &'static str,
    /// `max_records_per_read`.
    pub records: u32,
    /// `[retry] max`.
    pub retries: u32,
    /// It keeps its history for a minute only; clocks jump by more.
    pub forgets: bool,
    /// A record that its query cannot take fails its window.
    pub fails_on_bad_rows: bool,
    /// Its rows go through a function, called as often as `per` of the first text requires.
    pub function: Option<&'static str>,
}

/// All texts of a job, by the digest of the file.
#[derive(Debug)]
pub struct Texts {
    common: Common,
    made: Mutex<BTreeMap<String, Text>>,
}

impl Texts {
    pub fn new(common: Common, window_ms: i64, whole_window: bool) -> Self {
        let texts = Self {
            common,
            made: Mutex::default(),
        };
        texts.add(window_ms, whole_window, false);
        texts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Text>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn first(&self) -> Text {
        let first = self.lock().values().find(|text| text.number == 1).cloned();
        first.expect("it is made with the first one")
    }

    /// The text of this digest.
    pub fn of(&self, digest: &str) -> Option<Text> {
        self.lock().get(digest).cloned()
    }

    /// A random change: another query, perhaps other windows, another folder.
    pub fn change(&self, rng: &mut fastrand::Rng, last: &Text) -> Text {
        let window_ms = if rng.u8(0..4) == 0 {
            WINDOWS_MS[rng.usize(0..WINDOWS_MS.len())]
        } else {
            last.window_ms
        };
        self.add(window_ms, rng.u8(0..6) == 0, rng.bool())
    }

    fn add(&self, window_ms: i64, whole_window: bool, moves: bool) -> Text {
        let Common {
            job,
            joins,
            partitioned,
            interval,
            records,
            retries,
            forgets,
            fails_on_bad_rows,
            function,
        } = &self.common;
        let mut made = self.lock();
        let number = made.len() as u64 + 1;
        let order = if whole_window { " ORDER BY s.id" } else { "" };
        let sql = match joins {
            true => format!(
                "SELECT s.id, s.k, CAST(s.n AS INT) AS n, n.v, {number} AS made_by FROM source s LEFT JOIN names n ON s.k = n.k{order}"
            ),
            false => format!("SELECT id, k, CAST(n AS INT) AS n, {number} AS made_by FROM source"),
        };
        let lookup = match joins {
            true => format!(
                "[[lookup]]\nname = \"names\"\npath = \"{}\"\nformat = \"csv\"\nrefresh = \"2s\"\n",
                job::lookup(job)
            ),
            false => String::new(),
        };
        let folders = if *partitioned {
            "partition_by = [\"k\"]\n"
        } else {
            ""
        };
        let on_query_error = if *fails_on_bad_rows {
            "on_query_error = \"fail\"\n"
        } else {
            ""
        };
        let function = match function {
            None => String::new(),
            Some(per) => {
                let lookup = if *joins { SCHEMA_OF_LOOKUP } else { "" };
                format!(
                    "[function]\nurl = \"grpc://functions:1\"\ntimeout = \"2s\"\n{per}{SCHEMA}{lookup}"
                )
            }
        };
        let sink = job::sink(job);
        let sink = if moves {
            format!("{sink}{number}/")
        } else {
            sink
        };
        let checkpoint = job::checkpoint(job).as_str().to_owned();
        let keep = if *forgets { "keep = \"1m\"\n" } else { "" };
        let file = format!(
            "name = \"{job}\"\n[source]\ntype = \"kinesis\"\nstream = \"{job}\"\nstarting_position = \"trim_horizon\"\n\
             poll_interval = \"{interval}\"\nmax_records_per_read = {records}\n[source.schema]\nid = \"string\"\nk = \"string\"\nn = \"string\"\n\
             [window]\nsize = \"{window_ms}ms\"\n{lookup}[transform]\n{on_query_error}sql = \"{sql}\"\n{function}[sink]\npath = \"{sink}\"\n\
             format = \"json\"\ncompression = \"none\"\n{folders}[checkpoint]\nlocation = \"{checkpoint}\"\n{keep}[retry]\nmax = {retries}\n"
        );
        let text = Text {
            number,
            file,
            window_ms,
        };
        made.insert(sha256_hex(text.file.as_bytes()), text.clone());
        text
    }
}
