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
# Pingora's connector reads the system's roots when it starts, also while no backend speaks TLS.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/tollgate /usr/local/bin/tollgate
# In this file the admin listener is on the container's own loopback: give it tokens before it listens elsewhere.
COPY gateway.yaml /etc/tollgate/gateway.yaml
# What outlives the process. Each container has its own: no two gateways share the folder.
RUN install -d -o 65532 -g 65532 -m 0700 /data
ENV TOLLGATE_DATA=/data
VOLUME /data
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["tollgate"]
CMD ["run", "--config", "/etc/tollgate/gateway.yaml"]
