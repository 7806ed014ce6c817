"""The model job as one batch query of another program: JSON lines, joined with the lookup, into Parquet; one thread.

    peers.py duckdb|polars|spark SALES LOOKUP OUT      prints {"seconds": ..., "rows": ...}

Rule: each does it as its own documentation recommends for speed; only the query is timed.
"""
import json
import os
import shutil
import sys
import time

KEPT = ["uuid", "ItemType", "SalesChannel", "OrderPriority", "OrderDate", "Region", "ShipDate", "UnitsSold"]
COLUMNS = KEPT + ["Country", "UnitPrice", "UnitCost", "TotalRevenue", "TotalCost", "TotalProfit"]


def duckdb(sales, lookup, out):
    import duckdb

    db = duckdb.connect(config={"threads": 1})
    columns = ", ".join(f"{name}: 'VARCHAR'" for name in COLUMNS)
    kept = ", ".join(f"s.{name}" for name in KEPT)
    begin = time.perf_counter()
    db.execute(
        f"COPY (SELECT {kept}, c.Code AS country_code"
        f" FROM read_json('{sales}', format='newline_delimited', columns={{{columns}}}) s"
        f" JOIN read_csv('{lookup}', all_varchar=true, header=true) c ON s.Country = c.CountryName)"
        f" TO '{out}' (FORMAT parquet, COMPRESSION snappy)"
    )
    seconds = time.perf_counter() - begin
    return seconds, db.execute(f"SELECT count(*) FROM '{out}'").fetchone()[0]


def polars(sales, lookup, out):
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    schema = {name: polars.String for name in COLUMNS}
    begin = time.perf_counter()
    rows = polars.scan_ndjson(sales, schema=schema)
    names = polars.scan_csv(lookup, infer_schema=False).rename({"Code": "country_code"})
    joined = rows.join(names, left_on="Country", right_on="CountryName", how="inner").select(KEPT + ["country_code"])
    joined.sink_parquet(out, compression="snappy")
    seconds = time.perf_counter() - begin
    return seconds, polars.scan_parquet(out).select(polars.len()).collect().item()


def spark(sales, lookup, out):
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    schema = ", ".join(f"{name} STRING" for name in COLUMNS)

    def once():
        names = session.read.option("header", "true").csv(lookup)
        rows = session.read.schema(schema).json(sales)
        joined = rows.join(names, rows.Country == names.CountryName).select(*KEPT, names.Code.alias("country_code"))
        joined.write.mode("overwrite").option("compression", "snappy").parquet(out)

    once()  # The first run compiles: what counts is the steady state.
    begin = time.perf_counter()
    once()
    seconds = time.perf_counter() - begin
    rows = session.read.parquet(out).count()
    session.stop()
    shutil.rmtree(out, ignore_errors=True)
    return seconds, rows


def main():
    peer, sales, lookup, out = sys.argv[1:]
    seconds, rows = {"duckdb": duckdb, "polars": polars, "spark": spark}[peer](sales, lookup, out)
    print(json.dumps({"seconds": seconds, "rows": rows}))


main()
