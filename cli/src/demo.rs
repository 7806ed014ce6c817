//! The demo's folder: a job file, its lookup, and a look at the result.
//!
//! Rule: everything lies below one folder; removing it removes the demo.

use crate::local::LocalJob;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Windows that the demo waits for.
pub const WINDOWS: u64 = 3;
/// Rows of the result that are shown.
const ROWS_SHOWN: usize = 8;

const COUNTRIES: &str = include_str!("../data/country_lookup.csv");

const JOB: &str = r#"# The job of `streamctl demo`: generated sales with the code of their country, every five seconds.
name = "demo"

[source]
type = "generator"
rate = 200
bad_every = 500
unmatched_every = 50

[window]
size = "5s"

[[lookup]]
name = "country_lookup"
path = "country_lookup/"

[transform]
sql = """
SELECT s.uuid, s.country, c."Code" AS country_code, s.itemtype, s.orderdate, s.unitssold
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "sales/"

[dead_letter]
path = "dead/"

[checkpoint]
location = "checkpoint/"
"#;

/// The paths of the demo's parts.
pub struct Demo {
    pub job: LocalJob,
    pub job_file: PathBuf,
    pub sink: PathBuf,
}

/// Writes job file and lookup; files of an earlier demo stay. `root` is absolute.
pub fn prepare(root: &Path) -> io::Result<Demo> {
    let lookup = root.join("country_lookup");
    fs::create_dir_all(&lookup)?;
    fs::write(lookup.join("country_lookup.csv"), COUNTRIES)?;
    let job_file = root.join("job.toml");
    fs::write(&job_file, JOB)?;
    let job = LocalJob {
        spec_text: JOB.to_owned(),
        base_dir: root.to_owned(),
        function_code: None,
        state_dir: root.join("state"),
        change: false,
        memory_limit: None,
    };
    Ok(Demo {
        job,
        job_file,
        sink: root.join("sales"),
    })
}

/// The first rows of the newest Parquet file below a folder; a sentence if there is none.
pub fn sample(sink: &Path) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let Some(newest) = newest_parquet(sink)? else {
        return Ok("no row was written".to_owned());
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(newest)?)?
        .with_limit(ROWS_SHOWN)
        .build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches)?.to_string())
}

/// Names begin with the window's start, so the greatest is of the newest window. Hidden names are
/// staged files.
fn newest_parquet(sink: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(sink) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "parquet")
        {
            paths.push(path);
        }
    }
    Ok(paths.into_iter().max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::record_batch::RecordBatch;
    use std::sync::Arc;
    use streamctl_proto::JobSpec;

    fn write(path: &Path, text: &str) {
        let batch =
            RecordBatch::try_from_iter([("code", Arc::new(StringArray::from(vec![text])) as _)])
                .unwrap();
        let file = File::create(path).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    #[test]
    fn the_job_of_the_demo_is_correct() {
        let folder = tempfile::tempdir().unwrap();
        let demo = prepare(folder.path()).unwrap();
        let spec = JobSpec::parse_in(&demo.job.spec_text, &demo.job.base_dir).unwrap();
        assert_eq!(spec.sink.place(), format!("{}/", demo.sink.display()));
        assert!(
            folder
                .path()
                .join("country_lookup/country_lookup.csv")
                .exists()
        );
        prepare(folder.path()).unwrap();
    }

    #[test]
    fn rows_of_the_newest_window_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            sample(&folder.path().join("none")).unwrap(),
            "no row was written"
        );
        write(
            &folder.path().join("20261124T004500Z-demo-t1.1-0.parquet"),
            "OLD",
        );
        write(
            &folder.path().join("20261124T004505Z-demo-t1.1-0.parquet"),
            "NEW",
        );
        write(
            &folder.path().join(".20261124T004510Z-demo-t1.1-0.parquet"),
            "STAGED",
        );
        let text = sample(folder.path()).unwrap();
        assert!(
            text.contains("NEW") && !text.contains("OLD") && !text.contains("STAGED"),
            "{text}"
        );
    }
}
