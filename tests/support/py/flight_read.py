"""Reads results over Arrow Flight with pyarrow.   flight_read.py HOST:PORT JOB FROM TO

GetFlightInfo at the controller (the command is JSON: job, first and last epoch), then DoGet at the place that each endpoint
names. Prints {"rows": n, "columns": [...], "endpoints": n, "distinct_uuids": n}.
"""
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

import aws


REUSE_CONNECTION = b"arrow-flight-reuse-connection://?"


def main(address, job, first, last):
    command = json.dumps({"job": job, "from": int(first), "to": int(last)})
    here = f"grpc://{address}"
    info = flight.connect(here).get_flight_info(flight.FlightDescriptor.for_command(command))
    tables = []
    for endpoint in info.endpoints:
        named = [location for location in endpoint.locations if location.uri != REUSE_CONNECTION]
        with flight.connect(named[0] if named else here) as source:
            tables.append(source.do_get(endpoint.ticket).read_all())
    table = pa.concat_tables(tables) if tables else info.schema.empty_table()
    uuids = len(set(table["uuid"].to_pylist())) if "uuid" in table.column_names else None
    aws.answer({"rows": table.num_rows, "columns": table.column_names, "endpoints": len(info.endpoints), "distinct_uuids": uuids})


main(*sys.argv[1:])
