//! A job that uses only a folder; a catalog that does not answer.

use super::*;
use crate::output::Format;
use crate::output::tests::captured;
use std::path::Path;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::storage::Storages;

/// No service is reachable.
pub(crate) fn nowhere() -> World {
    let aws = Aws::new(AwsSettings::default());
    World {
        storages: Storages::new(aws.clone()),
        aws,
        foreign: Default::default(),
        function: Default::default(),
    }
}

/// The example of generated sales, with its output locations.
pub(crate) fn generated(folder: &Path) -> PathBuf {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/jobs");
    let lookup = folder.join("data/country_lookup");
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::write(
        lookup.join("c.csv"),
        include_str!("../../../data/country_lookup.csv"),
    )
    .unwrap();
    let file = folder.join("generator.toml");
    std::fs::copy(examples.join("generator.toml"), &file).unwrap();
    file
}

async fn explain(file: PathBuf, format: Format) -> (Result<(), CliError>, String) {
    let (mut out, data, _) = captured(format);
    let result = run_local(&file, nowhere(), &mut out).await;
    (result, data.text())
}

#[tokio::test]
async fn all_that_a_job_would_do_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let (result, text) = explain(generated(folder.path()), Format::Table).await;
    result.unwrap();
    for expected in [
        "COLUMNS OF THE SOURCE\n  COLUMN         TYPE    READ\n  uuid           string  yes\n",
        "LOOKUP country_lookup (249 rows, 1 file, ",
        "RESULT\n  COLUMN        TYPE\n  uuid          Utf8\n",
        "HashJoinExec",
        "  2 shards, over all workers, in at most 4 tasks on each: rows are handled alone\n  windows of 5s by arrival",
        "<window>-generated-sales-<task>-<n>.parquet",
        "  sink.compression            snappy\n",
        "  lookup.country_lookup.refresh   1m",
    ] {
        let bare = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(bare(&text).contains(&bare(expected)), "{expected}\n{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_after_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = generated(folder.path());
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("s.unitssold", "s.unitsold");
    std::fs::write(&file, text).unwrap();
    let (result, text) = explain(file, Format::Json).await;
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    let json: Value = serde_json::from_str(&text).unwrap();
    crate::output::tests::documented("explain", &json);
    assert_eq!(
        (&json["plan"], &json["problems"][0]["field"]),
        (&Value::Null, &"transform.sql".into())
    );
    assert_eq!(json["source_columns"].as_array().unwrap().len(), 14);
}
