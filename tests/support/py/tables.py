"""Looks at an Iceberg table, and writes to it as others do, with pyiceberg.

    tables.py [--uri URI --warehouse NAME | --local FOLDER] --table DB.NAME COMMAND ...

Commands, each of which prints JSON:
    describe            rows, data files, partitions, snapshots with their summaries, properties
    export FILE         all rows into one Parquet file, for check_output.py
    scan FILTER         rows that match, files that are read for them, files in all
    append ROWS         so many copies of a row, as a foreign writer's commit; their uuids begin with "foreign-"
    at EPOCH            rows of the snapshot that holds this epoch as its last
    drop-file [PART]    takes the first data file with this in its path out of the table, as one who deletes by hand
    expire              expires all snapshots but the current one
    add-twice           adds the first data file once more
    create FILE         a table with the columns of this JSON: {"name": "type"}
"""
import argparse, json, os, pathlib

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable
from pyiceberg.types import NestedField, LongType, StringType, IntegerType, DoubleType

TYPES = {"long": LongType(), "string": StringType(), "int": IntegerType(), "double": DoubleType()}


def catalog(args):
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3")
    return load_catalog("it", **{
        "type": "rest", "uri": args.uri, "warehouse": args.warehouse,
        "credential": "test:test", "scope": "catalog",
        "s3.endpoint": endpoint, "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
        "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"], "s3.region": os.environ["AWS_REGION"],
        "s3.force-virtual-addressing": "false",
    })


def open_table(args):
    if args.local:
        folder = pathlib.Path(args.local, *args.table.split("."), "metadata")
        newest = max(folder.glob("v*.metadata.json"), key=lambda path: int(path.name[1:].split(".")[0]))
        return StaticTable.from_metadata(str(newest))
    return catalog(args).load_table(args.table)


def describe(table):
    files = list(table.scan().plan_files())
    paths = [task.file.file_path for task in files]
    fields = [field.name for field in table.spec().fields]
    return {
        "rows": sum(task.file.record_count for task in files),
        "counted": table.scan().to_arrow().num_rows,
        "files": len(paths),
        "twice": len(paths) - len(set(paths)),
        "partitions": sorted({str([task.file.partition[i] for i in range(len(fields))]) for task in files}),
        "partition_fields": fields,
        "columns": {field.name: str(field.field_type) for field in table.schema().fields},
        "snapshots": [dict(snapshot.summary.additional_properties) | {"operation": snapshot.summary.operation.value}
                      for snapshot in table.snapshots()],
        "properties": dict(table.properties),
        "bounds": all(task.file.lower_bounds for task in files),
        "location": table.location(),
    }


def export(table, file):
    rows = table.scan().to_arrow()
    if "uuid" in rows.column_names:
        rows = rows.filter(pc.invert(pc.starts_with(rows["uuid"], "foreign-")))
    pq.write_table(rows, file)
    return {"rows": rows.num_rows}


def scan(table, text):
    found = table.scan(row_filter=text)
    return {"rows": found.to_arrow().num_rows, "read": len(list(found.plan_files())),
            "all": len(list(table.scan().plan_files()))}


def append(table, count):
    rows = table.scan(limit=1).to_arrow()
    rows = pa.concat_tables([rows] * count)
    if "uuid" in rows.column_names:
        at = rows.column_names.index("uuid")
        rows = rows.set_column(at, rows.schema.field(at), pa.array([f"foreign-{n}" for n in range(count)], rows.schema.field(at).type))
    table.append(rows)
    return {"rows": count}


def at(table, epoch):
    for snapshot in table.snapshots():
        if snapshot.summary.additional_properties.get("streamctl.epoch") == epoch:
            rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows
            return {"rows": rows, "summary": dict(snapshot.summary.additional_properties)}
    return None


def drop_file(table, part):
    first = next(task.file for task in table.scan().plan_files() if part in task.file.file_path)
    with table.transaction() as transaction:
        with transaction.update_snapshot().overwrite() as update:
            update.delete_data_file(first)
    return {"file": first.file_path, "rows": first.record_count}


def expire(table):
    current = table.current_snapshot().snapshot_id
    others = [snapshot.snapshot_id for snapshot in table.snapshots() if snapshot.snapshot_id != current]
    table.maintenance.expire_snapshots().by_ids(others).commit()
    return {"expired": len(others)}


def add_twice(table):
    first = next(iter(table.scan().plan_files())).file
    with table.transaction() as transaction:
        with transaction.update_snapshot().fast_append() as update:
            update.append_data_file(first)
    return {"file": first.file_path, "rows": first.record_count}


def create(args, file):
    columns = json.loads(pathlib.Path(file).read_text())
    fields = [NestedField(number, name, TYPES[kind], required=False) for number, (name, kind) in enumerate(columns.items(), 1)]
    made = catalog(args)
    made.create_namespace_if_not_exists(args.table.split(".")[0])
    made.create_table(args.table, Schema(*fields))
    return {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--uri")
    parser.add_argument("--warehouse")
    parser.add_argument("--local")
    parser.add_argument("--table", required=True)
    parser.add_argument("command")
    parser.add_argument("argument", nargs="?")
    args = parser.parse_args()
    commands = {
        "describe": lambda: describe(open_table(args)),
        "export": lambda: export(open_table(args), args.argument),
        "scan": lambda: scan(open_table(args), args.argument),
        "append": lambda: append(open_table(args), int(args.argument)),
        "at": lambda: at(open_table(args), args.argument),
        "drop-file": lambda: drop_file(open_table(args), args.argument or ""),
        "expire": lambda: expire(open_table(args)),
        "add-twice": lambda: add_twice(open_table(args)),
        "create": lambda: create(args, args.argument),
        "namespace": lambda: catalog(args).create_namespace_if_not_exists(args.table.split(".")[0]) or {},
    }
    print(json.dumps(commands[args.command]()))


main()
