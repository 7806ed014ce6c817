"""The batch function of the Glue streaming workshop, with its writer call replaced by `return`."""

from pyspark.sql import functions as F

MAPPINGS = [
    ("uuid", "string"),
    ("country", "string"),
    ("itemtype", "string"),
    ("saleschannel", "string"),
    ("orderpriority", "string"),
    ("orderdate", "string"),
    ("region", "string"),
    ("shipdate", "string"),
    ("unitssold", "int"),
    ("unitprice", "double"),
]


def processBatch(data_frame, batchId, context):
    country_lookup = context.lookups["country_lookup"]
    if data_frame.count() > 0:
        mapped = data_frame.select(
            *[F.col(name).cast(kind).alias(name) for name, kind in MAPPINGS]
        )
        joined = mapped.join(
            country_lookup, mapped["country"] == country_lookup["CountryName"], "inner"
        )
        priced = joined.withColumn(
            "price_class", F.when(F.col("unitprice") >= 100, F.lit("high")).otherwise(F.lit("low"))
        )
        return priced.drop("CountryName", "country", "unitprice")
