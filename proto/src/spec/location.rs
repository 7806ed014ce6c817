//! Locations in S3 and in the local file system, as written in a job file.
//!
//! Owns: which texts are locations, and that locations that must be separate are. Does not own:
//! whether they exist (`engine`).
//! Rule: behind this file a location is `s3://` or absolute; nothing depends on the working
//! directory of a process.

use super::Location;
use super::raw::Entry;
use crate::JobName;
use crate::manifest::CheckpointNames;
use crate::names::{BadName, LOCATION_BYTES_MAX, check_folder, check_name};
use std::path::Path;

/// Shortest and longest name of a bucket (the service's rule).
const BUCKET_CHARS: std::ops::RangeInclusive<usize> = 3..=63;

/// Reads a folder; a relative one is resolved against `base_dir`, if there is one.
pub(super) fn folder(entry: &Entry<'_>, base_dir: Option<&Path>) -> Option<Location> {
    let text = entry.text("for example \"s3://my-bucket/some/prefix/\"")?;
    match place(text, base_dir) {
        Ok(place) => Some(Location::folder(&place)),
        Err((message, hint)) => {
            entry.refuse(message, hint);
            None
        }
    }
}

/// Reads a folder with the files of a lookup or a source.
pub(super) fn input_folder(entry: &Entry<'_>, base_dir: Option<&Path>) -> Option<Location> {
    let text = entry.text("")?;
    let names_file = [".csv", ".json", ".jsonl", ".parquet", ".gz"]
        .iter()
        .any(|end| text.ends_with(end));
    if names_file {
        let folder = text.rsplit_once('/').map_or("./", |(folder, _)| folder);
        entry.refuse(
            "names a file; it must be a folder, every file below it is read",
            format!("did you mean {folder:?}?"),
        );
        return None;
    }
    folder(entry, base_dir)
}

/// Reads the path of a file.
pub(super) fn file(entry: &Entry<'_>, base_dir: Option<&Path>) -> Option<String> {
    let text = entry.text("")?;
    place(text, base_dir)
        .map_err(|(message, hint)| entry.refuse(message, hint))
        .ok()
}

type Refused = (String, String);

fn place(text: &str, base_dir: Option<&Path>) -> Result<String, Refused> {
    match check_name(text, LOCATION_BYTES_MAX) {
        Err(BadName::Character(_)) => {
            return Err(("holds a control character".into(), String::new()));
        }
        Err(error @ BadName::TooLong { .. }) => {
            return Err((error.to_string(), "name a shorter path".into()));
        }
        // The case of an empty path is handled below.
        Ok(()) | Err(BadName::Empty) => {}
    }
    if text.contains(['*', '?']) {
        return Err((
            "patterns are not supported".into(),
            "name the folder; every file below it is read".into(),
        ));
    }
    if text.split_once("://").is_some_and(|(_, rest)| {
        rest.split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
    }) {
        // The value is not shown: it would be logged.
        let hint = "take it out; credentials are those of the programs";
        return Err((
            "holds a name or a password: a job file is stored and shown, and holds no secret"
                .into(),
            hint.into(),
        ));
    }
    match text.split_once("://") {
        Some(("s3", rest)) => s3(rest),
        Some(("s3a" | "s3n", rest)) => Err((
            format!("unknown scheme in {text:?}"),
            format!("write \"s3://{rest}\""),
        )),
        Some(("file", rest)) => Err((
            "local paths are written without file://".into(),
            format!("write {rest:?}"),
        )),
        Some((scheme, _)) => Err((
            format!("unknown scheme {scheme:?}"),
            "s3://bucket/prefix/ and local paths are supported".into(),
        )),
        None => local(text, base_dir),
    }
}

fn s3(rest: &str) -> Result<String, Refused> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good = BUCKET_CHARS.contains(&bucket.len())
        && bucket.chars().all(inner)
        && edge(bucket.chars().next())
        && edge(bucket.chars().last())
        && !bucket.contains("..");
    if !good {
        let hint =
            "3 to 63 lower-case letters, digits, dots and dashes: \"s3://my-bucket/some/prefix/\"";
        return Err((
            format!("{bucket:?} is not the name of a bucket"),
            hint.into(),
        ));
    }
    let bare = prefix.strip_suffix('/').unwrap_or(prefix);
    if !bare.is_empty() && bare.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err((
            format!("the prefix {prefix:?} has an empty, `.` or `..` part"),
            "write the prefix in full".into(),
        ));
    }
    Ok(format!("s3://{bucket}/{prefix}"))
}

fn local(text: &str, base_dir: Option<&Path>) -> Result<String, Refused> {
    if text.starts_with('~') {
        return Err((
            "`~` is not expanded".into(),
            "write the path in full".into(),
        ));
    }
    if text.starts_with('/') {
        return absolute(text);
    }
    let Some(base) = base_dir else {
        let hint = "write it from the root, or s3://bucket/prefix/; `streamctl run` takes it from the folder of the job file";
        return Err((
            format!("{text:?} is a relative path, and a cluster has no folder to take it from"),
            hint.into(),
        ));
    };
    match base.join(text).to_str() {
        Some(joined) if base.is_absolute() => absolute(joined),
        _ => Err((
            format!("{} is not an absolute path in UTF-8", base.display()),
            String::new(),
        )),
    }
}

/// Removes `.`, `..` and double slashes; keeps a last slash.
fn absolute(text: &str) -> Result<String, Refused> {
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err((
            "is the root of the file system".into(),
            "name a folder below it".into(),
        ));
    }
    let last = if text.ends_with('/') { "/" } else { "" };
    Ok(format!("/{}{last}", parts.join("/")))
}

/// Whether a place that could be read is a folder of a machine.
pub(super) fn is_local(place: Option<&Location>) -> bool {
    place.is_some_and(|place| place.bucket_and_prefix().is_none())
}

/// A folder and the key that names it.
pub(super) struct Named<'a> {
    pub entry: Entry<'a>,
    pub place: Location,
    /// Whether the job writes there.
    pub written: bool,
}

/// Refuses locations that are too long to name an object in them.
pub(super) fn refuse_long(places: &[Named<'_>], job: Option<&JobName>) {
    for Named {
        entry,
        place,
        written,
    } in places
    {
        // Below the checkpoint location there is a folder per job.
        let below = job.filter(|_| entry.field.starts_with("checkpoint"));
        let below = below.map_or_else(String::new, |job| CheckpointNames::new(job).dead_letters());
        if *written && let Err(reason) = check_folder(place.as_str(), &below) {
            entry.refuse(
                format_args!("is too long for the objects in it: with their names {reason}"),
                "give it a shorter prefix: the name of an object takes up to 200 bytes",
            );
        }
    }
}

/// Refuses every pair of locations of which one is inside the other, unless the job only reads both
/// as lookups.
pub(super) fn refuse_overlaps(places: &[Named<'_>]) {
    for (index, second) in places.iter().enumerate() {
        for first in &places[..index] {
            if !(first.written || second.written) || !first.place.overlaps(&second.place) {
                continue;
            }
            let relation = if first.place == second.place {
                "is the same place as"
            } else {
                "lies inside, or around,"
            };
            second.entry.refuse(
                format_args!("{} {relation} {} ({})", second.place, first.entry.field, first.place),
                "give each a folder of its own: who lists one of them must not find the files of the other",
            );
        }
    }
}
