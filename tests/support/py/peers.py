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
# Of Spark, and how many of them compile.
BATCHES = 20
WARM_UP_BATCHES = 4
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
    """As AWS Glue does it: Structured Streaming, a micro-batch at a time, each joined and written by `foreachBatch`.

    The first micro-batches compile; what counts is the steady state after them, for as many records.
    """
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[1]").config("spark.ui.showConsoleProgress", "false").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    folder = sales + ".batches"
    rows_all = in_batches(sales, folder)
    schema = ", ".join(f"{name} STRING" for name in COLUMNS)
    names = session.read.option("header", "true").csv(lookup)

    def write(batch, _number):
        joined = batch.join(names, batch.Country == names.CountryName).select(*KEPT, names.Code.alias("country_code"))
        joined.write.mode("append").option("compression", "snappy").parquet(out)

    shutil.rmtree(out, ignore_errors=True)
    stream = session.readStream.schema(schema).option("maxFilesPerTrigger", 1).json(folder)
    query = stream.writeStream.foreachBatch(write).option("checkpointLocation", out + ".checkpoint")
    query = query.trigger(availableNow=True).start()
    query.awaitTermination()
    steady = [p for p in query.recentProgress if p["numInputRows"] > 0][WARM_UP_BATCHES:]
    seconds = sum(p["batchDuration"] for p in steady) / 1000
    seconds *= rows_all / sum(p["numInputRows"] for p in steady)
    rows = session.read.parquet(out).count()
    session.stop()
    for path in (out, out + ".checkpoint", folder):
        shutil.rmtree(path, ignore_errors=True)
    return seconds, rows


def in_batches(sales, folder):
    """The file in as many files as there are micro-batches; how many lines it has."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(sales, "rb") as whole:
        lines = whole.readlines()
    each = -(-len(lines) // BATCHES)
    for number in range(BATCHES):
        with open(f"{folder}/{number:03}.json", "wb") as part:
            part.writelines(lines[number * each : (number + 1) * each])
    return len(lines)


def main():
    peer, sales, lookup, out = sys.argv[1:]
    seconds, rows = {"duckdb": duckdb, "polars": polars, "spark": spark}[peer](sales, lookup, out)
    print(json.dumps({"seconds": seconds, "rows": rows}))


main()
