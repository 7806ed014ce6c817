# The only interface to building and testing. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo docs test unit sim chaos soak fuzz mutations bench check build wheel tools servers

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/streamctl
# What is built lies outside the checkout, so that the next clone needs not build it again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export STREAMCTL_SERVERS ?= $(CACHE)/servers
export PATH := $(PATH):$(HOME)/.cargo/bin

# dev: some minutes cold on 2 cores. `make demo PROFILE=release` is the fast program, and several times the wait.
PROFILE ?= dev
BIN := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

# Always the whole workspace: features of dependencies are then the same in every command, and nothing is built twice.
CARGO_BUILD := cargo build --locked --workspace --bins --profile $(PROFILE)

help: ## What there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Build, then run the model job on made-up sales records and local folders; ends by itself
	@"$(BIN)/streamctl" demo

test: servers ## Install the test servers, build, run every test
	cargo build --locked --workspace --bins
	cargo test --locked --workspace

unit: tools ## Run the tests that need no server: those beside the code
	cargo test --locked --workspace --lib

# A number alone tells that many stories from seed FIRST on; `make sim SEED=17` tells one, with its trace.
SEEDS ?= 1000
FIRST ?= 0
SEED ?=
sim: tools ## Simulate the whole system under faults (SEEDS=10000 FIRST=0, or SEED=17 alone; PROFILE=release)
	$(CARGO_BUILD)
	@"$(BIN)/streamctl-sim" $(or $(SEED),$(FIRST)..$$(( $(FIRST) + $(SEEDS) )))

chaos: servers ## Faults on real processes under load, as a table (ONLY=name,... CHAOS_JSON=file CHAOS_FOLDER=to keep, SEED=of the storm)
	$(CARGO_BUILD)
	"$(BIN)/streamctl-chaos" $(if $(ONLY),--only "$(ONLY)") $(if $(CHAOS_JSON),--json "$(CHAOS_JSON)") $(if $(CHAOS_FOLDER),--folder "$(CHAOS_FOLDER)") $(if $(SEED),--seed "$(SEED)")

soak: servers ## A long run under load, restarts and reshards: flat, and exactly once (MINUTES=3 RATE=2000 PLACE=s3|local SOAK_JSON=file SOAK_FOLDER=)
	$(CARGO_BUILD)
	"$(BIN)/streamctl-soak" --minutes "$(or $(MINUTES),3)" $(if $(RATE),--rate "$(RATE)") $(if $(PLACE),--place "$(PLACE)") $(if $(SOAK_JSON),--json "$(SOAK_JSON)") $(if $(SOAK_FOLDER),--folder "$(SOAK_FOLDER)")

fuzz: tools ## Fuzz each target for a minute (SECONDS_EACH=60, ONLY=name)
	@tests/fuzz/run.sh

mutations: tools ## Break one line after the other and see that a test notices (ONLY=part of a description)
	@tests/mutations/run.py $(if $(ONLY),"$(ONLY)")

# Only the optimised programs are worth measuring.
bench: servers ## How fast it is, beside DuckDB, Polars and Spark in the same run (ONLY=pipeline,latency,function,... SECONDS_EACH=60 RECORDS=2000000 ROUNDS=3 PEERS=duckdb,polars,spark BENCH_JSON=file)
	@tests/support/servers.sh peers
	cargo build --locked --workspace --bins --release
	"$(CARGO_TARGET_DIR)/release/streamctl-bench" --peers "$(or $(PEERS),duckdb,polars,spark)" $(if $(ONLY),--only "$(ONLY)") $(if $(SECONDS_EACH),--seconds "$(SECONDS_EACH)") $(if $(RECORDS),--records "$(RECORDS)") $(if $(ROUNDS),--rounds "$(ROUNDS)")

check: tools ## Formatting, lints, messages (proto/buf.yaml), and what is among the dependencies (deny.toml)
	@tests/support/servers.sh check
	@tests/support/protos.sh
	cargo fmt --all -- --check
	"$(STREAMCTL_SERVERS)/deny/bin/cargo-deny" --locked check bans licenses sources
	cargo clippy --locked --workspace --all-targets -- -D warnings

docs: servers ## Write what is generated: tables of docs/job-file.md, outputs of the notebook
	$(CARGO_BUILD)
	DOCS=write cargo test --locked --workspace --test system -- the_page_of_the_job_file the_notebook_runs

build: tools ## Build the three programs (PROFILE=dev or release)
	$(CARGO_BUILD)
	@echo "programs are in $(BIN)"

wheel: build ## Build the Python package, which carries the program, into python/dist (PROFILE=dev or release)
	@STREAMCTL_PROGRAM="$(BIN)/streamctl" STREAMCTL_STRIP=1 python3 python/backend.py wheel python/dist

tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@tests/support/servers.sh build

servers: tools
	@tests/support/servers.sh tests
