# The two commands of the README: `make run` and `make test`. The rest are their parts.

CARGO  ?= cargo
TARGET  = $(abspath $(or $(CARGO_TARGET_DIR),target))
SERVER  = $(TARGET)/debug/signaling-server

# What goes to the registry: the crates that are not below examples, docs or benches.
PUBLISHED = $(wildcard signaling-*)

# A cargo subcommand: the one that is installed, else one of our own.
export PATH := $(TARGET)/tools/bin:$(PATH)
tool = $(if $(shell command -v $(1)),,$(TARGET)/tools/bin/$(1))
$(TARGET)/tools/bin/%:
	@echo "test tools: building $*, which is not installed, into $(TARGET)/tools"
	$(CARGO) install --locked --debug --quiet --root $(TARGET)/tools $*

.PHONY: run test tools lint features packages docs rust browser simulate fuzz chaos restart bench bench-full bench-report peers instructions \
	instructions-keep times scale release minimal-versions deny

# The server in development mode, with the demonstration page. It prints the address to open.
run:
	$(CARGO) run --package signaling-standalone -- --dev

# Everything that must hold before a change lands.
test: tools lint features packages docs rust browser
	@echo "all tests passed"

# What the tests need and this machine lacks; says what it installs.
tools:
	scripts/install-test-tools

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

# Every published crate builds with every set of its features; `default` is only a name for one.
features: $(call tool,cargo-hack)
	$(CARGO) hack clippy --workspace --ignore-private --feature-powerset --exclude-features default -- -D warnings

# What goes to the registry is whole: readme, licences, versions of what it depends on.
packages:
	$(CARGO) package --quiet --allow-dirty --no-verify $(PUBLISHED:%=--package %)

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features

# With one set of features, so that all is built once. Most tests wait, for servers and time limits: more of them
# run at the same time than there are cores.
rust:
	RUST_TEST_THREADS=8 $(CARGO) test --workspace --all-features

# Real pages in a real browser, through the real server.
browser:
	$(CARGO) build --workspace --all-features --bin signaling-server
	cd examples/browser && npm ci --no-audit --no-fund && SIGNALING_SERVER="$(SERVER)" npm test

# The long search: thousands of deployments in trouble.
simulate:
	SIMULATION_SEEDS=$(or $(SEEDS),5000) $(CARGO) test --release --package signaling-core --test engine seeds -- --nocapture

# Each fuzz target for SECONDS, from the corpora in the repository.
fuzz: $(call tool,cargo-fuzz)
	CARGO="$(CARGO)" CARGO_TARGET_DIR="$(TARGET)" scripts/fuzz $(or $(SECONDS),60)

# Real servers and a real Redis that are killed, frozen and cut off while pairs of users talk. SEED=7 repeats the
# faults of a run.
chaos:
	$(CARGO) build --release --package signaling-standalone --package signaling-benches --bin signaling-server --bin chaos
	$(TARGET)/release/chaos --minutes $(or $(MINUTES),2) --pairs $(or $(PAIRS),50) $(if $(SEED),--seed $(SEED)) \
		--logs $(TARGET)/chaos

# Two nodes are restarted in turn under CLIENTS clients in calls; their calls must not be interrupted.
restart:
	$(CARGO) build --release --package signaling-standalone --package signaling-benches --bin signaling-server --bin chaos
	ulimit -n $$(ulimit -Hn) && $(TARGET)/release/chaos --restart $(or $(CLIENTS),10000) --logs $(TARGET)/chaos

# A comparison, the load generator on core 1 and each contender on core 0.
define compare
	$(CARGO) build --release --package signaling-benches
	rm -f $(TARGET)/bench-$(1).jsonl
	taskset -c 1 $(TARGET)/release/load compare $(1) --out $(TARGET)/bench-$(1).jsonl
endef

# Of ten minutes.
bench: peers
	$(call compare,short)
	$(TARGET)/release/load report $(TARGET)/bench-short.jsonl

# Of everything; its lines are kept, and become the results in the README.
bench-full: peers
	$(call compare,full)
	mkdir -p benches/results
	cp $(TARGET)/bench-full.jsonl benches/results/full.jsonl
	$(TARGET)/release/load report benches/results/full.jsonl --readme benches/README.md

# The README's results once more, from the lines that are kept.
bench-report:
	$(CARGO) run --release --package signaling-benches --bin load -- report benches/results/full.jsonl --readme benches/README.md

# Whom `load` can compare with: servers in Rust with a lock file of their own, and in npm packages.
peers:
	$(CARGO) build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir $(TARGET)/peers
	$(CARGO) install --locked --root $(TARGET)/peers --version =0.15.0 matchbox_server
	cd benches/peers/npm && npm ci --ignore-scripts --no-audit --no-fund

# How many instructions the parts that are done most take, against the numbers in the repository. It needs
# valgrind, and leaves profiles for callgrind_annotate in target/instructions.
instructions instructions-keep:
	$(CARGO) build --release --package signaling-benches --bin engine
	$(TARGET)/release/engine instructions $(if $(filter %-keep,$@),--keep) --profiles $(TARGET)/instructions

# How long each of the same parts takes on this machine.
times:
	$(CARGO) run --release --package signaling-benches --bin engine -- times

# What benches/SCALE.md is calculated from: a million users on a virtual clock (4 GiB of memory), and calls on a
# real Redis.
scale:
	$(CARGO) build --release --package signaling-benches --bin engine
	$(TARGET)/release/engine users
	$(TARGET)/release/engine redis

# Before a release, beside `make test`: what takes longer, or asks others.
release: minimal-versions deny
	$(CARGO) package $(PUBLISHED:%=--package %)

# The oldest versions of dependencies that the published crates allow will do.
minimal-versions:
	scripts/check-minimal-versions

# Licences, sources and bans of dependencies; where its database can be reached, `make deny CHECKS=advisories` too.
deny: $(call tool,cargo-deny)
	$(CARGO) deny --all-features check $(or $(CHECKS),bans licenses sources)
