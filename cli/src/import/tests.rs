//! Whole imports: the job file is valid, its query can be planned, and every loss is noted.

use super::write::{Written, job_file};
use super::{nodes, script};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::query::{QueryPlan, QueryText};
use streamctl_proto::JobSpec;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{Dialect, FilesSink, SchemaFrom, SinkKind, StartingPosition};

const WORKSHOP: &str = include_str!("testdata/workshop.py");
const STUDIO: &str = include_str!("testdata/studio.py");
const GET_JOB: &str = include_str!("testdata/get-job.json");
const SALES: [&str; 14] = [
    "uuid",
    "country",
    "itemtype",
    "saleschannel",
    "orderpriority",
    "orderdate",
    "region",
    "shipdate",
    "unitssold",
    "unitprice",
    "unitcost",
    "totalrevenue",
    "totalcost",
    "totalprofit",
];

fn script(text: &str) -> Result<Written, String> {
    let args = BTreeMap::from([("s3_bucket".to_owned(), "my-bucket".to_owned())]);
    job_file(script::read(text, &args)?, "the job", None)
}

fn files(spec: &JobSpec) -> &FilesSink {
    let SinkKind::Files(sink) = &spec.sink else {
        panic!("it writes files");
    };
    sink
}

/// The names of the result columns, planned as in a submit.
fn planned(spec: &JobSpec) -> Vec<String> {
    let text = |name: &str| ColumnType {
        name: name.to_owned(),
        type_name: "string".to_owned(),
    };
    let columns = match &spec.source.schema {
        SchemaFrom::Inline(columns) => columns.clone(),
        _ => SALES.map(text).to_vec(),
    };
    let lookup = arrow_schema(&[text("x")], Default::default()).unwrap();
    let fields = ["CountryName", "Code"].map(|name| lookup.field(0).clone().with_name(name));
    let lookup = Arc::new(arrow::datatypes::Schema::new(fields.to_vec()));
    let lookups = spec
        .lookups
        .iter()
        .map(|table| (table.name.clone(), Arc::clone(&lookup)))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let plan = runtime.block_on(QueryPlan::new(
        arrow_schema(&columns, Default::default()).unwrap(),
        lookups,
        QueryText::submitted(spec),
    ));
    let plan = plan.unwrap_or_else(|error| panic!("{error}\n{}", spec.sql));
    plan.output_schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

fn notes(written: &Written) -> String {
    let line = |note: &super::flow::Note| {
        format!(
            "{}: {}\n",
            note.place.as_deref().unwrap_or("job"),
            note.text
        )
    };
    written.notes.iter().map(line).collect()
}

#[test]
fn the_workshop_s_script_becomes_the_model_job() {
    let written = script(WORKSHOP).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    let SchemaFrom::Catalog {
        database, table, ..
    } = &spec.source.schema
    else {
        panic!("{}", written.toml)
    };
    assert_eq!(
        (database.as_str(), table.as_str()),
        ("glueworkshop_cloudformation", "json-streaming-table")
    );
    assert_eq!(spec.source.starting_position, StartingPosition::TrimHorizon);
    assert_eq!((spec.window.ms(), spec.retries_max), (60_000, 5));
    assert_eq!(
        spec.lookups[0].path.as_str(),
        "s3://my-bucket/input/lab4/country_lookup/"
    );
    assert_eq!(
        planned(&spec),
        [
            "uuid",
            "itemtype",
            "saleschannel",
            "orderpriority",
            "orderdate",
            "region",
            "shipdate",
            "unitssold",
            "Code"
        ]
    );
    assert!(
        !files(&spec).path.overlaps(&spec.checkpoint),
        "{}",
        written.toml
    );
    let notes = notes(&written);
    assert!(notes.contains("named after the time of the run"), "{notes}");
    assert!(notes.contains("Glue's checkpoint is not read"), "{notes}");
}

#[test]
fn glue_studio_s_script_keeps_its_filter_its_sql_and_its_folders() {
    let written = script(STUDIO).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(planned(&spec), ["kind", "amount"]);
    assert!(
        spec.sql
            .contains("(amount >= 1.5 AND NOT (kind <=> 'it\\'s a test'))"),
        "{}",
        spec.sql
    );
    let sink = files(&spec);
    assert_eq!(sink.path.as_str(), "s3://my-bucket/orders/");
    assert_eq!(sink.partition_by.len(), 3, "{:?}", sink.partition_by);
    assert_eq!(spec.window.ms(), 100_000);
    let notes = notes(&written);
    assert!(
        notes.contains("line 51: `process_rows` is not carried over"),
        "{notes}"
    );
    let catalog = sink.catalog.as_ref().unwrap();
    assert_eq!(catalog.describe(), "d.orders");
    assert!(notes.contains("--set TempDir=VALUE"), "{notes}");
}

#[test]
fn a_table_of_the_catalog_is_kept_up_to_date_as_the_script_does() {
    let table = |text: &str| {
        let written = script(text).unwrap();
        files(&JobSpec::parse(&written.toml).unwrap())
            .catalog
            .clone()
    };
    let logs = STUDIO.replace("UPDATE_IN_DATABASE", "LOG");
    let logs = table(&logs).unwrap();
    assert_eq!(logs.describe(), "d.orders, add_columns = false");
    let without = STUDIO.replace("enableUpdateCatalog=True", "enableUpdateCatalog=False");
    assert_eq!(table(&without), None);
    let unnamed = STUDIO.replace("setCatalogInfo(catalogDatabase", "setCatalogInfo(x");
    let written = script(&unnamed).unwrap();
    assert_eq!(files(&JobSpec::parse(&written.toml).unwrap()).catalog, None);
    let notes = notes(&written);
    assert!(notes.contains("name it in [sink] catalog"), "{notes}");
}

/// The workshop's script with another body around its steps.
fn with_condition(condition: &str) -> Written {
    script(&WORKSHOP.replace("if data_frame.count() > 0:", condition)).unwrap()
}

#[test]
fn a_condition_is_left_out_in_silence_only_where_it_filters_rows() {
    let not_carried = "the condition of this `if` is not carried over";
    for good in [
        "if data_frame.count() > 0:",
        "if not data_frame.rdd.isEmpty():",
        "if len(data_frame.head(1)) > 0:",
    ] {
        let written = with_condition(good);
        assert!(
            !notes(&written).contains(not_carried),
            "{good}: {}",
            notes(&written)
        );
    }
    for other in [
        "if data_frame.count() > 100:",
        "if country_lookup.count() > 0:",
        "if enabled and data_frame.count() > 0:",
    ] {
        let written = with_condition(other);
        assert!(
            notes(&written).contains(&format!("line 29: {not_carried}")),
            "{other}: {}",
            notes(&written)
        );
        assert_eq!(
            planned(&JobSpec::parse(&written.toml).unwrap()).len(),
            9,
            "{other}"
        );
    }
}

#[test]
fn what_runs_on_a_batch_without_rows_is_left_out_and_its_else_is_taken() {
    let usual = with_condition("if data_frame.count() > 0:");
    for empty in [
        "if data_frame.count() == 0:\n        print(\"nothing\")\n    else:",
        "if data_frame.isEmpty(): return\n    if data_frame.count() > 0:",
    ] {
        let written = with_condition(empty);
        assert_eq!(written.toml, usual.toml, "{empty}");
        assert!(
            !notes(&written).contains("`if`") && !notes(&written).contains("`else`"),
            "{}",
            notes(&written)
        );
    }
    let written =
        with_condition("if data_frame.first()[0]:\n        return\n    if data_frame.count() > 0:");
    assert!(
        notes(&written).contains("line 30: this `return` is not carried over"),
        "{}",
        notes(&written)
    );
}

#[test]
fn actions_on_errors_are_named_and_actions_at_the_end_are_carried() {
    let body = "try:\n        unused = 1\n    except Exception as e:\n        sns.publish(Message=str(e))\n        raise\n    finally:\n        \
                boto3.client(\"sns\").publish(Message=\"done\")\n    if data_frame.count() > 0:";
    let notes = notes(&with_condition(body));
    assert!(
        notes.contains("line 31: `except` and its body are not carried over"),
        "{notes}"
    );
    assert!(
        notes.contains("line 35: `publish` is not carried over"),
        "{notes}"
    );
    assert!(!notes.contains("line 32"), "{notes}");
}

#[test]
fn half_of_a_condition_is_never_taken_for_the_whole() {
    let filter = STUDIO.replace(
        "not row[\"kind\"] == \"it's a test\")",
        "row[\"kind\"] == \"a\") if strict else True",
    );
    let written = script(&filter).unwrap();
    assert!(!written.toml.contains("WHERE (amount"), "{}", written.toml);
    assert!(
        notes(&written).contains("the condition of this Filter is not understood"),
        "{}",
        notes(&written)
    );
}

#[test]
fn a_filter_by_a_list_and_by_a_regular_expression_as_studio_writes_it_is_kept() {
    let filter = "not row[\"kind\"] == \"it's a test\"";
    let with = |other: &str| {
        JobSpec::parse(&script(&STUDIO.replace(filter, other)).unwrap().toml).unwrap()
    };
    let spec =
        with("bool(re.match(\"a|b\", row[\"kind\"])) and row[\"kind\"] not in [\"a\", \"b'\"]");
    assert!(
        spec.sql
            .contains("rlike(kind, '^(?:a|b)')) AND (kind IS NULL OR kind NOT IN ('a', 'b\\''))"),
        "{}",
        spec.sql
    );
    assert_eq!(planned(&spec), ["kind", "amount"]);
}

/// P32: calls of PySpark's data frames.
#[test]
fn columns_of_pyspark_become_columns_of_the_query() {
    let call = "sparkSqlQuery(\n            glueContext,\n            query=\"select kind, amount from myDataSource where amount < 100\",\n            \
                mapping={\"myDataSource\": Filter_node3},\n            transformation_ctx=\"SQLQuery_node4\",\n        )";
    let with = |calls: &str| {
        let frame = format!("DynamicFrame.fromDF(Filter_node3.toDF(){calls}, glueContext, \"x\")");
        script(&STUDIO.replace(call, &frame)).unwrap()
    };
    let spec = |written: &Written| JobSpec::parse(&written.toml).unwrap();
    let computed = with(
        ".withColumn(\"half\", F.round(F.col(\"amount\") / 2, 1))\
         .withColumn(\"size\", F.when(F.col(\"half\") > 1.5, \"large\").otherwise(\"it's small\"))\
         .filter(F.col(\"kind\").isin(\"a\", \"b\") & ~F.col(\"half\").isNull())\
         .select(\"kind\", F.col(\"half\").cast(\"string\").alias(\"h\"), \"size\")",
    );
    assert_eq!(planned(&spec(&computed)), ["kind", "h", "size"]);
    let sql = spec(&computed).sql;
    for part in [
        "round((amount / 2), 1) AS half",
        "CASE WHEN (half > CAST('1.5' AS DOUBLE)) THEN 'large' ELSE 'it\\'s small' END AS size",
        "((kind IN ('a', 'b')) AND (NOT (half IS NULL)))",
        "CAST(half AS string) AS h",
    ] {
        assert!(sql.contains(part), "{part}: {sql}");
    }
    let grouped = with(
        ".groupBy(\"kind\").agg(F.sum(\"amount\").alias(\"total\"), F.count(\"*\").alias(\"n\")).where(\"total > 3\")",
    );
    assert_eq!(planned(&spec(&grouped)), ["kind", "total", "n"]);
    let replaced = with(
        ".withColumn(\"kind\", F.upper(\"kind\")).selectExpr(\"kind\", \"amount * 2 AS twice\")",
    );
    assert_eq!(planned(&spec(&replaced)), ["kind", "twice"]);
    for unknown in [
        ".withColumn(\"k\", my_udf(row))",
        ".withColumn(\"k\", F.col(\"a.b\"))",
        ".select(F.upper(\"kind\"))",
    ] {
        let written = with(unknown);
        assert!(
            notes(&written).contains("is not carried over"),
            "{unknown}: {}",
            notes(&written)
        );
    }
}

#[test]
fn spark_sql_over_views_is_taken_as_it_is() {
    let call = "sparkSqlQuery(\n            glueContext,\n            query=\"select kind, amount from myDataSource where amount < 100\",\n            \
                mapping={\"myDataSource\": Filter_node3},\n            transformation_ctx=\"SQLQuery_node4\",\n        )";
    assert!(STUDIO.contains(call));
    let views = "spark.sql(\"select kind, amount from v where amount < 100\")";
    let text = STUDIO.replace(call, views).replace(
        "        SQLQuery_node4 =",
        "        Filter_node3.createOrReplaceTempView(\"v\")\n        SQLQuery_node4 =",
    );
    let written = script(&text).unwrap();
    assert_eq!(
        planned(&JobSpec::parse(&written.toml).unwrap()),
        ["kind", "amount"],
        "{}",
        written.toml
    );
    let divided =
        script(&text.replace("select kind, amount", "select kind, amount / 2 as amount")).unwrap();
    // P32: it means what it means in Spark, so there is nothing to note.
    let spec = JobSpec::parse(&divided.toml).unwrap();
    assert_eq!(spec.dialect, Dialect::Spark);
    assert_eq!(planned(&spec), ["kind", "amount"]);
    assert!(
        !notes(&divided).contains("transform.sql"),
        "{}",
        notes(&divided)
    );
    let quoted = script(&text.replace(
        "select kind, amount from v where amount < 100",
        "select `kind`, date_format(current_day, 'yyyy') as y, histogram_numeric(kind) as z from v where kind != 'a`b'",
    ))
    .unwrap();
    assert!(quoted.toml.contains("kind != 'a`b'"), "{}", quoted.toml);
    assert!(
        notes(&quoted).contains("the function histogram_numeric() is not supported"),
        "{}",
        notes(&quoted)
    );
    let unknown = script(&STUDIO.replace(call, "spark.sql(\"select 1\")")).unwrap();
    assert!(
        notes(&unknown).contains("`sql` is not carried over"),
        "{}",
        notes(&unknown)
    );
}

#[test]
fn files_without_a_header_and_unread_places_are_named() {
    let notes_of = |from: &str, to: &str| notes(&script(&WORKSHOP.replace(from, to)).unwrap());
    let reported = notes_of("\"withHeader\": True, ", "");
    assert!(
        reported.contains("line 19: the lookup's files have no header line"),
        "{reported}"
    );
    let reported = notes_of(
        "\"path\": target}",
        "\"path\": target, \"fileSize\": \"1\"}",
    );
    assert!(
        reported.contains("the option \"filesize\" of the target is not carried over"),
        "{reported}"
    );
    let reported = notes_of(
        "source.printSchema()",
        "more = spark.read.option(\"a\", \"b\").json(\"s3://x/y/\")",
    );
    assert!(
        reported.contains("line 61: `json` of \"s3://x/y/\" is not carried over"),
        "{reported}"
    );
}

#[test]
fn the_workshop_s_script_leaves_little_to_look_at() {
    let notes = notes(&script(WORKSHOP).unwrap());
    let lines: Vec<_> = notes
        .lines()
        .filter(|line| line.starts_with("line "))
        .collect();
    assert_eq!(lines.len(), 1, "{notes}");
}

#[test]
fn unused_settings_are_named() {
    let json = GET_JOB
        .replace(
            "\"DetectSchema\": false",
            "\"DetectSchema\": false, \"Watermark\": 5",
        )
        .replace(
            "\"--TempDir\"",
            "\"--extra-jars\": \"s3://x/y.jar\", \"--TempDir\"",
        )
        .replace(
            "\"Role\": \"r\"",
            "\"Role\": \"r\", \"Connections\": {\"Connections\": [\"vpc\"]}",
        );
    let job = nodes::parse_get_job(&json).unwrap();
    let mut flow = nodes::read(&job);
    job.note_settings(&mut flow);
    let notes = notes(&job_file(flow, &job.name, None).unwrap());
    for reported in [
        "Sales stream: the setting Watermark is not carried over",
        "job: its connections",
        "job: its extra JARs",
    ] {
        assert!(notes.contains(reported), "{reported}: {notes}");
    }
    assert!(
        !notes.contains("setting WindowSize") && !notes.contains("setting Inputs"),
        "{notes}"
    );
}

#[test]
fn the_nodes_of_a_visual_job_become_a_job_file() {
    let job = nodes::parse_get_job(GET_JOB).unwrap();
    assert_eq!(job.args["TempDir"], "s3://my-bucket/temp/");
    let written = job_file(nodes::read(&job), &job.name, None).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.window.ms()),
        ("sales-nightly", 60_000)
    );
    assert_eq!(planned(&spec), ["uuid", "units", "Code"]);
    assert_eq!(files(&spec).extension(), "json.gz");
    let notes = notes(&written);
    assert!(
        notes.contains("Hide names: a node of kind PIIDetection is not carried over"),
        "{notes}"
    );
}

#[test]
fn what_a_hostile_script_holds_is_text_and_stays_text() {
    let sql = WORKSHOP.replace(
        "\"unitprice\", \"string\", \"unitprice\"",
        "\"a\\\"; DROP TABLE x\", \"string\", \"x'''\\n[sink]\"",
    );
    let written = script(&sql).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(files(&spec).path.as_str().split('/').next_back(), Some(""));
    assert!(spec.sql.contains("`a\"; drop table x`"), "{}", spec.sql);
    let bad = WORKSHOP.replace("/input/lab4/", "/../../\\n\\\"]\\n[source]\\ntype=1/");
    JobSpec::parse(&script(&bad).unwrap().toml).unwrap();
    for (from, to) in [
        ("60 seconds", "-1\\\"\\n"),
        ("TRIM_HORIZON", "x\\\"\\ny"),
        ("json-streaming-table", "a\\\"}\\n"),
    ] {
        JobSpec::parse(&script(&WORKSHOP.replace(from, to)).unwrap().toml).unwrap();
    }
}

#[test]
fn no_part_of_a_script_breaks_the_import() {
    for (text, step) in [(WORKSHOP, 41), (STUDIO, 53)] {
        for end in (0..text.len())
            .step_by(step)
            .filter(|end| text.is_char_boundary(*end))
        {
            for part in [&text[..end], &text[end..]] {
                if let Ok(written) = script(part) {
                    JobSpec::parse(&written.toml).unwrap();
                }
            }
        }
    }
    for odd in [
        r#"{"Job": {}}"#,
        r#"{"Job": {"CodeGenConfigurationNodes": {"a": {"Join": {"Inputs": ["a"]}}, "b": 1}}}"#,
    ] {
        let job = nodes::parse_get_job(odd).unwrap();
        assert!(job_file(nodes::read(&job), &job.name, None).is_err());
    }
    for bad in ["", "[]", "{}", "{\"Job\": 1}"] {
        assert!(nodes::parse_get_job(bad).is_err(), "{bad}");
    }
}

#[test]
fn without_any_columns_the_table_is_asked_for() {
    let bare = STUDIO.replace("ApplyMapping.apply", "Unknown.apply");
    let error = script(&bare).unwrap_err();
    assert!(error.contains("--catalog DATABASE.TABLE"), "{error}");
    let args = BTreeMap::new();
    let table = Some(("d".to_owned(), "t".to_owned()));
    let written = job_file(script::read(&bare, &args).unwrap(), "x", table).unwrap();
    assert!(
        written
            .toml
            .contains("catalog = { database = \"d\", table = \"t\" }"),
        "{}",
        written.toml
    );
}

#[test]
fn columns_of_the_batch_s_time_become_folders() {
    let text = STUDIO
        .replace(
            "DynamicFrame.fromDF(data_frame, glueContext",
            "DynamicFrame.fromDF(glueContext.add_ingestion_time_columns(data_frame, \"hour\"), glueContext",
        )
        .replace("mappings=[", "mappings=[(\"ingest_year\", \"string\", \"ingest_year\", \"string\"), ")
        .replace(
            "partitionKeys=[\"kind\"]",
            "partitionKeys=[\"ingest_year\", \"ingest_month\", \"ingest_day\", \"ingest_hour\"]",
        );
    let written = script(&text).unwrap();
    let spec = JobSpec::parse(&written.toml).unwrap();
    assert_eq!(planned(&spec), ["kind", "amount"], "{}", written.toml);
    assert_eq!(files(&spec).partition_by.len(), 4, "{}", written.toml);
    assert!(
        notes(&written).contains("line 40: ingest_year and the like are of the window's start"),
        "{}",
        notes(&written)
    );
}

#[test]
fn a_join_as_studio_writes_it_for_spark_keeps_its_kind_and_its_keys() {
    let inner = "Join.apply(mapped, country_lookup, \"country\", \"CountryName\")";
    assert!(WORKSHOP.contains(inner));
    let with = |condition: &str| {
        let join =
            format!("DynamicFrame.fromDF(leftDF.join(rightDF, {condition}), context, \"joined\")");
        let frames =
            "leftDF = mapped.toDF()\n        rightDF = country_lookup.toDF()\n        joined = ";
        script(&WORKSHOP.replace(inner, &join).replace("joined = ", frames)).unwrap()
    };
    for (condition, how) in [
        (
            "(leftDF[\"country\"] == rightDF[\"CountryName\"]), \"left\"",
            "LEFT JOIN",
        ),
        (
            "rightDF.CountryName == leftDF.country, how=\"leftouter\"",
            "LEFT JOIN",
        ),
        (
            "(leftDF[\"country\"] == rightDF[\"CountryName\"])",
            "INNER JOIN",
        ),
    ] {
        let written = with(condition);
        let spec = JobSpec::parse(&written.toml).unwrap();
        assert!(
            spec.sql.contains(how) && spec.sql.contains("l.country = r.`CountryName`"),
            "{}",
            spec.sql
        );
        assert_eq!(planned(&spec).len(), 9, "{}", spec.sql);
    }
    for unknown in [
        "leftDF[\"country\"] != rightDF[\"CountryName\"]",
        "(leftDF[\"country\"] == rightDF[\"CountryName\"]), \"sideways\"",
    ] {
        assert!(
            notes(&with(unknown)).contains("`join` is not carried over"),
            "{unknown}"
        );
    }
}

#[test]
fn targets_in_their_other_forms_are_found() {
    let write = "context.write_dynamic_frame.from_options(\n            frame=joined, connection_type=\"s3\", \
                 connection_options={\"path\": target}, format=\"csv\"\n        )";
    assert!(WORKSHOP.contains(write));
    let catalog = "context.write_dynamic_frame.from_catalog(frame=joined, database=\"d\", table_name=\"t\", \
                   additional_options={\"partitionKeys\": [\"region\"]})";
    let written = script(&WORKSHOP.replace(write, catalog)).unwrap();
    assert!(
        notes(&written).contains("line 50: the target d.t is a table of the catalog"),
        "{}",
        notes(&written)
    );
    assert!(
        written.toml.contains("partition_by = [\"region\"]")
            && written.toml.contains("s3://set-output/"),
        "{}",
        written.toml
    );

    let alias = WORKSHOP.replace(
        "write_dynamic_frame.from_options",
        "write_dynamic_frame_from_options",
    );
    assert_eq!(script(&alias).unwrap(), script(WORKSHOP).unwrap());
    let named = STUDIO.replace(
        "setFormat(\"glueparquet\")",
        "setFormat(\"json\", compression=\"gzip\")",
    );
    let spec = JobSpec::parse(
        &script(&named.replace("            compression=\"snappy\",\n", ""))
            .unwrap()
            .toml,
    )
    .unwrap();
    assert_eq!(files(&spec).extension(), "json.gz");
}
