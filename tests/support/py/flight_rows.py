"""All about a job's rows over Arrow Flight.   flight_rows.py HOST:PORT JOB EPOCH

Prints {"listed": {job: [columns]}, "schema": text, "rows": [sorted rows as JSON], "endpoints": n}.
"""
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight


def main(address, job, epoch):
    controller = flight.connect(f"grpc://{address}")
    listed = {listed.descriptor.path[0].decode(): listed.schema.names for listed in controller.list_flights()}
    command = json.dumps({"job": job, "epoch": int(epoch)})
    info = controller.get_flight_info(flight.FlightDescriptor.for_command(command))
    parts = [flight.connect(e.locations[0]).do_get(e.ticket).read_all() for e in info.endpoints]
    table = pa.concat_tables([info.schema.empty_table(), *parts])
    rows = sorted(json.dumps(row, default=str, sort_keys=True) for row in table.to_pylist())
    print(json.dumps({"listed": listed, "schema": str(table.schema), "rows": rows, "endpoints": len(info.endpoints)}))


main(*sys.argv[1:])
