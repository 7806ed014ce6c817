"""Looks at a table of the Data Catalog, and reads its files as its readers do: by the partitions that are registered.

    glue_table.py database NAME     makes a database
    glue_table.py describe DB.T     what the table states, and its partitions; {} if there is none
    glue_table.py read DB.T         rows below the registered partitions, in the types that the table declares

`read` fails if a file has another type than the table declares, or lacks a column that has no null.
"""
import io, sys, urllib.parse

import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

import aws

TYPES = {"string": pa.string(), "bigint": pa.int64(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_(),
         "timestamp": pa.timestamp("us"), "date": pa.date32()}


def partitions(glue, database, table):
    pages = glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
    return [(one["Values"], one["StorageDescriptor"]["Location"]) for page in pages for one in page["Partitions"]]


def describe(glue, database, table):
    try:
        found = glue.get_table(DatabaseName=database, Name=table)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityNotFoundException":
            raise
        return {}
    storage = found["StorageDescriptor"]
    named = lambda columns: {column["Name"]: column["Type"] for column in columns}
    return {
        "columns": named(storage["Columns"]),
        "keys": named(found.get("PartitionKeys", [])),
        "location": storage["Location"],
        "library": storage["SerdeInfo"]["SerializationLibrary"],
        "parameters": found.get("Parameters", {}),
        "partitions": [{"values": values, "location": location} for values, location in partitions(glue, database, table)],
    }


def objects(s3, location):
    bucket, prefix = location.removeprefix("s3://").split("/", 1)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            yield bucket, found["Key"]


def read(glue, s3, database, table):
    stated = describe(glue, database, table)
    folders = [(one["values"], one["location"]) for one in stated["partitions"]] or [([], stated["location"])]
    rows, files, values = 0, 0, {}
    for of, folder in folders:
        path = urllib.parse.unquote(folder)
        assert all(value in path for value in of), f"{of} is not {folder}"
        for bucket, key in objects(s3, folder):
            found = pq.read_table(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
            for field in found.schema:
                declared = stated["columns"][field.name.lower()]
                assert field.type == TYPES[declared], f"{field} is declared as {declared}"
            rows, files = rows + found.num_rows, files + 1
            name = "/".join(of)
            values[name] = values.get(name, 0) + found.num_rows
    return {"rows": rows, "files": files, "values": values}


def main():
    command, name = sys.argv[1:3]
    glue = aws.client("glue")
    if command == "database":
        glue.create_database(DatabaseInput={"Name": name})
        return aws.answer({"database": name})
    database, table = name.split(".")
    if command == "describe":
        return aws.answer(describe(glue, database, table))
    aws.answer(read(glue, aws.client("s3"), database, table))


main()
