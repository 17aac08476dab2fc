#!/bin/sh
# Holds what is in deploy/ and docker-compose.yml to the tools that will read it. A tool that this machine lacks is told
# and skipped; the tests of Rust (tests/it/deploy.rs) read the files anyway.
#
# usage: build/check-deploy.sh
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/target/tools/bin:$PATH"

failed=0
check() { # what, command
    what=$1
    shift
    if said=$("$@" 2>&1); then
        echo "check-deploy: $what: sound"
    else
        echo "check-deploy: $what: $*"
        echo "$said"
        failed=1
    fi
}
skip() { echo "check-deploy: SKIPPED: $1, for $2 is not on this machine"; }

if command -v promtool >/dev/null 2>&1; then
    check "alert rules" promtool check rules deploy/prometheus/alerts.yml
    check "what the alerts fire on" promtool test rules deploy/prometheus/alerts_test.yml
    check "what Prometheus scrapes" promtool check config deploy/prometheus/prometheus.yml
else
    skip "alert rules" "promtool (build/install-deps.sh test brings it)"
fi

if systemd-analyze --version >/dev/null 2>&1; then
    # The unit as it is, but for a program that is there.
    unit_folder=$(mktemp -d)
    trap 'rm -rf "$unit_folder"' EXIT
    sed "s|^ExecStart=[^ ]*|ExecStart=$(command -v true)|" deploy/systemd/tollgate.service >"$unit_folder/tollgate.service"
    check "systemd unit" systemd-analyze verify "$unit_folder/tollgate.service"
    cp deploy/systemd/tollgate.socket "$unit_folder"
    check "systemd units with sockets" systemd-analyze verify "$unit_folder/tollgate.socket" "$unit_folder/tollgate.service"
    # Of 100; what is left is the network, which a gateway is for.
    check "systemd unit's exposure" systemd-analyze security --offline=true --no-pager --threshold=20 "$unit_folder/tollgate.service"
else
    skip "systemd units" systemd-analyze
fi

if docker compose version >/dev/null 2>&1; then
    check "docker-compose.yml" docker compose config --quiet
elif docker-compose version >/dev/null 2>&1; then
    check "docker-compose.yml" docker-compose config --quiet
else
    skip "docker-compose.yml" "docker compose"
fi

if command -v kubeconform >/dev/null 2>&1; then
    check "Kubernetes manifests" kubeconform -strict deploy/kubernetes
else
    skip "schemas of the Kubernetes manifests" kubeconform
fi

exit "$failed"
