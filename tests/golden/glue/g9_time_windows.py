import sys
from awsglue.transforms import *
from awsglue.utils import getResolvedOptions
from awsglue.context import GlueContext
from awsglue.job import Job
from awsglue.dynamicframe import DynamicFrame
from pyspark.context import SparkContext

args = getResolvedOptions(sys.argv, ["JOB_NAME", "TempDir"])
glueContext = GlueContext(SparkContext())
spark = glueContext.spark_session
job = Job(glueContext)
job.init(args["JOB_NAME"], args)

readings = glueContext.create_data_frame.from_catalog(
    database="lake", table_name="readings_stream", transformation_ctx="readings",
    additional_options={"startingPosition": "earliest", "inferSchema": "false"})


def processBatch(data_frame, batchId):
    if data_frame.count() > 0:
        data_frame.createOrReplaceTempView("readings")
        out = spark.sql("""
            SELECT window.start AS starts, window.end AS ends, sensor, count(*) AS readings,
                   round(avg(value), 3) AS mean, max(value) AS largest, mode(state) AS state,
                   decode(sensor, 's1', 'north', 's2', 'south', 'elsewhere') AS place,
                   timestampdiff(SECOND, min(at), max(at)) AS seconds, mask(min(owner)) AS owner
            FROM readings
            WHERE value > -100D AND at >= TIMESTAMP '2026-11-24 00:00:00' - INTERVAL '1 hour 30 minutes'
            GROUP BY window(at, '10 minutes', '5 minutes'), sensor
        """)
        frame = DynamicFrame.fromDF(out, glueContext, "out")
        glueContext.write_dynamic_frame.from_options(
            frame=frame, connection_type="s3", format="json",
            connection_options={"path": "s3://my-bucket/windows/"}, transformation_ctx="sink")


glueContext.forEachBatch(frame=readings, batch_function=processBatch,
    options={"windowSize": "100 seconds", "checkpointLocation": args["TempDir"] + "/" + args["JOB_NAME"] + "/checkpoint/"})
job.commit()
