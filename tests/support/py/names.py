"""The names of all objects below a folder.   names.py s3://bucket/prefix/"""
import sys

import aws

bucket, prefix = aws.bucket_and_prefix(sys.argv[1])
pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
aws.answer({"names": [entry["Key"][len(prefix):] for page in pages for entry in page.get("Contents", [])]})
