//! Tables as Glue's crawlers, its console and Athena's DDL write them, against sources.

use crate::catalog::{Asked, CatalogTable, parse_get_table};
use streamctl_proto::JobSpec;
use streamctl_proto::spec::SourceSpec;

const OPENX: &str = "org.openx.data.jsonserde.JsonSerDe";
const LAZY: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";
const OPEN_CSV: &str = "org.apache.hadoop.hive.serde2.OpenCSVSerde";

/// A source with these keys.
fn spec(source: &str) -> SourceSpec {
    let job = format!(
        "name = \"a\"\n[source]\n{source}\n[source.schema]\nid = \"int\"\n[window]\nsize = \"1m\"\n[transform]\n\
         sql = \"SELECT id FROM source\"\n[sink]\npath = \"s3://bkt/out/\"\n[checkpoint]\nlocation = \"s3://bkt/c/\"\n"
    );
    JobSpec::parse(&job).expect("the job file is right").source
}

const STREAM: &str = "type = \"kinesis\"\nstream = \"s\"";
const CSV_STREAM: &str = "type = \"kinesis\"\nstream = \"s\"\nformat = \"csv\"";
const FILES: &str = "type = \"files\"\npath = \"s3://bkt/in/\"\nformat = \"json\"";
const CSV_FILES: &str = "type = \"files\"\npath = \"s3://bkt/in/\"\nformat = \"csv\"";

fn table(library: &str, serde: &str, parameters: &str, storage: &str) -> CatalogTable {
    let json = format!(
        r#"{{"Table": {{"Name": "events", "DatabaseName": "lake", "Parameters": {{{parameters}}},
            "StorageDescriptor": {{"Columns": [{{"Name": "id", "Type": "int"}}, {{"Name": "ts", "Type": "timestamp"}},
                {{"Name": "a_b", "Type": "string"}}, {{"Name": "Req_Id", "Type": "string"}}], {storage}
                "SerdeInfo": {{"SerializationLibrary": "{library}", "Parameters": {{{serde}}}}}}}}}}}"#
    );
    parse_get_table(&json).expect("a GetTable response")
}

fn asked(table: &CatalogTable, source: &str) -> Asked {
    table.reading.asked_of(&spec(source), &table.columns)
}

/// The messages and hints of what is refused.
fn refused(table: &CatalogTable, source: &str) -> Vec<String> {
    let asked = asked(table, source);
    let line = |one: &super::RefusedProperty| format!("{}; {}", one.message, one.hint);
    asked.refused.iter().map(line).collect()
}

/// With this property alone.
fn refusal(library: &str, serde: &str, source: &str) -> Option<String> {
    refused(&table(library, serde, "", ""), source)
        .into_iter()
        .next()
}

#[test]
fn p15_mappings_dots_and_case_are_honoured() {
    let serde = r#""mapping.ts": "timestamp", "mapping.req_id": "Request-Id", "dots.in.keys": "true",
        "case.insensitive": "false", "ignore.malformed.json": "true", "paths": "timestamp,a.b,id", "serialization.format": "1""#;
    let table = table(OPENX, serde, r#""classification": "json""#, "");
    for source in [STREAM, FILES] {
        let asked = asked(&table, source);
        assert_eq!(asked.refused, []);
        assert_eq!(asked.keys.of_column("ts"), Some("timestamp"));
        assert_eq!(asked.keys.of_column("Req_Id"), Some("Request-Id"));
        assert!(asked.keys.dots_are_underscores && asked.keys.case_counts);
        assert!(asked.notes[0].contains("dead letter"), "{:?}", asked.notes);
    }
    let plain = r#""mapping.nothing": "x", "case.insensitive": "TRUE", "dots.in.keys": "FALSE""#;
    let asked = asked(&self::table(OPENX, plain, "", ""), STREAM);
    assert!(asked.keys.is_plain() && asked.notes[0].contains("no column nothing"));
}

#[test]
fn p15_what_is_not_honoured_is_refused_with_property_table_and_hint() {
    for library in [OPENX, "org.apache.hive.hcatalog.data.JsonSerDe"] {
        for (serde, words) in [
            (
                r#""timestamp.formats": "dd/MM/yyyy HH:mm""#,
                "\"dd/MM/yyyy HH:mm\"",
            ),
            (
                r#""timestamp.formats": "yyyy-MM-dd HH:mm:ss,millis""#,
                "\"millis\"",
            ),
            (r#""dots.in.keys": "yes""#, "true or false"),
            (r#""mapping.ts": """#, "no key is empty"),
            (r#""mapping.ts": "ID""#, "columns id and ts would both"),
            (r#""skip.header.line.count": "1""#, "skips 0 lines"),
            (r#""strip.outer.array": "true""#, "not known here"),
            (r#""serialization.encoding": "GBK""#, "UTF-8"),
        ] {
            let found = refusal(library, serde, STREAM).expect(serde);
            let property = serde.split('"').nth(1).unwrap_or_default();
            assert!(found.starts_with("table lake.events: "), "{found}");
            assert!(found.contains(property) && found.contains(words), "{found}");
        }
    }
    let read = r#""timestamp.formats": "yyyy-MM-dd'T'HH:mm:ss.SSS'Z',yyyy-MM-dd HH:mm:ss""#;
    assert_eq!(refusal(OPENX, read, STREAM), None);
    let own = format!("{STREAM}\ntimestamp_formats = [\"dd/MM/yyyy HH:mm\"]");
    let both = r#""timestamp.formats": "yyyy-MM-dd HH:mm:ss, dd/MM/yyyy HH:mm""#;
    assert_eq!(refusal(OPENX, both, &own), None, "the job reads them");
}

#[test]
fn delimiters_and_quotes_must_be_those_of_the_source() {
    let semicolons =
        format!("{CSV_STREAM}\ndelimiter = \";\"\nquote = \"'\"\nnull_text = \"\\\\N\"");
    let tabs = format!("{CSV_STREAM}\ndelimiter = \"\\t\"");
    for (library, serde, source) in [
        (
            OPEN_CSV,
            r#""separatorChar": ",", "quoteChar": "\"", "escapeChar": "\"""#,
            CSV_STREAM,
        ),
        (
            OPEN_CSV,
            r#""separatorChar": ";", "quoteChar": "'""#,
            semicolons.as_str(),
        ),
        (
            LAZY,
            r#""field.delim": ";", "serialization.format": ";", "serialization.null.format": "\\N""#,
            &semicolons,
        ),
        (
            LAZY,
            r#""field.delim": "\t", "line.delim": "\n", "collection.delim": "|""#,
            &tabs,
        ),
        (LAZY, r#""field.delim": "\\t""#, &tabs),
        (
            LAZY,
            r#""field.delim": ",", "skip.header.line.count": "1""#,
            CSV_FILES,
        ),
    ] {
        let found = refusal(library, serde, source);
        assert_eq!(found, None, "{serde}");
    }
    for (library, serde, source, words) in [
        (
            OPEN_CSV,
            r#""separatorChar": ";""#,
            CSV_STREAM,
            "write delimiter = \";\" in [source]",
        ),
        (LAZY, r#""field.delim": "|""#, CSV_FILES, "[source.schema]"),
        (
            LAZY,
            r#""serialization.format": "|""#,
            CSV_STREAM,
            "write delimiter = \"|\"",
        ),
        (
            OPEN_CSV,
            r#""quoteChar": "'""#,
            CSV_STREAM,
            "write quote = \"'\"",
        ),
        (OPEN_CSV, r#""escapeChar": "\\""#, CSV_STREAM, "doubled"),
        (LAZY, r#""escape.delim": "\\""#, CSV_FILES, "doubled"),
        (
            LAZY,
            r#""serialization.null.format": "NULL""#,
            CSV_STREAM,
            "write null_text = \"NULL\"",
        ),
        (
            LAZY,
            r#""skip.header.line.count": "1""#,
            CSV_STREAM,
            "skips 0 lines",
        ),
        (
            LAZY,
            r#""skip.header.line.count": "2""#,
            CSV_FILES,
            "skips 1 line ",
        ),
    ] {
        let found = refusal(library, serde, source).expect(serde);
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn a_table_of_another_format_is_refused_with_its_name() {
    for (library, parameters, source, words) in [
        (OPENX, "", CSV_STREAM, "write format = \"json\" in [source]"),
        (OPEN_CSV, "", STREAM, "write format = \"csv\" in [source]"),
        (
            LAZY,
            r#""classification": "csv""#,
            STREAM,
            "classification = \"csv\"",
        ),
        (
            "",
            r#""classification": "avro""#,
            STREAM,
            "classification = \"avro\"",
        ),
        (
            "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
            "",
            FILES,
            "ParquetHiveSerDe",
        ),
        (
            "org.apache.hadoop.hive.serde2.RegexSerDe",
            "",
            STREAM,
            "RegexSerDe",
        ),
        ("", r#""table_type": "ICEBERG""#, STREAM, "table_type"),
        (
            "",
            r#""spark.sql.sources.provider": "delta""#,
            STREAM,
            "delta",
        ),
        (
            OPENX,
            r#""compressionType": "gzip""#,
            STREAM,
            "compression = \"auto\"",
        ),
        (
            OPENX,
            r#""compressionType": "bzip2""#,
            FILES,
            "unpacks gzip, zstd",
        ),
    ] {
        let found = refused(&table(library, "", parameters, ""), source);
        assert!(
            found.first().is_some_and(|one| one.contains(words)),
            "{words}: {found:?}"
        );
    }
    let parquet =
        r#""InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat","#;
    assert!(refused(&table(OPENX, "", "", parquet), STREAM)[0].contains("InputFormat"));
    assert!(
        refused(&table(OPENX, "", "", r#""Compressed": true,"#), STREAM)[0]
            .contains("compression = \"auto\"")
    );
    assert_eq!(
        refused(&table(OPENX, "", r#""compressionType": "gzip""#, ""), FILES),
        Vec::<String>::new()
    );
}

#[test]
fn what_a_crawler_writes_beside_it_is_of_no_meaning() {
    let parameters = r#""classification": "json", "compressionType": "none", "typeOfData": "file", "recordCount": "10",
        "averageRecordSize": "99", "objectCount": "1", "sizeKey": "990", "UPDATED_BY_CRAWLER": "c", "EXTERNAL": "TRUE",
        "CrawlerSchemaSerializerVersion": "1.0", "transient_lastDdlTime": "1", "projection.enabled": "true", "owner": "team""#;
    let storage =
        r#""InputFormat": "org.apache.hadoop.mapred.TextInputFormat", "Compressed": false,"#;
    let table = table(OPENX, r#""paths": "a,b""#, parameters, storage);
    assert_eq!(asked(&table, STREAM), Asked::default());
    // A console writes this SerDe where nobody named one.
    let table = self::table(
        LAZY,
        r#""field.delim": "|""#,
        r#""classification": "json""#,
        "",
    );
    let asked = asked(&table, STREAM);
    assert_eq!(asked.refused, []);
    assert!(
        asked.notes[0].contains("LazySimpleSerDe"),
        "{:?}",
        asked.notes
    );
}
