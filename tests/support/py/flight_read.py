"""Reads results over Arrow Flight with pyarrow.   flight_read.py HOST:PORT JOB FROM TO

GetFlightInfo at the controller (the command is JSON: job, first and last epoch), then DoGet at the place that each endpoint
names. FLIGHT_CA, FLIGHT_CERT, FLIGHT_KEY and FLIGHT_TOKEN name files: then it speaks TLS and says who asks. Prints {"rows": n, "columns": [...], "endpoints": n, "distinct_uuids": n}.
"""
import json
import os
import sys

import pyarrow as pa
import pyarrow.flight as flight

import aws


REUSE_CONNECTION = b"arrow-flight-reuse-connection://?"


def content(name):
    path = os.environ.get(name)
    return open(path).read().strip() if path else None


def connect(location):
    if not content("FLIGHT_CA"):
        return flight.connect(location)
    pair = {"cert_chain": content("FLIGHT_CERT"), "private_key": content("FLIGHT_KEY")} if content("FLIGHT_CERT") else {}
    return flight.connect(location, tls_root_certs=content("FLIGHT_CA"), **pair)


def main(address, job, first, last):
    command = json.dumps({"job": job, "from": int(first), "to": int(last)})
    here = f"grpc+tls://{address}" if content("FLIGHT_CA") else f"grpc://{address}"
    token = content("FLIGHT_TOKEN")
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())] if token else [])
    info = connect(here).get_flight_info(flight.FlightDescriptor.for_command(command), options)
    # Workers get what is for them, and never the token itself.
    grant = json.loads(info.app_metadata).get("grant")
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {grant}".encode())] if grant else [])
    tables = []
    for endpoint in info.endpoints:
        named = [location for location in endpoint.locations if location.uri != REUSE_CONNECTION]
        with connect(named[0] if named else here) as source:
            tables.append(source.do_get(endpoint.ticket, options).read_all())
    table = pa.concat_tables(tables) if tables else info.schema.empty_table()
    uuids = len(set(table["uuid"].to_pylist())) if "uuid" in table.column_names else None
    aws.answer({"rows": table.num_rows, "columns": table.column_names, "endpoints": len(info.endpoints), "distinct_uuids": uuids})


main(*sys.argv[1:])
