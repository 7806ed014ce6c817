"""Spark's pandas functions on the rows of `python/bench.py`: the peer of `make bench ONLY=function`.

    spark_function.py ROWS

Prints {"json_mb_per_s": of mapInPandas over all rows, "batch_ms": of a micro-batch of 1,000 rows, p50}.
"""
import json, pathlib, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "python"))

import bench  # noqa: E402  the rows are its own
from pyspark.sql import SparkSession  # noqa: E402

ROUNDS = 5
SMALL_ROWS = 1_000
SMALL_CALLS = 20


def two_columns(frames):
    for frame in frames:
        frame["region"] = frame["region"].str.upper()
        frame["units"] = frame["units"] * 2
        yield frame


def seconds_of(frame):
    began = time.perf_counter()
    # All rows are computed and none is written.
    frame.mapInPandas(two_columns, frame.schema).write.format("noop").mode("overwrite").save()
    return time.perf_counter() - began


def main():
    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    table, size = bench.rows(int(sys.argv[1]))
    frame = session.createDataFrame(table.to_pandas()).repartition(1).cache()
    frame.count()
    seconds_of(frame)
    best = min(seconds_of(frame) for _ in range(ROUNDS))
    small = session.createDataFrame(bench.rows(SMALL_ROWS)[0].to_pandas()).repartition(1).cache()
    small.count()
    times = sorted(seconds_of(small) for _ in range(SMALL_CALLS))
    session.stop()
    print(json.dumps({"json_mb_per_s": size / best / 1e6, "batch_ms": times[len(times) // 2] * 1e3}))


main()
