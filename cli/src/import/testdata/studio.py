import sys
from awsglue.transforms import *
from awsglue.utils import getResolvedOptions
from pyspark.context import SparkContext
from awsglue.context import GlueContext
from awsglue.job import Job
from awsglue import DynamicFrame
import datetime


def sparkSqlQuery(glueContext, query, mapping, transformation_ctx) -> DynamicFrame:
    for alias, frame in mapping.items():
        frame.toDF().createOrReplaceTempView(alias)
    result = spark.sql(query)
    return DynamicFrame.fromDF(result, glueContext, transformation_ctx)


args = getResolvedOptions(sys.argv, ["JOB_NAME"])
sc = SparkContext()
glueContext = GlueContext(sc)
spark = glueContext.spark_session
job = Job(glueContext)
job.init(args["JOB_NAME"], args)

dataframe_AmazonKinesis_node1 = glueContext.create_data_frame.from_options(
    connection_type="kinesis",
    connection_options={
        "typeOfData": "kinesis",
        "streamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
        "classification": "json",
        "startingPosition": "earliest",
        "inferSchema": "true",
    },
    transformation_ctx="dataframe_AmazonKinesis_node1",
)


def processBatch(data_frame, batchId):
    if data_frame.count() > 0:
        AmazonKinesis_node1 = DynamicFrame.fromDF(data_frame, glueContext, "from_data_frame")
        ChangeSchema_node2 = ApplyMapping.apply(
            frame=AmazonKinesis_node1,
            mappings=[("Id", "string", "Id", "string"), ("amount", "string", "amount", "double"), ("kind", "string", "kind", "string")],
            transformation_ctx="ChangeSchema_node2",
        )
        Filter_node3 = Filter.apply(
            frame=ChangeSchema_node2,
            f=lambda row: (row["amount"] >= 1.5 and not row["kind"] == "it's a test"),
            transformation_ctx="Filter_node3",
        )
        EvaluateDataQuality().process_rows(frame=Filter_node3)
        SQLQuery_node4 = sparkSqlQuery(
            glueContext,
            query="select kind, amount from myDataSource where amount < 100",
            mapping={"myDataSource": Filter_node3},
            transformation_ctx="SQLQuery_node4",
        )
        now = datetime.datetime.now()
        year = now.year
        month = now.month
        AmazonS3_node5_path = (
            "s3://my-bucket/orders"
            + "/ingest_year="
            + "{:0>4}".format(str(year))
            + "/ingest_month="
            + "{:0>2}".format(str(month))
            + "/"
        )
        AmazonS3_node5 = glueContext.getSink(
            path=AmazonS3_node5_path,
            connection_type="s3",
            updateBehavior="UPDATE_IN_DATABASE",
            partitionKeys=["kind"],
            compression="snappy",
            enableUpdateCatalog=True,
            transformation_ctx="AmazonS3_node5",
        )
        AmazonS3_node5.setCatalogInfo(catalogDatabase="d", catalogTableName="orders")
        AmazonS3_node5.setFormat("glueparquet")
        AmazonS3_node5.writeFrame(SQLQuery_node4)


glueContext.forEachBatch(
    frame=dataframe_AmazonKinesis_node1,
    batch_function=processBatch,
    options={
        "windowSize": "100 seconds",
        "checkpointLocation": args["TempDir"] + "/" + args["JOB_NAME"] + "/checkpoint/",
    },
)
job.commit()
