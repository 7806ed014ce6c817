# The only interface to building and testing. `make` alone says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz check build tools servers

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

fuzz: tools ## Fuzz each target for a minute (SECONDS_EACH=60, ONLY=name)
	@tests/fuzz/run.sh

check: tools ## Formatting and lints
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

build: tools ## Build the three programs (PROFILE=dev or release)
	$(CARGO_BUILD)
	@echo "programs are in $(BIN)"

tools:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@tests/support/servers.sh build

servers: tools
	@tests/support/servers.sh tests
