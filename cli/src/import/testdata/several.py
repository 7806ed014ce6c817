import sys
from awsglue.utils import getResolvedOptions
from awsglue.context import GlueContext
from awsglue.dynamicframe import DynamicFrame
from pyspark.context import SparkContext
from pyspark.sql import functions as F
import hashlib

args = getResolvedOptions(sys.argv, ["JOB_NAME", "BUCKET"])
glue_context = GlueContext(SparkContext.getOrCreate())
spark = glue_context.spark_session
bucket = args["BUCKET"]
KINDS = {"click": "clicks", "view": "views"}
source = glue_context.create_data_frame.from_catalog(database="shop", table_name="events", additional_options={})


def pseudonym(value):
    return hashlib.sha256(value.encode()).hexdigest()


pseudonym_udf = F.udf(pseudonym)


def process_batch(data_frame, batch_id):
    if data_frame.count() > 0:
        hidden = data_frame.withColumn("user", pseudonym_udf(F.col("user")))
        for kind, table in KINDS.items():
            part = hidden.filter(F.col("kind") == kind)
            if part.count() > 0:
                part.write.mode("append").parquet(f"s3://{bucket}/{table}/")
        hidden.createOrReplaceTempView("hidden")
        names = spark.sql("select distinct user from hidden")
        rest = DynamicFrame.fromDF(hidden.filter(~F.col("kind").isin(*KINDS)), glue_context, "rest")
        glue_context.write_dynamic_frame.from_options(
            frame=rest, connection_type="s3", format="json",
            connection_options={"path": f"s3://{bucket}/other/", "partitionKeys": ["kind"]})
        if names.count() > 100:
            names.write.csv(f"s3://{bucket}/names/")


glue_context.forEachBatch(frame=source, batch_function=process_batch, options={"windowSize": "60 seconds"})
