#!/usr/bin/env bash
# Runs every fuzz target for SECONDS_EACH, or the one that ONLY names. What is found lies below tests/fuzz/artifacts/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export RUSTC_WRAPPER=$PWD/coverage.sh
: "${CARGO_TARGET_DIR:?is set by make}"
targets=${ONLY:-$(for path in fuzz_targets/*.rs; do basename "$path" .rs; done)}
nice -n 10 cargo build --bins
for target in $targets; do
    echo "== $target"
    mkdir -p "artifacts/$target" "$CARGO_TARGET_DIR/fuzz-corpus/$target"
    nice -n 10 "$CARGO_TARGET_DIR/debug/$target" -max_total_time="${SECONDS_EACH:-60}" -timeout=10 -rss_limit_mb=2048 \
        -max_len=16384 -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "$CARGO_TARGET_DIR/fuzz-corpus/$target" "corpus/$target"
done
