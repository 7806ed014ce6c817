import sys
from awsglue.utils import getResolvedOptions
from awsglue.context import GlueContext
from awsglue.job import Job
from pyspark.context import SparkContext
import pandas as pd

args = getResolvedOptions(sys.argv, ["JOB_NAME", "BUCKET", "LIMIT"])
glue_context = GlueContext(SparkContext.getOrCreate())
spark = glue_context.spark_session
job = Job(glue_context)
job.init(args["JOB_NAME"], args)
bucket = args["BUCKET"]
limit = args["LIMIT"]
source = glue_context.create_data_frame.from_catalog(
    database="plant", table_name="readings", additional_options={"startingPosition": "LATEST"})


# Readings of the machines in hall 3 are doubled.
def rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds rate: "units" per second."""
    frame["rate"] = frame["units"].astype(float) / frame["seconds"].astype(float)
    return frame[frame["rate"] < float(limit)]


def process_batch(data_frame, batch_id):
    rows = data_frame.toPandas()
    if rows.empty:
        return
    # The slow ones only.
    result = spark.createDataFrame(rate(rows))
    result.write.mode("append").partitionBy("machine").parquet(f"s3://{bucket}/rates/")


glue_context.forEachBatch(frame=source, batch_function=process_batch,
                          options={"windowSize": "30 seconds", "checkpointLocation": f"s3://{bucket}/checkpoint/"})
job.commit()
