"""Runs each Glue script of this folder in Spark, and keeps the rows that it writes.

    python3 -m venv /tmp/spark && /tmp/spark/bin/pip install pyspark==3.5.3 pandas pyarrow   # and a Java runtime
    /tmp/spark/bin/python tests/golden/glue/make.py

For each script there is a file `NAME.json` with the columns of its table and the records. The script
runs as it is: `awsglue` is replaced by the modules below, which read these records and collect what
the script writes. `NAME.rows.json` has the rows of each folder as JSON of Spark, sorted. Spark runs
locally, in UTC, with ANSI off, as on Glue.
"""

import json
import pathlib
import re
import sys
import types

from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F

HERE = pathlib.Path(__file__).resolve().parent
TESTDATA = HERE.parents[2] / "cli/src/import/testdata"
LOOKUP = HERE.parents[2] / "deploy/jobs/data/country_lookup"

SCRIPTS = {path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem != "make"}
SCRIPTS.update({"studio": TESTDATA / "studio.py", "workshop": TESTDATA / "workshop.py"})
SCRIPTS["apply_mapping"] = HERE.parent / "cases/P32_import_glue_scripts/apply_mapping.py"

spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.sql.session.timeZone", "UTC").config("spark.sql.ansi.enabled", "false")
         .config("spark.sql.shuffle.partitions", "1").config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
         .getOrCreate())
spark.sparkContext.setLogLevel("OFF")

# A column that has the time at which the script runs: no run repeats it.
TIME_OF_RUN = "loaded_at"

WRITTEN = {}
CASE = {}


def keep(frame, path):
    """The rows of a frame as JSON, with all columns and times to the microsecond."""
    options = {"ignoreNullFields": "false", "timestampFormat": "yyyy-MM-dd HH:mm:ss.SSSSSS"}
    rows = frame.select(F.to_json(F.struct(*[frame[f"`{name}`"] for name in frame.columns]), options)).collect()
    path = re.sub(r"\d{14}|(?<=ingest_year=)\d+|(?<=ingest_month=)\d+", "N", path)  # The time of this run.
    rows = [json.loads(row[0]) for row in rows]
    for row in rows:
        row.pop(TIME_OF_RUN, None)
    WRITTEN.setdefault(path, []).extend(rows)


for form in ("parquet", "json", "csv"):
    setattr(DataFrameWriter, form, lambda self, path, **_: keep(self._df, path))


class DynamicFrame:
    def __init__(self, frame):
        self.frame = frame

    @staticmethod
    def fromDF(frame, _context, _name):
        return DynamicFrame(frame)

    def toDF(self):
        return self.frame

    def drop_fields(self, names):
        return DynamicFrame(self.frame.drop(*names))


class ApplyMapping:
    @staticmethod
    def apply(frame, mappings, transformation_ctx=None):
        kinds = {"long": "bigint", "decimal": "decimal(10,2)"}  # As in Glue.
        columns = [F.col(source).cast(kinds.get(kind, kind)).alias(name) for source, _, name, kind in mappings]
        return DynamicFrame(frame.frame.select(*columns))


class Filter:
    @staticmethod
    def apply(frame, f, transformation_ctx=None):
        def holds(row):
            try:
                return bool(f(row))
            except TypeError:  # A comparison with None: Glue drops such a row as an error.
                return False
        rows = [row for row in frame.frame.collect() if holds(row)]
        return DynamicFrame(spark.createDataFrame(rows, frame.frame.schema))


class Join:
    @staticmethod
    def apply(one, two, keys1, keys2, transformation_ctx=None):
        return DynamicFrame(one.frame.join(two.frame, one.frame[keys1] == two.frame[keys2]))


class Sink:
    def __init__(self, path):
        self.path = path

    def setCatalogInfo(self, **_):
        pass

    def setFormat(self, *_):
        pass

    def writeFrame(self, frame):
        keep(frame.frame, self.path)


class Frames:
    def from_catalog(self, **_):
        return spark.read.schema(", ".join(f"`{name}` {kind}" for name, kind in CASE["columns"])).json(
            spark.sparkContext.parallelize([json.dumps(record) for record in CASE["records"]], 1))

    def from_options(self, connection_type, **more):
        if connection_type == "s3":
            return DynamicFrame(spark.read.option("header", True).csv(str(LOOKUP)))
        return self.from_catalog()


class Written:
    def from_options(self, frame, connection_options, **_):
        keep(frame.frame, connection_options["path"])


class GlueContext:
    spark_session = spark
    create_data_frame = Frames()
    create_dynamic_frame = Frames()
    write_dynamic_frame = Written()

    def __init__(self, _context):
        pass

    def getSink(self, path, **_):
        return Sink(path)

    def forEachBatch(self, frame, batch_function, options):
        batch_function(frame, 0)


class Job:
    def __init__(self, _context):
        pass

    def init(self, *_):
        pass

    def commit(self):
        pass


class Context:
    """Spark has one already."""

    @staticmethod
    def getOrCreate():
        return spark.sparkContext


class Arguments(dict):
    """Each argument of the job has its own name as its value."""

    def __missing__(self, name):
        return name


class EvaluateDataQuality:
    def process_rows(self, **_):
        pass


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


stand_in("awsglue", DynamicFrame=DynamicFrame)
stand_in("awsglue.transforms", ApplyMapping=ApplyMapping, Filter=Filter, Join=Join, EvaluateDataQuality=EvaluateDataQuality)
stand_in("awsglue.utils", getResolvedOptions=lambda _argv, names: Arguments())
stand_in("awsglue.context", GlueContext=GlueContext)
stand_in("awsglue.job", Job=Job)
stand_in("awsglue.dynamicframe", DynamicFrame=DynamicFrame)


def main():
    for name, script in SCRIPTS.items():
        CASE.clear()
        CASE.update(json.loads((HERE / f"{name}.json").read_text()))
        WRITTEN.clear()
        code = script.read_text().replace("SparkContext.getOrCreate()", "None").replace("SparkContext()", "None")
        exec(compile(code, str(script), "exec"), {"__name__": name})
        rows = {path: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for path, rows in WRITTEN.items()}
        written = json.dumps(rows, ensure_ascii=False, indent=0, sort_keys=True)
        (HERE / f"{name}.rows.json").write_text(written + "\n")
        print(name, {path: len(rows) for path, rows in rows.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()
