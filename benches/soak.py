#!/usr/bin/env python3
"""A quarter of an hour of everything at once on the running binary: does it stay as large as it was, and does nothing fail?

In front of two backends, one of which is scripted here:

  bulk      wrk from 16,384 addresses, admitted
  h2        h2load, ten requests at once on each of four connections
  scarce    more often than the limit lets through: 200 or 429
  login     passwords that are wrong: 401, backoff, blocks
  signup    bodies with a field that is counted by; upload: bodies of 256 KiB, whole and in chunks
  otp       codes sent by the console provider, read off the log, given back wrong and right
  events    server-sent events; chat: WebSocket
  slow      heads and bodies that drip in until they are refused, large answers taken in sips, clients that leave
  reload    the file edited every ten seconds
  admin     pages, lists, exports, the live stream, blocks by hand, /metrics

Before that a crowd is refused until the journal is larger than what of it is kept in memory: what fills up to a bound would
look as if it grew.

Printed every ten seconds: resident memory, file descriptors, threads, connections, answers, failures; at the end how long
each kind of request took (of bulk: wrk's 99th percentiles of five seconds each). The first third is for warming up.

Ends with status 1 if a request failed that should not (no answer, or a status that its kind does not allow; every 5xx), if
the gateway logged an error or panicked, if a reload failed, if it did not stop in an orderly way, or if memory, descriptors
or threads grew by more than `--growth-mib`, `--growth-fds`, `--growth-threads` from the end of the first third to the end
of the last (medians over half a third each).

Needs Linux and wrk; h2load is left out where it is not installed. `--binary` is the gateway to measure, `--only bulk,admin`
leaves out all others, to find who makes it grow.
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLE_EVERY = 10  # seconds
PATIENCE = 20  # seconds for anything that is waited for
TOKEN = "token-of-the-soak-that-is-long-enough"
CONFIG = """version: 1
listen: [{{ address: 127.0.0.1:{port}, max_connections_per_ip: 5000, header_timeout: 3s }}]
admin: {{ address: 127.0.0.1:{admin}, tokens: [{{ name: soak, token: {token}, role: admin }}] }}
client_ip: {{ trusted_proxies: [127.0.0.0/8] }}
store: {{ max_keys: 200000, data_dir: {folder}/data }}
upstreams:
  quick: {{ servers: [127.0.0.1:{quick}] }}
  scripted: {{ servers: [127.0.0.1:{scripted}] }}
policies:
  login:
    - {{ key: [body.username, ip], count: failures, backoff: {{ base: 1s, factor: 2, max: 20s, forget: 1m }} }}
    - {{ key: ip, count: failures, windows: {{ attempts: 20/min }}, block: 10s }}
routes:
  - {{ name: bulk, match: {{ path: / }}, upstream: quick, limits: [{{ key: ip, windows: {{ w: 100000000/min }} }}] }}
  - {{ name: crowd, match: {{ path: /crowd }}, upstream: quick, limits: [{{ key: ip, windows: {{ w: 1/min }} }}] }}
  - {{ name: scarce, match: {{ path: /scarce }}, upstream: scripted, limits: [{{ key: ip, windows: {{ w: {scarce}/min, d: 300/day }} }}] }}
  - {{ name: login, match: {{ method: POST, path: /login }}, upstream: scripted, policies: [login], suspect: otp_request }}
  - {{ name: signup, match: {{ method: POST, path: /signup }}, upstream: scripted, limits: [{{ key: body.email, windows: {{ w: 3/min }} }}] }}
  - {{ name: send, match: {{ method: POST, path: /otp/send }}, otp: send }}
  - {{ name: verify, match: {{ method: POST, path: /otp/verify }}, otp: verify }}
  - {{ name: status, match: {{ method: GET, path: "/otp/{{id}}" }}, otp: status }}
  - {{ name: rest, match: {{ path: /* }}, upstream: scripted, limits: [{{ key: ip, smooth: {{ rate: 1000/s, burst: 1000 }} }}] }}
suspicion: [{{ key: ip, weights: {{ failure: 1, limited: 1 }}, threshold: 100/hour, block: 1m, mode: shadow }}]
otp: {{ code: {{ ttl: 1m }}, cooldown: 1s }}
sms: {{ providers: [{{ name: console, kind: console, limits: {{ any: 100000/min }} }}] }}
"""
# For wrk: the last third byte of the addresses, and the path.
SCRIPT = """
math.randomseed(os.time())
request = function()
  wrk.headers["X-Forwarded-For"] = "198.18." .. math.random(0, %d) .. "." .. math.random(0, 255)
  return wrk.format("GET", "%s")
end
"""
# What the gateway keeps of its journal in memory.
JOURNAL_CACHE = 16 << 20
# More than the kernel's buffers hold beside a client that has small ones.
LARGE = b"x" * (4 << 20)


async def head_of(reader):
    """Method, path and headers of the next request; none at the end of the connection."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    return *lines[0].split(" ")[:2], headers


async def body_of(reader, headers):
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def answer(reader, writer):
    """The scripted backend, on one connection."""
    try:
        while head := await head_of(reader):
            _, path, headers = head
            if path == "/chat":
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
                while piece := await reader.read(4096):
                    writer.write(piece)
                    await writer.drain()
                break
            body = await body_of(reader, headers)
            if path == "/events":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(20):
                    writer.write(b"9\r\ndata: x\n\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)
                writer.write(b"0\r\n\r\n")
                continue
            is_wrong = path == "/login" and b"right" not in body
            content = LARGE if path == "/large" else str(len(body)).encode()
            writer.write(f"HTTP/1.1 {'401 No' if is_wrong else '200 OK'}\r\nContent-Length: {len(content)}\r\n\r\n".encode())
            writer.write(content)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def serve(listener):
    async def run():
        async with await asyncio.start_server(answer, sock=listener, limit=1 << 16) as server:
            await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


class Tally:
    """What became of the requests, by their kind."""

    def __init__(self):
        self.lock = threading.Lock()
        self.answered = collections.Counter()
        self.statuses = collections.defaultdict(collections.Counter)
        self.took = collections.defaultdict(list)
        self.failed = collections.Counter()

    def count(self, kind, status, seconds):
        with self.lock:
            self.answered[kind] += 1
            self.statuses[kind][status] += 1
            # A sample of them: a list of all would make this program grow.
            if len(self.took[kind]) < 50_000:
                self.took[kind].append(seconds)
            else:
                self.took[kind][random.randrange(50_000)] = seconds

    def count_many(self, kind, status, count):
        with self.lock:
            self.answered[kind] += count
            self.statuses[kind][status] += count

    def fail(self, kind, why, count=1):
        with self.lock:
            self.failed[kind] += count
            if self.failed[kind] < 20 + count:
                print(f"FAILED: {kind}: {why}", flush=True)

    def totals(self):
        with self.lock:
            return sum(self.answered.values()), sum(self.failed.values())

    def report(self):
        print("\n| kind | answered | failed | p50 | p99 | most | statuses |\n|---|---|---|---|---|---|---|")
        for kind in sorted(self.answered | self.failed):
            took = sorted(self.took[kind])
            cuts = [f"{took[int(len(took) * share)] * 1e3:.1f} ms" if took else "" for share in (0.5, 0.99, 1 - 1e-9)]
            statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses[kind].items(), key=str))
            print(f"| {kind} | {self.answered[kind]} | {self.failed[kind]} | {' | '.join(cuts)} | {statuses} |")


class Visitor:
    """One client, that asks on a connection for as long as it is kept, and a hundred requests at most."""

    def __init__(self, site, port):
        self.site, self.port = site, port
        self.connection, self.asked = None, 0

    def ask(self, kind, method, path, allowed, body=None, **headers):
        """The answer's content, or none if it failed or was not the first of `allowed`."""
        if self.connection is None or self.asked == 100:
            self.leave()
            self.connection, self.asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE), 0
        self.asked += 1
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        start = time.monotonic()
        try:
            self.connection.request(method, path, body, headers, encode_chunked=hasattr(body, "__next__"))
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.leave()
            self.site.tally.fail(kind, f"{method} {path}: {error!r}")
            return None
        self.site.tally.count(kind, answer.status, time.monotonic() - start)
        if answer.status not in allowed:
            self.site.tally.fail(kind, f"{method} {path}: {answer.status} {content[:200]!r}")
        return content if answer.status == allowed[0] else None

    def json(self, kind, path, allowed, value, **headers):
        body = json.dumps(value)
        content = self.ask(kind, "POST", path, allowed, body, content_type="application/json", **headers)
        return content and json.loads(content)

    def leave(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def somebody(count):
    """One of so many addresses."""
    number = random.randrange(count)
    return f"203.0.{113 + number // 250}.{number % 250}"


class Site:
    """The gateway, its backends, and what is known of both."""

    def __init__(self, binary, folder):
        self.folder = pathlib.Path(folder)
        self.tally = Tally()
        self.stop = threading.Event()
        self.codes = {}
        self.errors = []
        self.of_libraries = collections.Counter()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.scripted = multiprocessing.Process(target=serve, args=(listener,), daemon=True)
        self.scripted.start()
        self.ports = {"port": free_port(), "admin": free_port(), "quick": free_port(),
                      "scripted": listener.getsockname()[1]}
        self.port, self.admin = self.ports["port"], self.ports["admin"]
        listener.close()
        self.write(5)
        quick = f"127.0.0.1:{self.ports['quick']}"
        self.quick = subprocess.Popen([binary, "demo", "--backend-only", "--backend", quick], cwd=folder,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.gateway = subprocess.Popen([binary, "run"], cwd=folder, stdout=subprocess.PIPE, text=True)
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()
        until(lambda: self.metric("tollgate_journal_up") == 1, "a gateway that is ready and keeps codes")

    def write(self, scarce):
        text = CONFIG.format(**self.ports, token=TOKEN, folder=self.folder, scarce=scarce)
        (self.folder / "new.yaml").write_text(text, encoding="utf-8")
        os.replace(self.folder / "new.yaml", self.folder / "gateway.yaml")

    def listen(self):
        """Keeps the codes that the log tells, by the last digits of their number, and what it says of errors."""
        for line in self.gateway.stdout:
            if '"level":"ERROR"' in line:
                told = json.loads(line)
                # What Pingora calls an error may be a client that left.
                if "library" in told:
                    self.of_libraries[told["message"][:100]] += 1
                else:
                    self.errors.append(line.strip())
            if '"target":"tollgate::console"' in line:
                told = json.loads(line)
                self.codes[told["to"][-4:]] = re.search(r"\d{6}", told["text"]).group()

    def metrics(self):
        client = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        with contextlib.closing(client):
            client.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            return client.getresponse().read().decode()

    def metric(self, name, labels=None):
        try:
            page = self.metrics()
        except OSError:
            return 0.0
        series = re.escape(name + (f"{{{labels}}}" if labels else ""))
        found = re.search(rf"^{series} (\S+)$", page, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def sample(self):
        process = pathlib.Path(f"/proc/{self.gateway.pid}")
        status = process.joinpath("status").read_text()
        rss, threads = (int(re.search(rf"{name}:\s+(\d+)", status).group(1)) for name in ("VmRSS", "Threads"))
        fds = len(list(process.joinpath("fd").iterdir()))
        return Sample(rss / 1024, fds, threads)


Sample = collections.namedtuple("Sample", "mib fds threads")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(is_so, what):
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            sys.exit(f"soak: waited {PATIENCE} s for {what} in vain")
        time.sleep(0.05)


# What is done, each by threads of its own: a function makes whatever it needs and gives back what is done again and again.


def scarce(site):
    visitor = Visitor(site, site.port)
    return lambda: visitor.ask("scarce", "GET", "/scarce", (200, 429), x_forwarded_for=somebody(20))


def login(site):
    visitor = Visitor(site, site.port)

    def act():
        password = "right" if random.random() < 0.2 else "wrong"
        value = {"username": f"user-{random.randrange(300)}", "password": password}
        visitor.json("login", "/login", (200, 401, 429), value, x_forwarded_for=somebody(100))

    return act


def signup(site):
    visitor = Visitor(site, site.port)

    def act():
        value = {"email": f"somebody-{random.randrange(500)}@example.com", "text": "x" * random.randrange(20_000)}
        visitor.json("signup", "/signup", (200, 429), value, x_forwarded_for=somebody(1000))

    return act


def upload(site):
    visitor = Visitor(site, site.port)

    def act():
        pieces = [b"y" * 16_384] * 16
        body = iter(pieces) if random.random() < 0.5 else b"".join(pieces)
        content = visitor.ask("upload", "POST", "/upload", (200,), body, x_forwarded_for=somebody(1000))
        if content not in (None, b"262144"):
            site.tally.fail("upload", f"the backend read {content!r} bytes")

    return act


def otp(site):
    visitor = Visitor(site, site.port)
    numbers = iter(random.sample(range(10_000), 10_000) * 1000)

    def act():
        digits = f"{next(numbers):04}"
        address = somebody(5000)
        site.codes.pop(digits, None)
        sent = visitor.json("otp send", "/otp/send", (202, 429), {"phone": f"+1415555{digits}"}, x_forwarded_for=address)
        if sent is None:
            return
        end = time.monotonic() + PATIENCE
        while digits not in site.codes:
            if time.monotonic() > end:
                return site.tally.fail("otp send", "the log does not tell the code")
            time.sleep(0.01)
        code = site.codes.pop(digits)
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        guess = lambda code, allowed: visitor.json("otp verify", "/otp/verify", allowed, {"id": sent["id"], "code": code},
                                                   x_forwarded_for=address)
        guess(wrong, (401, 429))
        visitor.ask("otp status", "GET", f"/otp/{sent['id']}", (200, 429), x_forwarded_for=address)
        guess(code, (200, 429))

    return act


def events(site):
    visitor = Visitor(site, site.port)

    def act():
        content = visitor.ask("events", "GET", "/events", (200,), x_forwarded_for=somebody(1000))
        if content is not None and content.count(b"data: x\n\n") != 20:
            site.tally.fail("events", f"{len(content)} bytes of events")

    return act


def connected(site, head, receive_buffer=None):
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", site.port))
    client.sendall(head)
    return client


def exactly(client, count):
    got = b""
    while len(got) < count:
        piece = client.recv(count - len(got))
        if not piece:
            raise ConnectionError(f"{len(got)} of {count} bytes")
        got += piece
    return got


def head_until_empty(client):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(client, 1)
    return head


def chat(site):
    def act():
        key = base64.b64encode(random.randbytes(16)).decode()
        head = (f"GET /chat HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {somebody(1000)}\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n")
        start = time.monotonic()
        with connected(site, head.encode()) as client:
            status = int(head_until_empty(client).split()[1])
            site.tally.count("chat", status, time.monotonic() - start)
            if status != 101:
                return site.tally.fail("chat", f"{status}")
            for _ in range(20):
                frame = b"\x82\xfe\x01\x00" + random.randbytes(260)
                client.sendall(frame)
                if exactly(client, len(frame)) != frame:
                    return site.tally.fail("chat", "another frame came back")
                time.sleep(0.05)

    return act


def drip(site, kind, head, drop, pause):
    """Sends on until the gateway has had enough, which it must within its patience."""
    start = time.monotonic()
    with connected(site, head) as client:
        client.settimeout(pause)
        while time.monotonic() - start < PATIENCE:
            try:
                client.sendall(drop)
                told = client.recv(4096)
                status = int(told.split()[1]) if told else "closed"
                return site.tally.count(kind, status, time.monotonic() - start)
            except TimeoutError:
                continue
            except ConnectionError:
                return site.tally.count(kind, "closed", time.monotonic() - start)
    site.tally.fail(kind, "the gateway waits for ever")


def slow_heads(site):
    return lambda: drip(site, "slow head", b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ", b"x", 0.3)


def slow_bodies(site):
    head = b"POST /signup HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{\"email\":\""
    return lambda: drip(site, "slow body", head, b"x", 0.3)


def slow_readers(site):
    def act():
        start = time.monotonic()
        head = f"GET /large HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {somebody(1000)}\r\n\r\n"
        # Less than a packet of the loopback would have the kernel wait for its timers, not the gateway for its client.
        with connected(site, head.encode(), receive_buffer=1 << 17) as client:
            status = int(head_until_empty(client).split()[1])
            for _ in range(len(LARGE) >> 17):
                exactly(client, 1 << 17)
                time.sleep(0.05)
            site.tally.count("slow reader", status, time.monotonic() - start)
            if status != 200:
                site.tally.fail("slow reader", f"{status}")

    return act


def leavers(site):
    beginnings = (b"", b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HT", b"GET /events HTTP/1.1\r\nHost: h\r\n\r\n",
                  b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\nxxx")

    def act():
        with connected(site, random.choice(beginnings)):
            time.sleep(random.random() / 2)
        site.tally.count("leaver", "left", 0.0)

    return act


def admin(site):
    visitor = Visitor(site, site.admin)
    bearer = {"authorization": f"Bearer {TOKEN}"}
    pages = ["/metrics", "/healthz", "/readyz", "/", "/api/openapi.json", "/api/v1/routes"]
    pages += [f"/api/v1/{name}" for name in (
        "blocked-identifiers?limit=100", "rate-limit-logs?limit=100", "rate-limit-stats", "otp-stats",
        "blocked-identifiers/export?format=csv", "rate-limit-logs/export?format=json",
        "keys?route=scarce&ip=203.0.113.7")]

    def act():
        for page in pages:
            visitor.ask("admin", "GET", page, (200,), **bearer)
        by_hand = {"key": "ip", "identifier": "192.0.2.9", "for": "1h"}
        made = visitor.json("admin", "/api/v1/blocked-identifiers", (201,), by_hand, **bearer)
        if made:
            visitor.json("admin", "/api/v1/unblock-identifier", (200,), {"id": made["id"]}, **bearer)
        # The live stream, for a moment.
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.admin, timeout=PATIENCE)) as client:
            client.request("GET", "/api/v1/stream", headers=bearer)
            stream = client.getresponse()
            site.tally.count("admin", stream.status, 0.0)
            if stream.status != 200 or not stream.read1(64):
                site.tally.fail("admin", f"the stream: {stream.status}")

    return act


def reload(site):
    numbers = iter([6, 5] * 1_000_000)

    def act():
        before = site.metric("tollgate_config_reloads_total", 'result="ok"')
        start = time.monotonic()
        site.write(next(numbers))
        while site.metric("tollgate_config_reloads_total", 'result="ok"') == before:
            if time.monotonic() - start > PATIENCE:
                return site.tally.fail("reload", "an edit is not noticed")
            time.sleep(0.05)
        site.tally.count("reload", "ok", time.monotonic() - start)

    return act


def wrk(site, path, most):
    """Five seconds of it from the addresses 198.18.0.0 to 198.18.`most`.255; what it reports, and the number of answers."""
    script = site.folder / "wrk.lua"
    script.write_text(SCRIPT % (most, path))
    command = ["wrk", "-t1", "-c16", "-d5s", "--timeout", f"{PATIENCE}s", "--latency", "-s", str(script),
               f"http://127.0.0.1:{site.port}/"]
    report = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return report, int(re.search(r"(\d+) requests in", report).group(1))


def crowd(site):
    """So many are refused once that the journal's pages do not all find room in memory."""
    journal = site.folder / "data" / "journal.db"
    end = time.monotonic() + 6 * PATIENCE
    while journal.stat().st_size < 1.5 * JOURNAL_CACHE:
        if time.monotonic() > end:
            sys.exit(f"soak: after {6 * PATIENCE} s the journal is of {journal.stat().st_size} bytes")
        _, answered = wrk(site, "/crowd", 127)
        site.tally.count_many("crowd", "all", answered)


def bulk(site):
    def act():
        report, answered = wrk(site, "/", 63)
        site.tally.count_many("bulk", "all", answered)
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", report).groups()
        with site.tally.lock:
            site.tally.took["bulk"].append(float(value) / {"us": 1e6, "ms": 1e3, "s": 1}[unit])
        for pattern in (r"Socket errors: (.*)", r"Non-2xx or 3xx responses: (\d+)"):
            for numbers in re.findall(pattern, report):
                site.tally.fail("bulk", f"{pattern}: {numbers}", sum(map(int, re.findall(r"\d+", numbers))))

    return act


def http2(site):
    command = ["h2load", "-t1", "-n400", "-c4", "-m10", "--header", "x-forwarded-for: 203.0.113.250",
               f"http://127.0.0.1:{site.port}/"]

    def act():
        report = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        succeeded = int(re.search(r"(\d+) succeeded", report).group(1))
        good = int(re.search(r"status codes: (\d+) 2xx", report).group(1))
        site.tally.count_many("h2", "2xx", good)
        if good < 400 or succeeded < 400:
            site.tally.fail("h2", re.search(r"requests: .*\n.*", report).group(), 400 - good)

    return act


# What is done, by how many at once, and how many seconds each waits in between.
ACTORS = [(scarce, 2, 0.05), (login, 4, 0.1), (signup, 2, 0.1), (upload, 1, 0.3), (otp, 1, 0.5), (events, 2, 0.5),
          (chat, 2, 0.5), (slow_heads, 4, 0.1), (slow_bodies, 4, 0.1), (slow_readers, 2, 0.5), (leavers, 4, 0.1),
          (admin, 1, 3), (reload, 1, 10), (bulk, 1, 0.5)]


def repeat(site, make, pause):
    act = make(site)
    while not site.stop.is_set():
        try:
            act()
        except Exception as error:  # whatever it is, it belongs into the report
            site.tally.fail(make.__name__, repr(error))
        site.stop.wait(pause * random.uniform(0.5, 1.5))


def watch(site, seconds):
    """A sample every ten seconds, while all the others are at it."""
    samples = []
    print("| s | resident MiB | descriptors | threads | connections | answered | failed |\n|---|---|---|---|---|---|---|")
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        if site.gateway.poll() is not None:
            site.tally.fail("gateway", f"it ended with {site.gateway.returncode}")
            break
        sample = site.sample()
        samples.append(sample)
        answered, failed = site.tally.totals()
        print(f"| {elapsed:.0f} | {sample.mib:.1f} | {sample.fds} | {sample.threads} | "
              f"{site.metric('tollgate_connections'):.0f} | {answered} | {failed} |", flush=True)
        time.sleep(max(0.0, start + len(samples) * SAMPLE_EVERY - time.monotonic()))
    return samples


def growth(samples, limits):
    """From the end of the first third to the end of the last; whether it is within the bounds."""
    third = len(samples) // 3
    taken = max(1, third // 2)
    sound = True
    for name, most in limits.items():
        values = [getattr(sample, name) for sample in samples]
        before, after = statistics.median(values[third - taken:third]), statistics.median(values[-taken:])
        print(f"{name}: {before:.1f} after the first third, {after:.1f} at the end: {after - before:+.1f} of {most} allowed")
        sound &= after - before <= most
    return sound


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/tollgate"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", metavar="KINDS", help="of what is done these alone, by their names in ACTORS")
    parser.add_argument("--folder", help="where the gateway's files are made, and its journal: a disk that is not busy")
    parser.add_argument("--growth-mib", type=float, default=16)
    parser.add_argument("--growth-fds", type=float, default=64)
    parser.add_argument("--growth-threads", type=float, default=8)
    options = parser.parse_args()
    actors = ACTORS + ([(http2, 1, 1)] if shutil.which("h2load") else [])
    if options.only:
        actors = [actor for actor in actors if actor[0].__name__ in options.only.split(",")]
    if options.minutes < 1 or not shutil.which("wrk"):
        sys.exit("soak: it takes a minute at least, and wrk")

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        site = Site(str(pathlib.Path(options.binary).resolve()), folder)
        threads = [threading.Thread(target=repeat, args=(site, make, pause), daemon=True)
                   for make, count, pause in actors for _ in range(count)]
        try:
            crowd(site)
            for thread in threads:
                thread.start()
            samples = watch(site, options.minutes * 60)
            site.stop.set()
            for thread in threads:
                thread.join(2 * PATIENCE)
            if any(thread.is_alive() for thread in threads):
                site.tally.fail("soak", "some clients still wait")
            site.tally.report()
            sound = growth(samples, {"mib": options.growth_mib, "fds": options.growth_fds,
                                     "threads": options.growth_threads})
            sound &= ended(site)
        finally:
            for process in (site.gateway, site.quick, site.scripted):
                process.terminate()
            site.gateway.wait(PATIENCE)
    answered, failed = site.tally.totals()
    sound &= failed == 0
    print(f"{answered} answered, {failed} failed, {len(site.errors)} errors in the log: {'sound' if sound else 'NOT SOUND'}")
    sys.exit(0 if sound else 1)


def ended(site):
    """Nothing is left of the load, nothing went wrong on the way, and the gateway ends in an orderly way."""
    until(lambda: site.metric("tollgate_connections") == 0, "the last connection to be closed")
    idle = site.sample()
    print(f"without load: {idle.mib:.1f} MiB, {idle.fds} descriptors, {idle.threads} threads")
    panics = site.metric("tollgate_panics_total")
    reloads_failed = site.metric("tollgate_config_reloads_total", 'result="failed"')
    site.gateway.terminate()
    code = site.gateway.wait(PATIENCE)
    site.listener.join(PATIENCE)
    for error in site.errors[:20]:
        print(f"ERROR in the log: {error}")
    for message, count in site.of_libraries.most_common(20):
        print(f"{count} times a library logged an error: {message}")
    print(f"panics: {panics:.0f}, failed reloads: {reloads_failed:.0f}, ended with {code}")
    return not (panics or reloads_failed or code or site.errors)


if __name__ == "__main__":
    main()
