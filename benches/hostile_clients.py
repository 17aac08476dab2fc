#!/usr/bin/env python3
"""What slow clients cost the others: slowhttptest's attacks beside honest requests, and the memory of idle connections.

  header  heads that drip in (slowloris)
  body    bodies that drip in
  read    answers taken a few bytes at a time; what fits the kernel's buffers counts as taken

Each attack holds as many connections as it can for its time, while honest clients, from another address, ask one request
after the other, each on a connection kept alive, and every tenth on a new one. Printed are how many were answered, the
median and the 99th percentile of their latency, the same before the attack, and how many connections the attacker had at
most. Then so many connections are opened that each have made one request and wait, and the growth of the gateway's
resident memory is divided by them.

Needs Linux, slowhttptest, and as many file descriptors as connections (ulimit -n). `--binary` is the gateway to measure:
a release build for figures to believe.
"""

import argparse
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
HONEST = 8  # clients
CONFIG = """version: 1
listen: [{{ address: 127.0.0.1:{port}, max_connections: 60000, max_connections_per_ip: 60000 }}]
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


def honest_for(port, seconds):
    took, failed = [], []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=honest, args=(port, until, took, failed)) for _ in range(HONEST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(took, n=100)
    return f"{len(took)} answered, {len(failed)} not, p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms"


def metrics(admin):
    client = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
    client.request("GET", "/metrics")
    return client.getresponse().read().decode()


def metric(admin, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", metrics(admin), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def attack(name, port, admin, connections, seconds, answer):
    path = f"/large/{answer}" if name == "read" else "/"
    command = ["slowhttptest", "-c", str(connections), "-r", "1000", "-l", str(seconds), "-p", "10", "-u",
               f"http://127.0.0.1:{port}{path}", *ATTACKS[name]]
    print(f"{name}: before: {honest_for(port, 5)}", flush=True)
    attacker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    stop = threading.Event()

    def look():
        nonlocal most
        while not stop.is_set():
            most = max(most, metric(admin, "tollgate_connections"))
            time.sleep(0.5)

    looking = threading.Thread(target=look)
    looking.start()
    told = honest_for(port, seconds)
    stop.set()
    looking.join()
    attacker.terminate()
    attacker.wait()
    print(f"{name}: under attack: {told}; {most:.0f} connections at most", flush=True)
    ended = [line for line in metrics(admin).splitlines() if line.startswith("tollgate_connections_timed_out_total")]
    print("  " + "\n  ".join(ended), flush=True)


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def idle(pid, port, admin, connections):
    """Kept by several addresses, so that the ports of none run out."""
    before = resident_kib(pid)
    kept = []
    for count in range(connections):
        client = socket.socket()
        client.bind((f"127.0.0.{20 + count // 10000}", 0))
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /honest HTTP/1.1\r\nHost: h\r\n\r\n")
        client.recv(4096)
        kept.append(client)
    open_now = metric(admin, "tollgate_connections")
    after = resident_kib(pid)
    per = (after - before) * 1024 / connections
    print(f"idle: {open_now:.0f} connections, {per:.0f} bytes each ({before} to {after} KiB resident)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--connections", type=int, default=4000)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--answer", type=int, default=256 * 1024, help="bytes of the answers that are read slowly")
    parser.add_argument("--idle", type=int, default=20000)
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    backend = Threads(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        port, admin = free_port(), free_port()
        config = pathlib.Path(folder) / "gateway.yaml"
        config.write_text(CONFIG.format(port=port, admin=admin, data=f"{folder}/data",
                                        backend=backend.server_address[1]))
        gateway = subprocess.Popen([options.binary, "run", "--config", str(config)], stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    metrics(admin)
                    break
                except OSError:
                    time.sleep(0.05)
            for name in options.attacks:
                attack(name, port, admin, options.connections, options.seconds, options.answer)
            if options.idle:
                idle(gateway.pid, port, admin, min(options.idle, hard - 500))
        finally:
            gateway.terminate()
            gateway.wait()


if __name__ == "__main__":
    main()
