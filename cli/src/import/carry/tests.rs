//! Batch functions with code of their own: what becomes of it in transform.py.
//!
//! Rule: what is written is compiled by Python itself.

use super::super::script;
use super::super::write::{Written, job_file};
use std::collections::BTreeMap;
use std::process::Command;
use streamctl_proto::JobSpec;

const WORKSHOP: &str = include_str!("../testdata/workshop.py");
const PANDAS: &str = include_str!("../testdata/pandas.py");
const SEVERAL: &str = include_str!("../testdata/several.py");

fn imported(text: &str) -> Written {
    let args = BTreeMap::from([
        ("BUCKET".to_owned(), "my-bucket".to_owned()),
        ("LIMIT".to_owned(), "2.5\"".to_owned()),
    ]);
    let written = job_file(script::read(text, &args).unwrap(), "the job", None).unwrap();
    JobSpec::parse(&written.toml).unwrap();
    written
}

/// The function's file, after Python compiled it.
#[track_caller]
fn compiled(written: &Written) -> String {
    let text = written.function.clone().expect("no function");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("transform.py");
    std::fs::write(&file, &text).unwrap();
    let output = Command::new("python3")
        .args(["-m", "py_compile"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}\n{text}");
    assert!(!text.contains("awsglue"), "{text}");
    text
}

/// The lines that have a TODO.
fn todos(text: &str) -> Vec<usize> {
    let number = |line: &str| {
        line.split("# TODO line ")
            .nth(1)?
            .split(':')
            .next()?
            .parse()
            .ok()
    };
    text.lines().filter_map(number).collect()
}

fn noted(written: &Written, line: usize) -> bool {
    let place = format!("line {line}");
    written
        .notes
        .iter()
        .any(|note| note.place.as_ref() == Some(&place))
}

#[test]
fn a_function_on_pandas_needs_no_change() {
    let written = imported(PANDAS);
    let text = compiled(&written);
    assert!(
        written.toml.contains(
            "[function]\nfile = \"transform.py\"\nname = \"process_batch\"\nframe = \"pandas\"\n"
        ),
        "{}",
        written.toml
    );
    assert!(!written.toml.contains("[transform]"), "{}", written.toml);
    assert!(
        written.toml.contains(
            "path = \"s3://my-bucket/rates/\"\nformat = \"parquet\"\npartition_by = [\"machine\"]"
        ),
        "{}",
        written.toml
    );
    let body = "def process_batch(data_frame, batch_id):\n    rows = data_frame\n    # The slow ones only.\n    \
                result = rate(rows)\n    return result\n";
    assert!(text.ends_with(body), "{text}");
    assert!(
        text.contains("# Readings of the machines in hall 3 are doubled.\ndef rate("),
        "{text}"
    );
    assert!(text.contains("limit = \"2.5\\\"\"\n"), "{text}");
    assert!(
        text.contains("import pandas as pd\n") && !text.contains("bucket"),
        "{text}"
    );
    assert_eq!(todos(&text), Vec::<usize>::new());
    assert!(noted(&written, 14), "{:?}", written.notes);
}

#[test]
fn of_several_targets_one_is_returned_and_each_other_has_a_todo() {
    let written = imported(SEVERAL);
    let text = compiled(&written);
    assert!(
        written.toml.contains("frame = \"pyspark\""),
        "{}",
        written.toml
    );
    assert!(
        written
            .toml
            .contains("path = \"s3://my-bucket/other/\"\nformat = \"json\""),
        "{}",
        written.toml
    );
    assert_eq!(todos(&text), [21, 30, 31, 32, 38], "{text}");
    for line in todos(&text) {
        assert!(noted(&written, line), "{line}: {:?}", written.notes);
    }
    for part in [
        "    hidden = data_frame.withColumn(\"user\", pseudonym_udf(F.col(\"user\")))\n",
        "            # part.write.mode(\"append\").parquet(f\"s3://{bucket}/{table}/\")\n            pass\n",
        "    rest = hidden.filter(~F.col(\"kind\").isin(*KINDS))\n",
        "    result = rest\n",
        "\n    return result\n",
        "import hashlib\n",
        "KINDS = {\"click\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("getResolvedOptions"), "{text}");
}

#[test]
fn what_steps_stand_for_stays_in_sql() {
    let spark = SEVERAL.replace(
        "pseudonym_udf(F.col(\"user\"))",
        "F.sha2(F.col(\"user\"), 256)",
    );
    let body = spark.find("        for kind").unwrap();
    let end = spark.find("        hidden.createOrReplace").unwrap();
    let rest = spark.find("        rest = ").unwrap();
    let last = spark.find("        if names.count").unwrap();
    let call = spark.find("\n\nglue_context.forEach").unwrap();
    assert!(end > body);
    let plain = format!("{}{}{}", &spark[..body], &spark[rest..last], &spark[call..]);
    let plain = plain.replace("~F.col(\"kind\").isin(*KINDS)", "F.col(\"kind\") == \"a\"");
    let written = imported(&plain);
    assert_eq!(written.function, None, "{}", written.toml);
    assert!(written.toml.contains("(kind = 'a')"), "{}", written.toml);
    let minutes = plain.replace(
        "F.sha2(F.col(\"user\"), 256)",
        "F.date_trunc(\"user\", F.col(\"at\"))",
    );
    let written = imported(&minutes);
    assert!(!written.toml.contains("EXCLUDE (user)"), "{}", written.toml);
    let with_transforms = WORKSHOP.replace(
        "        joined = ",
        "        for unknown in []:\n            print(unknown)\n        joined = ",
    );
    let written = imported(&with_transforms);
    assert_eq!(written.function, None);
    let note = written
        .notes
        .iter()
        .find(|note| note.text.contains("uses ApplyMapping"));
    assert!(note.is_some(), "{:?}", written.notes);
}

#[test]
fn a_batch_without_rows_goes_through_the_function() {
    let guard = "    if rows.empty:\n        return\n";
    for (other, kept) in [
        ("    if data_frame.count() == 0: return\n", ""),
        (
            "    if len(rows) == 0:\n        print(\"none\")\n        return\n",
            "",
        ),
        (
            "    if rows.empty:\n        return\n    else:\n        print(\"some\")\n",
            "    if False:\n",
        ),
    ] {
        let written = imported(&PANDAS.replace(guard, other));
        let text = compiled(&written);
        assert!(
            !text.contains("empty:") && !text.contains("count()"),
            "{text}"
        );
        assert!(
            text.contains(kept) && text.contains("result = rate(rows)\n"),
            "{text}"
        );
    }
    let other = imported(&PANDAS.replace(guard, "    if rows[\"a\"].all():\n        return\n"));
    let text = compiled(&other);
    assert_eq!(todos(&text), [29], "{text}");
}

#[test]
fn lookups_errors_and_calls_of_aws_are_carried_over() {
    let lookup = "lookup = glue_context.create_dynamic_frame.from_options(connection_type=\"s3\", \
                  connection_options={\"paths\": [\"s3://my-bucket/l/\"]}, format=\"parquet\").toDF()\n\n\n@cached\ndef rate(";
    let body = "    try:\n        result = rate(rows).merge(lookup)\n    except ValueError as error:\n        \
                boto3.client(\"sns\").publish(Message=str(error))\n        spark.stop()\n";
    let text = PANDAS
        .replace(
            "import pandas",
            "import boto3\nfrom functools import cache as cached\nimport pandas",
        )
        .replace("def rate(", lookup)
        .replace("    result = spark.createDataFrame(rate(rows))\n", body);
    let written = imported(&text);
    let text = compiled(&written);
    for part in [
        "def process_batch(data_frame, batch_id, context):\n    lookup = context.lookups[\"lookup\"]\n",
        "@cached\ndef rate(",
        "without `raise`, rows of a window",
        "`network = true`",
        "`spark` is of Glue's session",
        "import boto3\nfrom functools import cache as cached\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        written
            .toml
            .contains("[[lookup]]\nname = \"lookup\"\npath = \"s3://my-bucket/l/\""),
        "{}",
        written.toml
    );
}

#[test]
fn no_part_of_a_function_breaks_the_import() {
    let args = BTreeMap::new();
    for text in [PANDAS, SEVERAL] {
        for (begin, _) in text.char_indices().step_by(37) {
            for (end, _) in text.char_indices().step_by(211) {
                let part = match begin < end {
                    true => [&text[..begin], &text[end..]].concat(),
                    false => text[begin..].to_owned(),
                };
                let table = Some(("d".to_owned(), "t".to_owned()));
                if let Ok(flow) = script::read(&part, &args)
                    && let Ok(written) = job_file(flow, "x", table)
                {
                    JobSpec::parse(&written.toml).unwrap();
                }
            }
        }
    }
}
