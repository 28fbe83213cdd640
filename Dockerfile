# syntax=docker/dockerfile:1

# One image with all of Weir's programs. The command says which one runs:
#   docker run --rm weir weir-ingest --help

FROM rust:1.95-bookworm AS build
WORKDIR /src
# Line tables are worth their size on a developer's machine, not in an image; a panic names its line without them.
ENV CARGO_PROFILE_RELEASE_DEBUG=false \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
COPY . .
# Both caches outlive this layer: after a change only the crates of the workspace are compiled again. What is in a
# cache is not in the image, so the programs are copied out of it in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --workspace --bins --release --locked \
    && mkdir /out \
    && cd target/release \
    && cp weir weir-ingest weir-worker weir-scheduler weir-loadtest /out/

FROM debian:bookworm-slim
# Certificates of the public authorities: calls to APIs over TLS are checked against the system's.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=755 deploy/healthcheck /usr/local/bin/healthcheck
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /tmp
# weir-ingest, weir-worker, weir-scheduler
EXPOSE 8080 8081 8082
# The programs handle SIGTERM themselves, as process 1 too.
CMD ["weir", "--help"]
