# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
# cmake and make build zlib-ng, a part of Pingora.
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --bin tollgate \
 && install -D target/dist/tollgate /out/tollgate

FROM debian:bookworm-slim
# The roots that TLS to upstreams is checked against.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 /var/lib/tollgate
COPY --from=build /out/tollgate /usr/local/bin/tollgate
COPY gateway.yaml /etc/tollgate/gateway.yaml
# ./data, where state lasts, is under here.
WORKDIR /var/lib/tollgate
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["tollgate"]
CMD ["run", "--config", "/etc/tollgate/gateway.yaml"]
