"""Writes the aggregate that the unit tests of engine/src/source/kinesis/kpl.rs read, or sends one to a stream.

    kpl_golden.py write FILE           the golden file, engine/testdata/kpl-aggregate-v1.bin
    kpl_golden.py put STREAM COUNT     COUNT user records {"id": n} in aggregates of up to 100, by put_record

The encoder is AWS's own (pip install aws-kinesis-agg==1.2.3 boto3), independent of ours. No test runs this: the golden
file is what it wrote.
"""

import json
import sys

import aws_kinesis_agg.aggregator as agg


def golden():
    aggregator = agg.RecordAggregator()
    aggregator.add_user_record("alpha", b'{"id":1}')
    aggregator.add_user_record("beta", b'{"id":2}')
    aggregator.add_user_record("alpha", b"first line\nsecond line", "1")
    aggregator.add_user_record("gamma", "Åland".encode(), str(2**127))
    return aggregator.clear_and_get().get_contents()[2]


def put(stream, count):
    import aws

    client = aws.client("kinesis")
    aggregator, sent = agg.RecordAggregator(), 0

    def flush():
        record = aggregator.clear_and_get()
        key, explicit, data = record.get_contents()
        client.put_record(StreamName=stream, PartitionKey=key, ExplicitHashKey=explicit, Data=data)
        return 1

    for number in range(count):
        aggregator.add_user_record(f"key-{number}", json.dumps({"id": number}).encode())
        if aggregator.get_num_user_records() >= 100:
            sent += flush()
    if aggregator.get_num_user_records():
        sent += flush()
    print(json.dumps({"aggregates": sent, "records": count}))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        with open(sys.argv[2], "wb") as file:
            file.write(golden())
    else:
        put(sys.argv[2], int(sys.argv[3]))
