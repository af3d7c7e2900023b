# What people and the build server run. The tests install what they need under target/ and say so.

.PHONY: test check conformance departures demo bench sequences

# Formatting, lints, the arrows between modules.
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --test arrows

# Everything that fits a build: all tests, a real cluster of each Kafka version, every real client once.
test:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

# Every real client against every Kafka version.
conformance:
	EVENKEEL_CONFORMANCE=full cargo test --test conformance

# Brokers that leave a real cluster under every client, both Kafka versions: hours. A part of it:
#     make departures ARGS="--client franz-go-1.17.0 --event drain --runs 5"
# --role consumer for groups instead of producers; --kafka VERSION; --direct without the proxy; --probes to see by how much a limit may be off.
departures:
	cargo bench --bench departures -- $(ARGS)

# Brokers leave a simulated cluster: what a client feels, straight and through the proxy.
demo:
	cargo run --release -- demo

# What the proxy costs: on bare sockets, next to HAProxy if that is installed; and for a real client at a real Kafka.
bench:
	cargo bench --bench relay
	cargo bench --bench real_client

# The wire sequences at which a direct client stalls, many times each: make sequences ARGS="--runs 100 --way both"
sequences:
	cargo bench --bench sequences -- $(ARGS)
