"""Deletes a stream, as if the retention of all its records were over.   stream_expires.py STREAM"""
import sys

import aws


def main(stream):
    aws.client("kinesis").delete_stream(StreamName=stream, EnforceConsumerDeletion=True)
    aws.answer({"deleted": stream})


main(*sys.argv[1:])
