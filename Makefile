# Everything a newcomer runs. `make` alone lists it.

CARGO ?= cargo
LOCKED ?= --locked
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release

.DEFAULT_GOAL := help
.PHONY: help setup build test deploy-check chaos fuzz demo up bench lint fmt clean-data

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing (nats-server, Redis, PostgreSQL, a C compiler)
	@scripts/setup

build: ## Build the optimized binaries into target/release
	$(CARGO) build --workspace --release $(LOCKED)

# Most tests wait for servers and clocks more than they work.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: setup ## Run every test, against real servers
	$(CARGO) test --workspace $(LOCKED) --features shared/failpoints

deploy-check: setup ## Check Kubernetes manifests, compose, Dockerfile, alerts and dashboard
	$(CARGO) build --workspace $(LOCKED) --features shared/failpoints
	@scripts/deploy-check

fuzz: ## Fuzz every parser for a minute each (needs a nightly Rust and cargo-fuzz)
	@scripts/fuzz

SEEDS ?= 3
# Built like the tests: optimized binaries have no failpoints.
chaos: setup ## Break everything under load, SEEDS=3 times each, and write the table of docs/reliability.md
	$(CARGO) build $(LOCKED) --features shared/failpoints -p ingest -p worker -p scheduler -p loadtest
	target/debug/weir-loadtest chaos --seeds $(SEEDS) --table docs/reliability.md

demo: setup build ## Show events on their way through the fleet
	scripts/demo

up: setup build ## Run the whole fleet here until Ctrl-C
	$(RELEASE)/weir up

bench: setup build ## Measure against the bare operations: rates, latency, memory
	$(CARGO) bench $(LOCKED) -p ingest --bench accept
	$(CARGO) bench $(LOCKED) -p ingest --bench webhook
	$(CARGO) bench $(LOCKED) -p worker --bench drain
	$(CARGO) bench $(LOCKED) -p worker --bench retention
	$(CARGO) bench $(LOCKED) -p loadtest --bench latency
	$(CARGO) bench $(LOCKED) -p loadtest --bench claims
	$(CARGO) bench $(LOCKED) -p worker --bench limiter
	$(CARGO) bench $(LOCKED) -p analysis --bench analysis
	$(CARGO) bench $(LOCKED) -p scheduler --bench external
	$(CARGO) bench $(LOCKED) -p scheduler --bench observe
	$(CARGO) bench $(LOCKED) -p weir-cli --bench dead_letters
	$(CARGO) bench $(LOCKED) -p shared --bench cache
	$(CARGO) bench $(LOCKED) -p shared --bench store
	$(CARGO) bench $(LOCKED) -p shared --bench access
	$(CARGO) bench $(LOCKED) -p scheduler --bench warm
	$(CARGO) bench $(LOCKED) -p loadtest --bench limits -- --workers 1,2,4,8 --limit '50 per second, burst 5'

lint: ## Check formatting and lints, warnings included
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(LOCKED) --features shared/failpoints -- -D warnings

fmt: ## Format the code
	$(CARGO) fmt --all

clean-data: ## Remove the data of the local fleet (.weir)
	rm -rf .weir
