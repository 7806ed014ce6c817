#!/usr/bin/env bash
# Tries the Iceberg sink on AWS: a table in the Glue Data Catalog, and one in S3 Tables. It has never been run there: report what it shows.
#
#   deploy/aws/try-tables.sh glue BUCKET            makes database streamctl_try, table orders below s3://BUCKET/streamctl-try/
#   deploy/aws/try-tables.sh s3tables BUCKET_ARN    makes namespace streamctl_try, table orders in that table bucket
#   ... ROLE_ARN as a third argument                 streamctl uses the table by this role (role_arn in the sink)
#
# Needs: streamctl in PATH, the AWS command line with credentials and a region, pyiceberg[pyarrow,glue] for the count. The job runs on this
# machine for a minute, on made-up records. Nothing is removed: the last lines name what to remove.
set -euo pipefail

kind=${1:-}
place=${2:-}
role=${3:-}
[ -n "$kind" ] && [ -n "$place" ] || { sed -n '2,10p' "$0"; exit 2; }
region=${AWS_REGION:-$(aws configure get region)}
folder=$(mktemp -d)

case $kind in
  glue)
    aws glue create-database --database-input Name=streamctl_try || true
    sink="catalog = \"glue\"
region = \"$region\"
location = \"s3://$place/streamctl-try/orders/\""
    properties="\"type\": \"rest\", \"uri\": \"https://glue.$region.amazonaws.com/iceberg\", \"rest.sigv4-enabled\": \"true\", \"rest.signing-name\": \"glue\""
    ;;
  s3tables)
    aws s3tables create-namespace --table-bucket-arn "$place" --namespace streamctl_try || true
    sink="catalog = \"s3tables\"
warehouse = \"$place\""
    properties="\"type\": \"rest\", \"uri\": \"https://s3tables.$region.amazonaws.com/iceberg\", \"warehouse\": \"$place\", \"rest.sigv4-enabled\": \"true\", \"rest.signing-name\": \"s3tables\""
    ;;
  *)
    sed -n '2,10p' "$0"
    exit 2
    ;;
esac

[ -z "$role" ] || sink="$sink
role_arn = \"$role\""

cat >"$folder/job.toml" <<JOB
name = "try-tables"

[source]
type = "generator"
seed = 1
shards = 2
rate = 100
records_per_shard = 3000

[window]
size = "5s"

[transform]
sql = "SELECT uuid, itemtype, region, window_start AS at FROM source"

[sink]
type = "iceberg"
table = "streamctl_try.orders"
create = true
partition = ["day(at)", "itemtype"]
$sink

[checkpoint]
location = "$folder/checkpoint/"
JOB

streamctl explain "$folder/job.toml"
streamctl run "$folder/job.toml"
streamctl verify --local "$folder/job.toml"
python3 - <<COUNT
from pyiceberg.catalog import load_catalog
table = load_catalog("it", **{$properties, "rest.signing-region": "$region"}).load_table("streamctl_try.orders")
rows = table.scan().to_arrow().num_rows
print("rows:", rows, "as expected" if rows == 6000 else "6000 were expected: report this")
COUNT
echo "left: table streamctl_try.orders, its files in $place, and $folder"
