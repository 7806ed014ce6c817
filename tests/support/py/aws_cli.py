"""Stands for the AWS command line in a test of the quick start: the few commands that it shows, against emulators.

    aws_cli.py cloudformation deploy ... --parameter-overrides NAME=VALUE...   makes what the template says
    aws_cli.py kinesis put-record --stream-name S --partition-key K --data D ...

The template is read as JSON from the file $TEMPLATE_JSON (template_json.py). Roles and policies are not made: no emulator looks at
them. The function that writes the lookup is run as it stands in the template.
"""
import json, os, re, sys, time, types

import aws

ACCOUNT, REGION = "123456789012", os.environ["AWS_REGION"]
PSEUDO = {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com"}


class Template:
    def __init__(self, overrides):
        with open(os.environ["TEMPLATE_JSON"], encoding="utf-8") as file:
            template = json.load(file)
        self.resources = template["Resources"]
        self.names = {**PSEUDO, **{name: str(about.get("Default", "")) for name, about in template["Parameters"].items()}, **overrides}

    def name(self, name):
        """What a reference to it gives: a parameter's value, or the name of a resource."""
        if name in self.names:
            return self.names[name]
        properties = self.properties(name)
        return properties.get("Name") or properties.get("BucketName") or properties.get("DatabaseInput", {}).get("Name") or name

    def value(self, value):
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "Ref" in value:
            return self.name(value["Ref"])
        if "Fn::Sub" in value:
            return re.sub(r"\$\{([^}]+)\}", lambda found: self.name(found[1]), value["Fn::Sub"])
        return {key: self.value(item) for key, item in value.items()}

    def properties(self, name):
        return self.value(self.resources[name]["Properties"])

    def of_type(self, kind):
        return [self.properties(name) for name, about in self.resources.items() if about["Type"] == kind]


def deploy(overrides):
    template = Template(overrides)
    kinesis, glue, s3 = aws.client("kinesis"), aws.client("glue"), aws.client("s3")
    for stream in template.of_type("AWS::Kinesis::Stream"):
        kinesis.create_stream(StreamName=stream["Name"], ShardCount=int(stream["ShardCount"]))
        while kinesis.describe_stream_summary(StreamName=stream["Name"])["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
            time.sleep(0.05)
    for bucket in template.of_type("AWS::S3::Bucket"):
        s3.create_bucket(Bucket=bucket["BucketName"])
    for database in template.of_type("AWS::Glue::Database"):
        glue.create_database(DatabaseInput=database["DatabaseInput"])
    for table in template.of_type("AWS::Glue::Table"):
        # The one thing that is not as in AWS: where Kinesis answers.
        table["TableInput"]["StorageDescriptor"]["Parameters"]["endpointUrl"] = os.environ["AWS_ENDPOINT_URL_KINESIS"]
        glue.create_table(DatabaseName=table["DatabaseName"], TableInput=table["TableInput"])
    [function] = template.of_type("AWS::Lambda::Function")
    for custom in template.of_type("AWS::CloudFormation::CustomResource"):
        call(function["Code"]["ZipFile"], custom)


def call(code, properties):
    """Runs the function as CloudFormation does; its answer goes nowhere but must be a good one."""
    answers = []
    fake = types.ModuleType("cfnresponse")
    fake.SUCCESS, fake.FAILED = "SUCCESS", "FAILED"
    fake.send = lambda event, context, status, data, place: answers.append((status, data))
    sys.modules["cfnresponse"] = fake
    names = {}
    exec(compile(code, "index.py", "exec"), names)
    names["handler"]({"RequestType": "Create", "ResourceProperties": properties}, None)
    if [status for status, _ in answers] != ["SUCCESS"]:
        sys.exit(f"the function of the template answered {answers}")


def main(words):
    def flag(name):
        return words[words.index(name) + 1]

    if words[:2] == ["cloudformation", "deploy"]:
        overrides = words[words.index("--parameter-overrides") + 1:]
        deploy(dict(override.split("=", 1) for override in overrides))
    elif words[:2] == ["kinesis", "put-record"]:
        aws.client("kinesis").put_record(StreamName=flag("--stream-name"), PartitionKey=flag("--partition-key"), Data=flag("--data").encode())
    else:
        sys.exit(f"the stand-in for the AWS command line does not know: {words[:2]}")


main(sys.argv[1:])
