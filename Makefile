# The two commands of the README: `make run` and `make test`. The rest are their parts.

CARGO  ?= cargo
SERVER  = $(or $(CARGO_TARGET_DIR),target)/debug/signaling-server

.PHONY: run test tools lint features docs rust browser simulate

# The server in development mode, with the demonstration page. It prints the address to open.
run:
	$(CARGO) run --package signaling-standalone -- --dev

# Everything that must hold before a change lands.
test: tools lint features docs rust browser
	@echo "all tests passed"

# What the tests need and this machine lacks; says what it installs.
tools:
	scripts/install-test-tools

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings

# Every feature builds by itself, and with no other.
features:
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-core --no-default-features
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-core --no-default-features --features jwt
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-core --no-default-features --features jwt-aws-lc
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-core --no-default-features --features test-util
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-core --no-default-features --features websocket
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-axum
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-warp
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-redis
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-redis --features tls
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-redis --features test-util
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-standalone
	RUSTFLAGS="-D warnings" $(CARGO) check --package signaling-standalone --features redis-tls

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features

# Tests with a real Redis mostly wait: many at the same time.
rust:
	$(CARGO) test --workspace --all-features --exclude signaling-redis
	$(CARGO) test --package signaling-redis --all-features -- --test-threads 12

# Real pages in a real browser, through the real server.
browser:
	$(CARGO) build --package signaling-standalone
	cd examples/browser && npm ci --no-audit --no-fund && SIGNALING_SERVER="$(abspath $(SERVER))" npm test

# The long search: thousands of deployments in trouble.
simulate:
	SIMULATION_SEEDS=$(or $(SEEDS),5000) $(CARGO) test --release --package signaling-core --test engine seeds -- --nocapture
