//! Valid names: texts that become a location, a shard's name, or a text in a manifest.
//!
//! Owns: the characters and lengths of such texts, the folder name of a partition's value. Does not
//! own: the places of objects (`spec`, `report`).
//! Rule: workers make names and the controller accepts them by the same functions, so that the
//! controller never refuses a worker's name.

use std::fmt::Write as _;

/// Longest location of an object, and of its staged file: the longest path of Linux.
pub const LOCATION_BYTES_MAX: usize = 4_096;
/// Longest name of a shard: a file's path below its folder.
pub const SHARD_BYTES_MAX: usize = 4_096;
/// Longest name of a multipart upload, and of one part's content.
pub const UPLOAD_BYTES_MAX: usize = 2_048;
/// Longest text of a lookup version, or of a key without a match.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Longest key of an object: that of S3.
pub const OBJECT_KEY_BYTES_MAX: usize = 1_024;
/// Longest name of one folder or file on a disk.
pub const PATH_PART_BYTES_MAX: usize = 255;
/// Most bytes of an object's name after its folder, including all that is added while it is staged.
pub const OBJECT_NAME_BYTES_MAX: usize = 200;
/// Hive's name for the folder of rows without a value.
pub const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A text that is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("it is empty")]
    Empty,
    /// It has too many bytes.
    #[error("it has {bytes} bytes, the limit is {limit}")]
    TooLong { bytes: usize, limit: usize },
    /// A character that breaks listings, logs or terminals.
    #[error("it has the character {0:?}, which no name may have")]
    Character(char),
}

/// Checks that a text is a valid name of at most this many bytes.
///
/// # Errors
/// [`BadName`] with the reason.
pub fn check_name(text: &str, bytes_max: usize) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty);
    }
    if text.len() > bytes_max {
        return Err(BadName::TooLong {
            bytes: text.len(),
            limit: bytes_max,
        });
    }
    match text.chars().find(|character| !may_be_named(*character)) {
        Some(character) => Err(BadName::Character(character)),
        None => Ok(()),
    }
}

/// Control characters are not allowed (Unicode's Cc: U+0000 to U+001F, U+007F to U+009F).
fn may_be_named(character: char) -> bool {
    !character.is_control()
}

/// Checks that a text is a valid shard name.
///
/// # Errors
/// [`BadName`] with the reason.
pub fn check_shard(name: &str) -> Result<(), BadName> {
    check_name(name, SHARD_BYTES_MAX)
}

/// Checks that objects can be named in a folder below a place, `s3://bucket/prefix/` or an absolute
/// path. It depends on nothing else, so that a record that is read again gets the same result.
///
/// # Errors
/// [`BadName`] with the reason.
pub fn check_folder(place: &str, folder: &str) -> Result<(), BadName> {
    let within = |bytes: usize, limit: usize| {
        if bytes <= limit {
            Ok(())
        } else {
            Err(BadName::TooLong { bytes, limit })
        }
    };
    let key = match place.strip_prefix("s3://") {
        Some(in_s3) => in_s3.split_once('/').map_or("", |(_bucket, prefix)| prefix),
        None => place,
    };
    let bytes = key.len() + folder.len() + OBJECT_NAME_BYTES_MAX;
    if place.starts_with("s3://") {
        return within(bytes, OBJECT_KEY_BYTES_MAX);
    }
    let longest = folder.split('/').map(str::len).max().unwrap_or(0);
    within(longest, PATH_PART_BYTES_MAX)?;
    within(bytes, LOCATION_BYTES_MAX - 1)
}

/// The folder of the rows with this value in a partition column, without a slash:
/// `<column>=<value>`, both escaped. An empty text shares the folder of rows without a value: not
/// every client can list `name=/`.
pub fn partition_folder(column: &str, value: Option<&str>) -> String {
    let mut folder = String::new();
    escape(column, &mut folder);
    folder.push('=');
    match value.filter(|value| !value.is_empty()) {
        Some(value) => escape(value, &mut folder),
        None => folder.push_str(NO_VALUE),
    }
    folder
}

/// Whether [`partition_folder`] makes this folder for some value of the column.
pub fn is_partition_folder(column: &str, folder: &str) -> bool {
    let mut escaped = String::new();
    escape(column, &mut escaped);
    let value = folder
        .strip_prefix(escaped.as_str())
        .and_then(|rest| rest.strip_prefix('='));
    value
        .is_some_and(|value| !value.is_empty() && value.chars().all(|c| c == '%' || !is_escaped(c)))
}

/// The values in these folders, `a=1/b=2`, one for each of the columns; [`NO_VALUE`] stands for
/// none. `None`: they are not the folders of these columns.
pub fn partition_values<'a>(
    columns: impl IntoIterator<Item = &'a str>,
    folders: &str,
) -> Option<Vec<String>> {
    let mut parts = folders.trim_end_matches('/').split('/');
    let mut values = vec![];
    for column in columns {
        let folder = parts.next()?;
        is_partition_folder(column, folder).then_some(())?;
        let (_, value) = folder.split_once('=')?;
        values.push(unescape(value)?);
    }
    parts.next().is_none().then_some(values)
}

/// What [`escape`] makes of a text, as the text.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        out.push(char::from(u8::from_str_radix(digits, 16).ok()?));
        out.push_str(rest);
    }
    Some(out)
}

/// Like Hive's `FileUtils.escapePathName`: these characters become `%` and two upper-case
/// hexadecimal digits. Hive leaves U+0080 to U+009F unchanged; its readers still decode them from
/// their digits.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        if is_escaped(character) {
            _ = write!(out, "%{:02X}", u32::from(character));
        } else {
            out.push(character);
        }
    }
}

fn is_escaped(character: char) -> bool {
    let of_hive = matches!(
        character,
        '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | ']' | '[' | '^'
    );
    of_hive || !may_be_named(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JOB_NAME_CHARS_MAX;
    use crate::report::object_name;
    use crate::{TaskId, Term, Window};

    #[test]
    fn values_are_escaped_as_hive_does() {
        let folder = partition_folder("k", Some("a b%/=:\"\u{1}\u{7f}é}[^{]"));
        assert_eq!(folder, "k=a b%25%2F%3D%3A%22%01%7Fé}%5B%5E%7B%5D");
        assert_eq!(partition_folder("a=b", Some("\u{85}")), "a%3Db=%85");
        assert_eq!(
            (partition_folder("k", None), partition_folder("k", Some(""))),
            (format!("k={NO_VALUE}"), format!("k={NO_VALUE}"))
        );
    }

    #[test]
    fn the_folder_of_every_character_is_one_name() {
        for character in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            for text in [format!("{character}"), format!("a{character}b")] {
                let folder = partition_folder(&text, Some(&text));
                assert_eq!(
                    check_name(&folder, LOCATION_BYTES_MAX),
                    Ok(()),
                    "{character:?}"
                );
                assert!(
                    is_partition_folder(&text, &folder) && !folder.contains('/'),
                    "{character:?}"
                );
            }
        }
    }

    #[test]
    fn two_values_never_share_a_folder() {
        let values = [
            "a", "%61", "%", "%25", "\u{85}", "%85", "a/b", "a%2Fb", "=", "%3D",
        ];
        let folders: std::collections::BTreeSet<String> = values
            .iter()
            .map(|value| partition_folder("k", Some(value)))
            .collect();
        assert_eq!(folders.len(), values.len());
    }

    #[test]
    fn the_values_of_folders_are_those_that_named_them() {
        let texts = [
            "DE",
            "a/b=c%41",
            "\u{85}\u{7f}",
            "ö %",
            "2026-11-24 10:00:00",
        ];
        for first in texts {
            for second in texts {
                let folders = ["k", "l l"].into_iter().zip([first, second]);
                let folders = folders.map(|(column, value)| partition_folder(column, Some(value)));
                let folders = folders.collect::<Vec<_>>().join("/");
                for folders in [folders.clone(), format!("{folders}/")] {
                    let values = partition_values(["k", "l l"], &folders);
                    assert_eq!(values, Some(vec![first.to_owned(), second.to_owned()]));
                }
            }
        }
        let none = partition_folder("k", None);
        assert_eq!(partition_values(["k"], &none), Some(vec![NO_VALUE.into()]));
        for folders in ["", "k=", "k=a/l=b", "l=a", "k=%4", "k=%ZZ", "k=é%4é"] {
            assert_eq!(partition_values(["k"], folders), None, "{folders}");
        }
    }

    #[test]
    fn what_no_value_gives_is_no_folder_of_the_column() {
        for folder in [
            "k=", "k", "j=a", "k=a/b", "k=a=b", "k=\u{85}", "K=a", "k=a\nb", "",
        ] {
            assert!(!is_partition_folder("k", folder), "{folder:?}");
        }
    }

    #[test]
    fn a_folder_leaves_room_for_the_names_of_objects() {
        let of = |length: usize| format!("k={}/", "x".repeat(length - 3));
        let s3 = OBJECT_KEY_BYTES_MAX - OBJECT_NAME_BYTES_MAX - "out/".len();
        assert_eq!(check_folder("s3://bucket/out/", &of(s3)), Ok(()));
        assert!(check_folder("s3://bucket/out/", &of(s3 + 1)).is_err());
        assert_eq!(
            check_folder("/out/", &of(PATH_PART_BYTES_MAX + 1)),
            Ok(()),
            "the slash is no part of a name"
        );
        assert!(check_folder("/out/", &of(PATH_PART_BYTES_MAX + 2)).is_err());
        let deep = of(200).repeat(20);
        assert!(
            check_folder("/out/", &deep).is_err(),
            "{} bytes",
            deep.len()
        );
        let object = object_name(
            Window {
                start_ms: 1,
                end_ms: 2,
            },
            &"j".repeat(JOB_NAME_CHARS_MAX).parse().unwrap(),
            TaskId {
                term: Term(u64::MAX),
                counter: u64::MAX,
            },
            u32::MAX,
            "rejected.json.gz",
        );
        let staged = format!(".{object}.0123456789abcdef.staged");
        assert!(
            staged.len() <= OBJECT_NAME_BYTES_MAX,
            "{} bytes",
            staged.len()
        );
    }

    #[test]
    fn a_name_is_bounded_and_has_no_control_characters() {
        assert_eq!(check_name("", 5), Err(BadName::Empty));
        assert_eq!(
            check_name("aébcd", 5),
            Err(BadName::TooLong { bytes: 6, limit: 5 })
        );
        assert_eq!(check_name("a\u{9f}", 5), Err(BadName::Character('\u{9f}')));
        assert_eq!(check_name("a\u{a0}", 5), Ok(()));
    }
}
