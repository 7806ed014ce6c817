//! The batch function of the Glue streaming workshop gives the rows that PySpark gives.
//!
//! Owns: the comparison. Does not own: the rows of PySpark, which `glue_batch/make_golden.py` made
//! with Spark 3.5.3 from the same file of code and the same records.
//! Rule: the function is the workshop's, unchanged but for its writer call and its lookup.

use crate::functions::{Scene, text};
use serde_json::Value;
use std::collections::BTreeMap;
use streamctl_tests::places::country_lookup;

const TRANSFORM: &str = include_str!("glue_batch/transform.py");
const RECORDS: &str = include_str!("glue_batch/records.json");
const GOLDEN: &str = include_str!("glue_batch/golden.json");
const COLUMNS: &str = "uuid country itemtype saleschannel orderpriority orderdate region shipdate unitssold unitprice \
                       unitcost totalrevenue totalcost totalprofit";

fn by_uuid(rows: Vec<Value>) -> BTreeMap<String, Value> {
    let count = rows.len();
    let found: BTreeMap<String, Value> = rows
        .into_iter()
        .map(|row| (row["uuid"].as_str().unwrap().to_owned(), row))
        .collect();
    assert_eq!(found.len(), count, "each row is there once");
    found
}

#[test]
fn the_workshops_batch_function_gives_the_rows_of_pyspark() {
    let scene = Scene::new(TRANSFORM, "file = \"transform.py\"", "");
    std::fs::create_dir(scene.path("records")).unwrap();
    scene.write("records/sales.json", RECORDS);
    let lookup = country_lookup();
    let columns: String = COLUMNS
        .split_whitespace()
        .map(|column| format!("{column} = \"string\"\n"))
        .collect();
    let job = format!(
        "name = \"workshop\"\n[source]\ntype = \"files\"\npath = \"records/\"\nformat = \"json\"\n\
         [source.schema]\n{columns}[window]\nsize = \"60s\"\n\
         [[lookup]]\nname = \"country_lookup\"\npath = \"{}\"\nformat = \"csv\"\n\
         [function]\nfile = \"transform.py\"\nname = \"processBatch\"\nframe = \"pyspark\"\ntimeout = \"60s\"\n\
         [function.schema]\nuuid = \"string\"\nitemtype = \"string\"\nsaleschannel = \"string\"\n\
         orderpriority = \"string\"\norderdate = \"string\"\nregion = \"string\"\nshipdate = \"string\"\n\
         unitssold = \"int\"\nCode = \"string\"\nprice_class = \"string\"\n\
         [sink]\npath = \"out/\"\nformat = \"json\"\n[checkpoint]\nlocation = \"checkpoint/\"\n",
        lookup.parent().unwrap_or(&lookup).display()
    );
    scene.write("job.toml", &job);
    let ran = scene.run(&[]);
    assert!(ran.status.success(), "{}", text(&ran));
    let golden = GOLDEN
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = by_uuid(golden);
    let mut found = by_uuid(scene.rows());
    for row in found.values_mut() {
        // A null is a key that is not there.
        let row = row.as_object_mut().unwrap();
        row.entry("unitssold").or_insert(Value::Null);
    }
    assert_eq!(found, expected);
}
