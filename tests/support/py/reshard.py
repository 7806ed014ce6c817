"""Splits the first open shard of a stream, or merges its first two open neighbours.   reshard.py split|merge STREAM"""
import sys, time

import aws

kinesis = aws.client("kinesis")


def wait_active(stream):
    while kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(0.05)


def shards(stream):
    """Every shard, closed ones too, however many answers that takes."""
    found, token = [], None
    while True:
        page = kinesis.list_shards(**({"NextToken": token} if token else {"StreamName": stream}))
        found += page["Shards"]
        token = page.get("NextToken")
        if not token:
            return found


def begins(shard):
    return int(shard["HashKeyRange"]["StartingHashKey"])


def ends(shard):
    return int(shard["HashKeyRange"]["EndingHashKey"])


def main(verb, stream):
    open_shards = sorted((s for s in shards(stream) if "EndingSequenceNumber" not in s["SequenceNumberRange"]), key=begins)
    if verb == "split":
        parents = open_shards[:1]
        middle = (begins(parents[0]) + ends(parents[0])) // 2
        kinesis.split_shard(StreamName=stream, ShardToSplit=parents[0]["ShardId"], NewStartingHashKey=str(middle))
    else:
        parents = open_shards[:2]
        kinesis.merge_shards(StreamName=stream, ShardToMerge=parents[0]["ShardId"], AdjacentShardToMerge=parents[1]["ShardId"])
    wait_active(stream)
    names = {shard["ShardId"] for shard in parents}
    children = [s["ShardId"] for s in shards(stream) if {s.get("ParentShardId"), s.get("AdjacentParentShardId")} & names]
    aws.answer({"parents": sorted(names), "children": sorted(children)})


main(*sys.argv[1:])
