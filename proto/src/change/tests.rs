//! What may change and what may not, key by key.

use super::*;
use crate::JobVersion;
use crate::manifest::sha256_hex;
use crate::position::Position;
use crate::resolved::{ColumnType, NestedColumns, RESOLVED_VERSION};

const JOB: &str = r#"
name = "sales"
[source]
type = "kinesis"
stream = "orders"
region = "eu-west-1"
starting_position = "trim_horizon"
[source.schema]
id = "string"
[window]
size = "1m"
[[lookup]]
name = "country"
path = "s3://bkt/country/"
[transform]
sql = "SELECT id FROM source"
[sink]
path = "s3://bkt/out/"
partition_by = ["ingest_year"]
[checkpoint]
location = "s3://bkt/checkpoint/"
"#;

/// The job of a text, as it would be resolved.
fn job(text: &str) -> ResolvedJob {
    let spec = JobSpec::parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let stream = match &spec.source.kind {
        crate::spec::SourceKind::Kinesis(crate::spec::KinesisSource {
            stream,
            arn,
            endpoint,
            region,
            role_arn,
            session_name,
            ..
        }) => {
            let arn = arn.clone();
            let endpoint = endpoint.clone();
            let region = region.clone();
            let role_arn = role_arn.clone();
            let session_name = session_name.clone();
            let name = stream.clone().unwrap_or_default();
            Some(StreamAddress {
                name,
                arn,
                endpoint,
                region,
                role_arn,
                session_name,
            })
        }
        _ => None,
    };
    let columns = match &spec.source.schema {
        crate::spec::SchemaFrom::Inline(columns) => columns.clone(),
        _ => vec![ColumnType {
            name: "uuid".into(),
            type_name: "string".into(),
        }],
    };
    ResolvedJob {
        version: RESOLVED_VERSION,
        spec_digest: sha256_hex(text.as_bytes()),
        job_version: JobVersion::FIRST,
        previous: None,
        changed_ms: 0,
        after_epoch: None,
        submitted_ms: 0,
        start: Position::Start,
        columns,
        nested: Default::default(),
        keys: Default::default(),
        reads_partition_keys: false,
        stream,
        stream_identity: None,
        consumer: None,
        whole_window: false,
        query_digest: sha256_hex(spec.sql.as_bytes()),
        output_schema: String::new(),
        lookup_columns: Default::default(),
        function_code: None,
        spec,
    }
}

/// The changes when a piece of the text is replaced.
fn changed(from: &str, to: &str) -> Vec<FieldChange> {
    assert!(JOB.contains(from), "{from}");
    compare(&job(JOB), &job(&JOB.replace(from, to)), Some(3 * 60_000))
}

#[test]
fn a_job_file_that_is_only_formatted_otherwise_changes_nothing() {
    for (from, to) in [
        ("1m", "60s"),
        ("name =", "# a comment\nname ="),
        ("[sink]", "[retry]\nmax = 3\n[sink]"),
    ] {
        assert_eq!(changed(from, to), [], "{to}");
    }
}

#[test]
fn what_no_position_and_no_committed_window_depends_on_is_taken_over() {
    for (from, to, fields) in [
        (
            "SELECT id FROM",
            "SELECT id AS i FROM",
            vec!["transform.sql"],
        ),
        (
            "id = \"string\"",
            "id = \"bigint\"\nk = \"string\"",
            vec!["columns.id", "columns.k"],
        ),
        (
            "s3://bkt/country/",
            "s3://bkt/countries/",
            vec!["lookup.country.path"],
        ),
        (
            "name = \"country\"",
            "name = \"land\"",
            vec![
                "lookup.land.path",
                "lookup.land.format",
                "lookup.land.refresh",
                "lookup.land.size_max",
                "lookup.country.path",
                "lookup.country.format",
                "lookup.country.refresh",
                "lookup.country.size_max",
            ],
        ),
        ("s3://bkt/out/", "s3://bkt/rows/", vec!["sink.path"]),
        (
            "partition_by = [\"ingest_year\"]",
            "format = \"csv\"",
            vec!["sink.format", "sink.compression", "sink.partition_by"],
        ),
        (
            "[checkpoint]",
            "target_size = \"1GiB\"\n[dead_letter]\npath = \"s3://bkt/dead/\"\n[retry]\nmax = 9\n[checkpoint]",
            vec!["sink.target_size", "dead_letter.path", "retry.max"],
        ),
        (
            "stream = \"orders\"",
            "stream = \"orders\"\non_data_loss = \"continue\"\npoll_interval = \"1s\"\nmax_records_per_read = 5\ncompression = \"auto\"\ngrace = \"2s\"\nsession_name = \"s2\"",
            vec![
                "source.session_name",
                "source.poll_interval",
                "source.max_records_per_read",
                "source.compression",
                "source.grace",
                "source.on_data_loss",
            ],
        ),
        (
            "stream = \"orders\"",
            "stream = \"orders\"\ntimestamp_numbers = \"seconds\"\ntimestamp_formats = [\"dd.MM.yyyy\"]\ndecimals = \"exact\"\non_bad_value = \"null\"",
            vec![
                "source.timestamp_numbers",
                "source.timestamp_formats",
                "source.decimals",
                "source.on_bad_value",
            ],
        ),
        ("1m", "30s", vec!["window.size"]),
        ("1m", "3m", vec!["window.size"]),
    ] {
        let found = changed(from, to);
        assert_eq!(
            found
                .iter()
                .map(|change| change.field.as_str())
                .collect::<Vec<_>>(),
            fields
        );
        assert!(
            found.iter().all(|change| change.refused.is_none()),
            "{found:?}"
        );
    }
}

#[test]
fn another_source_another_checkpoint_and_another_start_are_refused_with_what_to_do() {
    for (from, to, field) in [
        ("\"orders\"", "\"returns\"", "source.stream"),
        ("eu-west-1", "eu-west-2", "source.region"),
        (
            "\"orders\"",
            "\"orders\"\nendpoint = \"http://127.0.0.1:1\"",
            "source.endpoint",
        ),
        (
            "\"orders\"",
            "\"orders\"\nrole_arn = \"arn:aws:iam::123456789012:role/x\"",
            "source.role_arn",
        ),
        ("trim_horizon", "latest", "source.starting_position"),
        (
            "s3://bkt/checkpoint/",
            "s3://bkt/other/",
            "checkpoint.location",
        ),
        ("\"1m\"", "\"2m\"", "window.size"),
    ] {
        let found = changed(from, to);
        let refused: Vec<_> = found
            .iter()
            .filter(|change| change.refused.is_some())
            .collect();
        assert_eq!(
            refused
                .iter()
                .map(|change| change.field.as_str())
                .collect::<Vec<_>>(),
            [field]
        );
        assert!(
            refused
                .iter()
                .all(|change| !change.refused.as_ref().unwrap().hint.is_empty())
        );
    }
    let files = JOB.replace(
        "type = \"kinesis\"\nstream = \"orders\"\nregion = \"eu-west-1\"\nstarting_position = \"trim_horizon\"",
        "type = \"files\"\npath = \"s3://bkt/in/\"\nformat = \"json\"",
    );
    let found = compare(&job(JOB), &job(&files), None);
    assert!(
        found
            .iter()
            .any(|change| change.field == "source.type" && change.refused.is_some()),
        "{found:?}"
    );
}

#[test]
fn windows_grow_where_the_last_one_ends_at_a_boundary_of_both() {
    let old = job(JOB);
    let two = job(&JOB.replace("1m", "2m"));
    for (boundary_ms, taken_over) in [
        (None, true),
        (Some(0), true),
        (Some(60_000), false),
        (Some(120_000), true),
    ] {
        let found = compare(&old, &two, boundary_ms);
        assert_eq!(found[0].refused.is_none(), taken_over, "{boundary_ms:?}");
    }
    let refused = compare(&old, &two, Some(180_000))
        .remove(0)
        .refused
        .unwrap();
    assert!(
        refused.reason.contains("ends at 1970-01-01T00:03:00Z"),
        "{refused:?}"
    );
    assert!(
        refused
            .reason
            .ends_with("the next one is 1970-01-01T00:04:00Z"),
        "{refused:?}"
    );
}

#[test]
fn a_role_of_the_same_account_or_for_a_stream_by_arn_is_taken_over() {
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
    let with = |more: &str| job(&JOB.replace("stream = \"orders\"", more));
    let role = |account: &str| format!("role_arn = \"arn:aws:iam::{account}:role/reader\"");
    let by_arn = |account: &str| with(&format!("arn = \"{arn}\"\n{}", role(account)));
    let by_name = |account: &str| with(&format!("stream = \"orders\"\n{}", role(account)));
    assert!(
        compare(&by_arn("111111111111"), &by_arn("222222222222"), None)[0]
            .refused
            .is_none()
    );
    assert!(
        compare(&by_name("111111111111"), &by_name("222222222222"), None)[0]
            .refused
            .is_some()
    );
    let renamed = with("stream = \"orders\"\nrole_arn = \"arn:aws:iam::111111111111:role/other\"");
    assert!(
        compare(&by_name("111111111111"), &renamed, None)[0]
            .refused
            .is_none()
    );
}

#[test]
fn rows_are_not_written_among_dead_letters() {
    let dead = |path: &str| {
        job(&JOB.replace(
            "[checkpoint]",
            &format!("[dead_letter]\npath = \"{path}\"\n[checkpoint]"),
        ))
    };
    let old = dead("s3://bkt/dead/");
    let moved = job(&JOB.replace("s3://bkt/out/", "s3://bkt/dead/rows/"));
    let found = compare(&old, &moved, None);
    assert!(
        found
            .iter()
            .any(|change| change.field == "sink.path" && change.refused.is_some()),
        "{found:?}"
    );
}

#[test]
fn a_change_is_described_on_one_line() {
    let long = format!(
        "SELECT id,\n  {} FROM",
        "id, ".repeat(40).trim_end_matches(", ")
    );
    let found = changed("SELECT id FROM", &long.replace('\n', "\\n"));
    let text = found[0].to_string();
    assert!(
        text.starts_with("transform.sql: SELECT id FROM source becomes SELECT id,"),
        "{text}"
    );
    assert!(text.ends_with("...") && !text.contains('\n'), "{text}");
    let gone = changed("partition_by = [\"ingest_year\"]\n", "");
    assert_eq!(
        gone[0].to_string(),
        "sink.partition_by: ingest_year becomes nothing"
    );
}

#[test]
fn every_key_of_every_source_has_a_rule() {
    let files =
        "type = \"files\"\npath = \"s3://bkt/in/\"\nformat = \"json\"\narrival_time = \"at\"";
    let generator = "type = \"generator\"\nrecords_per_shard = 5";
    for source in [files, generator] {
        let text = format!(
            "name = \"x\"\n[source]\n{source}\n{}[window]\nsize = \"1m\"\n[transform]\nsql = \"SELECT 1 FROM source\"\n[sink]\npath = \"s3://bkt/o/\"\n\
             [checkpoint]\nlocation = \"s3://bkt/c/\"\n",
            if source == files {
                "[source.schema]\nat = \"string\"\n"
            } else {
                ""
            }
        );
        for (field, _) in fields::fields(&job(&text)) {
            let unknown = refused(&field, &job(&text), &job(&text), None);
            let said = unknown.map(|refusal| refusal.reason).unwrap_or_default();
            assert!(!said.contains("nothing is known"), "{field}");
        }
    }
}

#[test]
fn p17_a_struct_that_grows_is_taken_over_and_so_are_types_for_texts() {
    let column = |type_name: &str| {
        JOB.replace(
            "id = \"string\"",
            &format!("id = \"string\"\nitem = \"{type_name}\""),
        )
    };
    let old = job(&column("struct<sku:string>"));
    let mut next = job(&column("struct<colour:string,sku:string,price:double>"));
    let found = compare(&old, &next, None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].field.as_str(), &found[0].refused),
        ("columns.item", &None)
    );
    next.nested = NestedColumns::Typed;
    let found = compare(&old, &next, None);
    let typed = found
        .iter()
        .find(|one| one.field == "columns.(nested types)");
    assert!(
        typed.is_some_and(|one| one.was.is_none() && one.refused.is_none()),
        "{found:?}"
    );
}

#[test]
fn how_payloads_are_written_may_change() {
    let csv = JOB.replace("region =", "format = \"csv\"\nregion =");
    let other = csv.replace("region =", "delimiter = \";\"\nregion =");
    for (old, next, fields) in [
        (
            JOB,
            csv.as_str(),
            vec!["source.format", "source.delimiter", "source.quote"],
        ),
        (&csv, &other, vec!["source.delimiter"]),
    ] {
        let changes = compare(&job(old), &job(next), None);
        assert!(
            changes.iter().all(|change| change.refused.is_none()),
            "{changes:?}"
        );
        let changed: Vec<_> = changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(changed, fields);
    }
}
