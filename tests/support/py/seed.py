"""Makes the workshop's stream, catalog table and lookup, and writes sales records of which each is known.

    seed.py prepare --stream S --shards N --bucket B --table T [--typed] [--no-table] [--no-stream] [--lookup FILE]
    seed.py write   --stream S --seed N --records N --oracle FILE [--first N] [--rate R] [--bad-every N] [--unmatched-every N] [--lookup FILE]
    seed.py edges   --stream S --oracle FILE     one record of every awkward kind (the typed table)
    seed.py drop    --stream S

`write --records 0` writes until SIGTERM, and then ends well after its last acknowledgement. Safe to run twice.
"""
import argparse, base64, csv, datetime, json, os, pathlib, random, signal, string, time

from botocore.exceptions import ClientError

import aws

DATABASE = "glueworkshop_cloudformation"
LOOKUP_KEY = "input/lab4/country_lookup/country_lookup.csv"
LOOKUP_FILE = pathlib.Path(__file__).parents[3] / "deploy/jobs/data/country_lookup/country_lookup.csv"
COLUMNS = ("uuid country itemtype saleschannel orderpriority orderdate region shipdate unitssold unitprice unitcost "
           "totalrevenue totalcost totalprofit").split()
PATHS = ("Country,ItemType,OrderDate,OrderPriority,Region,SalesChannel,ShipDate,TotalCost,TotalProfit,TotalRevenue,"
         "UnitCost,UnitPrice,UnitsSold,uuid")
ITEMS = [("Baby Food", 255.28, 159.42), ("Cereal", 205.70, 117.11), ("Clothes", 109.28, 35.84), ("Fruits", 9.33, 6.92)]
REGIONS = ["Asia", "Europe", "Sub-Saharan Africa", "Australia and Oceania", "North America"]
BATCH = 100  # records per call: kinesis-mock is slow with many


def ignoring(codes, call):
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def make_stream(kinesis, options):
    ignoring(["ResourceInUseException"], lambda: kinesis.create_stream(StreamName=options.stream, ShardCount=options.shards))
    while kinesis.describe_stream_summary(StreamName=options.stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.05)


def prepare(options):
    s3 = aws.client("s3")
    if not options.no_stream:
        make_stream(aws.client("kinesis"), options)
    ignoring(["BucketAlreadyOwnedByYou", "BucketAlreadyExists"], lambda: s3.create_bucket(Bucket=options.bucket))
    s3.put_object(Bucket=options.bucket, Key=LOOKUP_KEY, Body=pathlib.Path(options.lookup).read_bytes(), ContentType="text/csv")
    if options.no_table:
        return aws.answer({"lookup": f"s3://{options.bucket}/{LOOKUP_KEY}"})
    glue = aws.client("glue")
    ignoring(["AlreadyExistsException"], lambda: glue.create_database(DatabaseInput={"Name": DATABASE}))
    table = table_input(options)
    try:
        glue.create_table(DatabaseName=DATABASE, TableInput=table)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AlreadyExistsException":
            raise
        glue.update_table(DatabaseName=DATABASE, TableInput=table)
    aws.answer({"lookup": f"s3://{options.bucket}/{LOOKUP_KEY}", "database": DATABASE, "table": options.table})


def table_input(options):
    """The table as the workshop's template makes it: the stream is named in the storage descriptor."""
    types = {"uuid": "bigint", "unitssold": "int"} if options.typed else {}
    where = {"typeOfData": "kinesis", "streamName": options.stream, "endpointUrl": os.environ["AWS_ENDPOINT_URL_KINESIS"]}
    serde = {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {"paths": PATHS}}
    return {
        "Name": options.table,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"classification": "json"},
        "StorageDescriptor": {
            "Columns": [{"Name": name, "Type": types.get(name, "string")} for name in COLUMNS],
            "Location": options.stream,
            "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
            "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
            "Parameters": where,
            "SerdeInfo": serde,
        },
    }


class Sales:
    """The sales records of one seed; every value is text, as the workshop's generator sends them."""

    def __init__(self, options):
        with open(options.lookup, encoding="utf-8", newline="") as file:
            self.codes = dict(list(csv.reader(file))[1:])
        self.names = sorted(self.codes)
        self.bad_every, self.unmatched_every = options.bad_every, options.unmatched_every
        self.random = random.Random(options.seed)

    def record(self, number):
        """The bytes of a record, and its line in the oracle."""
        uuid, rnd = str(100_000_000 + number), self.random
        if self.bad_every and number % self.bad_every == self.bad_every - 1:
            return oracle_line("bad", ('{"uuid":"%s", broken' % uuid).encode(), uuid)
        if self.unmatched_every and number % self.unmatched_every == self.unmatched_every - 1:
            country, kind = "Neverland", "unmatched"
        else:
            country, kind = rnd.choice(self.names), "match"
        data = json.dumps(sale(uuid, country, rnd), ensure_ascii=False).encode()
        return oracle_line(kind, data, uuid, self.codes.get(country))


def sale(uuid, country, rnd):
    item, price, cost = rnd.choice(ITEMS)
    units, ordered = rnd.randint(1, 9999), datetime.date(2012, 1, 1) + datetime.timedelta(rnd.randint(0, 2000))
    day = lambda date: f"{date.month}/{date.day}/{date:%y}"
    return {
        "uuid": uuid, "Country": country, "ItemType": item, "SalesChannel": rnd.choice(["Online", "Offline"]),
        "OrderPriority": rnd.choice("CHML"), "OrderDate": day(ordered), "Region": rnd.choice(REGIONS),
        "ShipDate": day(ordered + datetime.timedelta(rnd.randint(0, 50))), "UnitsSold": str(units),
        "UnitPrice": f"{price:.2f}", "UnitCost": f"{cost:.2f}", "TotalRevenue": f"{units * price:.2f}",
        "TotalCost": f"{units * cost:.2f}", "TotalProfit": f"{units * (price - cost):.2f}",
    }


def oracle_line(kind, data, uuid=None, code=None):
    return data, {"kind": kind, "uuid": uuid, "code": code, "data": base64.b64encode(data).decode()}


def send(kinesis, stream, batch, oracle, rnd):
    """Writes a batch; each record goes into the oracle once it is acknowledged, and is sent again only when refused."""
    while batch:
        entries = [{"Data": data, "PartitionKey": "".join(rnd.choices(string.ascii_uppercase, k=20))} for data, _ in batch]
        results = kinesis.put_records(StreamName=stream, Records=entries)["Records"]
        for (_, line), result in zip(batch, results):
            if not result.get("ErrorCode"):
                oracle.write(json.dumps(line) + "\n")
        oracle.flush()
        batch = [entry for entry, result in zip(batch, results) if result.get("ErrorCode")]
        if batch:
            time.sleep(0.1)


def write(options):
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    # One attempt: a call that was made twice would put records into the stream that the oracle holds once.
    kinesis, sales, keys = aws.client("kinesis", attempts=1), Sales(options), random.Random(options.seed + 1)
    begin, sent = time.monotonic(), 0
    with open(options.oracle, "a", encoding="utf-8") as oracle:
        while not stop and (options.records == 0 or sent < options.records):
            size = min(BATCH, max(1, int(options.rate / 4))) if options.rate else BATCH
            size = min(size, options.records - sent) if options.records else size
            batch = [sales.record(options.first + sent + offset) for offset in range(size)]
            send(kinesis, options.stream, batch, oracle, keys)
            sent += size
            if options.rate:
                time.sleep(max(0.0, begin + sent / options.rate - time.monotonic()))
    aws.answer({"sent": sent})


def edges(options):
    """Awkward records for the typed table (uuid bigint, unitssold int), each between two good ones."""
    rnd = random.Random(7)
    def good(number, **changes):
        return json.dumps({**sale(str(number), "Namibia", rnd), **changes}, ensure_ascii=False).encode()
    padding = 1024 * 1024 - 64 - len(good(8, ItemType=""))
    awkward = [
        oracle_line("bad", b"this is not JSON"),
        oracle_line("bad", good(2, UnitsSold="many")),
        oracle_line("bad", good(3, UnitsSold={"a": 1})),
        oracle_line("bad", b""),
        oracle_line("bad", good(5).replace(b"Namibia", b"Nam\xffbia")[:-1]),
        oracle_line("bad", b'["an", "array"]'),
        oracle_line("bad", good(7)[:-20]),
        oracle_line("match", good(8, ItemType="x" * padding), "8", "NA"),
        oracle_line("match", good(9, UnitsSold=17), "9", "NA"),
        oracle_line("match", good(10, Extra={"nested": [1, 2]}), "10", "NA"),
    ]
    kinesis = aws.client("kinesis", attempts=1)
    with open(options.oracle, "a", encoding="utf-8") as oracle:
        for place, entry in enumerate(awkward):
            send(kinesis, options.stream, [entry], oracle, rnd)
            neighbour = 1000 + place
            send(kinesis, options.stream, [oracle_line("match", good(neighbour), str(neighbour), "NA")], oracle, rnd)
    aws.answer({"sent": 2 * len(awkward)})


def drop(options):
    """The emulator grows slow with what it holds."""
    aws.client("kinesis").delete_stream(StreamName=options.stream)
    aws.answer({})


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, run in (("prepare", prepare), ("write", write), ("edges", edges), ("drop", drop)):
        flags = verbs.add_parser(verb)
        flags.set_defaults(run=run)
        flags.add_argument("--stream", default="glueworkshop")
        flags.add_argument("--lookup", default=str(LOOKUP_FILE))
        if verb == "prepare":
            flags.add_argument("--shards", type=int, default=2)
            flags.add_argument("--bucket", required=True)
            flags.add_argument("--table", default="json-streaming-table")
            flags.add_argument("--typed", action="store_true")
            flags.add_argument("--no-table", action="store_true")
            flags.add_argument("--no-stream", action="store_true")
        elif verb != "drop":
            flags.add_argument("--oracle", required=True)
        if verb == "write":
            flags.add_argument("--records", type=int, required=True)
            flags.add_argument("--rate", type=float, default=0)
            for name in ("seed", "first", "bad-every", "unmatched-every"):
                flags.add_argument(f"--{name}", type=int, default=0)
    options = parser.parse_args()
    options.run(options)


main()
