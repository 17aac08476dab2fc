#!/usr/bin/env python3
"""Deploys at full load: 50 upgrades, 50 restarts and 1,000 reloads of one gateway that wrk asks without a pause.

This program keeps the gateway's sockets, as systemd does with deploy/systemd/tollgate.socket; the last two lines are of
a gateway that opens its own. Needs wrk, and a binary that is built: TOLLGATE names another than target/release/tollgate.
Prints a table; a request that failed ends it with status 1, unless it did in a restart of the last kind, and so does
a count that was lost.
"""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

BINARY = os.path.abspath(os.environ.get("TOLLGATE", "target/release/tollgate"))
ROUNDS = int(os.environ.get("ROUNDS", "50"))
RELOADS = int(os.environ.get("RELOADS", "1000"))
CONNECTIONS = 32
LIMIT = 100_000_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sockets:
    """Listening sockets, handed to each gateway in turn as sd_listen_fds(3) has it."""

    FIRST = 3

    def __init__(self, ports):
        self.open = [socket.create_server(("127.0.0.1", port), backlog=4096) for port in ports]
        # Out of the way of the numbers that they are handed over by.
        self.numbers = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, 100) for one in self.open]

    def spawn(self, arguments, **how):
        def hand_over():
            for index, number in enumerate(self.numbers):
                os.dup2(number, self.FIRST + index)

        line = f'LISTEN_PID=$$ LISTEN_FDS={len(self.numbers)} exec "$@"'
        handed = range(self.FIRST, self.FIRST + len(self.numbers))
        return subprocess.Popen(["sh", "-c", line, "sh", *arguments], preexec_fn=hand_over, pass_fds=handed, **how)


class Site:
    """A backend, and a gateway in front of it that is replaced now and then."""

    def __init__(self, folder, keeps_sockets):
        self.folder = folder
        self.port, self.admin, backend = free_port(), free_port(), free_port()
        self.sockets = Sockets([self.port, self.admin]) if keeps_sockets else None
        self.log = open(os.path.join(folder, "log"), "wb")
        self.config = os.path.join(folder, "gateway.yaml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                f"""version: 1
listen: [{{ address: 127.0.0.1:{self.port} }}]
admin: {{ address: 127.0.0.1:{self.admin} }}
upstreams: {{ app: {{ servers: [127.0.0.1:{backend}] }} }}
routes: [{{ name: all, match: {{ path: /* }}, upstream: app, limits: [{{ key: ip, windows: {{ w: {LIMIT}/day }} }}] }}]
"""
            )
        self.backend = self.start("demo", "--backend-only", "--backend", f"127.0.0.1:{backend}")
        self.gateway = self.begin()
        self.until_ready(self.gateway)

    def begin(self):
        """A gateway that takes over from nobody."""
        if self.sockets is None:
            return self.start("run")
        return self.sockets.spawn([BINARY, "run"], cwd=self.folder, stdout=self.log, stderr=self.log)

    def start(self, *arguments):
        return subprocess.Popen([BINARY, *arguments], cwd=self.folder, stdout=self.log, stderr=self.log)

    def until_ready(self, process):
        for _ in range(3000):
            if process.poll() is not None:
                sys.exit(f"a gateway ended with {process.returncode}: see {self.log.name}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.01)
        sys.exit("a gateway does not get ready")

    def metric(self, series):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " ")), 0.0)

    def counted(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as answer:
            return LIMIT - int(answer.headers["x-ratelimit-remaining"])

    def upgrade(self):
        old, self.gateway = self.gateway, self.start("run", "--upgrade")
        if old.wait(timeout=60) != 0:
            sys.exit(f"the old gateway ended with {old.returncode}")
        self.until_ready(self.gateway)

    def restart(self):
        self.gateway.terminate()
        self.gateway.wait(timeout=60)
        self.gateway = self.begin()
        self.until_ready(self.gateway)

    def reload(self):
        series = 'tollgate_config_reloads_total{result="ok"}'
        before = self.metric(series)
        self.gateway.send_signal(signal.SIGHUP)
        while self.metric(series) <= before:
            time.sleep(0.001)

    def stop(self):
        for process in (self.gateway, self.backend):
            process.terminate()
            process.wait(timeout=60)


def under_load(site, what, rounds, act, may_fail):
    """Runs `act` so many times while wrk asks. One line of the table; whether it is as it should be."""
    before = site.counted()
    wrk = subprocess.Popen(
        # Late is not failed: how late shows by itself.
        ["wrk", "-t2", f"-c{CONNECTIONS}", "-d3600s", "--timeout", "30s", "--latency", f"http://127.0.0.1:{site.port}/"],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    longest = 0.0
    started = time.monotonic()
    for _ in range(rounds):
        since = time.monotonic()
        act()
        longest = max(longest, time.monotonic() - since)
    took = time.monotonic() - started
    wrk.send_signal(signal.SIGINT)
    report = wrk.communicate(timeout=60)[0]
    answered = int(re.search(r"(\d+) requests in", report).group(1))
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    failed = sum(map(int, errors.groups())) if errors else 0
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    failed += int(refused.group(1)) if refused else 0
    p99 = re.search(r"99%\s+(\S+)", report).group(1)
    latest = re.search(r"Latency\s+\S+\s+\S+\s+(\S+)", report).group(1)
    counted = site.counted() - before - 1
    # What wrk did not wait for any more was counted all the same.
    kept = answered <= counted <= answered + failed + CONNECTIONS
    print(f"| {rounds} {what} | {took:.0f} s | {longest * 1000:.0f} ms | {answered} | {failed} | {p99} | {latest} | "
          f"{counted - answered} too many |", flush=True)
    return kept and (may_fail or failed == 0)


def main():
    print("| what | all of it | longest | answered | failed | p99 | latest answer | counted |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    sound = []
    with tempfile.TemporaryDirectory() as folder:
        site = Site(folder, keeps_sockets=True)
        sound.append(under_load(site, "restarts", ROUNDS, site.restart, False))
        sound.append(under_load(site, "upgrades", ROUNDS, site.upgrade, False))
        sound.append(under_load(site, "reloads", RELOADS, site.reload, False))
        site.stop()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(folder, keeps_sockets=False)
        sound.append(under_load(site, "upgrades, sockets of its own", ROUNDS, site.upgrade, False))
        sound.append(under_load(site, "restarts, sockets of its own", ROUNDS, site.restart, True))
        site.stop()
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
