//! What can be named: texts that become a location, a shard's name, or a text in a manifest.
//!
//! Owns: which characters and lengths such texts have, how the value of a partition becomes the
//! name of a folder. Does not own: where objects lie (`spec`, `report`).
//! Rule: workers make names and the controller accepts them by the functions here, so that one
//! never refuses what the other makes.

use std::fmt::Write as _;

/// Longest location of an object, and of its staged file: the longest path of Linux.
pub const LOCATION_BYTES_MAX: usize = 4_096;
/// Longest name of a shard: a file's path below its folder.
pub const SHARD_BYTES_MAX: usize = 4_096;
/// Longest name of a multipart upload, and of one part's content.
pub const UPLOAD_BYTES_MAX: usize = 2_048;
/// Longest text of a lookup version, or of a key without a partner.
pub const TEXT_BYTES_MAX: usize = 4_096;
/// Longest key of an object: that of S3.
pub const OBJECT_KEY_BYTES_MAX: usize = 1_024;
/// Longest name of one folder or file on a disk.
pub const PATH_PART_BYTES_MAX: usize = 255;
/// What the name of an object takes behind its folder, with all that is put around it while it is
/// staged, at most.
pub const OBJECT_NAME_BYTES_MAX: usize = 200;
/// What Hive calls the folder of rows without a value.
pub const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A text cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("it is empty")]
    Empty,
    /// It has too many bytes.
    #[error("it has {bytes} bytes, the limit is {limit}")]
    TooLong { bytes: usize, limit: usize },
    /// Listings, logs and terminals would break on it.
    #[error("it has the character {0:?}, which no name may have")]
    Character(char),
}

/// Whether a text can be a name of so many bytes.
///
/// # Errors
/// [`BadName`] says why not.
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

/// Control characters may not (Unicode's Cc: U+0000 to U+001F, U+007F to U+009F).
fn may_be_named(character: char) -> bool {
    !character.is_control()
}

/// Whether a shard can have this name.
///
/// # Errors
/// [`BadName`] says why not.
pub fn check_shard(name: &str) -> Result<(), BadName> {
    check_name(name, SHARD_BYTES_MAX)
}

/// Whether objects can be named in a folder below a place, `s3://bucket/prefix/` or an absolute
/// path. It depends on nothing else, so that a record that is read again is judged as it was
/// before.
///
/// # Errors
/// [`BadName`] says why not.
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

/// The folder of the rows that have this value in a partition column, without a slash:
/// `<column>=<value>`, both escaped. An empty text has no folder of its own either: `name=/` is not
/// a name that everyone can list.
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

/// Whether this is what [`partition_folder`] makes of some value of the column.
pub fn is_partition_folder(column: &str, folder: &str) -> bool {
    let mut escaped = String::new();
    escape(column, &mut escaped);
    let value = folder
        .strip_prefix(escaped.as_str())
        .and_then(|rest| rest.strip_prefix('='));
    value
        .is_some_and(|value| !value.is_empty() && value.chars().all(|c| c == '%' || !is_escaped(c)))
}

/// As Hive's `FileUtils.escapePathName`: these characters become `%` and two upper-case hexadecimal
/// digits. Hive leaves U+0080 to U+009F as they are; its readers take them back from their digits
/// all the same.
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
