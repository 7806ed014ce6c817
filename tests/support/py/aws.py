"""What the scripts share: clients of the emulators, folders in S3 or on disk, the form of the oracle.

The oracle is a file of JSON lines, one per record that the stream acknowledged:
    {"kind": "match" | "unmatched" | "bad", "uuid": text, "code": text or null, "data": base64 of the record}
Written after the acknowledgement, so what stands there is in the stream.
"""
import gzip, json, os, pathlib, sys, tempfile

import boto3
from botocore.config import Config


def client(service, attempts=8):
    """A client of an emulator on this machine, and of nothing else."""
    endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}", "")
    if "//127.0.0.1:" not in endpoint:
        sys.exit(f"AWS_ENDPOINT_URL_{service.upper()} is {endpoint!r}: these scripts only talk to 127.0.0.1")
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    return boto3.client(service, config=Config(retries=retries, read_timeout=60, s3={"addressing_style": "path"}))


def bucket_and_prefix(location):
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    return bucket, prefix


def put(location, name, body):
    """Writes one object of a folder, `s3://bucket/prefix/` or a local one."""
    if location.startswith("s3://"):
        bucket, prefix = bucket_and_prefix(location)
        client("s3").put_object(Bucket=bucket, Key=prefix + name, Body=body)
    else:
        path = pathlib.Path(location) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def fetch(location):
    """Every file below a folder as {name relative to it: local path}; what lies in S3 is copied."""
    if not location.startswith("s3://"):
        root = pathlib.Path(location)
        return {str(path.relative_to(root)): str(path) for path in sorted(root.rglob("*")) if path.is_file()}
    s3, (bucket, prefix) = client("s3"), bucket_and_prefix(location)
    root = pathlib.Path(tempfile.mkdtemp(prefix="streamctl-read-"))
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            name = entry["Key"][len(prefix):]
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, entry["Key"], str(path))
            found[name] = str(path)
    return found


def json_lines(path):
    """The values of a file of JSON lines, gzip or not; a last line that was cut off by a kill is an error."""
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines if line.strip()]


def answer(value):
    json.dump(value, sys.stdout, ensure_ascii=False)
    print()
