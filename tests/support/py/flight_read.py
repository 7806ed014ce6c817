"""Reads results over Arrow Flight with pyarrow.   flight_read.py HOST:PORT JOB [FROM [TO]]

GetFlightInfo at the controller (descriptor path: job, first epoch, last epoch), then DoGet at the place that each endpoint
names. Prints {"rows": n, "columns": [...], "endpoints": n, "distinct_uuids": n}.
"""
import sys

import pyarrow as pa
import pyarrow.flight as flight

import aws


def main(address, *path):
    info = flight.connect(f"grpc://{address}").get_flight_info(flight.FlightDescriptor.for_path(*path))
    tables = []
    for endpoint in info.endpoints:
        where = endpoint.locations[0] if endpoint.locations else f"grpc://{address}"
        with flight.connect(where) as source:
            tables.append(source.do_get(endpoint.ticket).read_all())
    table = pa.concat_tables(tables) if tables else info.schema.empty_table()
    uuids = len(set(table["uuid"].to_pylist())) if "uuid" in table.column_names else None
    aws.answer({"rows": table.num_rows, "columns": table.column_names, "endpoints": len(info.endpoints), "distinct_uuids": uuids})


main(*sys.argv[1:])
