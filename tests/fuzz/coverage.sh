#!/usr/bin/env bash
# Stands before rustc: gives libFuzzer's coverage to our own crates only, so that libraries are built once for all.
set -euo pipefail
rustc=$1
shift
name=''
for ((i = 1; i < $#; i++)); do
    if [[ ${!i} == --crate-name ]]; then j=$((i + 1)) && name=${!j}; fi
done
case $name in
streamctl_* | json | job_file | kpl | manifest | lookup | position | workers | control | clients)
    if [[ ${CARGO_MANIFEST_DIR:-} == */tests/fuzz || $name == streamctl_* ]]; then
        set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing
    fi
    ;;
esac
exec "$rustc" "$@"
