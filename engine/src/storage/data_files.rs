//! Which objects below a folder are data, and which are left beside it by other programs.
//!
//! Rule: one rule for a source and for lookups, on disks and in S3: that of Spark and Hive.

/// What Hadoop's tools append to the name of a file while they write it.
const BEING_COPIED: &str = "._COPYING_";

/// Whether an object is data; `name` is relative to the folder. A file or folder whose name begins
/// with `_` or `.` is not, but `_year=2026` is a partition. An empty object that stands for a folder
/// is not, either.
pub fn is_data(name: &str, size: u64) -> bool {
    let is_folder =
        name.is_empty() || name.ends_with('/') || (size == 0 && name.ends_with("_$folder$"));
    let is_hidden = |part: &str| {
        part.starts_with('.')
            || (part.starts_with('_') && !part.contains('='))
            || part.ends_with(BEING_COPIED)
    };
    !is_folder && !name.split('/').any(is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p29_markers_and_what_others_leave_are_not_data() {
        for data in [
            "part-0000.json",
            "dt=2026-11-24/part 1 #2 100%.json",
            "_year=2026/a.json",
            "a_b/c._d",
            "größe \"q\" \\ x.json",
        ] {
            assert!(is_data(data, 7), "{data}");
        }
        for other in [
            "",
            "folder/",
            "_SUCCESS",
            "_temporary/0/part-0001.json",
            ".part-0000.json.crc",
            ".DS_Store",
            ".hidden/part.json",
            "dt=1/_committed_7",
            "a.json._COPYING_",
        ] {
            assert!(!is_data(other, 7), "{other}");
        }
        assert!(is_data("a_$folder$", 1) && !is_data("a_$folder$", 0));
    }
}
