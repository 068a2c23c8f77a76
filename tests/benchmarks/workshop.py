"""The board under load: learners who post, boards that follow, and a server (or database) that is killed.

    python tests/benchmarks/workshop.py [--learners 200] [--rate 5] [--boards 5] [--seconds 30] [--postgresql] [--kill]

Prints the latencies of POSTs and of events on the board, the server's memory, and whether an acknowledged event was
lost or doubled. The load runs in a process of its own, on the same machine: on busy cores it takes what it measures.
`--client` measures instead what reporting adds to a check, with the server up, down and hanging.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "workshop")]

import workshop_kit as kit  # noqa: E402

EXERCISES = 140


def catalogue() -> list[dict[str, Any]]:
    """14 lessons of 10 exercises."""
    return [
        {
            "id": f"lesson_{i}",
            "number": i,
            "title": f"Lesson {i}",
            "minutes": 90,
            "exercises": [
                {
                    "id": f"lesson_{i}.exercise_{j}", "name": f"exercise_{j}", "minutes": 8, "task": "", "hints": 2,
                    "mistakes": {f"mistake_{k}": "What the checker says about it. " * 4 for k in range(6)},
                }
                for j in range(EXERCISES // 14)
            ],
        }
        for i in range(14)
    ]  # fmt: skip


class Connection:
    """HTTP/1.1 on one kept connection, with as little work as possible, since it shares the machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        gone = self.reader is None or self.reader.at_eof()  # the server closes one that is not used for 5 s
        if gone or self.writer is None or self.writer.is_closing():
            self.close()
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        assert self.reader is not None
        self.writer.write(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        return int(head.split(b" ", 2)[1]), await self.reader.readexactly(length)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = None


class Load:
    """Learners and boards."""

    def __init__(self, port: int, rate: float, seconds: float, fresh: bool = False) -> None:
        self.port, self.rate, self.seconds, self.fresh = port, rate, seconds, fresh
        self.posted: list[tuple[float, float]] = []
        """When, and how long it took."""
        self.shown: list[tuple[float, float]] = []
        self.sent_at: dict[tuple[str, str], float] = {}
        """By participant's name and exercise: when the newest event was posted."""
        self.acknowledged: set[str] = set()
        self.failed = 0
        self.names: dict[str, str] = {}
        self.end = 0.0

    async def learner(self, name: str, token: str, exercises: list[str]) -> None:
        draw, connection = random.Random(name), Connection(self.port)
        await asyncio.sleep(draw.uniform(0, 1 / self.rate))
        due = time.perf_counter()
        attempt = 0
        while time.perf_counter() < self.end:
            attempt += 1
            exercise, key = draw.choice(exercises), secrets.token_hex(12)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            status = draw.choice(["wrong", "wrong", "wrong", "passed", "crashed"])
            event = {
                "key": key, "kind": "verdict", "at": now, "exercise": exercise, "revision": 1, "status": status,
                "attempt": attempt, "mistake": f"mistake_{draw.randrange(6)}" if status == "wrong" else None,
            }  # fmt: skip
            body = json.dumps({"sent_at": now, "events": [event]}).encode()
            start = time.perf_counter()
            self.sent_at[name, exercise] = start
            while True:  # as the client does: until it is acknowledged
                try:
                    status_code, _ = await asyncio.wait_for(connection.post("/api/events", token, body), 5)
                except (OSError, asyncio.IncompleteReadError, TimeoutError):
                    connection.close()
                    status_code = 0
                if self.fresh:
                    connection.close()
                if status_code == 200:
                    self.acknowledged.add(key)
                    took = time.perf_counter() - start
                    self.posted.append((start, took))
                    break
                self.failed += 1
                if status_code not in {0, 429, 503}:
                    raise SystemExit(f"the server answered {status_code}")
                await asyncio.sleep(0.3)
                start = time.perf_counter()
            due += draw.expovariate(self.rate)
            await asyncio.sleep(max(0.0, min(due, self.end) - time.perf_counter()))
        connection.close()

    async def board(self, cookie: str, number: int) -> None:
        """Follows; the first three measure when an event is there."""
        while time.perf_counter() < self.end + 1:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
                writer.write(f"GET /api/board HTTP/1.1\r\nHost: x\r\nCookie: mi_lead={cookie}\r\n\r\n".encode())
                while time.perf_counter() < self.end + 1:
                    line = await asyncio.wait_for(reader.readline(), max(0.1, self.end + 1 - time.perf_counter()))
                    if not line:
                        raise OSError
                    if number < 3 and line.startswith(b"data: "):
                        self._saw(json.loads(line[6:]))
            except TimeoutError:
                return
            except OSError:
                await asyncio.sleep(0.5)

    def _saw(self, data: dict[str, Any]) -> None:
        now = time.perf_counter()
        for person in data.get("people") or []:
            self.names[person["id"]] = person["name"]
        for who, exercise, _ in data.get("cells") or []:
            sent = self.sent_at.get((self.names.get(who, ""), exercise))
            if sent is not None and now - sent < 30:
                self.shown.append((sent, now - sent))

    async def run(self, learners: list[tuple[str, str]], cookies: list[str], during: Any) -> None:
        self.end = time.perf_counter() + self.seconds
        ids = [exercise["id"] for lesson in catalogue() for exercise in lesson["exercises"]]
        jobs = [self.board(cookie, i) for i, cookie in enumerate(cookies)]
        jobs += [self.learner(name, token, ids) for name, token in learners]
        await asyncio.gather(*jobs, during())


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    ticks = Path(f"/proc/{pid}/stat").read_text().split()
    return (int(ticks[13]) + int(ticks[14])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Resident memory, as the kernel counts it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(options: argparse.Namespace) -> None:
    from mi_course.workshop.security import Tokens
    from mi_course.workshop.server import new_session
    from mi_course.workshop.store import Entry, open_store

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        (folder / "catalogue.json").write_text(json.dumps(catalogue()))
        with kit.contextlib.ExitStack() as stack:
            server = stack.enter_context(kit.postgres(folder / "postgres")) if options.postgresql else None
            database = server.create() if server else str(folder / "board.sqlite3")
            store = open_store(database)
            session = new_session(store, "Load")
            tokens, learners = Tokens(session), []
            for i in range(options.learners):
                who = secrets.token_hex(8)
                store.append(session.id, [Entry("joined", who, time.time(), {"name": f"learner-{i}", "table": ""})])
                learners.append((f"learner-{i}", tokens.learner(who, 0)))
            port = kit.free_port()
            environment = {"MI_CATALOGUE": str(folder / "catalogue.json")}
            running = [stack.enter_context(kit.board_process(database, port, **environment))]
            load = Load(port, options.rate, options.seconds, options.fresh)
            back: list[float] = []
            others = 0  # events that the killed server took, whose processor time is gone with it

            async def during() -> None:
                nonlocal others
                if not options.kill:
                    return
                await asyncio.sleep(options.seconds / 3)
                loop = asyncio.get_running_loop()
                if server is not None:
                    server.kill()
                    await asyncio.sleep(1)
                    await loop.run_in_executor(None, server.start)
                else:
                    running[0].kill()
                    running[0].wait()
                    others = len(load.acknowledged)
                    process = await loop.run_in_executor(
                        None, lambda: stack.enter_context(kit.board_process(database, port, **environment))
                    )
                    running[0] = process
                back.append(time.perf_counter())

            started = time.perf_counter()
            used, server_used = os.times(), cpu_s(running[0].pid)
            asyncio.run(load.run(learners, [tokens.lead(f"lead {i}") for i in range(options.boards)], during))
            mine = os.times()
            wall = time.perf_counter() - started
            rss = memory_mb(running[0].pid)
            server_cpu = cpu_s(running[0].pid) - (0 if back and server is None else server_used)
            time.sleep(0.5)
            store.close()
            store = open_store(database)  # PostgreSQL may have been killed under the other one
            stored: list[str] = []
            last = 0
            while entries := store.read(session.id, last):
                last = entries[-1].number
                stored += [str(entry.key) for entry in entries if entry.kind == "verdict"]
            store.close()
    settled = back[0] + 5 if back else load.end - options.seconds + 3
    posts = [took for at, took in load.posted if at > settled]
    shown = [took for at, took in load.shown if at > settled]
    kind = "PostgreSQL" if options.postgresql else "SQLite"
    print(
        f"{kind}, {options.learners} learners at {options.rate} events/s, {options.boards} boards, {wall:.0f} s"
        f"{', killed in the middle' if options.kill else ''}; load average {os.getloadavg()[0]:.1f}"
    )
    print(f"acknowledged {len(load.acknowledged)}, {len(load.acknowledged) / wall:.0f}/s, {load.failed} tries failed")
    for what, values, bar in (("POST", posts, 50), ("event to board", shown, 500)):
        p50, p99 = 1000 * percentile(values, 0.5), 1000 * percentile(values, 0.99)
        print(f"{what:14} p50 {p50:.0f} ms, p99 {p99:.0f} ms (bar {bar})")
    load_cpu = (mine.user - used.user) / wall
    each = 1000 * server_cpu / max(1, len(load.acknowledged) - others)
    print(f"server {rss:.0f} MB (bar 120), {server_cpu / wall:.0%} of a core, {each:.2f} ms an event")
    print(f"the load took {load_cpu:.0%} of a core")
    lost, doubled = load.acknowledged - set(stored), len(stored) - len(set(stored))
    print(f"lost {len(lost)}, doubled {doubled} (bar 0, 0)")


CLIENT = """
import os, socket, statistics, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:4]
import workshop_kit as kit
from mi_course.workshop import client
from mi_course.workshop.server import new_session
from mi_course.workshop.store import open_store
works = True
client.someone_works_here = lambda: works
from mi_course.lessons import load
from mi_course.course import Lesson
lesson = Lesson(load("start_here"))
answer = lesson.use("zero_head")
def check():
    time.sleep(0.3)  # what the last one left to do is done
    start = time.perf_counter()
    lesson.check(answer, name="zero_head")
    return 1000 * (time.perf_counter() - start)
def listening(n=200):
    event = kit.verdict("start_here.zero_head", mistake=None)
    took = []
    for _ in range(n):
        start = time.perf_counter(); client._reporter.listen(event); took.append(time.perf_counter() - start)
    return 1000 * statistics.median(took), 1000 * sorted(took)[int(0.99 * n)]
database, port = str(Path(os.environ["MI_COURSE_HOME"]) / "board.sqlite3"), kit.free_port()
store = open_store(database)
new_session(store, "Load", "KQ7D2M4X")
store.close()
hanging = socket.create_server(("127.0.0.1", 0))
for _ in range(5):
    check()
with kit.board_process(database, port):
    client.join(f"KQ7D2M4X@127.0.0.1:{port}", name="fox")
    ports = {"up": port, "down": kit.free_port(), "hanging": hanging.getsockname()[1]}
    for name, elsewhere in ports.items():
        client._end_reporter()
        member = client.membership()
        member.url = f"http://127.0.0.1:{elsewhere}"
        client._save(member)
        client.attach()
        without, added = [], []
        for turn in range(40):  # in pairs, each first in turn
            took = {}
            for works in (False, True) if turn % 2 else (True, False):
                took[works] = check()
            without.append(took[False])
            added.append(took[True] - took[False])
        works = True
        typical, p99 = listening()
        spread = statistics.stdev(added) / len(added) ** 0.5
        print(f"server {name}: a check takes {statistics.median(without):.1f} ms, {statistics.median(added):+.1f} "
              f"(standard error {spread:.1f}) with it; the listener alone {typical:.3f} ms, p99 {p99:.2f} ms (bar 5)")
os._exit(0)
"""


def measure_client() -> None:
    with tempfile.TemporaryDirectory() as home:
        paths = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "workshop")]
        subprocess.run(
            [sys.executable, "-c", CLIENT, *paths],
            check=True,
            env=os.environ | {"MI_COURSE_HOME": home, "OMP_NUM_THREADS": "1"},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--boards", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="a new connection for each POST, as the client makes")
    parser.add_argument("--client", action="store_true")
    options = parser.parse_args()
    if options.client:
        measure_client()
    else:
        measure(options)


if __name__ == "__main__":
    main()
