//! P17: lists, maps and structs in both dialects.

use super::run;
use crate::catalog::arrow_schema;
use crate::format::Decoder;
use crate::query::{QueryPlan, QueryText};
use arrow::record_batch::RecordBatch;
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{Dialect, PayloadFormat};

const RECORDS: [&str; 3] = [
    r#"{"id":1,"s":{"user":{"id":"u1","tier":3},"items":[{"sku":"a","price":1.5},{"sku":"b"}]},"tags":["x",null],"attrs":{"k":1,"K":2}}"#,
    r#"{"id":2,"s":{"user":null,"items":[]},"tags":[],"attrs":{}}"#,
    r#"{"id":3}"#,
];

fn source() -> RecordBatch {
    let columns = [
        ("id", "int"),
        (
            "s",
            "struct<user:struct<id:string,tier:int>,items:array<struct<sku:string,price:decimal(10,2)>>>",
        ),
        ("tags", "array<string>"),
        ("attrs", "map<string,int>"),
    ];
    let column = |(name, type_name): (&str, &str)| ColumnType {
        name: name.into(),
        type_name: type_name.into(),
    };
    let schema = arrow_schema(&columns.map(column), NestedColumns::Typed).unwrap();
    let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &[0, 1, 2, 3]).unwrap();
    let decoded = decoder.decode_payloads(RECORDS.map(str::as_bytes));
    assert_eq!(decoded.bad, []);
    decoded.batch
}

fn planned(sql: &str, dialect: Dialect) -> Result<QueryPlan, String> {
    let text = QueryText {
        sql,
        dialect,
        is_new: true,
    };
    let planned = QueryPlan::blocking(source().schema(), vec![], text);
    planned.map_err(|error| {
        let problem = error.problem();
        format!("{}; {}", problem.message, problem.hint.unwrap_or_default())
    })
}

async fn rows(sql: &str, dialect: Dialect) -> Vec<String> {
    let plan = planned(sql, dialect).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let (rows, _) = run(&plan, vec![source()]).await;
    let row = |row: &String| row[1..row.len() - 1].replace('|', ",");
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn p17_fields_elements_and_keys_are_read_by_their_names_and_places() {
    for (sql, expected) in [
        (
            "SELECT id, s.user.id AS u, source.s.USER.tier, S.items[1].sku AS sku FROM source",
            ["1,u1,3,a", "2,,,", "3,,,"],
        ),
        (
            "SELECT id, s.items[2].sku AS b, s.items[9].price AS c, attrs['k'] AS k, attrs['K'] AS l FROM source",
            ["1,b,,1,2", "2,,,,", "3,,,,"],
        ),
        (
            "SELECT id, cardinality(tags) AS n, array_length(map_keys(attrs)) AS m, s.user IS NULL AS x FROM source",
            ["1,2,2,false", "2,0,0,true", "3,,,true"],
        ),
        (
            "SELECT id, to_json(s) AS j, to_json(tags) AS t, to_json(attrs) AS a FROM source",
            [
                r#"1,{"user":{"id":"u1","tier":3},"items":[{"sku":"a","price":1.50},{"sku":"b"}]},["x",null],{"k":1,"K":2}"#,
                r#"2,{"items":[]},[],{}"#,
                "3,,,",
            ],
        ),
    ] {
        assert_eq!(rows(sql, Dialect::Datafusion).await, expected, "{sql}");
    }
    let unnested =
        "SELECT id, item.sku, item.price FROM (SELECT id, unnest(s.items) AS item FROM source)";
    assert_eq!(
        rows(unnested, Dialect::Datafusion).await,
        ["1,a,1.50", "1,b,"]
    );
    let kept = "SELECT id FROM source WHERE s.user.tier > 2 AND s.items[1].price < 2";
    assert_eq!(rows(kept, Dialect::Datafusion).await, ["1"]);
    let whole = "SELECT id, s.user FROM source";
    let given = ["1,{id: u1, tier: 3}", "2,", "3,"];
    assert_eq!(rows(whole, Dialect::Datafusion).await, given);
    let grouped = "SELECT s.user.tier, count(*) AS n FROM source GROUP BY s.user.tier";
    let mut groups = rows(grouped, Dialect::Datafusion).await;
    groups.sort();
    assert_eq!(groups, [",2", "3,1"]);
}

#[tokio::test]
async fn p17_spark_s_names_and_places_are_those_of_spark() {
    for (sql, expected) in [
        (
            "SELECT id, s.User.id AS u, s.items[0].sku AS a, s.items[2].sku AS b, s.items.sku AS skus FROM source",
            ["1,u1,a,,[a, b]", "2,,,,[]", "3,,,,"],
        ),
        (
            "SELECT id, attrs['K'] AS k, attrs.k AS l, size(attrs) AS n, to_json(s.user) AS j FROM source",
            [r#"1,2,1,2,{"id":"u1","tier":3}"#, "2,,,0,", "3,,,-1,"],
        ),
        (
            "SELECT id, to_json(struct(id, s.user.Tier, id + 1)) AS j, element_at(attrs, 'k') AS e, s IS NULL AS n FROM source",
            [
                r#"1,{"id":1,"Tier":3,"col3":2},1,false"#,
                r#"2,{"id":2,"col3":3},,false"#,
                r#"3,{"id":3,"col3":4},,true"#,
            ],
        ),
    ] {
        assert_eq!(rows(sql, Dialect::Spark).await, expected, "{sql}");
    }
    for (sql, message, hint) in [
        (
            "SELECT attrs.K AS x FROM source",
            "map.k with capitals",
            "map['Name']",
        ),
        (
            "SELECT s.nope AS x FROM source",
            "there is no field \"nope\"",
            "the fields are: user, items",
        ),
        (
            "SELECT explode(attrs) AS x FROM source",
            "explode() of a map",
            "explode(map_keys(m))",
        ),
        (
            "SELECT explode(s) AS x FROM source",
            "explode() does not take struct<",
            "a list",
        ),
        ("SELECT id FROM source WHERE s = s", "are not compared", ""),
        (
            "SELECT CAST(s AS STRING) AS x FROM source",
            "is not cast to string",
            "",
        ),
        (
            "SELECT id, s FROM source ORDER BY s",
            "ORDER BY of struct<",
            "to_json(x)",
        ),
        (
            "SELECT attrs[1.5] AS x FROM source",
            "is not looked for",
            "CAST",
        ),
        (
            "SELECT tags[0:1] AS x FROM source",
            "a range of a list",
            "slice",
        ),
        (
            "SELECT to_json(id) AS x FROM source",
            "to_json() does not take int",
            "a struct",
        ),
        (
            "SELECT posexplode(tags) AS x FROM source",
            "posexplode()",
            "",
        ),
        (
            "SELECT array_distinct(s.items) AS x FROM source",
            "array_distinct() does not take a list of struct<",
            "items.sku",
        ),
        (
            "SELECT array_contains(s.items, s.items[0]) AS x FROM source",
            "array_contains() does not take",
            "",
        ),
    ] {
        let error = planned(sql, Dialect::Spark).expect_err(sql);
        assert!(
            error.contains(message) && error.contains(hint),
            "{sql}: {error}"
        );
    }
}

#[test]
fn p17_what_the_default_dialect_does_not_do_is_refused_with_a_hint() {
    for (sql, message) in [
        ("SELECT s.nope AS x FROM source", "nope"),
        (
            "SELECT to_json(id) AS x FROM source",
            "to_json() does not take",
        ),
        ("SELECT s.items[1].sku FROM source", "has no name"),
    ] {
        let error = planned(sql, Dialect::Datafusion).expect_err(sql);
        assert!(error.contains(message), "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_whole_number_finds_a_key_of_each_whole_type() {
    for kind in ["tinyint", "smallint", "int", "bigint"] {
        let column = ColumnType {
            name: "codes".into(),
            type_name: format!("map<{kind},string>"),
        };
        let schema = arrow_schema(&[column], NestedColumns::Typed).unwrap();
        let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &[0]).unwrap();
        let record: &[u8] = br#"{"codes":{"1":"one","-2":"two"}}"#;
        let source = decoder.decode_payloads([record]).batch;
        let sql = "SELECT codes[1] AS a, codes[-2] AS b, codes[7] AS c FROM source";
        let plan = QueryPlan::blocking(source.schema(), vec![], sql);
        let plan = plan.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let (rows, _) = run(&plan, vec![source]).await;
        assert_eq!(rows, ["|one|two||"], "{kind}");
    }
}

#[tokio::test]
async fn a_number_is_a_key_of_a_map_with_numbers_for_keys() {
    let column = ColumnType {
        name: "mi".into(),
        type_name: "map<int,string>".into(),
    };
    let schema = arrow_schema(&[column], NestedColumns::Typed).unwrap();
    let mut decoder = Decoder::new(&PayloadFormat::default(), schema, &[0]).unwrap();
    let records = [r#"{"mi":{"1":"a","2":null}}"#, r#"{"mi":{}}"#, "{}"];
    let decoded = decoder.decode_payloads(records.map(str::as_bytes));
    assert_eq!(decoded.bad, []);
    for (sql, dialect) in [
        (
            "SELECT mi[1] AS a, mi[2] AS b, mi[9] AS c FROM source",
            Dialect::Datafusion,
        ),
        (
            "SELECT mi[1] AS a, mi[2] AS b, mi[9] AS c FROM source",
            Dialect::Spark,
        ),
    ] {
        let text = QueryText {
            sql,
            dialect,
            is_new: true,
        };
        let plan = QueryPlan::blocking(decoded.batch.schema(), vec![], text).unwrap();
        let (rows, _) = run(&plan, vec![decoded.batch.clone()]).await;
        assert_eq!(rows, ["|a|||", "||||", "||||"], "{sql}");
    }
}
