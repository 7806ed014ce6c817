"""Makes a job of Glue, as its console does, and puts its script into S3.

    glue_job.py nodes  --get-job FILE                              the visual job that `aws glue get-job` printed
    glue_job.py script --name N --bucket B --script FILE           a job that is a script, with its arguments
"""
import argparse, json, pathlib

import aws

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["nodes", "script"])
parser.add_argument("--get-job")
parser.add_argument("--name")
parser.add_argument("--bucket")
parser.add_argument("--script")
options = parser.parse_args()

glue = aws.client("glue")
if options.what == "nodes":
    job = json.loads(pathlib.Path(options.get_job).read_text())["Job"]
    glue.create_job(**job)
    aws.answer({"job": job["Name"]})
else:
    s3 = aws.client("s3")
    key = "scripts/job.py"
    s3.put_object(Bucket=options.bucket, Key=key, Body=pathlib.Path(options.script).read_bytes())
    location = f"s3://{options.bucket}/{key}"
    glue.create_job(
        Name=options.name,
        Role="arn:aws:iam::123456789012:role/glue",
        Command={"Name": "gluestreaming", "ScriptLocation": location, "PythonVersion": "3"},
        DefaultArguments={"--s3_bucket": options.bucket, "--job-language": "python"},
    )
    aws.answer({"job": options.name, "script": location})
