"""Makes golden.json with PySpark 3.5.3: the rows of `transform.py` for `records.json`, by uuid.

    python make_golden.py        in an environment with pyspark==3.5.3 and a JVM
"""
import json
import pathlib
import types

from pyspark.sql import SparkSession
from transform import processBatch

HERE = pathlib.Path(__file__).parent
LOOKUP = HERE.parents[3] / "deploy/jobs/data/country_lookup/country_lookup.csv"

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
columns = ["uuid", "country", "itemtype", "saleschannel", "orderpriority", "orderdate", "region", "shipdate"]
columns += ["unitssold", "unitprice", "unitcost", "totalrevenue", "totalcost", "totalprofit"]
schema = ", ".join(f"{name} string" for name in columns)
frame = spark.read.schema(schema).json(str(HERE / "records.json"))
lookup = spark.read.option("header", True).csv(str(LOOKUP))
context = types.SimpleNamespace(lookups={"country_lookup": lookup})
rows = [row.asDict() for row in processBatch(frame, 7, context).collect()]
rows.sort(key=lambda row: row["uuid"])
text = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
(HERE / "golden.json").write_text(text)
