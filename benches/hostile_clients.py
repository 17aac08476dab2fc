#!/usr/bin/env python3
"""What slow clients cost the others: slowhttptest's attacks beside honest requests, and the memory of idle connections.

  header  heads that drip in (slowloris)
  body    bodies that drip in
  read    answers taken a few bytes at a time; what fits the kernel's buffers counts as taken

Each attack holds as many connections as it can for its time, while honest clients, from another address, ask one request
after the other, each on a connection kept alive, and every tenth on a new one. Printed is a table: how many of their
requests were answered, the median and the 99th percentile of the time that took, the 99th percentile before the attack,
and how many connections the attacker had at most. Then so many connections are opened, from several addresses, that each
have made one request and wait; the growth of the gateway's resident memory is divided by them, and the honest clients ask
again beside them. The honest clients and the backend are this program: a millisecond or so of each answer is theirs.

Needs Linux, slowhttptest, and as many file descriptors as idle connections (ulimit -n, raised where that is allowed). Builds
the gateway in release, unless `--binary` names one.
"""

import argparse
import contextlib
import http.client
import http.server
import pathlib
import re
import resource
import socket
import socketserver
import statistics
import subprocess
import tempfile
import threading
import time
from typing import NamedTuple

from side_by_side import build

ROOT = pathlib.Path(__file__).resolve().parent.parent
HONEST = 8  # clients
BEFORE_SECONDS = 5
SPARE_DESCRIPTORS = 200  # of the gateway, and of this program
CONFIG = """version: 1
listen: [{{ address: 127.0.0.1:{port}, max_connections: 60000, max_connections_per_ip: 60000, idle_timeout: 10m }}]
admin: {{ address: 127.0.0.1:{admin} }}
store: {{ data_dir: {data} }}
upstreams: {{ app: {{ servers: [127.0.0.1:{backend}] }} }}
routes:
  - {{ name: limited, match: {{ path: /honest }}, upstream: app, limits: [{{ key: ip, windows: {{ w: 1000000000/hour }} }}] }}
  - {{ name: all, match: {{ path: /* }}, upstream: app }}
"""
ATTACKS = {
    "header": ["-H", "-i", "5", "-x", "24"],
    "body": ["-B", "-i", "5", "-s", "65536", "-x", "24"],
    "read": ["-X", "-w", "16", "-y", "32", "-n", "5", "-z", "8", "-k", "1"],
}


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def do_GET(self):
        body = b"x" * int(self.path.rsplit("/", 1)[1]) if self.path.startswith("/large/") else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def do_POST(self):
        try:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 4096


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def honest(port, until, took, failed):
    client = None
    count = 0
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            if client is None or count % 10 == 0:
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=("127.0.0.7", 0))
            client.request("GET", "/honest")
            answer = client.getresponse()
            answer.read()
            (took if answer.status == 200 else failed).append(time.monotonic() - start)
        except OSError as error:
            failed.append(error)
            client = None
        count += 1
        time.sleep(0.005)


class Others(NamedTuple):
    """What became of the honest clients' requests."""

    answered: int
    failed: int
    p50_ms: float
    p99_ms: float


def honest_for(port, seconds):
    took, failed = [], []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=honest, args=(port, until, took, failed)) for _ in range(HONEST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [float("nan")] * 99
    return Others(len(took), len(failed), cuts[49] * 1e3, cuts[98] * 1e3)


def metrics(admin):
    client = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
    client.request("GET", "/metrics")
    return client.getresponse().read().decode()


def metric(admin, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics(admin), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def attack(name, port, admin, options):
    """The honest clients before, the honest clients meanwhile, and how many connections the attacker had at most."""
    path = f"/large/{options.answer}" if name == "read" else "/"
    command = ["slowhttptest", "-c", str(options.connections), "-r", "1000", "-l", str(options.seconds), "-p", "10", "-u",
               f"http://127.0.0.1:{port}{path}", *ATTACKS[name]]
    before = honest_for(port, BEFORE_SECONDS)
    attacker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    stop = threading.Event()

    def look():
        nonlocal most
        while not stop.is_set():
            most = max(most, metric(admin, "tollgate_connections") - HONEST)
            time.sleep(0.5)

    looking = threading.Thread(target=look)
    looking.start()
    meanwhile = honest_for(port, options.seconds)
    stop.set()
    looking.join()
    attacker.terminate()
    attacker.wait()
    return before, meanwhile, max(most, 0)


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def idle(pid, port, admin, connections):
    """The honest clients beside idle connections, how many those are, and the bytes that each costs the gateway."""
    before = resident_kib(pid)
    kept = []
    for count in range(connections):
        client = socket.socket()
        # By several addresses, so that the ports of none run out.
        client.bind((f"127.0.0.{20 + count // 10000}", 0))
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /honest HTTP/1.1\r\nHost: h\r\n\r\n")
        client.recv(4096)
        kept.append(client)
    open_now = metric(admin, "tollgate_connections")
    each = (resident_kib(pid) - before) * 1024 / connections
    others = honest_for(port, BEFORE_SECONDS)
    for client in kept:
        client.close()
    return others, open_now, each


def row(what, connections, others, before):
    before = "-" if before is None else f"{before.p99_ms:.1f} ms"
    print(f"| {what} | {connections:.0f} | {others.answered} | {others.failed} | {others.p50_ms:.1f} ms "
          f"| {others.p99_ms:.1f} ms | {before} |", flush=True)


def allow_descriptors(wanted):
    """How many each process may have from here on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
        return max(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the gateway to measure, in place of a release build of this tree")
    parser.add_argument("--connections", type=int, default=4000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--answer", type=int, default=256 * 1024, help="bytes of the answers that are read slowly")
    parser.add_argument("--idle", type=int, default=20000)
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    options = parser.parse_args()
    descriptors = allow_descriptors(options.idle + SPARE_DESCRIPTORS)
    binary = options.binary or build("tollgate")["tollgate"]

    backend = Threads(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        port, admin = free_port(), free_port()
        config = pathlib.Path(folder) / "gateway.yaml"
        config.write_text(CONFIG.format(port=port, admin=admin, data=f"{folder}/data",
                                        backend=backend.server_address[1]))
        gateway = subprocess.Popen([binary, "run", "--config", str(config)], stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    metrics(admin)
                    break
                except OSError:
                    time.sleep(0.05)
            # Buffers of the first requests are nobody's share.
            before = honest_for(port, BEFORE_SECONDS)
            print("| slow clients | connections | others answered | failed | p50 | p99 | p99 before |")
            print("|---|---|---|---|---|---|---|")
            row("none", 0, before, None)
            for name in options.attacks:
                before, meanwhile, most = attack(name, port, admin, options)
                row(f"slowhttptest, {name}", most, meanwhile, before)
            if options.idle:
                others, open_now, each = idle(gateway.pid, port, admin, min(options.idle, descriptors - SPARE_DESCRIPTORS))
                row("idle after one request", open_now, others, None)
                print(f"\n{each / 1024:.1f} KiB of the gateway's memory for each idle connection")
        finally:
            gateway.terminate()
            gateway.wait()


if __name__ == "__main__":
    main()
