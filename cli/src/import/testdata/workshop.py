import sys
from datetime import datetime
from awsglue.transforms import *
from awsglue.utils import getResolvedOptions
from pyspark.context import SparkContext
from awsglue.context import GlueContext
from awsglue.dynamicframe import DynamicFrame
from awsglue.job import Job

args = getResolvedOptions(sys.argv, ["JOB_NAME", "s3_bucket"])
context = GlueContext(SparkContext())
job = Job(context)
job.init(args["JOB_NAME"], args)

out = "s3://" + args["s3_bucket"] + "/output/lab4/"
target = out + datetime.now().strftime("%Y%m%d%H%M%S")
checkpoint = out + "checkpoint/"

country_lookup = context.create_dynamic_frame.from_options(
    connection_type="s3",
    connection_options={"paths": ["s3://" + args["s3_bucket"] + "/input/lab4/country_lookup/"], "recurse": True},
    format="csv",
    format_options={"withHeader": True, "separator": ",", "quoteChar": '"'},
    transformation_ctx="country_lookup",
)


def process_batch(data_frame, batch_id):
    if data_frame.count() > 0:
        frame = DynamicFrame.fromDF(data_frame, context, "from_data_frame")
        mapped = ApplyMapping.apply(
            frame=frame,
            mappings=[
                ("uuid", "string", "uuid", "string"),
                ("country", "string", "country", "string"),
                ("itemtype", "string", "itemtype", "string"),
                ("saleschannel", "string", "saleschannel", "string"),
                ("orderpriority", "string", "orderpriority", "string"),
                ("orderdate", "string", "orderdate", "string"),
                ("region", "string", "region", "string"),
                ("shipdate", "string", "shipdate", "string"),
                ("unitssold", "string", "unitssold", "int"),
                ("unitprice", "string", "unitprice", "string"),
            ],
            transformation_ctx="mapped",
        )
        joined = Join.apply(mapped, country_lookup, "country", "CountryName").drop_fields(
            ["CountryName", "country", "unitprice"]
        )
        context.write_dynamic_frame.from_options(
            frame=joined, connection_type="s3", connection_options={"path": target}, format="csv"
        )


source = context.create_data_frame.from_catalog(
    database="glueworkshop_cloudformation",
    table_name="json-streaming-table",
    transformation_ctx="source",
    additional_options={"startingPosition": "TRIM_HORIZON", "inferSchema": "true"},
)
source.printSchema()
context.forEachBatch(
    frame=source,
    batch_function=process_batch,
    options={"windowSize": "60 seconds", "checkpointLocation": checkpoint, "batchMaxRetries": 5},
)
job.commit()
