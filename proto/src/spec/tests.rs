//! Valid job files and their meaning, and the errors of invalid ones.

use super::*;
use std::path::Path;

const MODEL: &str = include_str!("../../../deploy/jobs/sales-by-country.toml");
const FILES: &str = include_str!("../../../deploy/jobs/files.toml");
const GENERATOR: &str = include_str!("../../../deploy/jobs/generator.toml");

/// A correct job of eight lines; `extra` begins on line 9.
fn job(extra: &str) -> String {
    format!(
        "name = \"a\"\nwindow.size = \"60s\"\ntransform.sql = \"SELECT * FROM source\"\n\
         sink.path = \"s3://bucket/out/\"\ncheckpoint.location = \"s3://bucket/checkpoint/\"\n[source]\n\
         type = \"kinesis\"\ncatalog = {{ database = \"d\", table = \"t\" }}\n{extra}"
    )
}

fn refusal(text: &str) -> String {
    JobSpec::parse(text).expect_err("is refused").to_string()
}

#[test]
fn the_smallest_job_gets_the_defaults() {
    let spec = JobSpec::parse(&job("")).unwrap();
    assert_eq!(spec.source.starting_position, StartingPosition::Latest);
    assert_eq!(spec.source.on_data_loss, OnDataLoss::Fail);
    let SourceKind::Kinesis(KinesisSource {
        poll_interval,
        max_records_per_read,
        stream,
        ..
    }) = spec.source.kind
    else {
        panic!()
    };
    assert_eq!(
        (poll_interval.as_millis(), max_records_per_read, stream),
        (500, 10_000, None)
    );
    let sink = FilesSink::new(Location::folder("s3://bucket/out/"));
    assert_eq!(spec.sink, SinkKind::Files(sink));
    assert_eq!((spec.retries_max, spec.dead_letter), (3, None));
}

#[test]
fn the_model_job_is_read_as_written() {
    let spec = JobSpec::parse(MODEL).unwrap();
    assert_eq!(spec.name.as_str(), "sales-by-country");
    assert_eq!(spec.window.ms(), 60_000);
    assert_eq!(spec.source.starting_position, StartingPosition::TrimHorizon);
    let SchemaFrom::Catalog {
        database, table, ..
    } = &spec.source.schema
    else {
        panic!()
    };
    assert_eq!(
        (database.as_str(), table.as_str()),
        ("glueworkshop_cloudformation", "json-streaming-table")
    );
    assert_eq!(
        spec.lookups[0].path.as_str(),
        "s3://my-bucket/input/lab4/country_lookup/"
    );
    let SinkKind::Files(FilesSink { partition_by, .. }) = &spec.sink else {
        panic!("it writes files");
    };
    assert_eq!(partition_by.last(), Some(&PartitionColumn::IngestHour));
    assert_eq!(
        spec.dead_letter.unwrap().as_str(),
        "s3://my-bucket/output/lab4/dead/"
    );
}

#[test]
fn the_example_jobs_are_right() {
    let folder = Path::new("/jobs");
    let files = JobSpec::parse_in(FILES, folder).unwrap();
    let SourceKind::Files(FilesSource { path, .. }) = &files.source.kind else {
        panic!()
    };
    assert_eq!(path.as_str(), "/jobs/data/orders/");
    let SinkKind::Files(sink) = &files.sink else {
        panic!("it writes files");
    };
    assert_eq!(sink.extension(), "csv.gz");
    let generator = JobSpec::parse_in(GENERATOR, folder).unwrap();
    assert_eq!(generator.source.schema, SchemaFrom::BuiltIn);
}

#[test]
fn columns_keep_the_order_of_the_file() {
    let spec = JobSpec::parse_in(FILES, Path::new("/jobs")).unwrap();
    let SchemaFrom::Inline(columns) = spec.source.schema else {
        panic!()
    };
    let names = columns
        .iter()
        .map(|column| column.name.as_str())
        .collect::<Vec<_>>();
    assert_eq!(names, ["ordered_at", "order_id", "country", "amount"]);
}

#[test]
fn every_problem_has_its_line() {
    let text = job("on_data_loss = \"ignore\"\npoll_interval = \"100ms\"\nmax_records_per_read = 20000\n[sink]\n")
        .replace("sink.path = \"s3://bucket/out/\"\n", "")
        + "path = \"s3://bucket/out/\"\nformat = \"parquett\"\npartition_buy = [\"region\"]\ntarget_size = 128\n";
    assert_eq!(
        refusal(&text),
        "line 8: source.on_data_loss: \"ignore\" is not one of fail, continue\n\
         line 9: source.poll_interval: 100ms is out of range: 200ms to 1m\n\
         line 10: source.max_records_per_read: 20000 is out of range: 1 to 10000\n\
         line 13: sink.format: \"parquett\" is not one of parquet, json, csv\n  hint: did you mean \"parquet\"?\n\
         line 14: sink.partition_buy: unknown key\n  hint: did you mean `partition_by`?\n\
         line 15: sink.target_size: expected text in quotes, found the number 128\n  hint: for example \"256MiB\""
    );
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    assert_eq!(
        refusal("name = \"a\"\n[sink]\n[[lookup]]\nname = \"c\"\n[source]\n"),
        "line 2: sink.path: is missing\n  hint: for example path = \"s3://my-bucket/output/\"\n\
         line 3: lookup[1].path: is missing\n  hint: for example path = \"s3://my-bucket/country_lookup/\"\n\
         line 5: source.type: is missing\n  hint: for example type = \"kinesis\"; also: files, generator\n\
         window: is missing\n  hint: add a table [window] with size = \"60s\"\n\
         transform: is missing\n  hint: add a table [transform] with sql = \"SELECT * FROM source\"\n\
         checkpoint: is missing\n  hint: add a table [checkpoint] with location = \"s3://my-bucket/checkpoint/\""
    );
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let text = refusal("name = \"a\"\n[source\ntype = 1\n");
    assert!(text.starts_with("line 2: not TOML: "), "{text}");
}

#[test]
fn a_key_of_another_source_is_refused_with_where_it_belongs() {
    assert_eq!(
        refusal(&job("rate = 5\narrival_time = \"at\"\n")),
        "line 9: source.rate: does not belong here\n  hint: it is a key of type = \"generator\"\n\
         line 10: source.arrival_time: does not belong here\n  hint: it is a key of type = \"files\""
    );
}

#[test]
fn credentials_are_refused() {
    assert_eq!(
        refusal(&job("secret_access_key = \"x\"\n")),
        "line 9: source.secret_access_key: does not belong here\n  \
         hint: credentials come from the environment of controller and workers, or from role_arn"
    );
}

#[test]
fn places_that_must_be_apart_are_refused_together() {
    let text = job(
        "[dead_letter]\npath = \"s3://bucket/out/dead\"\n[[lookup]]\nname = \"c\"\npath = \"s3://bucket/checkpoint\"\n",
    );
    let hint = "hint: give each a folder of its own: who lists one of them must not find the files of the other";
    let refused = refusal(&text);
    assert!(refused.contains(&format!(
        "line 10: dead_letter.path: s3://bucket/out/dead/ lies inside, or around, sink.path (s3://bucket/out/)\n  {hint}"
    )), "{refused}");
    assert!(
        refused.contains("is the same place as lookup[1].path (s3://bucket/checkpoint/)"),
        "{refused}"
    );
}

#[test]
fn neighbours_with_a_common_beginning_do_not_overlap() {
    assert!(JobSpec::parse(&job("[dead_letter]\npath = \"s3://bucket/out-dead\"\n")).is_ok());
}

#[test]
fn a_relative_path_needs_a_folder_to_be_taken_from() {
    let text = job("[dead_letter]\npath = \"dead/../bad\"\n");
    assert_eq!(
        refusal(&text),
        "line 10: dead_letter.path: \"dead/../bad\" is a relative path, and a cluster has no folder to take it from\n  \
         hint: write it from the root, or s3://bucket/prefix/; `streamctl run` takes it from the folder of the job file"
    );
    let spec = JobSpec::parse_in(&text, Path::new("/jobs")).unwrap();
    assert_eq!(spec.dead_letter.unwrap().as_str(), "/jobs/bad/");
}

#[test]
fn places_too_long_for_the_names_of_objects_are_refused() {
    for (bytes, fits) in [(823, true), (825, false), (1_000, false)] {
        let prefix = format!("{}/", "p".repeat(bytes - 1));
        let text = job("").replace("s3://bucket/out/", &format!("s3://bucket/{prefix}"));
        let parsed = JobSpec::parse(&text);
        assert_eq!(parsed.is_ok(), fits, "{bytes}");
        if let Err(refused) = parsed {
            assert!(
                refused
                    .to_string()
                    .contains("is too long for the objects in it"),
                "{refused}"
            );
        }
    }
}

#[test]
fn bad_places_are_refused_with_a_better_one() {
    let place = |text: &str| {
        refusal(&job(&format!("[dead_letter]\npath = {text:?}\n")))
            .replace("line 10: dead_letter.path: ", "")
    };
    assert_eq!(
        place("s3a://bucket/x"),
        "unknown scheme in \"s3a://bucket/x\"\n  hint: write \"s3://bucket/x\""
    );
    assert!(place("s3://My_Bucket/x").starts_with("\"My_Bucket\" is not the name of a bucket\n"));
    assert!(place("s3://ab/x").starts_with("\"ab\" is not the name of a bucket\n"));
    assert!(place("s3://bucket//x").contains("has an empty, `.` or `..` part"));
    assert_eq!(
        place("file:///x/"),
        "local paths are written without file://\n  hint: write \"/x/\""
    );
    assert!(place("gs://bucket/x").starts_with("unknown scheme \"gs\""));
    assert!(place("/").starts_with("is the root of the file system"));
    assert!(place("").starts_with("must not be empty"));
}

#[test]
fn a_lookup_is_a_folder_with_a_name_of_its_own() {
    let lookup = |name: &str, path: &str| {
        refusal(&job(&format!(
            "[[lookup]]\nname = {name:?}\npath = {path:?}\n"
        )))
    };
    assert_eq!(
        lookup("source", "s3://bucket/l/"),
        "line 10: lookup[1].name: \"source\" is already the name of the stream's records\n  hint: give it another name"
    );
    assert!(
        lookup("a-b", "s3://bucket/l/").contains("is not a name that SQL knows without quotes")
    );
    assert_eq!(
        lookup("c", "s3://bucket/l/c.csv"),
        "line 11: lookup[1].path: names a file; it must be a folder, every file below it is read\n  \
         hint: did you mean \"s3://bucket/l\"?"
    );
}

#[test]
fn a_source_names_where_its_columns_come_from_once() {
    let two = job("schema_file = \"/t.json\"\n");
    assert!(refusal(&two).starts_with(
        "line 9: source.schema_file: the columns are already described by another key\n"
    ));
    let none =
        job("stream = \"s\"\n").replace("catalog = { database = \"d\", table = \"t\" }\n", "");
    assert!(
        refusal(&none).starts_with("line 6: source: does not say which columns the records have\n")
    );
    let typo = format!("{none}[source.schema]\nuuid = \"strng\"\nUUID = \"int\"\n");
    assert_eq!(
        refusal(&typo),
        "line 10: source.schema.uuid: \"strng\" is not a Hive type\n  hint: did you mean \"string\"?"
    );
    let unnamed = none.replace("stream = \"s\"\n", "[source.schema]\nuuid = \"string\"\n");
    assert!(
        refusal(&unnamed)
            .contains("says neither which stream to read nor which catalog table names it")
    );
}

#[test]
fn columns_differ_by_more_than_case() {
    let text = job("stream = \"s\"\n[source.schema]\nCountry = \"string\"\ncountry = \"string\"\n")
        .replace("catalog = { database = \"d\", table = \"t\" }\n", "");
    assert!(refusal(&text).contains(
        "source.schema.country: is there already, as \"Country\"; case makes no difference"
    ));
}

#[test]
fn a_start_is_a_keyword_or_a_time_with_its_zone() {
    let start = |value: &str| JobSpec::parse(&job(&format!("starting_position = {value}\n")));
    let timestamp = StartingPosition::Timestamp(1_795_481_100_000);
    for good in [
        "\"2026-11-24T00:45:00Z\"",
        "\"2026-11-24T01:45:00+01:00\"",
        "2026-11-24T00:45:00Z",
    ] {
        assert_eq!(
            start(good).unwrap().source.starting_position,
            timestamp,
            "{good}"
        );
    }
    assert_eq!(
        start("\"trim_horizn\"").unwrap_err().to_string(),
        "line 9: source.starting_position: \"trim_horizn\" is neither a known position nor a time with its zone\n  \
         hint: did you mean \"trim_horizon\"?"
    );
    assert!(start("2026-11-24").is_err() && start("5").is_err());
}

#[test]
fn a_sink_without_a_type_is_files() {
    let with =
        |extra: &str| JobSpec::parse(&job("").replace("sink.path", &format!("{extra}sink.path")));
    let named = with("sink.type = \"files\"\n").unwrap();
    assert_eq!(named, with("").unwrap());
    let error = with("sink.type = \"file\"\n").unwrap_err().to_string();
    assert_eq!(
        error,
        "line 4: sink.type: \"file\" is not one of files, iceberg\n  hint: did you mean \"files\"?"
    );
}

#[test]
fn snappy_is_for_parquet() {
    let text =
        job("[sink]\npath = \"s3://bucket/out/\"\nformat = \"json\"\ncompression = \"snappy\"\n")
            .replacen("sink.path = \"s3://bucket/out/\"\n", "", 1);
    assert_eq!(
        refusal(&text),
        "line 11: sink.compression: snappy is for format = \"parquet\" only\n  hint: use \"gzip\" or \"zstd\""
    );
}

#[test]
fn windows_have_bounds() {
    for (size, good) in [
        ("100ms", true),
        ("24h", true),
        ("99ms", false),
        ("25h", false),
        ("60", false),
    ] {
        let text = job("").replace("60s", size);
        assert_eq!(JobSpec::parse(&text).is_ok(), good, "{size}");
    }
}

#[test]
fn a_job_file_has_a_largest_size() {
    let text = format!("{}# {}", job(""), "x".repeat(JOB_FILE_BYTES_MAX));
    assert!(refusal(&text).contains("at most 1048576 are read"));
}

#[test]
fn a_key_is_found_again_by_its_name() {
    let text = "name = \"a\"\n\n[sink]\npath = \"/x\"\n\n[[lookup]]\nname = \"c\"\npath = \"/l\"\n[[lookup]]\npath = \"/m\"\n";
    let line = |field, part| super::line_of(text, field, part);
    assert_eq!(line("sink.path", None), Some(4));
    assert_eq!(line("lookup.path", None), Some(8));
    assert_eq!(line("lookup.path", Some(Part::Element(1))), Some(10));
    assert_eq!(
        (
            line("sink.format", None),
            line("lookup.path", Some(Part::Element(2)))
        ),
        (None, None)
    );
}

#[test]
fn a_line_of_a_text_is_found_where_it_stands_in_the_file() {
    for (value, line, found) in [
        ("\"\"\"\nSELECT a\nFROM b\n\"\"\"", 2, 4),
        ("\"\"\"SELECT a\nFROM b\"\"\"", 2, 3),
        ("'''\r\nSELECT '\\'\r\nFROM b\r\n'''", 1, 3),
        // More lines than it has.
        ("\"\"\"\nSELECT a\n\"\"\"", 9, 4),
        // Lines that are not lines of the file: the line of the key.
        ("\"SELECT a\\nFROM b\"", 2, 2),
        ("\"\"\"\nSELECT \\\n  a\nFROM b\"\"\"", 2, 2),
        ("7", 2, 2),
    ] {
        let text = format!("[transform]\nsql = {value}\n");
        assert_eq!(
            super::line_of(&text, "transform.sql", Some(Part::Line(line))),
            Some(found),
            "{value}"
        );
    }
}

#[test]
fn problems_are_listed_in_the_order_of_the_file() {
    let text = "name = \"a\"\n[source]\ntype = \"files\"\n[sink]\npath = \"/x\"\n";
    let problem = |field| Problem::new(field, "is wrong", None);
    let found = Problems(vec![
        problem("checkpoint.location"),
        problem("sink.path"),
        problem("source"),
    ])
    .located(text);
    let lines =
        "line 2: source: is wrong\nline 5: sink.path: is wrong\ncheckpoint.location: is wrong";
    assert_eq!(found.to_string(), lines);
}

#[test]
fn a_name_or_password_in_an_address_is_refused_and_not_shown() {
    let secret = "hunter2-password";
    let places = [
        job("").replace("s3://bucket/out/", &format!("s3://me:{secret}@bucket/out/")),
        job("").replace(
            "s3://bucket/out/",
            &format!("s3a://me:{secret}@bucket/out/"),
        ),
        job(&format!(
            "endpoint = \"https://me:{secret}@kinesis.example\""
        )),
    ];
    for text in places {
        let reported = refusal(&text);
        assert!(
            reported.contains("holds a name or a password") && !reported.contains(secret),
            "{reported}"
        );
    }
}

#[test]
fn a_place_on_the_machines_is_found_wherever_it_stands() {
    assert_eq!(JobSpec::parse(&job("")).unwrap().local_place(), None);
    for (from, to) in [
        ("s3://bucket/out/", "/out/"),
        ("s3://bucket/checkpoint/", "/checkpoint/"),
    ] {
        assert_eq!(
            JobSpec::parse(&job("").replace(from, to))
                .unwrap()
                .local_place(),
            Some(to)
        );
    }
    let lookup = "[[lookup]]\nname = \"l\"\npath = \"/lookup/\"\n";
    let dead = "[dead_letter]\npath = \"/dead/\"\n";
    assert_eq!(
        JobSpec::parse(&job(lookup)).unwrap().local_place(),
        Some("/lookup/")
    );
    assert_eq!(
        JobSpec::parse(&job(dead)).unwrap().local_place(),
        Some("/dead/")
    );
    let schema = job("schema_file = \"/schema.json\"").replace(
        "catalog = { database = \"d\", table = \"t\" }",
        "stream = \"s\"",
    );
    assert_eq!(
        JobSpec::parse(&schema).unwrap().local_place(),
        Some("/schema.json")
    );
    assert_eq!(
        JobSpec::parse_in(FILES, Path::new("/jobs"))
            .unwrap()
            .local_place(),
        Some("/jobs/data/orders/")
    );
}

fn format_of(extra: &str) -> PayloadFormat {
    let spec = JobSpec::parse(&job(extra)).unwrap();
    spec.source.kind.payload_format()
}

#[test]
fn rows_of_csv_have_a_delimiter_a_quote_and_a_text_for_null() {
    let csv = |delimiter, quote, null_text: &str| {
        PayloadFormat::Csv(CsvFormat {
            delimiter,
            quote,
            null_text: null_text.into(),
        })
    };
    assert_eq!(format_of(""), PayloadFormat::Json(JsonFormat::default()));
    assert_eq!(format_of("format = \"csv\"\n"), csv(',', '"', ""));
    let all = "format = \"csv\"\ndelimiter = \"\\t\"\nquote = \"'\"\nnull_text = \"\\\\N\"\n";
    assert_eq!(format_of(all), csv('\t', '\'', "\\N"));
}

#[test]
fn every_kind_of_source_has_rules_for_values_and_the_default_is_not_stored() {
    let rules = |extra: &str| JobSpec::parse(&job(extra)).unwrap().source.values;
    assert_eq!(rules(""), ValueRules::default());
    let spec = JobSpec::parse(&job("decimals = \"round\"\n")).unwrap();
    let stored = serde_json::to_value(&spec.source).unwrap();
    assert_eq!(stored.get("values"), None);
    let all = "timestamp_numbers = \"milliseconds\"\ntimestamp_formats = [\"yyyy/MM/dd HH:mm:ss\", \"dd.MM.yyyy\"]\n\
               decimals = \"exact\"\non_bad_value = \"null\"\n";
    let expected = ValueRules {
        timestamp_numbers: TimestampNumbers::Milliseconds,
        timestamp_formats: vec!["yyyy/MM/dd HH:mm:ss".into(), "dd.MM.yyyy".into()],
        decimals: Decimals::Exact,
        on_bad_value: OnBadValue::Null,
    };
    assert_eq!(rules(all), expected);
    let stored = serde_json::to_string(&expected).unwrap();
    assert_eq!(
        serde_json::from_str::<ValueRules>(&stored).unwrap(),
        expected
    );
    let partly = "{\"on_bad_value\":\"null\"}";
    assert_eq!(
        serde_json::from_str::<ValueRules>(partly).unwrap().decimals,
        Decimals::Round
    );
}

#[test]
fn a_pattern_of_times_is_checked_where_it_stands() {
    for (keys, reason) in [
        (
            "timestamp_formats = [\"yyyy\", \"YYYY-MM-dd\"]",
            "line 9: source.timestamp_formats[2]: \"YYYY-MM-dd\" is not a pattern of times: \"YYYY\" stands for no field of a time",
        ),
        ("timestamp_formats = \"yyyy\"", "expected a list"),
        (
            "timestamp_numbers = \"minutes\"",
            "\"minutes\" is not one of auto, seconds",
        ),
        ("on_bad_value = \"nul\"", "did you mean \"null\"?"),
    ] {
        let text = refusal(&job(&format!("{keys}\n")));
        assert!(text.contains(reason), "{keys}: {text}");
    }
}

#[test]
fn a_key_of_csv_belongs_to_csv_and_is_one_character() {
    assert_eq!(
        refusal(&job("delimiter = \";\"\n")),
        "line 9: source.delimiter: does not belong here\n  hint: it is a key of format = \"csv\""
    );
    for (keys, reason) in [
        ("delimiter = \";;\"", "\";;\" is not one ASCII character"),
        ("quote = \"é\"", "\"é\" is not one ASCII character"),
        ("delimiter = \"\"", "\"\" is not one ASCII character"),
        (
            "delimiter = '\"'",
            "delimiter and quote are the same character",
        ),
    ] {
        let text = refusal(&job(&format!("format = \"csv\"\n{keys}\n")));
        assert!(text.contains(reason), "{keys}: {text}");
    }
}

#[test]
fn history_is_kept_for_a_month_for_a_duration_or_for_ever() {
    let with = |keep: &str| {
        let keys = format!("\"\ncheckpoint.keep = \"{keep}\"\n[source]");
        job("").replace("\"\n[source]", &keys)
    };
    let keep = |text: &str| JobSpec::parse(&with(text)).unwrap().keep;
    assert_eq!(keep("90m").text(), "90m");
    assert_eq!(
        (keep("forever").ms(), keep("1m").ms()),
        (None, Some(60_000))
    );
    let default = JobSpec::parse(&job("")).unwrap();
    assert_eq!(default.keep.text(), "30d");
    // Jobs of earlier builds have no such key, and their stored form stays as it is.
    let stored = serde_json::to_string(&default).unwrap();
    assert!(!stored.contains("keep"), "{stored}");
    assert_eq!(serde_json::from_str::<JobSpec>(&stored).unwrap(), default);
    let other = JobSpec::parse(&with("7d")).unwrap();
    let stored = serde_json::to_string(&other).unwrap();
    assert_eq!(serde_json::from_str::<JobSpec>(&stored).unwrap(), other);
    for refused in ["59s", "always", "100000d"] {
        let error = refusal(&with(refused));
        assert!(error.contains("checkpoint.keep"), "{error}");
    }
}
