# syntax=docker/dockerfile:1

# Alpine's Rust builds for musl and links it in, so the binary needs nothing around it: no loader, no libraries, and no plug-ins for
# names, which a static glibc would still want to load for getaddrinfo. musl reads /etc/resolv.conf and /etc/hosts by itself, and these
# two the container's runtime provides.
ARG RUST_VERSION=1.95
FROM rust:${RUST_VERSION}-alpine AS build
WORKDIR /build

# The dependencies alone: this layer stays as long as the two files do.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked \
    && rm -r src

COPY src src
# Newer than what was built above, whatever time stamps came with the copy.
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin evenkeel \
    && strip target/release/evenkeel \
    && ./target/release/evenkeel --version

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Evenkeel" \
      org.opencontainers.image.description="A Kafka-protocol proxy that makes a departing broker a non-event for its clients" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /LICENSE
COPY --from=build /build/target/release/evenkeel /evenkeel
# A number, so that Kubernetes' runAsNonRoot can tell without /etc/passwd.
USER 65532:65532
# The bootstrap port and the admin port; brokers' ports follow from the configuration.
EXPOSE 19092 19000
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/evenkeel", "probe"]
ENTRYPOINT ["/evenkeel"]
CMD ["run"]
