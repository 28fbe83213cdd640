# syntax=docker/dockerfile:1

# One image with all of Weir's programs. The command says which one runs:
#   docker build -t weir:0.1.0 .
#   docker run --rm weir:0.1.0 weir-ingest --help

FROM rust:1.95-bookworm AS tools
RUN cargo install cargo-chef@0.1.78 --locked
WORKDIR /src
# Line tables are worth their size on a developer's machine, not in an image; a panic names its line without them.
ENV CARGO_PROFILE_RELEASE_DEBUG=false \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo

# What the dependencies are, without any source of ours: this changes only with Cargo.toml and Cargo.lock.
FROM tools AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM tools AS build
# The layer that takes minutes: dependencies only, kept until they change.
COPY --from=plan /src/recipe.json .
RUN cargo chef cook --workspace --bins --release --locked --recipe-path recipe.json
COPY . .
RUN cargo build --workspace --bins --release --locked \
    && mkdir /out \
    && rustc --edition 2024 -O -C strip=symbols -o /out/healthcheck deploy/healthcheck.rs \
    && for program in weir weir-ingest weir-worker weir-scheduler weir-loadtest; do cp "target/release/$program" /out/ || exit 1; done

# glibc, the certificates of the public authorities, and nothing else: no shell, no package manager. The same Debian as
# the one that the programs are built on.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
# The image's user nonroot, as a number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /tmp
# weir-ingest; weir-worker; weir-scheduler: health, metrics and API, KEDA, external metrics
EXPOSE 8080 8081 8082 8083 8443
# Nothing is written to the file system: run it with --read-only. The programs handle SIGTERM themselves, as process 1 too.
CMD ["weir", "--help"]
